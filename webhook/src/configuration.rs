//! The MutatingWebhookConfiguration of a revision, as a pure function; the operator applies it.
//!
//! Its selectors are the first of the two layers of the decision (the second is `inject::decide`). They are made so that
//! at most one webhook of all revisions matches a pod, that `istio-injection` beats `istio.io/rev` on namespaces, and
//! that pods outside the mesh are never sent here: while the webhook is away, they start as always.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use names::{DEFAULT_REVISION, labels, resources};

/// Namespaces that are never injected, whatever their labels say.
pub const IGNORED_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// What a revision's webhook configuration depends on.
#[derive(Clone, Debug)]
pub struct Registration<'a> {
    /// The revision.
    pub revision: &'a str,
    /// The namespace of the webhook's Service.
    pub namespace: &'a str,
    /// Whether namespaces without a label are injected by the default revision.
    pub enable_namespaces_by_default: bool,
    /// The certificate authorities of the webhook, PEM.
    pub ca_bundle: &'a [u8],
}

/// The name of a revision's MutatingWebhookConfiguration. It is cluster-scoped, so that a mesh outside `istio-system`
/// adds its namespace.
pub fn configuration_name(revision: &str, namespace: &str) -> String {
    let name = resources::injector(revision);
    if namespace == resources::MESH_NAMESPACE { name } else { format!("{name}-{namespace}") }
}

/// Renders the MutatingWebhookConfiguration of a revision.
pub fn configuration(registration: &Registration<'_>) -> MutatingWebhookConfiguration {
    let revision = if registration.revision.is_empty() { DEFAULT_REVISION } else { registration.revision };
    let mut webhooks = vec![
        webhook(
            registration,
            "rev.namespace.sidecar-injector.istio.io",
            vec![is(labels::REVISION, &[revision]), absent(labels::INJECTION)],
            vec![is_not(labels::INJECT, &["false"])],
        ),
        webhook(
            registration,
            "rev.object.sidecar-injector.istio.io",
            vec![absent(labels::REVISION), absent(labels::INJECTION)],
            vec![is_not(labels::INJECT, &["false"]), is(labels::REVISION, &[revision])],
        ),
    ];
    if revision == DEFAULT_REVISION {
        webhooks.push(webhook(
            registration,
            "namespace.sidecar-injector.istio.io",
            vec![is(labels::INJECTION, &["enabled"])],
            vec![is_not(labels::INJECT, &["false"])],
        ));
        webhooks.push(webhook(
            registration,
            "object.sidecar-injector.istio.io",
            vec![absent(labels::INJECTION), absent(labels::REVISION)],
            vec![is(labels::INJECT, &["true"]), absent(labels::REVISION)],
        ));
        if registration.enable_namespaces_by_default {
            // Beyond Istio's list: the webhook's own namespace and the operator's, whose pods must be able to start
            // while the webhook is away.
            let mut ignored = IGNORED_NAMESPACES.to_vec();
            ignored.extend([registration.namespace, resources::OPERATOR_NAMESPACE]);
            webhooks.push(webhook(
                registration,
                "auto.sidecar-injector.istio.io",
                vec![absent(labels::INJECTION), absent(labels::REVISION), is_not(labels::NAMESPACE_NAME, &ignored)],
                vec![absent(labels::INJECT), absent(labels::REVISION)],
            ));
        }
    }
    MutatingWebhookConfiguration {
        metadata: ObjectMeta {
            name: Some(configuration_name(revision, registration.namespace)),
            labels: Some(BTreeMap::from([
                (labels::REVISION.to_owned(), revision.to_owned()),
                (labels::APP.to_owned(), "sidecar-injector".to_owned()),
            ])),
            ..ObjectMeta::default()
        },
        webhooks: Some(webhooks),
    }
}

fn webhook(
    registration: &Registration<'_>,
    name: &str,
    namespaces: Vec<LabelSelectorRequirement>,
    pods: Vec<LabelSelectorRequirement>,
) -> MutatingWebhook {
    let selector = |requirements| Some(LabelSelector { match_expressions: Some(requirements), match_labels: None });
    let strings = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect());
    MutatingWebhook {
        name: name.to_owned(),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: WebhookClientConfig {
            ca_bundle: Some(ByteString(registration.ca_bundle.to_vec())),
            service: Some(ServiceReference {
                name: resources::injector(registration.revision),
                namespace: registration.namespace.to_owned(),
                path: Some("/inject".to_owned()),
                port: Some(443),
            }),
            url: None,
        },
        // A pod of the mesh without its sidecar would be outside of the mesh's policies: it is refused instead.
        failure_policy: Some("Fail".to_owned()),
        match_policy: Some("Equivalent".to_owned()),
        reinvocation_policy: Some("Never".to_owned()),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(10),
        namespace_selector: selector(namespaces),
        object_selector: selector(pods),
        rules: Some(vec![RuleWithOperations {
            api_groups: strings(&[""]),
            api_versions: strings(&["v1"]),
            operations: strings(&["CREATE"]),
            resources: strings(&["pods"]),
            scope: Some("*".to_owned()),
        }]),
        match_conditions: None,
    }
}

fn requirement(key: &str, operator: &str, values: &[&str]) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: (!values.is_empty()).then(|| values.iter().map(|value| (*value).to_owned()).collect()),
    }
}

fn is(key: &str, values: &[&str]) -> LabelSelectorRequirement {
    requirement(key, "In", values)
}

fn is_not(key: &str, values: &[&str]) -> LabelSelectorRequirement {
    requirement(key, "NotIn", values)
}

fn absent(key: &str) -> LabelSelectorRequirement {
    requirement(key, "DoesNotExist", &[])
}

/// Whether the API server would send a pod to this webhook, by the labels of its namespace and its own.
pub fn selects(
    webhook: &MutatingWebhook,
    namespace: &BTreeMap<String, String>,
    pod: &BTreeMap<String, String>,
) -> bool {
    let matches = |selector: Option<&LabelSelector>, labels| {
        selector.is_none_or(|selector| crate::inject::selector::matches(selector, labels).unwrap_or(false))
    };
    matches(webhook.namespace_selector.as_ref(), namespace) && matches(webhook.object_selector.as_ref(), pod)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Registration, configuration, selects};

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn matching(namespace: &[(&str, &str)], pod: &[(&str, &str)], auto: bool) -> Vec<String> {
        ["default", "canary"]
            .into_iter()
            .flat_map(|revision| {
                let registration = Registration {
                    revision,
                    namespace: "istio-system",
                    enable_namespaces_by_default: auto && revision == "default",
                    ca_bundle: b"ca",
                };
                configuration(&registration).webhooks.unwrap_or_default().into_iter().map(move |hook| (revision, hook))
            })
            .filter(|(_, webhook)| selects(webhook, &labels(namespace), &labels(pod)))
            .map(|(revision, _)| revision.to_owned())
            .collect()
    }

    #[test]
    fn the_table_of_the_reference() {
        const NONE: &[&str] = &[];
        type Labels<'a> = &'a [(&'a str, &'a str)];
        let (rev, inject) = (("istio.io/rev", "canary"), ("sidecar.istio.io/inject", "true"));
        let pods: [Labels<'_>; 5] =
            [&[], &[rev], &[inject], &[inject, rev], &[rev, ("sidecar.istio.io/inject", "false")]];
        let (canary, default): (&[&str], &[&str]) = (&["canary"], &["default"]);
        let (enabled, disabled) = (("istio-injection", "enabled"), ("istio-injection", "disabled"));
        let rows: [(Labels<'_>, [&[&str]; 5]); 6] = [
            (&[], [NONE, canary, default, canary, NONE]),
            (&[rev], [canary, canary, canary, canary, NONE]),
            (&[enabled], [default, default, default, default, NONE]),
            (&[enabled, rev], [default, default, default, default, NONE]),
            (&[disabled], [NONE; 5]),
            (&[disabled, rev], [NONE; 5]),
        ];
        for (namespace, expected) in rows {
            for (pod, expected) in pods.iter().zip(expected) {
                assert_eq!(matching(namespace, pod, false), expected, "namespace {namespace:?}, pod {pod:?}");
            }
        }
        assert_eq!(matching(&[], &[], true), ["default"], "auto mode");
        assert_eq!(matching(&[("kubernetes.io/metadata.name", "kube-system")], &[], true), NONE);
        assert_eq!(matching(&[("kubernetes.io/metadata.name", "istio-system")], &[], true), NONE);
    }

    #[test]
    fn a_mesh_elsewhere_has_its_own_name() {
        assert_eq!(super::configuration_name("default", "istio-system"), "istio-sidecar-injector");
        assert_eq!(super::configuration_name("canary", "mesh"), "istio-sidecar-injector-canary-mesh");
    }
}
