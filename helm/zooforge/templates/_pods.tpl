{{/* Parts of pods that all components share: security, the store's address and credentials, mounts. */}}

{{- define "zooforge.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "zooforge.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "zooforge.resources" -}}
requests:
  cpu: {{ default .cpu .cpuRequest | quote }}
  memory: {{ .memory }}
  {{- with .ephemeralStorage }}
  ephemeral-storage: {{ . }}
  {{- end }}
limits:
  cpu: {{ .cpu | quote }}
  memory: {{ .memory }}
  {{- with .ephemeralStorage }}
  ephemeral-storage: {{ . }}
  {{- end }}
{{- end }}

{{- define "zooforge.storeUrl" -}}
{{- if .Values.embeddedStore.enabled }}s3://{{ .Values.embeddedStore.bucket }}{{ else }}{{ .Values.storage.url }}{{ end -}}
{{- end }}

{{- define "zooforge.storeEndpoint" -}}
{{- if .Values.embeddedStore.enabled }}http://{{ include "zooforge.fullname" . }}-store.{{ .Release.Namespace }}.svc:8333{{ else }}{{ .Values.storage.endpoint }}{{ end -}}
{{- end }}

{{- define "zooforge.storeEnv" -}}
- name: ZOO_LOG
  value: json
- name: ZOO_STORE
  value: {{ include "zooforge.storeUrl" . | quote }}
{{- with include "zooforge.storeEndpoint" . }}
- name: AWS_ENDPOINT_URL_S3
  value: {{ . | quote }}
{{- end }}
- name: AWS_REGION
  value: {{ .Values.storage.region | quote }}
- name: AWS_DEFAULT_REGION
  value: {{ .Values.storage.region | quote }}
{{- if eq .Values.storage.credentials "secret" }}
- name: AWS_SHARED_CREDENTIALS_FILE
  value: /etc/zooforge/store/{{ .Values.storage.secretKey }}
{{- end }}
{{- if .Values.storage.caSecret }}
- name: AWS_CA_BUNDLE
  value: /etc/zooforge/ca/ca.crt
{{- end }}
{{- end }}

{{- define "zooforge.storeMounts" -}}
{{- if eq .Values.storage.credentials "secret" }}
- name: store-credentials
  mountPath: /etc/zooforge/store
  readOnly: true
{{- end }}
{{- if .Values.storage.caSecret }}
- name: store-ca
  mountPath: /etc/zooforge/ca
  readOnly: true
{{- end }}
{{- end }}

{{/* .secret: name of a Secret to use instead of storage.existingSecret */}}
{{- define "zooforge.storeVolumes" -}}
{{- $storage := .root.Values.storage }}
{{- if eq $storage.credentials "secret" }}
- name: store-credentials
  secret:
    secretName: {{ default $storage.existingSecret .secret }}
    defaultMode: 0440
    items:
      - key: {{ $storage.secretKey }}
        path: {{ $storage.secretKey }}
{{- end }}
{{- if $storage.caSecret }}
- name: store-ca
  secret:
    secretName: {{ $storage.caSecret }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{/* The writable folders of a pod whose root file system is read-only. */}}
{{- define "zooforge.scratchMounts" -}}
- name: tmp
  mountPath: /tmp
- name: home
  mountPath: /home/zoo
{{- end }}

{{- define "zooforge.scratchVolumes" -}}
- name: tmp
  emptyDir:
    {{- with .size }}
    sizeLimit: {{ . }}
    {{- else }} {}
    {{- end }}
- name: home
  emptyDir:
    sizeLimit: 1Gi
{{- end }}

{{- define "zooforge.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Spec of a pod that is not Ray's (exporter, supervisor, gc, helm test): .component .command .serviceAccountName .resources .token .secret .ports .restartPolicy */}}
{{- define "zooforge.smallPod" -}}
serviceAccountName: {{ .serviceAccountName }}
automountServiceAccountToken: {{ default false .token }}
enableServiceLinks: false
{{- include "zooforge.pullSecrets" .root }}
restartPolicy: {{ default "Always" .restartPolicy }}
securityContext:
  {{- include "zooforge.podSecurity" .root | nindent 2 }}
{{- with .root.Values.exporter.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.exporter.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .component }}
    image: {{ include "zooforge.image" (dict "root" .root) }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      {{- toYaml .command | nindent 6 }}
    env:
      {{- include "zooforge.storeEnv" .root | nindent 6 }}
      {{- with .env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with .ports }}
    ports:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .readinessProbe }}
    readinessProbe:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    resources:
      {{- include "zooforge.resources" .resources | nindent 6 }}
    securityContext:
      {{- include "zooforge.containerSecurity" .root | nindent 6 }}
    volumeMounts:
      {{- include "zooforge.scratchMounts" .root | nindent 6 }}
      {{- include "zooforge.storeMounts" .root | nindent 6 }}
volumes:
  {{- include "zooforge.scratchVolumes" (dict "size" "1Gi") | nindent 2 }}
  {{- include "zooforge.storeVolumes" . | nindent 2 }}
{{- end }}
