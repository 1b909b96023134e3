//! Whatever reaches admission, an answer goes out: no panic, one AdmissionReview, within the API's limits.
//!
//! * `entropy`: how much is tried and from which seed (`FORESTAY_FUZZ_CASES`, `FORESTAY_FUZZ_SEED`)
//! * `json`, `pods`, `objects`: what goes in
//! * `answer`: what has to come out
//! * `regressions`: what once went wrong, by name
//! * here: the properties

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test fails by panicking

mod answer;
mod entropy;
mod json;
mod objects;
mod pods;
mod regressions;

use std::collections::BTreeMap;

use crds::kinds::Kind;
use forestay_webhook::configuration::VALIDATED_GROUPS;

use forestay_webhook::inject::settings::Settings;
use forestay_webhook::inject::{Request, inject, inject_document, variables};
use forestay_webhook::{review, validate};
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Value, json};

use self::entropy::{Entropy, choices, config};

/// Settings of different clusters.
pub(crate) fn settings(e: &mut Entropy<'_>) -> Settings {
    let mesh = e.pick(&["", "defaultConfig: {holdApplicationUntilProxyStarts: true}", "enablePrometheusMerge: false"]);
    let config = e.pick(&[
        "defaultTemplates: [sidecar]",
        "{defaultTemplates: [sidecar], policy: disabled}",
        "{defaultTemplates: [sidecar], neverInjectSelector: [{matchExpressions: [{key: app, operator: In, values: [a]}]}]}",
        "{defaultTemplates: [sidecar, grpc-agent], injectedAnnotations: {a: b}}",
    ]);
    let values = e.pick(&[
        "{}",
        "{\"global\": {\"network\": \"n\", \"imagePullSecrets\": [\"s\"], \"logAsJson\": true}}",
        "{\"global\": {\"proxy\": {\"holdApplicationUntilProxyStarts\": true, \"excludeInboundPorts\": 81}}}",
    ]);
    read(mesh, config, values, e.one_in(2)).unwrap()
}

fn read(mesh: &str, config: &str, values: &str, native: bool) -> Result<Settings, String> {
    let data = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Settings::read("default", &data(&[("mesh", mesh)]), &data(&[("config", config), ("values", values)]), native)
        .map_err(|error| error.to_string())
}

/// A review that asks about an object; the uid stands where the API server writes it.
fn question(group: &str, version: &str, kind: &str, operation: &str, object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": group, "version": version, "kind": kind},
            "operation": operation,
            "namespace": "default",
            "object": object,
        },
    })
}

fn uid(question: &Value) -> Option<&str> {
    question.pointer("/request/uid")?.as_str()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        answer::read(&review(&bytes, &[], None), None)?;
        answer::read(&validate(&bytes), None)?;
    }

    /// A review of which the end is missing, or a byte is wrong, is answered to whom it came from.
    #[test]
    fn a_broken_review_is_answered_by_its_uid(choices in choices(), end in any::<u32>(), wrong in any::<Option<(u16, u8)>>()) {
        let mut e = Entropy::new(&choices);
        let question = question("", "v1", "Pod", "CREATE", &pods::pod(&mut e));
        let mut bytes = question.to_string().into_bytes();
        bytes.truncate(200.max(end as usize % (bytes.len() + 1)));
        if let Some((place, byte)) = wrong {
            // Behind the uid, which stands within the first hundred bytes.
            let place = 150 + usize::from(place) % (bytes.len() - 150);
            bytes[place] = byte;
        }
        let settings = settings(&mut e);
        answer::read(&review(&bytes, &[], Some(&settings)), uid(&question))?;
        answer::read(&validate(&bytes), uid(&question))?;
    }

    /// Any JSON in any place of a review.
    #[test]
    fn any_review_is_answered(choices in choices()) {
        let mut e = Entropy::new(&choices);
        let object = json::value(&mut e, 4);
        let mut question = question("networking.istio.io", "v1", "VirtualService", "UPDATE", &object);
        question["request"]["oldObject"] = json::value(&mut e, 2);
        for _ in 0..e.below(4) {
            json::mutate(&mut e, &mut question);
        }
        let bytes = question.to_string().into_bytes();
        // Where the review cannot be read as a whole, its uid is looked for at its beginning only.
        let readable = serde_json::from_slice::<Value>(&bytes).is_ok_and(|read| read == question);
        let plain = uid(&question).filter(|uid| readable && *uid == "705ab4f5-6393-11e8-b7cc-42010a800002");
        let settings = settings(&mut e);
        answer::read(&review(&bytes, &[], Some(&settings)), plain)?;
        answer::read(&validate(&bytes), plain)?;
    }

    /// A pod is injected, passed over or refused; injected, it is still a pod, and what is the user's is still there.
    #[test]
    fn any_pod_is_answered(choices in choices()) {
        let mut e = Entropy::new(&choices);
        let settings = settings(&mut e);
        let path = format!("/inject/{}/{}", json::text(&mut e), json::text(&mut e));
        let variables = variables::of_path(&path);
        let pod = pods::pod(&mut e);
        let question = question("", "v1", "Pod", "CREATE", &pod);
        let answer = review(question.to_string().as_bytes(), &variables, Some(&settings));
        let read = answer::read(&answer, uid(&question))?;
        let Some(patch) = read.patch else { return Ok(()) };

        let mut injected = pod.clone();
        json_patch::patch(&mut injected, &patch).map_err(|error| TestCaseError::fail(error.to_string()))?;
        if let Err(error) = crds::parse::<Pod>(injected.clone()) {
            return Err(TestCaseError::fail(format!("no longer a pod: {error}")));
        }
        let direct = inject(Request { pod: &pod, namespace: "default", variables: &variables, about: None }, &settings);
        let direct = direct.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let change = json_patch::diff(&injected, &direct.pod.unwrap_or_default());
        prop_assert!(change.0.is_empty(), "the patch does not say {}", change);
        prop_assert_eq!(injected["spec"].get(pods::FUTURE), pod["spec"].get(pods::FUTURE));
    }

    /// Injected again, a pod stays as it is: one that Kubernetes would take, and that nobody marked as injected by hand.
    #[test]
    fn injecting_again_changes_nothing(choices in choices()) {
        let mut e = Entropy::new(&choices);
        let settings = settings(&mut e);
        let pod = pods::plausible(&mut e);
        let again = |pod| inject(Request { pod, namespace: "default", variables: &[], about: None }, &settings);
        let Ok(Some(injected)) = again(&pod).map(|outcome| outcome.pod) else { return Ok(()) };
        let twice = again(&injected).map_err(|error| TestCaseError::fail(format!("injected once, refused now: {error}")))?;
        let change = json_patch::diff(&injected, &twice.pod.unwrap_or_default());
        prop_assert!(change.0.is_empty(), "injecting again changes {}\nof {}", change, pod);
    }

    /// A file's document: injected, or left exactly as it was.
    #[test]
    fn any_document_of_a_file_is_read(choices in choices()) {
        let mut e = Entropy::new(&choices);
        let settings = settings(&mut e);
        let template = pods::pod(&mut e);
        let kind = e.pick(&["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"]);
        let workload = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "a"}, "spec": {"template": template}});
        let mut document = match e.below(4) {
            0 => template,
            1 => json!({"apiVersion": "v1", "kind": "List", "items": [workload, template]}),
            2 => json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": template}}}}),
            _ => workload,
        };
        for _ in 0..e.below(3) {
            json::mutate(&mut e, &mut document);
        }
        if let Ok(outcome) = inject_document(&document, &settings, "default") {
            prop_assert!(outcome.injected || outcome.document == document, "not injected, and yet changed");
        }
    }

    /// Settings are read, or refused with the place of the mistake.
    #[test]
    fn any_settings_are_read_or_refused(choices in choices()) {
        let mut e = Entropy::new(&choices);
        let mut texts = [
            json!({"trustDomain": "a", "defaultConfig": {"proxyMetadata": {"A": "b"}, "concurrency": 2}}),
            json!({"policy": "enabled", "defaultTemplates": ["sidecar"], "aliases": {"a": ["sidecar"]}, "templates": {"t": "{{ .Spec }}"}}),
            json!({"global": {"hub": "h", "tag": "t", "proxy": {"image": "i"}}, "sidecarInjectorWebhook": {}}),
        ].map(|text| (text, None::<String>));
        for (value, broken) in &mut texts {
            for _ in 0..e.below(3) {
                json::mutate(&mut e, value);
            }
            if e.one_in(6) {
                *broken = Some(json::text(&mut e));
            }
        }
        let [mesh, config, values] = texts.map(|(value, broken)| broken.unwrap_or_else(|| value.to_string()));
        match read(&mesh, &config, &values, true) {
            Ok(settings) => {
                let pod = pods::pod(&mut e);
                // With settings of any kind: an outcome or an error, and no panic.
                let _ = inject(Request { pod: &pod, namespace: "default", variables: &[], about: None }, &settings);
            }
            Err(error) => prop_assert!(error.starts_with("ConfigMap istio"), "{}", error),
        }
    }

    /// An object of Istio's is answered as its checks say.
    #[test]
    fn any_object_is_answered(choices in choices()) {
        let mut e = Entropy::new(&choices);
        let (kind, object) = objects::object(&mut e);
        let operation = e.pick(&["CREATE", "UPDATE"]);
        let question = question(kind.group(), "v1", kind.name(), operation, &object);
        let read = answer::read(&validate(question.to_string().as_bytes()), uid(&question))?;
        if object.is_object() && !read.allowed {
            prop_assert!(read.message.contains(kind.name()), "a refusal names the object: {}", read.message);
        }
        // What else is said about it, by the command line and the reader of files.
        kind.schema_problems(&object);
        kind.unknown_fields(&object);
    }

    /// What is read and written again is read as the same.
    #[test]
    fn any_object_survives_being_written(choices in choices()) {
        let mut e = Entropy::new(&choices);
        let (kind, object) = objects::object(&mut e);
        let Ok(once) = kind.rewritten(object.clone()) else { return Ok(()) };
        let twice = kind.rewritten(once.clone()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&once, &twice);
        // Its meaning too: the checks find the same, where the first reading has not mended something.
        let (before, after) = (kind.check(object), kind.check(once));
        prop_assert_eq!(before, after);
    }

    /// What is not of the four groups is not ours to refuse.
    #[test]
    fn what_does_not_belong_to_us_passes(choices in choices()) {
        let mut e = Entropy::new(&choices);
        let group = e.pick(&["", "apps", "gateway.networking.k8s.io", "istio.io", "install.forestay.dev", "example.org"]);
        prop_assert!(!VALIDATED_GROUPS.contains(&group));
        let kind = if e.one_in(2) { json::text(&mut e) } else { e.pick(&["Pod", "VirtualService", "Gateway"]).to_owned() };
        let object = if e.one_in(2) { json::value(&mut e, 3) } else { objects::object(&mut e).1 };
        let operation = e.pick(&["CREATE", "UPDATE", "DELETE", "CONNECT", ""]);
        let question = question(group, "v1", &kind, operation, &object);
        let read = answer::read(&validate(question.to_string().as_bytes()), uid(&question))?;
        prop_assert!(read.allowed, "{}", read.message);
        prop_assert!(read.warnings.is_empty() && read.patch.is_none());
    }
}

/// The generators reach what they are there for; without this, properties about what they never make would hold.
#[test]
fn the_generators_reach_every_outcome() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut runner = proptest::test_runner::TestRunner::new(config());
    for _ in 0..512 {
        let choices = choices().new_tree(&mut runner).unwrap().current();
        let mut e = Entropy::new(&choices);
        let settings = settings(&mut e);
        let pod = pods::pod(&mut e);
        let outcome = match inject(Request { pod: &pod, namespace: "default", variables: &[], about: None }, &settings)
        {
            Ok(outcome) if outcome.pod.is_some() => "pod injected",
            Ok(_) => "pod passed over",
            Err(_) => "pod refused",
        };
        *seen.entry(outcome).or_default() += 1;
        let (kind, object) = objects::object(&mut Entropy::new(&choices));
        *kinds.entry(kind).or_default() += 1;
        let outcome = match kind.check(object) {
            Ok(problems) if problems.is_empty() => "object in order",
            Ok(_) => "object with problems",
            Err(_) => "object of another form",
        };
        *seen.entry(outcome).or_default() += 1;
    }
    println!("{seen:?} {kinds:?}");
    for outcome in [
        "pod injected",
        "pod passed over",
        "pod refused",
        "object in order",
        "object with problems",
        "object of another form",
    ] {
        assert!(seen.get(outcome).is_some_and(|count| *count >= 10), "{outcome}: {seen:?}");
    }
    assert_eq!(kinds.len(), Kind::ALL.len(), "{kinds:?}");
}
