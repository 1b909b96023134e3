//! What a sidecar pays for each service of its mesh, although it speaks to few of them. Counted, not timed.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use engine::ir::cluster::UpstreamHttp;
use prost::Message;
use tokio::sync::watch;
use xds::{
    any::pack,
    peer::PeerMetadata,
    provenance::Provenance,
    service::{self, ServiceName},
    type_url,
    types::{
        self, cluster, core,
        discovery::{DeltaDiscoveryResponse, Resource},
        endpoint, google, route, upstream_http,
    },
    workload::{Workload, endpoint_metadata},
};

use super::{
    publish::Publisher,
    session::tests::{frame, http_listener, resource, response, session},
};
use crate::{
    net::Net,
    telemetry::istio::Registry,
    workers::{Parts, Worker},
};

const SERVICES: u32 = 1000;
/// For each service: its messages as they came, all that is compiled of it and all that a worker keeps of it, in bytes.
const MOST: u64 = 3200;

fn provenance(index: u32) -> core::Metadata {
    Provenance::of_object("Service", &namespace(index), &format!("service-{index}")).metadata()
}

fn namespace(index: u32) -> String {
    format!("team-{}", index / 50)
}

fn host(index: u32) -> String {
    format!("service-{index}.{}.svc.cluster.local", namespace(index))
}

fn cluster_name(index: u32) -> String {
    names::traffic::outbound_cluster(8080, "", &host(index))
}

fn a_cluster(index: u32) -> Resource {
    let mut metadata = provenance(index);
    let name = ServiceName { host: host(index), name: format!("service-{index}"), namespace: namespace(index) };
    service::write([&name], &mut metadata);
    let mut message = cluster::Cluster {
        name: cluster_name(index),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(3)),
        eds_cluster_config: Some(cluster::cluster::EdsClusterConfig {
            eds_config: Some(types::ads()),
            service_name: cluster_name(index),
        }),
        connect_timeout: Some(google::Duration { seconds: 10, nanos: 0 }),
        lb_policy: cluster::cluster::LbPolicy::LeastRequest.into(),
        metadata: Some(metadata),
        ..Default::default()
    };
    let downstream = upstream_http::http_protocol_options::UseDownstreamHttpConfig::default();
    let options = upstream_http::HttpProtocolOptions {
        upstream_protocol_options: Some(
            upstream_http::http_protocol_options::UpstreamProtocolOptions::UseDownstreamProtocolConfig(downstream),
        ),
        ..Default::default()
    };
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    message.typed_extension_protocol_options.insert(key.to_owned(), pack(&options));
    resource(&cluster_name(index), "1", &message)
}

fn two_endpoints(index: u32) -> Resource {
    let workload = Workload {
        name: format!("service-{index}-v1"),
        namespace: namespace(index),
        canonical_name: format!("service-{index}"),
        canonical_revision: "v1".into(),
        cluster: "Kubernetes".into(),
    };
    let member = |last: u32| endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(types::socket_address(format!("10.{}.{}.{last}", index / 250, index % 250), 8080)),
            ..Default::default()
        })),
        metadata: Some(endpoint_metadata(&workload, true)),
        load_balancing_weight: Some(types::uint32(1)),
        ..Default::default()
    };
    let group = endpoint::LocalityLbEndpoints { lb_endpoints: vec![member(1), member(2)], ..Default::default() };
    let message = endpoint::ClusterLoadAssignment {
        cluster_name: cluster_name(index),
        endpoints: vec![group],
        ..Default::default()
    };
    resource(&cluster_name(index), "1", &message)
}

fn a_host(index: u32) -> Resource {
    let predicate = route::retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".into(),
        ..Default::default()
    };
    let retries = route::RetryPolicy {
        retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes".into(),
        num_retries: Some(types::uint32(2)),
        retry_host_predicate: vec![predicate],
        host_selection_retry_max_attempts: 5,
        retriable_status_codes: vec![503],
        ..Default::default()
    };
    let forward = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(cluster_name(index))),
        timeout: Some(google::Duration::default()),
        retry_policy: Some(retries),
        ..Default::default()
    };
    let matches = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    };
    let route = route::Route {
        name: "default".into(),
        r#match: Some(matches),
        action: Some(route::route::Action::Route(forward)),
        decorator: Some(route::Decorator { operation: format!("{}:8080/*", host(index)), ..Default::default() }),
        metadata: Some(provenance(index)),
        ..Default::default()
    };
    let message = route::VirtualHost {
        name: format!("{}:8080", host(index)),
        domains: vec![host(index), format!("10.96.{}.{}", index / 250, index % 250)],
        routes: vec![route],
        include_request_attempt_count: true,
        metadata: Some(provenance(index)),
        ..Default::default()
    };
    resource(&format!("8080/{}", host(index)), "1", &message)
}

/// A first configuration as it comes over the wire, and how large its messages are.
fn configuration() -> (Vec<Vec<u8>>, u64) {
    let all = |make: fn(u32) -> Resource| (0..SERVICES).map(make).collect::<Vec<_>>();
    let responses = [
        response(type_url::CLUSTER, "1", all(a_cluster)),
        response(type_url::ENDPOINTS, "2", all(two_endpoints)),
        response(type_url::LISTENER, "3", vec![http_listener("l", "8080")]),
        response(type_url::ROUTES, "4", vec![frame("8080")]),
        response(type_url::VIRTUAL_HOST, "5", all(a_host)),
    ];
    let size = |resource: &Resource| resource.resource.as_ref().map_or(0, |any| any.value.len() as u64);
    let messages = responses.iter().flat_map(|response| &response.resources).map(size).sum();
    (responses.iter().map(Message::encode_to_vec).collect(), messages)
}

#[test]
fn a_service_takes_little_memory_and_loading_little_more() {
    let (encoded, messages) = configuration();
    let registry = Registry::new(1);
    let (_identity, identity) = watch::channel(None);
    let worker = Worker::new(Parts {
        net: Net::Host,
        metadata: PeerMetadata::default(),
        node_id: String::new(),
        identity,
        series: registry.workers[0].clone(),
        shared: Arc::default(),
        log_writer: std::sync::mpsc::sync_channel(1).0,
        seed: 1,
    });
    let publisher = Publisher::new();
    let mut updates = publisher.subscribe();
    let mut session = session();
    session.open();
    let mut changes = None;
    let mut tell = || {
        for response in &encoded {
            let response = DeltaDiscoveryResponse::decode(response.as_slice()).unwrap();
            session.receive(response, Instant::now(), SystemTime::UNIX_EPOCH);
        }
        changes = Some(session.changes(Instant::now()));
    };
    let compiled = allocation_counter::measure(&mut tell);
    let changes = changes.unwrap();
    let kept = allocation_counter::measure(|| {
        for (cluster, set) in changes.endpoints {
            publisher.endpoints(cluster, set);
        }
        publisher.snapshot(changes.snapshot.unwrap());
        while let Some(update) = updates.try_next() {
            worker.apply(update);
        }
    });
    let all = u64::try_from(compiled.bytes_current + kept.bytes_current).unwrap();
    let each = all / u64::from(SERVICES);
    let (sent, peak) = (messages / u64::from(SERVICES), compiled.bytes_max);
    println!("a service: {each} bytes, of messages of {sent}; all {all}, while loading {peak}");
    assert!(each <= MOST, "{each} bytes");
    assert!(peak <= 2 * all, "{peak} while loading, {all} afterwards");

    let state = worker.clusters.get(&cluster_name(7)).unwrap();
    assert_eq!(state.config().settings.http, UpstreamHttp::UseDownstream);
    assert!(state.pick(1, None, &[], 0, None).is_ok(), "what costs nothing is there when it is used");
}
