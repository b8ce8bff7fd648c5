{{/*
A native sidecar (Kubernetes 1.29) for a pod of any chart that has this one as a dependency, with stubTarget.enabled: false:

    {{- include "mcsdns.sidecarPod" (dict "namespace" .Release.Namespace) | nindent 2 }}
    initContainers:
    {{- include "mcsdns.sidecar" (dict "image" "registry.example/mcsdns:0.1.0" "stubAddress" "10.96.0.53" "upstream" "10.96.0.10") | nindent 4 }}

Optional: zone, clusterDomain, pullPolicy, resources. It holds no zone and reads no API.
*/}}
{{- define "mcsdns.sidecar" -}}
{{- $zone := .zone | default "clusterset.local" -}}
- name: mcsdns
  image: {{ .image }}
  imagePullPolicy: {{ .pullPolicy | default "IfNotPresent" }}
  # A sidecar: the containers start when its startup probe is content, and it ends after them.
  restartPolicy: Always
  args:
  - serve
  - --source=none
  - --listen=127.0.0.1:53
  - --probes=:9453
  - --admin=none
  - --lameduck=0
  - --log-format=json
  - --cache-bytes=16777216
  - --tcp-connections=100
  - --tcp-bytes=8388608
  - --forward-limit=1024
  env:
  - name: MCSDNS_STUB_ZONE
    value: {{ printf "%s=%s" $zone (required "stubAddress of the sidecar is missing: the address of the mcsdns Service" .stubAddress) | quote }}
  - name: MCSDNS_UPSTREAM
    value: {{ required "upstream of the sidecar is missing: the address of the cluster DNS" .upstream | quote }}
  ports:
  - name: mcsdns-probes
    protocol: TCP
    containerPort: 9453
  startupProbe:
    httpGet:
      path: /readyz
      port: mcsdns-probes
    periodSeconds: 1
    failureThreshold: 60
  livenessProbe:
    httpGet:
      path: /healthz
      port: mcsdns-probes
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 5
  {{- with .resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
{{- end }}

{{/* What the pod around it needs: its resolver, and port 53 for a user who is not root. */}}
{{- define "mcsdns.sidecarPod" -}}
{{- $domain := .clusterDomain | default "cluster.local" -}}
dnsPolicy: None
dnsConfig:
  nameservers: [127.0.0.1]
  searches:
  - {{ .namespace }}.svc.{{ $domain }}
  - svc.{{ $domain }}
  - {{ $domain }}
  options:
  - name: ndots
    value: "5"
securityContext:
  sysctls:
  - name: net.ipv4.ip_unprivileged_port_start
    value: "53"
{{- end }}
