module yolo-kserve/cluster/knative

go 1.24.0

require (
	knative.dev/serving v0.48.1
)
