//! Which virtual hosts a sidecar's route configurations have, and under which domains.
//!
//! A service's virtual host has the routes of the one VirtualService that counts for its host: of those that name the
//! host itself the oldest, else of those with a wildcard the most specific, else its own default route. Hosts of
//! VirtualServices that no service has get a virtual host too: on the ports of the rule's other hosts, or on port 80.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use xds::provenance::Provenance;
use xds::types::route::route::Action;
use xds::types::route::route_action::ClusterSpecifier;
use xds::types::route::{DirectResponseAction, Route, RouteAction, VirtualHost};

use super::route::{self, Found, Scope};
use super::{route_action, route_match};
use crate::model::host;
use crate::model::rule::VirtualService;
use crate::model::service::{Service, ServicePort};

/// A virtual host and where it came from.
pub(crate) struct Built {
    pub(crate) host: VirtualHost,
    pub(crate) provenance: Option<Provenance>,
}

/// The VirtualServices of the mesh, by host.
pub(crate) struct Rules<'a> {
    exact: HashMap<&'a str, Vec<&'a Arc<VirtualService>>>,
    /// The most specific first; of equal ones, in the order in which they count.
    wildcard: Vec<(&'a str, &'a Arc<VirtualService>)>,
    all: Vec<&'a Arc<VirtualService>>,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(rules: impl Iterator<Item = &'a Arc<VirtualService>>) -> Self {
        let mut this = Self { exact: HashMap::new(), wildcard: Vec::new(), all: rules.collect() };
        for rule in &this.all {
            for of in &rule.spec.hosts {
                if host::is_wildcard(of) {
                    this.wildcard.push((of, rule));
                } else {
                    this.exact.entry(of).or_default().push(rule);
                }
            }
        }
        this.wildcard.sort_by(|(a, _), (b, _)| host::by_specificity(a, b));
        this
    }

    /// The rules that may count for a host, in the order in which they do.
    fn candidates(&self, of: &str) -> impl Iterator<Item = &'a Arc<VirtualService>> {
        let exact = self.exact.get(of).into_iter().flatten().copied();
        let covers = |(pattern, _): &&(&str, _)| host::subset_of(of, pattern);
        let wildcard: Vec<_> = self.wildcard.iter().filter(covers).map(|(_, rule)| *rule).collect();
        exact.chain(wildcard)
    }
}

/// Routes by rule: those of one rule are the same for all its hosts on a port.
pub(crate) struct RuleRoutes<'a, 's> {
    scope: &'s Scope<'a>,
    by_rule: HashMap<*const VirtualService, Vec<Route>>,
}

impl<'a, 's> RuleRoutes<'a, 's> {
    pub(crate) fn new(scope: &'s Scope<'a>) -> Self {
        Self { scope, by_rule: HashMap::new() }
    }

    fn of(&mut self, rule: &Arc<VirtualService>, found: &mut Found) -> &[Route] {
        let scope = self.scope;
        self.by_rule.entry(Arc::as_ptr(rule)).or_insert_with(|| route::of_rule(scope, rule, found))
    }

    /// The routes for a service's host, and where they came from.
    fn for_service(
        &mut self,
        rules: &Rules<'_>,
        service: &Service,
        port: &ServicePort,
        found: &mut Found,
    ) -> (Vec<Route>, Provenance) {
        for rule in rules.candidates(&service.host) {
            let routes = self.of(rule, found);
            if !routes.is_empty() {
                return (routes.to_vec(), rule.provenance());
            }
        }
        (vec![route::of_service(self.scope, service, port)], service.provenance())
    }
}

/// The virtual hosts of route configuration `<port>`.
pub(crate) fn of_port(
    scope: &Scope<'_>,
    rules: &Rules<'_>,
    services: &[(&Arc<Service>, &ServicePort)],
    client_names: ClientNames,
    found: &mut Found,
) -> Vec<Built> {
    let mut routes = RuleRoutes::new(scope);
    let mut hosts: BTreeMap<String, Built> = BTreeMap::new();
    for (service, port) in services {
        let (routes, provenance) = routes.for_service(rules, service, port, found);
        let domains = service_domains(service, scope, client_names);
        hosts.insert(service.host.clone(), build(&service.host, scope.port, domains, routes, Some(provenance)));
    }
    let on_port: BTreeSet<&str> = services.iter().map(|(service, _)| service.host.as_str()).collect();
    for rule in &rules.all {
        for of in hosts_of_no_service(scope, rule, &on_port) {
            // The oldest rule has the host.
            if hosts.contains_key(of) {
                continue;
            }
            let routes = routes.of(rule, found).to_vec();
            if !routes.is_empty() {
                let domains = vec![of.to_owned()];
                hosts.insert(of.to_owned(), build(of, scope.port, domains, routes, Some(rule.provenance())));
            }
        }
    }
    let mut built: Vec<_> = hosts.into_values().collect();
    drop_duplicate_domains(&mut built);
    built.push(catch_all(scope));
    built
}

/// The hosts of a rule that no service has, if the rule is about this port.
fn hosts_of_no_service<'r>(scope: &Scope<'_>, rule: &'r VirtualService, on_port: &BTreeSet<&str>) -> Vec<&'r str> {
    let snapshot = scope.snapshot;
    let namespace = scope.client.namespace;
    let covered = |of: &str| {
        if host::is_wildcard(of) {
            snapshot.visible_services(namespace).any(|service| host::matches(&service.host, of))
        } else {
            snapshot.service(of, namespace).is_some()
        }
    };
    let (with_service, without): (Vec<&str>, Vec<&str>) =
        rule.spec.hosts.iter().map(String::as_str).partition(|of| covered(of));
    let here = if with_service.is_empty() {
        scope.port == 80
    } else {
        let is_here = |of: &&str| {
            if host::is_wildcard(of) {
                on_port.iter().any(|service| host::subset_of(service, of))
            } else {
                on_port.contains(of)
            }
        };
        with_service.iter().any(is_here)
    };
    if here { without } else { Vec::new() }
}

/// The one virtual host of a sniffed port's route configuration, `<host>:<port>`.
pub(crate) fn of_sniffed(
    scope: &Scope<'_>,
    rules: &Rules<'_>,
    service: &Service,
    port: &ServicePort,
    found: &mut Found,
) -> Built {
    let (routes, provenance) = RuleRoutes::new(scope).for_service(rules, service, port, found);
    build(&service.host, scope.port, vec!["*".to_owned()], routes, Some(provenance))
}

fn build(host: &str, port: u16, domains: Vec<String>, routes: Vec<Route>, provenance: Option<Provenance>) -> Built {
    let host = VirtualHost {
        name: format!("{host}:{port}"),
        domains,
        routes,
        include_request_attempt_count: true,
        metadata: provenance.as_ref().map(Provenance::metadata),
        ..Default::default()
    };
    Built { host, provenance }
}

/// Whether short names are written out, as a client without expansion of its own (Envoy) needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientNames {
    /// The proxy adds them.
    Expanded,
    /// They are part of the configuration.
    Written,
}

/// The names of a service of the cluster that search domains make whole.
pub(crate) fn short_names(service: &Service, scope: &Scope<'_>) -> Vec<String> {
    let local = service.host.strip_suffix(scope.snapshot.mesh.cluster_domain.as_str());
    let Some(short) = local.and_then(|local| local.strip_suffix(".svc.")) else { return Vec::new() };
    let mut names = Vec::new();
    if service.namespace == scope.client.namespace {
        names.push(service.name.clone());
    }
    names.push(format!("{short}.svc"));
    names.push(short.to_owned());
    names
}

/// The names by which clients may call a service. Ports are left out: the route configuration ignores them.
fn service_domains(service: &Service, scope: &Scope<'_>, client_names: ClientNames) -> Vec<String> {
    let mut names = vec![service.host.clone()];
    if !host::is_wildcard(&service.host) {
        names.push(format!("{}.", service.host));
    }
    if client_names == ClientNames::Written {
        names.extend(short_names(service, scope));
    }
    if service.is_headless() {
        // Each of its pods has a name below the service's.
        let below: Vec<_> = names.iter().map(|name| format!("*.{name}")).collect();
        names.extend(below);
    }
    names.extend(service.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }));
    names
}

/// Envoy refuses a route configuration in which a domain occurs twice; the first host has it.
fn drop_duplicate_domains(hosts: &mut Vec<Built>) {
    let mut seen = BTreeSet::new();
    // A full name is its own host's, even if it is another one's short name.
    let full: BTreeSet<String> = hosts.iter().filter_map(|of| of.host.domains.first().cloned()).collect();
    hosts.retain_mut(|of| {
        let mut first = true;
        of.host.domains.retain(|domain| {
            let own = std::mem::replace(&mut first, false);
            (own || !full.contains(domain)) && seen.insert(domain.clone())
        });
        !of.host.domains.is_empty()
    });
}

/// What happens to requests for hosts that the mesh does not know.
pub(crate) fn catch_all(scope: &Scope<'_>) -> Built {
    use crds::meshconfig::OutboundTrafficMode;
    let refuses = scope.snapshot.mesh.config.outbound_traffic_policy.mode == OutboundTrafficMode::RegistryOnly;
    let (name, action) = if refuses {
        let response = DirectResponseAction { status: 502, ..Default::default() };
        (names::traffic::BLOCK_ALL, Action::DirectResponse(response))
    } else {
        let mut action = RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(names::traffic::PASSTHROUGH.to_owned())),
            ..Default::default()
        };
        route_action::set_timeout(&mut action, None);
        (names::traffic::ALLOW_ANY, Action::Route(action))
    };
    let route = Route {
        name: name.to_owned(),
        r#match: Some(route_match::everything()),
        action: Some(action),
        ..Default::default()
    };
    let host = VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        include_request_attempt_count: true,
        ..Default::default()
    };
    Built { host, provenance: None }
}
