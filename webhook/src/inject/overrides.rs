//! A container `istio-proxy` in the user's own pod: its fields lie over the rendered ones.
//!
//! The user's container is kept in annotation `proxy.istio.io/overrides`, so that injecting again finds it again.

use serde_json::{Map, Value, json};

use super::render::PROXY;

/// Takes the user's `istio-proxy` out of the pod's containers and init containers.
pub(crate) fn take(spec: &mut Map<String, Value>) -> Option<Value> {
    ["containers", "initContainers"].iter().find_map(|list| {
        let items = spec.get_mut(*list)?.as_array_mut()?;
        let index = items.iter().position(|container| container.get("name").is_some_and(|name| name == PROXY))?;
        Some(items.remove(index))
    })
}

/// `image: auto` only fills a required field; an empty `resources` says nothing.
pub(crate) fn tidy(mut container: Value) -> Value {
    if let Value::Object(fields) = &mut container {
        if fields.get("image").is_some_and(|image| image == "auto") {
            fields.shift_remove("image");
        }
        fields.retain(|_, value| !value.as_object().is_some_and(Map::is_empty));
    }
    container
}

/// The annotation's form of an override.
pub(crate) fn write(container: &Value, native: bool) -> String {
    let list = if native { "initContainers" } else { "containers" };
    json!({ list: [container] }).to_string()
}

/// Reads the annotation; its list depends on the form of the injection that wrote it.
pub(crate) fn read(annotation: &str) -> Result<Option<Value>, String> {
    let overrides: Map<String, Value> =
        serde_json::from_str(annotation).map_err(|error| format!("must be a JSON object: {error}"))?;
    Ok(["containers", "initContainers"].iter().find_map(|list| {
        let items = overrides.get(*list)?.as_array()?;
        items.iter().find(|container| container.get("name").is_some_and(|name| name == PROXY)).cloned()
    }))
}

/// Lays the user's container over the rendered one, as Kubernetes' strategic merge does: objects by member, lists of
/// named things by their key, other lists as a whole.
pub(crate) fn apply(rendered: &mut Value, over: &Value) {
    let (Value::Object(rendered), Value::Object(over)) = (rendered, over) else { return };
    for (name, value) in over {
        let key = match name.as_str() {
            "env" => Some("name"),
            "ports" => Some("containerPort"),
            "volumeMounts" => Some("mountPath"),
            "volumeDevices" => Some("devicePath"),
            _ => None,
        };
        let place = rendered.entry(name.clone()).or_insert(Value::Null);
        match (key, place, value) {
            (Some(key), Value::Array(items), Value::Array(over)) => merge_list(items, over, key),
            (None, place @ Value::Object(_), Value::Object(_)) => apply(place, value),
            (_, place, value) => *place = value.clone(),
        }
    }
}

fn merge_list(items: &mut Vec<Value>, over: &[Value], key: &str) {
    for one in over {
        match items.iter_mut().find(|item| item.get(key).is_some() && item.get(key) == one.get(key)) {
            // A value and a reference exclude each other: an entry is replaced as a whole.
            Some(item) => *item = one.clone(),
            None => items.push(one.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{apply, read, tidy, write};

    #[test]
    fn the_users_fields_win() {
        let mut rendered = json!({
            "name": "istio-proxy", "image": "p:1", "args": ["proxy"], "env": [{"name": "A", "value": "1"}],
            "securityContext": {"runAsUser": 1337, "privileged": false},
        });
        let over = tidy(json!({
            "name": "istio-proxy", "image": "auto", "args": ["other"], "resources": {},
            "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}],
            "securityContext": {"runAsUser": 1234},
        }));
        apply(&mut rendered, &over);
        let expected = json!({
            "name": "istio-proxy", "image": "p:1", "args": ["other"],
            "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}],
            "securityContext": {"runAsUser": 1234, "privileged": false},
        });
        assert_eq!(rendered, expected);
        assert_eq!(read(&write(&over, true)).unwrap(), Some(over));
    }
}
