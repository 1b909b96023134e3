//! Every field of the API is tried wrong: a field of the schema without a row in `tests/wrong_fields/rows.yaml` fails here,
//! and each row whose mistake only the operator sees is held against [`super::validate`].

use std::collections::BTreeSet;

use crds::install::{MeshInstall, MeshInstallSpec, MeshRevisionTag};
use kube::CustomResourceExt;
use serde_json::Value;

use super::{RelatedImages, validate};
use crate::meshinstall::dereference::Dereferenced;

#[path = "../../../tests/wrong_fields/table.rs"]
mod table;

/// The leaves of a schema: what has a value of its own, maps and lists of such among them.
fn leaves(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    let properties = schema["properties"].as_object().filter(|properties| !properties.is_empty());
    let items = &schema["items"];
    if let Some(properties) = properties {
        for (name, inner) in properties {
            leaves(inner, &format!("{path}.{name}"), into);
        }
    } else if items["properties"].as_object().is_some_and(|properties| !properties.is_empty()) {
        leaves(items, &format!("{path}[]"), into);
    } else {
        into.insert(path.to_owned());
    }
}

fn fields(definition: impl serde::Serialize) -> BTreeSet<String> {
    let definition = serde_json::to_value(definition).unwrap();
    let mut all = BTreeSet::new();
    leaves(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec", &mut all);
    all
}

#[test]
fn every_field_is_tried_wrong() {
    for (kind, definition) in [("MeshInstall", MeshInstall::crd()), ("MeshRevisionTag", MeshRevisionTag::crd())] {
        let tried: BTreeSet<String> =
            table::rows().into_iter().filter(|row| row.kind == kind).map(|row| row.field).collect();
        let fields = fields(definition);
        let untried: Vec<&String> = fields.difference(&tried).collect();
        assert!(
            untried.is_empty(),
            "fields of {kind} without a row in operator/tests/wrong_fields/rows.yaml: {untried:#?}"
        );
        let unknown: Vec<&String> = tried.difference(&fields).collect();
        assert!(unknown.is_empty(), "{kind} has no fields {unknown:#?}");
    }
}

#[test]
fn what_the_api_server_takes_is_named_with_its_field() {
    for row in table::rows() {
        let object = row.object("wrong");
        let spec: Result<MeshInstallSpec, _> = serde_json::from_value(object["spec"].clone());
        assert_ne!(row.refused.is_some(), row.reason.is_some(), "{}: one of refused and reason", row.field);
        let Some(reason) = row.reason else { continue };
        let read = Dereferenced {
            name: "wrong".into(),
            uid: "uid".into(),
            spec: spec.unwrap_or_else(|error| panic!("{}: {error}", row.field)),
            ..Dereferenced::default()
        };
        let invalid = validate(&read, &RelatedImages::default())
            .err()
            .unwrap_or_else(|| panic!("{}: nothing is wrong with {object}", row.field));
        assert_eq!(invalid.reason.as_str(), reason, "{}", row.field);
        let said = invalid.to_string();
        assert!(said.starts_with(&row.says), "{}: it says\n{said}\ninstead of\n{}", row.field, row.says);
    }
}
