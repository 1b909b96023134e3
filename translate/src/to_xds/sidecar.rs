//! A sidecar's outbound side: a listener for each address and port that services have, or for each port where the
//! request itself says whom it is for; the route configurations that listeners name; a cluster for each port.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use xds::provenance::Provenance;
use xds::types::listener::{FilterChain, FilterChainMatch, Listener};
use xds::types::{boolean, core, google, socket_address, uint32};

use super::cluster::ClusterOf;
use super::filters::{self, Routes, Side};
use super::route::{Found, Scope};
use super::virtual_host::{self, ClientNames, Rules};
use super::{cluster, endpoint};
use crate::cache::Cache;
use crate::model::mesh::Mesh;
use crate::model::protocol::Protocol;
use crate::model::rule::MESH_GATEWAY;
use crate::model::service::{Service, ServicePort};
use crate::model::snapshot::Snapshot;
use crate::problem::{Problem, Reason};
use crate::projection::Outbound;
use crate::resource::Part;
use crate::unsupported;

/// Every address.
const ANY: &str = "0.0.0.0";
/// What the HTTP inspector reports for plain text.
pub(crate) const PLAIN_HTTP: [&str; 2] = ["http/1.1", "h2c"];

type PortOf<'a> = (&'a Arc<Service>, &'a ServicePort);

/// What listens on a port for every address.
#[derive(Default)]
struct Anywhere<'a> {
    /// Told apart by the request's host.
    http: Vec<PortOf<'a>>,
    /// Told apart by the server name in TLS.
    by_server_name: Vec<PortOf<'a>>,
    /// Not to be told apart: the first one has all that is left.
    rest: Option<PortOf<'a>>,
}

/// The listeners that services need.
#[derive(Default)]
struct Plan<'a> {
    anywhere: BTreeMap<u16, Anywhere<'a>>,
    addressed: BTreeMap<(String, u16), PortOf<'a>>,
    problems: BTreeSet<Problem>,
}

/// Everything outbound that a sidecar of this projection needs.
pub(crate) fn outbound(snapshot: &Snapshot, projection: &Outbound, cache: &mut Cache) -> Part {
    let client = projection.client();
    let mesh = &snapshot.mesh;
    let mut part = Part::default();
    let mut plan = Plan::default();
    // Of two services that claim one address and port, the first one here has it.
    let mut services: Vec<_> = snapshot.visible_services(client.namespace).collect();
    services.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
    // A rule for a wildcard counts for many services, and is looked at once.
    let mut looked_at = HashSet::new();
    for service in services {
        let destination = snapshot.destination(&service.host, Some(service), client);
        for rule in destination.rules.iter().filter(|rule| looked_at.insert(Arc::as_ptr(rule))) {
            plan.problems.extend(unsupported::destination_rule(rule));
        }
        let subsets = destination.subsets();
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            for subset in std::iter::once(None).chain(subsets.iter().copied().map(Some)) {
                let of = ClusterOf { service, port, subset, destination: &destination };
                cache.outbound_cluster(&mut part, snapshot, &of);
            }
            plan.add(snapshot, service, port);
        }
    }
    plan.problems
        .extend(snapshot.service_entries(client.namespace).flat_map(|entry| unsupported::service_entry(entry)));
    cache.cluster(&mut part, &cluster::passthrough(mesh), None);
    cache.cluster(&mut part, &cluster::black_hole(mesh), None);

    let mut found = Found { problems: std::mem::take(&mut plan.problems), ..Found::default() };
    let rules = Rules::new(snapshot.virtual_services(MESH_GATEWAY, client.namespace));
    let names = if projection.virtual_hosts { ClientNames::Expanded } else { ClientNames::Written };
    let scope = |port| Scope { snapshot, client, gateway: MESH_GATEWAY, port, is_tls: false };

    cache.listener(&mut part, &virtual_outbound(mesh), None);
    for (port, anywhere) in &plan.anywhere {
        let (listener, provenance) = anywhere.listener(*port, mesh);
        cache.listener(&mut part, &listener, provenance);
        if !anywhere.http.is_empty() {
            let hosts = virtual_host::of_port(&scope(*port), &rules, &anywhere.http, names, &mut found);
            cache.routes(&mut part, &port.to_string(), hosts, projection.virtual_hosts);
        }
    }
    for ((address, number), (service, port)) in &plan.addressed {
        cache.listener(&mut part, &addressed(address, *number, service, port, mesh), Some(service.provenance()));
        let name = sniffed_routes(service, port);
        if port.protocol.is_sniffed() && !part.routes.contains_key(name.as_str()) {
            let host = virtual_host::of_sniffed(&scope(port.number), &rules, service, port, &mut found);
            cache.routes(&mut part, &name, vec![host], projection.virtual_hosts);
        }
    }
    for rule in snapshot.virtual_services(MESH_GATEWAY, client.namespace) {
        for (field, is_used) in [("spec.tcp", !rule.spec.tcp.is_empty()), ("spec.tls", !rule.spec.tls.is_empty())] {
            if is_used {
                let message = "is not translated yet: connections go to the service that they were made to";
                found.problems.insert(Problem::of(rule, Reason::Unsupported, field, message));
            }
        }
    }
    part.problems = found.problems.into_iter().collect();
    part
}

/// The route configuration of a port whose protocol is found out from the first bytes.
fn sniffed_routes(service: &Service, port: &ServicePort) -> String {
    format!("{}:{}", service.host, port.number)
}

impl<'a> Plan<'a> {
    fn add(&mut self, snapshot: &'a Snapshot, service: &'a Arc<Service>, port: &'a ServicePort) {
        let protocol = port.protocol;
        let anywhere = self.anywhere.entry(port.number);
        if protocol.is_http() {
            anywhere.or_default().http.push((service, port));
            return;
        }
        let addresses: Vec<String> = if service.is_headless() {
            // Clients connect to the pods, and there is nothing but their addresses to know them by.
            endpoint::of_port(snapshot, service, port, None).map(|(endpoint, _)| endpoint.address.clone()).collect()
        } else {
            service.addresses.iter().map(ToString::to_string).collect()
        };
        if addresses.is_empty() {
            if service.is_headless() || service.origin == crate::model::service::Origin::Kubernetes {
                return; // no endpoint yet, no address yet: nobody can connect to it
            }
            let anywhere = anywhere.or_default();
            match protocol {
                Protocol::Unsupported => anywhere.http.push((service, port)),
                _ if protocol.is_tls() => anywhere.by_server_name.push((service, port)),
                _ => match anywhere.rest {
                    None => anywhere.rest = Some((service, port)),
                    Some((other, _)) => self.conflict(service, port, other, ANY),
                },
            }
            return;
        }
        for address in addresses {
            let key = (address, port.number);
            match self.addressed.get(&key) {
                None => {
                    self.addressed.insert(key, (service, port));
                }
                Some((other, _)) => {
                    let other = Arc::clone(other);
                    self.conflict(service, port, &other, &key.0);
                }
            }
        }
    }

    fn conflict(&mut self, service: &Service, port: &ServicePort, other: &Service, address: &str) {
        // Headless services of one StatefulSet share their pods' addresses on purpose: the same connection either way.
        if service.is_headless() && other.is_headless() {
            return;
        }
        let message = format!(
            "{address}:{} already belongs to {}: connections there go to it; give one of the two another port, or \
             an address of its own",
            port.number, other.host
        );
        self.problems.insert(Problem::of_service(service, Reason::Conflict, "spec.ports", message));
    }
}

fn outbound_listener(address: &str, port: u16) -> Listener {
    Listener {
        name: names::traffic::listener(address, port),
        address: Some(socket_address(address, port)),
        // Connections are handed over by the listener on 15001.
        bind_to_port: Some(boolean(false)),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        ..Default::default()
    }
}

/// Waits for the first bytes only as long as the mesh allows.
pub(crate) fn wait_for_first_bytes(listener: &mut Listener, mesh: &Mesh) {
    listener.listener_filters_timeout = Some(google::duration(mesh.config.protocol_detection_timeout.get()));
    listener.continue_on_listener_filters_timeout = true;
}

fn outbound_cluster(service: &Service, port: &ServicePort) -> String {
    names::traffic::outbound_cluster(port.number, "", &service.host)
}

fn tcp_chain(service: &Service, port: &ServicePort, mesh: &Mesh) -> FilterChain {
    FilterChain {
        filters: vec![filters::tcp(&outbound_cluster(service, port), mesh)],
        metadata: Some(service.provenance().metadata()),
        ..Default::default()
    }
}

fn plain_http() -> FilterChainMatch {
    FilterChainMatch { application_protocols: PLAIN_HTTP.map(str::to_owned).into(), ..Default::default() }
}

/// The listener of one address and port.
fn addressed(address: &str, number: u16, service: &Service, port: &ServicePort, mesh: &Mesh) -> Listener {
    let mut listener = outbound_listener(address, number);
    if port.protocol.is_sniffed() {
        let routes = Routes::Named(sniffed_routes(service, port));
        listener.filter_chains = vec![FilterChain {
            filter_chain_match: Some(plain_http()),
            filters: vec![filters::http(format!("outbound_{}", listener.name), routes, Side::Outbound, mesh)],
            ..Default::default()
        }];
        listener.default_filter_chain = Some(tcp_chain(service, port, mesh));
        listener.listener_filters = vec![filters::http_inspector()];
        wait_for_first_bytes(&mut listener, mesh);
    } else {
        listener.filter_chains = vec![tcp_chain(service, port, mesh)];
    }
    listener.metadata = Some(service.provenance().metadata());
    listener
}

impl Anywhere<'_> {
    /// The listener of a port for every address.
    fn listener(&self, number: u16, mesh: &Mesh) -> (Listener, Option<Provenance>) {
        let mut listener = outbound_listener(ANY, number);
        for (service, port) in &self.by_server_name {
            let mut chain = tcp_chain(service, port, mesh);
            chain.filter_chain_match = Some(FilterChainMatch {
                transport_protocol: "tls".to_owned(),
                server_names: vec![service.host.clone()],
                ..Default::default()
            });
            listener.filter_chains.push(chain);
        }
        if !self.by_server_name.is_empty() {
            listener.listener_filters.push(filters::tls_inspector());
        }
        let rest = match self.rest {
            Some((service, port)) => tcp_chain(service, port, mesh),
            None => unknown_destination(mesh),
        };
        if self.http.is_empty() {
            listener.default_filter_chain = Some(rest);
        } else {
            let routes = Routes::Named(number.to_string());
            let http = filters::http(format!("outbound_{}", listener.name), routes, Side::Outbound, mesh);
            let mut chain = FilterChain { filters: vec![http], ..Default::default() };
            let declared = self.http.iter().any(|(_, port)| port.protocol.is_http());
            if self.rest.is_some() || !declared {
                // Bytes that are no HTTP have somewhere to go.
                chain.filter_chain_match = Some(plain_http());
                listener.listener_filters.push(filters::http_inspector());
                listener.default_filter_chain = Some(rest);
                wait_for_first_bytes(&mut listener, mesh);
            }
            listener.filter_chains.push(chain);
        }
        // A listener that many services share comes from none of them.
        let mut of = self.http.iter().chain(&self.by_server_name).chain(&self.rest);
        let provenance = match (of.next(), of.next()) {
            (Some((service, _)), None) => Some(service.provenance()),
            _ => None,
        };
        listener.metadata = provenance.as_ref().map(Provenance::metadata);
        (listener, provenance)
    }
}

/// What happens to connections that are none of the mesh's business.
fn unknown_destination(mesh: &Mesh) -> FilterChain {
    use crds::meshconfig::OutboundTrafficMode;
    let refuses = mesh.config.outbound_traffic_policy.mode == OutboundTrafficMode::RegistryOnly;
    let cluster = if refuses { names::traffic::BLACK_HOLE } else { names::traffic::PASSTHROUGH };
    FilterChain { filters: vec![filters::tcp(cluster, mesh)], ..Default::default() }
}

/// The listener that redirected connections arrive on.
fn virtual_outbound(mesh: &Mesh) -> Listener {
    let port = mesh.config.proxy_listen_port;
    Listener {
        name: names::traffic::VIRTUAL_OUTBOUND.to_owned(),
        address: Some(socket_address(ANY, port)),
        use_original_dst: Some(boolean(true)),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        listener_filters: vec![filters::original_dst()],
        // A connection to the proxy itself would come back to it for ever.
        filter_chains: vec![FilterChain {
            name: "virtualOutbound-blackhole".to_owned(),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: Some(uint32(u32::from(port))),
                ..Default::default()
            }),
            filters: vec![filters::tcp(names::traffic::BLACK_HOLE, mesh)],
            ..Default::default()
        }],
        default_filter_chain: Some(FilterChain {
            name: "virtualOutbound-catchall-tcp".to_owned(),
            ..unknown_destination(mesh)
        }),
        ..Default::default()
    }
}
