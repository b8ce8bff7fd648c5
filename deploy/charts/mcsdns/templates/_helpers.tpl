{{- define "mcsdns.name" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* What a selector asks for, without the component. */}}
{{- define "mcsdns.selector" -}}
app.kubernetes.io/name: mcsdns
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mcsdns.labels" -}}
{{ include "mcsdns.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "mcsdns.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* All that mcsdns asks of the API. No get: a list of everything comes first, the watch after it brings the changes. */}}
{{- define "mcsdns.rules" -}}
- apiGroups: [multicluster.x-k8s.io]
  resources: [serviceimports]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
{{- end }}

{{/* The addresses of the Service, or an error that says what to choose. */}}
{{- define "mcsdns.clusterIPs" -}}
{{- if not .Values.service.clusterIPs }}
{{- fail "service.clusterIPs is missing: stub blocks keep the number, so choose a free address in the low part of the cluster's Service range, such as --set service.clusterIPs={10.96.0.53}" }}
{{- end }}
{{- join "," .Values.service.clusterIPs }}
{{- end }}

{{/* ADDR:PORT, IPv6 in brackets. */}}
{{- define "mcsdns.socket" -}}
{{- if contains ":" .address }}[{{ .address }}]:{{ .port }}{{ else }}{{ .address }}:{{ .port }}{{ end }}
{{- end }}

{{/* The argument is the address to probe; empty: that of the pod. */}}
{{- define "mcsdns.probes" -}}
startupProbe:
  httpGet:
    path: /healthz
    {{- with . }}
    host: {{ . }}
    {{- end }}
    port: probes
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /healthz
    {{- with . }}
    host: {{ . }}
    {{- end }}
    port: probes
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 5
readinessProbe:
  httpGet:
    path: /readyz
    {{- with . }}
    host: {{ . }}
    {{- end }}
    port: probes
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
{{- end }}

{{/* A whole number as the API server writes it: 1000 is 1k, 2000000 is 2M. */}}
{{- define "mcsdns.quantity" -}}
{{- $number := int64 . -}}
{{- if or (eq $number 0) (mod $number 1000) }}{{ $number }}
{{- else if mod $number 1000000 }}{{ div $number 1000 }}k
{{- else if mod $number 1000000000 }}{{ div $number 1000000 }}M
{{- else }}{{ div $number 1000000000 }}G
{{- end }}
{{- end }}

{{- define "mcsdns.quota" -}}
apiVersion: v1
kind: ResourceQuota
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "mcsdns.labels" .root | nindent 4 }}
spec:
  hard:
    {{- /* As the API server stores it: 1000 is 1k there, and SSA has a conflict otherwise. */}}
    pods: {{ include "mcsdns.quantity" .pods | quote }}
  scopeSelector:
    matchExpressions:
    - scopeName: PriorityClass
      operator: In
      values: [{{ .class }}]
{{- end }}

{{/* The name of what is in no namespace: two releases of one name in two namespaces must not share it. */}}
{{- define "mcsdns.clusterName" -}}
{{ printf "%s:%s" .root.Release.Namespace .name | quote }}
{{- end }}

{{- define "mcsdns.clusterRole" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ include "mcsdns.clusterName" . }}
  labels:
    {{- include "mcsdns.labels" .root | nindent 4 }}
rules:
{{ include "mcsdns.rules" .root }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "mcsdns.clusterName" . }}
  labels:
    {{- include "mcsdns.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "mcsdns.clusterName" . }}
subjects:
- kind: ServiceAccount
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
{{- end }}

{{- define "mcsdns.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "mcsdns.labels" .root | nindent 4 }}
# The pod asks for its token itself; whatever else uses this account gets none.
automountServiceAccountToken: false
{{- end }}
