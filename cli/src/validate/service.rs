//! Names of Services' ports, by which the mesh knows what is spoken on them.

use crds::check::{Problem, Severity};
use crds::yaml::Document;
use serde_json::Value;
use translate::model::protocol::Protocol;

/// Namespaces whose Services are not the mesh's matter.
const SYSTEM: [&str; 2] = ["kube-system", "kube-public"];

/// Ports whose protocol has to be found out, and names that stand in a Service's way. Warnings all: such a Service works
/// (Istio's messages IST0118 and IST0150).
pub(super) fn problems(document: &Document, mesh_namespace: &str) -> Vec<Problem> {
    let namespace = document.namespace().unwrap_or_default();
    if namespace == mesh_namespace || SYSTEM.contains(&namespace) {
        return Vec::new();
    }
    let ports = document.value.pointer("/spec/ports").and_then(Value::as_array);
    let external = document.value.pointer("/spec/type").is_some_and(|kind| kind == "ExternalName");
    let problem = |(index, port)| {
        Some(Problem {
            field: format!("spec.ports[{index}].name"),
            message: of_port(port, external)?,
            severity: Severity::Warning,
        })
    };
    ports.into_iter().flatten().enumerate().filter_map(problem).collect()
}

fn of_port(port: &Value, external: bool) -> Option<String> {
    let text = |field: &str| port.get(field).and_then(Value::as_str);
    let number = port.get("port").and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok())?;
    let name = text("name").unwrap_or_default();
    let app_protocol = text("appProtocol");
    let protocol = Protocol::of_port(number, name, text("protocol").unwrap_or("TCP"), app_protocol);
    let declares = "name it <protocol>[-<suffix>], such as http or grpc-web, or set appProtocol";
    if external && (protocol == Protocol::Unsupported || (protocol == Protocol::Tcp && app_protocol.is_none())) {
        return Some(format!(
            "{name:?} on port {number} of an ExternalName Service declares no protocol that has host names: \
             traffic to it may be matched by its port alone; {declares}"
        ));
    }
    (protocol == Protocol::Unsupported).then(|| match app_protocol {
        Some(other) => format!(
            "appProtocol {other:?} of port {number} is not known to the mesh: what is spoken is found out from the first bytes"
        ),
        None if name.is_empty() => {
            format!("port {number} has no name: what is spoken is found out from the first bytes; {declares}")
        }
        None => format!(
            "{name:?} (port {number}) names no protocol: what is spoken is found out from the first bytes; {declares}"
        ),
    })
}
