//! From a [`Mesh`] to Kubernetes objects: pure, one file per object, golden-tested.
//!
//! What comes out is in the order in which it is applied. Namespaces are not among it: the mesh's is created when it
//! is absent and then left alone ([`namespace`]).

mod autoscaler;
mod control_plane_deployment;
mod control_plane_service;
mod disruption_budget;
mod gateway_deployment;
mod gateway_service;
pub(super) mod injector_config_map;
mod mesh_config_map;
pub(crate) mod pod;
mod rendered;
pub(crate) mod roles;
pub(crate) mod service_account;
#[cfg(test)]
mod tests;
mod webhook_ca_secret;
pub(super) mod webhook_configuration;
mod webhook_deployment;
mod webhook_service;

use std::collections::BTreeMap;

use crds::install::Overlay;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use names::{labels, resources};

pub(crate) use rendered::{RenderError, Rendered, display};

use super::mesh::{Component, Mesh, Scale};
use super::trust::WebhookCa;
use crate::addons;

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
    if mesh.webhook.is_some() {
        // First, so that a new authority is trusted before the Secret makes the webhook use it.
        if admission.injection {
            objects.push(Rendered::new(Component::Webhook, &webhook_configuration::mutating(mesh, ca))?);
            for tag in &mesh.tags {
                objects.push(Rendered::new(Component::Webhook, &webhook_configuration::tag(mesh, ca, tag))?);
            }
        }
        if admission.validation {
            objects.push(Rendered::new(Component::Webhook, &webhook_configuration::validating(mesh, ca))?);
        }
        let secret = Rendered::new(Component::Configuration, &webhook_ca_secret::build(mesh, ca))?;
        objects.push(secret.made_from(ca.basis().clone()));
        objects.push(Rendered::new(Component::Configuration, &injector_config_map::build(mesh)?)?);
    }
    if mesh.webhook.is_some() || mesh.control_plane.is_some() {
        objects.push(Rendered::new(Component::Configuration, &mesh_config_map::build(mesh)?)?);
    }
    if let Some(workload) = &mesh.control_plane {
        let part = Part {
            component: Component::ControlPlane,
            namespace: &mesh.namespace,
            name: &mesh.istiod(),
            selector: pod::control_plane_selector(mesh),
            scale: &workload.scale,
        };
        let first = objects.len();
        objects.extend(access(mesh, &part)?);
        objects.push(Rendered::new(Component::ControlPlane, &control_plane_service::build(mesh))?);
        objects.extend(part.scaling(mesh)?);
        objects.push(Rendered::new(Component::ControlPlane, &control_plane_deployment::build(mesh, workload))?);
        overlay(&mut objects, first, &workload.overlays)?;
    }
    if let Some(workload) = &mesh.webhook {
        let part = Part {
            component: Component::Webhook,
            namespace: &mesh.namespace,
            name: &mesh.injector(),
            selector: pod::webhook_selector(mesh),
            scale: &workload.scale,
        };
        let first = objects.len();
        objects.extend(access(mesh, &part)?);
        objects.push(Rendered::new(Component::Webhook, &webhook_service::build(mesh))?);
        objects.extend(part.scaling(mesh)?);
        objects.push(Rendered::new(Component::Webhook, &webhook_deployment::build(mesh, workload))?);
        overlay(&mut objects, first, &workload.overlays)?;
    }
    for gateway in &mesh.gateways {
        let first = objects.len();
        let account = format!("{}-service-account", gateway.name);
        objects.push(Rendered::new(
            Component::Gateway,
            &service_account::build(mesh, Component::Gateway, &gateway.namespace, &account),
        )?);
        objects.push(Rendered::new(Component::Gateway, &gateway_service::build(mesh, gateway))?);
        let part = Part {
            component: Component::Gateway,
            namespace: &gateway.namespace,
            name: &gateway.name,
            selector: pod::gateway_selector(gateway),
            scale: &gateway.scale,
        };
        objects.extend(part.scaling(mesh)?);
        let deployment = gateway_deployment::build(mesh, gateway, &account)?;
        objects.push(Rendered::new(Component::Gateway, &deployment)?.after_control_plane());
        overlay(&mut objects, first, &gateway.overlays)?;
    }
    objects.extend(addons::build(mesh)?);
    Ok(objects)
}

/// Lays the overlays of a part over its objects, which are those from the `first` on.
pub(crate) fn overlay(objects: &mut Vec<Rendered>, first: usize, overlays: &[Overlay]) -> Result<(), RenderError> {
    for rendered in objects.split_off(first) {
        objects.push(rendered.patched(overlays)?);
    }
    Ok(())
}

/// The two ConfigMaps that the webhook reads: the mesh's and the injector's.
pub(crate) fn settings(mesh: &Mesh) -> Result<(ConfigMap, ConfigMap), RenderError> {
    Ok((mesh_config_map::build(mesh)?, injector_config_map::build(mesh)?))
}

/// What is made alike for every Deployment.
struct Part<'a> {
    component: Component,
    namespace: &'a str,
    name: &'a str,
    selector: BTreeMap<String, String>,
    scale: &'a Scale,
}

impl Part<'_> {
    /// Disruption budget and autoscaler.
    fn scaling(self, mesh: &Mesh) -> Result<Vec<Rendered>, RenderError> {
        let Self { component, namespace, name, selector, scale } = self;
        let mut objects = Vec::new();
        if let Some(budget) = &scale.budget {
            let object = disruption_budget::build(mesh, component, namespace, name, selector, budget);
            objects.push(Rendered::new(component, &object)?);
        }
        if let Some(scaling) = &scale.autoscaling {
            let object = autoscaler::build(mesh, component, namespace, name, scaling);
            objects.push(Rendered::new(component, &object)?);
        }
        Ok(objects)
    }
}

/// The service account of a part, and what it may do.
fn access(mesh: &Mesh, part: &Part<'_>) -> Result<Vec<Rendered>, RenderError> {
    let (component, name) = (part.component, part.name);
    Ok(vec![
        Rendered::new(component, &service_account::build(mesh, component, &mesh.namespace, name))?,
        Rendered::new(component, &roles::cluster_role(mesh, component))?,
        Rendered::new(component, &roles::cluster_role_binding(mesh, component, name))?,
        Rendered::new(component, &roles::role(mesh, component, name))?,
        Rendered::new(component, &roles::role_binding(mesh, component, name))?,
    ])
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
