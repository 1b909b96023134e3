//! Where our containers stand among the pod's.

use serde_json::Value;

use super::subject::Subject;
use super::{CONTAINERS, INIT, INIT_CONTAINERS, PROXY, VALIDATION, named};

/// Puts the proxy last, or first where the application waits for it; a native one right after `istio-init`, before the
/// user's init containers. Without a native one, `istio-init` is last, so that the user's init containers still have the
/// plain network, and `istio-validation` first, so that nothing runs before it.
pub(crate) fn arrange(pod: &mut Value, subject: &Subject<'_>) {
    let Some(Value::Object(spec)) = pod.get_mut("spec") else { return };
    if let Some(Value::Array(containers)) = spec.get_mut(CONTAINERS) {
        place(containers, PROXY, subject.holds_application());
    }
    if let Some(Value::Array(containers)) = spec.get_mut(INIT_CONTAINERS) {
        let native = containers.iter().any(|one| named(one, PROXY));
        place(containers, PROXY, true);
        place(containers, VALIDATION, true);
        place(containers, INIT, native);
    }
}

fn place(containers: &mut Vec<Value>, name: &str, first: bool) {
    let Some(index) = containers.iter().position(|one| named(one, name)) else { return };
    let container = containers.remove(index);
    containers.insert(if first { 0 } else { containers.len() }, container);
}
