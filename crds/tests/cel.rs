//! Every CEL rule of the definitions is also said by the kind's check, since files and the command line have no API server
//! before them. At each place that has a rule, something that breaks it is put there, and the check must say more than it
//! says of the same object with something that does not.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeSet;

use forestay_crds::check::Severity;
use forestay_crds::kinds::Kind;
use forestay_crds::yaml;
use serde_json::{Map, Value, json};

/// A rule by its message: what breaks it, and what does not. The place of the rule is the value itself.
const EXAMPLES: &[(&str, &str, &str)] = &[
    ("must be a valid duration greater than 1ms", "0s", "1s"),
    ("port must be between 1-65535", "65536", "80"),
    ("wildcard not allowed in label value match", "a*", "a"),
    ("wildcard not allowed in label key match", "{'a*': b}", "{a: b}"),
    ("key must not be empty", "{'': b}", "{a: b}"),
    ("wildcard is not supported in selector", "a*", "a"),
    ("cross namespace referencing is not currently supported", "other", "''"),
    (
        "only one of targetRefs or selector can be set",
        "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: a}]}",
        "{targetRefs: [{kind: Service, name: a}]}",
    ),
    (
        "only one of targetRefs or workloadSelector can be set",
        "{workloadSelector: {labels: {a: b}}, targetRefs: [{kind: Service, name: a}]}",
        "{targetRefs: [{kind: Service, name: a}]}",
    ),
    (
        "Cannot set serviceAccounts with namespaces or principals",
        "{serviceAccounts: [a], namespaces: [b]}",
        "{serviceAccounts: [a]}",
    ),
    ("portLevelMtls requires selector", "{portLevelMtls: {80: {mode: STRICT}}}", "{mtls: {mode: STRICT}}"),
    (
        "only one of jwks or jwksUri can be set",
        "{jwksUri: 'https://a', jwks: '{\"keys\": []}'}",
        "{jwksUri: 'https://a'}",
    ),
    ("url must have scheme http:// or https://", "ftp://a", "https://a"),
    ("url must have schema one of [http, https, file, oci]", "ftp://a", "https://a"),
    ("value may only be set when valueFrom is INLINE", "{name: A, valueFrom: HOST, value: b}", "{name: A, value: b}"),
    ("value must be set when operation is UPSERT", "{operation: UPSERT, value: ''}", "{operation: UPSERT, value: a}"),
    ("value must not be set when operation is REMOVE", "{operation: REMOVE, value: a}", "{operation: REMOVE}"),
    ("exactly one of wasm or lua must be set", "{}", "{lua: {inlineCode: a}}"),
    (
        "only one of credentialName or credentialNames can be set",
        "{mode: SIMPLE, credentialName: a, credentialNames: [b]}",
        "{mode: SIMPLE, credentialName: a}",
    ),
    (
        "only one of credentialName or tlsCertificates can be set",
        "{mode: SIMPLE, credentialName: a, tlsCertificates: [{serverCertificate: c, privateKey: k}]}",
        "{mode: SIMPLE, credentialName: a}",
    ),
    (
        "only one of credentialNames or tlsCertificates can be set",
        "{mode: SIMPLE, credentialNames: [a], tlsCertificates: [{serverCertificate: c, privateKey: k}]}",
        "{mode: SIMPLE, credentialNames: [a]}",
    ),
    ("Address is required", "{}", "{address: 10.0.0.1}"),
    ("UDS may not be a dir", "unix:///a/", "unix:///a"),
    ("UDS must be an absolute path or abstract socket", "unix://a", "unix://@a"),
    ("UDS may not include ports", "{address: 'unix:///a', ports: {http: 80}}", "{address: 'unix:///a'}"),
    ("port name must be valid", "{'a b': 80}", "{a-b: 80}"),
    ("port number cannot be duplicated", "[{name: a, number: 1}, {name: b, number: 1}]", "[{name: a, number: 1}]"),
    (
        "only one of WorkloadSelector or Endpoints can be set",
        "{hosts: [a.b], resolution: STATIC, workloadSelector: {labels: {a: b}}, endpoints: [{address: 10.0.0.1}]}",
        "{hosts: [a.b], resolution: STATIC, endpoints: [{address: 10.0.0.1}]}",
    ),
    (
        "CIDR addresses are allowed only for NONE/STATIC resolution types",
        "{hosts: [a.b], addresses: [10.0.0.0/8], resolution: DNS}",
        "{hosts: [a.b], addresses: [10.0.0.0/8], resolution: NONE}",
    ),
    ("NONE mode cannot set endpoints", "{hosts: [a.b], endpoints: [{address: 10.0.0.1}]}", "{hosts: [a.b]}"),
    (
        "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
        "{hosts: [a.b], resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.b}, {address: c.d}]}",
        "{hosts: [a.b], resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.b}]}",
    ),
    ("hostname cannot be wildcard", "'*'", "'*.a.b'"),
    ("scheme must be one of [HTTP, HTTPS]", "FTP", "HTTP"),
    (
        "only support waypointMatch when context is WAYPOINT",
        "{context: GATEWAY, waypoint: {portNumber: 80}}",
        "{context: WAYPOINT, waypoint: {portNumber: 80}}",
    ),
];

/// Places whose rule the check does not say, with the reason.
const SILENT: &[(&str, &str)] = &[];

/// One step down an object.
#[derive(Clone)]
enum Step {
    Field(String),
    Item,
    Entry,
}

#[test]
fn each_rule_is_said_by_the_check() {
    let (mut places, mut used, mut silent) = (0, BTreeSet::new(), Vec::new());
    for kind in Kind::ALL {
        let definition = json!(kind.definition());
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut rules = Vec::new();
        walk(spec, &mut Vec::new(), &mut rules);
        for (steps, message, of) in rules {
            let place = format!("{} {}: {message}", kind.name(), shown(&steps));
            let (_, bad, good) = EXAMPLES.iter().find(|(own, ..)| *own == message).expect(&place);
            used.insert(message.clone());
            places += 1;
            // The ports of PeerAuthentication are the keys of a map.
            let of_its_type = |text: &str| match of.as_str() {
                "object" if !text.starts_with('{') => json!({text: {}}),
                _ => yaml::value(text).unwrap(),
            };
            let errors = |leaf: Value| errors(*kind, leaf, &steps);
            if errors(of_its_type(bad)).is_subset(&errors(of_its_type(good))) {
                silent.push(place);
            }
        }
    }
    println!("{places} places with rules");
    let unlisted: Vec<_> = silent.iter().filter(|place| !SILENT.iter().any(|(own, _)| own == place)).collect();
    let gone: Vec<_> = SILENT.iter().filter(|(own, _)| !silent.iter().any(|place| place == own)).collect();
    let unused: Vec<_> = EXAMPLES.iter().map(|(message, ..)| *message).filter(|own| !used.contains(*own)).collect();
    assert!(unlisted.is_empty(), "{} rules that the check does not say: {unlisted:#?}", unlisted.len());
    assert!(gone.is_empty(), "listed as silent, but said: {gone:#?}");
    assert!(unused.is_empty(), "examples of rules that are in no definition: {unused:#?}");
}

fn walk(schema: &Value, steps: &mut Vec<Step>, rules: &mut Vec<(Vec<Step>, String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rules.push((steps.clone(), text(&rule["message"]), text(&schema["type"])));
    }
    let mut below = |step: Step, inner: &Value| {
        steps.push(step);
        walk(inner, steps, rules);
        steps.pop();
    };
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        below(Step::Field(name.clone()), inner);
    }
    if let Some(inner) = schema.get("items") {
        below(Step::Item, inner);
    }
    if let Some(inner) = schema.get("additionalProperties") {
        below(Step::Entry, inner);
    }
}

/// The errors of an object that has nothing but this at that place.
fn errors(kind: Kind, leaf: Value, steps: &[Step]) -> BTreeSet<String> {
    let spec = steps.iter().rev().fold(leaf, |inner, step| match step {
        Step::Field(name) => Value::Object(Map::from_iter([(name.clone(), inner)])),
        Step::Item => json!([inner]),
        Step::Entry => json!({"key": inner}),
    });
    match kind.check(json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})) {
        Err(error) => BTreeSet::from([error.to_string()]),
        Ok(problems) => {
            let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
            errors.map(ToString::to_string).collect()
        }
    }
}

fn shown(steps: &[Step]) -> String {
    steps.iter().fold("spec".to_owned(), |path, step| match step {
        Step::Field(name) => format!("{path}.{name}"),
        Step::Item => format!("{path}[]"),
        Step::Entry => format!("{path}<>"),
    })
}
