//! Arbitrary objects of Istio's kinds: made by each kind's own schema, or a sample with arbitrary values at arbitrary
//! places.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crds::kinds::Kind;
use serde_json::{Map, Number, Value, json};

use crate::entropy::Entropy;
use crate::json::{self, text};

/// The schema of an object of each kind, in the order of `Kind::ALL`.
static SCHEMAS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let schema = |kind: &Kind| {
        let definition = serde_json::to_value(kind.definition()).expect("a definition is JSON");
        definition.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().expect("a definition has a schema")
    };
    Kind::ALL.iter().map(schema).collect()
});

/// Upstream's own objects, read in place (`$FORESTAY_SAMPLES`).
static SAMPLES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let folder = std::env::var("FORESTAY_SAMPLES")
        .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples"), PathBuf::from);
    let mut found = Vec::new();
    read(&folder, &mut found);
    if found.is_empty() {
        eprintln!(
            "SKIPPED: no samples in {} (set FORESTAY_SAMPLES): objects are made by their schemas alone",
            folder.display()
        );
    }
    found
});

fn read(folder: &Path, found: &mut Vec<Value>) {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let documents = crds::yaml::documents(&text).into_iter().flatten();
            let ours = documents.filter(|document| Kind::of(document.group(), document.kind()).is_some());
            found.extend(ours.map(|document| document.value));
        }
    }
}

/// An object and its kind.
pub(crate) fn object(e: &mut Entropy<'_>) -> (Kind, Value) {
    let (kind, mut object) = if e.one_in(3) && !SAMPLES.is_empty() {
        let sample = &SAMPLES[e.below(SAMPLES.len())];
        let text = |name: &str| sample.get(name).and_then(Value::as_str).unwrap_or_default();
        let group = text("apiVersion").split('/').next().unwrap_or_default();
        (Kind::of(group, text("kind")).unwrap_or(Kind::ALL[0]), sample.clone())
    } else {
        let index = e.below(Kind::ALL.len());
        let kind = Kind::ALL[index];
        let made = by_schema(e, &SCHEMAS[index], 12);
        let mut object = if made.is_object() { made } else { json!({"spec": made}) };
        let version = kind.versions().first().copied().unwrap_or_default();
        object["apiVersion"] = json!(format!("{}/{version}", kind.group()));
        object["kind"] = json!(kind.name());
        object["metadata"] = json!({"name": "a", "namespace": e.pick(&["default", "istio-system", ""])});
        if e.one_in(6) {
            object["metadata"]["annotations"] =
                json::strings(e, &["istio.io/dry-run", "galley.istio.io/analyze-suppress"], 2);
        }
        (kind, object)
    };
    if e.one_in(2) {
        for _ in 0..=e.below(3) {
            json::mutate(e, &mut object);
        }
    }
    (kind, object)
}

/// A value that a schema would take, more or less: bounds and patterns are not looked at.
fn by_schema(e: &mut Entropy<'_>, schema: &Value, depth: usize) -> Value {
    if e.one_in(40) {
        return json::value(e, 2);
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array).filter(|values| !values.is_empty()) {
        return values[e.below(values.len())].clone();
    }
    match schema.get("type").and_then(Value::as_str).unwrap_or_default() {
        "object" if depth > 0 => {
            let mut members = Map::new();
            for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                // The spec always; of its fields some, so that several meet.
                if name == "spec" || (name != "status" && e.one_in(3)) {
                    members.insert(name.clone(), by_schema(e, inner, depth - 1));
                }
            }
            if let Some(inner) = schema.get("additionalProperties").filter(|inner| inner.is_object()) {
                for _ in 0..e.below(3) {
                    members.insert(json::key(e), by_schema(e, inner, depth - 1));
                }
            }
            Value::Object(members)
        }
        "array" if depth > 0 => {
            let empty = json!({"type": "string"});
            let inner = schema.get("items").unwrap_or(&empty);
            (0..e.below(4)).map(|_| by_schema(e, inner, depth - 1)).collect()
        }
        "object" => json!({}),
        "array" => json!([]),
        "integer" => json!(e.pick(&[&0_i64, &1, &80, &100, &503, &65536, &-1, &4_294_967_296])),
        "number" => Number::from_f64(f64::from(e.number() % 2000) / 10.0 - 50.0).map_or(Value::Null, Value::Number),
        "boolean" => json!(e.one_in(2)),
        "string" => Value::String(text(e)),
        _ => json::value(e, 2),
    }
}
