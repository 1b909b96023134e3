//! The record of what a MeshInstall consists of, as an ApplySet (KEP-3659), so that tools that know the convention can
//! list it: the MeshInstall is the parent and says which kinds and namespaces to look at, each member names the set.
//!
//! The record is never smaller than what is in the cluster: it grows before objects are made, and shrinks after they were
//! pruned. So an operator that ends in between leaves nothing that the record does not lead to.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crds::install::MeshInstall;
use kube::api::{ApiResource, DynamicObject};
use kube::{Resource, ResourceExt};
use names::{annotations, labels, resources};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::build::Rendered;
use super::prune::Owned;

/// The id of the set whose parent is the MeshInstall `name`: the KEP's formula, with the empty namespace of an object of
/// the cluster.
pub(crate) fn id(name: &str) -> String {
    let parent = [name, "", &MeshInstall::kind(&()), &MeshInstall::group(&())].join(".");
    format!("applyset-{}-v1", BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(parent)))
}

/// Where members are to be looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// `Deployment.apps`; the core group has no name: `Service`.
    kinds: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Record {
    /// Of what is rendered. What revisions share is no member.
    pub(crate) fn of<'a>(objects: impl IntoIterator<Item = &'a Rendered>) -> Self {
        let mut record = Self::default();
        for Rendered { resource, object, .. } in objects {
            record.add(resource, object);
        }
        record
    }

    /// With objects that stay though nobody renders them.
    pub(crate) fn keeping<'a>(mut self, owned: impl IntoIterator<Item = &'a Owned>) -> Self {
        for (resource, object) in owned {
            self.add(resource, object);
        }
        self
    }

    fn add(&mut self, resource: &ApiResource, object: &DynamicObject) {
        if object.labels().contains_key(labels::PART_OF_SET) {
            let group = if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) };
            self.kinds.insert(format!("{}{group}", resource.kind));
            self.namespaces.extend(object.namespace());
        }
    }

    /// As the MeshInstall has it.
    fn read(install: &MeshInstall) -> Self {
        let list = |key: &str| {
            let text = install.annotations().get(key).map(String::as_str).unwrap_or_default();
            text.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect()
        };
        Self { kinds: list(annotations::SET_KINDS), namespaces: list(annotations::SET_NAMESPACES) }
    }

    /// With what the MeshInstall's record says already: its objects may still be there.
    pub(crate) fn grown(mut self, install: &MeshInstall) -> Self {
        let before = Self::read(install);
        self.kinds.extend(before.kinds);
        self.namespaces.extend(before.namespaces);
        self
    }

    /// The change to the MeshInstall's metadata that records it; none when it says so already.
    pub(crate) fn patch(&self, install: &MeshInstall) -> Option<Value> {
        let joined = |of: &BTreeSet<String>| of.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let annotations = [
            (annotations::SET_TOOLING, format!("{}/v{}", resources::OPERATOR, names::VERSION)),
            (annotations::SET_KINDS, joined(&self.kinds)),
            (annotations::SET_NAMESPACES, joined(&self.namespaces)),
        ];
        let id = id(&install.name_any());
        let says = annotations.iter().all(|(key, value)| install.annotations().get(*key) == Some(value))
            && install.labels().get(labels::SET_ID) == Some(&id);
        let annotations: serde_json::Map<String, Value> =
            annotations.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        (!says).then(|| json!({"metadata": {"labels": {labels::SET_ID: id}, "annotations": annotations}}))
    }
}

#[cfg(test)]
mod tests {
    use crds::install::MeshInstall;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Service;
    use k8s_openapi::api::rbac::v1::ClusterRole;
    use kube::Resource;
    use kube::core::NamespaceResourceScope;
    use names::labels::PART_OF_SET;
    use serde_json::{Value, json};

    use super::{Record, id};
    use crate::meshinstall::build::Rendered;
    use crate::meshinstall::mesh::Component;

    /// By `printf 'default..MeshInstall.install.forestay.dev' | openssl dgst -sha256 -binary | basenc --base64url`.
    #[test]
    fn the_id_is_that_of_the_keps_formula() {
        assert_eq!(id("default"), "applyset-2Qyh8-usLRjN2p22x4sze8b2Ll0up7NVTMQuUekUPZ4-v1");
        assert_ne!(id("default"), id("canary"));
        assert!(id(&"x".repeat(63)).len() <= 63, "it is a label's value");
    }

    fn member<K>(namespace: &str, labels: &Value) -> Rendered
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + serde::Serialize + serde::de::DeserializeOwned,
    {
        let object = json!({"metadata": {"name": "a", "namespace": namespace, "labels": labels}});
        Rendered::new::<K>(Component::Gateway, &serde_json::from_value(object).expect("an object")).expect("rendered")
    }

    fn install(metadata: &Value) -> MeshInstall {
        let mut object = json!({"apiVersion": "install.forestay.dev/v1alpha1", "kind": "MeshInstall", "spec": {}});
        object["metadata"] = metadata.clone();
        serde_json::from_value(object).expect("a MeshInstall")
    }

    #[test]
    fn the_record_grows_before_and_shrinks_after() {
        let ours = json!({PART_OF_SET: id("default")});
        let cluster_role: ClusterRole =
            serde_json::from_value(json!({"metadata": {"name": "a", "labels": ours}})).expect("a ClusterRole");
        let objects = [
            member::<Service>("istio-system", &ours),
            member::<Deployment>("edge", &ours),
            member::<Service>("shared", &json!({})),
            Rendered::new(Component::ControlPlane, &cluster_role).expect("rendered"),
        ];
        let kinds = "ClusterRole.rbac.authorization.k8s.io,Deployment.apps,Service";
        let record = Record::of(&objects);
        let fresh = install(&json!({"name": "default"}));
        let first = record.clone().grown(&fresh).patch(&fresh).expect("nothing is recorded yet");
        assert_eq!(first["metadata"]["labels"]["applyset.kubernetes.io/id"], id("default"));
        let annotations = &first["metadata"]["annotations"];
        assert_eq!(annotations["applyset.kubernetes.io/contains-group-kinds"], kinds);
        assert_eq!(annotations["applyset.kubernetes.io/additional-namespaces"], "edge,istio-system");
        assert_eq!(annotations["applyset.kubernetes.io/tooling"], format!("forestay-operator/v{}", names::VERSION));

        let mut recorded = first["metadata"].clone();
        recorded["name"] = json!("default");
        let settled = install(&recorded);
        assert_eq!(record.clone().grown(&settled).patch(&settled), None, "nothing new is not written");

        let fewer = Record::of(&objects[..1]);
        assert_eq!(fewer.clone().grown(&settled).patch(&settled), None, "the others may still be there");
        let smaller = fewer.patch(&settled).expect("they were pruned");
        assert_eq!(smaller["metadata"]["annotations"]["applyset.kubernetes.io/contains-group-kinds"], "Service");
        assert_eq!(smaller["metadata"]["annotations"]["applyset.kubernetes.io/additional-namespaces"], "istio-system");
    }
}
