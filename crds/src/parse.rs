//! From JSON to a type, with errors that name the field.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A document that does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ParseError {
    /// The field, such as `spec.http[0].timeout`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

/// Fields that hold what their author likes, where `null` is a value: a plugin reads it, a merge removes by it. No other
/// field of these names is an object.
pub(crate) const FREE_FORM: [&str; 5] = ["pluginConfig", "value", "patch", "meshConfig", "values"];

/// Reads an object or a part of one. As in protobuf's JSON, `null` is the same as absent, but within fields that take
/// anything, such as a patch.
pub fn parse<T: DeserializeOwned>(mut value: Value) -> Result<T, ParseError> {
    drop_nulls(&mut value);
    serde_path_to_error::deserialize(value)
        .map_err(|error| ParseError { path: error.path().to_string(), message: error.inner().to_string() })
}

/// Removes members of objects that are `null`. Nesting is bounded by the readers of JSON and YAML (128 levels).
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            for (name, member) in members {
                // EnvoyFilter's `patch` is not free itself, but its `value` is.
                let free =
                    FREE_FORM.contains(&name.as_str()) && !(name == "patch" && member.get("operation").is_some());
                if !free {
                    drop_nulls(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;
    use serde_json::{Value, json};

    use super::parse;
    use crate::kinds::Kind;
    use crate::networking::virtual_service::VirtualService;

    #[test]
    fn an_error_names_the_field() {
        let rows = [
            ("{spec: {http: [{timeout: soon}]}}", "spec.http[0].timeout: \"soon\" is not a duration"),
            ("{spec: {http: [{route: [{weight: much}]}]}}", "spec.http[0].route[0].weight: invalid type: string"),
            ("{spec: {hosts: reviews}}", "spec.hosts: invalid type: string"),
            (
                "{spec: {http: [{redirect: {derivePort: FROM_ABOVE}}]}}",
                "spec.http[0].redirect.derivePort: unknown variant `FROM_ABOVE`",
            ),
        ];
        for (yaml, expected) in rows {
            let error = parse::<VirtualService>(crate::yaml::value(yaml).unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn null_is_absent() {
        let yaml = "{metadata: {name: a}, spec: {hosts: null, http: [{timeout: null, route: null, name: x}]}}";
        let object: VirtualService = parse(crate::yaml::value(yaml).unwrap()).unwrap();
        assert_eq!(object.spec.http.len(), 1);
    }

    #[test]
    fn null_is_a_value_where_the_author_decides() {
        let kept = json!({"a": null, "b": [{"c": null}]});
        let rows: [(&str, Value, &str); 4] = [
            (
                "EnvoyFilter",
                json!({"spec": {"configPatches": [{"patch": {"operation": "MERGE", "value": kept}}]}}),
                "/spec/configPatches/0/patch/value",
            ),
            ("WasmPlugin", json!({"spec": {"url": "file:///a", "pluginConfig": kept}}), "/spec/pluginConfig"),
            (
                "TrafficExtension",
                json!({"spec": {"wasm": {"url": "file:///a", "pluginConfig": kept}}}),
                "/spec/wasm/pluginConfig",
            ),
            (
                "EnvoyFilter",
                json!({"spec": {"configPatches": [{"patch": {"operation": null, "value": kept}}]}}),
                "/spec/configPatches/0/patch/value",
            ),
        ];
        for (name, object, pointer) in rows {
            let kind = Kind::ALL.iter().find(|kind| kind.name() == name).unwrap();
            let mut object = object;
            object["metadata"] = json!({"name": "a"});
            let written = kind.rewritten(object).unwrap();
            assert_eq!(written.pointer(pointer), Some(&kept), "{name}: {written}");
        }
        let overlay = json!({"kind": "Deployment", "patch": {"spec": {"replicas": null}}});
        let read: crate::install::Overlay = parse(overlay.clone()).unwrap();
        assert_eq!(json!(read), overlay);
    }

    /// Every field of a schema that takes anything is named, and no other field of such a name is an object.
    #[test]
    fn what_is_free_is_named() {
        // Kubernetes' own types, and what a control plane writes.
        const ELSEWHERE: [&str; 3] = ["affinity", "topologySpreadConstraints", "status"];
        fn walk(kind: &str, schema: &Value, seen: &mut usize) {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let free = field["x-kubernetes-preserve-unknown-fields"] == true;
                let named = super::FREE_FORM.contains(&name.as_str());
                *seen += usize::from(free && named);
                assert!(!free || named || ELSEWHERE.contains(&name.as_str()), "{kind}: {name} is free");
                let object = field["properties"].is_object();
                let mixed = kind == "EnvoyFilter" && name == "patch";
                assert!(!named || free || !object || mixed, "{kind}: {name} is an object like others");
                for part in [field, &field["items"], &field["additionalProperties"]] {
                    walk(kind, part, seen);
                }
            }
        }
        let mut seen = 0;
        let own = [crate::install::MeshInstall::crd(), crate::install::MeshRevisionTag::crd()];
        for definition in own.into_iter().chain(crate::manifests::istio()) {
            let version = json!(definition.spec.versions[0]);
            walk(&definition.spec.names.kind, &version["schema"]["openAPIV3Schema"], &mut seen);
        }
        assert!(seen >= 6, "{seen}");
    }
}
