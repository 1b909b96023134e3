//! MutatingWebhookConfiguration `istio-sidecar-injector[-<revision>]`: which pods the API server asks about. The
//! webhook's crate renders it, because its selectors are the first half of the decision that the webhook makes; here
//! it becomes an object of ours.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use webhook::configuration::{Registration, configuration};

use crate::meshinstall::mesh::{Component, Mesh};
use crate::meshinstall::trust::WebhookCa;

pub(super) fn build(mesh: &Mesh, ca: &WebhookCa) -> MutatingWebhookConfiguration {
    let mut object = configuration(&Registration {
        revision: &mesh.revision,
        namespace: &mesh.namespace,
        enable_namespaces_by_default: false,
        ca_bundle: ca.bundle().as_bytes(),
    });
    let ours = mesh.cluster_object(Component::Webhook, &mesh.webhook_configuration());
    object.metadata.labels.get_or_insert_default().extend(ours.labels.unwrap_or_default());
    object.metadata.owner_references = ours.owner_references;
    object
}
