//! Our own API, `install.forestay.dev/v1alpha1`: one [`MeshInstall`] is one revision of the mesh.
//!
//! * [`MeshInstallSpec`]: what a person asks for; its defaults and its rules are in the schema, so that
//!   `kubectl explain` and admission tell them before the operator has to
//! * [`MeshInstallStatus`]: what the operator answers
//! * [`condition`]: the conditions of that status and every reason they can carry
//! * [`Resources`]: requests and limits of a container

pub mod condition;
mod resources;
mod schema;
mod spec;
mod status;
#[cfg(test)]
mod tests;

pub use resources::{Quantity, Resources};
pub use spec::{
    GatewaySpec, LogLevel, MeshInstall, MeshInstallSpec, Profile, ProxySpec, ServicePort, ServiceType,
    TransportProtocol, WorkloadSpec,
};
pub use status::{ComponentStatus, MeshInstallStatus};
