//! `/debug/*`: what this replica knows and what it told whom.
//!
//! The pages answer GET and change nothing. They show configuration, never keys or tokens. They are open on 15014, as
//! Kiali reads `syncz`, `registryz` and `configz` there; a NetworkPolicy narrows that down.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, response::Html};
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use translate::model::rule::Rule;
use xds::node::ProxyType;

use super::connections::{Connection, Connections, proxy_name};
use crate::push::resource::{Kind, Resource};
use crate::push::subscriber::{Progress, Protocol};
use crate::watch::Intake;

/// What the pages show.
pub(crate) struct Debug {
    pub(crate) connections: Arc<Connections>,
    pub(crate) intake: Arc<Intake>,
}

/// The pages, with a word about each.
const PAGES: [(&str, &str); 6] = [
    ("/debug/syncz", "how far each connected proxy has come"),
    ("/debug/adsz", "the open streams"),
    ("/debug/registryz", "services"),
    ("/debug/configz", "Istio's objects, and those that cannot be read"),
    ("/debug/endpointz", "endpoints by service"),
    ("/debug/config_dump?proxyID=pod.namespace", "what a proxy is to have"),
];

pub(crate) fn routes(state: Arc<Debug>) -> Router {
    Router::new()
        .route("/debug", get(index))
        .route("/debug/syncz", get(syncz))
        .route("/debug/adsz", get(adsz))
        .route("/debug/registryz", get(registryz))
        .route("/debug/configz", get(configz))
        .route("/debug/endpointz", get(endpointz))
        .route("/debug/config_dump", get(config_dump))
        .with_state(state)
}

async fn index() -> Html<String> {
    let line = |(path, what): (&str, &str)| format!("<li><a href=\"{path}\">{path}</a>: {what}</li>");
    Html(format!("<ul>{}</ul>", PAGES.map(line).concat()))
}

/// One proxy in `syncz`, under the names that `proxy-status` and Kiali read.
#[derive(Serialize)]
struct SyncStatus {
    cluster_id: String,
    proxy: String,
    proxy_type: &'static str,
    proxy_version: String,
    istio_version: String,
    cluster_sent: String,
    cluster_acked: String,
    listener_sent: String,
    listener_acked: String,
    route_sent: String,
    route_acked: String,
    endpoint_sent: String,
    endpoint_acked: String,
    extensionconfig_sent: String,
    extensionconfig_acked: String,
    /// Why the proxy refuses what it was sent last, by kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rejected: BTreeMap<&'static str, String>,
}

impl SyncStatus {
    fn of(connection: &Connection) -> Self {
        let state = connection.state();
        let of = |kind: Kind| &state.progress[kind.index()];
        let nonce = |number: u64| if number == 0 { String::new() } else { number.to_string() };
        let sent = |progress: &Progress| nonce(progress.sent);
        let acked = |progress: &Progress| nonce(progress.acked);
        // Virtual hosts are routes that travel one by one: both have to be accepted.
        let routes = |number: fn(&Progress) -> u64| match (number(of(Kind::Routes)), number(of(Kind::VirtualHost))) {
            (routes, 0) => nonce(routes),
            (routes, hosts) => format!("{}/{hosts}", nonce(routes)),
        };
        let metadata = &connection.node.metadata;
        let rejected = |kind: Kind| Some((kind.short(), of(kind).rejected.clone()?));
        Self {
            cluster_id: metadata.cluster_id.clone(),
            proxy: proxy_name(&connection.node),
            proxy_type: connection.node.id.proxy_type.as_str(),
            proxy_version: metadata.istio_version.clone(),
            istio_version: metadata.istio_version.clone(),
            cluster_sent: sent(of(Kind::Cluster)),
            cluster_acked: acked(of(Kind::Cluster)),
            listener_sent: sent(of(Kind::Listener)),
            listener_acked: acked(of(Kind::Listener)),
            route_sent: routes(|progress| progress.sent),
            route_acked: routes(|progress| progress.acked),
            endpoint_sent: sent(of(Kind::Endpoints)),
            endpoint_acked: acked(of(Kind::Endpoints)),
            extensionconfig_sent: String::new(),
            extensionconfig_acked: String::new(),
            rejected: Kind::ALL.into_iter().filter_map(rejected).collect(),
        }
    }
}

async fn syncz(State(debug): State<Arc<Debug>>) -> Json<Vec<SyncStatus>> {
    Json(debug.connections.list().iter().map(|connection| SyncStatus::of(connection)).collect())
}

async fn adsz(State(debug): State<Arc<Debug>>) -> Json<Value> {
    let stream = |connection: &Arc<Connection>| {
        let state = connection.state();
        let subscribed = |kind: &Kind| state.progress[kind.index()].subscribed;
        let resources: BTreeMap<&str, usize> = Kind::ALL
            .into_iter()
            .filter(subscribed)
            .map(|kind| (kind.short(), state.progress[kind.index()].resources))
            .collect();
        json!({
            "connectionId": format!("{}-{}", proxy_name(&connection.node), connection.id),
            "address": connection.address.map(|address| address.to_string()),
            "identity": connection.identity.as_ref().map(ToString::to_string),
            "node": connection.node.id.to_string(),
            "labels": connection.node.metadata.labels,
            "protocol": if connection.protocol == Protocol::Delta { "delta" } else { "state of the world" },
            "gateway": connection.node.id.proxy_type == ProxyType::Router,
            "resources": resources,
        })
    };
    let clients: Vec<Value> = debug.connections.list().iter().map(stream).collect();
    Json(json!({ "totalClients": clients.len(), "clients": clients }))
}

async fn registryz(State(debug): State<Arc<Debug>>) -> Json<Vec<Value>> {
    let inputs = debug.intake.inputs();
    let mesh = Arc::clone(&inputs.mesh);
    let entries: Vec<_> =
        inputs.service_entries.values().flat_map(|entry| translate::model::istio::services(entry)).collect();
    let services = inputs.services.values().map(|service| &**service).chain(&entries);
    Json(
        services
            .map(|service| {
                let ports: Vec<Value> = service
                    .ports
                    .iter()
                    .map(|port| json!({ "name": port.name, "port": port.number, "protocol": format!("{:?}", port.protocol) }))
                    .collect();
                json!({
                    "hostname": service.host,
                    "Attributes": {
                        "Name": service.name,
                        "Namespace": service.namespace,
                        "LabelSelectors": service.selector,
                        "ClusterExternalAddresses": null,
                    },
                    "clusterVIPs": { "Addresses": { (mesh.cluster_id.clone()): service.addresses } },
                    "ports": ports,
                    "MeshExternal": service.mesh_external,
                    "Resolution": format!("{:?}", service.resolution),
                })
            })
            .collect(),
    )
}

async fn configz(State(debug): State<Arc<Debug>>) -> Json<Vec<Value>> {
    const NETWORKING: &str = "networking.istio.io/v1";
    let inputs = debug.intake.inputs();
    let mut objects = Vec::new();
    objects.extend(inputs.virtual_services.values().map(|rule| object(NETWORKING, rule)));
    objects.extend(inputs.destination_rules.values().map(|rule| object(NETWORKING, rule)));
    objects.extend(inputs.gateways.values().map(|rule| object(NETWORKING, rule)));
    objects.extend(inputs.service_entries.values().map(|rule| object(NETWORKING, rule)));
    objects.extend(inputs.peer_authentications.values().map(|rule| object("security.istio.io/v1", rule)));
    for (kind, key, reason) in debug.intake.unreadable() {
        objects.push(json!({
            "kind": kind.as_str(),
            "metadata": { "namespace": key.namespace, "name": key.name },
            "unreadable": reason,
        }));
    }
    Json(objects)
}

/// A rule as an object again; short host names in it are full ones by now.
fn object<S: Serialize>(api_version: &str, rule: &Rule<S>) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": rule.kind,
        "metadata": { "namespace": rule.namespace, "name": rule.name, "generation": rule.generation },
        "spec": serde_json::to_value(&rule.spec).unwrap_or_default(),
    })
}

async fn endpointz(State(debug): State<Arc<Debug>>) -> Json<Value> {
    let inputs = debug.intake.inputs();
    let mut services: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for slice in inputs.slices.values() {
        let addresses = slice.addresses.iter().map(|address| {
            json!({
                "address": address.ip,
                "ports": slice.ports,
                "health": format!("{:?}", address.health),
                "pod": address.pod,
                "node": address.node,
            })
        });
        services.entry(format!("{}.{}", slice.service, slice.namespace)).or_default().extend(addresses);
    }
    Json(json!(services))
}

#[derive(Deserialize)]
struct Dump {
    #[serde(rename = "proxyID", default)]
    proxy: String,
}

async fn config_dump(State(debug): State<Arc<Debug>>, Query(dump): Query<Dump>) -> Response {
    let Some(connection) = debug.connections.find(&dump.proxy) else {
        let open: Vec<String> = debug.connections.list().iter().map(|open| proxy_name(&open.node)).collect();
        let message = format!(
            "proxy {:?} is not connected to this replica; give proxyID=<pod>.<namespace>, one of: {}\n",
            dump.proxy,
            open.join(" ")
        );
        return (StatusCode::NOT_FOUND, message).into_response();
    };
    let view = connection.state().view;
    let kinds: BTreeMap<&str, Vec<Value>> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let set = view.as_ref().map(|view| &view[kind.index()]);
            (kind.short(), set.into_iter().flat_map(|set| set.iter()).map(|resource| describe(resource)).collect())
        })
        .collect();
    Json(json!({ "proxy": dump.proxy, "configs": kinds })).into_response()
}

fn describe(resource: &Resource) -> Value {
    let content = resource.content();
    json!({
        "name": &**resource.name(),
        "version": resource.version().to_string(),
        "rule": resource.provenance().map(|origin| format!("{} {}", origin.rule, origin.field)),
        "bytes": content.value.len(),
        "content": base64::engine::general_purpose::STANDARD.encode(&content.value),
    })
}
