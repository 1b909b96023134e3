//! A DestinationRule's balancing, limits and ejection on a cluster.

use crds::networking::destination_rule::{
    ConnectionPoolSettings, H2UpgradePolicy, LoadBalancerSettings, OutlierDetection, SimpleLb,
};
use xds::any;
use xds::types::cluster::{self as cds, Cluster};
use xds::types::{common, core, google, uint32, upstream_http};

use crate::model::policy::Policy;
use crate::model::protocol::Protocol;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Istio's ring is larger than Envoy's 1024 only if asked.
const MINIMUM_RING: u64 = 1024;

/// Applies what the rules say, and Istio's defaults where they say nothing.
pub(crate) fn apply(cluster: &mut Cluster, policy: &Policy<'_>, protocol: Protocol, server_names: ServerNames) {
    load_balancer(cluster, policy.load_balancer);
    limits(cluster, policy.connection_pool);
    cluster.outlier_detection = policy.outlier_detection.map(outlier_detection);
    let minimum = policy.outlier_detection.map_or(0, |detection| detection.min_health_percent.max(0));
    let lb = cluster.common_lb_config.get_or_insert_default();
    // Off: sending to endpoints that are known to be down helps nobody.
    lb.healthy_panic_threshold = Some(common::Percent { value: f64::from(minimum) });
    if let Some(options) = http_options(policy.connection_pool, protocol, server_names) {
        cluster.typed_extension_protocol_options.insert(HTTP_OPTIONS.to_owned(), any::pack(&options));
    }
}

/// Whether the server name and the name to verify follow the request's host.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ServerNames {
    pub(crate) from_host: bool,
    pub(crate) verified_by_host: bool,
}

fn load_balancer(cluster: &mut Cluster, settings: Option<&LoadBalancerSettings>) {
    use cds::cluster::LbPolicy;
    let mut policy = LbPolicy::LeastRequest;
    if let Some(settings) = settings {
        policy = match settings.simple.unwrap_or_default() {
            SimpleLb::Random => LbPolicy::Random,
            SimpleLb::RoundRobin => LbPolicy::RoundRobin,
            SimpleLb::Passthrough => LbPolicy::ClusterProvided,
            SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest => LbPolicy::LeastRequest,
        };
        if let Some(hash) = &settings.consistent_hash {
            let size = |value| Some(google::UInt64Value { value });
            if let Some(maglev) = &hash.maglev {
                policy = LbPolicy::Maglev;
                let table_size = (maglev.table_size > 0).then_some(maglev.table_size).and_then(size);
                let config = cds::cluster::MaglevLbConfig { table_size };
                cluster.lb_config = Some(cds::cluster::LbConfig::MaglevLbConfig(config));
            } else {
                policy = LbPolicy::RingHash;
                let asked = hash.ring_hash.as_ref().map_or(hash.minimum_ring_size, |ring| ring.minimum_ring_size);
                let config = cds::cluster::RingHashLbConfig {
                    minimum_ring_size: size(if asked == 0 { MINIMUM_RING } else { asked }),
                    ..Default::default()
                };
                cluster.lb_config = Some(cds::cluster::LbConfig::RingHashLbConfig(config));
            }
        }
    }
    // Where the endpoint is the original destination there is nothing to choose between.
    if cluster.lb_policy != i32::from(LbPolicy::ClusterProvided) {
        cluster.lb_policy = policy.into();
    }
    if policy == LbPolicy::ClusterProvided {
        cluster.eds_cluster_config = None;
        cluster.load_assignment = None;
        cluster.cluster_discovery_type =
            Some(cds::cluster::ClusterDiscoveryType::Type(cds::cluster::DiscoveryType::OriginalDst.into()));
    }
}

/// Of an Istio field in which zero or less means "no limit".
fn limit(value: i32) -> Option<google::UInt32Value> {
    u32::try_from(value).ok().filter(|value| *value > 0).map(uint32)
}

fn limits(cluster: &mut Cluster, settings: Option<&ConnectionPoolSettings>) {
    // Envoy's own default of 1024 is a trap for busy services; Istio's default is no limit.
    let unlimited = Some(uint32(u32::MAX));
    let mut thresholds = cds::circuit_breakers::Thresholds {
        max_connections: unlimited,
        max_pending_requests: unlimited,
        max_requests: unlimited,
        max_retries: unlimited,
        track_remaining: true,
        ..Default::default()
    };
    if let Some(tcp) = settings.and_then(|settings| settings.tcp.as_ref()) {
        thresholds.max_connections = limit(tcp.max_connections).or(unlimited);
        if let Some(timeout) = tcp.connect_timeout {
            cluster.connect_timeout = Some(google::duration(timeout.get()));
        }
        if let Some(keepalive) = &tcp.tcp_keepalive {
            let seconds = |value: &Option<crds::Duration>| {
                value.map(|value| uint32(u32::try_from(value.get().as_secs()).unwrap_or(u32::MAX)))
            };
            cluster.upstream_connection_options = Some(cds::UpstreamConnectionOptions {
                tcp_keepalive: Some(core::TcpKeepalive {
                    keepalive_probes: (keepalive.probes > 0).then(|| uint32(keepalive.probes)),
                    keepalive_time: seconds(&keepalive.time),
                    keepalive_interval: seconds(&keepalive.interval),
                }),
                ..Default::default()
            });
        }
    }
    if let Some(http) = settings.and_then(|settings| settings.http.as_ref()) {
        thresholds.max_pending_requests = limit(http.http1_max_pending_requests).or(unlimited);
        thresholds.max_requests = limit(http.http2_max_requests).or(unlimited);
        thresholds.max_retries = limit(http.max_retries).or(unlimited);
    }
    cluster.circuit_breakers = Some(cds::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() });
}

fn outlier_detection(settings: &OutlierDetection) -> cds::OutlierDetection {
    let percent = |value: i32| u32::try_from(value).ok().filter(|value| *value > 0).map(uint32);
    let duration = |value: Option<crds::Duration>| value.map(|value| google::duration(value.get()));
    // 0 switches a detector off; absent leaves Envoy's default.
    let enforced = |consecutive: Option<u32>| consecutive.map(|count| uint32(if count > 0 { 100 } else { 0 }));
    let counted = |consecutive: Option<u32>| consecutive.filter(|count| *count > 0).map(uint32);
    cds::OutlierDetection {
        consecutive_5xx: counted(settings.consecutive_5xx_errors),
        enforcing_consecutive_5xx: enforced(settings.consecutive_5xx_errors),
        consecutive_gateway_failure: counted(settings.consecutive_gateway_errors),
        enforcing_consecutive_gateway_failure: enforced(settings.consecutive_gateway_errors),
        split_external_local_origin_errors: settings.split_external_local_origin_errors,
        consecutive_local_origin_failure: counted(settings.consecutive_local_origin_failures),
        enforcing_consecutive_local_origin_failure: enforced(settings.consecutive_local_origin_failures),
        enforcing_success_rate: Some(uint32(0)),
        interval: duration(settings.interval),
        base_ejection_time: duration(settings.base_ejection_time),
        max_ejection_percent: percent(settings.max_ejection_percent),
        ..Default::default()
    }
}

fn http_options(
    settings: Option<&ConnectionPoolSettings>,
    protocol: Protocol,
    server_names: ServerNames,
) -> Option<upstream_http::HttpProtocolOptions> {
    use upstream_http::http_protocol_options as options;
    let http = settings.and_then(|settings| settings.http.as_ref());
    let upgrades = http.is_some_and(|http| http.h2_upgrade_policy == H2UpgradePolicy::Upgrade);
    let keeps = http.is_some_and(|http| http.use_client_protocol) || protocol.is_sniffed();

    let http2 = core::Http2ProtocolOptions {
        max_concurrent_streams: http.and_then(|http| limit(http.max_concurrent_streams)),
        connection_keepalive: http.and_then(|http| http.http2_keep_alive.as_ref()).map(|keep| {
            core::KeepaliveSettings {
                interval: keep.interval.map(|value| google::duration(value.get())),
                timeout: keep.timeout.map(|value| google::duration(value.get())),
                ..Default::default()
            }
        }),
        ..Default::default()
    };
    let to_http2 = protocol.is_http2() || (upgrades && protocol.is_http());
    let plain = !to_http2 && !keeps;
    let protocols = if to_http2 {
        options::UpstreamProtocolOptions::ExplicitHttpConfig(options::ExplicitHttpConfig {
            protocol_config: Some(options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(http2)),
        })
    } else if keeps {
        options::UpstreamProtocolOptions::UseDownstreamProtocolConfig(options::UseDownstreamHttpConfig {
            http_protocol_options: Some(core::Http1ProtocolOptions::default()),
            http2_protocol_options: Some(http2),
            ..Default::default()
        })
    } else {
        options::UpstreamProtocolOptions::ExplicitHttpConfig(options::ExplicitHttpConfig {
            protocol_config: Some(options::explicit_http_config::ProtocolConfig::HttpProtocolOptions(
                core::Http1ProtocolOptions::default(),
            )),
        })
    };
    let common = http.map(|http| core::HttpProtocolOptions {
        idle_timeout: http.idle_timeout.map(|value| google::duration(value.get())),
        max_requests_per_connection: limit(http.max_requests_per_connection),
        ..Default::default()
    });
    let common = common.filter(|common| *common != core::HttpProtocolOptions::default());
    // HTTP/1.1 is what is spoken when nothing is said.
    if plain && common.is_none() && !server_names.from_host {
        return None;
    }
    Some(upstream_http::HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_http_protocol_options: server_names.from_host.then(|| core::UpstreamHttpProtocolOptions {
            auto_sni: true,
            auto_san_validation: server_names.verified_by_host,
            ..Default::default()
        }),
        upstream_protocol_options: Some(protocols),
        ..Default::default()
    })
}
