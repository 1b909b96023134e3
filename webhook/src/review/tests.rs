//! Every answer is a well-formed AdmissionReview, whatever the question was.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::review;
use crate::envelope::Answer;
use crate::inject::settings::Settings;

fn settings() -> Settings {
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mesh: BTreeMap<String, String> = map(&[("mesh", "")]);
    Settings::read("default", &mesh, &map(&[("config", ""), ("values", "{}")]), true).unwrap()
}

fn ask(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": "default", "dryRun": true, "object": pod,
        },
    })
}

fn answered(answer: &Answer) -> Value {
    let answer: Value = serde_json::from_slice(&answer.to_json()).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    answer["response"].clone()
}

#[test]
fn a_pod_is_patched() {
    // A field that no type of ours knows must survive.
    let pod = json!({
        "metadata": {"generateName": "a-", "futureMeta": 1},
        "spec": {"containers": [{"name": "app", "image": "x", "futureField": {"a": [1]}}], "futureSpec": true},
    });
    let response = answered(&review(ask(&pod).to_string().as_bytes(), &[], Some(&settings())));
    assert_eq!(
        (&response["uid"], &response["allowed"], &response["patchType"]),
        (&json!("u1"), &json!(true), &json!("JSONPatch"))
    );
    let patch = BASE64.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut after = pod.clone();
    json_patch::patch(&mut after, &patch).unwrap();
    assert_eq!(after["spec"]["containers"][0]["futureField"], json!({"a": [1]}));
    assert_eq!((&after["spec"]["futureSpec"], &after["metadata"]["futureMeta"]), (&json!(true), &json!(1)));
    assert_eq!(after["spec"]["initContainers"][1]["name"], "istio-proxy");
}

#[test]
fn numbers_that_are_not_ours_stay_as_they_were_written() {
    let ours = ["-0.0", "1e300", "123456789012345678901234567890", "18446744073709551615", "0.1000", "1E5"];
    let pod = json!({
        "metadata": {"name": "a"},
        "spec": {
            "initContainers": [{"name": "first", "image": "x", "future": "HERE"}],
            "containers": [{"name": "app", "image": "x", "future": "HERE"}],
            "volumes": [{"name": "v", "future": "HERE"}],
        },
    });
    for number in ours {
        let body = ask(&pod).to_string().replace("\"HERE\"", number);
        let response = answered(&review(body.as_bytes(), &[], Some(&settings())));
        let patch = BASE64.decode(response["patch"].as_str().unwrap()).unwrap();
        let patch = String::from_utf8(patch).unwrap();
        assert!(!patch.contains("future"), "{number} is written again: {patch}");
    }
    // What no number of ours can hold is not guessed at.
    let body = ask(&pod).to_string().replace("\"HERE\"", "1e400");
    let response = answered(&review(body.as_bytes(), &[], Some(&settings())));
    assert_eq!((&response["allowed"], &response["uid"]), (&json!(false), &json!("u1")));
    assert!(response["status"]["message"].as_str().unwrap().contains("number out of range"), "{response}");
}

#[test]
fn a_pod_that_says_no_passes_as_it_is() {
    let pod = json!({"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}, "spec": {"containers": []}});
    let response = answered(&review(ask(&pod).to_string().as_bytes(), &[], Some(&settings())));
    assert_eq!(response, json!({"uid": "u1", "allowed": true}));
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let annotated = json!({
        "metadata": {"name": "a", "annotations": {"sidecar.istio.io/interceptionMode": "OFTEN"}},
        "spec": {"containers": []},
    });
    let mut other_kind = ask(&json!({}));
    other_kind["request"]["kind"]["kind"] = json!("Service");
    let mut old = ask(&json!({}));
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut no_object = ask(&json!({}));
    no_object["request"]["object"] = Value::Null;
    let deep = format!("{{\"request\":{{\"uid\":\"u1\",\"object\":{}1{}}}}}", "[".repeat(500), "]".repeat(500));
    let with = |member: &str, value: Value| {
        let mut review = ask(&json!({}));
        review["request"][member] = value;
        review.to_string()
    };
    let mut no_uid = ask(&json!({}));
    no_uid["request"].as_object_mut().unwrap().remove("uid");
    let said = |pod: &str| ask(&json!("HERE")).to_string().replace("\"HERE\"", pod);
    let rows = [
        ("nothing", String::new(), "", "the body is not an AdmissionReview: EOF"),
        ("no uid", no_uid.to_string(), "", "the body is not an AdmissionReview: missing field `uid`"),
        ("a uid of another type", with("uid", json!(7)), "", "the body is not an AdmissionReview: invalid type"),
        (
            "the same member twice",
            r#"{"request":{"uid":"u1"},"request":{}}"#.into(),
            "u1",
            "the body is not an AdmissionReview: duplicate field",
        ),
        ("no number", said("NaN"), "u1", "the body is not an AdmissionReview: expected value"),
        ("a number without end", said("-Infinity"), "u1", "the body is not an AdmissionReview: invalid number"),
        (
            "half a character",
            said(r#""\ud800""#),
            "u1",
            "the body is not an AdmissionReview: unexpected end of hex escape",
        ),
        (
            "a list of pods",
            said("[{}]"),
            "u1",
            "cannot inject the sidecar into pod default/(unnamed): the object is not a Pod",
        ),
        (
            "only the object before",
            with("object", Value::Null).replace("\"dryRun\"", "\"oldObject\":{},\"dryRun\""),
            "u1",
            "the AdmissionReview has no object",
        ),
        ("not JSON", "hello".to_owned(), "", "the body is not an AdmissionReview: expected value"),
        (
            "cut off",
            r#"{"kind":"AdmissionReview","request":{"uid":"u1""#.to_owned(),
            "u1",
            "the body is not an AdmissionReview: EOF",
        ),
        ("too deep", deep, "u1", "the body is not an AdmissionReview: recursion limit exceeded"),
        ("empty", "{}".to_owned(), "", "the AdmissionReview has no request"),
        (
            "another version",
            old.to_string(),
            "u1",
            "expected AdmissionReview of admission.k8s.io/v1, got AdmissionReview of admission.k8s.io/v1beta1",
        ),
        ("another kind", other_kind.to_string(), "u1", "expected a Pod, got Service"),
        ("no object", no_object.to_string(), "u1", "the AdmissionReview has no object"),
        (
            "not a pod",
            ask(&json!({"spec": 7})).to_string(),
            "u1",
            "cannot inject the sidecar into pod default/(unnamed): the object is not a Pod: spec: ",
        ),
        (
            "an annotation",
            ask(&annotated).to_string(),
            "u1",
            "cannot inject the sidecar into pod default/a: invalid value 'OFTEN' for annotation 'sidecar.istio.io/interceptionMode': must be REDIRECT, TPROXY or NONE",
        ),
    ];
    for (name, body, uid, message) in rows {
        let response = answered(&review(body.as_bytes(), &[], Some(&settings())));
        assert_eq!((&response["allowed"], &response["uid"]), (&json!(false), &json!(uid)), "{name}");
        let said = response["status"]["message"].as_str().unwrap();
        assert!(said.starts_with(message), "{name}: {said}");
        assert!(response.get("patch").is_none(), "{name}");
    }
    let long = "u".repeat(1 << 20);
    let response = answered(&review(with("uid", json!(long)).as_bytes(), &[], Some(&settings())));
    assert_eq!(response["uid"], long, "a uid of a megabyte is still the question's");
    let unready = answered(&review(ask(&json!({"spec": {}})).to_string().as_bytes(), &[], None));
    assert_eq!(unready["status"]["code"], 503);
}

#[test]
fn what_is_no_new_pod_passes_as_it_is() {
    let with = |members: &[(&str, Value)]| {
        let mut review = ask(&json!({"metadata": {"name": "a"}, "spec": {"containers": []}}));
        for (member, value) in members {
            review["request"][*member] = value.clone();
        }
        answered(&super::review(review.to_string().as_bytes(), &[], Some(&settings())))
    };
    for (name, members) in [
        ("an update", &[("operation", json!("UPDATE"))][..]),
        ("a deletion", &[("operation", json!("DELETE")), ("object", Value::Null), ("oldObject", json!({}))]),
        ("a connection", &[("operation", json!("CONNECT")), ("subResource", json!("exec"))]),
        ("an eviction", &[("subResource", json!("eviction"))]),
        ("a debug container", &[("operation", json!("UPDATE")), ("subResource", json!("ephemeralcontainers"))]),
        ("a binding", &[("subResource", json!("binding"))]),
    ] {
        assert_eq!(with(members), json!({"uid": "u1", "allowed": true}), "{name}");
    }
}

mod any {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{answered, ask, review, settings};

    /// Arbitrary JSON, with the field names of pods so that it gets far.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            proptest::sample::select(vec![
                "",
                "istio-proxy",
                "true",
                "15020",
                "{",
                "[]",
                "{\"containers\":[\"istio-proxy\"]}"
            ])
            .prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        let names = vec![
            "metadata",
            "spec",
            "labels",
            "annotations",
            "containers",
            "initContainers",
            "name",
            "ports",
            "env",
            "livenessProbe",
            "httpGet",
            "port",
            "lifecycle",
            "preStop",
            "securityContext",
            "volumes",
            "hostNetwork",
            "sidecar.istio.io/status",
            "proxy.istio.io/config",
            "proxy.istio.io/overrides",
            "prometheus.io/port",
            "sidecar.istio.io/userVolume",
            "ownerReferences",
            "imagePullSecrets",
        ];
        leaf.prop_recursive(6, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec((proptest::sample::select(names.clone()), inner), 0..6)
                    .prop_map(|members| members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_comes_an_answer_goes(pod in json(), cut in any::<prop::sample::Index>()) {
            let settings = settings();
            let body = ask(&pod).to_string().into_bytes();
            let answer = answered(&review(&body, &[], Some(&settings)));
            prop_assert_eq!(&answer["uid"], "u1");
            let cut = cut.index(body.len());
            answered(&review(&body[..cut], &[], Some(&settings)));
            answered(&review(pod.to_string().as_bytes(), &[], Some(&settings)));
        }
    }
}
