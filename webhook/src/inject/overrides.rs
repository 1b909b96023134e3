//! The user's own containers that a template writes into: first of all a container `istio-proxy` in the pod. The user's
//! fields lie over the template's.
//!
//! What the user wrote is kept in annotation `proxy.istio.io/overrides`, so that injecting again finds it again.

use serde_json::{Map, Value, json};

use super::strategic::{self, MergeError};
use super::{CONTAINERS, INIT_CONTAINERS, LISTS, PROXY, named};

/// `image: auto` only fills a required field; an empty `resources` says nothing.
fn tidy(mut container: Value) -> Value {
    if let Value::Object(fields) = &mut container {
        if fields.get("image").is_some_and(|image| image == "auto") {
            fields.shift_remove("image");
        }
        fields.retain(|_, value| !value.as_object().is_some_and(Map::is_empty));
    }
    container
}

/// The user's containers, by the list that the template puts them in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Overrides {
    containers: Vec<Value>,
    init_containers: Vec<Value>,
}

impl Overrides {
    /// Reads the annotation; its lists depend on the form of the injection that wrote it.
    pub(crate) fn read(annotation: &str) -> Result<Self, String> {
        let fail = |error: serde_json::Error| format!("must be a JSON object: {error}");
        let overrides: Map<String, Value> = serde_json::from_str(annotation).map_err(fail)?;
        let list = |name: &str| match overrides.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) if list.iter().all(|one| one.get("name").is_some_and(Value::is_string)) => {
                Ok(list.clone())
            }
            Some(_) => Err(format!("{name} must be a list of containers with their names")),
        };
        Ok(Self { containers: list(CONTAINERS)?, init_containers: list(INIT_CONTAINERS)? })
    }

    /// The annotation's form; nothing where there is nothing.
    pub(crate) fn write(&self) -> Option<String> {
        let lists = [(CONTAINERS, &self.containers), (INIT_CONTAINERS, &self.init_containers)];
        let lists: Map<String, Value> = lists
            .into_iter()
            .filter(|(_, items)| !items.is_empty())
            .map(|(name, items)| (name.to_owned(), json!(items)))
            .collect();
        (!lists.is_empty()).then(|| Value::Object(lists).to_string())
    }

    /// The container of this name, in either list.
    pub(crate) fn find(&self, name: &str) -> Option<&Value> {
        self.containers.iter().chain(&self.init_containers).find(|container| named(container, name))
    }
}

/// Lays the user's containers over those of the merged pod that templates wrote into, and tells which they were.
///
/// `users` is the pod as the user wrote it, `ours` what the templates added, `earlier` what an earlier injection kept.
pub(crate) fn reapply(
    merged: &mut Value,
    users: &Value,
    ours: &Value,
    earlier: Option<&Overrides>,
) -> Result<Overrides, MergeError> {
    let mut found = Overrides::default();
    for list in LISTS {
        for template in items(ours, list) {
            let Some(name) = template.get("name").and_then(Value::as_str) else { continue };
            let Some(own) = LISTS.iter().find_map(|list| items(users, list).iter().find(|one| named(one, name))) else {
                continue;
            };
            let own = match earlier.and_then(|earlier| earlier.find(name)) {
                Some(kept) if name != PROXY => as_it_is_now(kept, own, template),
                Some(kept) => kept.clone(),
                None => own.clone(),
            };
            let own = tidy(own);
            let Some(Value::Array(containers)) = merged.pointer_mut(&format!("/spec/{list}")) else { continue };
            if let Some(container) = containers.iter_mut().find(|one| named(one, name)) {
                let mut whole = template.clone();
                // In a list's item, so that its members are merged as a container's.
                strategic::merge(&mut whole, &own)?;
                *container = whole;
            }
            let kept = if list == CONTAINERS { &mut found.containers } else { &mut found.init_containers };
            kept.push(own);
        }
    }
    Ok(found)
}

/// What the user wrote, as the pod has it now: a copy for debugging may have another image or command, and no probes.
fn as_it_is_now(kept: &Value, now: &Value, template: &Value) -> Value {
    let mut own = kept.clone();
    let Value::Object(fields) = &mut own else { return own };
    fields.retain(|name, _| now.get(name).is_some());
    for name in ["image", "command", "args", "stdin", "stdinOnce", "tty"] {
        if let (Some(value), None) = (now.get(name), template.get(name)) {
            fields.insert(name.to_owned(), value.clone());
        }
    }
    own
}

/// The user's own `istio-proxy` goes into the list that the templates have theirs in.
pub(crate) fn settle(pod: &mut Value, ours: &Value) {
    let has = |pod: &Value, list: &str| items(pod, list).iter().any(|one| named(one, PROXY));
    let Some((to, from)) = [(CONTAINERS, INIT_CONTAINERS), (INIT_CONTAINERS, CONTAINERS)]
        .into_iter()
        .find(|(to, from)| has(ours, to) && !has(pod, to) && has(pod, from))
    else {
        return;
    };
    let Some(Value::Array(containers)) = pod.pointer_mut(&format!("/spec/{from}")) else { return };
    let Some(index) = containers.iter().position(|one| named(one, PROXY)) else { return };
    let container = containers.remove(index);
    if let Some(Value::Object(spec)) = pod.get_mut("spec") {
        match spec.entry(to).or_insert(Value::Null) {
            Value::Array(containers) => containers.push(container),
            other => *other = json!([container]),
        }
    }
}

/// The items of one of a pod's lists.
pub(crate) fn items<'a>(pod: &'a Value, list: &str) -> &'a [Value] {
    pod.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Overrides, reapply, settle};

    #[test]
    fn the_users_fields_win() {
        let ours = json!({"spec": {"initContainers": [{
            "name": "istio-proxy", "image": "p:1", "args": ["proxy"], "env": [{"name": "A", "value": "1"}],
            "securityContext": {"runAsUser": 1337, "privileged": false},
        }]}});
        let mut users = json!({"spec": {"containers": [{
            "name": "istio-proxy", "image": "auto", "args": ["other"], "resources": {},
            "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}],
            "securityContext": {"runAsUser": 1234},
        }]}});
        settle(&mut users, &ours);
        let mut merged = users.clone();
        super::strategic::merge(&mut merged, &ours).unwrap();
        let found = reapply(&mut merged, &users, &ours, None).unwrap();
        let expected = json!({
            "name": "istio-proxy", "image": "p:1", "args": ["other"],
            "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}],
            "securityContext": {"runAsUser": 1234, "privileged": false},
        });
        assert_eq!(merged, json!({"spec": {"containers": [], "initContainers": [expected]}}));
        assert_eq!(Overrides::read(&found.write().unwrap()).unwrap(), found);
        assert!(found.find("istio-proxy").is_some());
    }

    #[test]
    fn a_copy_for_debugging_keeps_its_changes() {
        let ours = json!({"spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "1"}]}]}});
        let kept = json!({"containers": [{"name": "app", "image": "x", "readinessProbe": {"httpGet": {"port": 1}}}]});
        let now = json!({"spec": {"containers": [
            {"name": "app", "image": "debug", "command": ["sh"], "env": [{"name": "A", "value": "1"}]},
        ]}});
        let mut merged = now.clone();
        super::strategic::merge(&mut merged, &ours).unwrap();
        reapply(&mut merged, &now, &ours, Some(&Overrides::read(&kept.to_string()).unwrap())).unwrap();
        let expected =
            json!({"name": "app", "env": [{"name": "A", "value": "1"}], "image": "debug", "command": ["sh"]});
        assert_eq!(merged, json!({"spec": {"containers": [expected]}}));
    }
}
