//! Which of several rules counts, and what is said about rules that cannot work.

use translate::model::mesh::Mesh;
use translate::{Proxy, Reason};
use xds::node::ProxyType;
use xds::type_url;
use xds::types::cluster::cluster::LbPolicy;
use xds::types::core::HealthStatus;
use xds::types::endpoint::LbEndpoint;

use crate::cluster::{Cluster, Resources, clusters_of, proxy};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: server}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: server}
spec: {clusterIP: 10.0.0.2, ports: [{name: http, port: 80}]}
";

fn destination_rule(namespace: &str, name: &str, host: &str, balancing: &str, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{host: {host}, trafficPolicy: {{loadBalancer: {{simple: {balancing}}}}}{more}}}\n"
    )
}

#[test]
fn the_destination_rule_that_counts() {
    let host = "a.server.svc.cluster.local";
    let rule = |namespace, name, of: &str, balancing, more| destination_rule(namespace, name, of, balancing, more);
    let rows = [
        ("none: Istio's default", String::new(), LbPolicy::LeastRequest),
        ("the service's namespace", rule("server", "x", host, "RANDOM", ""), LbPolicy::Random),
        ("short name in its own namespace", rule("server", "x", "a", "RANDOM", ""), LbPolicy::Random),
        ("short name elsewhere is another host", rule("client", "x", "a", "RANDOM", ""), LbPolicy::LeastRequest),
        ("the root namespace", rule("istio-system", "x", "'*.cluster.local'", "RANDOM", ""), LbPolicy::Random),
        ("any other namespace", rule("third", "x", host, "RANDOM", ""), LbPolicy::LeastRequest),
        ("not exported", rule("server", "x", host, "RANDOM", ", exportTo: ['.']"), LbPolicy::LeastRequest),
        (
            "the client's namespace before the service's",
            rule("server", "x", host, "RANDOM", "") + &rule("client", "x", host, "ROUND_ROBIN", ""),
            LbPolicy::RoundRobin,
        ),
        (
            "the host itself before a wildcard",
            rule("server", "a", "'*.server.svc.cluster.local'", "RANDOM", "")
                + &rule("server", "b", host, "ROUND_ROBIN", ""),
            LbPolicy::RoundRobin,
        ),
        (
            "the longer wildcard before the shorter",
            rule("server", "a", "'*.cluster.local'", "RANDOM", "")
                + &rule("server", "b", "'*.server.svc.cluster.local'", "ROUND_ROBIN", ""),
            LbPolicy::RoundRobin,
        ),
        (
            "a selector that the client fits",
            rule("client", "x", host, "RANDOM", ", workloadSelector: {matchLabels: {app: me}}"),
            LbPolicy::Random,
        ),
        (
            "a selector that it does not fit",
            rule("client", "x", host, "RANDOM", ", workloadSelector: {matchLabels: {app: other}}"),
            LbPolicy::LeastRequest,
        ),
    ];
    for (name, rules, expected) in rows {
        let cluster = Cluster::new(&format!("{SERVICES}{rules}"));
        let mut client = proxy(ProxyType::Sidecar, "client");
        client.labels.insert("app".to_owned(), "me".to_owned());
        let found = cluster.translate(&client).cluster("outbound|80||a.server.svc.cluster.local").expect(name);
        assert_eq!(found.lb_policy(), expected, "{name}");
    }
}

#[test]
fn subsets_of_several_rules_add_up_and_the_older_decides() {
    let rules = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: newer, namespace: server, creationTimestamp: '2022-01-01T00:00:00Z'}
spec: {host: a, subsets: [{name: v2, labels: {v: '2'}}], trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: older, namespace: server, creationTimestamp: '2021-01-01T00:00:00Z'}
spec: {host: a, subsets: [{name: v1, labels: {v: '1'}}], trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
";
    let set = Cluster::new(&format!("{SERVICES}{rules}")).translate(&proxy(ProxyType::Sidecar, "client"));
    for subset in ["", "v1", "v2"] {
        let found = set.cluster(&format!("outbound|80|{subset}|a.server.svc.cluster.local")).expect(subset);
        assert_eq!(found.lb_policy(), LbPolicy::RoundRobin, "{subset}");
    }
}

fn virtual_service(http: &str) -> String {
    format!(
        "{SERVICES}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: a, namespace: server, generation: 4}}\nspec: {{hosts: [a], http: {http}}}\n"
    )
}

#[test]
fn a_rule_that_cannot_work_is_reported_and_its_route_kept() {
    let to = |destination: &str| format!("[{{route: [{{destination: {{{destination}}}}}]}}]");
    let rows = [
        (to("host: a, subset: v9"), Reason::MissingSubset, "spec.http[0].route[0].destination.subset", true),
        (to("host: nowhere"), Reason::MissingHost, "spec.http[0].route[0].destination.host", true),
        (to("host: b, port: {number: 81}"), Reason::MissingPort, "spec.http[0].route[0].destination.port", true),
        ("[{redirect: {redirectCode: 418}}]".to_owned(), Reason::Invalid, "spec.http[0].redirect.redirectCode", false),
        ("[{delegate: {name: x}}]".to_owned(), Reason::Unsupported, "spec.http[0].delegate", false),
    ];
    for (http, reason, field, is_kept) in rows {
        let set = Cluster::new(&virtual_service(&http)).translate(&proxy(ProxyType::Sidecar, "client"));
        let problems: Vec<_> = set.problems().collect();
        assert_eq!(problems.len(), 1, "{http}: {problems:?}");
        assert_eq!((problems[0].reason, problems[0].field.as_str()), (reason, field));
        assert_eq!((problems[0].kind.as_str(), problems[0].generation), ("VirtualService", 4));
        let message = problems[0].to_string();
        assert!(message.starts_with(&format!("VirtualService server/a, {field}: ")), "{message}");
        if is_kept {
            let host = set.virtual_host("80", "a.server.svc.cluster.local:80").expect("the virtual host");
            let to = clusters_of(&host.routes[0]);
            assert!(to.iter().all(|name| set.cluster(name).is_none()), "{to:?} should not exist");
        }
    }
}

#[test]
fn a_rule_for_certain_clients_is_for_them_only() {
    let yaml = virtual_service(
        "[{match: [{sourceLabels: {app: me}}], route: [{destination: {host: b}}]}, {match: [{sourceNamespace: third}], \
         directResponse: {status: 403}}]",
    );
    let cluster = Cluster::new(&yaml);
    let routes = |namespace: &str, app: &str| {
        let mut client: Proxy = proxy(ProxyType::Sidecar, namespace);
        client.labels.insert("app".to_owned(), app.to_owned());
        client.labels.insert("unasked".to_owned(), app.to_owned());
        let host =
            cluster.translate(&client).virtual_host("80", "a.server.svc.cluster.local:80").expect("a virtual host");
        host.routes.iter().map(|route| clusters_of(route).join("+")).collect::<Vec<_>>()
    };
    assert_eq!(routes("client", "me"), ["outbound|80||b.server.svc.cluster.local"]);
    assert_eq!(routes("third", "other"), [""]);
    // Nothing of the rule is for these: the service's own route.
    assert_eq!(routes("client", "other"), ["outbound|80||a.server.svc.cluster.local"]);
}

#[test]
fn unknown_destinations_pass_or_do_not() {
    let mut mesh = Mesh::default();
    mesh.config.outbound_traffic_policy.mode = crds::meshconfig::OutboundTrafficMode::RegistryOnly;
    for (mesh, host, cluster) in
        [(Mesh::default(), "allow_any", "PassthroughCluster"), (mesh, "block_all", "BlackHoleCluster")]
    {
        let set = Cluster::with_mesh(SERVICES, mesh).translate(&proxy(ProxyType::Sidecar, "client"));
        assert_eq!(set.virtual_host("80", host).expect(host).domains, ["*"]);
        let outbound = set.listener("virtualOutbound").expect("the listener");
        assert!(format!("{:?}", outbound.default_filter_chain).contains("virtualOutbound-catchall-tcp"));
        let last = &outbound.default_filter_chain.expect("a default").filters[0];
        let Some(xds::types::listener::filter::ConfigType::TypedConfig(any)) = &last.config_type else {
            panic!("no configuration")
        };
        let tcp: xds::types::tcp_proxy::TcpProxy = xds::any::unpack(any).expect("tcp_proxy");
        assert_eq!(tcp.stat_prefix, cluster);
    }
}

#[test]
fn a_client_without_virtual_hosts_gets_them_inline_with_short_names() {
    let cluster = Cluster::new(SERVICES);
    let envoy = Proxy { virtual_hosts: false, ..proxy(ProxyType::Sidecar, "server") };
    let set = cluster.translate(&envoy);
    assert!(set.names(type_url::VIRTUAL_HOST).is_empty());
    let routes = set.get(type_url::ROUTES, "80").expect("route configuration 80");
    let routes: xds::types::route::RouteConfiguration = xds::any::unpack(&routes.any).expect("a route configuration");
    let a = routes.virtual_hosts.iter().find(|host| host.name.starts_with("a.")).expect("a's virtual host");
    let expected =
        ["a.server.svc.cluster.local", "a.server.svc.cluster.local.", "a", "a.server.svc", "a.server", "10.0.0.1"];
    assert_eq!(a.domains, expected);
    assert!(routes.vhds.is_none() && routes.ignore_port_in_host_matching);
}

#[test]
fn an_endpoint_that_terminates_is_kept_for_when_no_other_is_left() {
    let yaml = format!(
        "{SERVICES}---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: a-1, namespace: server, labels: {{kubernetes.io/service-name: a}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints:
- {{addresses: [10.1.0.1], conditions: {{ready: true}}}}
- {{addresses: [10.1.0.2], conditions: {{ready: false}}}}
- {{addresses: [10.1.0.3], conditions: {{ready: false, serving: true, terminating: true}}}}
"
    );
    let set = Cluster::new(&yaml).translate(&proxy(ProxyType::Sidecar, "client"));
    let found = set.endpoints("outbound|80||a.server.svc.cluster.local").expect("endpoints");
    let health: Vec<_> =
        found.endpoints.iter().flat_map(|it| &it.lb_endpoints).map(LbEndpoint::health_status).collect();
    assert_eq!(health, [HealthStatus::Healthy, HealthStatus::Draining]);
    assert!(set.endpoints("outbound|80||b.server.svc.cluster.local").expect("no endpoints").endpoints.is_empty());
}

#[test]
fn a_server_outside_is_the_one_of_the_name_that_is_sent() {
    const OUTSIDE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [outside.example]
  ports: [{number: 443, name: http, protocol: HTTP}]
  resolution: DNS
";
    let entry_with_names = format!("{OUTSIDE}  subjectAltNames: [spiffe://other/server]\n");
    // Whether the certificate is judged by the name of the rule, and whether by the request's host.
    let rows = [
        ("nothing said", OUTSIDE, "mode: SIMPLE", (false, true)),
        ("a server name", OUTSIDE, "mode: SIMPLE, sni: server.example", (true, false)),
        (
            "with a certificate of ours",
            OUTSIDE,
            "mode: MUTUAL, clientCertificate: /c, privateKey: /k, sni: server.example",
            (true, false),
        ),
        ("other names", OUTSIDE, "mode: SIMPLE, sni: server.example, subjectAltNames: [a.example]", (false, false)),
        ("names of the entry", &entry_with_names, "mode: SIMPLE, sni: server.example", (false, false)),
        ("not verified", OUTSIDE, "mode: SIMPLE, sni: server.example, insecureSkipVerify: true", (false, false)),
        ("of the mesh", OUTSIDE, "mode: ISTIO_MUTUAL, sni: server.example", (false, false)),
    ];
    for (name, entry, tls, expected) in rows {
        let rule = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: outside}}\n\
             spec: {{host: outside.example, trafficPolicy: {{tls: {{{tls}}}}}}}\n"
        );
        let set = Cluster::new(&format!("{entry}{rule}")).translate(&proxy(ProxyType::Sidecar, "client"));
        let cluster = set.cluster("outbound|443||outside.example").expect("the cluster");
        let Some(xds::types::core::transport_socket::ConfigType::TypedConfig(any)) =
            cluster.transport_socket.and_then(|socket| socket.config_type)
        else {
            panic!("no configuration")
        };
        let context: xds::types::tls::UpstreamTlsContext = xds::any::unpack(&any).expect("a TLS context");
        let by_host = cluster.typed_extension_protocol_options.values().any(|options| {
            xds::any::unpack::<xds::types::upstream_http::HttpProtocolOptions>(options)
                .ok()
                .and_then(|options| options.upstream_http_protocol_options)
                .is_some_and(|options| options.auto_san_validation)
        });
        assert_eq!((context.auto_sni_san_validation, by_host), expected, "{name}");
    }
}

#[test]
fn only_workloads_of_the_meshs_trust_domains_are_let_in() {
    use xds::types::tls::common_tls_context::ValidationContextType;
    let mut mesh = Mesh::default();
    mesh.config.trust_domain = "new.example".to_owned();
    mesh.config.trust_domain_aliases = vec!["old.example".to_owned()];
    let set = Cluster::with_mesh(SERVICES, mesh).translate(&proxy(ProxyType::Sidecar, "server"));
    let inbound = set.listener("virtualInbound").expect("the listener");
    let sockets: Vec<_> = inbound.filter_chains.iter().filter_map(|chain| chain.transport_socket.as_ref()).collect();
    assert!(!sockets.is_empty());
    for socket in sockets {
        let Some(xds::types::core::transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
            panic!("no configuration")
        };
        let context: xds::types::tls::DownstreamTlsContext = xds::any::unpack(any).expect("a TLS context");
        let validation = context.common_tls_context.and_then(|common| common.validation_context_type);
        let Some(ValidationContextType::CombinedValidationContext(validation)) = validation else {
            panic!("no validation")
        };
        let names = validation.default_validation_context.expect("names").match_typed_subject_alt_names;
        let names: Vec<_> =
            names.into_iter().filter_map(|name| name.matcher.and_then(|matcher| matcher.match_pattern)).collect();
        let prefix =
            |domain: &str| xds::types::matcher::string_matcher::MatchPattern::Prefix(format!("spiffe://{domain}/"));
        assert_eq!(names, [prefix("new.example"), prefix("old.example")]);
    }
}

#[test]
fn with_tproxy_the_application_sees_its_clients() {
    let names = |transparent| {
        let server = Proxy { transparent, ..proxy(ProxyType::Sidecar, "server") };
        let set = Cluster::new(SERVICES).translate(&server);
        let inbound = set.listener("virtualInbound").expect("the listener");
        let filters: Vec<_> = inbound.listener_filters.iter().map(|filter| filter.name.clone()).collect();
        let marks: Vec<u32> = inbound
            .listener_filters
            .iter()
            .filter_map(|filter| match &filter.config_type {
                Some(xds::types::listener::listener_filter::ConfigType::TypedConfig(any)) => {
                    xds::any::unpack::<xds::types::original_src::OriginalSrc>(any).ok()
                }
                _ => None,
            })
            .map(|original| original.mark)
            .collect();
        (inbound.transparent.is_some_and(|transparent| transparent.value), filters, marks)
    };
    let filter = |name: &str| format!("envoy.filters.listener.{name}");
    let inspectors = ["tls_inspector", "http_inspector"].map(filter);
    assert_eq!(names(false), (false, [&[filter("original_dst")], &inspectors[..]].concat(), vec![]));
    let expected = [&["original_dst", "original_src"].map(filter), &inspectors[..]].concat();
    assert_eq!(names(true), (true, expected, vec![1337]));
}
