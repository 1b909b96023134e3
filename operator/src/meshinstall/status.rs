//! What a person is told: conditions, state and components, computed from what is in the cluster. Pure.

use std::sync::Arc;

use crds::install::condition::{ConditionType, Reason};
use crds::install::{ComponentStatus, ImagesStatus, MeshInstallStatus};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use kube::api::DynamicObject;
use names::labels;

use super::apply::{Done, Outcome};
use super::mesh::Component;
use super::pod_trouble::trouble;
use super::upgrade::Versions;
use crate::addons::apply::Trouble;
use crate::definitions::Findings;
use crate::pod::Pod;
use crate::usage::Usage;

#[cfg(test)]
mod tests;

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) truth: Truth,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Verdict {
    fn new(truth: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self { truth, reason, message: message.into() }
    }

    /// Nothing is known yet.
    pub(crate) fn unknown() -> Self {
        Self::new(Truth::Unknown, Reason::Reconciling, "The operator has begun to look at it.")
    }

    /// The spec cannot be honoured, or could not be this time.
    pub(crate) fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Truth::False, reason, message)
    }

    /// Every object is there.
    pub(crate) fn applied(objects: usize) -> Self {
        Self::new(Truth::True, Reason::Applied, format!("{objects} objects are as the spec says."))
    }
}

/// The kinds by which the API server knows of a webhook.
const ADMISSION: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// What the parts of the mesh are judged by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The Deployments of the MeshInstall, each with its component.
    pub(crate) deployments: Vec<(Component, Deployment)>,
    /// The pods of those Deployments.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Whether the API server sends pods and Istio's objects to the webhook.
    pub(crate) admission: bool,
    /// Deployments that wait for the control plane, as `namespace/name`.
    pub(crate) waiting: Vec<String>,
    /// The parts that the spec asks for; None while it cannot be told.
    pub(crate) wanted: Option<Vec<Component>>,
    /// Why the control plane cannot use the mesh's certificate authority.
    pub(crate) authority: Option<String>,
    /// Fields of the spec that change nothing; None while it cannot be told.
    pub(crate) without_effect: Option<Vec<String>>,
    /// Who uses the revision.
    pub(crate) usage: Usage,
    /// Addons that could not be brought in.
    pub(crate) addon_troubles: Vec<Trouble>,
    /// Istio's definitions; None while they cannot be told.
    pub(crate) definitions: Option<Findings>,
    /// Which version it has and goes to.
    pub(crate) versions: Versions,
    /// The images of the version that is rendered; None while it cannot be told.
    pub(crate) images: Option<ImagesStatus>,
}

impl Observed {
    /// After objects were applied: what the API server answered is newer than what the watches know.
    pub(crate) fn after_apply(
        outcomes: &[Outcome],
        pods: Vec<Arc<Pod>>,
        usage: Usage,
        without_effect: Vec<String>,
        versions: Versions,
        images: ImagesStatus,
    ) -> Self {
        let of_kind = |kind: &'static str| outcomes.iter().filter(move |o| o.rendered.resource.kind == kind);
        Self {
            deployments: of_kind("Deployment")
                .filter_map(|outcome| {
                    Some((outcome.rendered.component, parse_deployment(outcome.current.as_deref()?)?))
                })
                .collect(),
            pods,
            admission: ADMISSION.into_iter().all(|kind| of_kind(kind).any(|outcome| outcome.current.is_some())),
            waiting: of_kind("Deployment")
                .filter(|o| o.done == Done::Waiting && o.rendered.component == Component::Gateway)
                .map(|outcome| {
                    let object = &outcome.rendered.object;
                    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
                })
                .collect(),
            wanted: Some(of_kind("Deployment").map(|outcome| outcome.rendered.component).collect()),
            authority: None,
            without_effect: Some(without_effect),
            usage,
            addon_troubles: Vec::new(),
            definitions: None,
            versions,
            images: Some(images),
        }
    }

    /// While nothing could be applied: what the watches know. What ran before goes on running, and is reported on.
    pub(crate) fn from_watches(
        owned: &[super::prune::Owned],
        pods: Vec<Arc<Pod>>,
        usage: Usage,
        versions: Versions,
    ) -> Self {
        let deployments = owned
            .iter()
            .filter(|(resource, _)| resource.kind == "Deployment")
            .filter_map(|(_, object)| {
                let component = Component::parse(object.labels().get(labels::COMPONENT)?)?;
                Some((component, parse_deployment(object)?))
            })
            .collect();
        let admission = ADMISSION.into_iter().all(|kind| owned.iter().any(|(resource, _)| resource.kind == kind));
        Self { deployments, pods, admission, usage, versions, ..Self::default() }
    }

    /// Whether the spec is known not to ask for this part.
    fn unwanted(&self, component: Component) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(&component))
    }
}

/// A Deployment as the watch or the API server gave it.
pub(crate) fn parse_deployment(object: &DynamicObject) -> Option<Deployment> {
    let mut object = object.clone();
    // Objects in a list carry no type of their own.
    object.types.get_or_insert_with(kube::core::TypeMeta::resource::<Deployment>);
    object.try_parse().ok()
}

/// Whether the control plane that these outcomes brought in takes proxies: the gateways wait for it. Where the spec asks
/// for none there is nothing to wait for.
pub(crate) fn control_plane_available(outcomes: &[Outcome]) -> bool {
    let mut deployments = outcomes
        .iter()
        .filter(|o| o.rendered.component == Component::ControlPlane && o.rendered.resource.kind == "Deployment")
        .peekable();
    deployments.peek().is_none()
        || deployments
            .filter_map(|outcome| parse_deployment(outcome.current.as_deref()?))
            .any(|deployment| rollout(&deployment).complete())
}

/// How far a Deployment's roll-out is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rollout {
    wanted: i32,
    /// Available pods of the newest template.
    ready: i32,
    /// The Deployment controller has seen the newest template.
    observed: bool,
    /// Pods of an older template that are still there.
    old: i32,
}

impl Rollout {
    /// None wanted is none there: somebody has scaled it to nothing.
    fn complete(self) -> bool {
        self.observed && self.ready >= self.wanted.max(1)
    }

    /// Complete, and nothing of an older template is left.
    pub(crate) fn whole(self) -> bool {
        self.complete() && self.old <= 0
    }
}

pub(crate) fn rollout(deployment: &Deployment) -> Rollout {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or(0);
    let total = status.replicas.unwrap_or(0);
    Rollout {
        wanted,
        // Not told apart by the API: pods of an older template may be among the available ones.
        ready: status.available_replicas.unwrap_or(0).min(updated),
        observed: status.observed_generation >= deployment.metadata.generation,
        old: total - updated,
    }
}

/// Judges one Deployment.
fn assess(deployment: &Deployment, pods: &[Arc<Pod>]) -> Verdict {
    let name = format!("{}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any());
    let rollout = rollout(deployment);
    if rollout.whole() {
        return Verdict::new(
            Truth::True,
            Reason::Available,
            format!("Deployment {name}: {}/{} pods are available.", rollout.ready, rollout.wanted),
        );
    }
    if rollout.wanted == 0 {
        let message = format!("Deployment {name} is scaled to no pods; scale it up.");
        return Verdict::failed(Reason::NotReady, message);
    }
    if let Some((reason, message)) = trouble(deployment, pods) {
        return Verdict::failed(reason, format!("Deployment {name}: {message}"));
    }
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let timed_out = conditions
        .iter()
        .find(|c| c.type_ == "Progressing" && c.status == "False")
        .and_then(|condition| condition.message.clone());
    if let Some(message) = timed_out {
        return Verdict::failed(Reason::NotReady, format!("Deployment {name}: {message}"));
    }
    Verdict::failed(
        Reason::Progressing,
        format!("Deployment {name}: {}/{} pods are available.", rollout.ready, rollout.wanted),
    )
}

/// Judges one part of the mesh: the worst of its Deployments speaks for it.
fn component(observed: &Observed, component: Component, what: &str) -> Verdict {
    if observed.unwanted(component) {
        let reason = if component == Component::Gateway { Reason::NoGateways } else { Reason::SwitchedOff };
        let message = match component {
            Component::Gateway => "The spec asks for no gateway.".to_owned(),
            _ => format!("{what} is switched off by the spec."),
        };
        return Verdict::new(Truth::True, reason, message);
    }
    let mut verdicts =
        observed.deployments.iter().filter(|(of, _)| *of == component).map(|(_, d)| assess(d, &observed.pods));
    let Some(first) = verdicts.next() else {
        return Verdict::failed(Reason::NotFound, format!("{what} does not exist (yet)."));
    };
    together(&std::iter::once(first).chain(verdicts).collect::<Vec<_>>())
}

/// What several verdicts come to: the bad ones speak.
fn together(all: &[Verdict]) -> Verdict {
    let bad: Vec<&Verdict> = all.iter().filter(|verdict| verdict.truth != Truth::True).collect();
    let speaking = if bad.is_empty() { all.iter().collect() } else { bad };
    // Trouble goes before mere waiting.
    let reason = speaking
        .iter()
        .map(|verdict| verdict.reason)
        .find(|reason| *reason != Reason::Progressing)
        .or_else(|| speaking.first().map(|verdict| verdict.reason))
        .unwrap_or(Reason::Available);
    let truth = speaking.first().map_or(Truth::True, |verdict| verdict.truth);
    let messages: Vec<&str> = speaking.iter().map(|verdict| verdict.message.as_str()).collect();
    Verdict::new(truth, reason, messages.join(" "))
}

/// Judges the addons, which Ready does not wait for.
fn addons(observed: &Observed) -> Verdict {
    let held_back =
        |component| observed.addon_troubles.iter().any(|trouble| component == Component::Addon(trouble.addon));
    let troubles = observed.addon_troubles.iter();
    let mut all: Vec<Verdict> =
        troubles.map(|trouble| Verdict::failed(trouble.reason, trouble.message.clone())).collect();
    let deployments = observed.deployments.iter();
    all.extend(
        deployments
            .filter(|(of, _)| matches!(of, Component::Addon(_)) && !held_back(*of))
            .map(|(_, deployment)| assess(deployment, &observed.pods)),
    );
    match (all.is_empty(), &observed.wanted) {
        (true, Some(_)) => Verdict::new(Truth::True, Reason::NoAddons, "The spec asks for no addon to be deployed."),
        (true, None) => Verdict::unknown(),
        (false, _) => together(&all),
    }
}

/// A part at the beginning of a sentence.
fn name_of(part: Component) -> &'static str {
    match part {
        Component::ControlPlane => "The control plane",
        Component::Webhook => "The webhook",
        Component::Gateway => "A gateway",
        Component::Configuration => "The configuration",
        Component::Addon(_) => "An addon",
    }
}

/// The conditions that Ready sums up, in order.
fn verdicts(observed: &Observed, reconciled: Verdict) -> [(ConditionType, Verdict); 5] {
    let judged = |part| component(observed, part, name_of(part));
    let mut control_plane = judged(Component::ControlPlane);
    let waits = matches!(control_plane.reason, Reason::Progressing | Reason::NotReady);
    if let Some(trouble) = observed.authority.as_ref().filter(|_| waits) {
        control_plane = Verdict::failed(Reason::AuthorityUnusable, trouble);
    }
    let mut webhook = judged(Component::Webhook);
    if webhook.reason == Reason::Available && !observed.admission {
        webhook = Verdict::failed(
            Reason::WaitingForEndpoints,
            "The webhook's pods are available; admission is switched on as soon as its Service has them as endpoints.",
        );
    }
    let gateways = if let Some(first) = observed.waiting.first() {
        let message = format!("Deployment {first} waits until the control plane is available.");
        Verdict::failed(Reason::WaitingForControlPlane, message)
    } else {
        judged(Component::Gateway)
    };
    [
        (ConditionType::Reconciled, reconciled),
        (ConditionType::ControlPlaneReady, control_plane),
        (ConditionType::WebhookReady, webhook),
        (ConditionType::GatewaysReady, gateways),
        (ConditionType::DefinitionsReady, definitions(observed)),
    ]
}

/// The whole status. `previous` gives the times of conditions that have not changed.
pub(crate) fn status(
    observed: &Observed,
    reconciled: Verdict,
    generation: Option<i64>,
    previous: Option<&MeshInstallStatus>,
    install: &str,
    now: Timestamp,
) -> MeshInstallStatus {
    let stalled = reconciled.reason.on().contains(&ConditionType::Stalled).then(|| Verdict {
        truth: Truth::True,
        reason: reconciled.reason,
        message: reconciled.message.clone(),
    });
    let before = previous.map(|previous| previous.conditions.as_slice()).unwrap_or_default();
    let parts = verdicts(observed, reconciled);
    let addons = addons(observed);
    // What is not known is not held against it.
    let bad = |(of, verdict): &&(ConditionType, Verdict)| match of {
        ConditionType::DefinitionsReady => verdict.truth == Truth::False,
        _ => verdict.truth != Truth::True,
    };
    let up_to_date = observed.versions.verdict(install, |part| component(observed, part, name_of(part)));
    let trouble = parts.iter().find(bad).map(|(_, verdict)| verdict);
    let upgrading = matches!(up_to_date.reason, Reason::Upgrading | Reason::UpgradeStopped);
    let ready = match trouble {
        // Which step it is, and how to go back.
        Some(verdict) if upgrading && verdict.reason.on().contains(&ConditionType::ControlPlaneReady) => {
            let reason = if verdict.reason == Reason::Progressing { Reason::Upgrading } else { verdict.reason };
            Verdict { reason, ..up_to_date.clone() }
        }
        Some(verdict) => verdict.clone(),
        None if upgrading => Verdict { reason: Reason::Upgrading, ..up_to_date.clone() },
        None if addons.truth == Truth::False => Verdict::new(
            Truth::True,
            Reason::Healthy,
            format!("The mesh is available. Of its addons: {}", addons.message),
        ),
        None => Verdict::new(Truth::True, Reason::Healthy, "Everything that the spec asks for is available."),
    };
    let state = ready.reason.as_str().to_owned();
    let others = [
        (ConditionType::Ready, ready),
        (ConditionType::AddonsReady, addons),
        (ConditionType::SettingsEffective, effective(observed)),
        (ConditionType::UpToDate, up_to_date),
        (ConditionType::InUse, in_use(&observed.usage)),
    ];
    let all = parts.into_iter().chain(others).chain(stalled.map(|verdict| (ConditionType::Stalled, verdict)));
    MeshInstallStatus {
        observed_generation: generation,
        state: Some(state),
        version: observed.versions.settled().map(str::to_owned),
        images: if observed.versions.at.is_none() { observed.images.clone() } else { None }
            .or_else(|| previous.and_then(|previous| previous.images.clone())),
        conditions: all.map(|(of, verdict)| condition(of, &verdict, generation, before, now)).collect(),
        components: components(observed),
        data_plane: Some(observed.usage.status()),
    }
}

/// Whether anybody uses a revision, or a tag.
pub(crate) fn in_use(usage: &Usage) -> Verdict {
    let text = usage.to_string();
    let mut letters = text.chars();
    let message: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).chain(['.']).collect();
    let hint = if usage.outdated() > 0 { " A restart of their workloads gives them the present one." } else { "" };
    let message = format!("{message}{hint}");
    if usage.is_used() {
        Verdict::new(Truth::True, Reason::ReferencedByWorkloads, message)
    } else {
        Verdict::failed(Reason::NotReferencedByAnything, message)
    }
}

/// Whether the API server knows Istio's kinds.
fn definitions(observed: &Observed) -> Verdict {
    observed.definitions.as_ref().map_or_else(Verdict::unknown, Findings::verdict)
}

/// Whether every setting counts.
fn effective(observed: &Observed) -> Verdict {
    match observed.without_effect.as_deref() {
        None => Verdict::unknown(),
        Some([]) => Verdict::new(Truth::True, Reason::AllEffective, "Every field of the spec has its effect."),
        Some(fields) => {
            let message = format!("Accepted, as Istio's, and without effect: {}.", fields.join(", "));
            Verdict::failed(Reason::WithoutEffect, message)
        }
    }
}

/// The status at first sight, before anything has been found out: `kubectl wait` must not take silence for an answer.
pub(crate) fn first_sight(generation: Option<i64>, now: Timestamp) -> MeshInstallStatus {
    same_for_all(&Verdict::unknown(), generation, &[], now)
}

/// The status while a MeshInstall is being deleted.
pub(crate) fn deleting(
    message: &str,
    generation: Option<i64>,
    previous: Option<&MeshInstallStatus>,
    now: Timestamp,
) -> MeshInstallStatus {
    let before = previous.map(|previous| previous.conditions.as_slice()).unwrap_or_default();
    let mut status = same_for_all(&Verdict::failed(Reason::Deleting, message), generation, before, now);
    status.components = previous.map(|previous| previous.components.clone()).unwrap_or_default();
    status.data_plane = previous.and_then(|previous| previous.data_plane.clone());
    status.version = previous.and_then(|previous| previous.version.clone());
    status.images = previous.and_then(|previous| previous.images.clone());
    status
}

/// The status of an object that cannot even be read. Its version and images are still in force.
pub(crate) fn unreadable(
    error: &str,
    generation: Option<i64>,
    (version, images): (Option<String>, Option<ImagesStatus>),
    now: Timestamp,
) -> MeshInstallStatus {
    let status = same_for_all(&Verdict::failed(Reason::InvalidSpec, error), generation, &[], now);
    MeshInstallStatus { version, images, ..status }
}

fn same_for_all(
    verdict: &Verdict,
    generation: Option<i64>,
    previous: &[Condition],
    now: Timestamp,
) -> MeshInstallStatus {
    MeshInstallStatus {
        observed_generation: generation,
        state: Some(verdict.reason.as_str().to_owned()),
        version: None,
        images: None,
        conditions: ConditionType::ALWAYS
            .into_iter()
            .map(|of| condition(of, verdict, generation, previous, now))
            .collect(),
        components: Vec::new(),
        data_plane: None,
    }
}

/// One condition; the time of its last change is that of the previous one, if it says the same.
pub(crate) fn condition(
    of: ConditionType,
    verdict: &Verdict,
    generation: Option<i64>,
    previous: &[Condition],
    now: Timestamp,
) -> Condition {
    let same = |old: &&Condition| old.type_ == of.as_str() && old.status == verdict.truth.as_str();
    let before = previous.iter().find(same);
    // The API stores whole seconds; with fractions a condition would never equal what was written.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Condition {
        type_: of.as_str().to_owned(),
        status: verdict.truth.as_str().to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        message: truncated(&verdict.message),
        observed_generation: generation,
        last_transition_time: before.map_or(Time(now), |old| old.last_transition_time.clone()),
    }
}

/// The schema allows 32,768 characters; a person reads far fewer.
fn truncated(message: &str) -> String {
    const MOST: usize = 4096;
    if message.len() <= MOST {
        return message.to_owned();
    }
    let end = (0..=MOST).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", message.get(..end).unwrap_or_default())
}

/// One condition of a status.
pub(crate) fn find(status: &MeshInstallStatus, of: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == of.as_str())
}

fn components(observed: &Observed) -> Vec<ComponentStatus> {
    let mut components: Vec<ComponentStatus> = observed
        .deployments
        .iter()
        .map(|(component, deployment)| {
            let rollout = rollout(deployment);
            let containers = deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.template.spec.as_ref())
                .map(|pod| pod.containers.as_slice())
                .unwrap_or_default();
            ComponentStatus {
                component: component.as_str().to_owned(),
                namespace: deployment.namespace().unwrap_or_default(),
                name: deployment.name_any(),
                ready: format!("{}/{}", rollout.ready, rollout.wanted),
                image: containers.first().and_then(|container| container.image.clone()).unwrap_or_default(),
            }
        })
        .collect();
    let key = |c: &ComponentStatus| (c.component.clone(), c.namespace.clone(), c.name.clone());
    components.sort_by_key(key);
    components
}
