//! What holds for the whole mesh.

use crds::meshconfig::MeshConfig;

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Mesh {
    /// Istio's MeshConfig.
    pub config: MeshConfig,
    /// The DNS domain of the cluster.
    pub cluster_domain: String,
    /// The id of the cluster.
    pub cluster_id: String,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            config: MeshConfig::default(),
            cluster_domain: names::CLUSTER_DOMAIN.to_owned(),
            cluster_id: names::CLUSTER_ID.to_owned(),
        }
    }
}
