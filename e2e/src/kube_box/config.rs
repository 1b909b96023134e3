//! The configuration files of the parts, as text.
//!
//! JSON is YAML, but Kubernetes' loaders read a file that begins with a brace as JSON only; the comment on the first
//! line keeps the door open for people who edit one by hand.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::layout::{CLUSTER_DOMAIN, DNS_ADDRESS, Layout, NODE_NAME, POD_CIDR};

/// The image of every pod's sandbox.
pub const PAUSE_IMAGE: &str = "mesh.local/pause:1";

/// Writes every configuration file of the box.
pub(crate) fn write(layout: &Layout) -> Result<()> {
    for (file, text) in [
        ("containerd.toml", containerd(layout)),
        ("cni/10-mesh.conflist", format!("{:#}\n", cni())),
        ("kubelet.yaml", commented(&kubelet(layout))),
        ("kube-proxy.yaml", commented(&kube_proxy(layout))),
        ("audit.yaml", commented(&audit())),
        // Nothing outside the box answers, so the pods' resolver has no upstream.
        ("resolv.conf", String::new()),
    ] {
        let path = layout.path(file);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn commented(value: &Value) -> String {
    format!("# Written when the box is started.\n{value:#}\n")
}

fn containerd(layout: &Layout) -> String {
    let root = layout.path("containerd");
    let state = layout.path("run/containerd");
    let socket = layout.containerd_socket();
    let cni = layout.path("cni");
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.native", "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Sandboxes ask for an oom_score_adj of -998, which needs CAP_SYS_RESOURCE; without it runc dies.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        root = root.display(),
        state = state.display(),
        socket = socket.display(),
        cni = cni.display(),
    )
}

fn cni() -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "mesh",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-ipam",
                    "ranges": [[{"subnet": "10.244.0.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(layout: &Layout) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        // The default since 1.35 is to refuse a machine with cgroup v1.
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", layout.cgroup()),
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "enforceNodeAllocatable": [],
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": layout.pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "failSwapOn": false,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "tlsCertFile": layout.pki("kubelet-serving.crt"),
        "tlsPrivateKeyFile": layout.pki("kubelet-serving.key"),
        "resolvConf": layout.path("resolv.conf"),
        "podLogsDir": layout.path("podlogs"),
        "volumePluginDir": layout.path("volumeplugins"),
        "serializeImagePulls": false,
        "syncFrequency": "10s",
        // A machine whose disk is nearly full must not lose its pods and images.
        "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "configMapAndSecretChangeDetectionStrategy": "Watch",
    })
}

/// Who asked for what, of the service accounts that are not Kubernetes' own: scenarios count requests and writers by it.
fn audit() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ],
    })
}

fn kube_proxy(layout: &Layout) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": POD_CIDR,
        "clientConnection": {"kubeconfig": layout.kubeconfig("proxy")},
        // nf_conntrack_max is writable in the first network namespace only; zeros mean "leave it".
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": "127.0.0.1:10256",
    })
}
