//! Whom a translation is for.

use std::collections::BTreeMap;

use serde::Deserialize;
use xds::node::{ProxyNode, ProxyType};

use super::labels::Labels;

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Sidecar or gateway.
    pub proxy_type: ProxyType,
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's labels.
    pub labels: Labels,
    /// The pod's addresses.
    pub ips: Vec<String>,
    /// The service account it runs as.
    pub service_account: String,
    /// The DNS domain of its cluster.
    pub cluster_domain: String,
    /// Ports of its containers: name to number.
    pub ports: BTreeMap<String, u16>,
    /// Whether it takes virtual hosts one by one (ours do, Envoy does not).
    pub virtual_hosts: bool,
    /// Whether connections come to it as they were, and it passes on the client's address (`TPROXY`).
    pub transparent: bool,
    /// Whether it is no proxy, but an application whose gRPC library reads xDS itself.
    pub grpc: bool,
}

impl Proxy {
    /// The proxy that a node describes.
    pub fn from_node(node: &ProxyNode) -> Self {
        let metadata = &node.metadata;
        Self {
            proxy_type: node.id.proxy_type,
            name: node.id.pod.clone(),
            namespace: metadata.namespace.clone(),
            labels: metadata.labels.clone(),
            ips: metadata.instance_ips.clone(),
            service_account: metadata.service_account.clone(),
            cluster_domain: node.id.cluster_domain.clone(),
            ports: pod_ports(&metadata.pod_ports),
            virtual_hosts: metadata.virtual_hosts,
            transparent: metadata.interception_mode == xds::node::TRANSPARENT,
            grpc: metadata.generator == xds::node::GRPC_GENERATOR,
        }
    }
}

/// `POD_PORTS`, `[{"name":"http","containerPort":9080,"protocol":"TCP"}]`; what is malformed has no ports in it.
fn pod_ports(json: &str) -> BTreeMap<String, u16> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PodPort {
        #[serde(default)]
        name: String,
        container_port: u16,
    }
    let ports: Vec<PodPort> = serde_json::from_str(json).unwrap_or_default();
    ports.into_iter().filter(|port| !port.name.is_empty()).map(|port| (port.name, port.container_port)).collect()
}
