{{/* Values that contradict each other, each refused with a sentence. */}}
{{- define "driftloop.validate" -}}
{{- $kafka := .Values.kafka -}}
{{- $settings := .Values.settings -}}
{{- if not .Values.store.existingSecret -}}
{{- fail "store.existingSecret is empty: roles on several machines share a PostgreSQL database; name a Secret with its URL" -}}
{{- end -}}
{{- if not (hasPrefix "s3://" (default "" $settings.lake.uri)) -}}
{{- fail "settings.lake.uri must be s3://BUCKET/PREFIX: pods share no folder" -}}
{{- end -}}
{{- if not (hasPrefix "s3://" (default "" $settings.registry.artifacts)) -}}
{{- fail "settings.registry.artifacts must be s3://BUCKET/PREFIX: pods share no folder" -}}
{{- end -}}
{{- if not (or .Values.registry.existingSecret $settings.registry.uri) -}}
{{- fail "name MLflow's database or server: registry.existingSecret (a Secret with its URI), or settings.registry.uri if it has no password" -}}
{{- end -}}
{{- if and .Values.registry.existingSecret $settings.registry.uri -}}
{{- fail "registry.existingSecret and settings.registry.uri are both set; keep one" -}}
{{- end -}}
{{- if and (eq $kafka.mode "external") (not $kafka.bootstrapServers) -}}
{{- fail "kafka.mode is external, so kafka.bootstrapServers must name the brokers; or use kafka.mode=strimzi" -}}
{{- end -}}
{{- if and (eq $kafka.mode "strimzi") (or $kafka.bootstrapServers $kafka.existingSecret $kafka.caSecret) -}}
{{- fail "kafka.mode is strimzi, which makes addresses and credentials itself: leave kafka.bootstrapServers, kafka.existingSecret and kafka.caSecret empty" -}}
{{- end -}}
{{- if and (eq $kafka.mode "external") (hasPrefix "SASL" $kafka.securityProtocol) (not $kafka.existingSecret) -}}
{{- fail (printf "kafka.securityProtocol is %s, so kafka.existingSecret must name a Secret with the user and the password" $kafka.securityProtocol) -}}
{{- end -}}
{{- if and (eq $kafka.mode "external") $kafka.existingSecret (not (hasPrefix "SASL" $kafka.securityProtocol)) -}}
{{- fail (printf "kafka.existingSecret is set, but kafka.securityProtocol %s sends no password; use SASL_SSL" $kafka.securityProtocol) -}}
{{- end -}}
{{- $partitions := int (dig "kafka" "partitions" 2 $settings) -}}
{{- if gt (int .Values.archiver.replicas) $partitions -}}
{{- fail (printf "archiver.replicas is %d, but topics have %d partitions (settings.kafka.partitions): the other archivers would have no work" (int .Values.archiver.replicas) $partitions) -}}
{{- end -}}
{{- if and (not .Values.networkPolicy.enabled) (not .Values.acceptUnauthenticated) -}}
{{- fail "networkPolicy.enabled is false, so every pod of the cluster could deploy models, which runs code: callers are not authenticated; set acceptUnauthenticated=true if something else keeps them out" -}}
{{- end -}}
{{- range $api, $exposed := .Values.exposure -}}
{{- if and (ne $exposed.type "none") (not $.Values.acceptUnauthenticated) -}}
{{- fail (printf "exposure.%s makes an API reachable from outside of the cluster, whose callers are not authenticated; put a proxy that asks for credentials in front and set acceptUnauthenticated=true" $api) -}}
{{- end -}}
{{- if and (ne $exposed.type "none") (not $exposed.hosts) -}}
{{- fail (printf "exposure.%s.type is %s, so exposure.%s.hosts must name a host" $api $exposed.type $api) -}}
{{- end -}}
{{- if and (eq $exposed.type "gatewayApi") (not $exposed.parentRefs) -}}
{{- fail (printf "exposure.%s.type is gatewayApi, so exposure.%s.parentRefs must name a Gateway" $api $api) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.serving.mode "rayCluster" -}}
{{- range .Values.serving.rayCluster.workers -}}
{{- if or (gt (int .minReplicas) (int .replicas)) (gt (int .replicas) (int .maxReplicas)) -}}
{{- fail (printf "serving.rayCluster.workers: %s has %d replicas, which is not between minReplicas %d and maxReplicas %d" .name (int .replicas) (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
