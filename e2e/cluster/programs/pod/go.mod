module yolo-kserve/cluster/pod

go 1.24.0
