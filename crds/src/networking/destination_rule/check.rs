//! What is wrong with a DestinationRule.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::connection_pool::connection_pool;
use super::locality::{locality, zone_aware};
use super::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, ConsistentHashLb, DestinationRule, DestinationRuleSpec,
    LoadBalancerSettings, OutlierDetection, PortTrafficPolicy, TrafficPolicy, TunnelSettings,
};
use crate::check::{Checker, Problem};

impl DestinationRule {
    /// What is wrong with this object: its spec, by itself and in its namespace.
    pub fn check(&self) -> Vec<Problem> {
        self.spec.check_with(&self.metadata)
    }
}

impl DestinationRuleSpec {
    /// What is wrong with this rule.
    pub fn check(&self) -> Vec<Problem> {
        self.check_with(&ObjectMeta::default())
    }

    fn check_with(&self, metadata: &ObjectMeta) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        c.host("host", &self.host);
        if let Some(policy) = &self.traffic_policy {
            c.field("trafficPolicy", |c| traffic_policy(c, policy, namespace));
        }
        let mut names = HashSet::new();
        for (index, subset) in self.subsets.iter().enumerate() {
            c.field(&format!("subsets[{index}]"), |c| {
                c.dns_label("name", &subset.name, "subset");
                if !names.insert(&subset.name) {
                    c.error("name", format!("\"{}\" is defined twice", subset.name));
                }
                c.labels("labels", &subset.labels);
                if let Some(policy) = &subset.traffic_policy {
                    c.field("trafficPolicy", |c| traffic_policy(c, policy, namespace));
                }
            });
        }
        c.export_to(&self.export_to, namespace, false);
        if let Some(selector) = &self.workload_selector {
            c.field("workloadSelector", |c| selector.check(c));
            let elsewhere = |entry: &&String| {
                entry.as_str() == "*" || (*entry != "." && !namespace.is_empty() && entry.as_str() != namespace)
            };
            if let Some(entry) = self.export_to.iter().find(elsewhere) {
                c.error(
                    "exportTo",
                    format!("\"{entry}\" is too wide: with workloadSelector the rule is for its own namespace, \".\""),
                );
            }
        }
        c.finish()
    }
}

/// A policy of a rule in a namespace (empty where it is not known).
fn traffic_policy(c: &mut Checker, policy: &TrafficPolicy, namespace: &str) {
    if *policy == TrafficPolicy::default() {
        c.error("", "must set something, or be left out");
    }
    settings(c, policy.load_balancer.as_ref(), policy.connection_pool.as_ref(), policy.outlier_detection.as_ref());
    if let Some(tls) = &policy.tls {
        c.field("tls", |c| client_tls(c, tls, namespace));
    }
    c.each("portLevelSettings", &policy.port_level_settings, |c, policy| port_policy(c, policy, namespace));
    if let Some(tunnel) = &policy.tunnel {
        c.field("tunnel", |c| tunnel_settings(c, tunnel));
        if policy.proxy_protocol.is_some() {
            c.error("proxyProtocol", "cannot stand beside tunnel");
        }
    }
    if let Some(budget) = &policy.retry_budget {
        if let Some(percent) = budget.percent {
            c.percent("retryBudget.percent", percent);
        }
        c.duration("retryBudget.budgetInterval", budget.budget_interval);
    }
}

fn port_policy(c: &mut Checker, policy: &PortTrafficPolicy, namespace: &str) {
    match &policy.port {
        Some(port) => c.port("port.number", port.number),
        None => c.error("port", "must be set"),
    }
    let says_nothing = policy.load_balancer.is_none()
        && policy.connection_pool.is_none()
        && policy.outlier_detection.is_none()
        && policy.tls.is_none();
    if says_nothing {
        c.error("", "needs one of loadBalancer, connectionPool, outlierDetection, tls");
    }
    settings(c, policy.load_balancer.as_ref(), policy.connection_pool.as_ref(), policy.outlier_detection.as_ref());
    if let Some(tls) = &policy.tls {
        c.field("tls", |c| client_tls(c, tls, namespace));
    }
}

fn tunnel_settings(c: &mut Checker, tunnel: &TunnelSettings) {
    c.name_or_address("targetHost", &tunnel.target_host);
    c.port("targetPort", tunnel.target_port);
    if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
        c.error("protocol", format!("\"{}\" is not CONNECT or POST", tunnel.protocol));
    }
}

fn settings(
    c: &mut Checker,
    load_balancer: Option<&LoadBalancerSettings>,
    pool: Option<&ConnectionPoolSettings>,
    outlier: Option<&OutlierDetection>,
) {
    if let Some(balancing) = load_balancer {
        c.field("loadBalancer", |c| load_balancer_settings(c, balancing, outlier.is_some()));
    }
    if let Some(pool) = pool {
        c.field("connectionPool", |c| connection_pool(c, pool));
    }
    if let Some(outlier) = outlier {
        c.field("outlierDetection", |c| outlier_detection(c, outlier));
    }
}

fn outlier_detection(c: &mut Checker, outlier: &OutlierDetection) {
    c.percent("maxEjectionPercent", f64::from(outlier.max_ejection_percent));
    c.percent("minHealthPercent", f64::from(outlier.min_health_percent));
    c.duration("interval", outlier.interval);
    c.duration("baseEjectionTime", outlier.base_ejection_time);
    if outlier.consecutive_errors != 0 {
        c.warn(
            "consecutiveErrors",
            "is deprecated and has no effect: use consecutive5xxErrors or consecutiveGatewayErrors",
        );
    }
    if outlier.consecutive_local_origin_failures.is_some_and(|failures| failures > 0)
        && !outlier.split_external_local_origin_errors
    {
        c.error("consecutiveLocalOriginFailures", "needs splitExternalLocalOriginErrors: true");
    }
    for (index, status) in outlier.outlier_detection_http_error_codes.iter().enumerate() {
        if !(100..600).contains(status) {
            c.error(
                &format!("outlierDetectionHttpErrorCodes[{index}]"),
                format!("{status} is not a status: it must be between 100 and 599"),
            );
        }
    }
}

fn client_tls(c: &mut Checker, tls: &ClientTlsSettings, namespace: &str) {
    if let Some(reference) = tls.credential_name.strip_prefix("configmap://") {
        config_map(c, reference, namespace);
    }
    let files = [
        ("clientCertificate", &tls.client_certificate),
        ("privateKey", &tls.private_key),
        ("caCertificates", &tls.ca_certificates),
        ("caCrl", &tls.ca_crl),
    ];
    let originates = matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
    if originates && tls.insecure_skip_verify == Some(true) {
        let hint = "contradicts insecureSkipVerify, with which the server is not verified: leave one of them out";
        if !tls.ca_certificates.is_empty() {
            c.error("caCertificates", hint);
        }
        if !tls.subject_alt_names.is_empty() {
            c.error("subjectAltNames", hint);
        }
        // In mode MUTUAL the Secret also has the client's own certificate.
        if tls.mode == ClientTlsMode::Simple && !tls.credential_name.is_empty() {
            c.error("credentialName", hint);
        }
    }
    if originates && !tls.credential_name.is_empty() {
        for (name, _) in files.iter().filter(|(_, file)| !file.is_empty()) {
            c.error(name, "cannot stand beside credentialName, whose Secret has it");
        }
    } else if tls.mode == ClientTlsMode::Mutual {
        for (name, _) in files.iter().take(2).filter(|(_, file)| file.is_empty()) {
            c.error(name, "must be set for mode MUTUAL, unless credentialName is");
        }
    }
}

/// `configmap://<namespace>/<name>`: authorities in a ConfigMap of the rule's own namespace.
fn config_map(c: &mut Checker, reference: &str, namespace: &str) {
    let own = if namespace.is_empty() { "<namespace>" } else { namespace };
    match reference.split_once('/') {
        Some((of, name)) if !of.is_empty() && !name.is_empty() && !name.contains('/') => {
            if !namespace.is_empty() && of != namespace {
                c.error(
                    "credentialName",
                    format!("\"configmap://{reference}\" is in another namespace than the rule: it must be \"configmap://{own}/{name}\""),
                );
            }
        }
        _ => c.error(
            "credentialName",
            format!("\"configmap://{reference}\" names no ConfigMap: write \"configmap://{own}/<name>\""),
        ),
    }
}

fn load_balancer_settings(c: &mut Checker, balancing: &LoadBalancerSettings, ejects: bool) {
    c.at_most_one(&[
        ("simple", balancing.simple.is_some()),
        ("consistentHash", balancing.consistent_hash.is_some()),
        ("backendUtilization", balancing.backend_utilization.is_some()),
    ]);
    if let Some(hash) = &balancing.consistent_hash {
        c.field("consistentHash", |c| consistent_hash(c, hash));
    }
    if let Some(warmup) = &balancing.warmup {
        c.field("warmup", |c| {
            if warmup.duration.is_none() {
                c.error("duration", "must be set");
            }
            c.duration("duration", warmup.duration);
            if let Some(percent) = warmup.minimum_percent {
                c.percent("minimumPercent", percent);
            }
            if let Some(aggression) = warmup.aggression
                && aggression <= 0.0
            {
                c.error("aggression", format!("{aggression} is too small: it must be above 0"));
            }
        });
    }
    c.duration("warmupDurationSecs", balancing.warmup_duration_secs);
    c.at_most_one(&[
        ("localityLbSetting", balancing.locality_lb_setting.is_some()),
        ("zoneAwareLbSetting", balancing.zone_aware_lb_setting.is_some()),
    ]);
    if let Some(setting) = &balancing.locality_lb_setting {
        c.field("localityLbSetting", |c| locality(c, setting, ejects));
    }
    if let Some(setting) = &balancing.zone_aware_lb_setting {
        c.field("zoneAwareLbSetting", |c| zone_aware(c, setting, ejects));
    }
}

fn consistent_hash(c: &mut Checker, hash: &ConsistentHashLb) {
    let keys = c.at_most_one(&[
        ("httpHeaderName", hash.http_header_name.is_some()),
        ("httpCookie", hash.http_cookie.is_some()),
        ("useSourceIp", hash.use_source_ip.is_some()),
        ("httpQueryParameterName", hash.http_query_parameter_name.is_some()),
    ]);
    if keys == 0 {
        c.warn("", "names nothing to hash: set one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName");
    }
    if let Some(cookie) = &hash.http_cookie {
        c.field("httpCookie", |c| {
            c.required("name", &cookie.name);
            let mut names = HashSet::new();
            for (index, attribute) in cookie.attributes.iter().enumerate() {
                let name = format!("attributes[{index}].name");
                c.required(&name, &attribute.name);
                if !names.insert(&attribute.name) {
                    c.error(&name, format!("\"{}\" is listed twice", attribute.name));
                }
            }
        });
    }
    let algorithm = c.at_most_one(&[("ringHash", hash.ring_hash.is_some()), ("maglev", hash.maglev.is_some())]);
    if hash.minimum_ring_size != 0 {
        if algorithm > 0 {
            c.error("minimumRingSize", "cannot stand beside ringHash or maglev: use ringHash.minimumRingSize");
        } else {
            c.warn("minimumRingSize", "is deprecated: use ringHash.minimumRingSize");
        }
    }
    if let Some(maglev) = &hash.maglev {
        let size = maglev.table_size;
        // Istio's bounds.
        if size == 0 {
            c.error("maglev.tableSize", "must be set, to a prime such as 65537");
        } else if size >= 5_000_011 || !is_prime(size) {
            c.error("maglev.tableSize", format!("{size} is no size of a table: it must be a prime below 5000011"));
        }
    }
}

/// By trial division; sizes are bounded before.
fn is_prime(number: u64) -> bool {
    number > 1 && (2..=number.isqrt()).all(|factor| !number.is_multiple_of(factor))
}

#[cfg(test)]
mod tests {
    use super::{DestinationRule, DestinationRuleSpec, is_prime};

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("subsets", "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}", &[]),
            (
                "a subset twice",
                "{host: reviews, subsets: [{name: v1}, {name: v1}]}",
                &["spec.subsets[1].name: \"v1\" is defined twice"],
            ),
            (
                "a subset without a name",
                "{host: reviews, subsets: [{labels: {version: 'a b'}}]}",
                &[
                    "spec.subsets[0].name: \"\" is not the name of a subset: it must be 1 to 63 letters, digits and dashes, with no dash at its ends",
                    "spec.subsets[0].labels: \"a b\" is not the value of label \"version\": it must be letters, digits, dashes, underscores and dots",
                ],
            ),
            (
                "a percentage above 100",
                "{host: a, trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}}",
                &[
                    "spec.trafficPolicy.outlierDetection.maxEjectionPercent: 101 is not a percentage: it must be between 0 and 100",
                ],
            ),
            (
                "a port without a number",
                "{host: a, trafficPolicy: {portLevelSettings: [{tls: {mode: SIMPLE}}]}}",
                &["spec.trafficPolicy.portLevelSettings[0].port: must be set"],
            ),
            (
                "policies that say nothing",
                "{host: a, trafficPolicy: {}, subsets: [{name: v1, trafficPolicy: {connectionPool: {}, portLevelSettings: [{port: {number: 80}}]}}]}",
                &[
                    "spec.trafficPolicy: must set something, or be left out",
                    "spec.subsets[0].trafficPolicy.connectionPool: needs tcp or http",
                    "spec.subsets[0].trafficPolicy.portLevelSettings[0]: needs one of loadBalancer, connectionPool, outlierDetection, tls",
                ],
            ),
            (
                "affinity by two keys",
                "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: x}}}}",
                &[
                    "spec.trafficPolicy.loadBalancer.consistentHash: has httpHeaderName and useSourceIp, of which only one can be",
                ],
            ),
            (
                "affinity by nothing, in a table of an odd size",
                "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {maglev: {tableSize: 1000}}}}}",
                &[
                    "spec.trafficPolicy.loadBalancer.consistentHash: names nothing to hash: set one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName",
                    "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: 1000 is no size of a table: it must be a prime below 5000011",
                ],
            ),
            (
                "a table without a size, and one too many",
                "{host: a, subsets: [{name: x, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}}}, {name: y, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}}}]}",
                &[
                    "spec.subsets[0].trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: must be set, to a prime such as 65537",
                    "spec.subsets[1].trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: 5000011 is no size of a table: it must be a prime below 5000011",
                ],
            ),
            (
                "a warm-up",
                "{host: a, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 30s, minimumPercent: 10, aggression: 1}}}}",
                &[],
            ),
            (
                "a warm-up that cannot be",
                "{host: a, trafficPolicy: {loadBalancer: {warmup: {minimumPercent: 101, aggression: 0}}}}",
                &[
                    "spec.trafficPolicy.loadBalancer.warmup.duration: must be set",
                    "spec.trafficPolicy.loadBalancer.warmup.minimumPercent: 101 is not a percentage: it must be between 0 and 100",
                    "spec.trafficPolicy.loadBalancer.warmup.aggression: 0 is too small: it must be above 0",
                ],
            ),
            (
                "connections that stay open",
                "{host: a, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 0s, connectTimeout: 30ms, maxConnectionDuration: 1h}}}}",
                &[],
            ),
            (
                "connections that never open",
                "{host: a, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0s, idleTimeout: 10us}}}}",
                &[
                    "spec.trafficPolicy.connectionPool.tcp.connectTimeout: 0s is too short: it must be at least 1ms",
                    "spec.trafficPolicy.connectionPool.tcp.idleTimeout: 0.00001s is too short: it must be at least 1ms",
                ],
            ),
            (
                "a cookie's attributes",
                "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, attributes: [{name: A}, {name: A}, {}]}}}}}",
                &[
                    "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[1].name: \"A\" is listed twice",
                    "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[2].name: must be set",
                ],
            ),
            (
                "failover that nothing sets off",
                "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: x, to: y}]}}}}",
                &[
                    "spec.trafficPolicy.loadBalancer.localityLbSetting.failover: needs outlierDetection in the same policy: nothing else finds out that endpoints fail",
                ],
            ),
            (
                "pings without their times",
                "{host: a, trafficPolicy: {connectionPool: {http: {http2KeepAlive: {interval: 1s}, h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}}",
                &[
                    "spec.trafficPolicy.connectionPool.http.useClientProtocol: contradicts h2UpgradePolicy UPGRADE: leave one of them out",
                    "spec.trafficPolicy.connectionPool.http.http2KeepAlive.timeout: must be set",
                ],
            ),
            (
                "verification that is asked for and switched off",
                "{host: a, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: a}}}",
                &[
                    "spec.trafficPolicy.tls.caCertificates: contradicts insecureSkipVerify, with which the server is not verified: leave one of them out",
                ],
            ),
            (
                "a Secret and files",
                "{host: a, trafficPolicy: {tls: {mode: MUTUAL, credentialName: a, privateKey: b}}}",
                &["spec.trafficPolicy.tls.privateKey: cannot stand beside credentialName, whose Secret has it"],
            ),
            (
                "mutual TLS without a certificate",
                "{host: a, trafficPolicy: {tls: {mode: MUTUAL, privateKey: b}}}",
                &["spec.trafficPolicy.tls.clientCertificate: must be set for mode MUTUAL, unless credentialName is"],
            ),
            (
                "a tunnel",
                "{host: a, trafficPolicy: {tunnel: {protocol: GET, targetHost: '*.a.com', targetPort: 0}, proxyProtocol: {version: V2}}}",
                &[
                    "spec.trafficPolicy.tunnel.targetHost: \"*.a.com\" is neither an address nor the name of a host: each part of it must be 1 to 63 letters, digits and dashes, with no dash at its ends",
                    "spec.trafficPolicy.tunnel.targetPort: 0 is not a port: it must be between 1 and 65535",
                    "spec.trafficPolicy.tunnel.protocol: \"GET\" is not CONNECT or POST",
                    "spec.trafficPolicy.proxyProtocol: cannot stand beside tunnel",
                ],
            ),
            (
                "failures that are not counted",
                "{host: a, trafficPolicy: {outlierDetection: {consecutiveErrors: 1, consecutiveLocalOriginFailures: 1}}}",
                &[
                    "spec.trafficPolicy.outlierDetection.consecutiveErrors: is deprecated and has no effect: use consecutive5xxErrors or consecutiveGatewayErrors",
                    "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures: needs splitExternalLocalOriginErrors: true",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: DestinationRuleSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }

    #[test]
    fn a_rule_for_some_clients_stays_in_its_namespace() {
        let rows = [("[.]", 0), ("[own]", 0), ("['*']", 1), ("[other]", 1), ("[own, other]", 1), ("[., own]", 1)];
        for (export_to, expected) in rows {
            let yaml = format!(
                "{{metadata: {{name: x, namespace: own}}, spec: {{host: a, exportTo: {export_to}, workloadSelector: {{matchLabels: {{app: a}}}}}}}}"
            );
            let object: DestinationRule = crate::parse(crate::yaml::value(&yaml).unwrap()).unwrap();
            assert_eq!(object.check().len(), expected, "{export_to}");
        }
    }

    #[test]
    fn authorities_in_a_config_map_of_the_own_namespace() {
        let rows = [
            ("configmap://own/ca", None),
            ("a-secret", None),
            (
                "configmap://other/ca",
                Some(
                    "\"configmap://other/ca\" is in another namespace than the rule: it must be \"configmap://own/ca\"",
                ),
            ),
            ("configmap://ca", Some("\"configmap://ca\" names no ConfigMap: write \"configmap://own/<name>\"")),
            ("configmap://", Some("\"configmap://\" names no ConfigMap: write \"configmap://own/<name>\"")),
            ("configmap:///ca", Some("\"configmap:///ca\" names no ConfigMap: write \"configmap://own/<name>\"")),
            ("configmap://a/b/c", Some("\"configmap://a/b/c\" names no ConfigMap: write \"configmap://own/<name>\"")),
        ];
        for (name, expected) in rows {
            let yaml = format!(
                "{{metadata: {{name: x, namespace: own}}, spec: {{host: a, trafficPolicy: {{portLevelSettings: [{{port: {{number: 443}}, tls: {{mode: SIMPLE, credentialName: '{name}'}}}}]}}}}}}"
            );
            let object: DestinationRule = crate::parse(crate::yaml::value(&yaml).unwrap()).unwrap();
            let found: Vec<_> = object.check().iter().map(ToString::to_string).collect();
            let place = "spec.trafficPolicy.portLevelSettings[0].tls.credentialName";
            let expected: Vec<_> = expected.iter().map(|message| format!("{place}: {message}")).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn primes() {
        let below_thirty: Vec<u64> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(below_thirty, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && is_prime(5_000_011) && !is_prime(65_536));
    }
}
