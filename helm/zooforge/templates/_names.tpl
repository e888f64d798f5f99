{{/* Names, labels, images, quantities. Only zooforge.clusterId reads from the cluster; nothing is random. */}}

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

{{/*
Identity of the Kubernetes cluster: the value clusterId, else the UID of the namespace kube-system. `helm template` and
Argo CD render without a cluster, where the value is required.
*/}}
{{- define "zooforge.clusterId" -}}
{{- /* With the value set, the installer needs no right to read the namespace kube-system. */ -}}
{{- $uid := .Values.clusterId -}}
{{- if not $uid -}}
{{- $uid = dig "metadata" "uid" "" (default (dict) (lookup "v1" "Namespace" "" "kube-system")) -}}
{{- end -}}
{{- if not $uid -}}
{{- fail "clusterId is empty and no cluster can be read here: releases of two clusters that share a bucket could not tell their runs apart. Set clusterId to the output of: kubectl get namespace kube-system -o jsonpath={.metadata.uid}" -}}
{{- end -}}
{{- $uid -}}
{{- end }}

{{/* A Kubernetes quantity as a number of base units, such as 0.5 for 500m and 1024 for 1Ki. */}}
{{- define "zooforge.quantity" -}}
{{- $text := toString . -}}
{{- $suffix := regexFind "[A-Za-z]+$" $text -}}
{{- $scale := get (dict "" 1.0 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0) $suffix -}}
{{- mulf (float64 (trimSuffix $suffix $text)) $scale -}}
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

{{/* Labels of one component's pods, for selectors: none of them changes with the version of the chart. */}}
{{- define "zooforge.selector" -}}
app.kubernetes.io/name: zooforge
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/*
Labels of Ray's pods. KubeRay sets app.kubernetes.io/name and created-by there, and its head Service selects by them, so
they are left out. The labels by which a deploying tool tracks objects are left out too: it would prune submitted runs.
*/}}
{{- define "zooforge.rayLabels" -}}
zooforge.io/release: {{ include "zooforge.fullname" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Metadata of an object of the chart: .root .component .name .labels .annotations .clusterScoped */}}
{{- define "zooforge.metadata" -}}
name: {{ .name }}
{{- if not .clusterScoped }}
namespace: {{ .root.Release.Namespace }}
{{- end }}
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

{{/* Reference of an image; .group has the repository, tag and digest of a group, if it has its own. */}}
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
