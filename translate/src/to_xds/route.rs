//! The routes of a VirtualService for one port, as one client or gateway sees them.

use std::collections::BTreeSet;

use crds::networking::destination_rule::{ConsistentHashLb, LoadBalancerSettings};
use crds::networking::virtual_service::{
    Destination as To, HttpMatchRequest, HttpRoute, HttpRouteDestination, Percent,
};
use xds::any;
use xds::types::route::route::Action;
use xds::types::route::route_action::{ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy};
use xds::types::route::{Decorator, Route, RouteAction, WeightedCluster, weighted_cluster};
use xds::types::{boolean, core, matcher, uint32};

use super::filters::{CORS, FAULT, share};
use super::headers::{self, Operations};
use super::{fault, route_action, route_match};
use crate::model::labels;
use crate::model::policy::Client;
use crate::model::rule::VirtualService;
use crate::model::service::{Service, ServicePort};
use crate::model::snapshot::Snapshot;
use crate::problem::{Problem, Reason};

/// The route of requests that no rule says anything about.
pub(crate) const DEFAULT_ROUTE: &str = "default";

/// Whose routes these are.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) client: Client<'a>,
    /// `mesh`, or the gateway's `namespace/name`.
    pub(crate) gateway: &'a str,
    /// The port that requests are sent to.
    pub(crate) port: u16,
    /// Whether the proxy terminates TLS on it.
    pub(crate) is_tls: bool,
}

/// What was found on the way.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) problems: BTreeSet<Problem>,
    /// The clusters that routes lead to: host, port, subset.
    pub(crate) clusters: BTreeSet<(String, u16, String)>,
}

/// The route that is being translated.
pub(crate) struct Place<'a> {
    pub(crate) rule: &'a VirtualService,
    /// Its index in `spec.http`.
    pub(crate) index: usize,
}

impl Found {
    pub(crate) fn problem(&mut self, place: &Place<'_>, reason: Reason, field: &str, message: impl Into<String>) {
        let field = format!("spec.http[{}].{field}", place.index);
        self.problems.insert(Problem::of(place.rule, reason, field, message));
    }
}

/// The routes of a rule, in the rule's order. None if the rule has nothing for this port, client or gateway.
pub(crate) fn of_rule(scope: &Scope<'_>, rule: &VirtualService, found: &mut Found) -> Vec<Route> {
    let mut routes = Vec::new();
    'rule: for (index, http) in rule.spec.http.iter().enumerate() {
        let place = Place { rule, index };
        if http.matches.is_empty() {
            routes.extend(translate(scope, &place, http, None, found));
            break;
        }
        for (position, asked) in http.matches.iter().enumerate() {
            if !applies(scope, asked) {
                continue;
            }
            let Some(route) = translate(scope, &place, http, Some((position, asked)), found) else { continue };
            let is_last = route.r#match.as_ref().is_some_and(route_match::is_catch_all);
            routes.push(route);
            if is_last {
                break 'rule;
            }
        }
    }
    routes
}

/// Whether a match is about this port, gateway and client at all.
fn applies(scope: &Scope<'_>, asked: &HttpMatchRequest) -> bool {
    if asked.port != 0 && asked.port != u32::from(scope.port) {
        return false;
    }
    if !asked.gateways.is_empty() {
        return asked.gateways.iter().any(|gateway| gateway == scope.gateway);
    }
    let client = &scope.client;
    labels::subset_of(&asked.source_labels, client.labels)
        && (asked.source_namespace.is_empty() || asked.source_namespace == client.namespace)
}

fn translate(
    scope: &Scope<'_>,
    place: &Place<'_>,
    http: &HttpRoute,
    asked: Option<(usize, &HttpMatchRequest)>,
    found: &mut Found,
) -> Option<Route> {
    let mut name = http.name.clone();
    let mut field = format!("spec.http[{}]", place.index);
    if let Some((position, asked)) = asked {
        if !asked.name.is_empty() {
            name = format!("{name}.{}", asked.name);
        }
        field = format!("{field}.match[{position}]");
    }
    let operations = headers::operations(http.headers.as_ref());
    let mut route = Route {
        name: if name.is_empty() { DEFAULT_ROUTE.to_owned() } else { name },
        r#match: Some(asked.map_or_else(route_match::everything, |(_, asked)| route_match::of(asked))),
        metadata: Some(place.rule.provenance().at(field).metadata()),
        stat_prefix: asked.map(|(_, asked)| asked.stat_prefix.clone()).unwrap_or_default(),
        ..Default::default()
    };
    add_headers(&mut route, &operations);
    route.action = Some(if let Some(redirect) = &http.redirect {
        route_action::redirect(redirect, scope.port, scope.is_tls, place, found)?
    } else if let Some(response) = &http.direct_response {
        route_action::direct_response(response, place, found)
    } else if http.delegate.is_some() {
        let message = "delegation is not translated yet: the route is left out; write the delegate's routes here";
        found.problem(place, Reason::Unsupported, "delegate", message);
        return None;
    } else {
        Action::Route(forward(scope, place, http, &mut route, operations.authority, found))
    });
    route.decorator = Some(Decorator { operation: operation(&route, scope, place), ..Default::default() });
    if let Some(injected) = http.fault.as_ref().and_then(|asked| fault::of(asked, place, found)) {
        route.typed_per_filter_config.insert(FAULT.to_owned(), any::pack(&injected));
    }
    if let Some(cors) = &http.cors_policy {
        route.typed_per_filter_config.insert(CORS.to_owned(), any::pack(&route_action::cors(cors)));
    }
    Some(route)
}

fn add_headers(route: &mut Route, operations: &Operations) {
    route.request_headers_to_add.extend_from_slice(&operations.request_add);
    route.request_headers_to_remove.extend_from_slice(&operations.request_remove);
    route.response_headers_to_add.extend_from_slice(&operations.response_add);
    route.response_headers_to_remove.extend_from_slice(&operations.response_remove);
}

/// What a span of this route is called: where it leads if that is one place, else the rule.
fn operation(route: &Route, scope: &Scope<'_>, place: &Place<'_>) -> String {
    use xds::types::route::route_match::PathSpecifier;
    let path = match route.r#match.as_ref().and_then(|of| of.path_specifier.as_ref()) {
        Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex.clone(),
        _ => "/*".to_owned(),
    };
    if let Some(Action::Route(RouteAction { cluster_specifier: Some(ClusterSpecifier::Cluster(name)), .. })) =
        &route.action
        && let Some(cluster) = names::traffic::parse_outbound_cluster(name)
    {
        return format!("{}:{}{path}", cluster.host, cluster.port);
    }
    format!("{}:{}{path}", place.rule.name, scope.port)
}

/// Sends requests on.
fn forward(
    scope: &Scope<'_>,
    place: &Place<'_>,
    http: &HttpRoute,
    route: &mut Route,
    mut authority: Option<String>,
    found: &mut Found,
) -> RouteAction {
    let mut action = RouteAction::default();
    route_action::set_timeout(&mut action, http.timeout);
    if let Some(rewrite) = &http.rewrite {
        if let Some(regex) = &rewrite.uri_regex_rewrite {
            action.regex_rewrite = Some(matcher::RegexMatchAndSubstitute {
                pattern: Some(route_match::regex(&regex.pattern)),
                substitution: regex.rewrite.clone(),
            });
        } else {
            action.prefix_rewrite.clone_from(&rewrite.uri);
        }
        if !rewrite.authority.is_empty() {
            authority = Some(rewrite.authority.clone());
        }
    }
    let mut hashed = false;
    if let [only] = http.route.as_slice() {
        let cluster = destination(scope, place, &only.destination, "route[0].destination", found);
        let operations = headers::operations(only.headers.as_ref());
        add_headers(route, &operations);
        // The whole route's rewrite stands above that of a destination.
        authority = authority.or(operations.authority);
        action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster));
        hashed = add_hash(scope, only, &mut action);
    } else {
        let mut clusters = Vec::new();
        for (position, to) in http.route.iter().enumerate() {
            let Some(weight) = u32::try_from(to.weight).ok().filter(|weight| *weight > 0) else { continue };
            let field = format!("route[{position}].destination");
            let name = destination(scope, place, &to.destination, &field, found);
            let operations = headers::operations(to.headers.as_ref());
            clusters.push(weighted_cluster::ClusterWeight {
                name,
                weight: Some(uint32(weight)),
                request_headers_to_add: operations.request_add,
                request_headers_to_remove: operations.request_remove,
                response_headers_to_add: operations.response_add,
                response_headers_to_remove: operations.response_remove,
                host_rewrite_specifier: operations
                    .authority
                    .map(weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
                ..Default::default()
            });
            hashed |= add_hash(scope, to, &mut action);
        }
        if clusters.is_empty() {
            let message = "no destination has a weight: requests are answered with 503";
            found.problem(place, Reason::Invalid, "route", message);
            action.cluster_specifier = Some(ClusterSpecifier::Cluster(names::traffic::BLACK_HOLE.to_owned()));
        } else {
            let weighted = WeightedCluster { clusters, ..Default::default() };
            action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(weighted));
        }
    }
    action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
    action.request_mirror_policies = mirrors(scope, place, http, found);
    let of_mesh = scope.snapshot.mesh.config.default_http_retry_policy.as_ref();
    action.retry_policy = route_action::retries(http.retries.as_ref().or(of_mesh), hashed);
    action
}

/// The cluster of a destination. It may not exist: the route stays, requests get 503, and the rule's author is told.
fn destination(scope: &Scope<'_>, place: &Place<'_>, to: &To, field: &str, found: &mut Found) -> String {
    let service = scope.snapshot.service(&to.host, scope.client.namespace);
    let declared = to.port.as_ref().and_then(|port| u16::try_from(port.number).ok()).filter(|port| *port > 0);
    let port = declared.or_else(|| match service.map(|service| service.ports.as_slice()) {
        Some([only]) => Some(only.number),
        _ => None,
    });
    let port = port.unwrap_or(scope.port);
    match service {
        None => {
            let message = format!(
                "no service {} is known in namespace {}: requests are answered with 503; write the full name \
                 (name.namespace.svc.domain) if it is in another namespace, or add a ServiceEntry",
                to.host, scope.client.namespace
            );
            found.problem(place, Reason::MissingHost, &format!("{field}.host"), message);
        }
        Some(service) if service.port(port).is_none() => {
            let message = format!("service {} has no port {port}: requests are answered with 503", to.host);
            found.problem(place, Reason::MissingPort, &format!("{field}.port"), message);
        }
        Some(service) if !to.subset.is_empty() => {
            let rules = scope.snapshot.destination(&to.host, Some(service), scope.client);
            if rules.subset(&to.subset).is_none() {
                let message = format!(
                    "no DestinationRule for {} defines subset {}: requests are answered with 503; add the subset to \
                     the host's DestinationRule",
                    to.host, to.subset
                );
                found.problem(place, Reason::MissingSubset, &format!("{field}.subset"), message);
            }
        }
        Some(_) => {}
    }
    found.clusters.insert((to.host.clone(), port, to.subset.clone()));
    names::traffic::outbound_cluster(port, &to.subset, &to.host)
}

fn mirrors(scope: &Scope<'_>, place: &Place<'_>, http: &HttpRoute, found: &mut Found) -> Vec<RequestMirrorPolicy> {
    let deprecated = http.mirror_percent.or(http.mirror_percent_deprecated).map(f64::from);
    let one = http.mirror.iter().map(|to| {
        let percent = http.mirror_percentage.as_ref().map(|percent| percent.value).or(deprecated);
        (to, percent.unwrap_or(100.0), "mirror".to_owned())
    });
    let all = |percent: Option<&Percent>| percent.map_or(100.0, |percent| percent.value);
    let many = http.mirrors.iter().enumerate().map(|(position, mirror)| {
        (&mirror.destination, all(mirror.percentage.as_ref()), format!("mirrors[{position}].destination"))
    });
    let mut policies = Vec::new();
    for (to, percent, field) in one.chain(many) {
        if percent > 0.0 {
            policies.push(RequestMirrorPolicy {
                cluster: destination(scope, place, to, &field, found),
                runtime_fraction: Some(core::RuntimeFractionalPercent {
                    default_value: Some(share(percent)),
                    ..Default::default()
                }),
                trace_sampled: Some(boolean(false)),
                ..Default::default()
            });
        }
    }
    policies
}

/// Adds what requests to a destination are hashed by. Whether there is anything.
fn add_hash(scope: &Scope<'_>, to: &HttpRouteDestination, action: &mut RouteAction) -> bool {
    let to = &to.destination;
    let service = scope.snapshot.service(&to.host, scope.client.namespace);
    let rules = scope.snapshot.destination(&to.host, service.map(|it| &**it), scope.client);
    let port = to.port.as_ref().and_then(|port| u16::try_from(port.number).ok()).unwrap_or(scope.port);
    let subset = rules.subset(&to.subset);
    let hash = consistent_hash(rules.policy(port, subset).load_balancer);
    let policy = hash.and_then(route_action::hash_policy);
    let is_hashed = policy.is_some();
    action.hash_policy.extend(policy);
    is_hashed
}

fn consistent_hash(settings: Option<&LoadBalancerSettings>) -> Option<&ConsistentHashLb> {
    settings?.consistent_hash.as_ref()
}

/// The one route of a service that no rule says anything about.
pub(crate) fn of_service(scope: &Scope<'_>, service: &Service, port: &ServicePort) -> Route {
    let cluster = names::traffic::outbound_cluster(port.number, "", &service.host);
    let rules = scope.snapshot.destination(&service.host, Some(service), scope.client);
    let hash = consistent_hash(rules.policy(port.number, None).load_balancer).and_then(route_action::hash_policy);
    let of_mesh = scope.snapshot.mesh.config.default_http_retry_policy.as_ref();
    let mut action = RouteAction {
        retry_policy: route_action::retries(of_mesh, hash.is_some()),
        hash_policy: hash.into_iter().collect(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        ..Default::default()
    };
    route_action::set_timeout(&mut action, None);
    Route {
        name: DEFAULT_ROUTE.to_owned(),
        r#match: Some(route_match::everything()),
        metadata: Some(service.provenance().metadata()),
        decorator: Some(Decorator { operation: format!("{}:{}/*", service.host, port.number), ..Default::default() }),
        action: Some(Action::Route(action)),
        ..Default::default()
    }
}
