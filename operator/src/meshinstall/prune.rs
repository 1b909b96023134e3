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

/// Whether an object holds somebody's data: it goes only when somebody asks for that.
pub(crate) fn holds_data((resource, _): &Owned) -> bool {
    is_claim(resource)
}

/// Whether it is the kind of what holds data.
pub(crate) fn is_claim(resource: &ApiResource) -> bool {
    resource.kind == "PersistentVolumeClaim"
}

/// The data that stay though what they were for is about to go.
pub(crate) fn outliving<'a>(owned: &'a [Owned], superfluous: &[&Owned]) -> Vec<&'a Owned> {
    let component = |(_, object): &Owned| object.labels().get(labels::COMPONENT).cloned();
    let gone: HashSet<_> = superfluous.iter().map(|one| component(one)).collect();
    let still_used = |claim: &Owned| {
        owned.iter().any(|one| {
            one.0.kind == "Deployment"
                && component(one) == component(claim)
                && !superfluous.iter().any(|gone| std::ptr::eq(*gone, one))
        })
    };
    owned.iter().filter(|one| holds_data(one) && gone.contains(&component(one)) && !still_used(one)).collect()
}

/// What is to go: all that is owned and not rendered, but no data. Only kinds that the operator manages are among `owned`, so never
/// a Namespace, a CRD or somebody's Secret.
pub(crate) fn superfluous<'a>(owned: &'a [Owned], rendered: impl IntoIterator<Item = &'a Rendered>) -> Vec<&'a Owned> {
    let wanted: HashSet<_> = rendered
        .into_iter()
        .map(|wanted| (wanted.resource.plural.as_str(), wanted.object.namespace(), wanted.object.name_any()))
        .collect();
    owned
        .iter()
        .filter(|one| !holds_data(one))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube::ResourceExt;
    use kube::api::{ApiResource, DynamicObject};
    use names::labels;

    use super::{Owned, outliving, superfluous};

    fn owned(kind: &str, name: &str, component: &str) -> Owned {
        let resource = ApiResource {
            group: String::new(),
            version: "v1".into(),
            api_version: "v1".into(),
            kind: kind.into(),
            plural: format!("{}s", kind.to_lowercase()),
        };
        let mut object = DynamicObject::new(name, &resource).within("istio-system");
        object.metadata.labels = Some([(labels::COMPONENT.to_owned(), component.to_owned())].into());
        (resource, Arc::new(object))
    }

    /// A claim is never pruned; that it stays is told when the last of its addon goes, and not again.
    #[test]
    fn data_outlive_what_they_were_for() {
        let addon = vec![
            owned("PersistentVolumeClaim", "prometheus", "prometheus"),
            owned("Deployment", "prometheus", "prometheus"),
            owned("Service", "prometheus", "prometheus"),
            owned("Deployment", "kiali", "kiali"),
        ];
        let gone = superfluous(&addon, []);
        let names: Vec<&str> = gone.iter().map(|(resource, _)| resource.kind.as_str()).collect();
        assert_eq!(names, ["Deployment", "Service", "Deployment"]);
        let kept: Vec<String> = outliving(&addon, &gone).iter().map(|(_, object)| object.name_any()).collect();
        assert_eq!(kept, ["prometheus"]);

        let only_the_service: Vec<&Owned> = gone.iter().copied().filter(|one| one.0.kind == "Service").collect();
        assert!(outliving(&addon, &only_the_service).is_empty(), "its Deployment still runs");
        let left =
            vec![owned("PersistentVolumeClaim", "prometheus", "prometheus"), owned("Deployment", "kiali", "kiali")];
        assert!(outliving(&left, &superfluous(&left, [])).is_empty(), "told already");
    }
}
