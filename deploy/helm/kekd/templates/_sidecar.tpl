{{/*
The templates for your StatefulSet. Call them in your chart, which has this one as its dependency:

  template:
    metadata:
      labels: {{- include "kekd.podLabels" .Subcharts.kekd | nindent 8 }}
      annotations: {{- include "kekd.podAnnotations" .Subcharts.kekd | nindent 8 }}
    spec:
      initContainers: {{- include "kekd.containers" .Subcharts.kekd | nindent 8 }}
      containers:
        - name: yours
          env: {{- include "kekd.clientEnv" .Subcharts.kekd | nindent 12 }}
          volumeMounts: {{- include "kekd.clientVolumeMounts" .Subcharts.kekd | nindent 12 }}
      volumes: {{- include "kekd.volumes" .Subcharts.kekd | nindent 8 }}
*/}}

{{- define "kekd.fullname" -}}
{{ printf "%s-kekd" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "kekd.labels" -}}
app.kubernetes.io/name: kekd
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: key-envelope-daemon
app.kubernetes.io/part-of: cyborgdb
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "kekd.podLabels" -}}
kekd: sidecar
{{- end }}

{{/* A changed configuration restarts the pods. kekd itself reloads only the policy. */}}
{{- define "kekd.podAnnotations" -}}
kekd/config: {{ toYaml .Values.config | sha256sum }}
{{- end }}

{{- define "kekd.address" -}}
{{ (first .Values.config.listen).address }}
{{- end }}

{{- define "kekd.clientEnv" -}}
- {name: KEKD_ADDRESS, value: {{ include "kekd.address" . | quote }}}
{{- end }}

{{- define "kekd.clientVolumeMounts" -}}
- {name: kekd-run, mountPath: /run/pod, readOnly: true}
{{- end }}

{{- define "kekd.volumes" -}}
- name: kekd-config
  configMap: {name: {{ include "kekd.fullname" . }}}
- name: kekd-run
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}

{{/* A native sidecar. The pod must run all containers as one user. */}}
{{- define "kekd.containers" -}}
- name: kekd
  image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args: [--config, /etc/kekd/kekd.yaml]
  env:
    {{- include "kekd.clientEnv" . | nindent 4 }}
    {{- with .Values.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - {name: metrics, containerPort: {{ include "kekd.metricsPort" . }}}
  startupProbe:
    httpGet: {path: /livez, port: metrics, scheme: {{ include "kekd.probeScheme" . }}}
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: 30
  livenessProbe:
    httpGet: {path: /livez, port: metrics, scheme: {{ include "kekd.probeScheme" . }}}
    periodSeconds: 30
    timeoutSeconds: 5
  readinessProbe:
    httpGet: {path: /readyz, port: metrics, scheme: {{ include "kekd.probeScheme" . }}}
    periodSeconds: 15
    timeoutSeconds: 5
  resources: {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  volumeMounts:
    - {name: kekd-config, mountPath: /etc/kekd, readOnly: true}
    - {name: kekd-run, mountPath: /run/pod}
    {{- with .Values.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* `metrics` is an address, or a mapping with an address and TLS files. */}}
{{- define "kekd.metricsAddress" -}}
{{- if kindIs "map" .Values.config.metrics }}{{ .Values.config.metrics.address }}{{ else }}{{ .Values.config.metrics }}{{ end }}
{{- end }}

{{- define "kekd.metricsPort" -}}
{{ include "kekd.metricsAddress" . | splitList ":" | last }}
{{- end }}

{{- define "kekd.probeScheme" -}}
{{ kindIs "map" .Values.config.metrics | ternary "HTTPS" "HTTP" }}
{{- end }}
