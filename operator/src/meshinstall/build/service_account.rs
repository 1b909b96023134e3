//! ServiceAccounts.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::meshinstall::mesh::{Component, Mesh};

/// The identity of a part. A gateway asks nothing of the API server, so its account's token is not mounted; the
/// token that it shows to the certificate authority is projected into its pod.
pub(super) fn build(mesh: &Mesh, component: Component, namespace: &str, name: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: mesh.object(component, namespace, name),
        automount_service_account_token: (component == Component::Gateway).then_some(false),
        ..ServiceAccount::default()
    }
}
