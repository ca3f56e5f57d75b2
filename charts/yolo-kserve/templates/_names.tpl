{{/* The release's name, for objects that belong to no model. */}}
{{- define "yolo-kserve.fullname" -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) }}
{{- $name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "yolo-kserve.labels" -}}
app.kubernetes.io/name: yolo-kserve
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of what belongs to one model; takes `root` and `service`. Pods carry them too. */}}
{{- define "yolo-kserve.modelLabels" -}}
{{ include "yolo-kserve.labels" .root }}
yolo-kserve/model: {{ .service.model }}
yolo-kserve/track: {{ .service.track }}
{{- if eq .service.track "canary" }}
yolo-kserve/stable: {{ .service.model }}
{{- end }}
{{- end }}

{{/* Labels that choose the pods of a component; takes `service` and `component`. KServe puts them there. */}}
{{- define "yolo-kserve.selector" -}}
serving.kserve.io/inferenceservice: {{ .service.name }}
component: {{ .component }}
{{- end }}

{{/* The same for both versions of a model: its canary has this name, whether the chart or `yolo-kserve rollout` made it. */}}
{{- define "yolo-kserve.versionsSelector" -}}
matchLabels:
  component: {{ .component }}
matchExpressions:
  - key: serving.kserve.io/inferenceservice
    operator: In
    values: [{{ .service.model }}, {{ .service.model }}-canary]
{{- end }}

{{/* The component that answers clients; takes a service. */}}
{{- define "yolo-kserve.front" -}}
{{ eq .topology "collocated" | ternary "predictor" "transformer" }}
{{- end }}

{{- define "yolo-kserve.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "yolo-kserve.fullname" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* An image; takes `root`, `repository` (which may end in a digest), `tag` (empty for the release's) and `device`. */}}
{{- define "yolo-kserve.image" -}}
{{- $tag := .tag | default .root.Values.images.tag | default .root.Chart.AppVersion }}
{{- $registry := .root.Values.images.registry | trimSuffix "/" }}
{{- $suffix := eq (.device | default "cpu") "gpu" | ternary "-gpu" "" }}
{{- $version := contains "@" .repository | ternary "" (printf ":%s%s" $tag $suffix) }}
{{- printf "%s%s%s" (empty $registry | ternary "" (printf "%s/" $registry)) .repository $version }}
{{- end }}

{{/* Image of the predictor; takes `root` and `device`. */}}
{{- define "yolo-kserve.predictorImage" -}}
{{- $images := .root.Values.images }}
{{- $repository := eq .device "gpu" | ternary ($images.predictorGpu | default $images.predictor) $images.predictor }}
{{- if and (eq .device "gpu") (contains "@" $images.predictor) (not $images.predictorGpu) }}
{{- fail "images.predictorGpu: the digest in images.predictor is of the image for CPUs; give the other one, too, or take gpu out of runtimes.devices" }}
{{- end }}
{{- include "yolo-kserve.image" (dict "root" .root "repository" $repository "tag" "" "device" .device) }}
{{- end }}

{{/* The runtime for a device, topology and mode. */}}
{{- define "yolo-kserve.runtime" -}}
yolo-onnxruntime-{{ .device }}{{ if eq .topology "collocated" }}-collocated{{ end }}{{ if eq .mode "Knative" }}-knative{{ end }}
{{- end }}

{{/* Host of a model's route; takes `root` and `model`. */}}
{{- define "yolo-kserve.host" -}}
{{ .model }}.{{ .root.Release.Namespace }}.{{ .root.Values.route.domain }}
{{- end }}

{{/* Where pods of the cluster reach a model; takes `root` and `service`. */}}
{{- define "yolo-kserve.innerUrl" -}}
http://{{ .service.name }}-{{ include "yolo-kserve.front" .service }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}
