//! The bootstrap file: where gRPC finds the control plane, who it says it is there, and where its certificates are.
//! The keys are those of gRPC's proposals A27 (xDS), A29 (certificate providers) and A36 (servers).

use std::path::Path;

use serde_json::{Value, json};
use xds::node::ProxyNode;
use xds::types::google::{Value as Field, value::Kind};

use crate::admin::message;
use crate::agent::environment::Grpc;

/// How often gRPC looks at the certificate's files: Istio's interval.
const REFRESH: &str = "900s";
/// What the control plane calls the provider.
const PROVIDER: &str = "default";

/// The names of the files in the certificates' folder.
pub(crate) const KEY: &str = "key.pem";
pub(crate) const CHAIN: &str = "cert-chain.pem";
pub(crate) const ROOTS: &str = "root-cert.pem";

/// The content of the bootstrap file.
pub fn bootstrap(node: &ProxyNode, grpc: &Grpc) -> String {
    let metadata = Field { kind: Some(Kind::StructValue(node.metadata.to_struct())) };
    let mut file = json!({
        "xds_servers": [{
            "server_uri": format!("unix://{}", grpc.socket.display()),
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {"id": node.id.to_string(), "cluster": node.to_node().cluster, "metadata": message::from_value(&metadata)},
        "server_listener_resource_name_template": format!("{}%s", names::traffic::GRPC_SERVER_LISTENERS),
    });
    if let (Some(folder), Value::Object(file)) = (&grpc.certificates, &mut file) {
        file.insert("certificate_providers".to_owned(), json!({PROVIDER: provider(folder)}));
    }
    format!("{file:#}\n")
}

fn provider(folder: &Path) -> Value {
    let file = |name: &str| folder.join(name).display().to_string();
    json!({
        "plugin_name": "file_watcher",
        "config": {
            "certificate_file": file(CHAIN),
            "private_key_file": file(KEY),
            "ca_certificate_file": file(ROOTS),
            "refresh_interval": REFRESH,
        },
    })
}

#[cfg(test)]
mod tests {
    use xds::node::{NodeId, NodeMetadata, ProxyNode};

    use super::{Grpc, bootstrap};

    #[test]
    fn the_file_says_where_who_and_by_which_certificates() {
        let node = ProxyNode {
            id: NodeId::parse("sidecar~10.0.0.7~echo-0.default~default.svc.cluster.local").expect("an id"),
            metadata: NodeMetadata {
                namespace: "default".to_owned(),
                workload_name: "echo".to_owned(),
                labels: [("app".to_owned(), "echo".to_owned())].into(),
                generator: "grpc".to_owned(),
                ..NodeMetadata::default()
            },
        };
        let mut grpc = Grpc {
            bootstrap: "/etc/istio/proxy/grpc-bootstrap.json".into(),
            certificates: Some("/var/lib/istio/data".into()),
            socket: "/etc/istio/proxy/XDS".into(),
        };
        let found: serde_json::Value = serde_json::from_str(&bootstrap(&node, &grpc)).expect("JSON");
        let expected = serde_json::json!({
            "xds_servers": [{
                "server_uri": "unix:///etc/istio/proxy/XDS",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            "node": {
                "id": "sidecar~10.0.0.7~echo-0.default~default.svc.cluster.local",
                "cluster": "echo.default",
                "metadata": {
                    "NAMESPACE": "default", "WORKLOAD_NAME": "echo", "LABELS": {"app": "echo"}, "GENERATOR": "grpc",
                },
            },
            "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
            "certificate_providers": {"default": {
                "plugin_name": "file_watcher",
                "config": {
                    "certificate_file": "/var/lib/istio/data/cert-chain.pem",
                    "private_key_file": "/var/lib/istio/data/key.pem",
                    "ca_certificate_file": "/var/lib/istio/data/root-cert.pem",
                    "refresh_interval": "900s",
                },
            }},
        });
        assert_eq!(found, expected);
        grpc.certificates = None;
        let without: serde_json::Value = serde_json::from_str(&bootstrap(&node, &grpc)).expect("JSON");
        assert!(without.get("certificate_providers").is_none());
    }
}
