//! From a [`Mesh`] to Kubernetes objects: pure, one file per object, golden-tested.
//!
//! What comes out is in the order in which it is applied. Namespaces are not among it: the mesh's is created when it
//! is absent and then left alone ([`namespace`]).

mod control_plane_deployment;
mod control_plane_service;
mod disruption_budget;
mod gateway_deployment;
mod gateway_service;
mod injector_config_map;
mod mesh_config_map;
pub(crate) mod pod;
mod rendered;
mod roles;
mod service_account;
#[cfg(test)]
mod tests;
mod webhook_ca_secret;
mod webhook_configuration;
mod webhook_deployment;
mod webhook_service;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use names::{labels, resources};

pub(crate) use rendered::{RenderError, Rendered, display};

use super::mesh::{Component, Mesh};
use super::trust::WebhookCa;

/// Which webhook configurations are rendered. None must be there before a webhook answers, because it would keep every
/// pod of the labelled namespaces, and every rule, from being created; one that somebody has deleted because no webhook
/// answers stays away until one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Pods are sent to the webhook.
    pub(crate) injection: bool,
    /// Istio's objects are.
    pub(crate) validation: bool,
}

/// Renders everything that a mesh consists of.
pub(crate) fn build(mesh: &Mesh, ca: &WebhookCa, admission: Admission) -> Result<Vec<Rendered>, RenderError> {
    let mut objects = Vec::new();
    // First, so that a new authority is trusted before the Secret makes the webhook use it.
    if admission.injection {
        objects.push(Rendered::new(Component::Webhook, &webhook_configuration::mutating(mesh, ca))?);
    }
    if admission.validation {
        objects.push(Rendered::new(Component::Webhook, &webhook_configuration::validating(mesh, ca))?);
    }
    objects.push(Rendered::new(Component::Configuration, &webhook_ca_secret::build(mesh, ca))?);
    objects.push(Rendered::new(Component::Configuration, &mesh_config_map::build(mesh)?)?);
    objects.push(Rendered::new(Component::Configuration, &injector_config_map::build(mesh)?)?);

    let (istiod, injector) = (mesh.istiod(), mesh.injector());
    for (component, name) in [(Component::ControlPlane, &istiod), (Component::Webhook, &injector)] {
        objects.push(Rendered::new(component, &service_account::build(mesh, component, &mesh.namespace, name))?);
        objects.push(Rendered::new(component, &roles::cluster_role(mesh, component))?);
        objects.push(Rendered::new(component, &roles::cluster_role_binding(mesh, component, name))?);
        objects.push(Rendered::new(component, &roles::role(mesh, component, name))?);
        objects.push(Rendered::new(component, &roles::role_binding(mesh, component, name))?);
    }
    objects.push(Rendered::new(Component::ControlPlane, &control_plane_service::build(mesh))?);
    let selector = pod::control_plane_selector(mesh);
    objects.push(Rendered::new(
        Component::ControlPlane,
        &disruption_budget::build(mesh, Component::ControlPlane, &mesh.namespace, &istiod, selector),
    )?);
    objects.push(Rendered::new(Component::ControlPlane, &control_plane_deployment::build(mesh))?);
    objects.push(Rendered::new(Component::Webhook, &webhook_service::build(mesh))?);
    objects.push(Rendered::new(
        Component::Webhook,
        &disruption_budget::build(mesh, Component::Webhook, &mesh.namespace, &injector, pod::webhook_selector(mesh)),
    )?);
    objects.push(Rendered::new(Component::Webhook, &webhook_deployment::build(mesh))?);

    for gateway in &mesh.gateways {
        let account = format!("{}-service-account", gateway.name);
        objects.push(Rendered::new(
            Component::Gateway,
            &service_account::build(mesh, Component::Gateway, &gateway.namespace, &account),
        )?);
        objects.push(Rendered::new(Component::Gateway, &gateway_service::build(mesh, gateway))?);
        let selector = pod::gateway_selector(gateway);
        objects.push(Rendered::new(
            Component::Gateway,
            &disruption_budget::build(mesh, Component::Gateway, &gateway.namespace, &gateway.name, selector),
        )?);
        let deployment = gateway_deployment::build(mesh, gateway, &account)?;
        objects.push(Rendered::new(Component::Gateway, &deployment)?.after_control_plane());
    }
    Ok(objects)
}

/// The two ConfigMaps that the webhook reads: the mesh's and the injector's.
pub(crate) fn settings(mesh: &Mesh) -> Result<(ConfigMap, ConfigMap), RenderError> {
    Ok((mesh_config_map::build(mesh)?, injector_config_map::build(mesh)?))
}

/// The mesh's namespace, for when it does not exist. It has no owner: what else lives in it is not ours to delete.
pub(crate) fn namespace(name: &str) -> Namespace {
    let managed_by = (labels::KUBERNETES_MANAGED_BY.to_owned(), resources::OPERATOR.to_owned());
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([managed_by].into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}
