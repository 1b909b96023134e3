//! The parts of a node: their names, binaries and arguments.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layout::{API_PORT, Layout, NODE_ADDRESS, NODE_NAME, POD_CIDR, SERVICE_CIDR};

/// One supervised process of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The store behind the API server.
    Etcd,
    /// The container runtime. Its shims, and with them the pods, outlive it.
    Containerd,
    /// The API server.
    KubeApiserver,
    /// The node agent.
    Kubelet,
    /// Service addresses, by nftables.
    KubeProxy,
    /// Every built-in controller.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
}

impl Part {
    /// Every part, in the order in which they are started.
    pub const ALL: [Part; 7] = [
        Part::Etcd,
        Part::Containerd,
        Part::KubeApiserver,
        Part::Kubelet,
        Part::KubeProxy,
        Part::KubeControllerManager,
        Part::KubeScheduler,
    ];

    /// The part's name, which is also its log's.
    pub fn name(self) -> &'static str {
        match self {
            Part::Etcd => "etcd",
            Part::Containerd => "containerd",
            Part::KubeApiserver => "kube-apiserver",
            Part::KubeProxy => "kube-proxy",
            Part::Kubelet => "kubelet",
            Part::KubeControllerManager => "kube-controller-manager",
            Part::KubeScheduler => "kube-scheduler",
        }
    }

    /// Whether the part is held back until `/readyz` says ok. Before that the controller manager exits ("configmaps
    /// extension-apiserver-authentication is forbidden": RBAC is not filled in yet) and the scheduler logs refusals.
    /// kube-proxy would survive, but is refused the nodes at first and then backs off for up to four seconds, while
    /// CoreDNS and whoever needs it wait for its rules. The others retry until they find each other.
    pub(crate) fn waits_for_api_server(self) -> bool {
        matches!(self, Part::KubeProxy | Part::KubeControllerManager | Part::KubeScheduler)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The binaries of a box that are not the machine's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Binaries {
    pub(crate) kubenode: PathBuf,
    pub(crate) containerd: PathBuf,
}

/// Program and arguments of `part`.
pub(crate) fn command(part: Part, layout: &Layout, binaries: &Binaries) -> (PathBuf, Vec<String>) {
    let path = |relative: &str| layout.path(relative).display().to_string();
    let pki = |file: &str| layout.pki(file).display().to_string();
    let kubeconfig = |user: &str| layout.kubeconfig(user).display().to_string();
    let flags = match part {
        Part::Etcd => vec![
            format!("--data-dir={}", path("etcd")),
            // The box does not outlive a crash of the machine, so its store need not either.
            "--unsafe-no-fsync".into(),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            "--initial-advertise-peer-urls=http://127.0.0.1:2380".into(),
            "--initial-cluster=default=http://127.0.0.1:2380".into(),
            "--log-level=warn".into(),
        ],
        Part::Containerd => {
            return (binaries.containerd.clone(), vec!["--config".into(), path("containerd.toml")]);
        }
        Part::KubeApiserver => vec![
            "--etcd-servers=http://127.0.0.1:2379".into(),
            format!("--advertise-address={NODE_ADDRESS}"),
            format!("--secure-port={API_PORT}"),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            format!("--client-ca-file={}", pki("ca.crt")),
            format!("--kubelet-client-certificate={}", pki("apiserver-kubelet-client.crt")),
            format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", pki("ca.crt")),
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!("--service-account-key-file={}", pki("sa.pub")),
            format!("--service-account-signing-key-file={}", pki("sa.key")),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--allow-privileged=true".into(),
            format!("--requestheader-client-ca-file={}", pki("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            format!("--proxy-client-cert-file={}", pki("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", pki("front-proxy-client.key")),
            "--enable-priority-and-fairness=false".into(),
            // Beyond the defaults of 200 and 400, which would answer 429 where scenarios ask for a crowd.
            "--max-mutating-requests-inflight=1000".into(),
            "--max-requests-inflight=2000".into(),
            format!("--audit-policy-file={}", path("audit.yaml")),
            format!("--audit-log-path={}", layout.audit_log().display()),
            "--profiling=false".into(),
        ],
        Part::KubeProxy => vec![format!("--config={}", path("kube-proxy.yaml"))],
        Part::Kubelet => vec![
            format!("--config={}", path("kubelet.yaml")),
            format!("--kubeconfig={}", kubeconfig("kubelet")),
            format!("--hostname-override={NODE_NAME}"),
            format!("--node-ip={NODE_ADDRESS}"),
            format!("--root-dir={}", path("kubelet")),
            format!("--cert-dir={}", path("kubelet/pki")),
        ],
        Part::KubeControllerManager => vec![
            format!("--kubeconfig={}", kubeconfig("kcm")),
            format!("--authentication-kubeconfig={}", kubeconfig("kcm")),
            format!("--authorization-kubeconfig={}", kubeconfig("kcm")),
            format!("--service-account-private-key-file={}", pki("sa.key")),
            format!("--root-ca-file={}", pki("ca.crt")),
            format!("--cluster-signing-cert-file={}", pki("ca.crt")),
            format!("--cluster-signing-key-file={}", pki("ca.key")),
            "--use-service-account-credentials".into(),
            "--allocate-node-cidrs".into(),
            format!("--cluster-cidr={POD_CIDR}"),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
            "--kube-api-qps=200".into(),
            "--kube-api-burst=400".into(),
            // Without this it makes /usr/libexec/kubernetes on the machine.
            format!("--flex-volume-plugin-dir={}", path("volumeplugins")),
        ],
        Part::KubeScheduler => vec![
            format!("--kubeconfig={}", kubeconfig("scheduler")),
            format!("--authentication-kubeconfig={}", kubeconfig("scheduler")),
            format!("--authorization-kubeconfig={}", kubeconfig("scheduler")),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
        ],
    };
    let mut arguments = vec![part.name().to_owned()];
    arguments.extend(flags);
    (binaries.kubenode.clone(), arguments)
}
