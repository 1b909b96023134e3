//! From what was read to what it means: a [`Mesh`], or the field that is wrong and what to do about it.
//!
//! The schema and its CEL rules have already refused what can be known from the object alone; here is what takes a
//! look at the rest of the cluster, at the operator's own version, or into MeshConfig.

mod addons;
mod gateways;
mod mesh_config;
mod overlays;
mod pods;
mod syntax;
#[cfg(test)]
pub(crate) mod tests;
mod values;
#[cfg(test)]
mod wrong_fields;

use std::collections::BTreeMap;

use crds::install::condition::Reason;
use crds::install::{ImagePullPolicy, ImagesStatus, MeshInstallSpec, WorkloadSpec};
use names::{images, resources};

use self::gateways::gateways;
use super::dereference::{Dereferenced, NamespaceState};
use super::mesh::{Images, Mesh, Proxy, Workload};
use super::profile;
use crate::addons::AddonKind;
use crate::version::{self, Decision, Refused};

/// A MeshInstall that cannot be honoured as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub(crate) struct Invalid {
    /// The reason of the condition.
    pub(crate) reason: Reason,
    /// The field, `spec.gateways[1].namespace`.
    pub(crate) field: String,
    /// What is wrong with it and what to do.
    pub(crate) message: String,
}

impl Invalid {
    fn spec(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: Reason::InvalidSpec, field: field.into(), message: message.into() }
    }

    /// A version that is not followed.
    pub(crate) fn version(refused: Refused) -> Self {
        Self { reason: refused.reason, field: "spec.version".into(), message: refused.message }
    }
}

/// What the operator's environment says about images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RelatedImages {
    /// `RELATED_IMAGE_FORESTAY`.
    pub(crate) forestay: Option<String>,
    /// `RELATED_IMAGE_PROXY`.
    pub(crate) proxy: Option<String>,
    /// `RELATED_IMAGE_PROMETHEUS` and the others.
    pub(crate) addons: BTreeMap<AddonKind, String>,
}

/// What a MeshInstall means. Gives the first thing that is wrong, in the order in which a person would look.
pub(crate) fn validate(read: &Dereferenced, related: &RelatedImages) -> Result<Mesh, Invalid> {
    let spec = &read.spec;
    let Decision { run: version, refused } =
        version::decide(&version::own(), &spec.version, read.in_force.as_deref()).map_err(Invalid::version)?;
    revision(read)?;
    foreign_control_plane(read)?;
    terminating_namespace(read)?;
    mesh_config::check(&spec.mesh_config)?;
    images_named(spec)?;

    let defaults = profile::defaults(spec.profile);
    let hub = spec.hub.clone().unwrap_or_else(|| images::HUB.to_owned());
    let tag = spec.tag.as_ref().unwrap_or(&version);
    let standard = images_of(&version, spec, read, related);
    let workload = |field: &str, own: Option<&WorkloadSpec>, resources: &crds::install::Resources, replicas| {
        let empty = WorkloadSpec::default();
        let own = own.unwrap_or(&empty);
        if !own.enabled.unwrap_or(defaults.enabled) {
            return Ok(None);
        }
        overlays::check(field, &own.overlays)?;
        syntax::resources(&format!("{field}.resources"), own.resources.as_ref())?;
        if let Some(image) = &own.image {
            syntax::image(&format!("{field}.image"), image)?;
        }
        let number = own.replicas.or(replicas).filter(|_| own.autoscaling.is_none());
        Ok(Some(Workload {
            image: own.image.as_ref().unwrap_or(&standard.forestay).clone(),
            resources: own.resources.clone().unwrap_or_else(|| resources.clone()),
            scale: pods::scale(field, number, own.autoscaling.as_ref(), own.disruption_budget.as_ref())?,
            pods: pods::settings(field, own.pod.as_ref())?,
            overlays: own.overlays.clone(),
        }))
    };

    let under = super::mesh_config::defaults(&spec.namespace, &spec.revision);
    let under = super::mesh_config::merge(under, &defaults.mesh_config);
    let proxy = spec.proxy.clone().unwrap_or_default();
    let proxy_image = proxy.image.as_ref().unwrap_or(&standard.proxy).clone();
    let named = proxy_image != images::reference(&hub, images::PROXY, tag);

    let mut mesh = Mesh {
        name: read.name.clone(),
        uid: read.uid.clone(),
        namespace: spec.namespace.clone(),
        revision: spec.revision.clone(),
        tags: read.tags.clone(),
        images: Images {
            tag: tag.clone(),
            pull_policy: spec.image_pull_policy.unwrap_or(ImagePullPolicy::IfNotPresent).as_str(),
            pull_secrets: spec.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
            hub: hub.clone(),
            forestay: standard.forestay.clone(),
            proxy: standard.proxy.clone(),
        },
        version: version.clone(),
        refused,
        control_plane: workload("spec.controlPlane", spec.control_plane.as_ref(), &defaults.control_plane, None)?,
        webhook: workload("spec.webhook", spec.webhook.as_ref(), &defaults.webhook, defaults.webhook_replicas)?,
        gateways: gateways(read, &defaults)?,
        addons: addons::addons(read, related)?,
        proxy: Proxy {
            image_value: if named { proxy_image.clone() } else { images::PROXY.to_owned() },
            image: proxy_image,
            resources: proxy.resources.unwrap_or_else(|| defaults.sidecar.clone()),
            log_level: proxy.log_level.map_or("warning", crds::install::LogLevel::as_str),
        },
        without_effect: mesh_config::without_effect(&spec.mesh_config),
        mesh_config: super::mesh_config::merge(under, &spec.mesh_config),
        values: spec.values.clone(),
        trace_sampling: defaults.trace_sampling,
        openshift: defaults.openshift,
    };
    values::check(&mesh)?;
    mesh.without_effect.extend(values::without_effect(&mesh)?);
    Ok(mesh)
}

/// The images and resources that are the same for all parts.
fn images_named(spec: &MeshInstallSpec) -> Result<(), Invalid> {
    if let Some(hub) = &spec.hub {
        syntax::hub("spec.hub", hub)?;
    }
    let Some(proxy) = &spec.proxy else { return Ok(()) };
    if let Some(image) = &proxy.image {
        syntax::image("spec.proxy.image", image)?;
    }
    syntax::resources("spec.proxy.resources", proxy.resources.as_ref())
}

/// The images of the parts that name none. What the spec says wins over the operator's environment, which knows those of
/// its own version; the version in force keeps those that it came with; everything else is the default.
fn images_of(version: &str, spec: &MeshInstallSpec, read: &Dereferenced, related: &RelatedImages) -> ImagesStatus {
    let hub = spec.hub.as_deref().unwrap_or(images::HUB);
    let tag = spec.tag.as_deref().unwrap_or(version);
    let image = |name: &str, related: Option<&String>, before: Option<&String>| {
        let told = if version == names::VERSION {
            related
        } else {
            before.filter(|_| read.in_force.as_deref() == Some(version))
        };
        let told = told.filter(|_| spec.hub.is_none() && spec.tag.is_none());
        told.cloned().unwrap_or_else(|| images::reference(hub, name, tag))
    };
    let before = read.images_in_force.as_ref();
    ImagesStatus {
        forestay: image(images::FORESTAY, related.forestay.as_ref(), before.map(|images| &images.forestay)),
        proxy: image(images::PROXY, related.proxy.as_ref(), before.map(|images| &images.proxy)),
    }
}

/// A revision is one control plane: of two MeshInstalls that name it the older one has it. Also across namespaces,
/// because a pod's label names a revision and no namespace, so the webhooks of both would inject it.
fn revision(read: &Dereferenced) -> Result<(), Invalid> {
    let Some(owner) = read.others.iter().find(|other| other.revision == read.spec.revision && other.older) else {
        return Ok(());
    };
    Err(Invalid {
        reason: Reason::RevisionTaken,
        field: "spec.revision".into(),
        message: format!(
            "MeshInstall {} already has revision {:?} (in namespace {}); choose another spec.revision, or delete one of the two",
            owner.name, owner.revision, owner.namespace
        ),
    })
}

fn foreign_control_plane(read: &Dereferenced) -> Result<(), Invalid> {
    let Some(deployment) = read.foreign_control_planes.first() else { return Ok(()) };
    Err(Invalid {
        reason: Reason::ForeignObject,
        field: "spec.namespace".into(),
        message: format!(
            "Deployment {}/{deployment} is a control plane that this operator did not make: remove that Istio from the \
             namespace (its Secret {} or {} may stay, and is used), or choose another spec.namespace",
            read.spec.namespace,
            resources::CA_SECRET,
            resources::PLUGGED_CA_SECRET
        ),
    })
}

fn terminating_namespace(read: &Dereferenced) -> Result<(), Invalid> {
    if read.namespaces.get(&read.spec.namespace) != Some(&NamespaceState::Terminating) {
        return Ok(());
    }
    Err(Invalid {
        reason: Reason::NamespaceUnavailable,
        field: "spec.namespace".into(),
        message: format!(
            "namespace {} is being deleted; the mesh is installed again once it is gone",
            read.spec.namespace
        ),
    })
}
