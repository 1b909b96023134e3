//! A gRPC client's side: a listener for each name and port that it may dial, routes and clusters behind it.

use std::collections::BTreeMap;

use crds::networking::destination_rule::{ClientTlsMode, SimpleLb};
use xds::any;
use xds::provenance::Provenance;
use xds::types::cluster::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy};
use xds::types::cluster::{CircuitBreakers, Cluster, circuit_breakers, cluster as cds};
use xds::types::listener::{ApiListener, Listener};
use xds::types::route::route::Action;
use xds::types::route::route_action::{MaxStreamDuration, hash_policy::PolicySpecifier};
use xds::types::route::{RetryPolicy, Route, RouteAction, RouteConfiguration, VirtualHost};

use super::tls;
use crate::cache::Cache;
use crate::model::protocol::Protocol;
use crate::model::rule::MESH_GATEWAY;
use crate::model::service::Resolution;
use crate::model::snapshot::Snapshot;
use crate::model::{host, labels::Labels};
use crate::projection::Outbound;
use crate::resource::Part;
use crate::to_xds::cluster::{self, ClusterOf};
use crate::to_xds::endpoint;
use crate::to_xds::filters::{self, FAULT, Routes, Side};
use crate::to_xds::route::{Found, Scope};
use crate::to_xds::virtual_host::{self, Built, Rules};

/// Everything that a client of this projection may dial.
pub(crate) fn outbound(snapshot: &Snapshot, projection: &Outbound, cache: &mut Cache) -> Part {
    let client = projection.client();
    let mut part = Part::default();
    let mut found = Found::default();
    let rules = Rules::new(snapshot.virtual_services(MESH_GATEWAY, client.namespace));
    let mut short: BTreeMap<String, Listener> = BTreeMap::new();
    let mut services: Vec<_> =
        snapshot.visible_services(client.namespace).filter(|service| !host::is_wildcard(&service.host)).collect();
    services.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
    for service in services {
        let destination = snapshot.destination(&service.host, Some(service), client);
        let subsets = destination.subsets();
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            for subset in std::iter::once(None).chain(subsets.iter().copied().map(Some)) {
                let of = ClusterOf { service, port, subset, destination: &destination };
                let Some((cluster, provenance)) = reduced_cluster(snapshot, &of) else { continue };
                if cluster.eds_cluster_config.is_some() {
                    cache.endpoints(&mut part, snapshot, &cluster.name, &of);
                }
                cache.cluster(&mut part, &cluster, Some(provenance));
            }
            let scope = Scope { snapshot, client, gateway: MESH_GATEWAY, port: port.number, is_tls: false };
            let routes = names::traffic::outbound_cluster(port.number, "", &service.host);
            let Built { mut host, provenance } = virtual_host::of_sniffed(&scope, &rules, service, port, &mut found);
            reduce_routes(&mut host);
            let configuration =
                RouteConfiguration { name: routes.clone(), virtual_hosts: vec![host], ..Default::default() };
            cache.whole_routes(&mut part, &configuration, provenance);
            let own = service.provenance();
            cache.listener(&mut part, &listener(&service.host, port.number, &routes, &own), Some(own.clone()));
            for name in virtual_host::short_names(service, &scope) {
                let listener = listener(&name, port.number, &routes, &own);
                short.entry(listener.name.clone()).or_insert(listener);
            }
        }
    }
    // A full name is its own service's, even if it is another one's short name.
    for (name, listener) in &short {
        if !part.listeners.contains_key(name.as_str()) {
            cache.listener(&mut part, listener, None);
        }
    }
    part.problems = found.problems.into_iter().collect();
    part
}

/// What a client asks for that dials `xds:///<name>:<port>`.
fn listener(name: &str, port: u16, routes: &str, provenance: &Provenance) -> Listener {
    let manager = filters::grpc(Routes::Named(routes.to_owned()), Side::Outbound);
    Listener {
        name: format!("{name}:{port}"),
        api_listener: Some(ApiListener { api_listener: Some(any::pack(&manager)) }),
        metadata: Some(provenance.metadata()),
        ..Default::default()
    }
}

/// What gRPC reads of a sidecar's cluster. `None` of what gRPC cannot reach as the rules say: calls to it fail.
fn reduced_cluster(snapshot: &Snapshot, of: &ClusterOf<'_>) -> Option<(Cluster, Provenance)> {
    let (whole, provenance) = cluster::outbound(snapshot, of);
    let policy = of.policy();
    let transport_socket = match policy.tls.map(|tls| (tls.mode, tls)) {
        None | Some((ClientTlsMode::Disable, _)) => None,
        Some((ClientTlsMode::IstioMutual, tls)) => Some(if tls.subject_alt_names.is_empty() {
            tls::client(&endpoint::identities(snapshot, of.service))
        } else {
            tls::client(&tls.subject_alt_names)
        }),
        // gRPC takes certificates from its bootstrap file only; plain text instead would be worse than nothing.
        Some((ClientTlsMode::Simple | ClientTlsMode::Mutual, _)) => return None,
    };
    if policy.load_balancer.and_then(|settings| settings.simple) == Some(SimpleLb::Passthrough) {
        return None;
    }
    let mut cluster = Cluster {
        name: whole.name,
        connect_timeout: whole.connect_timeout,
        metadata: whole.metadata,
        circuit_breakers: whole.circuit_breakers.as_ref().and_then(requests),
        transport_socket,
        ..Default::default()
    };
    let hashed = [i32::from(LbPolicy::RingHash), i32::from(LbPolicy::Maglev)].contains(&whole.lb_policy);
    cluster.lb_policy = if hashed { LbPolicy::RingHash } else { LbPolicy::RoundRobin }.into();
    cluster.lb_config = whole.lb_config.filter(|config| matches!(config, cds::LbConfig::RingHashLbConfig(_)));
    let kind = match of.service.resolution {
        // A headless service's endpoints are known too, and a client has no original destination.
        Resolution::Endpoints | Resolution::Headless => {
            cluster.eds_cluster_config =
                Some(EdsClusterConfig { eds_config: Some(xds::types::ads()), service_name: cluster.name.clone() });
            DiscoveryType::Eds
        }
        // gRPC resolves one name in a cluster.
        Resolution::Dns { .. } if is_one_name(snapshot, of, of.labels()) => {
            cluster.load_assignment = whole.load_assignment;
            DiscoveryType::LogicalDns
        }
        Resolution::Dns { .. } | Resolution::None => return None,
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
    Some((cluster, provenance))
}

fn is_one_name(snapshot: &Snapshot, of: &ClusterOf<'_>, labels: Option<&Labels>) -> bool {
    endpoint::of_port(snapshot, of.service, of.port, labels).count() == 1
}

/// Of all limits gRPC knows that of requests, under which "none" is 1024.
fn requests(all: &CircuitBreakers) -> Option<CircuitBreakers> {
    let max_requests = all.thresholds.first()?.max_requests;
    let thresholds = vec![circuit_breakers::Thresholds { max_requests, ..Default::default() }];
    Some(CircuitBreakers { thresholds, ..Default::default() })
}

/// Leaves what gRPC reads of routes.
fn reduce_routes(host: &mut VirtualHost) {
    host.include_request_attempt_count = false;
    for route in &mut host.routes {
        // gRPC refuses the configuration of a filter that it does not have.
        route.typed_per_filter_config.retain(|filter, _| filter == FAULT);
        let action = match route.action.take() {
            Some(Action::Route(action)) => Some(Action::Route(reduced_action(action))),
            other => other,
        };
        *route = Route {
            name: std::mem::take(&mut route.name),
            r#match: route.r#match.take(),
            action,
            metadata: route.metadata.take(),
            typed_per_filter_config: std::mem::take(&mut route.typed_per_filter_config),
            ..Default::default()
        };
    }
}

fn reduced_action(whole: RouteAction) -> RouteAction {
    RouteAction {
        cluster_specifier: whole.cluster_specifier,
        // The one bound that gRPC knows; zero is none.
        max_stream_duration: Some(MaxStreamDuration { max_stream_duration: whole.timeout, ..Default::default() }),
        retry_policy: whole.retry_policy.map(|policy| RetryPolicy {
            retry_on: policy.retry_on,
            num_retries: policy.num_retries,
            retry_back_off: policy.retry_back_off,
            ..Default::default()
        }),
        hash_policy: whole
            .hash_policy
            .into_iter()
            .filter(|policy| matches!(policy.policy_specifier, Some(PolicySpecifier::Header(_))))
            .collect(),
        ..Default::default()
    }
}
