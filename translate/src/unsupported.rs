//! Fields of Istio's API that traffic does not follow yet: whoever sets one is told, so that nothing is lost in silence.
//!
//! One table for each kind. A field that comes to be translated leaves its table; `docs/compatibility.md` has the same
//! rows for readers.

use crds::networking::destination_rule::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, LoadBalancerSettings, OutlierDetection, TrafficPolicy,
};
use crds::networking::service_entry::Resolution;
use crds::networking::workload_entry::WorkloadEntrySpec;

use crate::model::istio::virtual_address;
use crate::model::rule::{DestinationRule, ServiceEntry};
use crate::problem::{Problem, Reason};

/// Whether a field is set, which it is, and what happens instead.
type Row = (bool, &'static str, &'static str);

/// What a DestinationRule asks for and does not get.
pub(crate) fn destination_rule(rule: &DestinationRule) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |at: &str, rows: &[Row]| {
        let set = rows.iter().filter(|(is_set, ..)| *is_set);
        problems.extend(
            set.map(|(_, field, message)| Problem::of(rule, Reason::Unsupported, format!("{at}.{field}"), *message)),
        );
    };
    let subsets = rule.spec.subsets.iter().enumerate().filter_map(|(index, subset)| {
        Some((format!("spec.subsets[{index}].trafficPolicy"), subset.traffic_policy.as_ref()?))
    });
    let own = rule.spec.traffic_policy.iter().map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    for (at, policy) in own.chain(subsets) {
        report(&at, &whole_policy(policy));
        report(
            &at,
            &settings(
                policy.load_balancer.as_ref(),
                policy.connection_pool.as_ref(),
                policy.outlier_detection.as_ref(),
                policy.tls.as_ref(),
            ),
        );
        for (index, port) in policy.port_level_settings.iter().enumerate() {
            let rows = settings(
                port.load_balancer.as_ref(),
                port.connection_pool.as_ref(),
                port.outlier_detection.as_ref(),
                port.tls.as_ref(),
            );
            report(&format!("{at}.portLevelSettings[{index}]"), &rows);
        }
    }
    problems
}

/// What a policy has and a port's settings have not.
fn whole_policy(policy: &TrafficPolicy) -> [Row; 3] {
    [
        (policy.tunnel.is_some(), "tunnel", "is not translated yet: connections go to the destination itself"),
        (policy.proxy_protocol.is_some(), "proxyProtocol", "is not translated yet: no PROXY header is sent"),
        (
            policy.retry_budget.is_some(),
            "retryBudget",
            "is not translated yet: retries are limited by connectionPool.http.maxRetries only",
        ),
    ]
}

/// What a policy and a port's settings both have.
fn settings(
    balancing: Option<&LoadBalancerSettings>,
    pool: Option<&ConnectionPoolSettings>,
    outlier: Option<&OutlierDetection>,
    tls: Option<&ClientTlsSettings>,
) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    if let Some(of) = balancing {
        let same_weight = "is not translated yet: a new endpoint gets its full share at once";
        let anywhere = "is not translated yet: endpoints count the same wherever they are";
        rows.extend([
            (of.warmup.is_some(), "loadBalancer.warmup", same_weight),
            (of.warmup_duration_secs.is_some(), "loadBalancer.warmupDurationSecs", same_weight),
            (of.locality_lb_setting.is_some(), "loadBalancer.localityLbSetting", anywhere),
            (of.zone_aware_lb_setting.is_some(), "loadBalancer.zoneAwareLbSetting", anywhere),
            (
                of.backend_utilization.is_some(),
                "loadBalancer.backendUtilization",
                "is not translated yet: the endpoint with the fewest requests is chosen",
            ),
        ]);
    }
    if let Some(tcp) = pool.and_then(|pool| pool.tcp.as_ref()) {
        rows.extend([
            (
                tcp.max_connection_duration.is_some(),
                "connectionPool.tcp.maxConnectionDuration",
                "is not translated yet: a connection lives as long as both ends want it",
            ),
            (
                tcp.idle_timeout.is_some(),
                "connectionPool.tcp.idleTimeout",
                "is not translated yet: an idle TCP connection is closed after one hour",
            ),
            (
                tcp.tcp_keepalive.is_some(),
                "connectionPool.tcp.tcpKeepalive",
                "is not applied by the mesh's proxies yet: the node's settings count",
            ),
        ]);
    }
    if let Some(http) = pool.and_then(|pool| pool.http.as_ref()) {
        rows.extend([
            (
                http.max_concurrent_streams > 0,
                "connectionPool.http.maxConcurrentStreams",
                "is not applied by the mesh's proxies yet: the server's own limit counts",
            ),
            (
                http.http2_keep_alive.is_some(),
                "connectionPool.http.http2KeepAlive",
                "is not applied by the mesh's proxies yet: no pings are sent",
            ),
        ]);
    }
    if let Some(of) = outlier {
        rows.extend([
            (
                of.consecutive_errors > 0,
                "outlierDetection.consecutiveErrors",
                "is deprecated and does not count: use consecutive5xxErrors or consecutiveGatewayErrors",
            ),
            (
                !of.outlier_detection_http_error_codes.is_empty(),
                "outlierDetection.outlierDetectionHttpErrorCodes",
                "is not translated yet: statuses from 500 on count as errors, others do not",
            ),
        ]);
    }
    if let Some(tls) = tls {
        let with_secret = !tls.credential_name.is_empty() && originates(tls);
        rows.extend([
            (
                with_secret && tls.mode == ClientTlsMode::Simple,
                "tls.credentialName",
                "is not read yet: the server is verified by caCertificates, else by the system's authorities",
            ),
            (
                with_secret && tls.mode == ClientTlsMode::Mutual,
                "tls.credentialName",
                "is not read yet, and without clientCertificate and privateKey proxies refuse the cluster: mount the \
                 Secret (annotations sidecar.istio.io/userVolume and userVolumeMount) and name the files",
            ),
            (
                !tls.ca_crl.is_empty() && originates(tls),
                "tls.caCrl",
                "is not applied by the mesh's proxies yet, and they refuse the cluster rather than ignore it",
            ),
        ]);
    }
    rows
}

/// Whether TLS is spoken by other certificates than the mesh's.
fn originates(tls: &ClientTlsSettings) -> bool {
    matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual)
}

/// What a ServiceEntry asks for and does not get.
pub(crate) fn service_entry(entry: &ServiceEntry) -> Vec<Problem> {
    let spec = &entry.spec;
    let mut problems = Vec::new();
    let mut report = |is_set: bool, field: String, message: &str| {
        if is_set {
            problems.push(Problem::of(entry, Reason::Unsupported, format!("spec.{field}"), message));
        }
    };
    report(
        spec.resolution == Resolution::DynamicDns,
        "resolution".to_owned(),
        "DYNAMIC_DNS is not translated yet: it is taken for NONE, connections go to the address that the client looked \
         up",
    );
    for (index, address) in spec.addresses.iter().enumerate() {
        report(
            virtual_address(address).is_none(),
            format!("addresses[{index}]"),
            "is no single address, and blocks are not translated yet: connections to its addresses are told apart by \
             port only; list the addresses one by one",
        );
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        for (is_set, field, message) in of_endpoint(endpoint) {
            report(is_set, format!("endpoints[{index}].{field}"), message);
        }
    }
    problems
}

fn of_endpoint(endpoint: &WorkloadEntrySpec) -> [Row; 3] {
    [
        (
            endpoint.address.starts_with("unix://"),
            "address",
            "unix sockets are not served by the mesh's proxies yet: they refuse the endpoints of this entry",
        ),
        (!endpoint.network.is_empty(), "network", "is not translated yet: the endpoint is connected to directly"),
        (
            !endpoint.locality.is_empty(),
            "locality",
            "is not translated yet: endpoints count the same wherever they are",
        ),
    ]
}
