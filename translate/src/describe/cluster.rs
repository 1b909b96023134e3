//! Clusters and endpoints for people.

use serde_json::{Map, Value, json};
use xds::any;
use xds::types::cluster::Cluster;
use xds::types::cluster::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use xds::types::core::transport_socket::ConfigType;
use xds::types::core::{HealthStatus, TransportSocket};
use xds::types::endpoint::lb_endpoint::HostIdentifier;
use xds::types::endpoint::{ClusterLoadAssignment, LbEndpoint};
use xds::types::matcher::StringMatcher;
use xds::types::matcher::string_matcher::MatchPattern;
use xds::types::tls::common_tls_context::ValidationContextType;
use xds::types::tls::{CertificateValidationContext, UpstreamTlsContext};
use xds::workload::{Workload, speaks_mesh_tls};

use super::{address, seconds, texts};

pub(super) fn cluster(of: &Cluster) -> Map<String, Value> {
    let mut out = Map::new();
    let kind = match of.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).unwrap_or_default().as_str_name(),
        _ => "?",
    };
    let balancing = LbPolicy::try_from(of.lb_policy).unwrap_or_default().as_str_name();
    out.insert("is".to_owned(), json!(format!("{kind}, {balancing}")));
    if let Some(socket) = &of.transport_socket {
        out.insert("tls".to_owned(), json!(upstream_tls(socket)));
    }
    for of in &of.transport_socket_matches {
        if let Some(tls) = of.transport_socket.as_ref().and_then(tls_context) {
            out.insert(of.name.clone(), json!(say_tls(&tls)));
        }
    }
    if let Some(local) = &of.load_assignment {
        out.extend(endpoints(local));
    }
    for limits in of.circuit_breakers.iter().flat_map(|breakers| &breakers.thresholds) {
        let limits = [
            ("connections", limits.max_connections),
            ("pending", limits.max_pending_requests),
            ("requests", limits.max_requests),
            ("retries", limits.max_retries),
        ];
        let set = limits.iter().filter_map(|(name, limit)| Some((name, limit.as_ref()?.value)));
        let set: Vec<_> =
            set.filter(|(_, limit)| *limit != u32::MAX).map(|(name, limit)| format!("{name} {limit}")).collect();
        if !set.is_empty() {
            out.insert("limits".to_owned(), json!(set.join(", ")));
        }
    }
    if let Some(ejection) = &of.outlier_detection {
        let failures = ejection.consecutive_5xx.or(ejection.consecutive_gateway_failure).map_or(5, |count| count.value);
        let base = seconds(ejection.base_ejection_time.as_ref()).unwrap_or_else(|| "30s".to_owned());
        out.insert("ejects".to_owned(), json!(format!("after {failures} failures for {base}")));
    }
    if let Some(any) = of.typed_extension_protocol_options.values().next() {
        out.insert("http".to_owned(), json!(http_options(any)));
    }
    if let Some(metadata) = &of.metadata {
        let services = xds::service::read(metadata);
        if !services.is_empty() {
            out.insert("services".to_owned(), texts(services.into_iter().map(|service| service.host)));
        }
    }
    out
}

fn http_options(any: &xds::types::google::Any) -> String {
    use xds::types::upstream_http::HttpProtocolOptions;
    use xds::types::upstream_http::http_protocol_options::UpstreamProtocolOptions;
    use xds::types::upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
    let Ok(options) = any::unpack::<HttpProtocolOptions>(any) else { return "?".to_owned() };
    let protocol = match options.upstream_protocol_options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => match config.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => "HTTP/2",
            _ => "HTTP/1.1",
        },
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => "as the client",
        _ => "?",
    };
    let auto_sni = options.upstream_http_protocol_options.is_some_and(|options| options.auto_sni);
    let common = options.common_http_protocol_options.unwrap_or_default();
    let mut parts = vec![protocol.to_owned()];
    parts.extend(auto_sni.then(|| "server name from the host".to_owned()));
    parts.extend(common.max_requests_per_connection.map(|max| format!("{} requests a connection", max.value)));
    parts.extend(seconds(common.idle_timeout.as_ref()).map(|idle| format!("idle {idle}")));
    parts.join(", ")
}

fn tls_context(socket: &TransportSocket) -> Option<UpstreamTlsContext> {
    match &socket.config_type {
        Some(ConfigType::TypedConfig(any)) => any::unpack(any).ok(),
        _ => None,
    }
}

fn upstream_tls(socket: &TransportSocket) -> String {
    tls_context(socket).map_or_else(|| socket.name.clone(), |tls| say_tls(&tls))
}

fn say_tls(tls: &UpstreamTlsContext) -> String {
    let common = tls.common_tls_context.clone().unwrap_or_default();
    let mesh = !common.tls_certificate_sds_secret_configs.is_empty();
    let provided = common.tls_certificate_provider_instance.is_some();
    let mut parts = vec![if provided {
        "mutual, by certificate provider".to_owned()
    } else if mesh {
        "mutual, of the mesh".to_owned()
    } else {
        "to the outside".to_owned()
    }];
    if !tls.sni.is_empty() {
        parts.push(format!("for {}", tls.sni));
    }
    let names = match &common.validation_context_type {
        Some(ValidationContextType::CombinedValidationContext(of)) => {
            of.default_validation_context.as_ref().map(names).unwrap_or_default()
        }
        Some(ValidationContextType::ValidationContext(of)) => names(of),
        _ => Vec::new(),
    };
    if !names.is_empty() {
        parts.push(format!("from {}", names.join(" or ")));
    }
    if !common.alpn_protocols.is_empty() {
        parts.push(format!("speaking {}", common.alpn_protocols.join(" ")));
    }
    parts.join(", ")
}

fn names(context: &CertificateValidationContext) -> Vec<String> {
    let name = |of: &StringMatcher| match of.match_pattern.as_ref()? {
        MatchPattern::Exact(name) => Some(name.clone()),
        _ => None,
    };
    let typed = context.match_typed_subject_alt_names.iter().filter_map(|of| of.matcher.as_ref());
    #[allow(deprecated)] // gRPC's form
    typed.chain(&context.match_subject_alt_names).filter_map(name).collect()
}

pub(super) fn endpoints(of: &ClusterLoadAssignment) -> Map<String, Value> {
    let lines = of.endpoints.iter().flat_map(|locality| &locality.lb_endpoints).map(endpoint);
    Map::from_iter([("endpoints".to_owned(), texts(lines))])
}

fn endpoint(of: &LbEndpoint) -> String {
    let Some(HostIdentifier::Endpoint(at)) = &of.host_identifier else { return "?".to_owned() };
    let mut parts = vec![address(at.address.as_ref())];
    let health = HealthStatus::try_from(of.health_status).unwrap_or_default();
    if health != HealthStatus::Healthy {
        parts.push(health.as_str_name().to_ascii_lowercase());
    }
    if let Some(weight) = of.load_balancing_weight.filter(|weight| weight.value != 1) {
        parts.push(format!("weight {}", weight.value));
    }
    if let Some(metadata) = &of.metadata {
        if speaks_mesh_tls(metadata) {
            parts.push("mesh TLS".to_owned());
        }
        parts.extend(Workload::read(metadata).map(|workload| workload.encode()));
    }
    parts.join(", ")
}
