//! In which order a mesh goes to another version: control plane, webhook, what the webhook injects, gateways. Pure, and
//! without memory: everything follows from what is rendered and what is in the cluster, so an operator that comes in the
//! middle goes on where the one before was.
//!
//! Only objects that are there and that go to other images have a turn to wait for. Everything else of a spec, and a first
//! installation, is brought in at once.

use crds::install::condition::Reason;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use kube::api::DynamicObject;
use names::labels;
use serde_json::Value;

use super::apply::Outcome;
use super::build::Rendered;
use super::mesh::Component;
use super::status::{Truth, Verdict, parse_deployment, rollout};
use crate::version;

/// The steps, in order. Each waits until the ones before are whole: every new pod available and no old one left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// A control plane understands proxies of the version before; the other way round nobody promises.
    ControlPlane,
    Webhook,
    /// The webhook's ConfigMap: which proxy new pods get. By now both its templates and its control plane are there.
    Injection,
    Gateways,
}

impl Stage {
    const ALL: [Self; 4] = [Self::ControlPlane, Self::Webhook, Self::Injection, Self::Gateways];

    /// The step that an object goes with; none for what is brought in at any time.
    pub(crate) fn of(rendered: &Rendered) -> Option<Self> {
        match (rendered.resource.kind.as_str(), rendered.component) {
            ("Deployment", Component::ControlPlane) => Some(Self::ControlPlane),
            ("Deployment", Component::Webhook) => Some(Self::Webhook),
            ("Deployment", Component::Gateway) => Some(Self::Gateways),
            ("ConfigMap", Component::Configuration) => {
                rendered.object.data.pointer("/data/values").is_some().then_some(Self::Injection)
            }
            _ => None,
        }
    }

    fn component(self) -> Option<Component> {
        match self {
            Self::ControlPlane => Some(Component::ControlPlane),
            Self::Webhook => Some(Component::Webhook),
            Self::Injection => None,
            Self::Gateways => Some(Component::Gateway),
        }
    }
}

/// `step 2 of 4, the webhook`.
impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self {
            Self::ControlPlane => "the control plane",
            Self::Webhook => "the webhook",
            Self::Injection => "what is injected",
            Self::Gateways => "the gateways",
        };
        let at = Self::ALL.iter().position(|stage| stage == self).unwrap_or_default() + 1;
        write!(f, "step {at} of {}, {what}", Self::ALL.len())
    }
}

/// What is to be done with an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Turn {
    /// Bring it in.
    Now(Rendered),
    /// Its turn has not come: keep it as the version in force has it.
    Before(Rendered),
    /// Its turn has not come, and nothing says what it was.
    Wait(Rendered),
}

/// Gives each of the objects its turn. `before` is the same mesh in the version in force; `present` what is in the
/// cluster, in the order of `wanted`.
pub(crate) fn turns(
    wanted: Vec<Rendered>,
    before: Option<&[Rendered]>,
    present: &[Option<std::sync::Arc<DynamicObject>>],
) -> Vec<Turn> {
    let live = |at: usize| present.get(at).and_then(Option::as_deref);
    let at = front(wanted.iter().enumerate().map(|(index, wanted)| (wanted, live(index))));
    let turn = |(index, wanted): (usize, Rendered)| {
        let (Some(at), Some(stage), Some(live)) = (at, Stage::of(&wanted), live(index)) else {
            return Turn::Now(wanted);
        };
        if stage <= at || !moves(&wanted, live) {
            return Turn::Now(wanted);
        }
        let same = |one: &&Rendered| one.resource == wanted.resource && one.display() == wanted.display();
        match before.and_then(|before| before.iter().find(same)).filter(|before| !moves(before, live)) {
            Some(before) => Turn::Before(before.clone()),
            None => Turn::Wait(wanted),
        }
    };
    wanted.into_iter().enumerate().map(turn).collect()
}

/// The first step with something that goes to other images or has not come up yet; none when all is whole.
pub(crate) fn front<'a>(objects: impl IntoIterator<Item = (&'a Rendered, Option<&'a DynamicObject>)>) -> Option<Stage> {
    objects
        .into_iter()
        .filter_map(|(wanted, live)| {
            let stage = Stage::of(wanted)?;
            let whole = live.is_some_and(|live| !moves(wanted, live) && is_whole(live));
            (!whole).then_some(stage)
        })
        .min()
}

/// The step that is under way once objects were brought in.
pub(crate) fn reached(outcomes: &[Outcome]) -> Option<Stage> {
    let later =
        outcomes.iter().filter(|outcome| outcome.later).filter_map(|outcome| Stage::of(&outcome.rendered)).min();
    let now = front(outcomes.iter().map(|outcome| (&outcome.rendered, outcome.current.as_deref())));
    [later, now].into_iter().flatten().min()
}

/// Whether every new pod is available and no old one is left. What has no pods is whole.
fn is_whole(live: &DynamicObject) -> bool {
    let is_deployment = live.data.pointer("/spec/template").is_some();
    !is_deployment || parse_deployment(live).is_some_and(|deployment| rollout(&deployment).whole())
}

/// Whether bringing an object in changes which images run, or are injected. An object that somebody has told the operator
/// to leave alone never does.
fn moves(wanted: &Rendered, live: &DynamicObject) -> bool {
    if super::apply::is_ignored(live) {
        return false;
    }
    match Stage::of(wanted) {
        None => false,
        Some(Stage::Injection) => injected(&wanted.object) != injected(live),
        Some(_) => match (parse_deployment(&wanted.object), parse_deployment(live)) {
            (Some(wanted), Some(live)) => running(&wanted) != running(&live),
            _ => true,
        },
    }
}

/// The version that a Deployment's pods are labelled with, and their images. Containers that somebody else has added are
/// left out where they are not asked for: they have other names.
fn running(deployment: &Deployment) -> (Option<&str>, Vec<(&str, Option<&str>)>) {
    let template: Option<&PodTemplateSpec> = deployment.spec.as_ref().map(|spec| &spec.template);
    let labels = template.and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    let version = labels.and_then(|labels| labels.get(labels::KUBERNETES_VERSION)).map(String::as_str);
    let pod = template.and_then(|template| template.spec.as_ref());
    let first: Option<&Container> = pod.and_then(|pod| pod.containers.first());
    (version, first.map(|container| (container.name.as_str(), container.image.as_deref())).into_iter().collect())
}

/// Which proxy new pods get: the settings' hub, tag and image.
fn injected(map: &DynamicObject) -> Option<[Option<Value>; 3]> {
    let values: Value = serde_json::from_str(map.data.pointer("/data/values")?.as_str()?).ok()?;
    Some(["/global/hub", "/global/tag", "/global/proxy/image"].map(|path| values.pointer(path).cloned()))
}

/// The tag that new pods' sidecars call their version, as the webhook's ConfigMap has it.
pub(crate) fn injected_version(map: &DynamicObject) -> Option<String> {
    let [_, tag, _] = injected(map)?;
    tag?.as_str().map(str::to_owned)
}

/// What is known of the versions of one mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions {
    /// The operator's.
    pub(crate) own: String,
    /// What the last finished installation or upgrade came to.
    pub(crate) in_force: Option<String>,
    /// What is rendered.
    pub(crate) wanted: String,
    /// The step that is under way; none when all is whole.
    pub(crate) at: Option<Stage>,
}

impl Versions {
    /// Whether the parts are on their way to another version.
    pub(crate) fn under_way(&self) -> bool {
        self.in_force.as_ref().is_some_and(|in_force| *in_force != self.wanted)
    }

    /// The version in force after this look at the cluster.
    pub(crate) fn settled(&self) -> Option<&str> {
        if self.at.is_none() { Some(&self.wanted) } else { self.in_force.as_deref() }
    }

    /// Condition UpToDate. `part` judges a component.
    pub(crate) fn verdict(&self, install: &str, part: impl Fn(Component) -> Verdict) -> Verdict {
        let own = &self.own;
        match self.settled() {
            None => Verdict { message: "Not yet installed.".into(), ..Verdict::unknown() },
            Some(_) if self.under_way() && self.at.is_some() => self.progress(part),
            Some(version) if version == own => Verdict {
                truth: Truth::True,
                reason: Reason::Current,
                message: format!("Version {version} is in force, the operator's own."),
            },
            Some(version) => Verdict::failed(
                Reason::UpgradeAvailable,
                format!(
                    "Version {version} is in force, and this operator has {own}. To upgrade: kubectl patch mi {install} \
                     --type=merge -p '{{\"spec\":{{\"version\":\"{own}\"}}}}'"
                ),
            ),
        }
    }

    /// How far an upgrade is.
    fn progress(&self, part: impl Fn(Component) -> Verdict) -> Verdict {
        let (from, to) = (self.in_force.as_deref().unwrap_or_default(), &self.wanted);
        let at = self.at.map(|stage| stage.to_string()).unwrap_or_default();
        let part = self.at.and_then(Stage::component).map(part).filter(|part| part.truth != Truth::True);
        let stopped = part.as_ref().is_some_and(|part| !matches!(part.reason, Reason::Progressing | Reason::NotFound));
        let words = part.map(|part| format!(": {}", part.message.trim_end_matches('.'))).unwrap_or_default();
        if stopped {
            let message = format!(
                "The upgrade from {from} to {to} has stopped at {at}{words}. What ran before goes on serving. Mend it, or set \
                 spec.version back to \"{from}\"."
            );
            return Verdict::failed(Reason::UpgradeStopped, message);
        }
        Verdict::failed(Reason::Upgrading, format!("Upgrade from {from} to {to}, {at}{words}."))
    }
}

impl Versions {
    /// Of a mesh whose status says that `in_force` is, after a look at how far it is.
    pub(crate) fn new(in_force: Option<&str>, wanted: &str, at: Option<Stage>) -> Self {
        let in_force = in_force.map(str::to_owned);
        Self { own: version::own().to_string(), in_force, wanted: wanted.to_owned(), at }
    }

    /// While nothing could be brought in: nothing is claimed to be whole.
    pub(crate) fn unsettled(in_force: Option<&str>) -> Self {
        Self::new(in_force, in_force.unwrap_or_default(), Some(Stage::ControlPlane))
    }
}

#[cfg(test)]
mod tests;
