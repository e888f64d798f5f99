{{/* Combinations of values that cannot work: each stops the install with a sentence. */}}
{{- define "zooforge.checks" -}}
{{- $v := .Values -}}
{{- $_ := include "zooforge.fullname" . -}}
{{- if and $v.embeddedStore.enabled (or $v.storage.url $v.storage.endpoint) -}}
{{- fail "embeddedStore.enabled is true and storage.url or storage.endpoint is set: the embedded store is the store then. Leave both empty, or set embeddedStore.enabled=false." -}}
{{- end -}}
{{- if not (or $v.embeddedStore.enabled $v.storage.url) -}}
{{- fail "storage.url is empty: where shall zoos be kept? Set storage.url=s3://BUCKET/PREFIX, or embeddedStore.enabled=true to try things out." -}}
{{- end -}}
{{- if and (eq $v.storage.credentials "secret") (not $v.storage.existingSecret) -}}
{{- fail "storage.existingSecret is empty: make a Secret from an AWS credentials file (kubectl create secret generic zoo-store --from-file=credentials=FILE) and name it, or set storage.credentials=workload-identity." -}}
{{- end -}}
{{- if and (ne $v.storage.credentials "secret") $v.storage.existingSecret -}}
{{- fail (printf "storage.existingSecret is %q but storage.credentials is %q, so the Secret would not be used. Empty the one or set the other to secret." $v.storage.existingSecret $v.storage.credentials) -}}
{{- end -}}
{{- if and $v.embeddedStore.enabled (ne $v.storage.credentials "secret") -}}
{{- fail (printf "embeddedStore.enabled needs storage.credentials=secret (found %q): its identity comes from the Secret in storage.existingSecret." $v.storage.credentials) -}}
{{- end -}}
{{- if and $v.queue.name $v.autoscaler.enabled -}}
{{- fail (printf "queue.name is %q and autoscaler.enabled is true: Kueue admits a fixed number of pods. Set autoscaler.enabled=false and workerGroups.NAME.replicas." $v.queue.name) -}}
{{- end -}}
{{- if lt (int $v.drain.gracePeriodSeconds) (add (int $v.drain.timeoutSeconds) 20 | int) -}}
{{- fail (printf "drain.gracePeriodSeconds is %d and drain.timeoutSeconds is %d: the grace period must be at least 20 s longer, or pods are killed while they commit." (int $v.drain.gracePeriodSeconds) (int $v.drain.timeoutSeconds)) -}}
{{- end -}}
{{- if and $v.auth.existingSecret (not $v.auth.enabled) -}}
{{- fail (printf "auth.existingSecret is %q and auth.enabled is false: without token authentication anyone who reaches the dashboard can run code. Set auth.enabled=true, or empty auth.existingSecret." $v.auth.existingSecret) -}}
{{- end -}}
{{- if and $v.auth.enabled (semverCompare "<2.52.0-0" $v.rayVersion) -}}
{{- fail (printf "rayVersion is %s and auth.enabled is true: Ray knows tokens from 2.52 on. Use a newer image." $v.rayVersion) -}}
{{- end -}}
{{- if and $v.networkPolicy.egress.enabled (not $v.networkPolicy.enabled) -}}
{{- fail "networkPolicy.egress.enabled is true and networkPolicy.enabled is false: egress is part of the policy. Set networkPolicy.enabled=true." -}}
{{- end -}}
{{- if and $v.networkPolicy.egress.enabled (not $v.embeddedStore.enabled) (not $v.networkPolicy.egress.storeCidrs) -}}
{{- fail "networkPolicy.egress.enabled is true and networkPolicy.egress.storeCidrs is empty: the pods could not reach the store. Name its address blocks." -}}
{{- end -}}
{{- $groups := include "zooforge.groups" . | fromYaml -}}
{{- if not $groups -}}
{{- fail "no worker group is enabled: nothing would train. Set workerGroups.NAME." -}}
{{- end -}}
{{- range $name, $group := $groups -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "workerGroups.%s: the name of a group starts with a letter and has only a-z, 0-9 and '-'." $name) -}}
{{- end -}}
{{- if gt (int $group.minReplicas) (int $group.maxReplicas) -}}
{{- fail (printf "workerGroups.%s: minReplicas is %d and maxReplicas is %d; at least as many must be allowed as are kept." $name (int $group.minReplicas) (int $group.maxReplicas)) -}}
{{- end -}}
{{- if and $.Values.autoscaler.enabled (gt (int $group.replicas) 0) -}}
{{- fail (printf "workerGroups.%s.replicas is %d and autoscaler.enabled is true: two would fight over the number of workers. Use minReplicas and maxReplicas, or switch the autoscaler off." $name (int $group.replicas)) -}}
{{- end -}}
{{- if and (not $.Values.autoscaler.enabled) (lt (int $group.replicas) 1) -}}
{{- fail (printf "workerGroups.%s.replicas is %d and autoscaler.enabled is false: the group would never have a worker. Set replicas, or enabled=false for the group." $name (int $group.replicas)) -}}
{{- end -}}
{{- end -}}
{{- end }}
