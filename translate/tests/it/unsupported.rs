//! What traffic does not follow yet is said, field by field; what it does follow is not.

use translate::Reason;
use xds::node::ProxyType;

use crate::cluster::{Cluster, Resources, proxy};

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

fn object(kind: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: x, namespace: server, generation: 7}}\nspec: {spec}\n"
    )
}

/// The fields that a sidecar's translation complains about.
fn fields(yaml: &str) -> Vec<String> {
    let set = Cluster::new(yaml).translate(&proxy(ProxyType::Sidecar, "client"));
    set.problems()
        .map(|problem| {
            assert_eq!((problem.reason, problem.generation), (Reason::Unsupported, 7), "{problem}");
            problem.field.clone()
        })
        .collect()
}

#[test]
fn fields_of_a_destination_rule() {
    const POLICY: &str = "spec.trafficPolicy";
    let rows: [(&str, &[&str]); 17] = [
        ("loadBalancer: {simple: RANDOM}", &[]),
        ("loadBalancer: {warmup: {duration: 30s}}", &["loadBalancer.warmup"]),
        ("loadBalancer: {warmupDurationSecs: 30s}", &["loadBalancer.warmupDurationSecs"]),
        ("loadBalancer: {localityLbSetting: {enabled: true}}", &["loadBalancer.localityLbSetting"]),
        ("loadBalancer: {zoneAwareLbSetting: {enabled: true}}", &["loadBalancer.zoneAwareLbSetting"]),
        ("loadBalancer: {backendUtilization: {}}", &["loadBalancer.backendUtilization"]),
        (
            "connectionPool: {tcp: {maxConnections: 1, connectTimeout: 1s}, http: {http1MaxPendingRequests: 1, \
             http2MaxRequests: 1, maxRequestsPerConnection: 1, maxRetries: 1, idleTimeout: 1s, h2UpgradePolicy: UPGRADE}}",
            &[],
        ),
        (
            "connectionPool: {tcp: {maxConnectionDuration: 1m, idleTimeout: 1m, tcpKeepalive: {time: 1m}}}",
            &[
                "connectionPool.tcp.idleTimeout",
                "connectionPool.tcp.maxConnectionDuration",
                "connectionPool.tcp.tcpKeepalive",
            ],
        ),
        (
            "connectionPool: {http: {maxConcurrentStreams: 1, http2KeepAlive: {interval: 1s}}}",
            &["connectionPool.http.http2KeepAlive", "connectionPool.http.maxConcurrentStreams"],
        ),
        ("outlierDetection: {consecutive5xxErrors: 1, interval: 1s, minHealthPercent: 50}", &[]),
        (
            "outlierDetection: {consecutiveErrors: 1, outlierDetectionHttpErrorCodes: [429]}",
            &["outlierDetection.consecutiveErrors", "outlierDetection.outlierDetectionHttpErrorCodes"],
        ),
        ("tls: {mode: SIMPLE, caCertificates: /ca.pem, subjectAltNames: [example.com]}", &[]),
        ("tls: {mode: SIMPLE, credentialName: s, caCrl: /crl.pem}", &["tls.caCrl", "tls.credentialName"]),
        ("tls: {mode: MUTUAL, credentialName: s, subjectAltNames: [10.0.0.1]}", &["tls.credentialName"]),
        ("tls: {mode: ISTIO_MUTUAL, credentialName: s}", &[]),
        ("tunnel: {targetHost: example.com, targetPort: 443}", &["tunnel"]),
        ("proxyProtocol: {version: V2}, retryBudget: {percent: 10}", &["proxyProtocol", "retryBudget"]),
    ];
    for (policy, expected) in rows {
        let expected: Vec<_> = expected.iter().map(|field| format!("{POLICY}.{field}")).collect();
        let rule = object("DestinationRule", &format!("{{host: a, trafficPolicy: {{{policy}}}}}"));
        assert_eq!(fields(&format!("{SERVICES}{rule}")), expected, "{policy}");
    }
}

#[test]
fn ports_and_subsets_are_looked_at_too_and_a_wildcard_rule_once() {
    let rule = object(
        "DestinationRule",
        "{host: '*.server.svc.cluster.local', \
         trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {warmup: {duration: 1s}}}]}, \
         subsets: [{name: v1, trafficPolicy: {tunnel: {targetHost: a.example, targetPort: 1}}}]}",
    );
    let expected =
        ["spec.subsets[0].trafficPolicy.tunnel", "spec.trafficPolicy.portLevelSettings[0].loadBalancer.warmup"];
    assert_eq!(fields(&format!("{SERVICES}{rule}")), expected);
    let unused =
        object("DestinationRule", "{host: nobody.example, trafficPolicy: {tunnel: {targetHost: b, targetPort: 1}}}");
    assert_eq!(fields(&format!("{SERVICES}{unused}")), Vec::<String>::new(), "it counts for nobody");
}

#[test]
fn fields_of_a_service_entry() {
    let ports = "ports: [{number: 80, name: http, protocol: HTTP}]";
    let rows: [(&str, &[&str]); 7] = [
        ("resolution: DNS", &[]),
        ("resolution: DYNAMIC_DNS", &["spec.resolution"]),
        ("addresses: [10.0.0.9, 10.0.0.8/32]", &[]),
        ("addresses: [10.0.0.9, 10.1.0.0/16]", &["spec.addresses[1]"]),
        ("resolution: STATIC, endpoints: [{address: 10.0.0.7, weight: 2, serviceAccount: s, labels: {a: b}}]", &[]),
        (
            "resolution: STATIC, endpoints: [{address: 10.0.0.7, locality: a/b, network: n}, {address: 'unix:///s'}]",
            &["spec.endpoints[0].locality", "spec.endpoints[0].network", "spec.endpoints[1].address"],
        ),
        ("resolution: DNS, subjectAltNames: ['::1']", &[]),
    ];
    for (spec, expected) in rows {
        let entry = object("ServiceEntry", &format!("{{hosts: [a.example], {ports}, {spec}}}"));
        assert_eq!(fields(&entry), expected, "{spec}");
    }
    let hidden =
        object("ServiceEntry", &format!("{{hosts: [a.example], {ports}, resolution: DYNAMIC_DNS, exportTo: ['.']}}"));
    assert_eq!(fields(&hidden), Vec::<String>::new(), "the client does not see it");
}

#[test]
fn a_gateway_says_it_of_the_destinations_that_its_routes_lead_to() {
    let rules = object("DestinationRule", "{host: a, trafficPolicy: {tunnel: {targetHost: b, targetPort: 1}}}")
        + &object(
            "Gateway",
            "{selector: {istio: edge}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}",
        )
        + &object("VirtualService", "{hosts: ['*'], gateways: [x], http: [{route: [{destination: {host: a}}]}]}");
    let mut gateway = proxy(ProxyType::Router, "server");
    gateway.labels.insert("istio".to_owned(), "edge".to_owned());
    let set = Cluster::new(&format!("{SERVICES}{rules}")).translate(&gateway);
    let found: Vec<_> = set.problems().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("DestinationRule server/x, spec.trafficPolicy.tunnel: is not translated"),
        "{found:?}"
    );
}

#[test]
fn a_server_on_a_unix_socket_is_left_out_and_the_others_stay() {
    let rules = object(
        "Gateway",
        "{selector: {istio: edge}, servers: [{bind: 'unix:///s', port: {number: 0, name: a, protocol: HTTP}, hosts: ['*']}, \
         {bind: 127.0.0.1, port: {number: 80, name: b, protocol: HTTP}, hosts: ['*']}]}",
    );
    let mut gateway = proxy(ProxyType::Router, "server");
    gateway.labels.insert("istio".to_owned(), "edge".to_owned());
    let set = Cluster::new(&format!("{SERVICES}{rules}")).translate(&gateway);
    let found: Vec<_> = set.problems().map(|problem| (problem.reason, problem.field.as_str())).collect();
    assert_eq!(found, [(Reason::Unsupported, "spec.servers[0].bind")]);
    assert!(set.listener("127.0.0.1_80").is_some());
}
