//! The text of a NACK names resource and field, and says what is wrong.
#![allow(clippy::semicolon_if_nothing_returned)] // each row of a table is one change

mod bookinfo;

use std::time::Instant;

use bookinfo::{
    chain, eds_cluster, endpoints, filter, forward, frame, http, mesh_tls, outbound_9080, prefix, proxy, rds, resource,
    reviews, reviews_cluster, socket, tcp, virtual_outbound,
};
use forestay_engine::Store;
use xds::{
    any::pack,
    type_url,
    types::{
        self, cluster, core,
        discovery::Resource,
        google, http_connection_manager as hcm, listener, route,
        tls::{self, subject_alt_name_matcher::SanType},
    },
};

fn refused(kind: &str, resource: Resource) -> String {
    let refused = Store::new(proxy()).upsert(kind, &[resource], Instant::now());
    refused.first().map_or_else(|| "accepted".to_owned(), ToString::to_string)
}

fn of_listener(change: impl FnOnce(&mut listener::Listener)) -> String {
    let mut message = virtual_outbound();
    message.name = "l".into();
    change(&mut message);
    refused(type_url::LISTENER, resource("l", &message))
}

fn of_manager(change: impl FnOnce(&mut hcm::HttpConnectionManager)) -> String {
    of_listener(|message| {
        let filter = http(rds("9080"));
        let Some(listener::filter::ConfigType::TypedConfig(config)) = filter.config_type else { panic!("typed") };
        let mut manager: hcm::HttpConnectionManager = xds::any::unpack(&config).expect("its own type");
        change(&mut manager);
        message.filter_chains[0].filters =
            vec![bookinfo::filter("envoy.filters.network.http_connection_manager", &manager)];
    })
}

fn of_host(change: impl FnOnce(&mut route::VirtualHost)) -> String {
    let mut message = reviews();
    change(&mut message);
    refused(type_url::VIRTUAL_HOST, resource("9080/h", &message))
}

fn of_action(change: impl FnOnce(&mut route::RouteAction)) -> String {
    of_host(|host| {
        let Some(route::route::Action::Route(action)) = &mut host.routes[1].action else { panic!("a forward") };
        change(action);
    })
}

fn of_match(change: impl FnOnce(&mut route::RouteMatch)) -> String {
    of_host(|host| change(host.routes[1].r#match.as_mut().expect("has one")))
}

fn of_cluster(change: impl FnOnce(&mut cluster::Cluster)) -> String {
    let mut message = eds_cluster("v1");
    message.name = "c".into();
    change(&mut message);
    refused(type_url::CLUSTER, resource("c", &message))
}

fn regex(pattern: &str) -> types::matcher::RegexMatcher {
    types::matcher::RegexMatcher { regex: pattern.to_owned(), ..Default::default() }
}

#[test]
fn listeners() {
    let strict = |common: tls::CommonTlsContext| {
        socket(
            "tls",
            &tls::DownstreamTlsContext {
                common_tls_context: Some(common),
                require_client_certificate: Some(types::boolean(true)),
                ..Default::default()
            },
        )
    };
    for (text, expected) in [
        (of_listener(|_| {}), "accepted"),
        (of_listener(|l| l.address = None), r#"Listener "l": address.address: is missing"#),
        (
            of_listener(|l| l.address = Some(types::socket_address("host", 1))),
            r#"Listener "l": address: "host" is no IP address"#,
        ),
        (
            of_listener(|l| {
                l.address = Some(core::Address {
                    address: Some(core::address::Address::Pipe(core::Pipe { path: "/p".into(), mode: 0 })),
                })
            }),
            r#"Listener "l": address: only socket addresses are supported by this proxy"#,
        ),
        (
            of_listener(|l| l.filter_chains[0].filters.clear()),
            r#"Listener "l": filter_chains[0].filters: must end with tcp_proxy or http_connection_manager"#,
        ),
        (
            of_listener(|l| l.filter_chains[0].filters.push(tcp("x"))),
            r#"Listener "l": filter_chains[0].filters[1]: comes after the filter that serves the connection"#,
        ),
        (
            of_listener(|l| l.filter_chains[0].filters = vec![filter("mongo", &types::raw_buffer::RawBuffer {})]),
            "Listener \"l\": filter_chains[0].filters[0]: the network filter \"mongo\" \
             (envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer) is not supported by this proxy",
        ),
        (
            of_listener(|l| l.filter_chains.push(chain("again", Some(15001), vec![tcp("x")]))),
            r#"Listener "l": filter_chains[1].filter_chain_match: matches the same connections as filter_chains[0]"#,
        ),
        (
            of_listener(|l| {
                l.filter_chains[0].filter_chain_match =
                    Some(listener::FilterChainMatch { server_names: vec!["a.*.com".into()], ..Default::default() })
            }),
            r#"Listener "l": filter_chains[0].filter_chain_match.server_names[0]: "a.*.com": a wildcard must be the first label"#,
        ),
        (
            of_listener(|l| {
                l.listener_filters.push(listener::ListenerFilter {
                    name: "envoy.filters.listener.proxy_protocol".into(),
                    ..Default::default()
                })
            }),
            "Listener \"l\": listener_filters[0]: the listener filter \"envoy.filters.listener.proxy_protocol\" \
             is not supported by this proxy",
        ),
        (
            of_listener(|l| {
                l.filter_chains[0].transport_socket = Some(strict(tls::CommonTlsContext {
                    tls_certificate_sds_secret_configs: mesh_tls(&[]).tls_certificate_sds_secret_configs,
                    ..Default::default()
                }))
            }),
            "Listener \"l\": filter_chains[0].transport_socket.typed_config.common_tls_context.validation_context_type: \
             a client certificate is required, but nothing says what it must chain to",
        ),
        (
            of_listener(|l| {
                l.filter_chains[0].transport_socket =
                    Some(strict(tls::CommonTlsContext { tls_certificate_sds_secret_configs: vec![], ..mesh_tls(&[]) }))
            }),
            "Listener \"l\": filter_chains[0].transport_socket.typed_config.common_tls_context.\
             tls_certificate_sds_secret_configs: is missing",
        ),
        (of_listener(|l| l.filter_chains[0].transport_socket = Some(strict(mesh_tls(&["h2"])))), "accepted"),
        (
            of_listener(|l| {
                l.filter_chains.clear();
                l.default_filter_chain = None;
            }),
            r#"Listener "l": filter_chains: there is no filter chain"#,
        ),
    ] {
        assert_eq!(text, expected);
    }
    assert_eq!(
        refused(type_url::LISTENER, resource("other", &outbound_9080())),
        r#"Listener "other": name: the message inside is called "0.0.0.0_9080""#
    );
    assert_eq!(
        refused(type_url::LISTENER, resource("l", &frame())),
        "Listener \"l\": expected a message of type type.googleapis.com/envoy.config.listener.v3.Listener, \
         got type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    );
}

#[test]
fn http_connection_managers() {
    let at = r#"Listener "l": filter_chains[0].filters[0].typed_config."#;
    let named = |name: &str| hcm::HttpFilter { name: name.to_owned(), ..Default::default() };
    for (text, expected) in [
        (of_manager(|_| {}), "accepted".to_owned()),
        (of_manager(|m| m.http_filters.clear()), format!("{at}http_filters: must end with envoy.filters.http.router")),
        (
            of_manager(|m| m.http_filters.push(named("istio.stats"))),
            format!("{at}http_filters[5]: must be envoy.filters.http.router"),
        ),
        (
            of_manager(|m| m.http_filters.insert(0, named("envoy.filters.http.lua"))),
            format!(
                "{at}http_filters[0]: the HTTP filter \"envoy.filters.http.lua\" () is not supported by this proxy"
            ),
        ),
        (
            of_manager(|m| {
                m.http_filters.insert(0, hcm::HttpFilter { is_optional: true, ..named("envoy.filters.http.lua") });
            }),
            "accepted".to_owned(),
        ),
        (of_manager(|m| m.route_specifier = None), format!("{at}route_specifier: is missing")),
        (of_manager(|m| m.codec_type = 3), format!("{at}codec_type: not supported by this proxy")),
        (
            of_manager(|m| m.stream_idle_timeout = Some(google::Duration { seconds: -1, nanos: 0 })),
            format!("{at}stream_idle_timeout: -1.000000000s is no duration"),
        ),
        (
            of_manager(|m| {
                m.route_specifier =
                    Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(route::RouteConfiguration {
                        virtual_hosts: vec![reviews(), reviews()],
                        ..Default::default()
                    }))
            }),
            format!(
                "{at}route_config.virtual_hosts[1].domains: \"reviews.default.svc.cluster.local\" stands in \
                 virtual_hosts[0] too; a domain can have one virtual host"
            ),
        ),
    ] {
        assert_eq!(text, expected);
    }
}

#[test]
fn virtual_hosts() {
    let at = r#"VirtualHost "9080/h": "#;
    let one = |name: &str, weight: u32| vec![forward("r", prefix("/"), &[(name, weight)])];
    for (text, expected) in [
        (of_host(|_| {}), "accepted"),
        (
            of_host(|h| h.domains.push("a.*.b".into())),
            "domains[2]: \"a.*.b\": a wildcard stands at the beginning or at the end",
        ),
        (of_host(|h| h.routes = one("c", 0)), "routes[0].route.weighted_clusters: the weights add up to nothing"),
        (of_host(|h| h.routes = one("", 1)), "routes[0].route.weighted_clusters.clusters[0].name: is missing"),
        (of_host(|h| h.routes[0].action = None), "routes[0].action: is missing"),
        (of_match(|m| m.path_specifier = None), "routes[1].match.path_specifier: is missing"),
        (
            of_match(|m| m.path_specifier = Some(route::route_match::PathSpecifier::SafeRegex(regex("(")))),
            "routes[1].match.safe_regex.regex: pattern \"(\": unclosed group",
        ),
        (
            of_match(|m| {
                m.path_specifier = Some(route::route_match::PathSpecifier::SafeRegex(regex("(a{1000}){1000}")))
            }),
            "routes[1].match.safe_regex.regex: pattern \"(a{1000}){1000}\" needs more than 524288 bytes",
        ),
        (
            of_match(|m| m.headers = vec![bookinfo::header("a b", "c")]),
            "routes[1].match.headers[0].name: \"a b\" is no header name",
        ),
        (of_action(|a| a.prefix_rewrite = "/".into()), "accepted"),
        (
            of_action(|a| {
                a.regex_rewrite = Some(types::matcher::RegexMatchAndSubstitute {
                    pattern: Some(regex("/(a)")),
                    substitution: r"/\2".into(),
                })
            }),
            "routes[1].route.regex_rewrite.substitution: the pattern has no group 2",
        ),
        (
            of_action(|a| {
                a.retry_policy = Some(route::RetryPolicy { retry_on: "5xx,never".into(), ..Default::default() })
            }),
            "routes[1].route.retry_policy.retry_on: \"never\" is no condition that this proxy knows",
        ),
        (
            of_action(|a| a.hedge_policy = Some(route::HedgePolicy::default())),
            "routes[1].route.hedge_policy: not supported by this proxy",
        ),
        (
            of_host(|h| {
                h.request_headers_to_add = vec![core::HeaderValueOption {
                    header: Some(core::HeaderValue { key: "x".into(), value: "%NEVER%".into(), ..Default::default() }),
                    ..Default::default()
                }]
            }),
            "request_headers_to_add[0].header.value: the command %NEVER% is not supported by this proxy",
        ),
        (
            of_host(|h| {
                h.typed_per_filter_config
                    .insert("envoy.filters.http.lua".into(), pack(&types::raw_buffer::RawBuffer {}));
            }),
            "typed_per_filter_config[\"envoy.filters.http.lua\"]: settings of type \
             envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer are not supported by this proxy",
        ),
    ] {
        let expected = if expected == "accepted" { expected.to_owned() } else { format!("{at}{expected}") };
        assert_eq!(text, expected);
    }
}

#[test]
fn clusters_and_endpoints() {
    for (text, expected) in [
        (of_cluster(|_| {}), "accepted"),
        (of_cluster(|c| c.lb_policy = 7), r#"Cluster "c": lb_policy: not supported by this proxy"#),
        (
            of_cluster(|c| c.transport_socket_matches[0].r#match = None),
            "Cluster \"c\": transport_socket_matches[1]: only a match on tlsMode: istio (with TLS) and one on everything \
             are supported by this proxy",
        ),
        (
            of_cluster(|c| {
                c.upstream_bind_config = Some(core::BindConfig {
                    source_address: Some(core::SocketAddress { address: "lo".into(), ..Default::default() }),
                    ..Default::default()
                })
            }),
            r#"Cluster "c": upstream_bind_config.source_address.address: "lo" is no IP address"#,
        ),
        (
            of_cluster(|c| {
                c.transport_socket_matches.clear();
                c.transport_socket = Some(socket(
                    "tls",
                    &tls::UpstreamTlsContext {
                        common_tls_context: Some(tls::CommonTlsContext {
                            validation_context_type: Some(
                                tls::common_tls_context::ValidationContextType::ValidationContext(
                                    tls::CertificateValidationContext {
                                        verify_certificate_hash: vec!["x".into()],
                                        ..Default::default()
                                    },
                                ),
                            ),
                            ..Default::default()
                        }),
                        ..Default::default()
                    },
                ));
            }),
            "Cluster \"c\": transport_socket.typed_config.common_tls_context.validation_context.verify_certificate_hash: \
             not supported by this proxy",
        ),
        (
            of_cluster(|c| {
                let name = |san_type: SanType, text: &str| tls::SubjectAltNameMatcher {
                    san_type: san_type.into(),
                    matcher: Some(types::matcher::StringMatcher {
                        match_pattern: Some(types::matcher::string_matcher::MatchPattern::Exact(text.to_owned())),
                        ..Default::default()
                    }),
                    ..Default::default()
                };
                c.transport_socket_matches.clear();
                c.transport_socket = Some(socket(
                    "tls",
                    &tls::UpstreamTlsContext {
                        common_tls_context: Some(tls::CommonTlsContext {
                            validation_context_type: Some(
                                tls::common_tls_context::ValidationContextType::ValidationContext(
                                    tls::CertificateValidationContext {
                                        match_typed_subject_alt_names: vec![
                                            name(SanType::IpAddress, "10.0.0.1"),
                                            name(SanType::IpAddress, "nowhere"),
                                        ],
                                        ..Default::default()
                                    },
                                ),
                            ),
                            ..Default::default()
                        }),
                        ..Default::default()
                    },
                ));
            }),
            "Cluster \"c\": transport_socket.typed_config.common_tls_context.validation_context.\
             match_typed_subject_alt_names[1].matcher.exact: \"nowhere\" is no IP address",
        ),
    ] {
        assert_eq!(text, expected);
    }
    let name = reviews_cluster("v1");
    let broken = resource(&name, &endpoints("v1", &["10.0.0.1", "nowhere"]));
    assert_eq!(
        refused(type_url::ENDPOINTS, broken),
        format!(
            "ClusterLoadAssignment {name:?}: endpoints[0].lb_endpoints[1].endpoint.address: \"nowhere\" is no IP address"
        )
    );
}
