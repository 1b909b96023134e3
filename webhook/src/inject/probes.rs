//! Probes of the application, sent through the proxy's agent.
//!
//! The kubelet has no certificate of the mesh, so under STRICT its probes would fail. Each probe by HTTP, TCP or gRPC is
//! pointed at the agent, which finds the original in `ISTIO_KUBE_APP_PROBERS` and makes it inside the pod.

use serde_json::{Map, Value, json};

use super::PROXY;

/// The environment variable with the originals.
pub(crate) const PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";

const PROBES: [(&str, &str); 3] =
    [("livenessProbe", "livez"), ("readinessProbe", "readyz"), ("startupProbe", "startupz")];
const HOOKS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];

/// Points the probes of every container but the proxy at the agent's port. The originals come back, by the path that
/// the agent will be asked.
pub(crate) fn rewrite(spec: &mut Map<String, Value>, agent_port: u16) -> Map<String, Value> {
    let mut originals = Map::new();
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(container) = container else { continue };
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if name == PROXY {
                continue;
            }
            let ports = container.get("ports").and_then(Value::as_array).cloned().unwrap_or_default();
            for (field, path) in PROBES {
                if let Some(Value::Object(probe)) = container.get_mut(field) {
                    rewrite_one(probe, &format!("/app-health/{name}/{path}"), &ports, agent_port, &mut originals);
                }
            }
            let Some(Value::Object(lifecycle)) = container.get_mut("lifecycle") else { continue };
            for (field, path) in HOOKS {
                if let Some(Value::Object(hook)) = lifecycle.get_mut(field) {
                    rewrite_one(hook, &format!("/app-lifecycle/{name}/{path}"), &ports, agent_port, &mut originals);
                }
            }
        }
    }
    originals
}

fn rewrite_one(
    probe: &mut Map<String, Value>,
    path: &str,
    ports: &[Value],
    agent_port: u16,
    originals: &mut Map<String, Value>,
) {
    let Some((kind, handler)) =
        ["httpGet", "tcpSocket", "grpc"].iter().find_map(|kind| Some((*kind, probe.get(*kind)?.as_object()?.clone())))
    else {
        return;
    };
    let Some(port) = handler.get("port").and_then(|port| number(port, ports)) else {
        // A name that no port of the container has: Kubernetes fails such a probe, and so it stays.
        return;
    };
    if port == u64::from(agent_port) {
        return;
    }
    let mut original = handler.clone();
    original.insert("port".to_owned(), json!(port));
    // The agent asks the pod itself, by its address.
    original.shift_remove("host");
    let mut entry = Map::from_iter([(kind.to_owned(), Value::Object(original))]);
    entry.extend(probe.get("timeoutSeconds").map(|timeout| ("timeoutSeconds".to_owned(), timeout.clone())));
    originals.insert(path.to_owned(), Value::Object(entry));

    let mut get = if kind == "httpGet" { handler } else { Map::new() };
    get.shift_remove("host");
    get.insert("path".to_owned(), json!(path));
    get.insert("port".to_owned(), json!(agent_port));
    // The agent speaks plaintext to the kubelet and TLS to the application.
    if get.get("scheme").is_some_and(|scheme| scheme == "HTTPS") {
        get.insert("scheme".to_owned(), json!("HTTP"));
    }
    for kind in ["tcpSocket", "grpc"] {
        probe.shift_remove(kind);
    }
    probe.insert("httpGet".to_owned(), Value::Object(get));
}

/// A port by number, or by the name of one of the container's ports.
fn number(port: &Value, ports: &[Value]) -> Option<u64> {
    match port {
        Value::Number(number) => number.as_u64(),
        Value::String(name) => name.parse().ok().or_else(|| {
            ports.iter().find(|one| one.get("name").is_some_and(|own| own == name))?.get("containerPort")?.as_u64()
        }),
        _ => None,
    }
}
