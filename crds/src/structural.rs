//! An object against the structural schema of its kind: which fields the schema does not have, and what does not fit.
//!
//! This is what the API server does with a definition's schema before any webhook is asked, for those who have no API
//! server before them: readers of files and the command line. CEL rules are not evaluated here; each is also said by the
//! kind's check (`tests/cel.rs` holds that true).

use std::collections::HashSet;
use std::fmt;

use serde_json::{Map, Value};

use crate::check::{Problem, Severity};
use crate::nearest::nearest;

/// A field that a kind does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Its path, such as `spec.http[0].rout`.
    pub path: String,
    /// The field that its author may have meant, such as `route`.
    pub nearest: Option<String>,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: unknown field", self.path)?;
        self.nearest.as_ref().map_or(Ok(()), |name| write!(f, "; did you mean {name}?"))
    }
}

/// The most characters of the paths of unknown fields: more than is passed on. The key of a map, which may be as long as an
/// object, stands in the path of each field below it.
const MOST: usize = 64 * 1024;

/// The fields that the schema does not have, or the first few thousands. The API server drops these.
pub(crate) fn unknown_fields(schema: &Value, object: &Value) -> Vec<UnknownField> {
    let mut found = Vec::new();
    unknown(schema, object, "", &mut found, &mut 0);
    found
}

fn unknown(schema: &Value, value: &Value, path: &str, found: &mut Vec<UnknownField>, length: &mut usize) {
    if *length > MOST {
        return;
    }
    match value {
        Value::Object(members) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let additional = schema.get("additionalProperties");
            // A schema that says nothing about members takes them all (metadata, which is Kubernetes' own).
            let free = preserves(schema) || (properties.is_none() && additional.is_none());
            for (name, member) in members {
                if let Some(inner) = properties.and_then(|properties| properties.get(name)) {
                    unknown(inner, member, &join(path, name), found, length);
                } else if let Some(inner) = additional {
                    unknown(inner, member, &format!("{path}[{name}]"), found, length);
                } else if !free && *length <= MOST {
                    // A field that is there already is not the one that was meant.
                    let known = properties.into_iter().flatten().map(|(known, _)| known.as_str());
                    let nearest = nearest(name, known.filter(|known| !members.contains_key(*known)));
                    *length += path.len() + name.len();
                    found.push(UnknownField { path: join(path, name), nearest: nearest.map(str::to_owned) });
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                unknown(inner, item, &format!("{path}[{index}]"), found, length);
            }
        }
        _ => {}
    }
}

/// What of an object does not fit the schema: types, required fields, enumerations, bounds, patterns, `oneOf`, list keys.
pub(crate) fn problems(schema: &Value, object: &Value) -> Vec<Problem> {
    let mut found = Misfits::default();
    found.value(schema, object, "");
    found.0
}

#[derive(Default)]
struct Misfits(Vec<Problem>);

impl Misfits {
    fn say(&mut self, path: &str, message: impl Into<String>) {
        let field = if path.is_empty() { "the object".to_owned() } else { path.to_owned() };
        self.0.push(Problem { field, message: message.into(), severity: Severity::Error });
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        if value.is_null() {
            if !is_true(schema, "nullable") {
                self.say(path, "is null: leave the field out instead");
            }
            return;
        }
        if let Some(kind) = schema.get("type").and_then(Value::as_str)
            && !is_a(value, kind)
        {
            self.say(path, format!("must be {}, not {}", article(kind), article(kind_of(value))));
            return;
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array)
            && !values.contains(value)
        {
            let known: Vec<_> = values.iter().filter_map(Value::as_str).collect();
            self.say(path, format!("{value} is not one of {}", known.join(", ")));
        }
        match value {
            Value::Object(members) => self.object(schema, members, path),
            Value::Array(items) => self.list(schema, items, path),
            Value::String(text) => self.text(schema, text, path),
            Value::Number(number) => self.number(schema, number.as_f64().unwrap_or_default(), path),
            Value::Null | Value::Bool(_) => {}
        }
        if !alternatives_hold(schema, value) {
            let names = alternatives(schema).join(", ");
            self.say(path, format!("has more than one of {names}, of which only one can be"));
        }
    }

    fn object(&mut self, schema: &Value, members: &Map<String, Value>, path: &str) {
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                self.say(&join(path, name), "must be set");
            }
        }
        self.count(schema, members.len(), ["minProperties", "maxProperties"], "entries", path);
        for (name, member) in members {
            if let Some(inner) = schema.get("properties").and_then(|properties| properties.get(name)) {
                self.value(inner, member, &join(path, name));
            } else if let Some(inner) = schema.get("additionalProperties") {
                self.value(inner, member, &format!("{path}[{name}]"));
            }
        }
    }

    fn list(&mut self, schema: &Value, items: &[Value], path: &str) {
        self.count(schema, items.len(), ["minItems", "maxItems"], "items", path);
        if let Some(inner) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(inner, item, &format!("{path}[{index}]"));
            }
        }
        if schema.get("x-kubernetes-list-type").is_some_and(|kind| kind == "map") {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let keys: Vec<_> = keys.into_iter().flatten().filter_map(Value::as_str).collect();
            let mut seen = HashSet::new();
            for (index, item) in items.iter().enumerate() {
                let key: Vec<_> = keys.iter().map(|key| item.get(key).map(ToString::to_string)).collect();
                if !seen.insert(key) {
                    self.say(&format!("{path}[{index}]"), format!("has the {} of an earlier one", keys.join(" and ")));
                }
            }
        }
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        self.count(schema, text.chars().count(), ["minLength", "maxLength"], "characters", path);
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && regex::Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
        {
            self.say(path, format!("\"{text}\" does not match {pattern}"));
        }
    }

    fn number(&mut self, schema: &Value, number: f64, path: &str) {
        let bound = |name| schema.get(name).and_then(Value::as_f64);
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            self.say(path, format!("{number} is less than {least}"));
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            self.say(path, format!("{number} is more than {most}"));
        }
        let fits = match schema.get("format").and_then(Value::as_str) {
            Some("int32") => (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number),
            _ => true,
        };
        if !fits {
            self.say(path, format!("{number} does not fit 32 bits"));
        }
    }

    fn count(&mut self, schema: &Value, count: usize, [least, most]: [&str; 2], what: &str, path: &str) {
        let bound = |name| schema.get(name).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
        if let Some(least) = bound(least).filter(|least| count < *least) {
            self.say(path, if count == 0 { "must not be empty".into() } else { format!("needs {least} {what}") });
        }
        if let Some(most) = bound(most).filter(|most| count > *most) {
            self.say(path, format!("has {count} {what}, of which there can be {most}"));
        }
    }
}

/// Whether `oneOf`, `anyOf`, `allOf` and `not` hold. In these schemas they speak of `required` only (Istio's oneofs).
fn alternatives_hold(schema: &Value, value: &Value) -> bool {
    let list = |name| schema.get(name).and_then(Value::as_array);
    list("oneOf").is_none_or(|all| all.iter().filter(|one| holds(one, value)).count() == 1)
        && list("anyOf").is_none_or(|all| all.iter().any(|one| holds(one, value)))
        && list("allOf").is_none_or(|all| all.iter().all(|one| holds(one, value)))
        && schema.get("not").is_none_or(|inner| !holds(inner, value))
}

fn holds(schema: &Value, value: &Value) -> bool {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let kind = schema.get("type").and_then(Value::as_str);
    required.filter_map(Value::as_str).all(|name| value.get(name).is_some())
        && kind.is_none_or(|kind| is_a(value, kind))
        && alternatives_hold(schema, value)
}

/// The members that a schema's alternatives name, in order.
fn alternatives(schema: &Value) -> Vec<&str> {
    let mut names = Vec::new();
    for keyword in ["oneOf", "anyOf", "allOf"] {
        for one in schema.get(keyword).and_then(Value::as_array).into_iter().flatten() {
            let required = one.get("required").and_then(Value::as_array).into_iter().flatten();
            names.extend(required.filter_map(Value::as_str));
            names.extend(alternatives(one));
        }
    }
    names
}

fn preserves(schema: &Value) -> bool {
    is_true(schema, "x-kubernetes-preserve-unknown-fields")
}

fn is_true(schema: &Value, keyword: &str) -> bool {
    schema.get(keyword) == Some(&Value::Bool(true))
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        // As the API server: 1.0 is an integer.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        kind => kind_of(value) == kind,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A JSON type in a sentence.
fn article(kind: &str) -> &'static str {
    match kind {
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a string",
        "array" => "a list",
        "object" => "an object",
        _ => "null",
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{problems, unknown_fields};

    fn schema() -> Value {
        json!({
            "type": "object",
            "required": ["name"],
            "properties": {
                "metadata": {"type": "object"},
                "name": {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^[a-z]*$"},
                "mode": {"type": "string", "enum": ["A", "B"]},
                "share": {"type": "number", "minimum": 0, "maximum": 100, "nullable": true},
                "count": {"type": "integer", "format": "int32"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                    "known": {"type": "object", "properties": {"a": {"type": "string"}}},
                }},
                "map": {"type": "object", "minProperties": 1, "additionalProperties": {
                    "type": "object", "properties": {"x": {"type": "string"}},
                }},
                "list": {
                    "type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                    "items": {"type": "object", "properties": {"id": {"type": "string"}}},
                },
                "either": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": crate::schema::at_most_one_of(&["a", "b"]),
                },
                "any": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true},
            },
        })
    }

    #[test]
    fn unknown_fields_are_named() {
        let rows = [
            ("known ones", json!({"name": "a", "metadata": {"anything": 1}}), vec![]),
            ("at the top", json!({"nam": "a", "list": []}), vec!["nam"]),
            ("in a list", json!({"list": [{"id": "a"}, {"idd": "b"}]}), vec!["list[1].idd"]),
            ("in a map", json!({"map": {"any": {"y": 1}}}), vec!["map[any].y"]),
            ("where all are kept", json!({"free": {"z": {"zz": 1}}}), vec![]),
            ("below a known one of those", json!({"free": {"known": {"b": 1}}}), vec!["free.known.b"]),
        ];
        for (name, object, expected) in rows {
            let found: Vec<String> = unknown_fields(&schema(), &object).into_iter().map(|field| field.path).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let rows: Vec<(Value, &[&str])> = vec![
            (json!({"name": "abc", "mode": "A", "share": null, "any": 1, "either": {"a": "x"}}), &[]),
            (json!({"name": "abc", "any": "x", "either": {}, "count": 3.0}), &[]),
            (json!("text"), &["the object: must be an object, not a string"]),
            (json!({}), &["name: must be set"]),
            (json!({"name": null}), &["name: is null: leave the field out instead"]),
            (json!({"name": ""}), &["name: must not be empty"]),
            (json!({"name": "abcd"}), &["name: has 4 characters, of which there can be 3"]),
            (json!({"name": "A"}), &["name: \"A\" does not match ^[a-z]*$"]),
            (json!({"name": "a", "mode": "C"}), &["mode: \"C\" is not one of A, B"]),
            (json!({"name": "a", "share": -1}), &["share: -1 is less than 0"]),
            (json!({"name": "a", "share": 100.5}), &["share: 100.5 is more than 100"]),
            (json!({"name": "a", "count": 1.5}), &["count: must be a whole number, not a number"]),
            (json!({"name": "a", "count": 3_000_000_000_u64}), &["count: 3000000000 does not fit 32 bits"]),
            (json!({"name": "a", "map": {}}), &["map: must not be empty"]),
            (json!({"name": "a", "map": {"k": null}}), &["map[k]: is null: leave the field out instead"]),
            (json!({"name": "a", "list": [null]}), &["list[0]: is null: leave the field out instead"]),
            (
                json!({"name": "a", "list": [{"id": "a"}, {"id": "a"}, {}]}),
                &["list: has 3 items, of which there can be 2", "list[1]: has the id of an earlier one"],
            ),
            (
                json!({"name": "a", "either": {"a": "x", "b": "y"}}),
                &["either: has more than one of a, b, of which only one can be"],
            ),
        ];
        for (object, expected) in rows {
            let found: Vec<_> = problems(&schema(), &object).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{object}");
        }
    }
}
