//! Objects come in and become the inputs of translation.
//!
//! * [`check`]: what is wrong with a rule by itself
//! * [`intake`]: the inputs of this moment; says what changed to the queue
//! * [`kubernetes`]: from an API server, by watches that store nothing themselves
//! * [`files`]: from a folder of YAML, looked at again and again
//!
//! Both reduce an object to its model the moment they see it. What cannot be read is logged with its name and field,
//! counted, and leaves the last good version of that object in place.

mod check;
pub(crate) mod files;
pub(crate) mod intake;
pub(crate) mod kubernetes;

pub(crate) use intake::Intake;

use crds::meshconfig::MeshConfig;
use translate::model::mesh::Mesh;

/// Reads the MeshConfig of key `mesh`, for the cluster that `base` says.
pub(crate) fn mesh(base: &Mesh, text: Option<&str>) -> Result<Mesh, String> {
    let config = match text {
        None => MeshConfig::default(),
        Some(text) => MeshConfig::from_yaml(text).map_err(|error| error.to_string())?,
    };
    Ok(Mesh { config, cluster_domain: base.cluster_domain.clone(), cluster_id: base.cluster_id.clone() })
}

/// Whether objects must be reduced again because a setting changed that reduction reads.
fn reduces_differently(a: &Mesh, b: &Mesh) -> bool {
    let read = |mesh: &Mesh| {
        let config = &mesh.config;
        (
            config.default_service_export_to.clone(),
            config.default_virtual_service_export_to.clone(),
            config.default_destination_rule_export_to.clone(),
        )
    };
    a.cluster_domain != b.cluster_domain || read(a) != read(b)
}
