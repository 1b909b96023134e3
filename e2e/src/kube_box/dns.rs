//! CoreDNS as a pod, as every cluster has it.

use super::layout::{CLUSTER_DOMAIN, DNS_ADDRESS};

pub(crate) const IMAGE: &str = "mesh.local/coredns:1";
pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const DEPLOYMENT: &str = "coredns";

/// The manifests: service account, role, configuration, Deployment and the Service `kube-dns`.
pub(crate) fn manifests() -> String {
    // `template` answers for the outside world at once: nothing there would. In our CoreDNS it comes after `kubernetes`
    // and `hosts` (e2e/go/coredns/main.go).
    format!(
        r#"apiVersion: v1
kind: ServiceAccount
metadata: {{name: coredns, namespace: {NAMESPACE}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: "system:coredns"}}
rules:
- {{apiGroups: [""], resources: [services, pods, namespaces], verbs: [list, watch]}}
- {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: "system:coredns"}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:coredns"}}
subjects:
- {{kind: ServiceAccount, name: coredns, namespace: {NAMESPACE}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: coredns, namespace: {NAMESPACE}}}
data:
  Corefile: |
    .:53 {{
      errors
      health {{
        lameduck 0s
      }}
      ready
      kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        ttl 5
      }}
      hosts /etc/coredns/hosts {{
        fallthrough
      }}
      template ANY ANY . {{
        rcode NXDOMAIN
      }}
      cache 5
      loop
      reload
    }}
  # Addresses of names outside the cluster, for tests that need some.
  hosts: ""
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {DEPLOYMENT}
  namespace: {NAMESPACE}
  labels: {{k8s-app: kube-dns}}
spec:
  replicas: 1
  selector: {{matchLabels: {{k8s-app: kube-dns}}}}
  template:
    metadata: {{labels: {{k8s-app: kube-dns}}}}
    spec:
      priorityClassName: system-cluster-critical
      serviceAccountName: coredns
      dnsPolicy: Default
      containers:
      - name: coredns
        image: {IMAGE}
        args: [-conf, /etc/coredns/Corefile]
        ports:
        - {{name: dns, containerPort: 53, protocol: UDP}}
        - {{name: dns-tcp, containerPort: 53, protocol: TCP}}
        readinessProbe: {{httpGet: {{path: /ready, port: 8181}}, periodSeconds: 1}}
        volumeMounts:
        - {{name: config, mountPath: /etc/coredns, readOnly: true}}
      volumes:
      - {{name: config, configMap: {{name: coredns}}}}
---
apiVersion: v1
kind: Service
metadata:
  name: kube-dns
  namespace: {NAMESPACE}
  labels: {{k8s-app: kube-dns, kubernetes.io/name: CoreDNS}}
spec:
  clusterIP: {DNS_ADDRESS}
  selector: {{k8s-app: kube-dns}}
  ports:
  - {{name: dns, port: 53, protocol: UDP}}
  - {{name: dns-tcp, port: 53, protocol: TCP}}
"#
    )
}
