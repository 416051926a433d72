{{- define "embedfleet.name" -}}
{{ printf "%s" .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "embedfleet.labels" -}}
app.kubernetes.io/name: embedfleet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "embedfleet.selector" -}}
app.kubernetes.io/name: embedfleet
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "embedfleet.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "embedfleet.name" .) }}
{{- end }}

{{- define "embedfleet.image" -}}
{{ printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) }}
{{- end }}

{{/* No manifest contains a secret: values come from Secrets by reference. */}}
{{- define "embedfleet.env" -}}
- name: EMBEDFLEET_OUT
  value: {{ required "out is needed: s3://bucket/prefix" .Values.out | quote }}
- name: EMBEDFLEET_MODEL
  value: {{ .Values.model | quote }}
- name: EMBEDFLEET_FLEET
  value: {{ .Values.fleet | quote }}
- name: EMBEDFLEET_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
- name: EMBEDFLEET_METRICS_HOST
  value: "0.0.0.0"
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "redis.existingSecret is needed" .Values.redis.existingSecret }}
      key: {{ .Values.redis.key }}
- name: EMBEDFLEET_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ required "token.existingSecret is needed" .Values.token.existingSecret }}
      key: {{ .Values.token.key }}
- name: AWS_REGION
  value: {{ .Values.s3.region | quote }}
{{- with .Values.s3.endpoint }}
- name: AWS_ENDPOINT_URL_S3
  value: {{ . | quote }}
{{- end }}
{{- with .Values.s3.existingSecret }}
{{- range $key := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $key }}
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.s3.existingSecret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "embedfleet.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "embedfleet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end }}

{{- define "embedfleet.volumes" -}}
- name: tmp
  emptyDir: {}
- name: models
{{- if .Values.models.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ .Values.models.existingClaim }}
{{- else }}
  emptyDir:
    sizeLimit: {{ .Values.models.sizeLimit }}
{{- end }}
{{- end }}

{{- define "embedfleet.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: models
  mountPath: /models
{{- end }}

{{/* Fills an emptyDir with the model. You fill a shared claim once, by hand or with your own Job. */}}
{{- define "embedfleet.pull" -}}
{{- if and (not .root.Values.models.existingClaim) (ne .root.Values.model "mini") }}
initContainers:
  - name: pull-model
    image: {{ include "embedfleet.image" (dict "root" .root "image" .root.Values.image) }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      - models
      - pull
      - {{ .root.Values.model | quote }}
      {{- with .root.Values.models.mirror }}
      - --from
      - {{ . | quote }}
      {{- end }}
    env:
      {{- include "embedfleet.env" .root | nindent 6 }}
    securityContext:
      {{- include "embedfleet.containerSecurity" . | nindent 6 }}
    volumeMounts:
      {{- include "embedfleet.mounts" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* The pod of one worker class: called with root and worker. */}}
{{- define "embedfleet.workerPod" -}}
metadata:
  labels:
    {{- include "embedfleet.selector" (dict "root" .root "component" (printf "worker-%s" .worker.name)) | nindent 4 }}
spec:
  serviceAccountName: {{ include "embedfleet.serviceAccount" .root }}
  automountServiceAccountToken: false
  # A Service named like a setting would set it: EMBEDFLEET_CONTROL_PORT=tcp://…
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .worker.terminationGracePeriodSeconds }}
  {{- if eq .worker.kind "ScaledJob" }}
  restartPolicy: Never
  {{- end }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "embedfleet.podSecurity" . | nindent 4 }}
  {{- include "embedfleet.pull" . | nindent 2 }}
  containers:
    - name: worker
      {{- if hasPrefix "cpu" .worker.device }}
      image: {{ include "embedfleet.image" (dict "root" .root "image" .root.Values.image) }}
      {{- else }}
      image: {{ include "embedfleet.image" (dict "root" .root "image" .root.Values.cudaImage) }}
      {{- end }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args:
        - work
        - --device
        - {{ .worker.device | quote }}
        {{- with .worker.threads }}
        - --threads
        - {{ . | quote }}
        {{- end }}
        {{- if eq .worker.kind "ScaledJob" }}
        - --exit-when-done
        {{- end }}
        {{- range .worker.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      env:
        - name: EMBEDFLEET_METRICS_PORT
          value: "9464"
        {{- include "embedfleet.env" .root | nindent 8 }}
      ports:
        - name: metrics
          containerPort: 9464
          protocol: TCP
      {{- if ne .worker.kind "ScaledJob" }}
      # Reports progress: it fails when a device hangs, and other workers have the jobs by then.
      livenessProbe:
        httpGet:
          path: /healthz
          port: metrics
        initialDelaySeconds: 60
        periodSeconds: 30
        failureThreshold: 4
      {{- end }}
      startupProbe:
        httpGet:
          path: /healthz
          port: metrics
        periodSeconds: 10
        failureThreshold: 60
      resources:
        {{- toYaml .worker.resources | nindent 8 }}
      securityContext:
        {{- include "embedfleet.containerSecurity" . | nindent 8 }}
      volumeMounts:
        {{- include "embedfleet.mounts" . | nindent 8 }}
  {{- with .worker.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .worker.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumes:
    {{- include "embedfleet.volumes" .root | nindent 4 }}
{{- end }}

{{/* Scales on the tokens that control counts from the plan; scaling on jobs would kill busy pods. */}}
{{- define "embedfleet.trigger" -}}
- type: metrics-api
  metadata:
    url: http://{{ include "embedfleet.name" .root }}-control.{{ .root.Release.Namespace }}.svc:{{ .root.Values.control.port }}/api/backlog
    valueLocation: tokens
    targetValue: {{ .worker.autoscaling.tokensPerWorker | int64 | quote }}
    activationTargetValue: "0"
    authMode: bearer
  authenticationRef:
    name: {{ include "embedfleet.name" .root }}-control
{{- end }}
