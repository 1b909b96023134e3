//! Roles of control plane, webhook and addons, from the table in [`crate::rbac`].
//!
//! Gateways have none: they get everything from the control plane, and the Secrets of the mesh's namespace, the
//! authority's key among them, are not to be read by what faces the internet.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject};

use crate::addons::AddonKind;
use crate::meshinstall::mesh::{Component, Mesh};
use crate::rbac;

/// What the part may do in the whole cluster.
pub(crate) fn cluster_role(mesh: &Mesh, component: Component) -> ClusterRole {
    ClusterRole {
        metadata: mesh.cluster_object(component, &cluster_name(mesh, component)),
        rules: Some(rbac::policy(rules(component).0)),
        aggregation_rule: None,
    }
}

/// Gives it to the part's service account.
pub(crate) fn cluster_role_binding(mesh: &Mesh, component: Component, account: &str) -> ClusterRoleBinding {
    let name = cluster_name(mesh, component);
    ClusterRoleBinding {
        metadata: mesh.cluster_object(component, &name),
        role_ref: role_ref("ClusterRole", &name),
        subjects: Some(vec![subject(mesh, account)]),
    }
}

/// What the part may do in the mesh's namespace.
pub(super) fn role(mesh: &Mesh, component: Component, name: &str) -> Role {
    Role { metadata: mesh.object(component, &mesh.namespace, name), rules: Some(rbac::policy(rules(component).1)) }
}

/// Gives it to the part's service account.
pub(super) fn role_binding(mesh: &Mesh, component: Component, name: &str) -> RoleBinding {
    RoleBinding {
        metadata: mesh.object(component, &mesh.namespace, name),
        role_ref: role_ref("Role", name),
        subjects: Some(vec![subject(mesh, name)]),
    }
}

/// The rules of a part: in the cluster, in its namespace.
fn rules(component: Component) -> (&'static [rbac::Rule], &'static [rbac::Rule]) {
    match component {
        Component::ControlPlane => (rbac::CONTROL_PLANE_CLUSTER, rbac::CONTROL_PLANE_NAMESPACE),
        Component::Webhook => (rbac::WEBHOOK_CLUSTER, rbac::WEBHOOK_NAMESPACE),
        Component::Addon(AddonKind::Prometheus) => (rbac::PROMETHEUS_CLUSTER, &[]),
        Component::Addon(AddonKind::Kiali) => (rbac::KIALI_CLUSTER, &[]),
        Component::Gateway | Component::Configuration | Component::Addon(_) => (&[], &[]),
    }
}

fn cluster_name(mesh: &Mesh, component: Component) -> String {
    mesh.cluster_scoped(match component {
        Component::ControlPlane => "istiod",
        Component::Addon(addon) => addon.as_str(),
        _ => "istio-sidecar-injector",
    })
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: "rbac.authorization.k8s.io".into(), kind: kind.into(), name: name.into() }
}

fn subject(mesh: &Mesh, account: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".into(),
        name: account.into(),
        namespace: Some(mesh.namespace.clone()),
        api_group: None,
    }
}
