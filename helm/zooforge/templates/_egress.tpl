{{/* Rules of egress that several NetworkPolicies share. */}}

{{/* Selector of the pods of the release that are not Ray's; .components lists them. */}}
{{- define "zooforge.servicePods" -}}
matchLabels:
  app.kubernetes.io/name: zooforge
  app.kubernetes.io/instance: {{ .root.Release.Name }}
matchExpressions:
  - key: app.kubernetes.io/component
    operator: In
    values: [{{ join ", " .components }}]
{{- end }}

{{/* To address blocks and ports: .cidrs .ports */}}
{{- define "zooforge.toBlocks" -}}
- to:
    {{- range .cidrs }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  ports:
    {{- range .ports }}
    - port: {{ . }}
    {{- end }}
{{- end }}

{{/* What every pod needs: the cluster's DNS, the store and, for workload identity, the metadata service. */}}
{{- define "zooforge.egress" -}}
{{- $egress := .Values.networkPolicy.egress -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ $egress.dnsNamespace }}
      podSelector:
        matchLabels:
          {{- toYaml $egress.dnsPodLabels | nindent 10 }}
    {{- range $egress.dnsCidrs }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  ports:
    {{- range $egress.dnsPorts }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- if .Values.embeddedStore.enabled }}
- to:
    - podSelector:
        matchLabels:
          {{- include "zooforge.selector" (dict "root" . "component" "store") | nindent 10 }}
  ports:
    - port: 8333
{{- else }}
{{ include "zooforge.toBlocks" (dict "cidrs" $egress.storeCidrs "ports" $egress.storePorts) }}
{{- end }}
{{- if and (eq .Values.storage.credentials "workload-identity") $egress.metadataCidrs }}
{{ include "zooforge.toBlocks" (dict "cidrs" $egress.metadataCidrs "ports" $egress.metadataPorts) }}
{{- end }}
{{- with $egress.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "zooforge.apiServerEgress" -}}
{{- include "zooforge.toBlocks" (dict "cidrs" .Values.networkPolicy.egress.apiServerCidrs "ports" .Values.networkPolicy.egress.apiServerPorts) }}
{{- end }}
