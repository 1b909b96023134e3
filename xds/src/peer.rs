//! Who a proxy says it is to the proxy at the other end: the headers `x-envoy-peer-metadata` and `-id`, as Istio's.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use prost::Message;

use crate::canonical;
use crate::dynamic::{Object, fields, object, strings, text, texts};
use crate::types::google::Struct;

/// Base64 of a protobuf `Struct`: [`PeerMetadata`].
pub const HEADER: &str = "x-envoy-peer-metadata";
/// The sender's node id.
pub const ID_HEADER: &str = "x-envoy-peer-metadata-id";
/// What is longer than this is not decoded; Istio's own limit on labels keeps real ones far below.
pub const MAX_ENCODED: usize = 16 * 1024;

/// Who a proxy says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerMetadata {
    /// `NAME`: the pod.
    pub name: String,
    /// `NAMESPACE`
    pub namespace: String,
    /// `WORKLOAD_NAME`
    pub workload_name: String,
    /// `OWNER`: `kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v1`
    pub owner: String,
    /// `LABELS` of the pod.
    pub labels: BTreeMap<String, String>,
    /// `CLUSTER_ID`
    pub cluster_id: String,
    /// `MESH_ID`
    pub mesh_id: String,
    /// `INSTANCE_IPS`, separated by commas.
    pub instance_ips: String,
    /// `ISTIO_VERSION`
    pub istio_version: String,
}

impl PeerMetadata {
    /// As a header's value: made once per proxy, sent as it is with every request.
    pub fn encode(&self) -> String {
        STANDARD.encode(canonical::encode(&self.to_struct()))
    }

    /// Reads a header's value; what is no metadata is `None`.
    pub fn decode(header: &[u8]) -> Option<Self> {
        if header.len() > MAX_ENCODED {
            return None;
        }
        // Envoy pads, other senders may not.
        let bytes = STANDARD.decode(header).or_else(|_| STANDARD_NO_PAD.decode(header)).ok()?;
        Struct::decode(bytes.as_slice()).ok().map(|fields| Self::from_struct(&fields))
    }

    fn to_struct(&self) -> Struct {
        let mut out = Object::new()
            .set_text("NAME", &self.name)
            .set_text("NAMESPACE", &self.namespace)
            .set_text("WORKLOAD_NAME", &self.workload_name)
            .set_text("OWNER", &self.owner)
            .set_text("CLUSTER_ID", &self.cluster_id)
            .set_text("MESH_ID", &self.mesh_id)
            .set_text("INSTANCE_IPS", &self.instance_ips)
            .set_text("ISTIO_VERSION", &self.istio_version);
        if !self.labels.is_empty() {
            out = out.set("LABELS", object(strings(&self.labels)));
        }
        out.build()
    }

    fn from_struct(from: &Struct) -> Self {
        let part = |key| text(from, key).unwrap_or_default().to_owned();
        Self {
            name: part("NAME"),
            namespace: part("NAMESPACE"),
            workload_name: part("WORKLOAD_NAME"),
            owner: part("OWNER"),
            labels: fields(from, "LABELS").map(|labels| texts(labels).collect()).unwrap_or_default(),
            cluster_id: part("CLUSTER_ID"),
            mesh_id: part("MESH_ID"),
            instance_ips: part("INSTANCE_IPS"),
            istio_version: part("ISTIO_VERSION"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_ENCODED, PeerMetadata};

    #[test]
    fn metadata_reads_back_what_it_writes_and_is_always_the_same() {
        let metadata = PeerMetadata {
            name: "reviews-v1-0".into(),
            namespace: "default".into(),
            workload_name: "reviews-v1".into(),
            labels: [("app", "reviews"), ("version", "v1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            cluster_id: "Kubernetes".into(),
            ..Default::default()
        };
        let header = metadata.encode();
        assert_eq!(PeerMetadata::decode(header.as_bytes()), Some(metadata.clone()));
        assert_eq!(PeerMetadata::decode(header.trim_end_matches('=').as_bytes()), Some(metadata.clone()));
        assert!((0..20).all(|_| metadata.encode() == header));
    }

    #[test]
    fn what_is_no_metadata_is_none() {
        assert_eq!(PeerMetadata::decode(b"!"), None);
        assert_eq!(PeerMetadata::decode(b"CgL/"), None);
        assert_eq!(PeerMetadata::decode(&vec![b'A'; MAX_ENCODED + 4]), None);
    }
}
