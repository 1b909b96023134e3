//! Clusters.

use std::{net::IpAddr, sync::Arc, time::Duration};

use xds::{
    any, service,
    types::{cluster as message, core, google, upstream_http},
    workload,
};

use super::{At, Checked, Invalid, Refused, Shared, absent, endpoint, part, tls};
use crate::ir::{
    cluster::{
        Breakers, Cluster, ClusterKind, ClusterTransport, Dns, DnsFamily, Keepalive, LbPolicy, Outlier, RetryBudget,
        Settings, UpstreamHttp,
    },
    endpoint::EndpointSet,
    tls::{UpstreamTls, UpstreamTransport},
};

/// Envoy's default.
const DNS_REFRESH: Duration = Duration::from_secs(5);

/// The key of the HTTP options of a cluster.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A cluster.
pub(crate) fn compile(message: &message::Cluster, shared: &Shared) -> Result<Cluster, Refused> {
    cluster(message, shared).map_err(|invalid| invalid.of("Cluster", &message.name))
}

fn cluster(message: &message::Cluster, shared: &Shared) -> Checked<Cluster> {
    absent(message.transport_socket_matcher.is_none(), "transport_socket_matcher")?;
    absent(message.load_balancing_policy.is_none(), "load_balancing_policy")?;
    absent(message.lb_subset_config.is_none(), "lb_subset_config")?;
    absent(message.health_checks.is_empty(), "health_checks")?;
    absent(message.filters.iter().all(|filter| is_observer(&filter.name)), "filters")?;
    if message.name.is_empty() {
        return Err(Invalid::missing("name"));
    }
    let options = http_options(message)?;
    let lb = lb_policy(message)?;
    let common_lb = message.common_lb_config.as_ref();
    let threshold = common_lb.and_then(|common| common.healthy_panic_threshold.as_ref());
    let locality = common_lb.and_then(|common| common.locality_config_specifier.as_ref());
    let metadata = message.metadata.as_ref();
    let common_http = options
        .as_ref()
        .and_then(|options| options.common_http_protocol_options.as_ref())
        .or(message.common_http_protocol_options.as_ref());
    let max_requests = common_http
        .and_then(|common| common.max_requests_per_connection.as_ref())
        .or(message.max_requests_per_connection.as_ref());
    let default = Settings::default();
    let settings = Settings {
        lb,
        panic_threshold: threshold.map_or(default.panic_threshold, |percent| percentage(percent.value)),
        locality_weighted: matches!(
            locality,
            Some(message::cluster::common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
        ),
        connect_timeout: part::optional_duration(message.connect_timeout.as_ref(), "connect_timeout")?
            .unwrap_or(default.connect_timeout),
        breakers: breakers(message.circuit_breakers.as_ref()),
        outlier: message
            .outlier_detection
            .as_ref()
            .map(|detection| outlier(detection).at("outlier_detection"))
            .transpose()?,
        http: http(message, options.as_ref())?,
        bind_source: bind_source(message)?,
        keepalive: message
            .upstream_connection_options
            .as_ref()
            .and_then(|options| options.tcp_keepalive.as_ref())
            .map(keepalive),
        max_requests_per_connection: max_requests.map(|max| max.value).filter(|max| *max > 0),
        idle_timeout: part::limit(
            common_http.and_then(|common| common.idle_timeout.as_ref()),
            "common_http_protocol_options.idle_timeout",
            default.idle_timeout,
        )?,
        alpn_override: metadata
            .and_then(|metadata| metadata.filter_metadata.get("istio"))
            .and_then(|istio| xds::dynamic::text(istio, "alpn_override"))
            != Some("false"),
    };
    Ok(Cluster {
        name: shared.texts.get(message.name.as_str()),
        kind: kind(message, lb, shared)?,
        transport: transport(message, options.as_ref(), shared)?,
        service: metadata
            .and_then(|metadata| service::read(metadata).into_iter().next())
            .map(|service| shared.services.get(service)),
        settings: shared.settings.get(settings),
        provenance: shared.provenance(metadata),
    })
}

/// Cluster filters of Istio that only observe.
fn is_observer(name: &str) -> bool {
    matches!(name, "istio.metadata_exchange" | "envoy.filters.network.upstream.metadata_exchange")
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to 0..=100 first
fn percentage(value: f64) -> u8 {
    value.clamp(0.0, 100.0).round() as u8
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to 0..=100,000 first
fn thousandths(percent: f64) -> u32 {
    (percent.clamp(0.0, 100.0) * 1000.0).round() as u32
}

fn http_options(message: &message::Cluster) -> Checked<Option<upstream_http::HttpProtocolOptions>> {
    for name in message.typed_extension_protocol_options.keys() {
        absent(name == HTTP_OPTIONS, &format!("typed_extension_protocol_options[{name:?}]"))?;
    }
    let field = format!("typed_extension_protocol_options[{HTTP_OPTIONS:?}]");
    let Some(options) = message.typed_extension_protocol_options.get(HTTP_OPTIONS) else { return Ok(None) };
    any::unpack(options).map_err(Invalid::from).at(&field).map(Some)
}

fn kind(message: &message::Cluster, lb: LbPolicy, shared: &Shared) -> Checked<ClusterKind> {
    use message::cluster::{ClusterDiscoveryType, DiscoveryType};
    let discovery = match &message.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(number)) => {
            DiscoveryType::try_from(*number).map_err(|_| Invalid::unsupported("type"))?
        }
        Some(ClusterDiscoveryType::ClusterType(_)) => return Err(Invalid::unsupported("cluster_type")),
        None => DiscoveryType::Static,
    };
    let assignment = message.load_assignment.as_ref();
    match discovery {
        DiscoveryType::Static => {
            let endpoints = assignment
                .map(|assignment| endpoint::addresses(assignment, shared).at("load_assignment"))
                .transpose()?
                .unwrap_or_default();
            Ok(ClusterKind::Static(Arc::new(EndpointSet::new(endpoints, lb))))
        }
        DiscoveryType::Eds => {
            let config = message.eds_cluster_config.as_ref();
            let name = config.map(|config| config.service_name.as_str()).filter(|name| !name.is_empty());
            Ok(ClusterKind::Eds { service_name: shared.texts.get(name.unwrap_or(&message.name)) })
        }
        DiscoveryType::OriginalDst => {
            let (mut port_override, mut use_http_header) = (None, false);
            if let Some(message::cluster::LbConfig::OriginalDstLbConfig(config)) = &message.lb_config {
                absent(config.metadata_key.is_none(), "original_dst_lb_config.metadata_key")?;
                use_http_header = config.use_http_header;
                port_override = config
                    .upstream_port_override
                    .as_ref()
                    .map(|port| part::port(port.value).at("original_dst_lb_config.upstream_port_override"))
                    .transpose()?;
            }
            Ok(ClusterKind::OriginalDst { port_override, use_http_header })
        }
        DiscoveryType::StrictDns => Ok(ClusterKind::StrictDns(Box::new(dns(message, shared)?))),
        DiscoveryType::LogicalDns => Ok(ClusterKind::LogicalDns(Box::new(dns(message, shared)?))),
    }
}

fn dns(message: &message::Cluster, shared: &Shared) -> Checked<Dns> {
    use message::cluster::DnsLookupFamily as Family;
    let assignment = message.load_assignment.as_ref().ok_or_else(|| Invalid::missing("load_assignment"))?;
    Ok(Dns {
        targets: endpoint::names(assignment, shared).at("load_assignment")?.into(),
        refresh_rate: part::optional_duration(message.dns_refresh_rate.as_ref(), "dns_refresh_rate")?
            .filter(|rate| !rate.is_zero())
            .unwrap_or(DNS_REFRESH),
        respect_ttl: message.respect_dns_ttl,
        family: match Family::try_from(message.dns_lookup_family) {
            Ok(Family::Auto) => DnsFamily::Auto,
            Ok(Family::V4Only) => DnsFamily::V4Only,
            Ok(Family::V6Only) => DnsFamily::V6Only,
            Ok(Family::V4Preferred) => DnsFamily::V4Preferred,
            Ok(Family::All) => DnsFamily::All,
            Err(_) => return Err(Invalid::unsupported("dns_lookup_family")),
        },
    })
}

fn lb_policy(message: &message::Cluster) -> Checked<LbPolicy> {
    use message::cluster::{LbConfig, LbPolicy as Policy};
    Ok(match Policy::try_from(message.lb_policy) {
        Ok(Policy::RoundRobin) => LbPolicy::RoundRobin,
        Ok(Policy::Random) => LbPolicy::Random,
        Ok(Policy::LeastRequest) => {
            let choices = match &message.lb_config {
                Some(LbConfig::LeastRequestLbConfig(config)) => {
                    config.choice_count.as_ref().map_or(2, |count| count.value)
                }
                _ => 2,
            };
            LbPolicy::LeastRequest { choices: choices.max(2) }
        }
        Ok(Policy::RingHash) => {
            let (minimum, maximum) = match &message.lb_config {
                Some(LbConfig::RingHashLbConfig(config)) => {
                    (config.minimum_ring_size.as_ref(), config.maximum_ring_size.as_ref())
                }
                _ => (None, None),
            };
            LbPolicy::RingHash {
                minimum_size: minimum.map_or(1024, |size| size.value),
                maximum_size: maximum.map_or(8 << 20, |size| size.value),
            }
        }
        Ok(Policy::Maglev) => {
            let table_size = match &message.lb_config {
                Some(LbConfig::MaglevLbConfig(config)) => config.table_size.as_ref().map_or(65_537, |size| size.value),
                _ => 65_537,
            };
            LbPolicy::Maglev { table_size }
        }
        Ok(Policy::ClusterProvided) => LbPolicy::ClusterProvided,
        Ok(Policy::LoadBalancingPolicyConfig) | Err(_) => return Err(Invalid::unsupported("lb_policy")),
    })
}

fn breakers(circuit_breakers: Option<&message::CircuitBreakers>) -> Breakers {
    let default = Breakers::default();
    let thresholds =
        circuit_breakers.and_then(|breakers| breakers.thresholds.iter().find(|thresholds| thresholds.priority == 0));
    let Some(thresholds) = thresholds else { return default };
    let number =
        |value: &Option<google::UInt32Value>, default: u32| value.as_ref().map_or(default, |value| value.value);
    Breakers {
        max_connections: number(&thresholds.max_connections, default.max_connections),
        max_pending_requests: number(&thresholds.max_pending_requests, default.max_pending_requests),
        max_requests: number(&thresholds.max_requests, default.max_requests),
        max_retries: number(&thresholds.max_retries, default.max_retries),
        retry_budget: thresholds.retry_budget.as_ref().map(|budget| RetryBudget {
            thousandths: budget.budget_percent.as_ref().map_or(20_000, |percent| thousandths(percent.value)),
            min_concurrency: number(&budget.min_retry_concurrency, 3),
        }),
    }
}

fn outlier(detection: &message::OutlierDetection) -> Checked<Outlier> {
    let number =
        |value: &Option<google::UInt32Value>, default: u32| value.as_ref().map_or(default, |value| value.value);
    // A condition that is enforced for no one is off; shares between are Envoy's way to try one out, and count as on.
    let enforced = |count: u32, enforcing: u32| if enforcing == 0 { 0 } else { count };
    let base_ejection = part::optional_duration(detection.base_ejection_time.as_ref(), "base_ejection_time")?
        .unwrap_or(Duration::from_secs(30));
    Ok(Outlier {
        consecutive_5xx: enforced(
            number(&detection.consecutive_5xx, 5),
            number(&detection.enforcing_consecutive_5xx, 100),
        ),
        consecutive_gateway: enforced(
            number(&detection.consecutive_gateway_failure, 5),
            number(&detection.enforcing_consecutive_gateway_failure, 0),
        ),
        consecutive_local_origin: enforced(
            number(&detection.consecutive_local_origin_failure, 5),
            number(&detection.enforcing_consecutive_local_origin_failure, 100),
        ),
        split_local_origin: detection.split_external_local_origin_errors,
        interval: part::optional_duration(detection.interval.as_ref(), "interval")?.unwrap_or(Duration::from_secs(10)),
        base_ejection,
        max_ejection: part::optional_duration(detection.max_ejection_time.as_ref(), "max_ejection_time")?
            .unwrap_or(Duration::from_mins(5))
            .max(base_ejection),
        max_ejection_percent: number(&detection.max_ejection_percent, 10).min(100),
        always_eject_one: detection.always_eject_one_host.as_ref().is_some_and(|one| one.value),
    })
}

fn transport(
    message: &message::Cluster,
    options: Option<&upstream_http::HttpProtocolOptions>,
    shared: &Shared,
) -> Checked<ClusterTransport> {
    if message.transport_socket_matches.is_empty() {
        let transport = match &message.transport_socket {
            Some(socket) => tls::upstream(socket, shared).at("transport_socket")?,
            None => UpstreamTransport::Plaintext,
        };
        return Ok(ClusterTransport::Uniform(with_auto_sni(transport, options)));
    }
    let (mut istio, mut other) = (None, None);
    for (index, entry) in message.transport_socket_matches.iter().enumerate() {
        let at = |invalid: Invalid| invalid.within(&format!("transport_socket_matches[{index}]"));
        let socket = entry.transport_socket.as_ref().ok_or_else(|| at(Invalid::missing("transport_socket")))?;
        let transport = tls::upstream(socket, shared).at("transport_socket").map_err(at)?;
        match (tls_mode(entry.r#match.as_ref()), transport) {
            (Some(workload::TLS_MODE_ISTIO), UpstreamTransport::Tls(tls)) if istio.is_none() => istio = Some(tls),
            (None, transport) if other.is_none() => other = Some(transport),
            _ => {
                let reason =
                    "only a match on tlsMode: istio (with TLS) and one on everything are supported by this proxy";
                return Err(at(Invalid::new(reason)));
            }
        }
    }
    let other = other.unwrap_or(UpstreamTransport::Plaintext);
    Ok(match istio {
        Some(istio) => ClusterTransport::ByTlsMode { istio, other },
        None => ClusterTransport::Uniform(other),
    })
}

/// What a match asks of an endpoint's `tlsMode`; `Some("")` is a match that we do not know.
fn tls_mode(wanted: Option<&google::Struct>) -> Option<&str> {
    let wanted = wanted.filter(|wanted| !wanted.fields.is_empty())?;
    match (wanted.fields.len(), xds::dynamic::text(wanted, workload::TLS_MODE)) {
        (1, Some(mode)) => Some(mode),
        _ => Some(""),
    }
}

/// `auto_sni` stands in the HTTP options; it is the TLS that it changes.
fn with_auto_sni(
    transport: UpstreamTransport,
    options: Option<&upstream_http::HttpProtocolOptions>,
) -> UpstreamTransport {
    let auto = options.and_then(|options| options.upstream_http_protocol_options.as_ref());
    match (transport, auto) {
        (UpstreamTransport::Tls(tls), Some(auto)) => UpstreamTransport::Tls(Arc::new(UpstreamTls {
            auto_sni: tls.auto_sni || auto.auto_sni,
            auto_san_validation: tls.auto_san_validation || auto.auto_san_validation,
            ..(*tls).clone()
        })),
        (transport, _) => transport,
    }
}

fn http(message: &message::Cluster, options: Option<&upstream_http::HttpProtocolOptions>) -> Checked<UpstreamHttp> {
    use upstream_http::http_protocol_options::{
        UpstreamProtocolOptions as Options, explicit_http_config::ProtocolConfig,
    };
    match options.and_then(|options| options.upstream_protocol_options.as_ref()) {
        Some(Options::ExplicitHttpConfig(explicit)) => match &explicit.protocol_config {
            None | Some(ProtocolConfig::HttpProtocolOptions(_)) => Ok(UpstreamHttp::Http1),
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => Ok(UpstreamHttp::Http2),
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                Err(Invalid::unsupported("explicit_http_config.http3_protocol_options"))
                    .at("typed_extension_protocol_options")
            }
        },
        Some(Options::UseDownstreamProtocolConfig(_)) => Ok(UpstreamHttp::UseDownstream),
        Some(Options::AutoConfig(_)) => Ok(UpstreamHttp::Auto),
        None if message.protocol_selection == 1 => Ok(UpstreamHttp::UseDownstream),
        None if message.http2_protocol_options.is_some() => Ok(UpstreamHttp::Http2),
        None => Ok(UpstreamHttp::Http1),
    }
}

fn bind_source(message: &message::Cluster) -> Checked<Option<IpAddr>> {
    let Some(source) = message.upstream_bind_config.as_ref().and_then(|bind| bind.source_address.as_ref()) else {
        return Ok(None);
    };
    source
        .address
        .parse()
        .map(Some)
        .map_err(|_| Invalid::new(format!("{:?} is no IP address", source.address)))
        .at("upstream_bind_config.source_address.address")
}

fn keepalive(keepalive: &core::TcpKeepalive) -> Keepalive {
    let seconds =
        |value: &Option<google::UInt32Value>| value.as_ref().map(|value| Duration::from_secs(value.value.into()));
    Keepalive {
        probes: keepalive.keepalive_probes.as_ref().map(|probes| probes.value),
        time: seconds(&keepalive.keepalive_time),
        interval: seconds(&keepalive.keepalive_interval),
    }
}
