//! ConfigMap `istio[-<revision>]`: MeshConfig.

use k8s_openapi::api::core::v1::ConfigMap;
use names::resources;

use super::RenderError;
use crate::meshinstall::mesh::{Component, Mesh};

pub(super) fn build(mesh: &Mesh) -> Result<ConfigMap, RenderError> {
    let data = [
        ("mesh".to_owned(), crds::yaml::to_string(&mesh.mesh_config)?),
        // There is one network: several are for a later design.
        ("meshNetworks".to_owned(), "networks: {}\n".to_owned()),
    ];
    Ok(ConfigMap {
        metadata: mesh.object(Component::Configuration, &mesh.namespace, &resources::mesh_config(&mesh.revision)),
        data: Some(data.into()),
        ..ConfigMap::default()
    })
}
