module yolo-kserve/schemas

go 1.26.0

require (
	github.com/kserve/kserve v0.20.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	k8s.io/kubernetes v1.35.4
)
