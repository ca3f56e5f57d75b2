{{/*
What a component's pods have beside their containers; takes `root`, `service` and `component`. Knative refuses most of it
unless its feature flags are on.
*/}}
{{- define "yolo-kserve.pod" -}}
{{- $settings := index .service .component }}
serviceAccountName: {{ include "yolo-kserve.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if eq .service.mode "Standard" }}
terminationGracePeriodSeconds: {{ add (include "yolo-kserve.drainSeconds" (dict "root" .root "topology" .service.topology)) 10 }}
{{- end }}
{{- if or (eq .service.mode "Standard") .root.Values.knative.podSpecFeatures }}
{{- with $settings.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := $settings.tolerations }}
{{- if and (eq .component "predictor") (eq .service.device "gpu") }}
{{- $tolerations = concat $tolerations (include "yolo-kserve.gpuTolerations" $settings | fromYamlArray) }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $settings.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- if $settings.topologySpread.enabled }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: {{ $settings.topologySpread.maxSkew }}
    whenUnsatisfiable: {{ $settings.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "yolo-kserve.selector" (dict "service" $.service "component" $.component) | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Replicas and autoscaling of a component; takes `root`, `service` and `component`. */}}
{{- define "yolo-kserve.scale" -}}
{{- $settings := index .service .component }}
{{- $class := include "yolo-kserve.autoscaler" . }}
minReplicas: {{ int $settings.minReplicas }}
maxReplicas: {{ int $settings.maxReplicas }}
{{- if eq $class "hpa" }}
scaleMetric: cpu
scaleTarget: {{ int $settings.autoscaling.cpuPercent }}
{{- else if eq $class "knative" }}
scaleMetric: concurrency
scaleTarget: {{ int $settings.autoscaling.concurrency }}
{{- else if eq $class "keda" }}
autoScaling:
  metrics:
    - type: External
      external:
        metric:
          backend: prometheus
          serverAddress: {{ required "monitoring.prometheusUrl is needed for autoscaling.class: keda" .root.Values.monitoring.prometheusUrl }}
          query: {{ $settings.autoscaling.query | default (include "yolo-kserve.kedaQuery" .) | quote }}
        target:
          type: Value
          value: {{ int $settings.autoscaling.concurrency | quote }}
{{- end }}
{{- end }}

{{/*
Requests in progress in a component's pods, as the mean over a minute or four scrapes: seconds spent on inference per second.
Of a collocated pod's servers only the transformer counts, for the predictor has the same requests. Where the predictor may
be at zero, what its transformer could not pass on counts too, and a transformer that waits for its model.
*/}}
{{- define "yolo-kserve.kedaQuery" -}}
{{- $pods := printf `namespace="%s",pod=~"%s-%%s-.*"` .root.Release.Namespace .service.name }}
{{- $inference := `call=~"infer|predict|detect|segment"` }}
{{- if eq .service.topology "collocated" }}
{{- $inference = printf `container="transformer-container",%s` $inference }}
{{- end }}
{{- $window := include "yolo-kserve.rateWindow" .root }}
{{- printf `(sum(rate(yolo_request_seconds_sum{%s,%s}[%s])) or vector(0))` (printf $pods .component) $inference $window }}
{{- if and (eq .component "predictor") (eq .service.topology "split") (eq (int .service.predictor.minReplicas) 0) }}
{{- printf ` + (sum(rate(yolo_request_seconds_count{%s,code=~"503|UNAVAILABLE"}[%s])) or vector(0))` (printf $pods "transformer") $window }}
{{- printf ` + (count(yolo_models_loaded{%s} == 0) or vector(0))` (printf $pods "transformer") }}
{{- end }}
{{- end }}

{{/* Whole minutes that hold at least four scrapes: of fewer than two a rate is empty. */}}
{{- define "yolo-kserve.rateWindow" -}}
{{- $interval := .Values.monitoring.podMonitor.interval }}
{{- $seconds := regexFind "^[0-9]+" $interval | int }}
{{- if hasSuffix "ms" $interval }}
{{- $seconds = div $seconds 1000 }}
{{- else if hasSuffix "m" $interval }}
{{- $seconds = mul $seconds 60 }}
{{- end }}
{{- max 1 (div (add (mul $seconds 4) 59) 60) }}m
{{- end }}
