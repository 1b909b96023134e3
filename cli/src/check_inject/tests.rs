//! The table of Istio's documentation, the cases of `webhook-matrix.json`, and each note by name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde_json::{Value, json};
use webhook::configuration::{Registration, mutating};
use webhook::inject::settings::Config;

use super::hooks::Labels;
use super::report::{Cluster, Report, Running, Subject, Verdict, report};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn installed(revision: &str, everywhere: bool) -> MutatingWebhookConfiguration {
    mutating(&Registration {
        revision,
        namespace: "istio-system",
        enable_namespaces_by_default: everywhere && revision == "default",
        ca_bundle: b"ca",
    })
}

/// A cluster with these revisions, each under the default settings.
fn cluster(revisions: &[&str]) -> Cluster {
    cluster_with(revisions, &Config::default())
}

fn cluster_with(revisions: &[&str], config: &Config) -> Cluster {
    let key = |revision: &&str| ("istio-system".to_owned(), (*revision).to_owned());
    Cluster {
        configurations: revisions.iter().map(|revision| installed(revision, false)).collect(),
        injectors: revisions.iter().map(|revision| (key(revision), Ok(config.clone()))).collect(),
        answering: BTreeMap::new(),
        tags: Vec::new(),
    }
}

fn subject(namespace: &[(&str, &str)], pod: &[(&str, &str)]) -> Subject {
    Subject {
        what: "Pod shop/a".to_owned(),
        namespace: "shop".to_owned(),
        namespace_labels: labels(namespace),
        labels: labels(pod),
        ..Subject::default()
    }
}

fn check(subject: &Subject, cluster: &Cluster) -> Report {
    report(subject, cluster, "istio-system")
}

const ENABLED: (&str, &str) = ("istio-injection", "enabled");
const DISABLED: (&str, &str) = ("istio-injection", "disabled");
const CANARY: (&str, &str) = ("istio.io/rev", "canary");
const INJECT: (&str, &str) = ("sidecar.istio.io/inject", "true");
const NOT: (&str, &str) = ("sidecar.istio.io/inject", "false");

#[test]
fn why_a_webhook_is_asked_or_not() {
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let rows: [(&str, Pairs<'_>, Pairs<'_>, &str, &str); 9] = [
        (
            "enabled",
            &[ENABLED],
            &[],
            "✔ Namespace label istio-injection=enabled matches",
            "✘ No matching namespace labels (istio.io/rev=canary) or pod labels (istio.io/rev=canary)",
        ),
        (
            "by revision",
            &[CANARY],
            &[],
            "✘ No matching namespace labels (istio-injection=enabled, istio.io/rev=default) or pod labels \
             (istio.io/rev=default, sidecar.istio.io/inject=true)",
            "✔ Namespace label istio.io/rev=canary matches",
        ),
        (
            "both: the plain label wins",
            &[ENABLED, CANARY],
            &[],
            "✔ Namespace label istio-injection=enabled matches",
            "✘ Namespace has istio-injection=enabled label, preventing injection",
        ),
        (
            "a pod's own word",
            &[],
            &[INJECT],
            "✔ Pod label sidecar.istio.io/inject=true matches",
            "✘ No matching namespace labels (istio.io/rev=canary) or pod labels (istio.io/rev=canary)",
        ),
        (
            "a pod's own revision",
            &[],
            &[INJECT, CANARY],
            "✘ Pod has istio.io/rev=canary label, preventing injection",
            "✔ Pod label istio.io/rev=canary matches",
        ),
        (
            "a pod that will not",
            &[ENABLED],
            &[NOT],
            "✘ Pod has sidecar.istio.io/inject=false label, preventing injection",
            "✘ Pod has sidecar.istio.io/inject=false label, preventing injection",
        ),
        (
            "a pod that will not, and a namespace that says nothing",
            &[],
            &[NOT],
            "✘ Pod has sidecar.istio.io/inject=false label, preventing injection",
            "✘ Pod has sidecar.istio.io/inject=false label, preventing injection",
        ),
        (
            "disabled",
            &[DISABLED, CANARY],
            &[],
            "✘ Namespace has istio-injection=disabled label, preventing injection",
            "✘ Namespace has istio-injection=disabled label, preventing injection",
        ),
        (
            "disabled, whatever the pod says",
            &[DISABLED],
            &[INJECT],
            "✘ Namespace has istio-injection=disabled label, preventing injection",
            "✘ Namespace has istio-injection=disabled label, preventing injection",
        ),
    ];
    for (name, namespace, pod, default, canary) in rows {
        let report = check(&subject(namespace, pod), &cluster(&["default", "canary"]));
        let found: Vec<String> = report
            .hooks
            .iter()
            .map(|hook| format!("{} {}", if hook.injects() { "✔" } else { "✘" }, hook.reason))
            .collect();
        assert_eq!(found, [default, canary], "{name}");
    }
}

#[test]
fn notes_say_what_to_do() {
    let policy = |policy: &str| Config { policy: policy.to_owned(), ..Config::default() };
    let host_network = Subject { host_network: true, ..subject(&[ENABLED], &[]) };
    let system = Subject { namespace: "kube-system".to_owned(), ..subject(&[ENABLED], &[]) };
    let annotated = Subject { annotations: labels(&[INJECT]), ..subject(&[], &[]) };
    let unwilling = Subject { annotations: labels(&[NOT]), ..subject(&[ENABLED], &[]) };
    let running = |namespace: &[(&str, &str)], proxy: bool, revision: Option<&str>| Subject {
        running: Some(Running { proxy, revision: revision.map(str::to_owned) }),
        ..subject(namespace, &[])
    };
    let mut away = cluster(&["default"]);
    away.answering.insert(("istio-system".to_owned(), "istio-sidecar-injector".to_owned()), false);
    let mut untrusting = cluster(&["default"]);
    for webhook in untrusting.configurations.iter_mut().flat_map(|one| one.webhooks.iter_mut().flatten()) {
        webhook.client_config.ca_bundle = None;
    }
    let unread = Cluster { injectors: BTreeMap::new(), ..cluster(&["default"]) };

    let both = || cluster(&["default", "canary"]);
    let rows: Vec<(&str, Subject, Cluster, &str)> = vec![
        ("no webhook", subject(&[ENABLED], &[]), cluster(&[]), "install a mesh"),
        ("no label", subject(&[], &[]), both(), "kubectl label namespace shop istio-injection=enabled"),
        ("no label, one revision", subject(&[], &[]), cluster(&["canary"]), "namespace shop istio.io/rev=canary"),
        ("disabled", subject(&[DISABLED], &[]), both(), "--overwrite namespace shop istio-injection=enabled"),
        ("a word of its own", subject(&[("istio-injection", "yes")], &[]), both(), "only \"enabled\" injects"),
        (
            "enabled without a default revision",
            subject(&[ENABLED], &[]),
            cluster(&["canary"]),
            "not installed (there is: canary): kubectl label namespace shop istio-injection- istio.io/rev=canary",
        ),
        ("an unknown revision", subject(&[("istio.io/rev", "old")], &[]), both(), "there is: canary, default"),
        ("a pod's unknown revision", subject(&[], &[("istio.io/rev", "old")]), both(), "which the pod asks for"),
        ("true without a default revision", subject(&[], &[INJECT]), cluster(&["canary"]), "add label istio.io/rev"),
        ("false", subject(&[ENABLED], &[NOT]), both(), "take label sidecar.istio.io/inject=false off the pods"),
        ("an annotation alone", annotated, both(), "annotation sidecar.istio.io/inject brings no pod into the mesh"),
        ("an annotation against it", unwilling, both(), "take annotation sidecar.istio.io/inject off the pods"),
        ("host network", host_network, both(), "take hostNetwork off its spec"),
        ("the cluster's own namespace", system, both(), "use another namespace"),
        (
            "policy disabled",
            subject(&[ENABLED], &[]),
            cluster_with(&["default"], &policy("disabled")),
            "or change ConfigMap istio-system/istio-sidecar-injector, key config",
        ),
        (
            "policy of its own",
            subject(&[ENABLED], &[]),
            cluster_with(&["default"], &policy("on")),
            "set policy to enabled or disabled",
        ),
        (
            "a word that is none",
            subject(&[ENABLED], &[("sidecar.istio.io/inject", "yes")]),
            both(),
            "counts as not set",
        ),
        ("nobody answers", subject(&[ENABLED], &[]), away, "pods are refused until one is"),
        ("no authority", subject(&[ENABLED], &[]), untrusting, "has no caBundle"),
        ("made too early", running(&[ENABLED], false, None), both(), "make it anew"),
        ("made under other labels", running(&[], true, Some("old")), both(), "a sidecar of revision old from before"),
        ("made by another", running(&[CANARY], true, Some("old")), both(), "the next one will have one of canary"),
        ("settings that are not known", subject(&[ENABLED], &[]), unread, ""),
    ];
    for (name, subject, cluster, expected) in rows {
        let report = check(&subject, &cluster);
        let found = report.notes.join("\n");
        assert!(found.contains(expected), "{name}: {found}");
        assert!(matches!(report.verdict, Verdict::Unknown { .. }) || !report.notes.is_empty(), "{name}");
    }
}

#[test]
fn where_all_is_well_there_is_nothing_to_do() {
    for (name, namespace, pod) in [("enabled", vec![ENABLED], vec![]), ("by the pod", vec![], vec![INJECT])] {
        let report = check(&subject(&namespace, &pod), &cluster(&["default", "canary"]));
        assert_eq!(report.verdict.injects(), Some(true), "{name}");
        assert!(report.notes.is_empty(), "{name}: {:?}", report.notes);
    }
}

#[test]
fn the_report_for_people() {
    let both = cluster(&["default", "canary"]);
    insta::assert_snapshot!("injected", check(&subject(&[ENABLED], &[]), &both).text());
    insta::assert_snapshot!("not_asked", check(&subject(&[], &[]), &both).text());
    insta::assert_snapshot!("nothing_installed", check(&subject(&[], &[]), &cluster(&[])).text());
    let twice = Cluster { configurations: vec![installed("default", false), renamed("default")], ..both };
    insta::assert_snapshot!("two_webhooks", check(&subject(&[ENABLED], &[]), &twice).text());
}

/// The webhook of Istio's own control plane beside ours.
fn renamed(revision: &str) -> MutatingWebhookConfiguration {
    let mut istios = installed(revision, false);
    istios.metadata.name = Some("istio-sidecar-injector-istio".to_owned());
    for webhook in istios.webhooks.iter_mut().flatten() {
        if let Some(service) = &mut webhook.client_config.service {
            service.name = "istiod".to_owned();
        }
    }
    istios
}

#[test]
fn a_deactivated_webhook_and_webhooks_of_others() {
    let mut deactivated = installed("default", false);
    let never = json!({"matchLabels": {"istio.io/deactivated": "never-match"}});
    for webhook in deactivated.webhooks.iter_mut().flatten() {
        webhook.namespace_selector = serde_json::from_value(never.clone()).ok();
        webhook.object_selector = serde_json::from_value(never.clone()).ok();
    }
    let mut other = installed("default", false);
    other.metadata.name = Some("cert-manager".to_owned());
    for webhook in other.webhooks.iter_mut().flatten() {
        webhook.name = "webhook.cert-manager.io".to_owned();
    }
    let cluster = Cluster { configurations: vec![deactivated, other], ..Cluster::default() };
    let report = check(&subject(&[ENABLED], &[]), &cluster);
    assert_eq!(report.hooks.len(), 1);
    assert_eq!(report.hooks[0].reason, "The webhook is deactivated: another one has its labels");
    assert_eq!(report.verdict, Verdict::NotAsked);
}

/// The report agrees with Istio's table for every pair of labels.
mod vectors {
    use super::*;

    #[test]
    fn webhook_matrix() {
        const FILE: &str = "webhook-matrix.json";
        if let Some(only) = std::env::var_os("FORESTAY_VECTOR_FILES")
            && !std::env::split_paths(&only).any(|path| path.file_name().is_some_and(|name| name == FILE))
        {
            return;
        }
        let folder = std::env::var("FORESTAY_VECTORS")
            .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"), PathBuf::from);
        let Ok(text) = std::fs::read_to_string(folder.join(FILE)) else {
            eprintln!("SKIPPED: no {FILE} in {} (set FORESTAY_VECTORS)", folder.display());
            return;
        };
        let vectors: Value = serde_json::from_str(&text).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        for case in cases {
            let read = |field: &str| serde_json::from_value::<Labels>(case[field].clone()).unwrap();
            let everywhere = case["enableNamespacesByDefault"].as_bool().unwrap();
            let subject =
                Subject { namespace_labels: read("namespaceLabels"), labels: read("podLabels"), ..subject(&[], &[]) };
            let cluster = Cluster {
                configurations: vec![installed("default", everywhere), installed("canary", everywhere)],
                ..cluster(&["default", "canary"])
            };
            let report = check(&subject, &cluster);
            let asked = match &report.verdict {
                Verdict::Asked { revision, .. } => Some(if revision == "default" { "istiod" } else { "istiod-canary" }),
                Verdict::NotAsked => None,
                other => panic!("{}: {other:?}", case["name"]),
            };
            assert_eq!(asked, case["service"].as_str(), "{}: {}", case["name"], report.text());
            // What is asked says why; what is not asked says what to do.
            assert_eq!(asked.is_none(), report.verdict == Verdict::NotAsked, "{}", case["name"]);
            assert!(asked.is_some() || !report.notes.is_empty(), "{}", case["name"]);
        }
        println!("{FILE}: {} cases, {} passed", cases.len(), cases.len());
    }
}

#[test]
fn a_tag_is_named_and_says_why_it_is_not_in_force() {
    let tag = |ready: Value| -> crds::install::MeshRevisionTag {
        serde_json::from_value(json!({
            "apiVersion": "install.forestay.dev/v1alpha1", "kind": "MeshRevisionTag", "metadata": {"name": "prod"},
            "spec": {"targetRef": {"kind": "MeshInstall", "name": "next"}}, "status": ready,
        }))
        .unwrap()
    };
    let condition = |status: &str, message: &str| {
        let time = "2026-01-01T00:00:00Z";
        json!({"conditions": [
            {"type": "Ready", "status": status, "reason": "R", "message": message, "lastTransitionTime": time},
        ]})
    };
    let made = webhook::configuration::tag(
        &Registration {
            revision: "canary",
            namespace: "istio-system",
            enable_namespaces_by_default: false,
            ca_bundle: b"ca",
        },
        "prod",
    );
    let prod = ("istio.io/rev", "prod");
    let rows = [
        ("in force", true, tag(condition("True", "Pods get it.")), Some(true), "is the tag prod of revision canary"),
        (
            "it points at nothing",
            false,
            tag(condition("False", "spec.targetRef.name: there is no MeshInstall \"next\"")),
            Some(false),
            "MeshRevisionTag prod is not in force: spec.targetRef.name: there is no",
        ),
        ("it is new", false, tag(Value::Null), Some(false), "has not said anything about it yet"),
    ];
    for (name, has_webhook, tag, injects, note) in rows {
        let mut cluster = cluster(&["default", "canary"]);
        cluster.configurations.extend(has_webhook.then(|| made.clone()));
        cluster.tags = vec![tag];
        let found = check(&subject(&[prod], &[]), &cluster);
        assert_eq!(found.verdict.injects(), injects, "{name}: {found:?}");
        assert!(found.notes.iter().any(|one| one.contains(note)), "{name}: {:?}", found.notes);
    }
    let mut elsewhere = cluster(&["default"]);
    elsewhere.tags = vec![tag(condition("False", "no"))];
    let found = check(&subject(&[ENABLED], &[]), &elsewhere);
    assert!(!found.notes.iter().any(|note| note.contains("prod")), "nobody asks for it: {:?}", found.notes);
}
