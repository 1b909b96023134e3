//! The conversation, response by response.

use std::time::{Duration, Instant, SystemTime};

use engine::compile::{Proxy, Viewpoint};
use xds::{
    any::pack,
    type_url,
    types::{
        self, cluster,
        core::Node,
        discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
        endpoint, http_connection_manager as hcm, listener, route,
    },
};

use super::Session;

pub(crate) fn session() -> Session {
    let viewpoint = Viewpoint { namespace: "default".into(), domain: "cluster.local".into() };
    Session::new(
        Node { id: "sidecar~10.0.0.7~p.default~default.svc.cluster.local".into(), ..Node::default() },
        Proxy { gateway: false, viewpoint },
    )
}

pub(crate) fn resource<M: prost::Message + prost::Name>(name: &str, version: &str, message: &M) -> Resource {
    Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: Some(pack(message)),
        ..Resource::default()
    }
}

pub(crate) fn response(type_url: &str, nonce: &str, resources: Vec<Resource>) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        resources,
        ..DeltaDiscoveryResponse::default()
    }
}

pub(crate) fn eds_cluster(name: &str) -> Resource {
    let message = cluster::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(3)),
        ..Default::default()
    };
    resource(name, "1", &message)
}

pub(crate) fn endpoints(name: &str, addresses: &[&str]) -> Resource {
    let member = |address: &&str| endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(types::socket_address(*address, 9080)),
            ..Default::default()
        })),
        ..Default::default()
    };
    let group =
        endpoint::LocalityLbEndpoints { lb_endpoints: addresses.iter().map(member).collect(), ..Default::default() };
    let message =
        endpoint::ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: vec![group], ..Default::default() };
    resource(name, "1", &message)
}

pub(crate) fn http_listener(name: &str, routes: &str) -> Resource {
    let router = hcm::HttpFilter { name: "envoy.filters.http.router".into(), ..Default::default() };
    let rds = hcm::Rds { config_source: Some(types::ads()), route_config_name: routes.to_owned() };
    let manager = hcm::HttpConnectionManager {
        http_filters: vec![router],
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)),
        ..Default::default()
    };
    let filter = listener::Filter {
        name: "http".into(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack(&manager))),
    };
    let message = listener::Listener {
        name: name.to_owned(),
        address: Some(types::socket_address("0.0.0.0", 9080)),
        default_filter_chain: Some(listener::FilterChain { filters: vec![filter], ..Default::default() }),
        ..Default::default()
    };
    resource(name, "1", &message)
}

pub(crate) fn frame(name: &str) -> Resource {
    let vhds = Some(route::Vhds { config_source: Some(types::ads()) });
    resource(name, "1", &route::RouteConfiguration { name: name.to_owned(), vhds, ..Default::default() })
}

pub(crate) fn host(resource_name: &str, version: &str, domain: &str, to: &str) -> Resource {
    let specifier = route::route_action::ClusterSpecifier::Cluster(to.to_owned());
    let forward = route::RouteAction { cluster_specifier: Some(specifier), ..Default::default() };
    let matches = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    };
    let route = route::Route {
        r#match: Some(matches),
        action: Some(route::route::Action::Route(forward)),
        ..Default::default()
    };
    let message = route::VirtualHost {
        name: domain.to_owned(),
        domains: vec![domain.to_owned()],
        routes: vec![route],
        ..Default::default()
    };
    resource(resource_name, version, &message)
}

/// What a control plane sends at first, one response after the other.
pub(crate) fn first_configuration() -> Vec<DeltaDiscoveryResponse> {
    vec![
        response(type_url::CLUSTER, "1", vec![eds_cluster("a")]),
        response(type_url::ENDPOINTS, "2", vec![endpoints("a", &["10.0.0.1"])]),
        response(type_url::LISTENER, "3", vec![http_listener("l", "9080")]),
        response(type_url::ROUTES, "4", vec![frame("9080")]),
        response(type_url::VIRTUAL_HOST, "5", vec![host("9080/a", "1", "a", "a")]),
    ]
}

/// A request in one line.
pub(crate) fn line(request: &DeltaDiscoveryRequest) -> String {
    let mut words = vec![type_url::short(&request.type_url).to_owned()];
    if !request.response_nonce.is_empty() {
        words.push(if request.error_detail.is_some() { "nack" } else { "ack" }.to_owned());
        words.push(request.response_nonce.clone());
    }
    words.extend(request.resource_names_subscribe.iter().map(|name| format!("+{name}")));
    words.extend(request.resource_names_unsubscribe.iter().map(|name| format!("-{name}")));
    let mut have: Vec<_> = request.initial_resource_versions.iter().collect();
    have.sort();
    words.extend(have.into_iter().map(|(name, version)| format!("{name}={version}")));
    words.join(" ")
}

fn lines(requests: &[DeltaDiscoveryRequest]) -> Vec<String> {
    requests.iter().map(line).collect()
}

fn receive(session: &mut Session, response: &DeltaDiscoveryResponse) -> Vec<String> {
    lines(&session.receive(response.clone(), Instant::now(), SystemTime::UNIX_EPOCH))
}

#[test]
fn the_first_configuration_is_asked_for_step_by_step_and_published_whole() {
    let mut session = session();
    let requests = session.open();
    assert_eq!(lines(&requests), ["cds +*", "lds +*", "vhds +*"]);
    assert!(requests[0].node.is_some() && requests[1].node.is_none(), "the node comes with the first request");
    let now = Instant::now();
    let answers = [
        vec!["cds ack 1", "eds +a"],
        vec!["eds ack 2"],
        vec!["lds ack 3", "rds +9080"],
        vec!["rds ack 4"],
        vec!["vhds ack 5"],
    ];
    for (response, expected) in first_configuration().iter().zip(answers) {
        assert!(session.changes(now).is_empty(), "half a configuration before {expected:?}");
        assert_eq!(receive(&mut session, response), expected);
    }
    let changes = session.changes(now);
    assert_eq!(changes.endpoints.len(), 1);
    let snapshot = changes.snapshot.expect("whole");
    assert!(snapshot.listener("l").is_some() && snapshot.table("9080").is_some());
    assert!(session.is_settled());
    assert!(session.changes(now).is_empty());
}

#[test]
fn a_new_stream_says_what_there_is_already() {
    let mut session = session();
    session.open();
    for response in first_configuration() {
        receive(&mut session, &response);
    }
    assert_eq!(
        lines(&session.open()),
        ["cds +* a=1", "eds +a a=1", "lds +* l=1", "rds +9080 9080=1", "vhds +* 9080/a=1"]
    );
}

#[test]
fn what_nobody_names_any_more_is_let_go() {
    let mut session = session();
    session.open();
    for response in first_configuration() {
        receive(&mut session, &response);
    }
    let mut removal = response(type_url::CLUSTER, "6", vec![eds_cluster("b")]);
    removal.removed_resources = vec!["a".to_owned()];
    assert_eq!(receive(&mut session, &removal), ["cds ack 6", "eds +b -a"]);
    let mut removal = response(type_url::LISTENER, "7", vec![]);
    removal.removed_resources = vec!["l".to_owned()];
    assert_eq!(receive(&mut session, &removal), ["lds ack 7", "rds -9080"]);
    assert_eq!(lines(&session.open()), ["cds +* b=1", "eds +b", "lds +*", "vhds +* 9080/a=1"]);
}

#[test]
fn a_refused_version_is_said_and_not_remembered() {
    let mut session = session();
    session.open();
    for response in first_configuration() {
        receive(&mut session, &response);
    }
    let now = Instant::now();
    session.changes(now);
    let broken = host("9080/a", "2", "a", "");
    let update = response(type_url::VIRTUAL_HOST, "8", vec![broken, host("9080/b", "1", "b", "a")]);
    let requests = session.receive(update, now, SystemTime::UNIX_EPOCH);
    assert_eq!(lines(&requests), ["vhds nack 8"]);
    let detail = requests[0].error_detail.as_ref().expect("a NACK");
    assert_eq!(detail.message, "VirtualHost \"9080/a\": routes[0].route.cluster: is missing");
    assert!(session.changes(now).snapshot.is_some(), "the other host is taken");
    let open = lines(&session.open());
    assert_eq!(open.last().map(String::as_str), Some("vhds +* 9080/a=1 9080/b=1"), "the good version is still held");
    let held = session.held().kind(type_url::VIRTUAL_HOST).find(|(name, _)| *name == "9080/a").expect("held").1;
    assert_eq!(held.refused.as_ref().map(|refused| refused.version.as_str()), Some("2"));
    assert_eq!((session.counts().accepted, session.counts().refused), (5, 1));
}

#[test]
fn a_control_plane_that_owes_something_does_not_hold_up_for_ever() {
    let mut session = session();
    session.open();
    session.settle();
    assert!(!session.is_settled(), "without listeners there is nothing to serve");
    for response in &first_configuration()[..3] {
        receive(&mut session, response);
    }
    assert!(session.changes(Instant::now()).is_empty());
    session.settle();
    assert!(session.changes(Instant::now() + Duration::from_secs(15)).snapshot.is_some());
}

#[test]
fn absence_is_an_answer_and_nothing_is_a_configuration() {
    let mut session = session();
    session.open();
    receive(&mut session, &response(type_url::CLUSTER, "1", vec![eds_cluster("a")]));
    let mut absent = response(type_url::ENDPOINTS, "2", vec![]);
    absent.removed_resources = vec!["a".to_owned()];
    receive(&mut session, &absent);
    receive(&mut session, &response(type_url::LISTENER, "3", vec![]));
    assert!(session.changes(Instant::now()).is_empty());
    receive(&mut session, &response(type_url::VIRTUAL_HOST, "4", vec![]));
    assert!(session.changes(Instant::now()).snapshot.is_some(), "a gateway without servers has a configuration too");
}
