//! Which injection webhooks the API server would ask about a pod, and why: the first layer of the decision.
//!
//! In come the cluster's MutatingWebhookConfigurations and two sets of labels; out goes a [`Hook`] for each that
//! injects sidecars, of whatever revision and maker.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use names::{DEFAULT_REVISION, labels, resources};
use webhook::inject::selector;

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// How the names of all injection webhooks end, Istio's and ours.
const INJECTOR: &str = "sidecar-injector.istio.io";

/// One MutatingWebhookConfiguration that injects sidecars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// The configuration's name.
    pub(super) name: String,
    /// The revision that it is for.
    pub(super) revision: String,
    /// The tag that it is for.
    pub(super) tag: Option<String>,
    /// What `istio.io/rev` may say to get here: the revision, or tags of it.
    pub(super) answers_to: BTreeSet<String>,
    /// Whether `istio-injection=enabled` gets here.
    pub(super) default: bool,
    /// The webhooks of it that the pod would be sent to; more than one is a mistake.
    pub(super) matching: Vec<Webhook>,
    /// Why it would be sent there, or why not.
    pub(super) reason: String,
}

/// One webhook that the pod would be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Webhook {
    /// Its name.
    pub(super) name: String,
    /// The Service that answers, `(namespace, name)`; nothing when it is a URL.
    pub(super) service: Option<(String, String)>,
    /// Whether the pod is refused while nobody answers.
    pub(super) fails_closed: bool,
    /// Its conditions in CEL, name and expression of each, which only the API server can evaluate.
    pub(super) conditions: Vec<(String, String)>,
    /// It trusts no authority, so that the API server cannot call it.
    pub(super) without_ca: bool,
}

impl Hook {
    /// Whether the API server would send the pod here.
    pub(super) fn injects(&self) -> bool {
        !self.matching.is_empty()
    }
}

/// Every configuration that injects sidecars, by name.
pub(super) fn analyze(configurations: &[MutatingWebhookConfiguration], namespace: &Labels, pod: &Labels) -> Vec<Hook> {
    let mut hooks: Vec<Hook> = configurations
        .iter()
        .filter(|configuration| webhooks(configuration).any(|hook| hook.name.ends_with(INJECTOR)))
        .map(|configuration| hook(configuration, namespace, pod))
        .collect();
    hooks.sort_by(|a, b| a.name.cmp(&b.name));
    hooks
}

fn hook(configuration: &MutatingWebhookConfiguration, namespace: &Labels, pod: &Labels) -> Hook {
    let metadata = &configuration.metadata;
    let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    let matches: Vec<(&MutatingWebhook, Match)> =
        webhooks(configuration).map(|webhook| (webhook, Match::of(webhook, namespace, pod))).collect();
    let matching: Vec<&(&MutatingWebhook, Match)> =
        matches.iter().filter(|(_, found)| found.namespace.is_yes() && found.pod.is_yes()).collect();
    let reason = match matching.first() {
        Some((_, found)) => found.why(),
        None => {
            prevented(&matches).or_else(|| final_word(namespace, pod)).unwrap_or_else(|| nothing_matches(configuration))
        }
    };
    Hook {
        name: metadata.name.clone().unwrap_or_default(),
        revision: label(labels::REVISION).unwrap_or_else(|| DEFAULT_REVISION.to_owned()),
        tag: label(labels::TAG),
        answers_to: asked_for(configuration, labels::REVISION),
        default: asked_for(configuration, labels::INJECTION).contains("enabled"),
        matching: matching.into_iter().map(|(webhook, _)| self::webhook(webhook)).collect(),
        reason,
    }
}

fn webhooks(configuration: &MutatingWebhookConfiguration) -> impl Iterator<Item = &MutatingWebhook> {
    configuration.webhooks.iter().flatten().filter(|webhook| webhook.rules.iter().flatten().any(creates_pods))
}

/// The values of a label that one of a configuration's selectors asks for.
fn asked_for(configuration: &MutatingWebhookConfiguration, key: &str) -> BTreeSet<String> {
    let selectors = webhooks(configuration).flat_map(|webhook| [&webhook.namespace_selector, &webhook.object_selector]);
    let requirements = selectors.flatten().flat_map(|selector| selector.match_expressions.iter().flatten());
    let within = requirements.filter(|one| one.key == key && one.operator == "In");
    within.flat_map(|one| one.values.iter().flatten().cloned()).collect()
}

fn creates_pods(rule: &RuleWithOperations) -> bool {
    let has = |list: &Option<Vec<String>>, value: &str| list.iter().flatten().any(|one| one == value || one == "*");
    has(&rule.operations, "CREATE") && has(&rule.api_groups, "") && has(&rule.resources, "pods")
}

fn webhook(webhook: &MutatingWebhook) -> Webhook {
    let client = &webhook.client_config;
    Webhook {
        name: webhook.name.clone(),
        service: client.service.as_ref().map(|service| (service.namespace.clone(), service.name.clone())),
        // Kubernetes' default.
        fails_closed: webhook.failure_policy.as_deref().unwrap_or("Fail") == "Fail",
        conditions: webhook
            .match_conditions
            .iter()
            .flatten()
            .map(|condition| (condition.name.clone(), condition.expression.clone()))
            .collect(),
        without_ca: client.service.is_some() && client.ca_bundle.as_ref().is_none_or(|bundle| bundle.0.is_empty()),
    }
}

/// What one selector says about labels.
enum Selected {
    /// It matches; the labels that it asked for, as `key=value`.
    Yes(Vec<String>),
    /// What it wants is there, and so is this label, which it does not want.
    Prevented(String),
    /// What it wants is not there, or it cannot be evaluated.
    No,
}

impl Selected {
    fn of(selector: Option<&LabelSelector>, labels: &Labels) -> Self {
        let Some(selector) = selector else { return Self::Yes(Vec::new()) };
        let asked = asked(selector, labels);
        match selector::matches(selector, labels) {
            Ok(true) => Self::Yes(asked),
            Ok(false) => {
                let requirements = selector.match_expressions.iter().flatten();
                let (unwanted, wanted): (Vec<_>, Vec<_>) = requirements.partition(|requirement| excludes(requirement));
                let wanted = LabelSelector {
                    match_labels: selector.match_labels.clone(),
                    match_expressions: Some(wanted.into_iter().cloned().collect()),
                };
                let violated = unwanted.into_iter().find_map(|requirement| violates(requirement, labels));
                match violated.filter(|_| selector::matches(&wanted, labels).unwrap_or(false)) {
                    Some(label) => Self::Prevented(label),
                    None => Self::No,
                }
            }
            Err(_) => Self::No,
        }
    }

    fn is_yes(&self) -> bool {
        matches!(self, Self::Yes(_))
    }
}

fn excludes(requirement: &LabelSelectorRequirement) -> bool {
    matches!(requirement.operator.as_str(), "NotIn" | "DoesNotExist")
}

/// The label that a requirement does not want, where it is there.
fn violates(requirement: &LabelSelectorRequirement, labels: &Labels) -> Option<String> {
    let value = labels.get(&requirement.key)?;
    let violated = match requirement.operator.as_str() {
        "DoesNotExist" => true,
        "NotIn" => requirement.values.iter().flatten().any(|unwanted| unwanted == value),
        _ => false,
    };
    violated.then(|| format!("{}={value}", requirement.key))
}

/// The labels that a selector asks for and that are there.
fn asked(selector: &LabelSelector, labels: &Labels) -> Vec<String> {
    let equal = selector.match_labels.iter().flatten().map(|(key, _)| key);
    let required = selector.match_expressions.iter().flatten().filter(|one| !excludes(one)).map(|one| &one.key);
    equal.chain(required).filter_map(|key| labels.get(key).map(|value| format!("{key}={value}"))).collect()
}

/// What a webhook's two selectors say.
struct Match {
    namespace: Selected,
    pod: Selected,
    /// It leaves out namespaces by name only: injection is on everywhere.
    everywhere: bool,
}

impl Match {
    fn of(webhook: &MutatingWebhook, namespace: &Labels, pod: &Labels) -> Self {
        let by_name = |selector: &LabelSelector| {
            let mut requirements = selector.match_expressions.iter().flatten();
            requirements.any(|one| one.key == labels::NAMESPACE_NAME && one.operator == "NotIn")
        };
        Self {
            namespace: Selected::of(webhook.namespace_selector.as_ref(), namespace),
            pod: Selected::of(webhook.object_selector.as_ref(), pod),
            everywhere: webhook.namespace_selector.as_ref().is_some_and(by_name),
        }
    }

    /// Why a webhook matches that does.
    fn why(&self) -> String {
        let labels = |selected: &Selected| match selected {
            Selected::Yes(labels) => labels.join(", "),
            _ => String::new(),
        };
        match (labels(&self.namespace).as_str(), labels(&self.pod).as_str()) {
            ("", "") if self.everywhere => "Injection is enabled in all namespaces by default".to_owned(),
            ("", "") => "It selects every pod".to_owned(),
            (namespace, "") => format!("Namespace label {namespace} matches"),
            ("", pod) => format!("Pod label {pod} matches"),
            (namespace, pod) => format!("Namespace label {namespace} matches, and pod label {pod} matches"),
        }
    }
}

/// What stands in the way of a configuration of which one half matches. A pod's own label comes first: it is the more
/// particular word.
fn prevented(matches: &[(&MutatingWebhook, Match)]) -> Option<String> {
    let pod = matches.iter().find_map(|(_, found)| match (&found.namespace, &found.pod) {
        (Selected::Yes(_), Selected::Prevented(label)) => Some(format!("Pod has {label} label, preventing injection")),
        _ => None,
    });
    let namespace = || {
        matches.iter().find_map(|(_, found)| match (&found.namespace, &found.pod) {
            (Selected::Prevented(label), Selected::Yes(_)) => {
                Some(format!("Namespace has {label} label, preventing injection"))
            }
            _ => None,
        })
    };
    pod.or_else(namespace)
}

/// What forbids injection whatever else is there: the pod's `false`, and any word of `istio-injection` but `enabled`.
fn final_word(namespace: &Labels, pod: &Labels) -> Option<String> {
    let forbids = |whose, key, value: &str| format!("{whose} has {key}={value} label, preventing injection");
    let own = pod.get(labels::INJECT).filter(|value| *value == "false");
    let namespaces = namespace.get(labels::INJECTION).filter(|value| *value != "enabled");
    own.map(|value| forbids("Pod", labels::INJECT, value))
        .or_else(|| namespaces.map(|value| forbids("Namespace", labels::INJECTION, value)))
}

fn nothing_matches(configuration: &MutatingWebhookConfiguration) -> String {
    let wanted = |selector: Option<&LabelSelector>| -> Vec<String> {
        let Some(selector) = selector else { return Vec::new() };
        let equal = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
        let within = selector.match_expressions.iter().flatten().filter(|one| one.operator == "In");
        let within = within.flat_map(|one| one.values.iter().flatten().map(|value| format!("{}={value}", one.key)));
        equal.chain(within).collect()
    };
    let all = |of: fn(&MutatingWebhook) -> Option<&LabelSelector>| {
        let mut found: Vec<String> = webhooks(configuration).flat_map(|webhook| wanted(of(webhook))).collect();
        found.sort();
        found.dedup();
        found
    };
    let namespaces = all(|webhook| webhook.namespace_selector.as_ref());
    let pods = all(|webhook| webhook.object_selector.as_ref());
    // Istio deactivates a revision's webhooks when a tag takes their labels over.
    if [&namespaces, &pods].iter().all(|labels| labels.iter().any(|label| label.ends_with("=never-match"))) {
        return "The webhook is deactivated: another one has its labels".to_owned();
    }
    format!("No matching namespace labels ({}) or pod labels ({})", namespaces.join(", "), pods.join(", "))
}

/// Whether a Service is of our webhook rather than of Istio's control plane.
pub(super) fn is_ours(service: &str) -> bool {
    service.starts_with(&resources::injector(DEFAULT_REVISION))
}
