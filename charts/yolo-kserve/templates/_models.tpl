{{/*
One map laid over another, key by key: `over` decides, and what it says nothing of stays as in `base`.
Sprig's own merge passes over `false`, `0` and empty texts, which are what people set.
*/}}
{{- define "yolo-kserve.overlay" -}}
{{- $result := deepCopy .base }}
{{- range $key, $value := .over }}
{{- if and (kindIs "map" $value) (kindIs "map" (index $result $key)) }}
{{- $_ := set $result $key (include "yolo-kserve.overlay" (dict "base" (index $result $key) "over" $value) | fromYaml) }}
{{- else if not (kindIs "invalid" $value) }}
{{- $_ := set $result $key $value }}
{{- end }}
{{- end }}
{{- toYaml $result }}
{{- end }}

{{/*
The InferenceServices to make, as a YAML list: `model` (what clients ask for), `name` (of the InferenceService), `track`
(`stable` or `canary`), and the model's settings. A canary is a service of its own in Standard mode, and a revision of the
stable one's in Knative mode.
*/}}
{{- define "yolo-kserve.services" -}}
{{- $services := list }}
{{- range $model, $over := .Values.models }}
{{- $settings := include "yolo-kserve.overlay" (dict "base" $.Values.modelDefaults "over" $over) | fromYaml }}
{{- include "yolo-kserve.check" (dict "root" $ "model" $model "settings" $settings) }}
{{- if include "yolo-kserve.redis" $ }}
{{- $_ := set $settings.transformer "env" (concat (include "yolo-kserve.redis" $ | fromYamlArray) $settings.transformer.env) }}
{{- $_ := set $settings.transformer "args" (prepend $settings.transformer.args (printf "--cache_seconds=%d" (int $.Values.redis.cacheSeconds))) }}
{{- end }}
{{- $services = append $services (merge (dict "model" $model "name" $model "track" "stable") $settings) }}
{{- if and $settings.canary.enabled (eq $settings.mode "Standard") }}
{{- $canary := deepCopy $settings }}
{{- $_ := set $canary "storageUri" ($settings.canary.storageUri | default $settings.storageUri) }}
{{- $_ := set $canary "runtime" ($settings.canary.runtime | default $settings.runtime) }}
{{- $_ := set $canary "imageTag" $settings.canary.imageTag }}
{{- $_ := set $canary.predictor "minReplicas" $settings.canary.minReplicas }}
{{- $_ := set $canary.transformer "minReplicas" $settings.canary.minReplicas }}
{{- $services = append $services (merge (dict "model" $model "name" (printf "%s-canary" $model) "track" "canary") $canary) }}
{{- end }}
{{- end }}
{{- toYaml $services }}
{{- end }}

{{/* A transformer's environment variables for Redis, as a YAML list; empty without one. */}}
{{- define "yolo-kserve.redis" -}}
{{- $redis := .Values.redis }}
{{- if and $redis.url $redis.secretName }}
{{- fail "redis: url and secretName exclude each other" }}
{{- end }}
{{- if contains "@" $redis.url }}
{{- fail "redis.url: a password belongs in a Secret; give its name as redis.secretName" }}
{{- end }}
{{- if $redis.secretName }}
- name: YOLO_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ $redis.secretName }}
      key: url
{{- else if $redis.url }}
- name: YOLO_REDIS_URL
  value: {{ $redis.url }}
{{- end }}
{{- end }}

{{/* The autoscaler of a component; takes `service` and `component`. */}}
{{- define "yolo-kserve.autoscaler" -}}
{{- (index .service .component).autoscaling.class | default (ternary "knative" "hpa" (eq .service.mode "Knative")) }}
{{- end }}

{{/* Refuses settings of a model that would render and then not work. */}}
{{- define "yolo-kserve.check" -}}
{{- $where := printf "models.%s" .model }}
{{- $it := .settings }}
{{- if not $it.storageUri }}
{{- fail (printf "%s: storageUri is needed, such as yolo://shapes" $where) }}
{{- end }}
{{- if hasSuffix "-canary" .model }}
{{- fail (printf "%s: a name that ends in -canary belongs to the canary of another model" $where) }}
{{- end }}
{{- if and (eq .root.Values.scope "namespace") (hasPrefix "yolo://" $it.storageUri) (not $it.storageContainerName) }}
{{- fail (printf "%s: yolo:// needs weights-sync as a ClusterStorageContainer, and scope: namespace installs nothing for the cluster; have an administrator install one and give its name as storageContainerName, or name a URI that KServe reads" $where) }}
{{- end }}
{{- $container := .root.Values.storageContainer }}
{{- if and $container.create (eq .root.Values.scope "cluster") (eq $it.storageContainerName $container.name) }}
{{- range $uri := without (list $it.storageUri (ternary $it.canary.storageUri "" $it.canary.enabled)) "" }}
{{- $claimed := false }}
{{- range $container.prefixes }}
{{- $claimed = or $claimed (hasPrefix . $uri) }}
{{- end }}
{{- if not $claimed }}
{{- fail (printf "%s: KServe refuses %s from %s, which does not claim it; add its place to storageContainer.prefixes" $where $uri $container.name) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $component := list "predictor" "transformer" }}
{{- $settings := index $it $component }}
{{- $class := include "yolo-kserve.autoscaler" (dict "service" $it "component" $component) }}
{{- $what := printf "%s.%s" $where $component }}
{{- if and (eq $it.mode "Knative") (ne $class "knative") }}
{{- fail (printf "%s.autoscaling.class: %s does not scale Knative revisions; leave it empty, or use mode: Standard" $what $class) }}
{{- end }}
{{- if and (eq $it.mode "Standard") (eq $class "knative") }}
{{- fail (printf "%s.autoscaling.class: knative needs mode: Knative" $what) }}
{{- end }}
{{- if and (eq (int $settings.minReplicas) 0) (has $class (list "hpa" "none")) }}
{{- fail (printf "%s.minReplicas: %s can not scale to zero; use Knative, or KEDA for the predictor" $what $class) }}
{{- end }}
{{- if and (eq (int $settings.minReplicas) 0) (eq $class "keda") (eq $component "transformer") (not $settings.autoscaling.query) }}
{{- fail (printf "%s.minReplicas: nothing would wake it, for it counts the requests itself; give autoscaling.query a metric of your gateway, or use Knative" $what) }}
{{- end }}
{{- if gt (int $settings.minReplicas) (int $settings.maxReplicas) }}
{{- fail (printf "%s: minReplicas is more than maxReplicas" $what) }}
{{- end }}
{{- end }}
{{- if and (eq $it.topology "collocated") (eq (int $it.predictor.minReplicas) 0) (ne $it.mode "Knative") (not $it.predictor.autoscaling.query) }}
{{- fail (printf "%s.predictor.minReplicas: nothing would wake the one pod; give autoscaling.query a metric of your gateway, or use Knative" $where) }}
{{- end }}
{{- if $it.canary.enabled }}
{{- if not (or $it.canary.storageUri $it.canary.runtime $it.canary.imageTag) }}
{{- fail (printf "%s.canary: storageUri, runtime or imageTag must say what is new in it" $where) }}
{{- end }}
{{- if and (eq $it.topology "split") (eq $it.mode "Knative") }}
{{- fail (printf "%s.canary: Knative splits the traffic of predictor and transformer apart, so that their versions would mix; use topology: collocated, or mode: Standard" $where) }}
{{- end }}
{{- if and (eq $it.mode "Standard") (not .root.Values.route.enabled) }}
{{- fail (printf "%s.canary: the route shares out the traffic; set route.enabled" $where) }}
{{- end }}
{{- range $component := ternary (list "predictor") (list "predictor" "transformer") (eq $it.topology "collocated") }}
{{- if and (eq $it.mode "Standard") (gt (int $it.canary.minReplicas) (int (index $it $component).maxReplicas)) }}
{{- fail (printf "%s.canary.minReplicas is more than %s.maxReplicas" $where $component) }}
{{- end }}
{{- end }}
{{- if and $it.canary.imageTag (contains "@" (cat .root.Values.images.predictor .root.Values.images.transformer)) }}
{{- fail (printf "%s.canary.imageTag: images with a digest have no tag; use canary.runtime" $where) }}
{{- end }}
{{- if and (eq $it.topology "collocated") $it.canary.imageTag }}
{{- fail (printf "%s.canary.imageTag: in the collocated topology a runtime names the images; use canary.runtime" $where) }}
{{- end }}
{{- end }}
{{- end }}
