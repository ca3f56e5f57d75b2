{{/* What every container may do, without what is null. */}}
{{- define "yolo-kserve.securityContext" -}}
{{- include "yolo-kserve.overlay" (dict "base" dict "over" .Values.containerSecurityContext) }}
{{- end }}

{{/* Flags of both servers for an orderly end. */}}
{{- define "yolo-kserve.drainArgs" -}}
- --drain_delay={{ .Values.drain.delaySeconds }}
- --grace_period={{ .Values.drain.graceSeconds }}
{{- end }}

{{/* Seconds from leaving the Services to the end of the process; the collocated predictor outlives its transformer. */}}
{{- define "yolo-kserve.drainSeconds" -}}
{{- $one := add .root.Values.drain.preStopSeconds .root.Values.drain.delaySeconds .root.Values.drain.graceSeconds }}
{{- if eq .topology "collocated" }}{{ add $one .root.Values.drain.delaySeconds .root.Values.drain.graceSeconds }}{{ else }}{{ $one }}{{ end }}
{{- end }}

{{- define "yolo-kserve.preStop" -}}
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}

{{/*
The same in a runtime, for InferenceServices that say nothing of it; `outlives` for a predictor beside its transformer. A
runtime can not give its pods longer to end than Kubernetes' 30 s, and the API server refuses a pod that sleeps longer.
*/}}
{{- define "yolo-kserve.runtimePreStop" -}}
{{- $drain := .root.Values.drain }}
{{- $seconds := ternary (add $drain.preStopSeconds $drain.delaySeconds $drain.graceSeconds) $drain.preStopSeconds .outlives }}
{{- include "yolo-kserve.preStop" (min 25 $seconds) }}
{{- end }}

{{/*
Probes of a server on `port`. It has started when it listens, and is ready when its model is loaded and warm: that may
take minutes the first time on a GPU, and a transformer waits for its predictor as long as that one waits for a node.
Only the process itself decides on its life: no restart makes a model load sooner.
With `grpcPort` the process is asked there whether it lives: Knative has a liveness probe by HTTP ask the one port that
the container declares, which may be gRPC's.
*/}}
{{- define "yolo-kserve.probes" -}}
startupProbe:
  httpGet:
    path: /v2/health/live
    port: {{ .port }}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: {{ div .root.Values.probes.startupSeconds 2 }}
readinessProbe:
  httpGet:
    path: /v2/health/ready
    port: {{ .port }}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  {{- with .grpcPort }}
  grpc:
    port: {{ . }}
    service: live
  {{- else }}
  httpGet:
    path: /v2/health/live
    port: {{ .port }}
  {{- end }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{/* Ports of a container; takes `mode` and, for Knative's one port, `knativePort`. */}}
{{- define "yolo-kserve.ports" -}}
{{- if eq .mode "Knative" }}
{{- if eq .knativePort "h2c" }}
- name: h2c
  containerPort: 8081
  protocol: TCP
{{- else }}
- name: http1
  containerPort: 8080
  protocol: TCP
{{- end }}
{{- else }}
- name: http1
  containerPort: 8080
  protocol: TCP
- name: grpc
  containerPort: 8081
  protocol: TCP
{{- end }}
{{- end }}

{{/* A place to write. */}}
{{- define "yolo-kserve.tmpMount" -}}
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "yolo-kserve.tmpVolume" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.volumes.tmp }}
{{- end }}

{{/* Where KServe puts the weights; by this name it takes a volume that is there. */}}
{{- define "yolo-kserve.weightsVolume" -}}
- name: kserve-provision-location
  emptyDir:
    sizeLimit: {{ .Values.volumes.weights }}
{{- end }}

{{/*
Resources with GPUs added; takes `settings` (a component's), `device` and, for a model, `runtime`: the settings of its
runtime. KServe adds a runtime's resources to the model's: of another kind of GPU than the model's, it must want none.
*/}}
{{- define "yolo-kserve.resources" -}}
{{- $resources := deepCopy .settings.resources }}
{{- if eq .device "gpu" }}
{{- $runtime := .runtime | default .settings }}
{{- range $kind := list "limits" "requests" }}
{{- $gpus := merge (dict $.settings.gpuResource (toString (int $.settings.gpus))) (dict $runtime.gpuResource "0") }}
{{- $_ := set $resources $kind (merge $gpus (index $resources $kind | default dict)) }}
{{- end }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* Tolerations of what uses GPUs, whose nodes NVIDIA's taint may keep free also where they are sliced; takes a predictor's settings. */}}
{{- define "yolo-kserve.gpuTolerations" -}}
{{- range list "nvidia.com/gpu" .gpuResource | uniq }}
- key: {{ . }}
  operator: Exists
  effect: NoSchedule
{{- end }}
{{- end }}
