//! What is wrong with each document of a text; pure.
//!
//! Everything that an object meets on its way into a cluster is asked here at once: the schema, the kind's own checks,
//! and beyond them the names of its fields, which the API server does not insist on.

use crds::check::{Problem, Severity};
use crds::kinds::Kind;
use crds::yaml::Document;
use serde_json::{Map, Value, json};

use super::service;

/// What the user said beside the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    /// The namespace of objects that name none.
    pub(super) namespace: &'a str,
    /// The control plane's.
    pub(super) mesh_namespace: &'a str,
}

/// Something wrong in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Counted from 1.
    pub(super) document: usize,
    /// Where the document begins, or the place that is not YAML; counted from 1.
    pub(super) line: usize,
    /// The object, where the text has one.
    pub(super) object: Option<Object>,
    pub(super) problem: Problem,
}

impl Finding {
    /// The text is no YAML: there was no object to look at.
    pub(super) fn is_unreadable(&self) -> bool {
        self.object.is_none()
    }
}

/// Who an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Everything that is wrong in a text, document by document.
pub(super) fn text(text: &str, context: Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for document in crds::yaml::documents(text) {
        match document {
            Ok(document) => {
                let object = who(&document, context);
                let place = |problem| Finding {
                    document: document.index + 1,
                    line: document.line,
                    object: Some(object.clone()),
                    problem,
                };
                findings.extend(problems(&document, context).into_iter().map(place));
            }
            Err(error) => findings.push(Finding {
                document: error.document + 1,
                line: error.line,
                object: None,
                problem: problem("", format!("not YAML: {}", error.reason())),
            }),
        }
    }
    findings
}

fn who(document: &Document, context: Context<'_>) -> Object {
    let generated = document.value.pointer("/metadata/generateName").and_then(Value::as_str);
    let name = Some(document.name()).filter(|name| !name.is_empty()).or(generated).unwrap_or("(unnamed)");
    Object {
        kind: Some(document.kind()).filter(|kind| !kind.is_empty()).unwrap_or("object").to_owned(),
        namespace: document.namespace().unwrap_or(context.namespace).to_owned(),
        name: name.to_owned(),
    }
}

fn problem(field: &str, message: impl Into<String>) -> Problem {
    Problem { field: field.to_owned(), message: message.into(), severity: Severity::Error }
}

fn problems(document: &Document, context: Context<'_>) -> Vec<Problem> {
    if !document.value.is_object() {
        return vec![problem("", "not an object of Kubernetes: apiVersion, kind and metadata are expected")];
    }
    for field in ["apiVersion", "kind"] {
        if document.value.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            return vec![problem(field, "must be set")];
        }
    }
    if let Some(kind) = Kind::of(document.group(), document.kind()) {
        return of_kind(kind, document, context);
    }
    if Kind::ALL.iter().any(|kind| kind.group() == document.group()) {
        let known: Vec<&str> =
            Kind::ALL.iter().filter(|kind| kind.group() == document.group()).map(|kind| kind.name()).collect();
        let nearest = crds::nearest(document.kind(), known.iter().copied());
        let hint =
            nearest.map_or_else(|| format!("there are {}", known.join(", ")), |name| format!("did you mean {name}?"));
        return vec![problem("kind", format!("{} has no kind {}; {hint}", document.group(), document.kind()))];
    }
    match (document.group(), document.kind()) {
        ("", "Service") => service::problems(document, context.mesh_namespace),
        // Not Istio's, and so not ours to judge.
        _ => Vec::new(),
    }
}

fn of_kind(kind: Kind, document: &Document, context: Context<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    let (_, version) = document.api_version().split_once('/').unwrap_or_default();
    if !kind.versions().contains(&version) {
        let versions = kind.versions().join(", ");
        found.push(problem("apiVersion", format!("{} has no version {version:?}; there are {versions}", kind.name())));
    }
    let named =
        |field: &str| document.value.pointer(field).and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    if !named("/metadata/name") && !named("/metadata/generateName") {
        found.push(problem("metadata.name", "must be set"));
    }
    // First, because a field that is misspelt is also one that is missing.
    for unknown in kind.unknown(&document.value) {
        let hint = unknown.nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        found.push(problem(&unknown.path, format!("unknown field{hint}")));
    }
    found.extend(kind.schema_problems(&document.value));
    match kind.check(with_namespace(&document.value, context.namespace)) {
        // The schema and the checks may both know a mistake; once is enough.
        Ok(problems) => {
            for one in problems {
                if !found.iter().any(|known| known.field == one.field && known.severity == one.severity) {
                    found.push(one);
                }
            }
        }
        // That it does not fit its type is what the schema says too, and better.
        Err(error) if !found.iter().any(|one| one.field == error.path) => {
            found.push(problem(&error.path, error.message));
        }
        Err(_) => {}
    }
    if let Some(sentence) = kind.not_in_force() {
        found.push(Problem { severity: Severity::Warning, ..problem("", sentence) });
    }
    found
}

/// The object as it would be applied: whether a rule is right can depend on its namespace.
fn with_namespace(object: &Value, namespace: &str) -> Value {
    let mut object = object.clone();
    if let Value::Object(members) = &mut object {
        let metadata = members.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(metadata) = metadata {
            metadata.entry("namespace").or_insert_with(|| json!(namespace));
        }
    }
    object
}
