//! From what the cluster holds to what becomes of a pod, why, and what to do about it; pure.
//!
//! Both layers of the decision: [`hooks`] says which webhook is asked, and `webhook::inject::decide`, the
//! webhook's own function, what it answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{Table, presets};
use crds::install::MeshRevisionTag;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use names::{DEFAULT_REVISION, labels, resources};
use webhook::inject::decide::{Candidate, Decision, Reason, decide};
use webhook::inject::settings::Config;

use super::hooks::{self, Hook, Labels, Webhook};

/// What is asked about: a pod that is there, or that would be made.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    /// How to call it: `Deployment default/reviews`.
    pub(super) what: String,
    /// The namespace.
    pub(super) namespace: String,
    /// The namespace's labels.
    pub(super) namespace_labels: Labels,
    /// The pod's labels.
    pub(super) labels: Labels,
    /// The pod's annotations.
    pub(super) annotations: Labels,
    /// Whether the pod shares its node's network.
    pub(super) host_network: bool,
    /// Whether the pod is for nodes with Windows.
    pub(super) windows: bool,
    /// What a pod that is there has.
    pub(super) running: Option<Running>,
}

/// A pod that is there.
#[derive(Clone, Debug)]
pub(super) struct Running {
    /// Whether it has a proxy.
    pub(super) proxy: bool,
    /// The revision that injected it.
    pub(super) revision: Option<String>,
}

/// A revision's settings are in the namespace of its webhook.
pub(super) type Injector = (String, String);

/// What the cluster holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    /// All of them, also those that inject nothing.
    pub(super) configurations: Vec<MutatingWebhookConfiguration>,
    /// By namespace and revision: key `config` of ConfigMap `istio-sidecar-injector[-<revision>]`, or why it is not known.
    pub(super) injectors: BTreeMap<Injector, Result<Config, String>>,
    /// By namespace and name: whether somebody answers behind a Service. What is not known is absent.
    pub(super) answering: BTreeMap<(String, String), bool>,
    /// The tags that there are.
    pub(super) tags: Vec<MeshRevisionTag>,
}

/// What becomes of the pod.
#[derive(Clone, Debug)]
pub(super) struct Report {
    what: String,
    pub(super) hooks: Vec<Hook>,
    pub(super) verdict: Verdict,
    /// What the user should know or do.
    pub(super) notes: Vec<String>,
}

/// The two layers' answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing in this cluster injects.
    NoHooks,
    /// No webhook is asked.
    NotAsked,
    /// Several are, and each would inject.
    Several,
    /// One is, and this is its decision.
    Asked { revision: String, decision: Decision },
    /// One is, and its settings are not known.
    Unknown { revision: String, reason: String },
}

impl Verdict {
    /// Whether the pod gets a sidecar, as far as that is known.
    pub(super) fn injects(&self) -> Option<bool> {
        match self {
            Self::NoHooks | Self::NotAsked => Some(false),
            Self::Several => Some(true),
            Self::Asked { decision, .. } => Some(decision.inject),
            Self::Unknown { .. } => None,
        }
    }
}

/// The namespace and revision whose settings decide about a webhook's pods.
pub(super) fn injector(hook: &Hook, webhook: &Webhook, mesh_namespace: &str) -> Injector {
    let namespace = webhook.service.as_ref().map_or(mesh_namespace, |(namespace, _)| namespace);
    (namespace.to_owned(), hook.revision.clone())
}

/// Goes through both layers.
pub(super) fn report(subject: &Subject, cluster: &Cluster, mesh_namespace: &str) -> Report {
    let hooks = hooks::analyze(&cluster.configurations, &subject.namespace_labels, &subject.labels);
    let asked: Vec<(&Hook, &Webhook)> =
        hooks.iter().flat_map(|hook| hook.matching.iter().map(move |webhook| (hook, webhook))).collect();
    let verdict = match asked.as_slice() {
        [] if hooks.is_empty() => Verdict::NoHooks,
        [] => Verdict::NotAsked,
        [(hook, webhook)] => second_layer(subject, cluster, &injector(hook, webhook, mesh_namespace)),
        _ => Verdict::Several,
    };
    let mut notes = Vec::new();
    match &verdict {
        Verdict::NoHooks => notes.push("install a mesh: docs/guide/install.md".to_owned()),
        Verdict::NotAsked => not_asked(subject, &hooks, &mut notes),
        Verdict::Several => notes.push(several(&asked)),
        Verdict::Asked { decision, .. } => {
            let settings = asked.first().map(|(hook, webhook)| injector(hook, webhook, mesh_namespace));
            decided(decision, &settings.unwrap_or_default(), &mut notes);
        }
        Verdict::Unknown { .. } => {}
    }
    for (hook, webhook) in &asked {
        if let Some(tag) = &hook.tag {
            notes.push(format!("istio.io/rev={tag} is the tag {tag} of revision {}", hook.revision));
        }
        health(webhook, cluster, &mut notes);
    }
    tags(subject, &cluster.tags, &mut notes);
    if let Some(running) = &subject.running {
        compare(running, &verdict, &mut notes);
    }
    Report { what: subject.what.clone(), hooks, verdict, notes }
}

/// What the operator says of the tags that namespace and pod ask for, where it is not good.
fn tags(subject: &Subject, tags: &[MeshRevisionTag], notes: &mut Vec<String>) {
    let asked = [&subject.namespace_labels, &subject.labels].map(|of| of.get(labels::REVISION));
    for tag in tags.iter().filter(|tag| asked.contains(&tag.metadata.name.as_ref())) {
        let name = tag.metadata.name.as_deref().unwrap_or_default();
        if tag.metadata.deletion_timestamp.is_some() {
            notes.push(format!("MeshRevisionTag {name} is being deleted: choose another revision for istio.io/rev"));
            continue;
        }
        let conditions = tag.status.iter().flat_map(|status| &status.conditions);
        let Some(ready) = conditions.into_iter().find(|condition| condition.type_ == "Ready") else {
            notes.push(format!(
                "MeshRevisionTag {name} is not in force: the operator has not said anything about it yet"
            ));
            continue;
        };
        if ready.status != "True" {
            notes.push(format!("MeshRevisionTag {name} is not in force: {}", ready.message));
        }
    }
}

fn second_layer(subject: &Subject, cluster: &Cluster, injector: &Injector) -> Verdict {
    let (namespace, revision) = injector;
    match cluster.injectors.get(injector) {
        Some(Ok(config)) => {
            let candidate = Candidate {
                namespace: &subject.namespace,
                labels: &subject.labels,
                annotations: &subject.annotations,
                host_network: subject.host_network,
                windows: subject.windows,
            };
            Verdict::Asked { revision: revision.clone(), decision: decide(config, candidate) }
        }
        Some(Err(reason)) => Verdict::Unknown { revision: revision.clone(), reason: reason.clone() },
        None => Verdict::Unknown {
            revision: revision.clone(),
            reason: format!("ConfigMap {namespace}/{} was not read", resources::injector(revision)),
        },
    }
}

/// Why no webhook is asked, by the labels that are there, and which label changes that.
fn not_asked(subject: &Subject, hooks: &[Hook], notes: &mut Vec<String>) {
    let namespace = &subject.namespace;
    let mut installed: Vec<&str> = hooks.iter().flat_map(|hook| &hook.answers_to).map(String::as_str).collect();
    installed.sort_unstable();
    installed.dedup();
    let there = installed.join(", ");
    let default = hooks.iter().any(|hook| hook.default);
    let example = installed.iter().find(|revision| **revision != DEFAULT_REVISION).or(installed.first());
    let namespace_word = subject.namespace_labels.get(labels::INJECTION).map(String::as_str);
    let namespace_revision = subject.namespace_labels.get(labels::REVISION).filter(|_| namespace_word.is_none());
    let pod_word = subject.labels.get(labels::INJECT).map(String::as_str);
    let pod_revision = subject.labels.get(labels::REVISION);

    let (inject, injection, rev) = (labels::INJECT, labels::INJECTION, labels::REVISION);
    if pod_word == Some("false") {
        notes.push(format!("take label {inject}=false off the pods (in their workload's template)"));
    }
    match namespace_word {
        Some("enabled") if default => {}
        Some("enabled") => {
            let other =
                example.map(|revision| format!(": kubectl label namespace {namespace} {injection}- {rev}={revision}"));
            notes.push(format!(
                "{injection}=enabled asks for the default revision, which is not installed (there is: {there}){}",
                other.unwrap_or_default()
            ));
        }
        Some(word) => notes.push(format!(
            "{injection}={word} on the namespace is final, only \"enabled\" injects: \
             kubectl label --overwrite namespace {namespace} {injection}=enabled"
        )),
        None => match (namespace_revision, pod_revision) {
            (Some(revision), _) if !installed.contains(&revision.as_str()) => notes.push(format!(
                "no webhook answers to revision {revision:?}, which the namespace asks for (there is: {there})"
            )),
            (None, Some(revision)) if !installed.contains(&revision.as_str()) => notes.push(format!(
                "no webhook answers to revision {revision:?}, which the pod asks for (there is: {there})"
            )),
            (None, None) if pod_word == Some("true") && !default => {
                let other = example.map(|revision| format!(": add label {rev}={revision} to the pod"));
                notes.push(format!(
                    "{inject}=true asks for the default revision, which is not installed (there is: {there}){}",
                    other.unwrap_or_default()
                ));
            }
            (None, None) if pod_word != Some("false") => {
                let label = match (default, example) {
                    (true, _) | (false, None) => format!("{injection}=enabled"),
                    (false, Some(revision)) => format!("{rev}={revision}"),
                };
                notes.push(format!("kubectl label namespace {namespace} {label}"));
            }
            _ => {}
        },
    }
    if subject.annotations.get(inject).is_some_and(|word| word == "true") && pod_word.is_none() {
        notes.push(format!("annotation {inject} brings no pod into the mesh: make it a label"));
    }
}

fn several(asked: &[(&Hook, &Webhook)]) -> String {
    let names: Vec<String> = asked.iter().map(|(hook, webhook)| format!("{} of {}", webhook.name, hook.name)).collect();
    format!("only one of these may select it: {}", names.join(", "))
}

/// What the webhook's own decision asks of the user.
fn decided(decision: &Decision, (namespace, revision): &Injector, notes: &mut Vec<String>) {
    let settings = format!("ConfigMap {namespace}/{}, key config", resources::injector(revision));
    let inject = labels::INJECT;
    if !decision.inject {
        #[allow(clippy::match_wildcard_for_single_variants)] // of a rule that is new its reason says enough
        notes.extend(match decision.reason {
            Reason::HostNetwork => {
                Some("a pod on its node's network cannot be redirected: take hostNetwork off its spec".to_owned())
            }
            Reason::IgnoredNamespace => Some("use another namespace: this one is the cluster's own".to_owned()),
            Reason::Label => Some(format!("take label {inject} off the pods (in their workload's template)")),
            Reason::Annotation => Some(format!("take annotation {inject} off the pods (in their workload's template)")),
            Reason::NeverSelector | Reason::Policy => {
                Some(format!("label {inject}=true on the pods beats it, or change {settings}"))
            }
            Reason::UnknownPolicy => Some(format!("set policy to enabled or disabled in {settings}")),
            _ => None,
        });
    }
    notes.extend(decision.warnings.iter().cloned());
}

/// Whether the webhook can answer at all.
fn health(webhook: &Webhook, cluster: &Cluster, notes: &mut Vec<String>) {
    let consequence = if webhook.fails_closed { "pods are refused" } else { "pods start without a sidecar" };
    let name = &webhook.name;
    if webhook.without_ca {
        notes.push(format!("webhook {name} has no caBundle, so that the API server cannot call it: {consequence}"));
    }
    if let Some(service) = &webhook.service
        && cluster.answering.get(service) == Some(&false)
    {
        let (namespace, service_name) = service;
        let who = if hooks::is_ours(service_name) { "webhook" } else { "control plane" };
        notes.push(format!(
            "no {who} is ready behind Service {namespace}/{service_name}: {consequence} until one is; \
             kubectl -n {namespace} get pods"
        ));
    }
    for (condition, expression) in &webhook.conditions {
        notes.push(format!(
            "webhook {name}: condition {condition} cannot be evaluated here and is taken as true: {expression}; \
             kubectl create --dry-run=server shows what becomes of a pod"
        ));
    }
}

/// What the pod has against what it would get.
fn compare(running: &Running, verdict: &Verdict, notes: &mut Vec<String>) {
    let by = running.revision.as_deref().map(|revision| format!(" of revision {revision}")).unwrap_or_default();
    match (running.proxy, verdict.injects()) {
        (false, Some(true)) => notes.push(
            "the pod that is there has no sidecar, since injection happens only when a pod is made: make it anew \
             (kubectl rollout restart, or delete it)"
                .to_owned(),
        ),
        (true, Some(false)) => {
            notes.push(format!("the pod that is there has a sidecar{by} from before; the next one will have none"));
        }
        (true, Some(true)) => {
            if let (Some(own), Verdict::Asked { revision, .. }) = (&running.revision, verdict)
                && own != revision
            {
                notes.push(format!(
                    "the pod that is there has a sidecar of revision {own}; the next one will have one of {revision}"
                ));
            }
        }
        _ => {}
    }
}

impl Report {
    /// For people: the table that `istioctl` prints, the decision, and the notes.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let what = &self.what;
        if !self.hooks.is_empty() {
            let _ = writeln!(text, "{}\n", self.table());
        }
        // Writing to a String cannot fail.
        let _ = match &self.verdict {
            Verdict::NoHooks => writeln!(text, "ERROR: no Istio injection hooks present."),
            Verdict::NotAsked => writeln!(text, "{what}: not injected, because no webhook is asked"),
            Verdict::Several => {
                writeln!(text, "ERROR: multiple webhooks will inject, which can lead to errors")
            }
            Verdict::Asked { revision, decision } => {
                let (outcome, reason) =
                    (if decision.inject { "injected" } else { "not injected" }, decision.reason.as_str());
                writeln!(text, "{what}: {outcome}; the webhook of revision {revision} decides by: {reason}")
            }
            Verdict::Unknown { revision, reason } => writeln!(
                text,
                "{what}: the webhook of revision {revision} is asked; what it answers is not known: {reason}"
            ),
        };
        for note in &self.notes {
            let _ = writeln!(text, "  * {note}");
        }
        text
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["WEBHOOK", "REVISION", "INJECTED", "REASON"]);
        for hook in &self.hooks {
            let injected = if hook.injects() { "✔" } else { "✘" };
            table.add_row([&hook.name, &hook.revision, injected, &hook.reason]);
        }
        let lines = table.to_string();
        lines.lines().map(str::trim).collect::<Vec<_>>().join("\n")
    }
}
