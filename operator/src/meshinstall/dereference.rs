//! Reads what a MeshInstall names or must fit beside: other MeshInstalls, namespaces, control planes of other makers,
//! the webhook's certificate authority. Everything else that a reconciliation needs is in [`crate::live::Live`].

use std::collections::{BTreeMap, BTreeSet};

use crds::install::{MeshInstall, MeshInstallSpec, MeshRevisionTag};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use names::{labels, resources};

use crate::addons::AddonKind;
use crate::tag;

/// What was read; plain values, so that everything after it is pure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dereferenced {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) spec: MeshInstallSpec,
    /// All other MeshInstalls that are not being deleted.
    pub(crate) others: Vec<Other>,
    /// Every namespace that the spec names; one that does not exist is not there.
    pub(crate) namespaces: BTreeMap<String, NamespaceState>,
    /// Deployments in `spec.namespace` that are an `istiod`, but none that we made.
    pub(crate) foreign_control_planes: Vec<String>,
    /// The Secret with the webhook's certificate authority.
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

/// Reads what `install` names. `all` are all MeshInstalls, itself among them, `tags` all tags.
pub(crate) async fn dereference(
    client: &Client,
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
        if let Some(namespace) = api.get_opt(name).await? {
            let terminating = namespace.metadata.deletion_timestamp.is_some();
            let state = if terminating { NamespaceState::Terminating } else { NamespaceState::Active };
            namespaces.insert(name.to_owned(), state);
        }
    }

    let control_planes: Api<Deployment> = Api::namespaced(client.clone(), &spec.namespace);
    let control_planes = control_planes.list(&ListParams::default().labels("app=istiod")).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &spec.namespace);
    let webhook_ca = secrets.get_opt(resources::WEBHOOK_CA_SECRET).await?;

    Ok(Dereferenced {
        name: install.name_any(),
        uid: install.uid().unwrap_or_default(),
        others: others(install, all),
        namespaces,
        foreign_control_planes: control_planes
            .iter()
            .filter(|deployment| !made_by_us(deployment))
            .map(ResourceExt::name_any)
            .collect(),
        webhook_ca,
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

fn made_by_us(deployment: &Deployment) -> bool {
    deployment.labels().contains_key(labels::OWNED_BY)
        || deployment.owner_references().iter().any(|owner| owner.kind == "MeshInstall")
}
