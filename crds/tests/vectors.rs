//! Istio's own cases, read in place: `$FORESTAY_VECTORS`, by default `../shared/vectors` beside the workspace.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeSet;
use std::path::PathBuf;

use forestay_crds::check::Severity;
use forestay_crds::kinds::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

/// Known failures of `validation.json` by name, with the reason.
const KNOWN: &[(&str, &str)] = &[];

fn vectors(file: &str) -> Option<Value> {
    // `cargo xtask vectors FILE ...` asks for some of them only.
    if let Some(only) = std::env::var_os("FORESTAY_VECTOR_FILES")
        && !std::env::split_paths(&only).any(|path| path.file_name().is_some_and(|name| name == file))
    {
        return None;
    }
    let folder = std::env::var("FORESTAY_VECTORS")
        .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(folder.join(file)) else {
        eprintln!("SKIPPED: no {file} in {} (set FORESTAY_VECTORS)", folder.display());
        return None;
    };
    Some(serde_json::from_str(&text).expect("vectors are JSON"))
}

fn cases(vectors: &Value) -> &Vec<Value> {
    vectors["cases"].as_array().expect("vectors have cases")
}

/// Known failures stand by name with a reason; one that passes is as much of a failure as one that fails unexpectedly.
fn report(file: &str, total: usize, failures: &[(String, String)], known: &[(&str, &str)]) {
    let failed: BTreeSet<&str> = failures.iter().map(|(name, _)| name.as_str()).collect();
    let known_names: BTreeSet<&str> = known.iter().map(|(name, _)| *name).collect();
    println!("{file}: {total} cases, {} passed", total - failed.len());
    for (name, difference) in failures {
        let reason = known.iter().find(|(own, _)| own == name).map(|(_, reason)| *reason);
        println!("  {name}: {}", reason.map_or_else(|| difference.clone(), |reason| format!("known: {reason}")));
    }
    let unexpected: Vec<_> = failures.iter().filter(|(name, _)| !known_names.contains(name.as_str())).collect();
    let passing: Vec<_> = known_names.difference(&failed).collect();
    assert!(unexpected.is_empty(), "{file}: {} unexpected failures: {unexpected:#?}", unexpected.len());
    assert!(passing.is_empty(), "{file}: on the list of known failures, but passing: {passing:?}");
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ValidationCase {
    name: String,
    kind: String,
    at: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    metadata: Option<Value>,
    value: Value,
    valid: bool,
    warning: Option<bool>,
    /// Istio's words: what is meant, not what to say.
    #[serde(rename = "errorContains", default)]
    _error_contains: Vec<String>,
    #[serde(rename = "warningContains", default)]
    _warning_contains: Vec<String>,
}

#[test]
fn validation() {
    let Some(vectors) = vectors("validation.json") else { return };
    let (mut failures, mut by_schema_alone) = (Vec::new(), Vec::new());
    for case in cases(&vectors) {
        let case: ValidationCase = serde_json::from_value(case.clone()).expect("a case of validation.json");
        let Some(kind) = Kind::ALL.iter().find(|kind| kind.name() == case.kind) else {
            failures.push((case.name, "a kind that is not known".to_owned()));
            continue;
        };
        let Some(spec) = spec(&case) else {
            failures.push((case.name, format!("a place that is not known: {}", case.at)));
            continue;
        };
        let object = json!({
            "apiVersion": format!("{}/{}", kind.group(), kind.versions()[0]),
            "kind": case.kind,
            "metadata": case.metadata.clone().unwrap_or_else(|| json!({"name": "foo", "namespace": "bar"})),
            "spec": spec,
        });
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        match kind.check(object.clone()) {
            Err(error) => errors.push(error.to_string()),
            Ok(problems) => {
                for problem in problems {
                    let list = if problem.severity == Severity::Error { &mut errors } else { &mut warnings };
                    list.push(problem.to_string());
                }
            }
        }
        // What is valid is accepted by the check; what is not is refused by either layer.
        let by_schema = kind.schema_problems(&object);
        if !case.valid && errors.is_empty() && !by_schema.is_empty() {
            by_schema_alone.push(case.name.clone());
        }
        let accepted = errors.is_empty() && (case.valid || by_schema.is_empty());
        if accepted != case.valid {
            let said = if accepted { "accepted".to_owned() } else { format!("refused: {}", errors.join("; ")) };
            failures.push((case.name, said));
        } else if case.warning.is_some_and(|expected| expected == warnings.is_empty()) {
            let said = if warnings.is_empty() { "no warning".to_owned() } else { warnings.join("; ") };
            failures.push((case.name, said));
        }
    }
    println!("refused by the schema alone: {by_schema_alone:#?}");
    report("validation.json", cases(&vectors).len(), &failures, KNOWN);
}

/// The whole spec: a fragment stands in an otherwise valid one, in which it makes sense.
fn spec(case: &ValidationCase) -> Option<Value> {
    let value = &case.value;
    let http = |mut route: Value| {
        if let Some(route) = route.as_object_mut()
            && !["route", "redirect", "directResponse"].iter().any(|answer| route.contains_key(*answer))
        {
            route.insert("route".to_owned(), json!([{"destination": {"host": "foo.baz"}}]));
        }
        json!({"hosts": ["foo.bar"], "http": [route]})
    };
    let traffic_policy = |policy: Value| json!({"host": "foo.bar", "trafficPolicy": policy});
    let server = |server: Value| json!({"selector": {"istio": "ingressgateway"}, "servers": [server]});
    Some(match (case.kind.as_str(), case.at.as_str()) {
        (_, "spec") => value.clone(),
        ("DestinationRule", "spec.trafficPolicy") => traffic_policy(value.clone()),
        ("DestinationRule", "spec.trafficPolicy.connectionPool") => traffic_policy(json!({"connectionPool": value})),
        ("DestinationRule", "spec.trafficPolicy.loadBalancer") => traffic_policy(json!({
            "loadBalancer": value,
            // Locality settings without it only earn a warning.
            "outlierDetection": {"interval": "1s"},
        })),
        ("DestinationRule", "spec.trafficPolicy.outlierDetection") => {
            traffic_policy(json!({"outlierDetection": value}))
        }
        ("Gateway", "spec.servers[]") => server(value.clone()),
        ("Gateway", "spec.servers[].tls") => server(json!({
            "port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["foo.bar"], "tls": value,
        })),
        ("VirtualService", "spec.http[]") => {
            // A delegate is a VirtualService without hosts.
            if case.role == "delegate" {
                json!({"http": [value]})
            } else {
                json!({"hosts": ["foo.bar"], "http": [value]})
            }
        }
        ("VirtualService", "spec.http[].corsPolicy") => http(json!({"corsPolicy": value})),
        ("VirtualService", "spec.http[].directResponse") => http(json!({"directResponse": value})),
        ("VirtualService", "spec.http[].fault.abort") => http(json!({"fault": {"abort": value}})),
        ("VirtualService", "spec.http[].fault.delay") => http(json!({"fault": {"delay": value}})),
        ("VirtualService", "spec.http[].redirect") => http(json!({"redirect": value})),
        ("VirtualService", "spec.http[].retries") => http(json!({"retries": value})),
        ("VirtualService", "spec.http[].rewrite") => http(json!({"rewrite": value})),
        ("VirtualService", "spec.http[].rewrite.uriRegexRewrite") => {
            http(json!({"rewrite": {"uriRegexRewrite": value}}))
        }
        ("VirtualService", "spec.http[].route[].destination") => http(json!({"route": [{"destination": value}]})),
        ("VirtualService", "spec.tcp[].route") => json!({"hosts": ["foo.bar"], "tcp": [{"route": value}]}),
        _ => return None,
    })
}

/// The tables of `small-tables.json` about what this crate checks.
#[test]
fn small_tables() {
    let Some(vectors) = vectors("small-tables.json") else { return };
    let (mut failures, mut total) = (Vec::new(), 0);
    for case in cases(&vectors).iter().filter(|case| case["table"] == "validateCondition") {
        total += 1;
        let policy = json!({"metadata": {"name": "a"}, "spec": {"rules": [{"when": [case["in"]]}]}});
        let problems = Kind::AuthorizationPolicy.check(policy).unwrap();
        if Value::Bool(problems.is_empty()) != case["expect"] {
            failures.push((case["name"].as_str().unwrap_or_default().to_owned(), format!("{problems:?}")));
        }
    }
    report("small-tables.json", total, &failures, &[]);
}
