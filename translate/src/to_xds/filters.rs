//! The parts that filter chains are made of.

use prost::{Message, Name};
use xds::any;
use xds::types::{
    access_log, boolean, common, core, cors, fault, file_access_log, google, http_connection_manager as hcm,
    http_inspector, listener, original_dst, original_src, route, router, tcp_proxy, tls_inspector,
};

use crate::model::mesh::Mesh;

/// Names of filters as Envoy registers them.
pub(crate) const FAULT: &str = "envoy.filters.http.fault";
pub(crate) const CORS: &str = "envoy.filters.http.cors";
const ROUTER: &str = "envoy.filters.http.router";
/// Names of filters that the mesh's proxies have and Envoy by itself has not.
const PEER_METADATA: &str = "istio.metadata_exchange";
const STATS: &str = "istio.stats";

/// Where an HTTP connection's routes are.
pub(crate) enum Routes {
    /// In the route configuration with this name.
    Named(String),
    /// Here.
    Inline(Box<route::RouteConfiguration>),
}

impl Routes {
    fn specifier(self) -> hcm::http_connection_manager::RouteSpecifier {
        match self {
            Self::Named(route_config_name) => hcm::http_connection_manager::RouteSpecifier::Rds(hcm::Rds {
                config_source: Some(xds::types::ads()),
                route_config_name,
            }),
            Self::Inline(routes) => hcm::http_connection_manager::RouteSpecifier::RouteConfig(*routes),
        }
    }
}

/// Which side of a proxy a connection is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// From the application.
    Outbound,
    /// To the application.
    Inbound,
    /// From outside of the mesh.
    Edge,
}

/// The filter that speaks HTTP.
pub(crate) fn http(stat_prefix: String, routes: Routes, side: Side, mesh: &Mesh) -> listener::Filter {
    let mut filters = vec![of_the_mesh(PEER_METADATA)];
    if side != Side::Inbound {
        filters.push(http_filter(CORS, &cors::Cors {}));
        filters.push(http_filter(FAULT, &fault::HttpFault::default()));
    }
    filters.push(of_the_mesh(STATS));
    filters.push(http_filter(ROUTER, &router::Router::default()));

    let forward = match side {
        // A proxy vouches for the certificate that it verified itself, and passes on what those before it vouched for.
        Side::Inbound => hcm::http_connection_manager::ForwardClientCertDetails::AppendForward,
        // At the edge nobody is trusted, and an application's own header goes on unchanged.
        Side::Edge => hcm::http_connection_manager::ForwardClientCertDetails::SanitizeSet,
        Side::Outbound => hcm::http_connection_manager::ForwardClientCertDetails::ForwardOnly,
    };
    let details = hcm::http_connection_manager::SetCurrentClientCertDetails {
        subject: Some(boolean(true)),
        dns: true,
        uri: true,
        ..Default::default()
    };
    let manager = hcm::HttpConnectionManager {
        stat_prefix,
        http_filters: filters,
        use_remote_address: Some(boolean(side == Side::Edge)),
        // Requests live as long as route timeouts let them.
        stream_idle_timeout: Some(google::Duration { seconds: 0, nanos: 0 }),
        normalize_path: Some(boolean(normalizes(mesh))),
        merge_slashes: merges_slashes(mesh),
        path_with_escaped_slashes_action: escaped_slashes(mesh).into(),
        server_name: "istio-envoy".to_owned(),
        forward_client_cert_details: forward.into(),
        set_current_client_cert_details: (side != Side::Outbound).then_some(details),
        upgrade_configs: vec![hcm::http_connection_manager::UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        access_log: access_log(mesh),
        route_specifier: Some(routes.specifier()),
        ..Default::default()
    };
    connection_manager(&manager)
}

/// Speaks HTTP in a gRPC library: nothing but routes and the filters that such libraries know.
pub(crate) fn grpc(routes: Routes, side: Side) -> hcm::HttpConnectionManager {
    let mut http_filters = Vec::new();
    if side == Side::Outbound {
        http_filters.push(http_filter(FAULT, &fault::HttpFault::default()));
    }
    http_filters.push(http_filter(ROUTER, &router::Router::default()));
    hcm::HttpConnectionManager { http_filters, route_specifier: Some(routes.specifier()), ..Default::default() }
}

/// The filter that forwards bytes.
pub(crate) fn tcp(cluster: &str, mesh: &Mesh) -> listener::Filter {
    let proxy = tcp_proxy::TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        access_log: access_log(mesh),
        ..Default::default()
    };
    filter("envoy.filters.network.tcp_proxy", &proxy)
}

/// A connection manager as the filter of a chain.
pub(crate) fn connection_manager(manager: &hcm::HttpConnectionManager) -> listener::Filter {
    filter("envoy.filters.network.http_connection_manager", manager)
}

fn filter<M: Message + Name>(name: &str, config: &M) -> listener::Filter {
    listener::Filter {
        name: name.to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(any::pack(config))),
    }
}

fn http_filter<M: Message + Name>(name: &str, config: &M) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any::pack(config))),
        ..Default::default()
    }
}

/// A filter that a proxy without it leaves out: Envoy by itself neither tells peers who it is nor counts as Istio does.
fn of_the_mesh(name: &str) -> hcm::HttpFilter {
    hcm::HttpFilter { name: name.to_owned(), is_optional: true, ..Default::default() }
}

fn listener_filter<M: Message + Name>(name: &str, config: &M) -> listener::ListenerFilter {
    listener::ListenerFilter {
        name: name.to_owned(),
        filter_disabled: None,
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(any::pack(config))),
    }
}

/// Finds out where a redirected connection was going.
pub(crate) fn original_dst() -> listener::ListenerFilter {
    listener_filter("envoy.filters.listener.original_dst", &original_dst::OriginalDst::default())
}

/// Has connections to the application come from the client's address, on packets whose mark brings the answers back.
pub(crate) fn original_src() -> listener::ListenerFilter {
    let config = original_src::OriginalSrc { bind_port: false, mark: names::traffic::CLIENT_ADDRESS_MARK };
    listener_filter("envoy.filters.listener.original_src", &config)
}

/// Finds out whether TLS is spoken, for which server name and which protocols.
pub(crate) fn tls_inspector() -> listener::ListenerFilter {
    listener_filter("envoy.filters.listener.tls_inspector", &tls_inspector::TlsInspector::default())
}

/// Finds out whether HTTP is spoken.
pub(crate) fn http_inspector() -> listener::ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", &http_inspector::HttpInspector::default())
}

/// All of a number of millionths: Envoy's share of requests.
pub(crate) fn share(percent: f64) -> common::FractionalPercent {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, and is clamped
    common::FractionalPercent {
        numerator: (percent.clamp(0.0, 100.0) * 10_000.0).round() as u32,
        denominator: common::fractional_percent::DenominatorType::Million.into(),
    }
}

fn access_log(mesh: &Mesh) -> Vec<access_log::AccessLog> {
    let path = &mesh.config.access_log_file;
    if path.is_empty() {
        return Vec::new();
    }
    let format = &mesh.config.access_log_format;
    let file = file_access_log::FileAccessLog {
        path: path.clone(),
        access_log_format: (!format.is_empty()).then(|| {
            file_access_log::file_access_log::AccessLogFormat::LogFormat(core::SubstitutionFormatString {
                format: Some(core::substitution_format_string::Format::TextFormatSource(core::DataSource {
                    specifier: Some(core::data_source::Specifier::InlineString(format.clone())),
                    ..Default::default()
                })),
                ..Default::default()
            })
        }),
    };
    vec![access_log::AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        filter: None,
        config_type: Some(access_log::access_log::ConfigType::TypedConfig(any::pack(&file))),
    }]
}

use crds::meshconfig::NormalizationType;

fn normalizes(mesh: &Mesh) -> bool {
    mesh.config.path_normalization.normalization != NormalizationType::None
}

fn merges_slashes(mesh: &Mesh) -> bool {
    let mode = mesh.config.path_normalization.normalization;
    matches!(mode, NormalizationType::MergeSlashes | NormalizationType::DecodeAndMergeSlashes)
}

fn escaped_slashes(mesh: &Mesh) -> hcm::http_connection_manager::PathWithEscapedSlashesAction {
    use hcm::http_connection_manager::PathWithEscapedSlashesAction as Action;
    match mesh.config.path_normalization.normalization {
        NormalizationType::DecodeAndMergeSlashes => Action::UnescapeAndForward,
        _ => Action::KeepUnchanged,
    }
}
