//! MutatingWebhookConfiguration `istio-sidecar-injector[-<revision>]` and ValidatingWebhookConfiguration
//! `istio-validator[-<revision>]-<namespace>`: what the API server asks the webhook about. The webhook's crate renders
//! them, because their selectors are the first half of the decisions that the webhook makes; here they become objects
//! of ours.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use webhook::configuration::{self, Registration};

use crate::meshinstall::mesh::{Component, Mesh};
use crate::meshinstall::trust::WebhookCa;

pub(super) fn mutating(mesh: &Mesh, ca: &WebhookCa) -> MutatingWebhookConfiguration {
    let mut object = configuration::mutating(&registration(mesh, ca.bundle().as_bytes()));
    make_ours(mesh, &mut object.metadata);
    object
}

pub(super) fn validating(mesh: &Mesh, ca: &WebhookCa) -> ValidatingWebhookConfiguration {
    let is_default = mesh.tags.contains(names::DEFAULT_REVISION);
    let mut object = configuration::validating(&registration(mesh, ca.bundle().as_bytes()), is_default);
    make_ours(mesh, &mut object.metadata);
    object
}

/// `istio-revision-tag-<tag>`: a tag is a name more for the revision, selected for itself.
pub(super) fn tag(mesh: &Mesh, ca: &WebhookCa, tag: &str) -> MutatingWebhookConfiguration {
    let mut object = configuration::tag(&registration(mesh, ca.bundle().as_bytes()), tag);
    make_ours(mesh, &mut object.metadata);
    object
}

/// The value by which pods of all namespaces are injected.
pub(in crate::meshinstall) const NAMESPACES_BY_DEFAULT: &str = "/sidecarInjectorWebhook/enableNamespacesByDefault";

fn registration<'a>(mesh: &'a Mesh, ca_bundle: &'a [u8]) -> Registration<'a> {
    let values = Value::Object(mesh.values.clone());
    let by_default = values.pointer(NAMESPACES_BY_DEFAULT);
    Registration {
        revision: &mesh.revision,
        namespace: &mesh.namespace,
        enable_namespaces_by_default: by_default.and_then(Value::as_bool).unwrap_or(false),
        ca_bundle,
    }
}

fn make_ours(mesh: &Mesh, metadata: &mut ObjectMeta) {
    let ours = mesh.cluster_object(Component::Webhook, "");
    metadata.labels.get_or_insert_default().extend(ours.labels.unwrap_or_default());
    metadata.owner_references = ours.owner_references;
}
