//! Whether a pod is injected: the second layer of the decision, after the API server's selectors.
//!
//! The order of the rules is Istio's: host network, ignored namespaces, the pod's own word, the never and always
//! selectors, the policy. Two are added: pods for Windows have no sidecar, since neither proxy nor redirection exist there;
//! and the kubelet's mirror of a static pod stays as it is, since it shows what runs already (and may not use tokens).

use std::collections::BTreeMap;

use names::labels;
use serde_json::Value;

use super::selector;
use super::settings::Config;
use crate::configuration::IGNORED_NAMESPACES;

/// What the decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The pod's annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Whether the pod shares its node's network.
    pub host_network: bool,
    /// Whether the pod is for nodes with Windows.
    pub windows: bool,
}

/// The decision, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the pod is injected.
    pub inject: bool,
    /// The rule that decided.
    pub reason: Reason,
    /// What was not understood on the way, for the user.
    pub warnings: Vec<String>,
}

/// The rule that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The pod shares its node's network, which must not be redirected.
    HostNetwork,
    /// The pod is for nodes with Windows, where the proxy does not run.
    Windows,
    /// The pod only shows what its kubelet runs from a file.
    Mirror,
    /// The namespace belongs to the cluster.
    IgnoredNamespace,
    /// Label `sidecar.istio.io/inject`.
    Label,
    /// Annotation `sidecar.istio.io/inject`.
    Annotation,
    /// `neverInjectSelector`.
    NeverSelector,
    /// `alwaysInjectSelector`.
    AlwaysSelector,
    /// `policy`.
    Policy,
    /// A `policy` that is neither enabled nor disabled.
    UnknownPolicy,
}

impl Reason {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HostNetwork => "the pod uses the host's network",
            Self::Windows => "the pod is for nodes with Windows, where the proxy does not run",
            Self::Mirror => "the pod is the mirror of a static one",
            Self::IgnoredNamespace => "the namespace is never injected",
            Self::Label => "label sidecar.istio.io/inject of the pod",
            Self::Annotation => "annotation sidecar.istio.io/inject of the pod",
            Self::NeverSelector => "neverInjectSelector",
            Self::AlwaysSelector => "alwaysInjectSelector",
            Self::Policy => "the injection policy",
            Self::UnknownPolicy => "the injection policy is neither enabled nor disabled",
        }
    }
}

/// The kubelet's mark on the mirror of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether a pod says that it is for nodes with Windows.
pub fn is_for_windows(pod: &Value) -> bool {
    let os = ["/spec/os/name", "/spec/nodeSelector/kubernetes.io~1os", "/spec/nodeSelector/beta.kubernetes.io~1os"];
    let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let terms = pod.pointer(terms).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    os.iter().any(|path| pod.pointer(path).is_some_and(|os| os == "windows"))
        || (!terms.is_empty() && terms.iter().all(wants_windows))
}

/// Whether one of the terms of a node affinity, of which any may hold, leaves nodes with Windows only.
fn wants_windows(term: &Value) -> bool {
    let requirements = term.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    requirements.into_iter().any(|one| {
        let values = one.get("values").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        one.get("key").is_some_and(|key| key == "kubernetes.io/os" || key == "beta.kubernetes.io/os")
            && one.get("operator").is_some_and(|operator| operator == "In")
            && !values.is_empty()
            && values.iter().all(|value| value == "windows")
    })
}

/// Decides.
pub fn decide(config: &Config, pod: Candidate<'_>) -> Decision {
    let mut warnings = Vec::new();
    let (inject, reason) = rules(config, pod, &mut warnings);
    Decision { inject, reason, warnings }
}

fn rules(config: &Config, pod: Candidate<'_>, warnings: &mut Vec<String>) -> (bool, Reason) {
    if pod.host_network {
        return (false, Reason::HostNetwork);
    }
    if pod.windows {
        warnings.push("the pod is for nodes with Windows, where the proxy does not run: it gets no sidecar".to_owned());
        return (false, Reason::Windows);
    }
    if pod.annotations.contains_key(MIRROR) {
        return (false, Reason::Mirror);
    }
    if IGNORED_NAMESPACES.contains(&pod.namespace) {
        return (false, Reason::IgnoredNamespace);
    }
    let said = own_word(pod, warnings).or_else(|| selectors(config, pod, warnings));
    match config.policy.as_str() {
        "enabled" => said.unwrap_or((true, Reason::Policy)),
        "disabled" => said.unwrap_or((false, Reason::Policy)),
        other => {
            tracing::error!(
                policy = other,
                "the injection policy must be \"enabled\" or \"disabled\": nothing is injected"
            );
            (false, Reason::UnknownPolicy)
        }
    }
}

/// The label beats the annotation, even with a value that says nothing.
fn own_word(pod: Candidate<'_>, warnings: &mut Vec<String>) -> Option<(bool, Reason)> {
    let (value, what, reason) = match (pod.labels.get(labels::INJECT), pod.annotations.get(labels::INJECT)) {
        (Some(value), _) => (value, "label", Reason::Label),
        (None, Some(value)) => (value, "annotation", Reason::Annotation),
        (None, None) => return None,
    };
    match value.as_str() {
        "true" => Some((true, reason)),
        "false" => Some((false, reason)),
        "" => None,
        other => {
            let key = labels::INJECT;
            warnings
                .push(format!("{what} {key}: \"{other}\" counts as not set: only \"true\" and \"false\" are known"));
            None
        }
    }
}

fn selectors(config: &Config, pod: Candidate<'_>, warnings: &mut Vec<String>) -> Option<(bool, Reason)> {
    let lists = [
        (&config.never_inject_selector, false, Reason::NeverSelector, "neverInjectSelector"),
        (&config.always_inject_selector, true, Reason::AlwaysSelector, "alwaysInjectSelector"),
    ];
    for (list, inject, reason, name) in lists {
        for one in list.iter().filter(|one| !selector::is_empty(one)) {
            match selector::matches(one, pod.labels) {
                Ok(true) => return Some((inject, reason)),
                Ok(false) => {}
                Err(error) => warnings.push(format!("{name} is skipped: {error}")),
            }
        }
    }
    None
}
