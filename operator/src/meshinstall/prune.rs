//! Takes away what was made for a MeshInstall and is not rendered any more, for example a gateway that left the spec.

use std::collections::HashSet;
use std::sync::Arc;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Preconditions, PropagationPolicy};
use kube::{Client, ResourceExt};
use names::labels;

use super::apply::is_ignored;
use super::build::{Rendered, display};

/// An object of ours, as the watch knows it.
pub(crate) type Owned = (ApiResource, Arc<DynamicObject>);

/// What is to go: all that is owned and not rendered. Only kinds that the operator manages are among `owned`, so never
/// a Namespace, a CRD or somebody's Secret.
pub(crate) fn superfluous<'a>(owned: &'a [Owned], rendered: impl IntoIterator<Item = &'a Rendered>) -> Vec<&'a Owned> {
    let wanted: HashSet<_> = rendered
        .into_iter()
        .map(|wanted| (wanted.resource.plural.as_str(), wanted.object.namespace(), wanted.object.name_any()))
        .collect();
    owned
        .iter()
        .filter(|(resource, object)| {
            !wanted.contains(&(resource.plural.as_str(), object.namespace(), object.name_any()))
                && object.metadata.deletion_timestamp.is_none()
                && !is_ignored(object)
        })
        .collect()
}

/// Deletes one object, but not another that has taken its name since.
pub(crate) async fn delete(client: &Client, (resource, object): &Owned) -> Result<(), (String, kube::Error)> {
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    // A tag's configuration can have moved to another MeshInstall since it was looked at; it keeps its uid then.
    let unchanged = object.labels().contains_key(labels::TAG).then(|| object.resource_version()).flatten();
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: object.uid(), resource_version: unchanged }),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    match api.delete(&object.name_any(), &params).await {
        Ok(_) => Ok(()),
        // Gone already, or another object by now.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err((display(resource, object), error)),
    }
}
