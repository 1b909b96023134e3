//! Istio's own cases, read in place: `$FORESTAY_VECTORS`, by default `../shared/vectors` beside the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use forestay_webhook::configuration::{Registration, mutating, selects};
use forestay_webhook::inject::decide::{Candidate, decide};
use forestay_webhook::inject::settings::{Config, Settings};
use forestay_webhook::inject::{InjectError, Request, annotation_problems, inject, inject_document, variables};
use serde::Deserialize;
use serde_json::{Map, Value, json};

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
struct PolicyCase {
    name: String,
    policy: String,
    always_inject_selector: Value,
    never_inject_selector: Value,
    pod: PolicyPod,
    inject: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyPod {
    namespace: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    host_network: bool,
}

#[test]
fn inject_policy() {
    let Some(vectors) = vectors("inject-policy.json") else { return };
    let mut failures = Vec::new();
    for case in cases(&vectors) {
        let case: PolicyCase = serde_json::from_value(case.clone()).expect("a case of inject-policy.json");
        let config: Config = serde_json::from_value(json!({
            "policy": case.policy,
            "alwaysInjectSelector": case.always_inject_selector,
            "neverInjectSelector": case.never_inject_selector,
        }))
        .expect("selectors");
        let pod = Candidate {
            namespace: &case.pod.namespace,
            labels: &case.pod.labels,
            annotations: &case.pod.annotations,
            host_network: case.pod.host_network,
            windows: false,
        };
        let decision = decide(&config, pod);
        if decision.inject != case.inject {
            failures.push((case.name, format!("{decision:?}")));
        }
    }
    report("inject-policy.json", cases(&vectors).len(), &failures, &[]);
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MatrixCase {
    name: String,
    enable_namespaces_by_default: bool,
    namespace_labels: BTreeMap<String, String>,
    pod_labels: BTreeMap<String, String>,
    service: Option<String>,
}

#[test]
fn webhook_matrix() {
    let Some(vectors) = vectors("webhook-matrix.json") else { return };
    let mut failures = Vec::new();
    for case in cases(&vectors) {
        let case: MatrixCase = serde_json::from_value(case.clone()).expect("a case of webhook-matrix.json");
        let mut matching = Vec::new();
        for (revision, istios) in [("default", "istiod"), ("canary", "istiod-canary")] {
            let registration = Registration {
                revision,
                namespace: "istio-system",
                enable_namespaces_by_default: case.enable_namespaces_by_default,
                ca_bundle: b"",
            };
            for webhook in mutating(&registration).webhooks.unwrap_or_default() {
                if selects(&webhook, &case.namespace_labels, &case.pod_labels) {
                    matching.push(istios);
                }
            }
        }
        let expected: Vec<&str> = case.service.iter().map(String::as_str).collect();
        if matching != expected {
            failures.push((case.name, format!("matching {matching:?}, expected {expected:?}")));
        }
    }
    report("webhook-matrix.json", cases(&vectors).len(), &failures, &[]);
}

/// The annotation tables of `small-tables.json`.
#[test]
fn small_tables() {
    let Some(vectors) = vectors("small-tables.json") else { return };
    let (mut failures, mut total) = (Vec::new(), 0);
    for case in cases(&vectors).iter().filter(|case| case["table"] == "validateInjectAnnotations") {
        total += 1;
        let annotations = case["in"].get("annotations").unwrap_or(&case["in"]).clone();
        let problems = annotation_problems(&serde_json::from_value(annotations).expect("annotations"));
        if Value::Bool(problems.is_empty()) != case["expect"] {
            failures.push((case["name"].as_str().unwrap_or_default().to_owned(), format!("{problems:?}")));
        }
    }
    for case in cases(&vectors).iter().filter(|case| case["table"] == "parseInjectEnvs") {
        total += 1;
        let path = case["in"]["path"].as_str().expect("a path");
        let found: Map<String, Value> = variables::of_path(path).into_iter().map(|(k, v)| (k, json!(v))).collect();
        if Value::Object(found.clone()) != case["expect"] {
            failures.push((case["name"].as_str().unwrap_or_default().to_owned(), format!("{found:?}")));
        }
    }
    report("small-tables.json: validateInjectAnnotations, parseInjectEnvs", total, &failures, &[]);
}

fn settings(values: &Value, mesh: &Value, native: bool) -> Settings {
    let data = |pairs: &[(&str, String)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let injector = data(&[("config", String::new()), ("values", values.to_string())]);
    Settings::read("default", &data(&[("mesh", mesh.to_string())]), &injector, native).expect("settings of a case")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)] // the fields that only name files are read so that an unknown one is noticed
struct InjectionCase {
    name: String,
    input_file: String,
    golden_file: Option<String>,
    set_flags: Vec<String>,
    iop: Option<String>,
    mesh_config: Value,
    env: BTreeMap<String, String>,
    kube_inject: bool,
    webhook: bool,
    input: String,
    golden: Option<String>,
    error: Option<String>,
    log: Option<String>,
}

const SPIRE: (&str, &str) = (
    "sidecar-spire.yaml.injected",
    "with native sidecars, Istio takes the user's template literally and adds a second istio-proxy without an image, \
     which the API server refuses; we merge it into the one there is",
);
const MERGED: (&str, &str) = (
    "merge-probers.yaml.injected",
    "injected before by another version, then a container was added: Istio keeps the arguments and environment of then \
     (a list of ports and containers without the new one), we render anew",
);

type Way = fn(&Value, &Settings) -> Result<Value, InjectError>;

/// A manifest as a whole goes through the file tool.
#[test]
fn injection_in_files() {
    let known = [
        SPIRE,
        MERGED,
        (
            "cronjob-old-version.yaml.injected",
            "Istio's file tool marks the Job rather than its pods; we mark the pods, as both do at admission",
        ),
    ];
    injection("in files", |case| case.kube_inject, in_a_file, &known);
}

/// Its pods go through admission.
#[test]
fn injection_at_admission() {
    injection("at admission", |case| case.webhook, at_admission, &[SPIRE, MERGED]);
}

fn injection(how: &str, asked: fn(&InjectionCase) -> bool, way: Way, known: &[(&str, &str)]) {
    let Some(vectors) = vectors("injection.json") else { return };
    let (mut failures, mut total) = (Vec::new(), 0);
    for case in cases(&vectors) {
        let case: InjectionCase = serde_json::from_value(case.clone()).expect("a case of injection.json");
        if !asked(&case) {
            continue;
        }
        total += 1;
        let settings = case_settings(&vectors, &case);
        let differences = match (&case.golden, &case.error) {
            (Some(golden), None) => against_golden(&case.input, golden, &settings, way),
            (_, Some(expected)) => against_error(&case.input, expected, &settings, way),
            (None, None) => vec!["neither golden nor error".to_owned()],
        };
        if let Some(first) = differences.first() {
            failures.push((case.name, format!("{} differences, first: {first}", differences.len())));
        }
    }
    report(&format!("injection.json {how}"), total, &failures, known);
}

fn case_settings(vectors: &Value, case: &InjectionCase) -> Settings {
    let mut values = vectors["environment"]["defaultValues"].clone();
    if let Some(iop) = &case.iop {
        let iop = crds::yaml::value(iop).expect("iop is YAML");
        merge(&mut values, &iop["spec"]["values"]);
    }
    for flag in &case.set_flags {
        let (path, value) = flag.split_once('=').expect("key=value");
        // The installer's own names for what the injector reads.
        let path = match path {
            "components.cni.enabled" => "values.pilot.cni.enabled",
            "values.cni.provider" => "values.pilot.cni.provider",
            other => other,
        };
        let path = path.strip_prefix("values.").expect("a flag that is known");
        let value = crds::yaml::value(value).expect("a scalar");
        let nested = path.rsplit('.').fold(value, |inner, key| json!({ key: inner }));
        merge(&mut values, &nested);
    }
    // A null of Helm's values takes a default away; here it is only left out of the resources.
    let native = case.env.get("ENABLE_NATIVE_SIDECARS").is_none_or(|value| value != "false");
    settings(&values, &case.mesh_config, native)
}

fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// The pod of a document, as the goldens are compared.
fn pod_of(document: &Value) -> &Value {
    document.pointer(place_of_pod(document)).unwrap_or(&Value::Null)
}

fn place_of_pod(document: &Value) -> &'static str {
    match document["kind"].as_str() {
        Some("CronJob") => "/spec/jobTemplate/spec/template",
        Some("Pod") => "",
        _ => "/spec/template",
    }
}

fn in_a_file(document: &Value, settings: &Settings) -> Result<Value, InjectError> {
    inject_document(document, settings, "default").map(|outcome| outcome.document)
}

fn at_admission(document: &Value, settings: &Settings) -> Result<Value, InjectError> {
    let mut document = document.clone();
    let Some(template) = document.pointer(place_of_pod(&document)).cloned() else { return Ok(document) };
    let mut pod = template;
    // The owner of a pod is found by its reference, which the case does not show.
    let ours = document["kind"] != "Pod" && pod.pointer("/metadata/ownerReferences").is_none();
    if ours {
        let (version, kind, name) = (&document["apiVersion"], &document["kind"], &document["metadata"]["name"]);
        pod["metadata"]["ownerReferences"] =
            json!([{"apiVersion": version, "kind": kind, "name": name, "uid": "1", "controller": true}]);
    }
    let namespace = document["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    let outcome = inject(Request { pod: &pod, namespace: &namespace, about: None, variables: &[] }, settings)?;
    let mut after = outcome.pod.unwrap_or(pod);
    if let (true, Some(metadata)) = (ours, after.get_mut("metadata").and_then(Value::as_object_mut)) {
        metadata.shift_remove("ownerReferences");
    }
    let place = place_of_pod(&document);
    if let Some(place) = document.pointer_mut(place) {
        *place = after;
    }
    Ok(document)
}

fn documents(text: &str) -> Vec<Value> {
    crds::yaml::documents(text).into_iter().map(|document| document.expect("YAML").value).collect()
}

fn against_error(input: &str, expected: &str, settings: &Settings, injected: Way) -> Vec<String> {
    for document in documents(input) {
        if let Err(error) = injected(&document, settings) {
            let message = error.to_string();
            if message.to_lowercase().contains(&expected.to_lowercase()) {
                return Vec::new();
            }
            return vec![format!("error \"{message}\" does not contain \"{expected}\"")];
        }
    }
    vec![format!("no error, expected \"{expected}\"")]
}

fn against_golden(input: &str, golden: &str, settings: &Settings, injected: Way) -> Vec<String> {
    let (input, golden) = (documents(input), documents(golden));
    let mut differences = Vec::new();
    if input.len() != golden.len() {
        return vec![format!("{} documents, expected {}", input.len(), golden.len())];
    }
    for (document, golden) in input.iter().zip(&golden) {
        match injected(document, settings) {
            Ok(ours) => {
                // Around a workload's template Istio's tool writes defaults of its own API types.
                compare("", &normal(pod_of(&ours), ""), &normal(pod_of(golden), ""), &mut differences);
            }
            Err(error) => differences.push(format!("refused: {error}")),
        }
    }
    differences
}

fn compare(path: &str, ours: &Value, golden: &Value, out: &mut Vec<String>) {
    match (ours, golden) {
        (Value::Object(ours), Value::Object(golden)) => {
            let keys: BTreeSet<_> = ours.keys().chain(golden.keys()).collect();
            for key in keys {
                let (a, b) = (ours.get(key).unwrap_or(&Value::Null), golden.get(key).unwrap_or(&Value::Null));
                compare(&format!("{path}/{key}"), a, b, out);
            }
        }
        (Value::Array(ours), Value::Array(golden)) if ours.len() == golden.len() => {
            for (index, (a, b)) in ours.iter().zip(golden).enumerate() {
                compare(&format!("{path}[{index}]"), a, b, out);
            }
        }
        (a, b) if a != b => out.push(format!("{path}: {a}, expected {b}")),
        _ => {}
    }
}

/// A document without what the vectors' README calls incidental.
fn normal(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(members) => {
            let mut kept = Map::new();
            for (key, member) in members {
                let ours = matches!(key.as_str(), "sidecar.istio.io/status" | "install.forestay.dev/proxy-version");
                let incidental = matches!(key.as_str(), "image" | "creationTimestamp") || ours;
                let member = normal(member, key);
                let empty = member.is_null() || member.as_object().is_some_and(Map::is_empty);
                if !incidental && !empty {
                    kept.insert(key.clone(), member);
                }
            }
            // Volumes without a source are emptyDirs.
            if name == "volumes" && kept.len() == 1 {
                kept.insert("emptyDir".to_owned(), json!({}));
            }
            if kept.get("name").is_some_and(|own| own == "istio-proxy") {
                own_process(&mut kept);
            }
            variables(&mut kept);
            Value::Object(kept)
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| normal(item, name)).collect();
            if matches!(name, "env" | "volumes" | "volumeMounts") {
                items.retain(|item| item["name"] != "GOMEMLIMIT");
                for item in &mut items {
                    if name == "volumes" && item.as_object().is_some_and(|volume| volume.len() == 1) {
                        item["emptyDir"] = Value::Null;
                    }
                    if let Value::Object(item) = item {
                        item.retain(|_, member| !member.is_null());
                    }
                }
                items.sort_by_key(|item| (item["name"].to_string(), item["mountPath"].to_string()));
            }
            // The list stays when nothing is left in it, as Kubernetes keeps required lists.
            if items.is_empty() { Value::Null } else { Value::Array(items) }
        }
        Value::String(text) if name == "cpu" || name == "memory" => quantity(text),
        Value::String(text) if name == "proxy.istio.io/overrides" => {
            serde_json::from_str(text).map_or_else(|_| value.clone(), |inner: Value| normal(&inner, ""))
        }
        other => other.clone(),
    }
}

/// What is Istio's own business inside the container: arguments, and `pilot-agent` commands.
fn own_process(container: &mut Map<String, Value>) {
    let own = |args: &Value| args.as_array().is_some_and(|args| args.first().is_some_and(|first| first == "proxy"));
    if container.get("args").is_some_and(own) {
        container.remove("args");
    }
}

/// JSON inside a variable is compared as JSON.
fn variables(member: &mut Map<String, Value>) {
    const JSON: [&str; 4] =
        ["PROXY_CONFIG", "ISTIO_META_POD_PORTS", "ISTIO_KUBE_APP_PROBERS", "ISTIO_PROMETHEUS_ANNOTATIONS"];
    let is_json = member.get("name").and_then(Value::as_str).is_some_and(|name| JSON.contains(&name));
    if member.get("value").is_some_and(|value| value == "") {
        member.remove("value");
    }
    if let (true, Some(Value::String(text))) = (is_json, member.get("value").cloned()) {
        let parsed: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        member.insert("value".to_owned(), parsed);
    }
}

fn quantity(text: &str) -> Value {
    let units = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("m", 0.001),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
    ];
    let found = units.iter().find_map(|(unit, scale)| text.strip_suffix(unit)?.parse::<f64>().ok().map(|n| n * scale));
    found.or_else(|| text.parse().ok()).map_or_else(|| json!(text), |number: f64| json!(format!("{number:.3}")))
}
