//! Our own API, `install.forestay.dev/v1alpha1`: one [`MeshInstall`] is one revision of the mesh, and a
//! [`MeshRevisionTag`] a name that can be moved from one to another.
//!
//! * [`MeshInstallSpec`]: what a person asks for; its defaults and its rules are in the schema, so that
//!   `kubectl explain` and admission tell them before the operator has to
//! * [`MeshInstallStatus`]: what the operator answers
//! * [`condition`]: the conditions of that status and every reason they can carry
//! * [`WorkloadSpec`], [`GatewaySpec`], [`AddonsSpec`]: the Deployments it consists of; [`Resources`]: requests and limits
//!   of a container

mod addons;
pub mod condition;
mod gateway;
mod resources;
mod schema;
mod spec;
mod status;
mod tag;
#[cfg(test)]
mod tests;
mod workload;

pub use addons::{AddonSpec, AddonsSpec, Persistence};
pub use gateway::{
    ExternalTrafficPolicy, GatewaySpec, IpFamily, IpFamilyPolicy, ServicePort, ServiceSettings, ServiceType,
    TransportProtocol,
};
pub use resources::{Quantity, Resources};
pub use spec::{
    ImagePullPolicy, LogLevel, MeshInstall, MeshInstallSpec, Profile, ProxySpec, SecretReference, Uninstall,
};
pub use status::{ComponentStatus, DataPlaneStatus, ImagesStatus, MeshInstallStatus};
pub use tag::{MeshRevisionTag, MeshRevisionTagSpec, MeshRevisionTagStatus, TargetKind, TargetReference};
pub use workload::{
    Autoscaling, DisruptionBudget, EnvironmentVariable, Overlay, OverlayKind, PodSettings, TaintEffect, Toleration,
    TolerationOperator, WorkloadSpec,
};
