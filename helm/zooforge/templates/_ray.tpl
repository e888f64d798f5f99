{{/* The spec of a Ray cluster, used for the standing RayCluster and in the template of RayJobs. */}}

{{- define "zooforge.rayEnv" -}}
{{- include "zooforge.storeEnv" .root }}
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
- name: RAY_ROTATION_MAX_BYTES
  value: "33554432"
- name: RAY_ROTATION_BACKUP_COUNT
  value: "1"
- name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
  value: {{ min .root.Values.drain.timeoutSeconds .noticeSeconds | quote }}
{{- end }}

{{/* Facts about workers that a driver cannot see from the head: GPUs, the shortest notice and, if there is only one group, its price. */}}
{{- define "zooforge.driverEnv" -}}
{{- $groups := include "zooforge.groups" . | fromYaml -}}
{{- $gpus := 0 -}}
{{- $notice := .Values.drain.timeoutSeconds -}}
{{- range $groups }}{{ $gpus = max $gpus (int .gpu.count) }}{{ $notice = min $notice .noticeSeconds }}{{ end -}}
{{- $env := list (dict "name" "RAY_JOB_STOP_WAIT_TIME_S" "value" "110") (dict "name" "ZOO_METRICS_PORT" "value" "9095") -}}
{{- $env = append $env (dict "name" "ZOO_WORKER_GPUS" "value" (toString $gpus)) -}}
{{- $env = append $env (dict "name" "ZOO_NOTICE_SECONDS" "value" (toString $notice)) -}}
{{- $env = append $env (dict "name" "ZOO_WORKERS_PER_GPU" "value" (toString .Values.workersPerGpu)) -}}
{{- if eq (len $groups) 1 }}{{ range $groups }}{{ $env = concat $env (fromYamlArray (include "zooforge.priceEnv" .)) }}{{ end }}{{ end -}}
{{- toYaml $env -}}
{{- end }}

{{/* The machine of a group and its price class, for the cost account. */}}
{{- define "zooforge.priceEnv" -}}
- name: ZOO_PRICE_CLASS
  value: {{ ternary "spot" "on-demand" .spot }}
- name: ZOO_MACHINE
  value: {{ .machine | quote }}
{{- end }}

{{/* One Ray container: .name .group (cpu, memory, ...) .image .env .ports */}}
{{- define "zooforge.rayContainer" -}}
name: {{ .name }}
image: {{ .image }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env:
  {{- include "zooforge.rayEnv" (dict "root" .root "noticeSeconds" .noticeSeconds) | nindent 2 }}
  - name: ZOO_IMAGE
    value: {{ .image | quote }}
  - name: ZOO_ACCOUNT
    value: {{ printf "%s/%s" .root.Release.Namespace (include "zooforge.serviceAccountName" .root) | quote }}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .group.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  {{- toYaml .ports | nindent 2 }}
resources:
  {{- $resources := include "zooforge.resources" .group | fromYaml }}
  {{- with .group.gpu }}{{ if .count }}
  {{- $_ := set $resources.requests .resource .count }}
  {{- $_ := set $resources.limits .resource .count }}
  {{- end }}{{ end }}
  {{- toYaml $resources | nindent 2 }}
securityContext:
  {{- include "zooforge.containerSecurity" .root | nindent 2 }}
volumeMounts:
  {{- include "zooforge.scratchMounts" .root | nindent 2 }}
  - name: shared-memory
    mountPath: /dev/shm
  {{- include "zooforge.storeMounts" .root | nindent 2 }}
{{- end }}

{{- define "zooforge.sharedMemoryBytes" -}}
{{- add .objectStoreMemory 67108864 -}}
{{- end }}

{{- define "zooforge.rayVolumes" -}}
{{- include "zooforge.scratchVolumes" (dict "size" .group.ephemeralStorage) }}
{{- /* Pages in /dev/shm count as memory of the container. 64 MiB are for other users of /dev/shm than Ray. */}}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ include "zooforge.sharedMemoryBytes" .group | quote }}
{{- include "zooforge.storeVolumes" (dict "root" .root) }}
{{- end }}

{{- define "zooforge.rayPodCommon" -}}
{{- include "zooforge.pullSecrets" .root }}
serviceAccountName: {{ include "zooforge.serviceAccountName" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .root.Values.drain.gracePeriodSeconds }}
securityContext:
  {{- include "zooforge.podSecurity" .root | nindent 2 }}
{{- with .group.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .group.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .group.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .group.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "zooforge.rayClusterSpec" -}}
{{- $root := . -}}
rayVersion: {{ .Values.rayVersion | quote }}
{{- if .Values.auth.enabled }}
authOptions:
  mode: token
  {{- with .Values.auth.existingSecret }}
  secretName: {{ . }}
  {{- end }}
{{- else }}
authOptions:
  mode: disabled
{{- end }}
enableInTreeAutoscaling: {{ .Values.autoscaler.enabled }}
{{- if .Values.autoscaler.enabled }}
autoscalerOptions:
  version: v2
  upscalingMode: Default
  idleTimeoutSeconds: {{ .Values.autoscaler.idleTimeoutSeconds }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  resources:
    {{- include "zooforge.resources" .Values.autoscaler | nindent 4 }}
  securityContext:
    {{- include "zooforge.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- include "zooforge.scratchMounts" . | nindent 4 }}
    - name: api-token
      mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      readOnly: true
{{- end }}
headGroupSpec:
  rayStartParams:
    num-cpus: "0"
    dashboard-host: 0.0.0.0
    metrics-export-port: "8080"
    object-store-memory: {{ .Values.head.objectStoreMemory | int64 | quote }}
  template:
    metadata:
      labels:
        {{- include "zooforge.rayLabels" . | nindent 8 }}
        zooforge.io/component: head
        {{- with .Values.head.labels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
        karpenter.sh/do-not-disrupt: "true"
        {{- with .Values.head.annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "zooforge.rayPodCommon" (dict "root" . "group" .Values.head) | nindent 6 }}
      containers:
        - {{- include "zooforge.rayContainer" (dict "root" . "name" "ray-head" "group" .Values.head
              "image" (include "zooforge.image" (dict "root" .)) "noticeSeconds" .Values.drain.timeoutSeconds
              "env" (include "zooforge.driverEnv" . | fromYamlArray)
              "ports" (list
                (dict "name" "gcs-server" "containerPort" 6379)
                (dict "name" "dashboard" "containerPort" 8265)
                (dict "name" "client" "containerPort" 10001)
                (dict "name" "metrics" "containerPort" 8080)
                (dict "name" "as-metrics" "containerPort" 44217)
                (dict "name" "dash-metrics" "containerPort" 44227)
                (dict "name" "zoo-metrics" "containerPort" 9095))) | nindent 10 }}
      volumes:
        {{- include "zooforge.rayVolumes" (dict "root" . "group" .Values.head) | nindent 8 }}
        {{- if .Values.autoscaler.enabled }}
        {{- /* Only the autoscaler's container mounts the API token; the driver runs user code and does not mount it. */}}
        - name: api-token
          projected:
            sources:
              - serviceAccountToken:
                  path: token
                  expirationSeconds: 3607
              - configMap:
                  name: kube-root-ca.crt
                  items:
                    - key: ca.crt
                      path: ca.crt
              - downwardAPI:
                  items:
                    - path: namespace
                      fieldRef:
                        apiVersion: v1
                        fieldPath: metadata.namespace
        {{- end }}
workerGroupSpecs:
  {{- range $name, $group := include "zooforge.groups" . | fromYaml }}
  - groupName: {{ $name }}
    {{- if $root.Values.autoscaler.enabled }}
    minReplicas: {{ $group.minReplicas }}
    maxReplicas: {{ $group.maxReplicas }}
    idleTimeoutSeconds: {{ $group.idleTimeoutSeconds }}
    {{- else }}
    replicas: {{ $group.replicas }}
    minReplicas: {{ $group.replicas }}
    maxReplicas: {{ $group.replicas }}
    {{- end }}
    numOfHosts: 1
    rayStartParams:
      metrics-export-port: "8080"
      object-store-memory: {{ $group.objectStoreMemory | int64 | quote }}
      {{- /* KubeRay and the autoscaler recognise only resources whose name ends in "gpu", which MIG slices do not. */}}
      {{- if $group.gpu.count }}
      num-gpus: {{ $group.gpu.count | quote }}
      {{- end }}
    template:
      metadata:
        labels:
          {{- include "zooforge.rayLabels" $root | nindent 10 }}
          zooforge.io/component: worker
          {{- with $group.labels }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        {{- with $group.annotations }}
        annotations:
          {{- toYaml . | nindent 10 }}
        {{- end }}
      spec:
        {{- include "zooforge.rayPodCommon" (dict "root" $root "group" $group) | nindent 8 }}
        {{- with $group.runtimeClassName }}
        runtimeClassName: {{ . }}
        {{- end }}
        {{- with $group.topologySpreadConstraints }}
        topologySpreadConstraints:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        containers:
          - {{- include "zooforge.rayContainer" (dict "root" $root "name" "ray-worker" "group" $group
                "image" (include "zooforge.image" (dict "root" $root "group" $group.image)) "noticeSeconds" $group.noticeSeconds
                "env" (prepend (include "zooforge.priceEnv" $group | fromYamlArray) (dict "name" "ZOO_NOTICE_SECONDS" "value" (toString $group.noticeSeconds)))
                "ports" (list (dict "name" "metrics" "containerPort" 8080))) | nindent 12 }}
        volumes:
          {{- include "zooforge.rayVolumes" (dict "root" $root "group" $group) | nindent 10 }}
  {{- end }}
{{- end }}

{{/* The enabled worker groups; workerDefaults supplies the keys that a group does not set. */}}
{{- define "zooforge.groups" -}}
{{- $groups := dict -}}
{{- range $name, $own := .Values.workerGroups -}}
{{- $group := mustMergeOverwrite (deepCopy $.Values.workerDefaults) (deepCopy (default (dict) $own)) -}}
{{- if $group.enabled }}{{ $_ := set $groups $name $group }}{{ end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end }}
