//! The workload behind an endpoint, in its metadata, and whether it speaks mesh TLS.

use crate::dynamic::{Object, string};
use crate::provenance::{ISTIO, metadata_text};
use crate::types::core::Metadata;

/// The key of the part of an endpoint's metadata that `transport_socket_matches` look at.
pub const TRANSPORT_SOCKET_MATCH: &str = "envoy.transport_socket_match";
/// The key in it, and the label of the pod it comes from.
pub const TLS_MODE: &str = "tlsMode";
/// Its value where the endpoint speaks mesh TLS.
pub const TLS_MODE_ISTIO: &str = "istio";

/// The workload behind an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// The workload's name (of its Deployment, StatefulSet, ...).
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The service that it is, for telemetry.
    pub canonical_name: String,
    /// The version that it is, for telemetry.
    pub canonical_revision: String,
    /// The id of its cluster.
    pub cluster: String,
}

impl Workload {
    /// `<workload>;<namespace>;<canonical name>;<canonical revision>;<cluster>`.
    pub fn encode(&self) -> String {
        let Self { name, namespace, canonical_name, canonical_revision, cluster } = self;
        format!("{name};{namespace};{canonical_name};{canonical_revision};{cluster}")
    }

    /// Takes the encoded form apart; `None` if it has less than five parts.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ';').map(str::to_owned);
        Some(Self {
            name: parts.next()?,
            namespace: parts.next()?,
            canonical_name: parts.next()?,
            canonical_revision: parts.next()?,
            cluster: parts.next()?,
        })
    }

    /// Reads the workload from an endpoint's metadata.
    pub fn read(metadata: &Metadata) -> Option<Self> {
        Self::parse(metadata_text(metadata, ISTIO, "workload")?)
    }
}

/// An endpoint's metadata: its workload, and whether it speaks mesh TLS.
pub fn endpoint_metadata(workload: &Workload, mesh_tls: bool) -> Metadata {
    let mut metadata = Metadata::default();
    let istio = Object::new().set("workload", string(workload.encode())).build();
    metadata.filter_metadata.insert(ISTIO.to_owned(), istio);
    if mesh_tls {
        let mode = Object::new().set(TLS_MODE, string(TLS_MODE_ISTIO)).build();
        metadata.filter_metadata.insert(TRANSPORT_SOCKET_MATCH.to_owned(), mode);
    }
    metadata
}

/// Whether an endpoint's metadata says that it speaks mesh TLS.
pub fn speaks_mesh_tls(metadata: &Metadata) -> bool {
    metadata_text(metadata, TRANSPORT_SOCKET_MATCH, TLS_MODE) == Some(TLS_MODE_ISTIO)
}

#[cfg(test)]
mod tests {
    use super::{Workload, endpoint_metadata, speaks_mesh_tls};

    #[test]
    fn an_endpoint_reads_back_what_it_writes() {
        let workload = Workload {
            name: "reviews-v1".into(),
            namespace: "default".into(),
            canonical_name: "reviews".into(),
            canonical_revision: "v1".into(),
            cluster: "Kubernetes".into(),
        };
        assert_eq!(workload.encode(), "reviews-v1;default;reviews;v1;Kubernetes");
        for mesh_tls in [true, false] {
            let metadata = endpoint_metadata(&workload, mesh_tls);
            assert_eq!(Workload::read(&metadata).as_ref(), Some(&workload));
            assert_eq!(speaks_mesh_tls(&metadata), mesh_tls);
        }
        assert_eq!(Workload::parse("a;b;c"), None);
    }
}
