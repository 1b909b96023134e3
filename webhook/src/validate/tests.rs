//! What is refused, what is warned of, and what no mistake may hold up.

use serde_json::{Value, json};

use super::{Count, Failure, check, validate};
use crate::envelope::Answer;

fn ask(kind: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let (group, version, resource) = match kind {
        "PeerAuthentication" => ("security.istio.io", "v1", "peerauthentications"),
        "DestinationRule" => ("networking.istio.io", "v1alpha3", "destinationrules"),
        _ => ("networking.istio.io", "v1beta1", "virtualservices"),
    };
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u1", "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": group, "version": version, "resource": resource},
            "operation": operation, "namespace": "default", "dryRun": false, "object": object, "oldObject": old,
        },
    })
}

fn create(kind: &str, object: &Value) -> Value {
    ask(kind, "CREATE", object, &Value::Null)
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "reviews"}, "spec": spec})
}

fn good() -> Value {
    json!({"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "reviews"}}]}]})
}

/// Two mistakes: a weight that is negative, and a rule without a destination.
fn bad() -> Value {
    json!({"hosts": ["reviews"], "http": [
        {"route": [{"destination": {"host": "a"}, "weight": 100}, {"destination": {"host": "b"}, "weight": -1}]},
        {"match": [{"uri": {"exact": "/"}}]},
    ]})
}

fn answer(body: &Value) -> Answer {
    validate(body.to_string().as_bytes())
}

#[test]
fn a_good_object_passes() {
    let answer = answer(&create("VirtualService", &object("VirtualService", &good())));
    assert_eq!((answer.uid(), answer.allowed(), answer.warnings()), ("u1", true, &[][..]), "{answer:?}");
}

#[test]
fn a_refusal_names_every_field_as_the_api_server_would() {
    let answer = answer(&create("VirtualService", &object("VirtualService", &bad())));
    let sent: Value = serde_json::from_slice(&answer.to_json()).unwrap();
    let status = &sent["response"]["status"];
    assert_eq!(
        (&status["code"], &status["reason"], &status["status"]),
        (&json!(422), &json!("Invalid"), &json!("Failure"))
    );
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("VirtualService default/reviews: spec.http[0].route[1].weight: "), "{message}");
    assert!(message.contains("; spec.http[1]"), "{message}");
    let details = &status["details"];
    assert_eq!(
        (&details["name"], &details["group"], &details["kind"]),
        (&json!("reviews"), &json!("networking.istio.io"), &json!("VirtualService"))
    );
    let causes = details["causes"].as_array().unwrap();
    assert_eq!(
        (&causes[0]["field"], &causes[0]["reason"]),
        (&json!("spec.http[0].route[1].weight"), &json!("FieldValueInvalid"))
    );
    assert!(causes.len() >= 2 && sent["response"].get("patch").is_none(), "{sent}");
}

#[test]
fn what_does_not_fit_its_type_is_refused_with_the_field() {
    let answer = answer(&create("VirtualService", &object("VirtualService", &json!({"hosts": "reviews"}))));
    let message = answer.message().unwrap();
    assert!(message.starts_with("VirtualService default/reviews: spec.hosts: invalid type: string"), "{message}");
    assert_eq!(answer.code(), Some(422));
}

#[test]
fn what_is_legal_and_cannot_be_meant_is_warned_of() {
    let mut unknown = good();
    unknown["exportsTo"] = json!(["*"]);
    let answer = answer(&create("VirtualService", &object("VirtualService", &unknown)));
    assert!(answer.allowed());
    let warning = "VirtualService default/reviews: spec.exportsTo: unknown field, which has no effect";
    assert_eq!(answer.warnings(), [warning]);
}

#[test]
fn an_old_mistake_holds_nothing_up() {
    let stored = object("VirtualService", &bad());
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut object = stored.clone();
        edit(&mut object);
        object
    };
    let labelled = with(&|object| object["metadata"]["labels"] = json!({"team": "shop"}));
    let of_another = with(&|object| object["metadata"]["labels"] = json!({"istio.io/rev": "canary"}));
    let mended = with(&|object| object["spec"] = good());
    let other_mistake = with(&|object| object["spec"]["http"][0]["route"][1]["weight"] = json!(-2));
    let going = with(&|object| {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        object["spec"]["http"][0]["route"][1]["weight"] = json!(-2);
    });
    let without = with(&|object| drop(object.as_object_mut().unwrap().remove("spec")));
    let empty = with(&|object| object["spec"] = Value::Null);
    let rows: [(&str, &str, &Value, &Value, bool); 11] = [
        ("only metadata changes", "UPDATE", &labelled, &stored, true),
        ("it comes to a revision that has not seen it", "UPDATE", &of_another, &stored, false),
        ("and goes on in it", "UPDATE", &of_another, &of_another, true),
        ("a finalizer goes while it is being deleted", "UPDATE", &going, &stored, true),
        ("it is mended", "UPDATE", &mended, &stored, true),
        ("a mistake is exchanged for another", "UPDATE", &other_mistake, &stored, false),
        ("a good one gets a mistake", "UPDATE", &stored, &mended, false),
        ("no spec before and after", "UPDATE", &empty, &without, true),
        ("nothing is known of the one before", "UPDATE", &stored, &Value::Null, false),
        ("deletion", "DELETE", &Value::Null, &stored, true),
        ("connect", "CONNECT", &stored, &Value::Null, true),
    ];
    for (name, operation, object, old, allowed) in rows {
        let answer = answer(&ask("VirtualService", operation, object, old));
        assert_eq!((answer.allowed(), answer.uid()), (allowed, "u1"), "{name}: {answer:?}");
    }
    let mut status = create("VirtualService", &stored);
    status["request"]["operation"] = json!("UPDATE");
    status["request"]["subResource"] = json!("status");
    assert!(answer(&status).allowed(), "a status");
}

#[test]
fn istios_probe_is_always_refused() {
    let mut probe = object("VirtualService", &good());
    probe["metadata"]["annotations"] = json!({"internal.istio.io/webhook-always-reject": ""});
    let answer = answer(&create("VirtualService", &probe));
    assert_eq!((answer.allowed(), answer.code()), (false, Some(403)));
}

#[test]
fn what_is_of_another_group_is_not_ours_to_refuse() {
    for group in ["install.forestay.dev", "gateway.networking.k8s.io", "apps", ""] {
        let mut body = create("VirtualService", &object("VirtualService", &good()));
        body["request"]["kind"]["group"] = json!(group);
        let answer = validate(body.to_string().as_bytes());
        assert!(answer.allowed() && answer.warnings().is_empty(), "{group}: {answer:?}");
    }
}

#[test]
fn what_is_no_review_of_ours_is_refused_with_the_reason() {
    let body = create("VirtualService", &object("VirtualService", &good()));
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut body = body.clone();
        edit(&mut body);
        body.to_string()
    };
    let deep = format!("{{\"request\":{{\"uid\":\"u1\",\"object\":{}1{}}}}}", "[".repeat(500), "]".repeat(500));
    let rows: [(&str, String, &str, u16, &str); 8] = [
        ("nothing", String::new(), "", 400, "the body is not an AdmissionReview"),
        ("not JSON", "hello".to_owned(), "", 400, "the body is not an AdmissionReview"),
        ("too deep", deep, "u1", 400, "the body is not an AdmissionReview: recursion limit exceeded"),
        ("no request", "{}".to_owned(), "", 400, "the AdmissionReview has no request"),
        (
            "another version",
            with(&|body| body["apiVersion"] = json!("admission.k8s.io/v1beta1")),
            "u1",
            400,
            "expected AdmissionReview of admission.k8s.io/v1",
        ),
        (
            "another kind",
            with(&|body| body["request"]["kind"]["kind"] = json!("VirtualServices")),
            "u1",
            400,
            "VirtualServices of networking.istio.io/v1beta1 is not a kind that this version of Forestay knows",
        ),
        (
            "no object",
            with(&|body| body["request"]["object"] = Value::Null),
            "u1",
            400,
            "the AdmissionReview has no object",
        ),
        (
            "a list",
            with(&|body| body["request"]["object"] = json!([1])),
            "u1",
            400,
            "the object of the AdmissionReview is not",
        ),
    ];
    for (name, body, uid, code, message) in rows {
        let answer = validate(body.as_bytes());
        assert_eq!((answer.uid(), answer.allowed(), answer.code()), (uid, false, Some(code)), "{name}");
        assert!(answer.message().unwrap().starts_with(message), "{name}: {answer:?}");
    }
}

#[test]
fn what_is_counted() {
    let of = |group, version, resource, outcome| Some(Count { group, version, resource, outcome });
    let virtual_service = |outcome| of("networking.istio.io", "v1beta1", "virtualservices", outcome);
    let (fine, broken) = (object("VirtualService", &good()), object("VirtualService", &bad()));
    let mut dry = create("VirtualService", &broken);
    dry["request"]["dryRun"] = json!(true);
    let mut strange = create("VirtualService", &fine);
    strange["request"]["kind"] = json!({"group": "a", "version": "b", "kind": "c"});
    let rows = [
        ("good", create("VirtualService", &fine), virtual_service(Ok(()))),
        ("a mistake", create("VirtualService", &broken), virtual_service(Err(Failure::Invalid))),
        (
            "a wrong type",
            create("DestinationRule", &json!({"spec": {"host": 7}})),
            of("networking.istio.io", "v1alpha3", "destinationrules", Err(Failure::WrongType)),
        ),
        (
            "another operation",
            ask("VirtualService", "CONNECT", &fine, &fine),
            virtual_service(Err(Failure::UnsupportedOperation)),
        ),
        // Who reaches the port must not be able to make series of metrics.
        ("a kind that nobody knows", strange, of("other", "other", "other", Err(Failure::UnknownType))),
        ("a dry run leaves no trace", dry, None),
        ("no review", json!({}), None),
    ];
    for (name, body, count) in rows {
        assert_eq!(check(body.to_string().as_bytes()).count, count, "{name}");
    }
}

mod any {
    use crds::kinds::Kind;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::validate;

    /// Arbitrary JSON, with the field names of Istio's objects so that it gets far.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            proptest::sample::select(vec!["", "*", "reviews", "1s", "-1s", "STRICT", "10.0.0.0/8", "a/b", "ä"])
                .prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        let names = vec![
            "metadata",
            "name",
            "annotations",
            "labels",
            "spec",
            "hosts",
            "host",
            "http",
            "tcp",
            "tls",
            "match",
            "uri",
            "exact",
            "regex",
            "route",
            "destination",
            "subset",
            "port",
            "number",
            "weight",
            "timeout",
            "retries",
            "fault",
            "servers",
            "selector",
            "matchLabels",
            "mtls",
            "mode",
            "portLevelMtls",
            "subsets",
            "trafficPolicy",
            "loadBalancer",
            "endpoints",
            "addresses",
            "ports",
            "resolution",
            "location",
            "gateways",
            "exportTo",
            "rules",
            "from",
            "to",
            "when",
            "jwtRules",
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
        fn whatever_comes_an_answer_goes_within_the_limits(
            spec in json(),
            metadata in json(),
            kind in proptest::sample::select(Kind::ALL),
            update in any::<bool>(),
            old in json(),
            cut in any::<prop::sample::Index>(),
        ) {
            let body = json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "request": {
                    "uid": "u1", "kind": {"group": kind.group(), "version": "v1", "kind": kind.name()},
                    "operation": if update { "UPDATE" } else { "CREATE" }, "namespace": "default",
                    "object": {"metadata": metadata, "spec": spec}, "oldObject": old,
                },
            })
            .to_string();
            let answer = validate(body.as_bytes());
            prop_assert_eq!(answer.uid(), "u1");
            prop_assert_eq!(answer.allowed(), answer.message().is_none());
            prop_assert!(answer.warnings().iter().map(|warning| warning.chars().count()).sum::<usize>() <= 4096);
            prop_assert!(answer.warnings().iter().all(|warning| warning.chars().count() <= 256));
            prop_assert!(answer.message().is_none_or(|message| message.chars().count() <= 4096));
            let sent: Value = serde_json::from_slice(&answer.to_json()).unwrap();
            prop_assert_eq!(&sent["apiVersion"], "admission.k8s.io/v1");
            validate(&body.as_bytes()[..cut.index(body.len())]);
        }
    }
}
