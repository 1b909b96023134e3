//! Resources for people, as JSON: for golden files and for `/debug`. One line says what one thing does.

mod cluster;
mod listener;
mod route;

use prost::{Message, Name};
use serde_json::{Map, Value, json};
use xds::any;
use xds::type_url;

use crate::resource::{Resource, ResourceSet};

/// All resources of a proxy by type and name, and the problems that came up.
pub fn describe(set: &ResourceSet) -> Value {
    let mut out = Map::new();
    for url in type_url::PUSH_ORDER {
        let resources = set.of(url).map(|(name, resource)| {
            let content = match url {
                type_url::CLUSTER => content(resource, cluster::cluster),
                type_url::ENDPOINTS => content(resource, cluster::endpoints),
                type_url::LISTENER => content(resource, listener::listener),
                type_url::ROUTES => content(resource, route::routes),
                _ => content(resource, route::virtual_host),
            };
            (name.to_string(), with_provenance(content, resource))
        });
        let resources: Map<_, _> = resources.collect();
        if !resources.is_empty() {
            out.insert(type_url::short(url).to_owned(), Value::Object(resources));
        }
    }
    let problems: Vec<_> = set
        .problems()
        .map(|problem| json!({"reason": problem.reason.as_str(), "message": problem.to_string()}))
        .collect();
    if !problems.is_empty() {
        out.insert("problems".to_owned(), problems.into());
    }
    Value::Object(out)
}

fn content<M: Message + Name + Default>(resource: &Resource, say: fn(&M) -> Map<String, Value>) -> Map<String, Value> {
    match any::unpack::<M>(&resource.any) {
        Ok(message) => say(&message),
        Err(error) => Map::from_iter([("error".to_owned(), json!(error.to_string()))]),
    }
}

fn with_provenance(mut content: Map<String, Value>, resource: &Resource) -> Value {
    if let Some(from) = &resource.provenance {
        let field = if from.field.is_empty() { String::new() } else { format!(", {}", from.field) };
        content.insert("from".to_owned(), json!(format!("{}{field}", from.rule)));
    }
    Value::Object(content)
}

/// `2s`, `0.5s`; nothing for none.
fn seconds(duration: Option<&xds::types::google::Duration>) -> Option<String> {
    let duration = xds::types::google::to_duration(duration?)?;
    (!duration.is_zero()).then(|| format!("{}s", duration.as_secs_f64()))
}

/// `10.0.0.1:9080`
fn address(address: Option<&xds::types::core::Address>) -> String {
    use xds::types::core::{address::Address, socket_address::PortSpecifier};
    match address.and_then(|address| address.address.as_ref()) {
        Some(Address::SocketAddress(at)) => match at.port_specifier {
            Some(PortSpecifier::PortValue(port)) if at.address.contains(':') => format!("[{}]:{port}", at.address),
            Some(PortSpecifier::PortValue(port)) => format!("{}:{port}", at.address),
            _ => at.address.clone(),
        },
        Some(Address::Pipe(pipe)) => format!("unix://{}", pipe.path),
        _ => "?".to_owned(),
    }
}

fn texts(lines: impl IntoIterator<Item = String>) -> Value {
    lines.into_iter().map(Value::from).collect()
}
