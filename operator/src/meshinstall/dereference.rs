//! Reads what a MeshInstall names or must fit beside: other MeshInstalls, namespaces, control planes of other makers,
//! the webhook's certificate authority. Everything else that a reconciliation needs is in [`crate::live::Live`].

use std::collections::{BTreeMap, BTreeSet};

use crds::install::{ImagesStatus, MeshInstall, MeshInstallSpec, MeshRevisionTag};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use kube::core::TypeMeta;
use kube::{Api, Client, Resource, ResourceExt};
use names::{labels, resources};

use crate::addons::AddonKind;
use crate::live::Live;
use crate::tag;

/// What was read; plain values, so that everything after it is pure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dereferenced {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) spec: MeshInstallSpec,
    /// The version in force, as the status has it, and its images.
    pub(crate) in_force: Option<String>,
    pub(crate) images_in_force: Option<ImagesStatus>,
    /// All other MeshInstalls that are not being deleted.
    pub(crate) others: Vec<Other>,
    /// Every namespace that the spec names; one that does not exist is not there.
    pub(crate) namespaces: BTreeMap<String, NamespaceState>,
    /// Deployments in `spec.namespace` that are an `istiod`, but none that we made.
    pub(crate) foreign_control_planes: Vec<String>,
    /// The Secret with the webhook's certificate authority, as the watch knows it.
    pub(crate) webhook_ca: Option<Secret>,
    /// The MeshRevisionTags that point at it.
    pub(crate) tags: BTreeSet<String>,
}

/// Another MeshInstall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) revision: String,
    /// It was there first.
    pub(crate) older: bool,
    /// The addons that it wants deployed.
    pub(crate) addons: Vec<AddonKind>,
}

/// Whether objects can be created in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceState {
    Active,
    Terminating,
}

impl NamespaceState {
    pub(crate) fn of(namespace: &ObjectMeta) -> Self {
        if namespace.deletion_timestamp.is_some() { Self::Terminating } else { Self::Active }
    }
}

/// Reads what `install` names, from the watches. `all` are all MeshInstalls, itself among them, `tags` all tags.
pub(crate) async fn dereference(
    client: &Client,
    live: &Live,
    install: &MeshInstall,
    all: &[MeshInstall],
    tags: &[MeshRevisionTag],
) -> Result<Dereferenced, kube::Error> {
    let spec = install.spec.clone();
    let mut named: Vec<&str> = vec![&spec.namespace];
    named.extend(spec.gateways.iter().filter_map(|gateway| gateway.namespace.as_deref()));
    named.sort_unstable();
    named.dedup();
    let api: Api<Namespace> = Api::all(client.clone());
    let mut namespaces = BTreeMap::new();
    for name in named {
        let known = match live.namespace(name) {
            Some(state) => Some(state),
            // It may be newer than what the watch has told.
            None => api.get_metadata_opt(name).await?.map(|namespace| NamespaceState::of(&namespace.metadata)),
        };
        namespaces.extend(known.map(|state| (name.to_owned(), state)));
    }

    Ok(Dereferenced {
        name: install.name_any(),
        uid: install.uid().unwrap_or_default(),
        in_force: install.status.as_ref().and_then(|status| status.version.clone()),
        images_in_force: install.status.as_ref().and_then(|status| status.images.clone()),
        others: others(install, all),
        namespaces,
        foreign_control_planes: live.foreign_control_planes(&spec.namespace),
        webhook_ca: watched_authority(live, &spec.namespace),
        tags: tag::pointing_at(install, all, tags),
        spec,
    })
}

/// The other MeshInstalls, as seen from `install`. Of two with one time the name decides, so that both agree.
pub(crate) fn others(install: &MeshInstall, all: &[MeshInstall]) -> Vec<Other> {
    let age = |of: &MeshInstall| (of.metadata.creation_timestamp.clone().map(|time| time.0), of.name_any());
    all.iter()
        .filter(|other| other.uid() != install.uid() && other.metadata.deletion_timestamp.is_none())
        .map(|other| Other {
            name: other.name_any(),
            namespace: other.spec.namespace.clone(),
            revision: other.spec.revision.clone(),
            older: age(other) < age(install),
            addons: deployed_addons(&other.spec),
        })
        .collect()
}

/// The addons that a spec wants deployed.
fn deployed_addons(spec: &MeshInstallSpec) -> Vec<AddonKind> {
    let own = |kind: &AddonKind| spec.addons.as_ref().and_then(|addons| kind.of(addons));
    AddonKind::ALL
        .into_iter()
        .filter(|kind| own(kind).is_some_and(|addon| addon.enabled && addon.external_url.is_none()))
        .collect()
}

/// The webhook's certificate authority as the watch knows it.
fn watched_authority(live: &Live, namespace: &str) -> Option<Secret> {
    let object = live.get(&ApiResource::erase::<Secret>(&()), Some(namespace), resources::WEBHOOK_CA_SECRET)?;
    let mut object = object.as_ref().clone();
    // Objects in a list carry no type of their own.
    object.types.get_or_insert_with(TypeMeta::resource::<Secret>);
    object.try_parse().ok()
}

/// The Secret with the webhook's certificate authority, from the API server.
pub(crate) async fn authority(client: &Client, namespace: &str) -> Result<Option<Secret>, kube::Error> {
    Api::namespaced(client.clone(), namespace).get_opt(resources::WEBHOOK_CA_SECRET).await
}

/// Whether the operator made an object.
pub(crate) fn is_ours(object: &impl Resource) -> bool {
    object.labels().contains_key(labels::OWNED_BY)
        || object.owner_references().iter().any(|owner| owner.kind == "MeshInstall")
}
