//! The webhook configurations of a revision, as pure functions; the operator applies them.
//!
//! * [`mutating`]: which pods the API server sends here. The selectors are the first of the two layers of the decision
//!   (the second is `inject::decide`). They are made so that at most one webhook of all revisions matches a pod, that
//!   `istio-injection` beats `istio.io/rev` on namespaces, and that pods outside the mesh are never sent here: while the
//!   webhook is away, they start as always.
//! * [`validating`]: which of Istio's objects. Only new ones and changes of a spec: while the webhook is away, objects can
//!   be deleted, their finalizers removed, their status and metadata written.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use names::{DEFAULT_REVISION, labels, resources};

/// Namespaces that are never injected, whatever their labels say.
pub const IGNORED_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// The groups of the objects that are validated. Never the MeshInstall's own, which says whether there is a webhook.
pub const VALIDATED_GROUPS: [&str; 4] =
    ["networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io"];

/// What a revision's webhook configurations depend on.
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
pub fn mutating_name(revision: &str, namespace: &str) -> String {
    let name = resources::injector(revision);
    if namespace == resources::MESH_NAMESPACE { name } else { format!("{name}-{namespace}") }
}

/// The name of a tag's MutatingWebhookConfiguration, as Istio's.
pub fn tag_name(tag: &str) -> String {
    format!("istio-revision-tag-{tag}")
}

/// Renders the MutatingWebhookConfiguration of a tag: what it selects by the tag, the revision's webhook injects.
pub fn tag(registration: &Registration<'_>, tag: &str) -> MutatingWebhookConfiguration {
    let mut object = mutating(registration);
    object.metadata.name = Some(tag_name(tag));
    object.metadata.labels.get_or_insert_default().insert(labels::TAG.to_owned(), tag.to_owned());
    object.webhooks = Some(webhooks(registration, tag));
    object
}

/// Renders the MutatingWebhookConfiguration of a revision.
pub fn mutating(registration: &Registration<'_>) -> MutatingWebhookConfiguration {
    let revision = if registration.revision.is_empty() { DEFAULT_REVISION } else { registration.revision };
    MutatingWebhookConfiguration {
        metadata: ObjectMeta {
            name: Some(mutating_name(revision, registration.namespace)),
            labels: Some(BTreeMap::from([
                (labels::REVISION.to_owned(), revision.to_owned()),
                (labels::APP.to_owned(), "sidecar-injector".to_owned()),
            ])),
            ..ObjectMeta::default()
        },
        webhooks: Some(webhooks(registration, revision)),
    }
}

/// The webhooks for a value of `istio.io/rev`, which is a revision or a tag.
fn webhooks(registration: &Registration<'_>, revision: &str) -> Vec<MutatingWebhook> {
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
    webhooks
}

fn webhook(
    registration: &Registration<'_>,
    name: &str,
    mut namespaces: Vec<LabelSelectorRequirement>,
    pods: Vec<LabelSelectorRequirement>,
) -> MutatingWebhook {
    // The webhook would pass pods of these over, so nobody has to ask: what a cluster consists of starts without us, even
    // if somebody labels its namespace.
    if !namespaces.iter().any(|requirement| requirement.key == labels::NAMESPACE_NAME) {
        namespaces.push(is_not(labels::NAMESPACE_NAME, &IGNORED_NAMESPACES));
    }
    let selector = |requirements| Some(LabelSelector { match_expressions: Some(requirements), match_labels: None });
    let strings = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect());
    MutatingWebhook {
        name: name.to_owned(),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client_config(registration, "/inject"),
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

/// Renders the ValidatingWebhookConfiguration of a revision. `is_default` is a revision that the tag `default` points at;
/// the revision `default` is it anyway.
pub fn validating(registration: &Registration<'_>, is_default: bool) -> ValidatingWebhookConfiguration {
    let revision = if registration.revision.is_empty() { DEFAULT_REVISION } else { registration.revision };
    let mut webhooks =
        vec![validator(registration, "rev.validation.istio.io", vec![is(labels::REVISION, &[revision])])];
    if is_default || revision == DEFAULT_REVISION {
        // Objects without a revision, which is nearly all of them.
        webhooks.push(validator(registration, "validation.istio.io", vec![absent(labels::REVISION)]));
    }
    ValidatingWebhookConfiguration {
        metadata: ObjectMeta {
            name: Some(resources::validator(revision, registration.namespace)),
            labels: Some(BTreeMap::from([
                (labels::REVISION.to_owned(), revision.to_owned()),
                (labels::APP.to_owned(), "istiod".to_owned()),
                (labels::ISTIO.to_owned(), "istiod".to_owned()),
            ])),
            ..ObjectMeta::default()
        },
        webhooks: Some(webhooks),
    }
}

fn validator(registration: &Registration<'_>, name: &str, objects: Vec<LabelSelectorRequirement>) -> ValidatingWebhook {
    let strings = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect());
    ValidatingWebhook {
        name: name.to_owned(),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client_config(registration, "/validate"),
        // As Istio's once it serves: a rule that nobody has checked is not stored. docs/decisions says why this holds
        // up nothing else while the webhook is away.
        failure_policy: Some("Fail".to_owned()),
        match_policy: Some("Equivalent".to_owned()),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(5),
        namespace_selector: None,
        object_selector: Some(LabelSelector { match_expressions: Some(objects), match_labels: None }),
        rules: Some(vec![RuleWithOperations {
            api_groups: strings(&VALIDATED_GROUPS),
            api_versions: strings(&["*"]),
            operations: strings(&["CREATE", "UPDATE"]),
            // All resources and none of their subresources: a status is written whatever became of us.
            resources: strings(&["*"]),
            scope: Some("*".to_owned()),
        }]),
        match_conditions: Some(vec![
            condition("not-on-its-way-out", "!has(object.metadata.deletionTimestamp)".to_owned()),
            condition(
                "spec-is-new",
                // A revision that gets an object from another has not looked at it yet.
                format!(
                    "request.operation == 'CREATE' || (has(object.spec) ? !has(oldObject.spec) || object.spec != \
                     oldObject.spec : has(oldObject.spec)) || {} != {}",
                    revision_of("object"),
                    revision_of("oldObject"),
                ),
            ),
        ]),
    }
}

fn client_config(registration: &Registration<'_>, path: &str) -> WebhookClientConfig {
    WebhookClientConfig {
        ca_bundle: Some(ByteString(registration.ca_bundle.to_vec())),
        service: Some(ServiceReference {
            name: resources::injector(registration.revision),
            namespace: registration.namespace.to_owned(),
            path: Some(path.to_owned()),
            port: Some(443),
        }),
        url: None,
    }
}

/// The revision of an object, in CEL; empty where it has none.
fn revision_of(object: &str) -> String {
    let label = labels::REVISION;
    format!(
        "(has({object}.metadata.labels) && '{label}' in {object}.metadata.labels ? {object}.metadata.labels['{label}'] : '')"
    )
}

fn condition(name: &str, expression: String) -> MatchCondition {
    MatchCondition { name: name.to_owned(), expression }
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

/// Whether the selectors of this webhook choose a pod, by the labels of its namespace and its own.
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

    use super::{IGNORED_NAMESPACES, Registration, mutating, selects, validating};

    type Labels<'a> = &'a [(&'a str, &'a str)];

    fn labels(pairs: Labels<'_>) -> BTreeMap<String, String> {
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
                mutating(&registration).webhooks.unwrap_or_default().into_iter().map(move |hook| (revision, hook))
            })
            .filter(|(_, webhook)| selects(webhook, &labels(namespace), &labels(pod)))
            .map(|(revision, _)| revision.to_owned())
            .collect()
    }

    #[test]
    fn the_table_of_the_reference() {
        const NONE: &[&str] = &[];
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
        assert_eq!(super::mutating_name("default", "istio-system"), "istio-sidecar-injector");
        assert_eq!(super::mutating_name("canary", "mesh"), "istio-sidecar-injector-canary-mesh");
    }

    fn registration(revision: &str) -> Registration<'_> {
        Registration { revision, namespace: "istio-system", enable_namespaces_by_default: false, ca_bundle: b"ca" }
    }

    #[test]
    fn an_object_of_any_revision_is_validated_by_that_one_alone() {
        let validators = |object: &[(&str, &str)]| -> Vec<String> {
            ["default", "canary"]
                .into_iter()
                .flat_map(|revision| validating(&registration(revision), false).webhooks.unwrap_or_default())
                .filter(|webhook| {
                    let selector = webhook.object_selector.as_ref().unwrap();
                    crate::inject::selector::matches(selector, &labels(object)).unwrap()
                })
                .map(|webhook| format!("{} {}", webhook.name, webhook.client_config.service.unwrap().name))
                .collect()
        };
        let rows: [(Labels<'_>, &[&str]); 4] = [
            (&[], &["validation.istio.io istio-sidecar-injector"]),
            (&[("istio.io/rev", "default")], &["rev.validation.istio.io istio-sidecar-injector"]),
            (&[("istio.io/rev", "canary")], &["rev.validation.istio.io istio-sidecar-injector-canary"]),
            (&[("istio.io/rev", "other")], &[]),
        ];
        for (object, expected) in rows {
            assert_eq!(validators(object), expected, "{object:?}");
        }
        let names: Vec<_> = ["default", "canary"]
            .map(|revision| validating(&registration(revision), false).metadata.name.unwrap())
            .to_vec();
        assert_eq!(names, ["istio-validator-istio-system", "istio-validator-canary-istio-system"]);
    }

    #[test]
    fn objects_without_a_revision_are_validated_by_the_default_one() {
        let names = |revision, is_default| -> Vec<String> {
            let webhooks = validating(&registration(revision), is_default).webhooks.unwrap();
            webhooks.into_iter().map(|webhook| webhook.name).collect()
        };
        assert_eq!(names("canary", false), ["rev.validation.istio.io"]);
        assert_eq!(names("canary", true), ["rev.validation.istio.io", "validation.istio.io"], "by the tag");
        assert_eq!(names("default", false), ["rev.validation.istio.io", "validation.istio.io"]);
        assert_eq!(names("default", true), names("default", false));
    }

    #[test]
    fn what_a_dead_webhook_must_not_hold_up_is_not_sent_to_it() {
        for webhook in validating(&registration("default"), false).webhooks.unwrap() {
            let rules = webhook.rules.unwrap();
            let [rule] = rules.as_slice() else { panic!("{rules:?}") };
            assert_eq!(rule.operations.as_deref().unwrap(), ["CREATE", "UPDATE"], "deletion is nobody's to refuse");
            assert!(!rule.resources.as_ref().unwrap().iter().any(|resource| resource.contains('/')), "nor a status");
            assert!(!rule.api_groups.as_ref().unwrap().iter().any(|group| group.contains("forestay")));
            let conditions: Vec<_> = webhook.match_conditions.unwrap().into_iter().map(|one| one.name).collect();
            assert_eq!(conditions, ["not-on-its-way-out", "spec-is-new"]);
            assert!(webhook.timeout_seconds.unwrap() <= 10);
        }
        for name in IGNORED_NAMESPACES {
            let namespace = [("kubernetes.io/metadata.name", name), ("istio-injection", "enabled")];
            assert_eq!(matching(&namespace, &[("istio.io/rev", "canary")], true), [""; 0], "{name}");
        }
    }
}
