//! From Rust types to the schemas of CustomResourceDefinitions.
//!
//! Types derive [`JsonSchema`]; what comes out is brought into the form that Kubernetes asks of a structural schema and
//! that Istio's own CRDs have: no references, no defaults, `nullable` only on Istio's wrapper types, enumerations as
//! plain lists, unsigned integers with bounds.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// The structural schema of a type.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    structural(&mut schema);
    schema
}

/// `oneOf` in Istio's form: one of these members, or none.
pub(crate) fn at_most_one_of(members: &[&str]) -> Value {
    let required: Vec<_> = members.iter().map(|member| json!({"required": [member]})).collect();
    let mut alternatives = vec![json!({"not": {"anyOf": required}})];
    alternatives.extend(required);
    Value::Array(alternatives)
}

/// `matchLabels` of a policy's selector.
pub(crate) fn match_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 4096,
        "additionalProperties": {
            "type": "string", "maxLength": 63,
            "x-kubernetes-validations": [{
                "message": "wildcard not allowed in label value match",
                "rule": "!self.contains(\"*\")",
            }],
        },
        "x-kubernetes-validations": [
            {"message": "wildcard not allowed in label key match", "rule": "self.all(key, !key.contains(\"*\"))"},
            {"message": "key must not be empty", "rule": "self.all(key, key.size() != 0)"},
        ],
    })
}

/// `labels` of the older form of selector.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 256,
        "additionalProperties": {
            "type": "string", "maxLength": 63,
            "x-kubernetes-validations": [{
                "message": "wildcard is not supported in selector",
                "rule": "!self.contains(\"*\")",
            }],
        },
    })
}

/// A port whose range the API server checks.
pub(crate) fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "integer", "minimum": 0, "maximum": u32::MAX,
        "x-kubernetes-validations": [{
            "message": "port must be between 1-65535",
            "rule": "0 < self && self <= 65535",
        }],
    })
}

/// A 64-bit number without an upper bound, as Istio's schema has it.
pub(crate) fn uint64(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0})
}

/// `minClusterSize`.
pub(crate) fn min_cluster_size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 1, "maximum": u32::MAX, "nullable": true})
}

/// A list of HTTP statuses.
pub(crate) fn http_statuses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}})
}

/// Istio's status: known fields, and whatever else writers put there.
pub(crate) fn status() -> Value {
    let int_or_string = json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true});
    json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "conditions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string"},
                        "status": {"type": "string"},
                        "reason": {"type": "string"},
                        "message": {"type": "string"},
                        "lastProbeTime": {"type": "string", "format": "date-time"},
                        "lastTransitionTime": {"type": "string", "format": "date-time"},
                        "observedGeneration": int_or_string,
                    },
                },
            },
            "observedGeneration": int_or_string,
            "validationMessages": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "documentationUrl": {"type": "string"},
                        "level": {"type": "string", "enum": ["UNKNOWN", "ERROR", "WARNING", "INFO"]},
                        "type": {
                            "type": "object",
                            "properties": {"code": {"type": "string"}, "name": {"type": "string"}},
                        },
                    },
                },
            },
        },
    })
}

fn structural(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    for keyword in ["title", "default", "$schema", "$defs", "examples"] {
        schema.remove(keyword);
    }
    optional(schema);
    enumeration(schema);
    integer(schema);
    if schema.get("nullable") == Some(&Value::Bool(false)) {
        schema.remove("nullable");
    }
    for keyword in ["items", "additionalProperties", "not"] {
        if let Some(inner) = schema.get_mut(keyword) {
            structural(inner);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
}

/// `Option<T>` comes as `type: [T, null]`. Messages may simply be absent; scalars are Istio's wrapper types.
fn optional(schema: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = schema.get("type") else { return };
    let Some(kind) = types.iter().find(|kind| *kind != "null").cloned() else { return };
    if matches!(kind.as_str(), Some("integer" | "number" | "boolean")) {
        schema.entry("nullable").or_insert(Value::Bool(true));
    }
    schema.insert("type".to_owned(), kind);
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
}

/// An enumeration with documented variants comes as `oneOf` constants, inside an `anyOf` with `null` when optional.
fn enumeration(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(alternatives)) = schema.get("anyOf")
        && let [Value::Object(inner), Value::Object(null)] = alternatives.as_slice()
        && null.get("type").is_some_and(|kind| kind == "null")
    {
        let inner = inner.clone();
        schema.remove("anyOf");
        for (keyword, value) in inner {
            // The field's own description says more than its type's.
            schema.entry(keyword).or_insert(value);
        }
    }
    let Some(Value::Array(alternatives)) = schema.get("oneOf") else { return };
    let constants: Option<Vec<Value>> = alternatives.iter().map(|one| one.get("const").cloned()).collect();
    if let Some(constants) = constants {
        schema.remove("oneOf");
        schema.insert("type".to_owned(), json!("string"));
        schema.insert("enum".to_owned(), Value::Array(constants));
    }
}

/// Kubernetes knows `int32` and `int64`; Istio writes unsigned ones with their bounds.
fn integer(schema: &mut Map<String, Value>) {
    match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => {
            schema.remove("format");
            schema.insert("minimum".to_owned(), json!(0));
            schema.insert("maximum".to_owned(), json!(u32::MAX));
        }
        Some("uint" | "uint8" | "uint16" | "uint64") => {
            schema.remove("format");
        }
        _ => {}
    }
}
