//! A sidecar's inbound side: one listener whose chains say, port by port, what is terminated and what is refused.

use crds::security::peer_authentication::MutualTlsMode;
use xds::types::listener::{Filter, FilterChain, FilterChainMatch, Listener};
use xds::types::route::route::Action;
use xds::types::route::route_action::{ClusterSpecifier, MaxStreamDuration};
use xds::types::route::{Decorator, RetryPolicy, Route, RouteAction, RouteConfiguration, VirtualHost};
use xds::types::{boolean, core, google, socket_address, uint32};

use super::filters::{self, Routes, Side};
use super::route::DEFAULT_ROUTE;
use super::sidecar::{PLAIN_HTTP, wait_for_first_bytes};
use super::{cluster, route_match, tls};
use crate::cache::Cache;
use crate::model::mesh::Mesh;
use crate::model::snapshot::Snapshot;
use crate::projection::{Inbound, InboundPort};
use crate::resource::Part;

const ANY: &str = "0.0.0.0";
/// What a sidecar says it speaks inside mesh TLS, when that is HTTP.
const MESH_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// The same, when it is anything else.
const MESH_TCP: [&str; 2] = ["istio-peer-exchange", "istio"];

/// Everything inbound that a sidecar of this projection needs.
pub(crate) fn inbound(snapshot: &Snapshot, projection: &Inbound, cache: &mut Cache) -> Part {
    let mesh = &snapshot.mesh;
    let mut part = Part::default();
    let port = mesh.config.proxy_inbound_listen_port;
    let mut listener = Listener {
        name: names::traffic::VIRTUAL_INBOUND.to_owned(),
        address: Some(socket_address(ANY, port)),
        use_original_dst: Some(boolean(true)),
        traffic_direction: core::TrafficDirection::Inbound.into(),
        listener_filters: vec![filters::original_dst(), filters::tls_inspector(), filters::http_inspector()],
        ..Default::default()
    };
    if projection.transparent {
        listener.transparent = Some(boolean(true));
        listener.listener_filters.insert(1, filters::original_src());
    }
    wait_for_first_bytes(&mut listener, mesh);
    // A connection to the proxy itself would come back to it for ever.
    listener.filter_chains.push(FilterChain {
        name: "virtualInbound-blackhole".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(uint32(u32::from(port))),
            ..Default::default()
        }),
        filters: vec![filters::tcp(names::traffic::BLACK_HOLE, mesh)],
        ..Default::default()
    });
    for port in &projection.ports {
        let application = if port.services.is_empty() {
            Application::unknown(mesh)
        } else {
            cache.cluster(
                &mut part,
                &cluster::inbound(port, mesh),
                port.services.first().map(|service| service.provenance.clone()),
            );
            Application::of(port, mesh)
        };
        let name = names::traffic::listener(ANY, port.number);
        let kind = Kind::of(port);
        let chains = chains(kind, port.mode, &application);
        listener.filter_chains.extend(chains.into_iter().map(|chain| chain.build(&name, Some(port.number), mesh)));
    }
    let application = Application::unknown(mesh);
    for chain in chains(Kind::Sniffed, projection.elsewhere, &application) {
        let name = if chain.is_http { "virtualInbound-catchall-http" } else { names::traffic::VIRTUAL_INBOUND };
        listener.filter_chains.push(chain.build(name, None, mesh));
    }
    cache.cluster(&mut part, &cluster::inbound_passthrough(mesh), None);
    cache.listener(&mut part, &listener, None);
    part
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
    Sniffed,
}

impl Kind {
    fn of(port: &InboundPort) -> Self {
        match port.protocol() {
            protocol if protocol.is_http() => Self::Http,
            protocol if protocol.is_sniffed() => Self::Sniffed,
            _ => Self::Tcp,
        }
    }
}

/// Where connections go once they are accepted.
struct Application {
    http: Filter,
    tcp: Filter,
    metadata: Option<core::Metadata>,
}

impl Application {
    /// A port that services lead to.
    fn of(port: &InboundPort, mesh: &Mesh) -> Self {
        let cluster = names::traffic::inbound_cluster(port.number);
        let first = port.services.first();
        let operation = first.map(|service| format!("{}:{}/*", service.name.host, service.port)).unwrap_or_default();
        let metadata = first.map(|service| service.provenance.metadata());
        let routes = routes(&cluster, &cluster, port.number, operation, metadata.clone());
        let prefix = format!("inbound_{ANY}_{}", port.number);
        Self {
            http: filters::http(prefix, Routes::Inline(Box::new(routes)), Side::Inbound, mesh),
            tcp: filters::tcp(&cluster, mesh),
            metadata,
        }
    }

    /// Any other port.
    fn unknown(mesh: &Mesh) -> Self {
        let cluster = names::traffic::INBOUND_PASSTHROUGH;
        let routes = routes(cluster, cluster, 0, "*:*/*".to_owned(), None);
        Self {
            http: filters::http(cluster.to_owned(), Routes::Inline(Box::new(routes)), Side::Inbound, mesh),
            tcp: filters::tcp(cluster, mesh),
            metadata: None,
        }
    }
}

fn routes(
    name: &str,
    cluster: &str,
    port: u16,
    operation: String,
    metadata: Option<core::Metadata>,
) -> RouteConfiguration {
    let none = Some(google::Duration { seconds: 0, nanos: 0 });
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        // The client's route has the timeout.
        timeout: none,
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: none,
            grpc_timeout_header_max: none,
            ..Default::default()
        }),
        // The application closed an idle connection just as a request went out on it.
        retry_policy: Some(RetryPolicy {
            retry_on: "reset-before-request".to_owned(),
            num_retries: Some(uint32(2)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let route = Route {
        name: DEFAULT_ROUTE.to_owned(),
        r#match: Some(route_match::everything()),
        decorator: Some(Decorator { operation, ..Default::default() }),
        action: Some(Action::Route(action)),
        metadata: metadata.clone(),
        ..Default::default()
    };
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: format!("inbound|http|{port}"),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            metadata,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// One chain before it has a name and a port.
struct Chain {
    /// `tls`, `raw_buffer`; empty for either.
    transport: &'static str,
    application_protocols: Vec<&'static str>,
    terminates: bool,
    is_http: bool,
    filter: Filter,
    metadata: Option<core::Metadata>,
}

impl Chain {
    fn build(self, name: &str, port: Option<u16>, mesh: &Mesh) -> FilterChain {
        FilterChain {
            name: name.to_owned(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: port.map(|port| uint32(u32::from(port))),
                transport_protocol: self.transport.to_owned(),
                application_protocols: self.application_protocols.iter().map(|&it| it.to_owned()).collect(),
                ..Default::default()
            }),
            filters: vec![self.filter],
            transport_socket: self.terminates.then(|| tls::mesh_server(mesh)),
            metadata: self.metadata,
            ..Default::default()
        }
    }
}

/// Istio's table: what a port takes, by the mode of mutual TLS and by what is spoken on it.
fn chains(kind: Kind, mode: MutualTlsMode, application: &Application) -> Vec<Chain> {
    let chain = |transport, application_protocols: &[&'static str], terminates, is_http| Chain {
        transport,
        application_protocols: application_protocols.to_vec(),
        terminates,
        is_http,
        filter: if is_http { application.http.clone() } else { application.tcp.clone() },
        metadata: application.metadata.clone(),
    };
    let mesh: Vec<&'static str> = MESH_TCP.into_iter().chain(MESH_HTTP).collect();
    let (http, tcp) = (true, false);
    let (terminated, as_it_is) = (true, false);
    match (mode, kind) {
        (MutualTlsMode::Permissive | MutualTlsMode::Unset, Kind::Http) => {
            vec![chain("tls", &mesh, terminated, http), chain("raw_buffer", &[], as_it_is, http)]
        }
        (MutualTlsMode::Permissive | MutualTlsMode::Unset, Kind::Tcp) => vec![
            chain("tls", &mesh, terminated, tcp),
            chain("tls", &[], as_it_is, tcp),
            chain("raw_buffer", &[], as_it_is, tcp),
        ],
        (MutualTlsMode::Permissive | MutualTlsMode::Unset, Kind::Sniffed) => vec![
            chain("tls", &MESH_HTTP, terminated, http),
            chain("raw_buffer", &PLAIN_HTTP, as_it_is, http),
            chain("tls", &MESH_TCP, terminated, tcp),
            chain("raw_buffer", &[], as_it_is, tcp),
            chain("tls", &[], as_it_is, tcp),
        ],
        (MutualTlsMode::Strict, Kind::Http) => vec![chain("tls", &[], terminated, http)],
        (MutualTlsMode::Strict, Kind::Tcp) => vec![chain("tls", &[], terminated, tcp)],
        (MutualTlsMode::Strict, Kind::Sniffed) => {
            vec![chain("tls", &MESH_HTTP, terminated, http), chain("tls", &[], terminated, tcp)]
        }
        // TLS is then the application's own: bytes, or no HTTP.
        (MutualTlsMode::Disable, Kind::Http) => vec![chain("", &[], as_it_is, http)],
        (MutualTlsMode::Disable, Kind::Tcp) => vec![chain("", &[], as_it_is, tcp)],
        (MutualTlsMode::Disable, Kind::Sniffed) => {
            vec![chain("raw_buffer", &PLAIN_HTTP, as_it_is, http), chain("", &[], as_it_is, tcp)]
        }
    }
}
