{{/* Egress that every pod needs: DNS, the API server, the store. */}}
{{- define "zooforge.egress" -}}
{{- $egress := .Values.networkPolicy.egress -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
- to:
    {{- range $egress.apiServerCidrs }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  ports:
    {{- range $egress.apiServerPorts }}
    - port: {{ . }}
    {{- end }}
{{- with $egress.storeCidrs }}
- to:
    {{- range . }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  ports:
    {{- range $egress.storePorts }}
    - port: {{ . }}
    {{- end }}
{{- end }}
{{- if .Values.embeddedStore.enabled }}
- to:
    - podSelector:
        matchLabels:
          {{- include "zooforge.selector" (dict "root" . "component" "store") | nindent 10 }}
  ports:
    - port: 8333
{{- end }}
{{- end }}
