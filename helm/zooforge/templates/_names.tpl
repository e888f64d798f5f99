{{/* Names, labels, images. Nothing here looks into the cluster or draws anything at random. */}}

{{- define "zooforge.fullname" -}}
{{- $name := default .Release.Name .Values.fullnameOverride -}}
{{- if gt (len $name) 40 -}}
{{- fail (printf "the release name %q has %d characters and at most 40 are possible: Kubernetes limits a CronJob to 52 and KubeRay a RayCluster to 53. Set fullnameOverride to a shorter name." $name (len $name)) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "the release name %q does not start with a letter, or has other characters than a-z, 0-9 and '-', which KubeRay requires. Set fullnameOverride." $name) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{- define "zooforge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "zooforge.fullname" .) .Values.serviceAccount.name }}{{ else }}{{ required "serviceAccount.name is empty and serviceAccount.create is false: name the service account that the pods shall use" .Values.serviceAccount.name }}{{ end -}}
{{- end }}

{{/* Labels of the chart's own objects. */}}
{{- define "zooforge.labels" -}}
app.kubernetes.io/name: zooforge
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: zooforge
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of one component's pods: what selectors use, and nothing that a new chart version changes. */}}
{{- define "zooforge.selector" -}}
app.kubernetes.io/name: zooforge
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/*
Labels of Ray's pods. app.kubernetes.io/name and created-by are KubeRay's own there: its head Service selects by them.
Release and instance labels of a deploying tool are left out too, so that pruning leaves submitted runs alone.
*/}}
{{- define "zooforge.rayLabels" -}}
zooforge.io/release: {{ include "zooforge.fullname" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "zooforge.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "zooforge.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
{{- with .labels }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* image reference; .group holds a group's own repository, tag, digest */}}
{{- define "zooforge.image" -}}
{{- $common := .root.Values.image -}}
{{- $group := default (dict) .group -}}
{{- $repository := default $common.repository $group.repository -}}
{{- $own := or $group.tag $group.digest $group.repository -}}
{{- $tag := default (default .root.Chart.AppVersion $common.tag) $group.tag -}}
{{- $digest := ternary $group.digest $common.digest (not (empty $own)) -}}
{{- $path := ternary (printf "%s/%s" $common.registry $repository) $repository (not (empty $common.registry)) -}}
{{- if $digest }}{{ $path }}@{{ $digest }}{{ else }}{{ $path }}:{{ $tag }}{{ end -}}
{{- end }}
