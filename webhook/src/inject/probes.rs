//! Probes of the application, sent through the proxy's agent.
//!
//! The kubelet has no certificate of the mesh, so under STRICT its probes would fail. Each probe by HTTP, TCP or gRPC is
//! pointed at the agent, which finds the original in `ISTIO_KUBE_APP_PROBERS` and makes it inside the pod.

use serde_json::{Map, Value, json};

use super::{PROXY, named};

/// The environment variable with the originals.
pub(crate) const PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";

/// How probes are left alone.
const NOT_SO: &str = "annotation sidecar.istio.io/rewriteAppHTTPProbers: \"false\" leaves probes as they are";

const PROBES: [(&str, &str); 3] =
    [("livenessProbe", "livez"), ("readinessProbe", "readyz"), ("startupProbe", "startupz")];
const HOOKS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];

/// Points the probes of every container but the proxy at the agent's port. The originals come back, by the path that
/// the agent will be asked.
///
/// While a classic sidecar's pod initialises there is no agent yet, and no redirection: what has to succeed then (the
/// startup probe and the `postStart` hook of an init container that goes on running) stays as it is, or the pod would
/// never get past it.
pub(crate) fn rewrite(
    spec: &mut Map<String, Value>,
    agent_port: u16,
    warnings: &mut Vec<String>,
) -> Map<String, Value> {
    let init = spec.get("initContainers").and_then(Value::as_array);
    let native = init.into_iter().flatten().any(|one| named(one, PROXY));
    let mut found = Found { agent_port, originals: Map::new(), warnings };
    for list in ["containers", "initContainers"] {
        let alone = list == "initContainers" && !native;
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(container) = container else { continue };
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if name == PROXY {
                continue;
            }
            let ports = container.get("ports").and_then(Value::as_array).cloned().unwrap_or_default();
            for (field, path) in PROBES.into_iter().filter(|(field, _)| !(alone && *field == "startupProbe")) {
                if let Some(Value::Object(probe)) = container.get_mut(field) {
                    let who = format!("{field} of container {name}");
                    rewrite_one(probe, &format!("/app-health/{name}/{path}"), &who, &ports, &mut found);
                }
            }
            let Some(Value::Object(lifecycle)) = container.get_mut("lifecycle") else { continue };
            for (field, path) in HOOKS.into_iter().filter(|(field, _)| !(alone && *field == "postStart")) {
                if let Some(Value::Object(hook)) = lifecycle.get_mut(field) {
                    let who = format!("{field} of container {name}");
                    rewrite_one(hook, &format!("/app-lifecycle/{name}/{path}"), &who, &ports, &mut found);
                }
            }
        }
    }
    found.originals
}

/// What has been found on the way.
struct Found<'a> {
    agent_port: u16,
    originals: Map<String, Value>,
    warnings: &'a mut Vec<String>,
}

fn rewrite_one(probe: &mut Map<String, Value>, path: &str, who: &str, ports: &[Value], found: &mut Found<'_>) {
    let agent_port = found.agent_port;
    let Some((kind, handler)) =
        ["httpGet", "tcpSocket", "grpc"].iter().find_map(|kind| Some((*kind, probe.get(*kind)?.as_object()?.clone())))
    else {
        return;
    };
    let Some(port) = handler.get("port").and_then(|port| number(port, ports)) else {
        // Kubernetes fails a probe of a name that no port of the container has, and refuses a number that is no port: it
        // stays, so that whoever reads of it finds what he wrote.
        if let Some(port) = handler.get("port").and_then(Value::as_str) {
            found
                .warnings
                .push(format!("{who}: no port of the container is named \"{port}\", so that the kubelet fails it"));
        }
        return;
    };
    if port == agent_port {
        return;
    }
    if let Some(host) = handler.get("host").and_then(Value::as_str).filter(|host| !host.is_empty()) {
        found.warnings.push(format!("{who}: host {host} is left out, since the agent asks the pod itself; {NOT_SO}"));
    }
    let mut original = handler.clone();
    original.insert("port".to_owned(), json!(port));
    // The agent asks the pod itself, by its address.
    original.shift_remove("host");
    let mut entry = Map::from_iter([(kind.to_owned(), Value::Object(original))]);
    entry.extend(probe.get("timeoutSeconds").map(|timeout| ("timeoutSeconds".to_owned(), timeout.clone())));
    found.originals.insert(path.to_owned(), Value::Object(entry));

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
fn number(port: &Value, ports: &[Value]) -> Option<u16> {
    let number = match port {
        Value::Number(number) => number.as_u64(),
        Value::String(name) => name.parse().ok().or_else(|| {
            ports.iter().find(|one| one.get("name").is_some_and(|own| own == name))?.get("containerPort")?.as_u64()
        }),
        _ => None,
    };
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::rewrite;

    fn rewritten(mut spec: Value) -> (Value, Map<String, Value>, Vec<String>) {
        let mut warnings = Vec::new();
        let originals = rewrite(spec.as_object_mut().unwrap(), 15020, &mut warnings);
        (spec, originals, warnings)
    }

    fn own_sidecar() -> Value {
        let get = json!({"httpGet": {"port": 80}});
        json!({
            "name": "logs", "restartPolicy": "Always", "startupProbe": get, "livenessProbe": get,
            "lifecycle": {"postStart": get, "preStop": get},
        })
    }

    #[test]
    fn what_an_init_container_needs_before_there_is_an_agent_stays() {
        let rows = [
            (
                "a classic sidecar",
                json!([own_sidecar()]),
                vec!["/app-health/logs/livez", "/app-lifecycle/logs/prestopz"],
            ),
            (
                "a native one",
                json!([{"name": "istio-proxy"}, own_sidecar()]),
                vec![
                    "/app-health/logs/livez",
                    "/app-health/logs/startupz",
                    "/app-lifecycle/logs/poststartz",
                    "/app-lifecycle/logs/prestopz",
                ],
            ),
        ];
        for (name, init, expected) in rows {
            let (_, originals, warnings) = rewritten(json!({"initContainers": init}));
            let mut paths: Vec<&str> = originals.keys().map(String::as_str).collect();
            paths.sort_unstable();
            assert_eq!((paths, warnings), (expected, Vec::<String>::new()), "{name}");
        }
    }

    #[test]
    fn what_is_no_port_stays_for_the_api_server_to_refuse() {
        for port in [json!(0), json!(70000), json!(-1)] {
            let spec = json!({"containers": [{"name": "a", "readinessProbe": {"httpGet": {"port": port}}}]});
            assert_eq!(rewritten(spec.clone()), (spec, Map::new(), vec![]), "{port}");
        }
    }

    #[test]
    fn what_the_agent_cannot_do_is_said() {
        let rows = [
            (json!({"httpGet": {"port": 80, "host": "example.org"}}), "host example.org is left out"),
            (json!({"tcpSocket": {"port": "web"}}), "no port of the container is named \"web\""),
        ];
        for (probe, expected) in rows {
            let (_, _, warnings) = rewritten(json!({"containers": [{"name": "a", "readinessProbe": probe}]}));
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(
                warnings[0].starts_with("readinessProbe of container a: ") && warnings[0].contains(expected),
                "{warnings:?}"
            );
        }
    }
}
