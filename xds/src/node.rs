//! Who a proxy says it is to the control plane: `core.v3.Node` and the metadata in it.

use std::collections::BTreeMap;
use std::fmt;

use crate::dynamic::{Object, fields, object, string, strings, text, texts};
use crate::types::core::Node;
use crate::types::google::{Struct, value::Kind};

/// What kind of proxy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProxyType {
    /// Beside an application.
    Sidecar,
    /// A gateway.
    Router,
}

impl ProxyType {
    /// As it stands in a node's id.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Router => "router",
        }
    }
}

/// A node's id, `sidecar~<pod ip>~<pod>.<namespace>~<namespace>.svc.<cluster domain>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeId {
    /// What kind of proxy it is.
    pub proxy_type: ProxyType,
    /// The pod's address.
    pub ip: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The cluster's DNS domain, `cluster.local`.
    pub cluster_domain: String,
}

/// Why a node is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NodeError {
    /// The request came without a node.
    #[error("the first request of a stream must carry a node")]
    Missing,
    /// The id does not have the form it must have.
    #[error("node id {0:?} is not <sidecar|router>~<ip>~<pod>.<namespace>~<namespace>.svc.<cluster domain>")]
    Id(String),
    /// Id and metadata contradict each other.
    #[error("node id says namespace {id:?}, node metadata NAMESPACE says {metadata:?}")]
    Namespace {
        /// The namespace in the id.
        id: String,
        /// The namespace in the metadata.
        metadata: String,
    },
}

impl NodeId {
    /// Takes an id apart.
    pub fn parse(id: &str) -> Result<Self, NodeError> {
        Self::parts(id).ok_or_else(|| NodeError::Id(id.to_owned()))
    }

    fn parts(id: &str) -> Option<Self> {
        let mut parts = id.split('~');
        let proxy_type = match parts.next()? {
            "sidecar" => ProxyType::Sidecar,
            "router" => ProxyType::Router,
            _ => return None,
        };
        let ip = parts.next()?;
        // A pod's name may have dots in it, a namespace's may not.
        let (pod, namespace) = parts.next()?.rsplit_once('.')?;
        let domain = parts.next()?;
        let cluster_domain = match domain.strip_prefix(namespace).and_then(|rest| rest.strip_prefix(".svc")) {
            Some("") => "",
            Some(rest) => rest.strip_prefix('.')?,
            // Istio's template `grpc-simple` writes the cluster's domain alone.
            None if !domain.is_empty() && !domain.contains(".svc") => domain,
            None => return None,
        };
        if parts.next().is_some() || namespace.is_empty() || pod.is_empty() {
            return None;
        }
        Some(Self {
            proxy_type,
            ip: ip.to_owned(),
            pod: pod.to_owned(),
            namespace: namespace.to_owned(),
            cluster_domain: cluster_domain.to_owned(),
        })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proxy_type, ip, pod, namespace, cluster_domain } = self;
        write!(f, "{}~{ip}~{pod}.{namespace}~{namespace}.svc", proxy_type.as_str())?;
        if cluster_domain.is_empty() { Ok(()) } else { write!(f, ".{cluster_domain}") }
    }
}

/// A proxy as the control plane sees it: its id and its metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyNode {
    /// The id.
    pub id: NodeId,
    /// The metadata.
    pub metadata: NodeMetadata,
}

/// The metadata of a node, under Istio's keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeMetadata {
    /// `NAMESPACE`
    pub namespace: String,
    /// `NAME`: the pod.
    pub name: String,
    /// `LABELS` of the pod.
    pub labels: BTreeMap<String, String>,
    /// `SERVICE_ACCOUNT`
    pub service_account: String,
    /// `CLUSTER_ID`
    pub cluster_id: String,
    /// `ISTIO_VERSION`
    pub istio_version: String,
    /// `ISTIO_REVISION`
    pub istio_revision: String,
    /// `NODE_NAME`: the machine.
    pub node_name: String,
    /// `WORKLOAD_NAME`
    pub workload_name: String,
    /// `OWNER`
    pub owner: String,
    /// `INTERCEPTION_MODE`: `REDIRECT`, [`TPROXY`](TRANSPARENT) or `NONE`.
    pub interception_mode: String,
    /// `MESH_ID`
    pub mesh_id: String,
    /// `INSTANCE_IPS`; on the wire separated by commas.
    pub instance_ips: Vec<String>,
    /// `POD_PORTS`: the containers' ports, a JSON list.
    pub pod_ports: String,
    /// `PROXY_CONFIG`
    pub proxy_config: Option<Struct>,
    /// `FORESTAY_VIRTUAL_HOSTS`: takes virtual hosts one by one.
    pub virtual_hosts: bool,
    /// `GENERATOR`: whose dialect of xDS it reads; `grpc` for gRPC's own, empty for a proxy's.
    pub generator: String,
}

/// `GENERATOR` of an application whose gRPC library reads xDS itself.
pub const GRPC_GENERATOR: &str = "grpc";
/// The [`interception_mode`](NodeMetadata::interception_mode) in which connections come to the proxy as they were.
pub const TRANSPARENT: &str = "TPROXY";

impl NodeMetadata {
    /// As it goes over the wire.
    pub fn to_struct(&self) -> Struct {
        let mut out = Object::new()
            .set_text("NAMESPACE", &self.namespace)
            .set_text("NAME", &self.name)
            .set_text("SERVICE_ACCOUNT", &self.service_account)
            .set_text("CLUSTER_ID", &self.cluster_id)
            .set_text("ISTIO_VERSION", &self.istio_version)
            .set_text("ISTIO_REVISION", &self.istio_revision)
            .set_text("NODE_NAME", &self.node_name)
            .set_text("WORKLOAD_NAME", &self.workload_name)
            .set_text("OWNER", &self.owner)
            .set_text("INTERCEPTION_MODE", &self.interception_mode)
            .set_text("MESH_ID", &self.mesh_id)
            .set_text("INSTANCE_IPS", &self.instance_ips.join(","))
            .set_text("POD_PORTS", &self.pod_ports)
            .set_text("GENERATOR", &self.generator);
        if !self.labels.is_empty() {
            out = out.set("LABELS", object(strings(&self.labels)));
        }
        if let Some(config) = &self.proxy_config {
            out = out.set("PROXY_CONFIG", object(config.clone()));
        }
        if self.virtual_hosts {
            out = out.set("FORESTAY_VIRTUAL_HOSTS", string("true"));
        }
        out.build()
    }

    /// Reads what went over the wire; unknown keys are passed over, and absent ones are empty.
    pub fn from_struct(from: &Struct) -> Self {
        let part = |key| text(from, key).unwrap_or_default().to_owned();
        let ips = text(from, "INSTANCE_IPS").unwrap_or_default();
        // Istio's agent sends "true" from an environment variable as a string, a JSON source as a boolean.
        let truth = |key: &str| match from.fields.get(key).and_then(|value| value.kind.as_ref()) {
            Some(Kind::BoolValue(value)) => *value,
            Some(Kind::StringValue(text)) => text == "true",
            _ => false,
        };
        Self {
            namespace: part("NAMESPACE"),
            name: part("NAME"),
            labels: fields(from, "LABELS").map(|labels| texts(labels).collect()).unwrap_or_default(),
            service_account: part("SERVICE_ACCOUNT"),
            cluster_id: part("CLUSTER_ID"),
            istio_version: part("ISTIO_VERSION"),
            istio_revision: part("ISTIO_REVISION"),
            node_name: part("NODE_NAME"),
            workload_name: part("WORKLOAD_NAME"),
            owner: part("OWNER"),
            interception_mode: part("INTERCEPTION_MODE"),
            mesh_id: part("MESH_ID"),
            instance_ips: ips.split(',').filter(|ip| !ip.is_empty()).map(str::to_owned).collect(),
            pod_ports: part("POD_PORTS"),
            proxy_config: fields(from, "PROXY_CONFIG").cloned(),
            virtual_hosts: truth("FORESTAY_VIRTUAL_HOSTS"),
            generator: part("GENERATOR"),
        }
    }
}

impl ProxyNode {
    /// As it goes over the wire.
    pub fn to_node(&self) -> Node {
        Node {
            id: self.id.to_string(),
            cluster: format!("{}.{}", self.metadata.workload_name, self.id.namespace),
            metadata: Some(self.metadata.to_struct()),
            ..Node::default()
        }
    }

    /// Reads the node of a stream's first request.
    pub fn from_node(node: Option<&Node>) -> Result<Self, NodeError> {
        let node = node.ok_or(NodeError::Missing)?;
        let id = NodeId::parse(&node.id)?;
        let mut metadata = node.metadata.as_ref().map(NodeMetadata::from_struct).unwrap_or_default();
        if metadata.namespace.is_empty() {
            metadata.namespace.clone_from(&id.namespace);
        } else if metadata.namespace != id.namespace {
            return Err(NodeError::Namespace { id: id.namespace, metadata: metadata.namespace });
        }
        if metadata.instance_ips.is_empty() && !id.ip.is_empty() {
            metadata.instance_ips.push(id.ip.clone());
        }
        Ok(Self { id, metadata })
    }
}

#[cfg(test)]
mod tests {
    use super::{NodeError, NodeId, NodeMetadata, ProxyNode, ProxyType};
    use crate::dynamic::{Object, string};

    fn proxy() -> ProxyNode {
        ProxyNode {
            id: NodeId {
                proxy_type: ProxyType::Sidecar,
                ip: "10.0.0.7".into(),
                pod: "reviews-v1-0.a".into(),
                namespace: "default".into(),
                cluster_domain: "cluster.local".into(),
            },
            metadata: NodeMetadata {
                namespace: "default".into(),
                name: "reviews-v1-0.a".into(),
                labels: [("app".to_owned(), "reviews".to_owned())].into(),
                service_account: "bookinfo-reviews".into(),
                workload_name: "reviews-v1".into(),
                instance_ips: vec!["10.0.0.7".into(), "fd00::7".into()],
                pod_ports: r#"[{"containerPort":9080,"protocol":"TCP"}]"#.into(),
                proxy_config: Some(Object::new().set("concurrency", crate::dynamic::number(2.0)).build()),
                virtual_hosts: true,
                ..Default::default()
            },
        }
    }

    #[test]
    fn a_node_reads_back_what_it_writes() {
        let node = proxy().to_node();
        assert_eq!(node.id, "sidecar~10.0.0.7~reviews-v1-0.a.default~default.svc.cluster.local");
        assert_eq!(ProxyNode::from_node(Some(&node)), Ok(proxy()));
    }

    #[test]
    fn what_the_id_says_stands_in_for_absent_metadata() {
        let mut node = proxy().to_node();
        node.metadata = None;
        let read = ProxyNode::from_node(Some(&node)).expect("a valid id");
        assert_eq!(read.metadata.namespace, "default");
        assert_eq!(read.metadata.instance_ips, ["10.0.0.7"]);
        assert!(!read.metadata.virtual_hosts);
    }

    #[test]
    fn the_clusters_domain_may_stand_alone() {
        let id = NodeId::parse("sidecar~10.0.0.7~client-0.default~cluster.local").expect("a valid id");
        assert_eq!((id.namespace.as_str(), id.cluster_domain.as_str()), ("default", "cluster.local"));
    }

    #[test]
    fn a_node_that_contradicts_itself_or_has_no_id_is_refused() {
        assert_eq!(ProxyNode::from_node(None), Err(NodeError::Missing));
        for id in
            ["", "sidecar", "ztunnel~1~a.b~b.svc", "sidecar~1~a~b.svc", "sidecar~1~a.b~c.svc.d", "sidecar~1~a.b~b.svcx"]
        {
            assert_eq!(NodeId::parse(id), Err(NodeError::Id(id.to_owned())), "{id}");
        }
        let mut node = proxy().to_node();
        if let Some(metadata) = &mut node.metadata {
            metadata.fields.insert("NAMESPACE".into(), string("other"));
        }
        assert!(matches!(ProxyNode::from_node(Some(&node)), Err(NodeError::Namespace { .. })));
    }
}
