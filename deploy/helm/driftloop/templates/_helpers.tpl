{{- define "driftloop.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "driftloop.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "driftloop.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "driftloop.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Of all pods of the release; with (dict "root" $ "role" "monitor") of one role. */}}
{{- define "driftloop.selector" -}}
app.kubernetes.io/name: driftloop
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* Every manifest has labels, so that whichever is rendered first refuses wrong values. */}}
{{- define "driftloop.labels" -}}
{{- include "driftloop.validate" .root }}
{{ include "driftloop.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "driftloop.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "driftloop.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "driftloop.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{- define "driftloop.kafkaCluster" -}}{{ include "driftloop.fullname" . }}-kafka{{- end }}

{{/* What the chart sets, as {section: {key: value}}; the values' own settings are merged into it. */}}
{{- define "driftloop.settings" -}}
{{- $name := include "driftloop.fullname" . -}}
{{- $hosts := concat .Values.exposure.inference.hosts .Values.exposure.control.hosts -}}
{{- range list "serving" "gateway" -}}
{{- $service := printf "%s-%s" $name . -}}
{{- $hosts = concat $hosts (list $service (printf "%s.%s" $service $.Release.Namespace) (printf "%s.%s.svc" $service $.Release.Namespace) (printf "%s.%s.svc.cluster.local" $service $.Release.Namespace)) -}}
{{- end -}}
{{- $given := deepCopy .Values.settings -}}
{{- $control := default dict $given.control -}}
{{- $hosts = concat $hosts (default list $control.hosts) | uniq -}}
{{- $ours := dict
  "serving" (dict "host" "0.0.0.0" "port" .Values.serving.port "grpc_port" .Values.serving.grpcPort "ingress" "direct")
  "control" (dict "host" "0.0.0.0" "port" .Values.gateway.port "insecure" true "hosts" $hosts)
  "kafka" (dict) -}}
{{- if eq .Values.serving.mode "single" -}}
{{- $_ := set $ours.serving "ray_port" 6379 -}}
{{- end -}}
{{- if eq .Values.kafka.mode "strimzi" -}}
{{- $_ := set $ours "kafka" (dict "bootstrap_servers" (printf "%s-kafka-bootstrap:9093" (include "driftloop.kafkaCluster" .)) "security_protocol" "SASL_SSL" "sasl_mechanism" "SCRAM-SHA-512" "sasl_username" $name "ssl_cafile" "/etc/driftloop/kafka-ca/ca.crt") -}}
{{- else -}}
{{- $_ := set $ours "kafka" (dict "bootstrap_servers" .Values.kafka.bootstrapServers "security_protocol" .Values.kafka.securityProtocol) -}}
{{- with .Values.kafka.saslMechanism }}{{- $_ := set $ours.kafka "sasl_mechanism" . -}}{{- end -}}
{{- if .Values.kafka.caSecret }}{{- $_ := set $ours.kafka "ssl_cafile" "/etc/driftloop/kafka-ca/ca.crt" -}}{{- end -}}
{{- end -}}
{{- mergeOverwrite $given $ours | toJson -}}
{{- end }}

{{/* The settings as environment variables; values are JSON, which is YAML. */}}
{{- define "driftloop.environment" -}}
{{- range $section, $keys := include "driftloop.settings" . | fromJson }}
{{- range $key, $value := $keys }}
{{- if not (kindIs "invalid" $value) }}
DRIFTLOOP_{{ upper $section }}__{{ upper $key }}: {{ toJson $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.objectStore.region }}
AWS_REGION: {{ . | quote }}
{{- end }}
{{- with .Values.objectStore.endpoint }}
AWS_ENDPOINT_URL: {{ . | quote }}
{{- if hasPrefix "http://" . }}
AWS_ALLOW_HTTP: "true"
{{- end }}
{{- end }}
DRIFTLOOP_STATE_DIR: /var/lib/driftloop
HOME: /tmp
{{- end }}

{{- define "driftloop.envFrom" -}}
- configMapRef: {name: {{ .configMap }}}
{{- with .root.Values.objectStore.existingSecret }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- range .root.Values.extraSecrets }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{- define "driftloop.env" -}}
- name: DRIFTLOOP_STORE__URL
  valueFrom: {secretKeyRef: {name: {{ .Values.store.existingSecret }}, key: {{ .Values.store.key }}}}
{{- with .Values.registry.existingSecret }}
- name: DRIFTLOOP_REGISTRY__URI
  valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $.Values.registry.key }}}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Kafka's credentials: not for the migration, which runs before Strimzi has made the user. */}}
{{- define "driftloop.kafkaEnv" -}}
{{- if eq .Values.kafka.mode "strimzi" }}
- name: DRIFTLOOP_KAFKA__SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "driftloop.fullname" . }}, key: password}}
{{- else if .Values.kafka.existingSecret }}
- name: DRIFTLOOP_KAFKA__SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ .Values.kafka.existingSecret }}, key: {{ .Values.kafka.usernameKey }}}}
- name: DRIFTLOOP_KAFKA__SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.kafka.existingSecret }}, key: {{ .Values.kafka.passwordKey }}}}
{{- end }}
{{- end }}

{{- define "driftloop.rayToken" -}}
{{- with .Values.serving.rayCluster.authSecret }}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: auth_token}}
{{- end }}
{{- end }}

{{- define "driftloop.securityContext" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* What every container of a role has beside its name, arguments and probes. */}}
{{- define "driftloop.container" -}}
image: {{ include "driftloop.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{ include "driftloop.securityContext" . }}
envFrom:
  {{- include "driftloop.envFrom" (dict "root" . "configMap" (include "driftloop.fullname" .)) | nindent 2 }}
env:
  {{- include "driftloop.env" . | nindent 2 }}
  {{- with include "driftloop.kafkaEnv" . | trim }}{{ . | nindent 2 }}{{ end }}
  {{- if eq .Values.serving.mode "rayCluster" }}
  - name: POD_IP
    valueFrom: {fieldRef: {fieldPath: status.podIP}}
  {{- include "driftloop.rayToken" . | nindent 2 }}
  {{- end }}
volumeMounts:
  - {name: state, mountPath: /var/lib/driftloop}
  - {name: tmp, mountPath: /tmp}
  {{- if or (eq .Values.kafka.mode "strimzi") .Values.kafka.caSecret }}
  - {name: kafka-ca, mountPath: /etc/driftloop/kafka-ca, readOnly: true}
  {{- end }}
{{- end }}

{{/* with (dict "root" $ "persistence" …) */}}
{{- define "driftloop.volumes" -}}
{{- if not (and .persistence .persistence.enabled) }}
- {name: state, emptyDir: {}}
{{- end }}
- {name: tmp, emptyDir: {}}
{{- if eq .root.Values.kafka.mode "strimzi" }}
- name: kafka-ca
  secret: {secretName: {{ include "driftloop.kafkaCluster" .root }}-cluster-ca-cert}
{{- else if .root.Values.kafka.caSecret }}
- name: kafka-ca
  secret:
    secretName: {{ .root.Values.kafka.caSecret }}
    items: [{key: {{ .root.Values.kafka.caKey }}, path: ca.crt}]
{{- end }}
{{- end }}

{{- define "driftloop.claims" -}}
{{- if and .persistence .persistence.enabled }}
volumeClaimTemplates:
  - metadata: {name: state}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ .persistence.size }}}}
{{- end }}
{{- end }}

{{/* Of a pod's spec; with (dict "root" $ "of" .Values.monitor). Without service links: Kubernetes
would add variables such as DRIFTLOOP_GATEWAY_PORT, which are unknown settings. */}}
{{- define "driftloop.pod" -}}
serviceAccountName: {{ include "driftloop.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .of.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A role touches a file after each cycle; the longest cycle may take 15 minutes. */}}
{{- define "driftloop.liveness" -}}
livenessProbe:
  exec:
    command: [sh, -c, 'test -n "$(find /var/lib/driftloop/run/alive/{{ . }} -mmin -20)"']
  periodSeconds: 60
  timeoutSeconds: 10
  failureThreshold: 3
{{- end }}

{{/* New settings restart the pods. */}}
{{- define "driftloop.annotations" -}}
checksum/settings: {{ include "driftloop.environment" .root | sha256sum }}
{{- with .of.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}
