//! The HTTP connection manager.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use xds::{
    any,
    types::{fault as http_fault, google, http_connection_manager as message},
};

use super::{At, Checked, Invalid, Proxy, Shared, absent, access_log, each, part, route_action, virtual_host};
use crate::ir::listener::{
    ClientCertDetails, Codec, Direction, EscapedSlashes, ForwardClientCert, HttpChain, HttpFilter, PathNormalization,
    RouteSource, ServerHeader,
};

/// Envoy's defaults.
const STREAM_IDLE: Duration = Duration::from_mins(5);
const IDLE: Duration = Duration::from_hours(1);
const DRAIN: Duration = Duration::from_secs(5);
const MAX_REQUEST_HEADERS_KB: u32 = 60;

pub(super) fn compile(
    manager: &message::HttpConnectionManager,
    direction: Direction,
    proxy: &Proxy,
) -> Checked<HttpChain> {
    absent(manager.original_ip_detection_extensions.is_empty(), "original_ip_detection_extensions")?;
    absent(manager.early_header_mutation_extensions.is_empty(), "early_header_mutation_extensions")?;
    absent(manager.forward_client_cert_matcher.is_none(), "forward_client_cert_matcher")?;
    absent(manager.local_reply_config.as_ref().is_none_or(|config| config.mappers.is_empty()), "local_reply_config")?;
    let common = manager.common_http_protocol_options.as_ref();
    let http1 = manager.http_protocol_options.as_ref();
    let http2 = manager.http2_protocol_options.as_ref();
    let bool_value =
        |value: &Option<google::BoolValue>, default: bool| value.as_ref().map_or(default, |value| value.value);
    Ok(HttpChain {
        routes: routes(manager, proxy)?,
        codec: match message::http_connection_manager::CodecType::try_from(manager.codec_type) {
            Ok(message::http_connection_manager::CodecType::Auto) => Codec::Auto,
            Ok(message::http_connection_manager::CodecType::Http1) => Codec::Http1,
            Ok(message::http_connection_manager::CodecType::Http2) => Codec::Http2,
            Ok(message::http_connection_manager::CodecType::Http3) | Err(_) => {
                return Err(Invalid::unsupported("codec_type"));
            }
        },
        direction,
        filters: filters(&manager.http_filters)?.into(),
        forward_client_cert: forward_client_cert(manager)?,
        server_name: match manager.server_name.as_str() {
            "" => Some(HeaderValue::from_static("envoy")),
            name => HeaderValue::from_str(name).ok(),
        },
        server_header: match manager.server_header_transformation {
            0 => ServerHeader::Overwrite,
            1 => ServerHeader::AppendIfAbsent,
            2 => ServerHeader::PassThrough,
            _ => return Err(Invalid::unsupported("server_header_transformation")),
        },
        access_logs: each("access_log", &manager.access_log, access_log::compile)?.into(),
        use_remote_address: bool_value(&manager.use_remote_address, false),
        xff_num_trusted_hops: manager.xff_num_trusted_hops,
        skip_xff_append: manager.skip_xff_append,
        generate_request_id: bool_value(&manager.generate_request_id, true),
        preserve_external_request_id: manager.preserve_external_request_id,
        normalize: PathNormalization {
            normalize: bool_value(&manager.normalize_path, false),
            merge_slashes: manager.merge_slashes,
            escaped_slashes: match manager.path_with_escaped_slashes_action {
                0 | 1 => EscapedSlashes::Keep,
                2 => EscapedSlashes::Reject,
                3 => EscapedSlashes::UnescapeAndRedirect,
                4 => EscapedSlashes::UnescapeAndForward,
                _ => return Err(Invalid::unsupported("path_with_escaped_slashes_action")),
            },
        },
        strip_matching_host_port: manager.strip_matching_host_port || manager.strip_port_mode.is_some(),
        upgrades: upgrades(manager)?.into(),
        accept_http_10: http1.is_some_and(|options| options.accept_http_10),
        request_headers_timeout: part::limit(
            manager.request_headers_timeout.as_ref(),
            "request_headers_timeout",
            None,
        )?,
        request_timeout: part::limit(manager.request_timeout.as_ref(), "request_timeout", None)?,
        stream_idle_timeout: part::limit(
            manager.stream_idle_timeout.as_ref(),
            "stream_idle_timeout",
            Some(STREAM_IDLE),
        )?,
        idle_timeout: part::limit(
            common.and_then(|options| options.idle_timeout.as_ref()),
            "common_http_protocol_options.idle_timeout",
            Some(IDLE),
        )?,
        max_connection_duration: part::limit(
            common.and_then(|options| options.max_connection_duration.as_ref()),
            "common_http_protocol_options.max_connection_duration",
            None,
        )?,
        drain_timeout: part::optional_duration(manager.drain_timeout.as_ref(), "drain_timeout")?.unwrap_or(DRAIN),
        max_concurrent_streams: http2
            .and_then(|options| options.max_concurrent_streams.as_ref())
            .map(|streams| streams.value),
        max_request_headers_kb: manager.max_request_headers_kb.as_ref().map_or(MAX_REQUEST_HEADERS_KB, |kb| kb.value),
        stat_prefix: manager.stat_prefix.as_str().into(),
    })
}

fn routes(manager: &message::HttpConnectionManager, proxy: &Proxy) -> Checked<RouteSource> {
    use message::http_connection_manager::RouteSpecifier;
    match manager.route_specifier.as_ref().ok_or_else(|| Invalid::missing("route_specifier"))? {
        RouteSpecifier::Rds(rds) if rds.route_config_name.is_empty() => Err(Invalid::missing("rds.route_config_name")),
        RouteSpecifier::Rds(rds) => Ok(RouteSource::Named(rds.route_config_name.as_str().into())),
        RouteSpecifier::RouteConfig(config) => {
            let frame = virtual_host::checked_frame(config, &Shared::default()).at("route_config")?;
            if frame.vhds {
                return Err(Invalid::unsupported("route_config.vhds"));
            }
            Ok(RouteSource::Inline(Arc::new(frame.table(&[], &proxy.viewpoint))))
        }
        RouteSpecifier::ScopedRoutes(_) => Err(Invalid::unsupported("scoped_routes")),
    }
}

fn upgrades(manager: &message::HttpConnectionManager) -> Checked<Vec<Box<str>>> {
    let mut upgrades = Vec::new();
    for (index, upgrade) in manager.upgrade_configs.iter().enumerate() {
        absent(upgrade.filters.is_empty(), "filters").at_index("upgrade_configs", index)?;
        if upgrade.enabled.as_ref().is_none_or(|enabled| enabled.value) {
            upgrades.push(upgrade.upgrade_type.to_ascii_lowercase().into());
        }
    }
    Ok(upgrades)
}

fn forward_client_cert(manager: &message::HttpConnectionManager) -> Checked<ForwardClientCert> {
    use message::http_connection_manager::ForwardClientCertDetails as Forward;
    let details = manager.set_current_client_cert_details.as_ref().map_or_else(ClientCertDetails::default, |details| {
        ClientCertDetails {
            subject: details.subject.as_ref().is_some_and(|subject| subject.value),
            uri: details.uri,
            dns: details.dns,
            cert: details.cert,
            chain: details.chain,
        }
    });
    Ok(match Forward::try_from(manager.forward_client_cert_details) {
        Ok(Forward::Sanitize) => ForwardClientCert::Sanitize,
        Ok(Forward::ForwardOnly) => ForwardClientCert::ForwardOnly,
        Ok(Forward::AppendForward) => ForwardClientCert::AppendForward(details),
        Ok(Forward::SanitizeSet) => ForwardClientCert::SanitizeSet(details),
        Ok(Forward::AlwaysForwardOnly) => ForwardClientCert::AlwaysForwardOnly,
        Err(_) => return Err(Invalid::unsupported("forward_client_cert_details")),
    })
}

/// The filters in front of the router, which must be the last.
fn filters(list: &[message::HttpFilter]) -> Checked<Vec<HttpFilter>> {
    let Some(((router, last), before)) = list.split_last().map(|(last, before)| ((last, before.len()), before)) else {
        return Err(Invalid::new("must end with envoy.filters.http.router")).at("http_filters");
    };
    if !is_router(router)? {
        return Err(Invalid::new("must be envoy.filters.http.router")).at_index("http_filters", last);
    }
    let mut filters = Vec::new();
    for (index, message) in before.iter().enumerate() {
        if message.disabled {
            continue;
        }
        match filter(message) {
            Ok(filter) => filters.push(filter),
            Err(_) if message.is_optional => {}
            Err(invalid) => return Err(invalid).at_index("http_filters", index),
        }
    }
    Ok(filters)
}

fn is_router(filter: &message::HttpFilter) -> Checked<bool> {
    let config = config(filter)?;
    Ok(match part::type_name(config) {
        "" => filter.name == "envoy.filters.http.router",
        name => name == "envoy.extensions.filters.http.router.v3.Router",
    })
}

fn config(filter: &message::HttpFilter) -> Checked<Option<&google::Any>> {
    match &filter.config_type {
        Some(message::http_filter::ConfigType::TypedConfig(config)) => Ok(Some(config)),
        Some(message::http_filter::ConfigType::ConfigDiscovery(_)) => Err(Invalid::unsupported("config_discovery")),
        None => Ok(None),
    }
}

fn filter(message: &message::HttpFilter) -> Checked<HttpFilter> {
    let config = config(message)?;
    match (part::type_name(config), config) {
        ("envoy.extensions.filters.http.fault.v3.HTTPFault", Some(config)) => {
            let fault: http_fault::HttpFault = any::unpack(config).map_err(Invalid::from).at("typed_config")?;
            let fault = route_action::fault(&fault).at("typed_config")?;
            Ok(HttpFilter::Fault((fault.delay.is_some() || fault.abort.is_some()).then(|| Arc::new(fault))))
        }
        ("envoy.extensions.filters.http.cors.v3.Cors", _) => Ok(HttpFilter::Cors),
        ("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", _) => Ok(HttpFilter::GrpcStats),
        (type_name, _) => match message.name.as_str() {
            "istio.alpn" => Ok(HttpFilter::Alpn),
            "istio.metadata_exchange" | "envoy.filters.http.peer_metadata" | "waypoint_downstream_peer_metadata" => {
                Ok(HttpFilter::PeerMetadata)
            }
            "istio.stats" => Ok(HttpFilter::Stats),
            "envoy.filters.http.fault" if type_name.is_empty() => Ok(HttpFilter::Fault(None)),
            "envoy.filters.http.cors" if type_name.is_empty() => Ok(HttpFilter::Cors),
            "envoy.filters.http.grpc_stats" => Ok(HttpFilter::GrpcStats),
            name => Err(Invalid::new(format!("the HTTP filter {name:?} ({type_name}) is not supported by this proxy"))),
        },
    }
}
