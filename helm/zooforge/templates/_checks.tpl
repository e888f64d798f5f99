{{/* Combinations of values that cannot work. Each stops the install with one sentence. */}}
{{- define "zooforge.checks" -}}
{{- $v := .Values -}}
{{- $_ := include "zooforge.fullname" . -}}
{{- if and $v.embeddedStore.enabled (or $v.storage.url $v.storage.endpoint) -}}
{{- fail "embeddedStore.enabled is true and storage.url or storage.endpoint is set, but a release has one store. Leave both empty, or set embeddedStore.enabled=false." -}}
{{- end -}}
{{- if not (or $v.embeddedStore.enabled $v.storage.url) -}}
{{- fail "storage.url is empty, so there is no place for zoos. Set storage.url=s3://BUCKET/PREFIX, or embeddedStore.enabled=true to try things out." -}}
{{- end -}}
{{- if and (eq $v.storage.credentials "secret") (not $v.storage.existingSecret) -}}
{{- fail "storage.existingSecret is empty: make a Secret from an AWS credentials file (kubectl create secret generic zoo-store --from-file=credentials=FILE) and name it, or set storage.credentials=workload-identity." -}}
{{- end -}}
{{- if and (ne $v.storage.credentials "secret") $v.storage.existingSecret -}}
{{- fail (printf "storage.existingSecret is %q but storage.credentials is %q, so the Secret would not be used. Clear the first or set the second to secret." $v.storage.existingSecret $v.storage.credentials) -}}
{{- end -}}
{{- if and $v.embeddedStore.enabled (ne $v.storage.credentials "secret") -}}
{{- fail (printf "embeddedStore.enabled needs storage.credentials=secret (the value is %q): the store reads its keys from the Secret in storage.existingSecret." $v.storage.credentials) -}}
{{- end -}}
{{- if and $v.queue.name $v.autoscaler.enabled -}}
{{- fail (printf "queue.name is %q and autoscaler.enabled is true: Kueue admits a fixed number of pods. Set autoscaler.enabled=false and workerGroups.NAME.replicas." $v.queue.name) -}}
{{- end -}}
{{- if lt (int $v.drain.gracePeriodSeconds) (add (int $v.drain.timeoutSeconds) 20 | int) -}}
{{- fail (printf "drain.gracePeriodSeconds is %d and drain.timeoutSeconds is %d: the grace period must be at least 20 s longer, or pods are killed while they commit." (int $v.drain.gracePeriodSeconds) (int $v.drain.timeoutSeconds)) -}}
{{- end -}}
{{- if and $v.auth.existingSecret (not $v.auth.enabled) -}}
{{- fail (printf "auth.existingSecret is %q and auth.enabled is false: without token authentication anyone who reaches the dashboard can run code. Set auth.enabled=true, or clear auth.existingSecret." $v.auth.existingSecret) -}}
{{- end -}}
{{- if and $v.auth.enabled (semverCompare "<2.52.0-0" $v.rayVersion) -}}
{{- fail (printf "rayVersion is %s and auth.enabled is true: Ray supports tokens from version 2.52. Use a newer image." $v.rayVersion) -}}
{{- end -}}
{{- $egress := $v.networkPolicy.egress -}}
{{- if and $egress.enabled (not $v.networkPolicy.enabled) -}}
{{- fail "networkPolicy.egress.enabled is true and networkPolicy.enabled is false: egress is part of the policy. Set networkPolicy.enabled=true." -}}
{{- end -}}
{{- if and $egress.enabled (not $v.embeddedStore.enabled) (not $egress.storeCidrs) -}}
{{- fail "networkPolicy.egress.enabled is true and networkPolicy.egress.storeCidrs is empty: the pods could not reach the store. List its address blocks." -}}
{{- end -}}
{{- if and $egress.enabled (or $v.autoscaler.enabled $v.supervisor.enabled) (not $egress.apiServerCidrs) -}}
{{- fail "networkPolicy.egress.enabled is true and networkPolicy.egress.apiServerCidrs is empty: autoscaler and supervisor could not reach the API server. List its addresses: kubectl get endpointslices -n default -l kubernetes.io/service-name=kubernetes, and the cluster IP of the Service kubernetes." -}}
{{- end -}}
{{- if and $v.podDisruptionBudget.enabled (eq $v.mode "job") (not $v.supervisor.enabled) -}}
{{- fail "podDisruptionBudget.enabled is true and supervisor.enabled is false: the supervisor makes the budget of each run. Set supervisor.enabled=true, or podDisruptionBudget.enabled=false." -}}
{{- end -}}
{{- if and $v.submitter.admissionPolicy.enabled (semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "submitter.admissionPolicy.enabled is true and Kubernetes is %s: ValidatingAdmissionPolicy needs 1.30 or later. Set submitter.admissionPolicy.enabled=false." .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- $groups := include "zooforge.groups" . | fromYaml -}}
{{- if not $groups -}}
{{- fail "no worker group is enabled: nothing would train. Set workerGroups.NAME." -}}
{{- end -}}
{{- range $path, $pod := dict "head" $v.head "autoscaler" $v.autoscaler "exporter" $v.exporter "embeddedStore" $v.embeddedStore -}}
{{- include "zooforge.checkResources" (dict "path" $path "pod" $pod) -}}
{{- end -}}
{{- range $name, $group := $groups -}}
{{- $path := printf "workerGroups.%s" $name -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "%s: the name of a group starts with a letter and has only a-z, 0-9 and '-'." $path) -}}
{{- end -}}
{{- include "zooforge.checkResources" (dict "path" $path "pod" $group) -}}
{{- if and (gt (int $group.gpu.count) 1) (contains "/mig-" $group.gpu.resource) -}}
{{- fail (printf "%s.gpu.count is %d and gpu.resource is %s: a process can use one MIG slice only. Set gpu.count=1 and raise maxReplicas." $path (int $group.gpu.count) $group.gpu.resource) -}}
{{- end -}}
{{- $slots := mul $group.gpu.count $.Values.workersPerGpu -}}
{{- if gt (float64 $slots) (include "zooforge.quantity" $group.cpu | float64 | ceil) -}}
{{- fail (printf "%s.cpu is %v, but %d workers share its GPUs (gpu.count x workersPerGpu) and each needs a core. Raise cpu, or lower workersPerGpu." $path $group.cpu $slots) -}}
{{- end -}}
{{- if gt (int $group.minReplicas) (int $group.maxReplicas) -}}
{{- fail (printf "%s: minReplicas is %d and maxReplicas is %d; maxReplicas must not be smaller." $path (int $group.minReplicas) (int $group.maxReplicas)) -}}
{{- end -}}
{{- if and $.Values.autoscaler.enabled (gt (int $group.replicas) 0) -}}
{{- fail (printf "%s.replicas is %d and autoscaler.enabled is true: both would set the number of workers. Use minReplicas and maxReplicas, or switch the autoscaler off." $path (int $group.replicas)) -}}
{{- end -}}
{{- if and (not $.Values.autoscaler.enabled) (lt (int $group.replicas) 1) -}}
{{- fail (printf "%s.replicas is %d and autoscaler.enabled is false: the group would never have a worker. Set replicas, or enabled=false for the group." $path (int $group.replicas)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Resources of one pod: .path .pod */}}
{{- define "zooforge.checkResources" -}}
{{- $pod := .pod -}}
{{- if and $pod.cpuRequest (gt (include "zooforge.quantity" $pod.cpuRequest | float64) (include "zooforge.quantity" $pod.cpu | float64)) -}}
{{- fail (printf "%s.cpuRequest is %v and %s.cpu, the limit, is %v; a request must not exceed its limit." .path $pod.cpuRequest .path $pod.cpu) -}}
{{- end -}}
{{- if $pod.objectStoreMemory -}}
{{- $shared := include "zooforge.sharedMemoryBytes" $pod | float64 -}}
{{- if le (include "zooforge.quantity" $pod.memory | float64) $shared -}}
{{- fail (printf "%s.memory is %v, but /dev/shm (objectStoreMemory and 64Mi) takes %.0f bytes of it; nothing would be left for the processes. Raise memory, or lower objectStoreMemory." .path $pod.memory $shared) -}}
{{- end -}}
{{- end -}}
{{- end }}
