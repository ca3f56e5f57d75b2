{{/* Labels and annotations of a component's pods; takes `root`, `service` and `component`. */}}
{{- define "yolo-kserve.podMetadata" -}}
{{- $settings := index .service .component }}
{{- $annotations := dict "prometheus.kserve.io/port" "8080" "prometheus.kserve.io/path" "/metrics" }}
{{- if eq .service.mode "Standard" }}
{{- $_ := set $annotations "serving.kserve.io/autoscalerClass" (include "yolo-kserve.autoscaler" .) }}
{{- end }}
labels:
  {{- include "yolo-kserve.overlay" (dict "base" (include "yolo-kserve.modelLabels" . | fromYaml) "over" $settings.podLabels) | nindent 2 }}
annotations:
  {{- include "yolo-kserve.overlay" (dict "base" $annotations "over" $settings.podAnnotations) | nindent 2 }}
{{- end }}

{{/* What predictor and transformer have alike; takes `root`, `service` and `component`. */}}
{{- define "yolo-kserve.component" -}}
{{ include "yolo-kserve.scale" . | trim }}
{{ include "yolo-kserve.podMetadata" . | trim }}
{{ include "yolo-kserve.pod" . | trim }}
{{- end }}

{{/* The model of a predictor, with what its runtime can not know; takes `root`, `service` and, for a canary that is a revision, `canary`. */}}
{{- define "yolo-kserve.model" -}}
{{- $it := .service }}
{{- $uri := $it.storageUri }}
{{- $runtime := $it.runtime | default (include "yolo-kserve.runtime" $it) }}
{{- if .canary }}
{{- $uri = $it.canary.storageUri | default $uri }}
{{- $runtime = $it.canary.runtime | default $runtime }}
{{- end }}
{{- $collocated := eq $it.topology "collocated" }}
{{- $values := .root.Values }}
{{- with $it.storageContainerName }}
storageContainerName: {{ . }}
{{- end }}
model:
  modelFormat:
    name: yolo
    version: "1"
  runtime: {{ $runtime }}
  storageUri: {{ $uri }}
  {{- with $it.imageTag }}
  runtimeVersion: {{ printf "%s%s" . (ternary "-gpu" "" (eq $it.device "gpu")) }}
  {{- end }}
  # KServe puts these behind the runtime's, and the last one of a name counts.
  args:
    - --model_name={{ $it.model }}
    {{- with $it.predictor.args }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $it.predictor.env }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- include "yolo-kserve.resources" (dict "settings" $it.predictor "device" $it.device "runtime" $values.modelDefaults.predictor) | nindent 4 }}
  {{- if eq $it.mode "Standard" }}
  {{- $seconds := $values.drain.preStopSeconds }}
  {{- if $collocated }}
  {{- $seconds = add $seconds $values.drain.delaySeconds $values.drain.graceSeconds }}
  # As long as the transformer beside it may still ask.
  {{- end }}
  {{- include "yolo-kserve.preStop" $seconds | nindent 2 }}
  {{- end }}
{{- if $collocated }}
containers:
  - name: transformer-container
    {{- if eq $it.mode "Standard" }}
    {{- include "yolo-kserve.preStop" $values.drain.preStopSeconds | nindent 4 }}
    {{- end }}
    args:
      - --model_name={{ $it.model }}
      {{- with $it.transformer.args }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with $it.transformer.env }}
    env:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    resources:
      {{- toYaml $it.transformer.resources | nindent 6 }}
{{- end }}
{{- /* Knative refuses a volume that no container mounts yet; KServe adds its own when the pod is made. */}}
{{- if eq $it.mode "Standard" }}
volumes:
  {{- include "yolo-kserve.weightsVolume" .root | nindent 2 }}
{{- end }}
{{- end }}

{{/*
Where a transformer finds its predictor. In Standard mode a headless Service shows it every pod, to take turns with; in
Knative mode the revision's own name, for only Knative knows where pods are, and starts them.
*/}}
{{- define "yolo-kserve.predictorHost" -}}
{{- if eq .service.mode "Knative" -}}
{{ .service.name }}-predictor.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}:80
{{- else -}}
{{ .service.name }}-predictor-grpc.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}:8081
{{- end }}
{{- end }}
