//! Bookinfo as the control plane sends it to the sidecar of productpage, in namespace `default`.
#![allow(dead_code)] // each test program uses its own part

use std::time::Instant;

use forestay_engine::{
    Snapshot, Store,
    compile::{Proxy, Viewpoint},
};
use xds::{
    any::pack,
    provenance::Provenance,
    service::{self, ServiceName},
    type_url,
    types::{
        self, cluster, core, discovery::Resource, endpoint, fault, fault_common, google,
        http_connection_manager as hcm, listener, matcher, route, tcp_proxy, tls,
    },
    workload::{Workload, endpoint_metadata},
};

pub(crate) fn proxy() -> Proxy {
    Proxy { gateway: false, viewpoint: Viewpoint { namespace: "default".into(), domain: "cluster.local".into() } }
}

pub(crate) fn resource<M: prost::Message + prost::Name>(name: &str, message: &M) -> Resource {
    Resource { name: name.to_owned(), version: "1".to_owned(), resource: Some(pack(message)), ..Resource::default() }
}

pub(crate) fn fqdn(service: &str) -> String {
    format!("{service}.default.svc.cluster.local")
}

pub(crate) fn prefix(path: &str) -> route::RouteMatch {
    let path_specifier = Some(route::route_match::PathSpecifier::Prefix(path.to_owned()));
    route::RouteMatch { path_specifier, ..Default::default() }
}

pub(crate) fn header(name: &str, value: &str) -> route::HeaderMatcher {
    let pattern = matcher::string_matcher::MatchPattern::Exact(value.to_owned());
    let matcher = matcher::StringMatcher { match_pattern: Some(pattern), ignore_case: false };
    route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(route::header_matcher::HeaderMatchSpecifier::StringMatch(matcher)),
        ..Default::default()
    }
}

/// A route to clusters of reviews by subset and weight.
pub(crate) fn forward(name: &str, matches: route::RouteMatch, clusters: &[(&str, u32)]) -> route::Route {
    let members = clusters.iter().map(|(name, weight)| route::weighted_cluster::ClusterWeight {
        name: (*name).to_owned(),
        weight: Some(types::uint32(*weight)),
        ..Default::default()
    });
    let specifier = route::route_action::ClusterSpecifier::WeightedClusters(route::WeightedCluster {
        clusters: members.collect(),
        ..Default::default()
    });
    route::Route {
        name: name.to_owned(),
        r#match: Some(matches),
        action: Some(route::route::Action::Route(route::RouteAction {
            cluster_specifier: Some(specifier),
            timeout: Some(google::Duration::default()),
            ..Default::default()
        })),
        ..Default::default()
    }
}

pub(crate) fn host(service: &str, routes: Vec<route::Route>) -> route::VirtualHost {
    let fqdn = fqdn(service);
    route::VirtualHost {
        name: format!("{fqdn}:9080"),
        domains: vec![fqdn, "10.96.0.9".to_owned()],
        routes,
        ..Default::default()
    }
}

pub(crate) fn reviews_cluster(subset: &str) -> String {
    names::traffic::outbound_cluster(9080, subset, &fqdn("reviews"))
}

/// reviews: jason sees v2, everybody else v1 and v3 half and half; ratings is delayed for jason.
pub(crate) fn reviews() -> route::VirtualHost {
    let mut jason = prefix("/");
    jason.headers = vec![header("end-user", "jason")];
    let rule = Provenance::of_rule("networking.istio.io/v1", "VirtualService", "default", "reviews", 3);
    let mut first = forward("jason", jason, &[(&reviews_cluster("v2"), 100)]);
    first.metadata = Some(rule.at("spec.http[0]").metadata());
    let mut rest = forward("default", prefix("/"), &[(&reviews_cluster("v1"), 50), (&reviews_cluster("v3"), 50)]);
    rest.metadata = Some(rule.at("spec.http[1]").metadata());
    let delay = fault_common::FaultDelay {
        percentage: Some(types::common::FractionalPercent { numerator: 100, denominator: 0 }),
        fault_delay_secifier: Some(fault_common::fault_delay::FaultDelaySecifier::FixedDelay(google::Duration {
            seconds: 7,
            nanos: 0,
        })),
    };
    let fault = fault::HttpFault { delay: Some(delay), ..Default::default() };
    first.typed_per_filter_config.insert("envoy.filters.http.fault".to_owned(), pack(&fault));
    host("reviews", vec![first, rest])
}

pub(crate) fn allow_any() -> route::VirtualHost {
    route::VirtualHost {
        name: names::traffic::ALLOW_ANY.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![forward(names::traffic::ALLOW_ANY, prefix("/"), &[(names::traffic::PASSTHROUGH, 1)])],
        ..Default::default()
    }
}

pub(crate) fn frame() -> route::RouteConfiguration {
    route::RouteConfiguration {
        name: "9080".to_owned(),
        ignore_port_in_host_matching: true,
        vhds: Some(route::Vhds { config_source: Some(types::ads()) }),
        ..Default::default()
    }
}

pub(crate) fn eds_cluster(subset: &str) -> cluster::Cluster {
    let name = reviews_cluster(subset);
    let mut metadata = core::Metadata::default();
    let reviews = ServiceName { host: fqdn("reviews"), name: "reviews".to_owned(), namespace: "default".to_owned() };
    service::write([&reviews], &mut metadata);
    let tls = tls::UpstreamTlsContext {
        sni: names::traffic::sni(9080, subset, &fqdn("reviews")),
        common_tls_context: Some(mesh_tls(&["istio-peer-exchange", "istio"])),
        ..Default::default()
    };
    let entry = |name: &str, wanted: Option<google::Struct>, socket: core::TransportSocket| {
        cluster::cluster::TransportSocketMatch {
            name: name.to_owned(),
            r#match: Some(wanted.unwrap_or_default()),
            transport_socket: Some(socket),
        }
    };
    let istio = xds::dynamic::Object::new().set("tlsMode", xds::dynamic::string("istio")).build();
    cluster::Cluster {
        name: name.clone(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(3)),
        eds_cluster_config: Some(cluster::cluster::EdsClusterConfig {
            eds_config: Some(types::ads()),
            service_name: name,
        }),
        connect_timeout: Some(google::Duration { seconds: 10, nanos: 0 }),
        lb_policy: 1,
        transport_socket_matches: vec![
            entry("tlsMode-istio", Some(istio), socket("tls", &tls)),
            entry("tlsMode-disabled", None, socket("raw_buffer", &types::raw_buffer::RawBuffer {})),
        ],
        metadata: Some(metadata),
        ..Default::default()
    }
}

pub(crate) fn socket<M: prost::Message + prost::Name>(kind: &str, config: &M) -> core::TransportSocket {
    core::TransportSocket {
        name: format!("envoy.transport_sockets.{kind}"),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack(config))),
    }
}

pub(crate) fn mesh_tls(alpn: &[&str]) -> tls::CommonTlsContext {
    let secret = |name: &str| tls::SdsSecretConfig { name: name.to_owned(), sds_config: Some(types::ads()) };
    let san = matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(
            "spiffe://cluster.local/ns/default/sa/bookinfo-reviews".to_owned(),
        )),
        ignore_case: false,
    };
    let combined = tls::common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            match_typed_subject_alt_names: vec![tls::SubjectAltNameMatcher {
                san_type: tls::subject_alt_name_matcher::SanType::Uri.into(),
                matcher: Some(san),
                ..Default::default()
            }],
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret("ROOTCA")),
        ..Default::default()
    };
    tls::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret("default")],
        validation_context_type: Some(tls::common_tls_context::ValidationContextType::CombinedValidationContext(
            combined,
        )),
        alpn_protocols: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
        ..Default::default()
    }
}

pub(crate) fn endpoints(subset: &str, addresses: &[&str]) -> endpoint::ClusterLoadAssignment {
    let workload = Workload {
        name: format!("reviews-{subset}"),
        namespace: "default".to_owned(),
        canonical_name: "reviews".to_owned(),
        canonical_revision: subset.to_owned(),
        cluster: "Kubernetes".to_owned(),
    };
    let members = addresses.iter().map(|address| endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(types::socket_address(*address, 9080)),
            ..Default::default()
        })),
        metadata: Some(endpoint_metadata(&workload, true)),
        ..Default::default()
    });
    endpoint::ClusterLoadAssignment {
        cluster_name: reviews_cluster(subset),
        endpoints: vec![endpoint::LocalityLbEndpoints { lb_endpoints: members.collect(), ..Default::default() }],
        ..Default::default()
    }
}

pub(crate) fn filter<M: prost::Message + prost::Name>(name: &str, config: &M) -> listener::Filter {
    listener::Filter {
        name: name.to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack(config))),
    }
}

pub(crate) fn tcp(cluster: &str) -> listener::Filter {
    let proxy = tcp_proxy::TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    filter("envoy.filters.network.tcp_proxy", &proxy)
}

pub(crate) fn http(routes: hcm::http_connection_manager::RouteSpecifier) -> listener::Filter {
    let named =
        |name: &str, config| hcm::HttpFilter { name: name.to_owned(), config_type: config, ..Default::default() };
    let typed = |config| Some(hcm::http_filter::ConfigType::TypedConfig(config));
    let manager = hcm::HttpConnectionManager {
        stat_prefix: "outbound_0.0.0.0_9080".to_owned(),
        route_specifier: Some(routes),
        normalize_path: Some(types::boolean(true)),
        http_filters: vec![
            named("istio.metadata_exchange", None),
            named("istio.alpn", None),
            named("envoy.filters.http.fault", typed(pack(&fault::HttpFault::default()))),
            named("istio.stats", None),
            named("envoy.filters.http.router", typed(pack(&types::router::Router::default()))),
        ],
        ..Default::default()
    };
    filter("envoy.filters.network.http_connection_manager", &manager)
}

pub(crate) fn rds(name: &str) -> hcm::http_connection_manager::RouteSpecifier {
    hcm::http_connection_manager::RouteSpecifier::Rds(hcm::Rds {
        config_source: Some(types::ads()),
        route_config_name: name.to_owned(),
    })
}

pub(crate) fn chain(name: &str, port: Option<u16>, filters: Vec<listener::Filter>) -> listener::FilterChain {
    listener::FilterChain {
        name: name.to_owned(),
        filter_chain_match: Some(listener::FilterChainMatch {
            destination_port: port.map(|port| types::uint32(port.into())),
            ..Default::default()
        }),
        filters,
        ..Default::default()
    }
}

pub(crate) fn virtual_outbound() -> listener::Listener {
    listener::Listener {
        name: names::traffic::VIRTUAL_OUTBOUND.to_owned(),
        address: Some(types::socket_address("0.0.0.0", names::ports::OUTBOUND)),
        use_original_dst: Some(types::boolean(true)),
        filter_chains: vec![chain(
            "virtualOutbound-blackhole",
            Some(names::ports::OUTBOUND),
            vec![tcp(names::traffic::BLACK_HOLE)],
        )],
        default_filter_chain: Some(chain("virtualOutbound-catchall-tcp", None, vec![tcp(names::traffic::PASSTHROUGH)])),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        ..Default::default()
    }
}

pub(crate) fn outbound_9080() -> listener::Listener {
    listener::Listener {
        name: "0.0.0.0_9080".to_owned(),
        address: Some(types::socket_address("0.0.0.0", 9080)),
        bind_to_port: Some(types::boolean(false)),
        default_filter_chain: Some(chain("", None, vec![http(rds("9080"))])),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        ..Default::default()
    }
}

pub(crate) fn simple_cluster(name: &str, kind: i32) -> cluster::Cluster {
    cluster::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(kind)),
        lb_policy: if kind == 4 { 6 } else { 0 },
        ..Default::default()
    }
}

/// A store with all of it.
pub(crate) fn store(now: Instant) -> Store {
    let mut store = Store::new(proxy());
    let mut put = |kind: &str, resources: Vec<Resource>| {
        let refused = store.upsert(kind, &resources, now);
        assert!(refused.is_empty(), "{refused:?}");
    };
    let clusters = ["v1", "v2", "v3"].map(|subset| resource(&reviews_cluster(subset), &eds_cluster(subset)));
    put(type_url::CLUSTER, clusters.to_vec());
    for (name, kind) in [(names::traffic::PASSTHROUGH, 4), (names::traffic::BLACK_HOLE, 0)] {
        put(type_url::CLUSTER, vec![resource(name, &simple_cluster(name, kind))]);
    }
    for (subset, address) in [("v1", "10.0.0.1"), ("v2", "10.0.0.2"), ("v3", "10.0.0.3")] {
        put(type_url::ENDPOINTS, vec![resource(&reviews_cluster(subset), &endpoints(subset, &[address]))]);
    }
    put(
        type_url::LISTENER,
        vec![
            resource(names::traffic::VIRTUAL_OUTBOUND, &virtual_outbound()),
            resource("0.0.0.0_9080", &outbound_9080()),
        ],
    );
    put(type_url::ROUTES, vec![resource("9080", &frame())]);
    for host in [reviews(), allow_any()] {
        put(type_url::VIRTUAL_HOST, vec![resource(&names::traffic::virtual_host_resource("9080", &host.name), &host)]);
    }
    store
}

pub(crate) fn snapshot() -> std::sync::Arc<Snapshot> {
    let now = Instant::now();
    store(now).changes(now).snapshot.expect("everything is new")
}
