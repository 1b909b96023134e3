//! The fields of our own kinds as OpenShift's console shows them: a name, the schema's description, and what to edit a
//! value with. All of it is derived from the schema, so that a new field needs nothing here.

use serde_json::{Map, Value};

/// The words of OLM's descriptors begin so.
const UI: &str = "urn:alm:descriptor:com.tectonic.ui";

/// How many names a path may have. What is deeper is edited as YAML.
const DEPTH: usize = 4;

/// Fields that a form shows at once; all others wait behind "Advanced configuration".
const BASIC: [&str; 6] = ["version", "namespace", "revision", "profile", "targetRef", "hub"];

/// The descriptors of a spec: each field, and those inside it.
pub(super) fn spec(schema: &Value) -> Vec<Value> {
    let mut descriptors = Vec::new();
    if let Some(spec) = schema.pointer("/properties/spec") {
        walk(spec, &mut Vec::new(), &mut descriptors);
    }
    descriptors
}

/// The descriptors of a status: its own fields only, which is what a console has a place for.
pub(super) fn status(schema: &Value) -> Vec<Value> {
    properties(schema.pointer("/properties/status"))
        .map(|(name, field)| {
            let widgets: &[&str] = match name {
                "conditions" => &["urn:alm:descriptor:io.kubernetes.conditions"],
                "state" => &["urn:alm:descriptor:io.kubernetes.phase"],
                _ if matches!(kind(field), "string" | "integer") => &["urn:alm:descriptor:text"],
                _ => &[],
            };
            descriptor(name, name, field, widgets.iter().map(|widget| (*widget).to_owned()).collect())
        })
        .collect()
}

/// A kind's name for people: `VirtualService` is "Virtual Service".
pub(super) fn kind_title(kind: &str) -> String {
    words(kind).join(" ")
}

/// A field's name for people: `targetCPUUtilization` is "Target CPU utilization".
fn title(field: &str) -> String {
    let is_row = |word: &str| word.chars().filter(|letter| letter.is_uppercase()).count() > 1;
    let words: Vec<String> = words(field)
        .into_iter()
        .enumerate()
        .map(|(index, word)| match index {
            _ if is_row(&word) => word,
            0 => word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect(),
            _ => word.to_lowercase(),
        })
        .collect();
    words.join(" ")
}

/// The words that are written together in a name.
fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let at = |index: usize| letters.get(index).copied().unwrap_or(' ');
    let mut words: Vec<String> = vec![String::new()];
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map_or(' ', at);
        // Before a capital that follows a small letter, and before the last capital of a row that a word follows; the
        // plural of a row (`IPs`) is no word.
        let after_word = before.is_lowercase() || before.is_ascii_digit();
        let after_row = before.is_uppercase() && at(index + 1).is_lowercase() && at(index + 2).is_lowercase();
        if letter.is_uppercase() && (after_word || after_row) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(*letter);
        }
    }
    words
}

fn walk(schema: &Value, path: &mut Vec<String>, descriptors: &mut Vec<Value>) {
    for (name, field) in properties(Some(schema)) {
        path.push(name.to_owned());
        let whole = is_resources(field);
        descriptors.push(descriptor(&path.join("."), name, field, widgets(path, name, field)));
        if !whole && path.len() < DEPTH {
            if let Some(items) = field.get("items") {
                // A form shows the first of a list, and makes more of it.
                if let Some(last) = path.last_mut() {
                    last.push_str("[0]");
                }
                walk(items, path, descriptors);
            } else {
                walk(field, path, descriptors);
            }
        }
        path.pop();
    }
}

/// What a console edits a field with, and where in the form.
fn widgets(path: &[String], name: &str, field: &Value) -> Vec<String> {
    let mut widgets = Vec::new();
    if let [group, _, ..] = path {
        match group.strip_suffix("[0]") {
            Some(list) => widgets.push(format!("{UI}:arrayFieldGroup:{list}")),
            None => widgets.push(format!("{UI}:fieldGroup:{group}")),
        }
    }
    let choices = field.get("enum").and_then(Value::as_array);
    match (kind(field), name) {
        _ if choices.is_some() => {
            let choices = choices.into_iter().flatten().filter_map(Value::as_str);
            widgets.extend(choices.map(|choice| format!("{UI}:select:{choice}")));
        }
        ("boolean", _) => widgets.push(format!("{UI}:booleanSwitch")),
        ("integer", "replicas") => widgets.push(format!("{UI}:podCount")),
        ("integer" | "number", _) => widgets.push(format!("{UI}:number")),
        ("string", "namespace") => widgets.push("urn:alm:descriptor:io.kubernetes:Namespace".to_owned()),
        ("string", _) => widgets.push(format!("{UI}:text")),
        _ if is_resources(field) => widgets.push(format!("{UI}:resourceRequirements")),
        _ => {}
    }
    let begins = path.first().map(String::as_str).unwrap_or_default();
    if !BASIC.contains(&begins) {
        widgets.push(format!("{UI}:advanced"));
    }
    widgets
}

fn descriptor(path: &str, name: &str, field: &Value, widgets: Vec<String>) -> Value {
    let mut descriptor = Map::from_iter([
        ("path".to_owned(), path.into()),
        ("displayName".to_owned(), title(name).into()),
        ("description".to_owned(), field.get("description").cloned().unwrap_or_default()),
    ]);
    if !widgets.is_empty() {
        descriptor.insert("x-descriptors".to_owned(), widgets.into());
    }
    descriptor.into()
}

/// Requests and limits, which a console has one widget for.
fn is_resources(field: &Value) -> bool {
    properties(Some(field)).map(|(name, _)| name).eq(["limits", "requests"])
}

fn kind(field: &Value) -> &str {
    field.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn properties(schema: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, field)| (name.as_str(), field))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{kind_title, spec, status, title};

    #[test]
    fn names_become_words() {
        for (name, words) in [
            ("replicas", "Replicas"),
            ("logLevel", "Log level"),
            ("targetCPUUtilizationPercentage", "Target CPU utilization percentage"),
            ("loadBalancerIP", "Load balancer IP"),
            ("externalIPs", "External IPs"),
            ("http2Port", "Http2 port"),
        ] {
            assert_eq!(title(name), words, "{name}");
        }
        assert_eq!(kind_title("MeshRevisionTag"), "Mesh Revision Tag");
    }

    #[test]
    fn each_kind_of_field_has_its_widget() {
        let resources = json!({"type": "object", "properties": {"limits": {}, "requests": {}}});
        let schema = json!({"properties": {"spec": {"properties": {
            "version": {"type": "string", "description": "Which."},
            "profile": {"type": "string", "enum": ["default", "demo"]},
            "proxy": {"type": "object", "properties": {
                "replicas": {"type": "integer"},
                "limit": {"type": "integer"},
                "enabled": {"type": "boolean"},
                "namespace": {"type": "string"},
                "resources": resources,
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            }},
            "gateways": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        }}}});
        let found: Vec<(String, String)> = spec(&schema)
            .iter()
            .map(|one| {
                let widgets = one["x-descriptors"].as_array().cloned().unwrap_or_default();
                let widgets: Vec<&str> = widgets
                    .iter()
                    .map(|widget| widget.as_str().unwrap().trim_start_matches("urn:alm:descriptor:"))
                    .map(|widget| widget.trim_start_matches("com.tectonic.ui:"))
                    .collect();
                (one["path"].as_str().unwrap().to_owned(), widgets.join(" "))
            })
            .collect();
        let found: Vec<(&str, &str)> = found.iter().map(|(path, widgets)| (&path[..], &widgets[..])).collect();
        assert_eq!(
            found,
            [
                ("version", "text"),
                ("profile", "select:default select:demo"),
                ("proxy", "advanced"),
                ("proxy.replicas", "fieldGroup:proxy podCount advanced"),
                ("proxy.limit", "fieldGroup:proxy number advanced"),
                ("proxy.enabled", "fieldGroup:proxy booleanSwitch advanced"),
                ("proxy.namespace", "fieldGroup:proxy io.kubernetes:Namespace advanced"),
                ("proxy.resources", "fieldGroup:proxy resourceRequirements advanced"),
                ("proxy.labels", "fieldGroup:proxy advanced"),
                ("gateways", "advanced"),
                ("gateways[0].name", "arrayFieldGroup:gateways text advanced"),
            ]
        );
        assert_eq!(spec(&schema)[0]["description"], "Which.");
    }

    #[test]
    fn conditions_and_state_have_their_own_place() {
        let schema = json!({"properties": {"status": {"properties": {
            "conditions": {"type": "array"}, "state": {"type": "string"}, "observedGeneration": {"type": "integer"},
            "components": {"type": "array"},
        }}}});
        let widgets: Vec<Value> = status(&schema).iter().map(|one| one["x-descriptors"][0].clone()).collect();
        assert_eq!(
            widgets,
            [
                json!("urn:alm:descriptor:io.kubernetes.conditions"),
                json!("urn:alm:descriptor:io.kubernetes.phase"),
                json!("urn:alm:descriptor:text"),
                Value::Null,
            ]
        );
    }
}
