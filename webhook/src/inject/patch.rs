//! From two documents to the JSON Patch between them.

use std::collections::HashSet;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::Value;

/// The patch that turns `before` into `after`. Both are raw documents, so that fields which no type of ours knows
/// appear in neither side of the difference. `managedFields` are the API server's own.
///
/// What comes before the user's own in a list, as our init containers do, is inserted there: item by item, each of the
/// user's would be written again as it is now, in the place of the one before it.
pub fn between(before: &Value, after: &Value) -> Patch {
    let mut inserted = Vec::new();
    let mut aligned = before.clone();
    if let (Some(Value::Object(spec)), Some(Value::Object(after))) = (aligned.get_mut("spec"), after.get("spec")) {
        for (name, list) in spec {
            if let (Value::Array(list), Some(Value::Array(after))) = (list, after.get(name)) {
                insert(list, after, &PointerBuf::from_tokens(["spec", name.as_str()]), &mut inserted);
            }
        }
    }
    let mut patch = json_patch::diff(&aligned, after);
    patch.0.splice(0..0, inserted);
    patch
}

/// Inserts the items that are new, by their names, where they stand in `after`; says so in `operations`.
fn insert(list: &mut Vec<Value>, after: &[Value], path: &PointerBuf, operations: &mut Vec<PatchOperation>) {
    let name = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
    let Some(old) = list.iter().map(name).collect::<Option<HashSet<_>>>() else { return };
    for (index, item) in after.iter().enumerate() {
        if index < list.len() && name(item).is_some_and(|name| !old.contains(&name)) {
            let mut path = path.clone();
            path.push_back(index);
            operations.push(PatchOperation::Add(AddOperation { path, value: item.clone() }));
            list.insert(index, item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use json_patch::{Patch, patch};
    use serde_json::{Value, json};

    use super::between;

    fn pod(init: &[&str], containers: &[&str]) -> Value {
        let list = |names: &[&str]| names.iter().map(|name| json!({"name": name, "image": "x"})).collect::<Value>();
        json!({"spec": {"initContainers": list(init), "containers": list(containers)}})
    }

    #[test]
    fn what_is_new_is_inserted_and_nothing_else_written_again() {
        let rows = [
            ("nothing", pod(&["a"], &["b"]), pod(&["a"], &["b"]), ""),
            (
                "before, between and behind",
                pod(&["a", "b"], &["c"]),
                pod(&["init", "a", "proxy", "b"], &["c", "d"]),
                "add /spec/initContainers/0, add /spec/initContainers/2, add /spec/containers/1",
            ),
            (
                "one less",
                pod(&["a", "b"], &[]),
                pod(&["b"], &[]),
                "replace /spec/initContainers/0/name, remove /spec/initContainers/1",
            ),
            ("the first list", json!({"spec": {"containers": []}}), pod(&["a"], &[]), "add /spec/initContainers"),
            (
                "no names",
                json!({"spec": {"list": [1]}}),
                json!({"spec": {"list": [2, 1]}}),
                "replace /spec/list/0, add /spec/list/1",
            ),
            (
                "no list",
                json!({"spec": {"containers": 7}}),
                pod(&[], &["a"]),
                "add /spec/initContainers, replace /spec/containers",
            ),
            ("no pod", json!(1), json!({"spec": 2}), "replace "),
        ];
        for (name, before, after, expected) in rows {
            let difference = between(&before, &after);
            let said = |Patch(operations): &Patch| {
                let one = |operation: &json_patch::PatchOperation| {
                    let operation = serde_json::to_value(operation).unwrap();
                    format!("{} {}", operation["op"].as_str().unwrap(), operation["path"].as_str().unwrap())
                };
                operations.iter().map(one).collect::<Vec<_>>().join(", ")
            };
            assert_eq!(said(&difference), expected, "{name}");
            let mut patched = before;
            patch(&mut patched, &difference).unwrap();
            assert_eq!(patched, after, "{name}");
        }
    }
}
