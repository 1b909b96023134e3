//! Takes a mesh away, in an order that keeps the cluster usable at every moment: the webhook configurations first, so
//! that pods can be created; then the gateways, which drain while their control plane is still there; then webhook,
//! control plane, the addons that watched all of it, and the rest. [`next`] is pure.

use std::sync::Arc;
use std::time::Duration;

use crds::install::MeshInstall;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use names::{annotations, labels, resources};

use super::apply::is_ignored;
use super::build::display;
use super::mesh::Component;
use super::prune::Owned;
use super::purge::Extent;
use crate::pod::Pod;
use crate::usage::Usage;

/// How long after its time a pod is still waited for: the kubelet of its node may be gone.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// The stages, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Admission,
    Gateways,
    Webhook,
    ControlPlane,
    Addons,
    Rest,
}

impl Stage {
    const ALL: [Self; 6] =
        [Self::Admission, Self::Gateways, Self::Webhook, Self::ControlPlane, Self::Addons, Self::Rest];

    fn of((resource, object): &Owned) -> Self {
        if resource.group == "admissionregistration.k8s.io" {
            return Self::Admission;
        }
        let component = object.labels().get(labels::COMPONENT).and_then(|label| Component::parse(label));
        component.map_or(Self::Rest, Self::of_component)
    }

    fn of_component(component: Component) -> Self {
        match component {
            Component::Gateway => Self::Gateways,
            Component::Webhook => Self::Webhook,
            Component::ControlPlane => Self::ControlPlane,
            Component::Addon(_) => Self::Addons,
            Component::Configuration => Self::Rest,
        }
    }

    fn of_pod(pod: &Pod) -> Option<Self> {
        Component::parse(pod.labels().get(labels::COMPONENT)?).map(Self::of_component)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Admission => "webhook configurations",
            Self::Gateways => "gateways",
            Self::Webhook => "the webhook",
            Self::ControlPlane => "the control plane",
            Self::Addons => "addons",
            Self::Rest => "the rest",
        }
    }
}

/// How long a deletion waits while somebody uses the revision, unless the spec says otherwise.
const GRACE: u32 = 30;

/// How long to wait before the first step; None when it is time, nobody uses the revision, or somebody has said not to.
pub(crate) fn grace(install: &MeshInstall, usage: &Usage, now: Timestamp) -> Option<Duration> {
    let forced = install.annotations().get(annotations::FORCE_DELETE).is_some_and(|value| value == "true");
    if forced || !usage.is_used() {
        return None;
    }
    let grace = SignedDuration::from_secs(install.spec.deletion_grace_period_seconds.unwrap_or(GRACE).into());
    let end = install.metadata.deletion_timestamp.as_ref()?.0 + grace;
    Duration::try_from(end.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// Delete these; what is already on its way out is not among them.
    Delete {
        objects: Vec<&'a Owned>,
        /// How far it is, for the status.
        progress: String,
    },
    /// Wait for pods; the watch tells when they are gone, and after this time they are not waited for any more.
    Wait { progress: String, at_most: Duration },
    /// Nothing is left.
    Done,
}

/// Decides the next step from what is still there.
pub(crate) fn next<'a>(owned: &'a [Owned], pods: &[Arc<Pod>], now: Timestamp) -> Next<'a> {
    for (index, stage) in Stage::ALL.into_iter().enumerate() {
        let step = format!("step {} of {}, {}", index + 1, Stage::ALL.len(), stage.as_str());
        let there: Vec<&Owned> = owned.iter().filter(|one| Stage::of(one) == stage && !is_ignored(&one.1)).collect();
        if !there.is_empty() {
            let names: Vec<String> = there.iter().map(|(resource, object)| display(resource, object)).collect();
            let objects = there.into_iter().filter(|(_, o)| o.metadata.deletion_timestamp.is_none()).collect();
            return Next::Delete { objects, progress: format!("Deleting, {step}: {}", shortened(&names)) };
        }
        let waited: Vec<(&Arc<Pod>, Duration)> = pods
            .iter()
            .filter(|pod| Stage::of_pod(pod) == Some(stage))
            .filter_map(|pod| Some((pod, patience(pod, now)?)))
            .collect();
        if let Some(at_most) = waited.iter().map(|(_, patience)| *patience).max() {
            let names: Vec<String> = waited
                .iter()
                .map(|(pod, _)| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()))
                .collect();
            let progress = format!("Deleting, {step}: waiting for pods to end: {}", shortened(&names));
            return Next::Wait { progress, at_most };
        }
    }
    Next::Done
}

/// How long a pod is still waited for; None when it has had its time.
fn patience(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let Some(deadline) = &pod.metadata.deletion_timestamp else {
        // Its Deployment has only just gone; the garbage collector is about to delete it.
        return Duration::try_from(PATIENCE).ok();
    };
    let left = (deadline.0 + PATIENCE).duration_since(now);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

fn shortened(names: &[String]) -> String {
    const MOST: usize = 5;
    let shown = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MOST).filter(|more| *more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}

/// What stays, for the last event. `claims` hold the data of addons.
pub(crate) fn kept(namespace: &str, purged: Option<(Extent, &[String])>, claims: &[String]) -> String {
    let rest = kept_of_mesh(namespace, purged);
    if claims.is_empty() { rest } else { format!("{rest}; the data of addons: {}", shortened(claims)) }
}

fn kept_of_mesh(namespace: &str, purged: Option<(Extent, &[String])>) -> String {
    match purged {
        Some((Extent { last_of_all: true, .. }, [])) => return format!("Kept: namespace {namespace}"),
        Some((Extent { last_of_all: true, .. }, left)) => {
            return format!("Kept: namespace {namespace}, {}", shortened(left));
        }
        Some((Extent { last_of_its_namespace: true, .. }, _)) => {
            return format!(
                "Kept, since there are other MeshInstalls: namespace {namespace}, ConfigMap {} in every namespace, and all \
                 CustomResourceDefinitions with their objects",
                resources::ROOT_CERT_CONFIG_MAP
            );
        }
        _ => {}
    }
    format!(
        "Kept: namespace {namespace} with its Leases, Secret {namespace}/{} (the mesh's certificate authority), ConfigMap \
         {} in every namespace, and all CustomResourceDefinitions with their objects",
        resources::CA_SECRET,
        resources::ROOT_CERT_CONFIG_MAP
    )
}

#[cfg(test)]
mod tests {
    use super::{Extent, kept};

    #[test]
    fn the_last_event_names_the_data_that_stay() {
        let claims = ["PersistentVolumeClaim istio-system/prometheus".to_owned()];
        let purged = (Extent { last_of_its_namespace: true, last_of_all: true }, [].as_slice());
        for (name, purged, claims, end) in [
            ("nothing", None, [].as_slice(), "all CustomResourceDefinitions with their objects"),
            ("data", None, claims.as_slice(), "; the data of addons: PersistentVolumeClaim istio-system/prometheus"),
            ("everything purged", Some(purged), [].as_slice(), "Kept: namespace istio-system"),
        ] {
            let text = kept("istio-system", purged, claims);
            assert!(text.ends_with(end), "{name}: {text}");
        }
    }
}
