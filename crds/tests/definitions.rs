//! Our definitions beside Istio's own, read in place: `$FORESTAY_ISTIO_CRDS`, by default `../shared/istio-crds` beside the
//! workspace. Compared is everything: names, versions, columns, every field with its type, bounds and CEL rules; not the
//! fields' descriptions, which are ours.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use forestay_crds::istio_definitions;
use forestay_crds::kinds::Kind;
use forestay_crds::yaml::documents;
use serde_json::{Value, json};

/// Every difference there is, by path (`*` stands for any text), with its reason. One that is not listed fails the test;
/// one that is listed and gone fails it too.
const DIFFERENCES: &[(&str, &str)] = &[
    ("* .metadata.labels.*", "Istio's Helm chart labels its definitions as its own; ours belong to no chart"),
    (
        "* .spec.versions[*].additionalPrinterColumns[*].description of Age",
        "Istio repeats Kubernetes' account of creationTimestamp; `kubectl` shows it nowhere",
    ),
];

#[test]
fn the_definitions_are_istios() {
    let folder = std::env::var("FORESTAY_ISTIO_CRDS")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/istio-crds"), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(folder.join("crd-all.gen.yaml")) else {
        eprintln!("SKIPPED: no Istio CRDs at {} (set FORESTAY_ISTIO_CRDS)", folder.display());
        return;
    };
    let theirs = by_name(documents(&text).into_iter().map(|document| document.unwrap().value));
    let ours = by_name(istio_definitions().iter().map(|definition| json!(definition)));
    let mut differences = BTreeSet::new();
    for name in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        let (Some(ours), Some(theirs)) = (ours.get(name), theirs.get(name)) else {
            differences.insert((name.clone(), "is on one side only".to_owned()));
            continue;
        };
        for path in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            let (ours, theirs) = (ours.get(path), theirs.get(path));
            if ours != theirs {
                differences
                    .insert((format!("{name} {path}"), format!("ours {}, Istio's {}", shown(ours), shown(theirs))));
            }
        }
    }
    println!("{} definitions, {} differences", ours.len(), differences.len());
    let listed = |path: &str| DIFFERENCES.iter().position(|(pattern, _)| matches(pattern, path));
    let unlisted: Vec<_> = differences.iter().filter(|(path, _)| listed(path).is_none()).collect();
    let used: BTreeSet<_> = differences.iter().filter_map(|(path, _)| listed(path)).collect();
    let gone: Vec<_> = (0..DIFFERENCES.len()).filter(|index| !used.contains(index)).map(|i| DIFFERENCES[i]).collect();
    assert!(unlisted.is_empty(), "{} differences that are not listed:\n{unlisted:#?}", unlisted.len());
    assert!(gone.is_empty(), "listed, but no longer different: {gone:#?}");
}

/// Every kind of Istio's has its definition here, and nothing else is one.
#[test]
fn every_kind_has_one_definition() {
    let names: BTreeSet<_> =
        istio_definitions().into_iter().filter_map(|definition| definition.metadata.name).collect();
    let kinds: BTreeSet<_> = Kind::ALL.iter().map(|kind| format!("{}.{}", kind.plural(), kind.group())).collect();
    assert_eq!(names, kinds);
}

fn by_name(definitions: impl Iterator<Item = Value>) -> BTreeMap<String, BTreeMap<String, Value>> {
    definitions
        .map(|definition| (definition["metadata"]["name"].as_str().unwrap().to_owned(), flat(&definition)))
        .collect()
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("nothing".to_owned(), ToString::to_string)
}

/// Every leaf by its path.
fn flat(definition: &Value) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    walk("", definition, &mut leaves);
    leaves
}

fn walk(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, inner) in members {
                let in_schema = path.contains(".openAPIV3Schema");
                if in_schema && key == "description" && inner.is_string() {
                    continue;
                }
                // A column's description is told apart by the column.
                let column = members.get("name").and_then(Value::as_str);
                match column {
                    Some(column) if !in_schema && key == "description" => {
                        walk(&format!("{path}.{key} of {column}"), inner, leaves);
                    }
                    _ => walk(&format!("{path}.{key}"), inner, leaves),
                }
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                // Versions by name: their order means nothing to Kubernetes.
                match item.get("name").and_then(Value::as_str) {
                    Some(name) if path == ".spec.versions" => walk(&format!("{path}[{name}]"), item, leaves),
                    _ => walk(&format!("{path}[{index}]"), item, leaves),
                }
            }
        }
        // Sets, in which order means nothing.
        Value::Array(items) if [".required", ".categories", ".shortNames"].iter().any(|end| path.ends_with(end)) => {
            let sorted: BTreeSet<_> = items.iter().map(ToString::to_string).collect();
            leaves.insert(path.to_owned(), json!(sorted));
        }
        // Kubernetes' type holds bounds as floats.
        Value::Number(number) => {
            leaves.insert(path.to_owned(), json!(number.as_f64()));
        }
        other => {
            leaves.insert(path.to_owned(), other.clone());
        }
    }
}

/// Whether a text fits a pattern with `*` for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}
