//! ServiceAccounts.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::meshinstall::mesh::{Component, Mesh};

/// The identity of a part. A gateway asks nothing of the API server, so its account's token is not mounted; the
/// token that it shows to the certificate authority is projected into its pod. Nor do most addons.
pub(crate) fn build(mesh: &Mesh, component: Component, namespace: &str, name: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: mesh.object(component, namespace, name),
        automount_service_account_token: match component {
            Component::Gateway => Some(false),
            Component::Addon(addon) if !addon.asks_the_api_server() => Some(false),
            _ => None,
        },
        ..ServiceAccount::default()
    }
}
