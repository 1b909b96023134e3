//! What an earlier injection left in a pod, taken out of it, so that injecting again gives the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::overrides::{Overrides, items};
use super::{CONTAINERS, INIT, INIT_CONTAINERS, InjectError, LISTS, PROXY, VALIDATION, named, probes, prometheus};

/// An earlier injection.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    /// Whether there was one.
    pub(crate) was: bool,
    /// What the user's own containers said before it.
    pub(crate) overrides: Option<Overrides>,
    /// The probes that it sent through the agent.
    pub(crate) probers: Map<String, Value>,
    /// The scrape settings that it moved into the agent.
    pub(crate) metrics: Option<String>,
    /// Containers that it lists and that were taken out, beside our own: where each stood, and what it was.
    taken: Vec<(&'static str, usize, Value)>,
}

impl Earlier {
    /// Takes it out of the pod.
    pub(crate) fn take(pod: &mut Value, annotations: &BTreeMap<String, String>) -> Result<Self, InjectError> {
        let name = names::annotations::PROXY_OVERRIDES;
        let overrides = annotations.get(name).map(|text| {
            let invalid = |reason| {
                InjectError::Annotations(vec![format!("invalid value '{text}' for annotation '{name}': {reason}")])
            };
            Overrides::read(text).map_err(invalid)
        });
        // Somebody may have written the annotation by hand; only an object counts.
        let status: Option<Map<String, Value>> =
            annotations.get(names::annotations::STATUS).and_then(|text| serde_json::from_str(text).ok());
        let mut earlier = Self { was: status.is_some(), overrides: overrides.transpose()?, ..Self::default() };
        for list in LISTS {
            let listed = status.as_ref().and_then(|status| status.get(list)).and_then(Value::as_array);
            if let Some(Value::Array(containers)) = pod.pointer_mut(&format!("/spec/{list}")) {
                earlier.take_from(list, containers, listed.map_or(&[], Vec::as_slice));
            }
        }
        earlier.reinsert(pod);
        Ok(earlier)
    }

    fn take_from(&mut self, list: &'static str, containers: &mut Vec<Value>, listed: &[Value]) {
        let mut index = 0;
        containers.retain(|container| {
            let place = index;
            index += 1;
            let Some(name) = container.get("name").filter(|name| listed.contains(name)).and_then(Value::as_str) else {
                return true;
            };
            if matches!(name, PROXY | INIT | VALIDATION) {
                if let Some(text) = environment(container, probes::PROBERS) {
                    self.probers.extend(serde_json::from_str::<Map<_, _>>(text).unwrap_or_default());
                }
                self.metrics = environment(container, prometheus::VARIABLE).map(str::to_owned).or(self.metrics.take());
                return false;
            }
            if self.overrides.as_ref().is_some_and(|overrides| overrides.find(name).is_some()) {
                // The user's own, into which a template wrote.
                return true;
            }
            self.taken.push((list, place, container.clone()));
            false
        });
    }

    /// The user's own containers of our names come back as the user wrote them.
    fn reinsert(&self, pod: &mut Value) {
        for (name, list) in [(PROXY, CONTAINERS), (INIT, INIT_CONTAINERS), (VALIDATION, INIT_CONTAINERS)] {
            let Some(own) = self.overrides.as_ref().and_then(|overrides| overrides.find(name)) else { continue };
            if LISTS.iter().any(|list| items(pod, list).iter().any(|one| named(one, name))) {
                continue;
            }
            if let Some(Value::Array(containers)) = pod.pointer_mut(&format!("/spec/{list}")) {
                containers.push(own.clone());
            }
        }
    }

    /// Puts back what was taken and no template gives again: it was the user's, whatever the annotation says.
    pub(crate) fn put_back(&mut self, pod: &mut Value, ours: &Value) {
        for (list, index, container) in std::mem::take(&mut self.taken) {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
            if LISTS.iter().any(|list| items(ours, list).iter().any(|one| named(one, name))) {
                continue;
            }
            if let Some(Value::Array(containers)) = pod.pointer_mut(&format!("/spec/{list}")) {
                containers.insert(index.min(containers.len()), container);
            }
        }
    }
}

fn environment<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let env = container.get("env")?.as_array()?;
    env.iter().find(|variable| named(variable, name))?.get("value")?.as_str()
}
