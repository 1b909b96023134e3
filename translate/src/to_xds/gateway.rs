//! A gateway: its Gateways' servers port by port, and the virtual hosts of the VirtualServices bound to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use xds::provenance::Provenance;
use xds::types::listener::{FilterChain, Listener};
use xds::types::route::{Route, VirtualHost, virtual_host::TlsRequirementType};
use xds::types::{core, socket_address};

use super::cluster::ClusterOf;
use super::filters::{self, Routes, Side};
use super::route::{self, Found, Scope};
use super::virtual_host::Built;
use super::{cluster, route_match};
use crate::cache::Cache;
use crate::model::host;
use crate::model::protocol::Protocol;
use crate::model::rule::{Gateway, VirtualService};
use crate::model::snapshot::Snapshot;
use crate::problem::{Problem, Reason};
use crate::projection::Edge;
use crate::resource::Part;
use crate::unsupported;

/// A server of a Gateway, and where it stands.
struct Server<'a> {
    gateway: &'a Arc<Gateway>,
    index: usize,
    /// The number in the Gateway, which rules match by.
    number: u16,
    spec: &'a crds::networking::gateway::Server,
}

/// Everything that a gateway of this projection needs.
pub(crate) fn edge(snapshot: &Snapshot, projection: &Edge, cache: &mut Cache) -> Part {
    let mesh = &snapshot.mesh;
    let mut part = Part::default();
    let mut found = Found::default();
    for ((bind, port), servers) in listening(snapshot, projection, &mut found) {
        let name = if bind == "0.0.0.0" {
            names::traffic::gateway_routes(port)
        } else {
            format!("{}.{bind}", names::traffic::gateway_routes(port))
        };
        let provenance = servers.first().map(Server::provenance);
        let http = filters::http(format!("outbound_{bind}_{port}"), Routes::Named(name.clone()), Side::Edge, mesh);
        let listener = Listener {
            name: names::traffic::listener(&bind, port),
            address: Some(socket_address(&bind, port)),
            traffic_direction: core::TrafficDirection::Outbound.into(),
            filter_chains: vec![FilterChain { filters: vec![http], ..Default::default() }],
            metadata: provenance.as_ref().map(Provenance::metadata),
            ..Default::default()
        };
        cache.listener(&mut part, &listener, provenance);
        let hosts = virtual_hosts(snapshot, projection, &servers, port, &mut found);
        cache.routes(&mut part, &name, hosts, projection.virtual_hosts);
    }
    // Only what routes lead to: a gateway in front of ten services need not know the other thousand.
    let client = projection.client();
    for (host, port, subset) in &found.clusters {
        let Some(service) = snapshot.service(host, client.namespace) else { continue };
        let Some(port) = service.port(*port) else { continue };
        let destination = snapshot.destination(host, Some(service), client);
        found.problems.extend(destination.rules.iter().flat_map(|rule| unsupported::destination_rule(rule)));
        let defined = destination.subset(subset);
        // A subset that no rule defines has no cluster: its route answers 503.
        if subset.is_empty() || defined.is_some() {
            let of = ClusterOf { service, port, subset: defined, destination: &destination };
            cache.outbound_cluster(&mut part, snapshot, &of);
        }
    }
    cache.cluster(&mut part, &cluster::black_hole(mesh), None);
    part.problems = found.problems.into_iter().collect();
    part
}

impl Server<'_> {
    fn provenance(&self) -> Provenance {
        self.gateway.provenance().at(format!("spec.servers[{}]", self.index))
    }

    fn gateway_name(&self) -> String {
        format!("{}/{}", self.gateway.namespace, self.gateway.name)
    }

    /// The hosts for rules of a namespace: `namespace/host`, `./host` and `*/host` say whose.
    fn hosts_for(&self, namespace: &str) -> Vec<&str> {
        let host = |of: &'_ String| -> Option<(usize, usize)> {
            let Some((from, _)) = of.split_once('/') else { return Some((0, of.len())) };
            let allowed = match from {
                "*" => true,
                "." => namespace == self.gateway.namespace,
                from => namespace == from,
            };
            allowed.then_some((from.len() + 1, of.len()))
        };
        self.spec.hosts.iter().filter_map(|of| host(of).and_then(|(from, to)| of.get(from..to))).collect()
    }
}

/// The servers by the address and port that they listen on in the pod.
fn listening<'a>(
    snapshot: &'a Snapshot,
    projection: &'a Edge,
    found: &mut Found,
) -> BTreeMap<(String, u16), Vec<Server<'a>>> {
    let mut listening: BTreeMap<(String, u16), Vec<Server<'a>>> = BTreeMap::new();
    for gateway in snapshot.gateways(&projection.labels) {
        for (index, spec) in gateway.spec.servers.iter().enumerate() {
            let field = |name: &str| format!("spec.servers[{index}].{name}");
            let port = spec.port.clone().unwrap_or_default();
            if !spec.bind.is_empty() && spec.bind.parse::<IpAddr>().is_err() {
                let message = format!(
                    "{} is no IP address, and gateways bind nothing else yet: the server is left out",
                    spec.bind
                );
                found.problems.insert(Problem::of(gateway, Reason::Unsupported, field("bind"), message));
                continue;
            }
            let Some(number) = u16::try_from(port.number).ok().filter(|number| *number > 0) else {
                let message = format!("{} is no port: the server is left out", port.number);
                found.problems.insert(Problem::of(gateway, Reason::Invalid, field("port.number"), message));
                continue;
            };
            let protocol = Protocol::parse(&port.protocol);
            if !protocol.is_http() {
                let message = format!(
                    "{} is not served at gateways yet: the server is left out; plain HTTP, HTTP2 and GRPC are",
                    port.protocol
                );
                found.problems.insert(Problem::of(gateway, Reason::Unsupported, field("port.protocol"), message));
                continue;
            }
            let bind = if spec.bind.is_empty() { "0.0.0.0".to_owned() } else { spec.bind.clone() };
            let target = projection.target(number);
            listening.entry((bind, target)).or_default().push(Server { gateway, index, number, spec });
        }
    }
    listening
}

/// One host of a gateway's port while its routes are gathered.
#[derive(Default)]
struct Host {
    routes: Vec<Route>,
    redirects: bool,
    provenance: Option<Provenance>,
}

/// The virtual hosts of a port: for each host of the servers' that a rule bound to them has, the rules' routes in order.
fn virtual_hosts(
    snapshot: &Snapshot,
    projection: &Edge,
    servers: &[Server<'_>],
    port: u16,
    found: &mut Found,
) -> Vec<Built> {
    let client = projection.client();
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for server in servers {
        let gateway = server.gateway_name();
        let scope = Scope { snapshot, client, gateway: &gateway, port: server.number, is_tls: false };
        let redirects = server.spec.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        for rule in snapshot.virtual_services(&gateway, client.namespace) {
            let bound = bound_hosts(server, rule);
            if bound.is_empty() {
                continue;
            }
            let routes = route::of_rule(&scope, rule, found);
            for of in bound {
                let host = hosts.entry(of.to_ascii_lowercase()).or_default();
                host.redirects |= redirects;
                host.provenance.get_or_insert_with(|| rule.provenance());
                // Two servers of one Gateway bring the same rule twice.
                host.routes
                    .extend(routes.iter().filter(|route| !host.routes.contains(route)).cloned().collect::<Vec<_>>());
            }
        }
        if redirects {
            // A redirect needs no rule.
            for of in server.hosts_for(&server.gateway.namespace) {
                let host = hosts.entry(of.to_ascii_lowercase()).or_default();
                host.redirects = true;
                host.provenance.get_or_insert_with(|| server.provenance());
            }
        }
    }
    if hosts.is_empty() {
        return vec![Built {
            host: VirtualHost {
                name: format!("blackhole:{port}"),
                domains: vec!["*".to_owned()],
                metadata: servers.first().map(|server| server.provenance().metadata()),
                ..Default::default()
            },
            provenance: servers.first().map(Server::provenance),
        }];
    }
    hosts.into_iter().map(|(name, host)| build(&name, port, host)).collect()
}

fn build(name: &str, port: u16, host: Host) -> Built {
    // What matches everything comes last, whichever rule it is from: else the rules behind it would be dead.
    let (last, mut routes): (Vec<Route>, Vec<Route>) =
        host.routes.into_iter().partition(|route| route.r#match.as_ref().is_some_and(route_match::is_catch_all));
    routes.extend(last);
    let require_tls = if host.redirects { TlsRequirementType::All } else { TlsRequirementType::None };
    Built {
        host: VirtualHost {
            name: format!("{name}:{port}"),
            domains: vec![name.to_owned()],
            routes,
            require_tls: require_tls.into(),
            include_request_attempt_count: true,
            metadata: host.provenance.as_ref().map(Provenance::metadata),
            ..Default::default()
        },
        provenance: host.provenance,
    }
}

/// The hosts that a server and a rule have in common; of a wildcard and a host below it, the host.
fn bound_hosts<'a>(server: &'a Server<'_>, rule: &'a VirtualService) -> Vec<&'a str> {
    let of_rule: Vec<&str> = rule.spec.hosts.iter().map(String::as_str).collect();
    host::intersection(&of_rule, &server.hosts_for(&rule.namespace))
}
