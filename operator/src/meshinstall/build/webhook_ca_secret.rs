//! Secret `istio-sidecar-injector-ca`: the webhook's certificate authority.

use k8s_openapi::api::core::v1::Secret;
use names::{labels, resources};

use crate::meshinstall::mesh::{Component, Mesh};
use crate::meshinstall::trust::WebhookCa;

const OF_ONE_REVISION: [&str; 3] = [labels::OWNED_BY, labels::REVISION, labels::PART_OF_SET];

/// All revisions of a namespace share it, so it belongs to none of them; the last one to go takes it along.
pub(super) fn build(mesh: &Mesh, ca: &WebhookCa) -> Secret {
    let mut metadata = mesh.object(Component::Configuration, &mesh.namespace, resources::WEBHOOK_CA_SECRET);
    metadata.owner_references = None;
    metadata.labels.get_or_insert_default().retain(|label, _| !OF_ONE_REVISION.contains(&label.as_str()));
    Secret { metadata, type_: Some("Opaque".into()), data: Some(ca.data()), ..Secret::default() }
}
