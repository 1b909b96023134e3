//! What is wrong with a DestinationRule.

use super::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRuleSpec, LoadBalancerSettings,
    OutlierDetection, TrafficPolicy,
};
use crate::check::{Checker, Problem};

impl DestinationRuleSpec {
    /// What is wrong with this rule.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        c.host("host", &self.host);
        if let Some(policy) = &self.traffic_policy {
            c.field("trafficPolicy", |c| traffic_policy(c, policy));
        }
        for (index, subset) in self.subsets.iter().enumerate() {
            let name = format!("subsets[{index}]");
            if subset.name.is_empty() {
                c.error(&format!("{name}.name"), "must be set");
            }
            if self.subsets.iter().take(index).any(|earlier| earlier.name == subset.name) {
                c.error(&format!("{name}.name"), format!("\"{}\" is defined twice", subset.name));
            }
            if let Some(policy) = &subset.traffic_policy {
                c.field(&format!("{name}.trafficPolicy"), |c| traffic_policy(c, policy));
            }
        }
        if let Some(selector) = &self.workload_selector {
            c.field("workloadSelector", |c| selector.check(c));
        }
        c.finish()
    }
}

fn traffic_policy(c: &mut Checker, policy: &TrafficPolicy) {
    settings(
        c,
        policy.load_balancer.as_ref(),
        policy.connection_pool.as_ref(),
        policy.outlier_detection.as_ref(),
        policy.tls.as_ref(),
    );
    c.each("portLevelSettings", &policy.port_level_settings, |c, port| {
        match &port.port {
            Some(port) => c.port("port.number", port.number),
            None => c.error("port", "must be set"),
        }
        settings(
            c,
            port.load_balancer.as_ref(),
            port.connection_pool.as_ref(),
            port.outlier_detection.as_ref(),
            port.tls.as_ref(),
        );
    });
    if let Some(tunnel) = &policy.tunnel {
        c.field("tunnel", |c| {
            c.host("targetHost", &tunnel.target_host);
            c.port("targetPort", tunnel.target_port);
            if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
                c.error("protocol", format!("\"{}\" is not CONNECT or POST", tunnel.protocol));
            }
        });
    }
    if let Some(budget) = &policy.retry_budget
        && let Some(percent) = budget.percent
    {
        c.percent("retryBudget.percent", percent);
    }
}

fn settings(
    c: &mut Checker,
    load_balancer: Option<&LoadBalancerSettings>,
    connection_pool: Option<&ConnectionPoolSettings>,
    outlier_detection: Option<&OutlierDetection>,
    tls: Option<&ClientTlsSettings>,
) {
    if let Some(balancing) = load_balancer {
        c.field("loadBalancer", |c| load_balancer_settings(c, balancing));
    }
    if let Some(pool) = connection_pool {
        c.field("connectionPool", |c| connection_pool_settings(c, pool));
    }
    if let Some(outlier) = outlier_detection {
        c.field("outlierDetection", |c| {
            c.percent("maxEjectionPercent", f64::from(outlier.max_ejection_percent));
            c.percent("minHealthPercent", f64::from(outlier.min_health_percent));
            c.at_least_a_millisecond("interval", outlier.interval);
            c.at_least_a_millisecond("baseEjectionTime", outlier.base_ejection_time);
        });
    }
    if let Some(tls) = tls {
        c.field("tls", |c| {
            if tls.mode == ClientTlsMode::Mutual && tls.credential_name.is_empty() {
                let hint = "must be set for mode MUTUAL, unless credentialName is";
                for (name, file) in [("clientCertificate", &tls.client_certificate), ("privateKey", &tls.private_key)] {
                    if file.is_empty() {
                        c.error(name, hint);
                    }
                }
            }
        });
    }
}

fn load_balancer_settings(c: &mut Checker, balancing: &LoadBalancerSettings) {
    if let Some(hash) = &balancing.consistent_hash {
        let keys = [
            hash.http_header_name.is_some(),
            hash.http_cookie.is_some(),
            hash.use_source_ip.is_some(),
            hash.http_query_parameter_name.is_some(),
        ];
        if keys.iter().filter(|set| **set).count() != 1 {
            c.error(
                "consistentHash",
                "needs exactly one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName",
            );
        }
        if let Some(cookie) = &hash.http_cookie {
            c.required("consistentHash.httpCookie.name", &cookie.name);
        }
    }
    if let Some(warmup) = &balancing.warmup {
        if warmup.duration.is_none() {
            c.error("warmup.duration", "must be set");
        }
        if let Some(percent) = warmup.minimum_percent {
            c.percent("warmup.minimumPercent", percent);
        }
    }
    if let Some(locality) = &balancing.locality_lb_setting {
        if !locality.distribute.is_empty() && !locality.failover.is_empty() {
            c.error("localityLbSetting", "has distribute and failover, of which only one can be");
        }
        c.each("localityLbSetting.distribute", &locality.distribute, |c, distribute| {
            let total: u64 = distribute.to.values().map(|share| u64::from(*share)).sum();
            if total != 100 {
                c.error("to", format!("its shares add up to {total}, not to 100"));
            }
        });
    }
}

fn connection_pool_settings(c: &mut Checker, pool: &ConnectionPoolSettings) {
    let not_negative = |c: &mut Checker, name: &str, value: i32| {
        if value < 0 {
            c.error(name, format!("{value} is negative"));
        }
    };
    if let Some(tcp) = &pool.tcp {
        not_negative(c, "tcp.maxConnections", tcp.max_connections);
        c.at_least_a_millisecond("tcp.connectTimeout", tcp.connect_timeout);
        c.at_least_a_millisecond("tcp.maxConnectionDuration", tcp.max_connection_duration);
    }
    if let Some(http) = &pool.http {
        not_negative(c, "http.http1MaxPendingRequests", http.http1_max_pending_requests);
        not_negative(c, "http.http2MaxRequests", http.http2_max_requests);
        not_negative(c, "http.maxRequestsPerConnection", http.max_requests_per_connection);
        not_negative(c, "http.maxRetries", http.max_retries);
        not_negative(c, "http.maxConcurrentStreams", http.max_concurrent_streams);
        c.at_least_a_millisecond("http.idleTimeout", http.idle_timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::DestinationRuleSpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("subsets", "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}", &[]),
            ("no host", "{}", &["spec.host: \"\" is not a host: it is empty"]),
            (
                "a subset twice",
                "{host: a, subsets: [{name: v1}, {name: v1}]}",
                &["spec.subsets[1].name: \"v1\" is defined twice"],
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
                "affinity by two keys",
                "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: x}}}}",
                &[
                    "spec.trafficPolicy.loadBalancer.consistentHash: needs exactly one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: DestinationRuleSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
