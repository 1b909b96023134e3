//! The fields of the messages that a proxy is sent: number, name and kind, as Envoy's definitions have them.
//!
//! A table instead of descriptors, which would be megabytes. A message that is not here is shown as bytes.

use super::message::Kind::{
    self, Any, Bool, BoolValue, Bytes, Double, Duration, Enum, Int64, Map, Message, Opaque, String, Struct, Uint32,
    Uint32Value, Uint64Value,
};
use super::message::{Field, Shape};

/// A message by its full name.
pub(super) fn of(name: &str) -> Option<&'static Shape> {
    ALL.iter().copied().find(|shape| shape.name == name)
}

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: false }
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: true }
}

static ALL: &[&Shape] = &[
    &LISTENER_LISTENER,
    &LISTENER_FILTER_CHAIN,
    &LISTENER_FILTER_CHAIN_MATCH,
    &LISTENER_FILTER,
    &LISTENER_LISTENER_FILTER,
    &LISTENER_ADDITIONAL_ADDRESS,
    &CORE_ADDRESS,
    &CORE_SOCKET_ADDRESS,
    &CORE_CIDR_RANGE,
    &CORE_TRANSPORT_SOCKET,
    &CORE_METADATA,
    &CORE_CONFIG_SOURCE,
    &CORE_AGGREGATED_CONFIG_SOURCE,
    &CORE_DATA_SOURCE,
    &CORE_HEADER_VALUE_OPTION,
    &CORE_HEADER_VALUE,
    &CORE_RUNTIME_FRACTIONAL_PERCENT,
    &CORE_BIND_CONFIG,
    &CORE_TCP_KEEPALIVE,
    &CORE_HTTP_PROTOCOL_OPTIONS,
    &CORE_HTTP1_PROTOCOL_OPTIONS,
    &CORE_HTTP2_PROTOCOL_OPTIONS,
    &CORE_UPSTREAM_HTTP_PROTOCOL_OPTIONS,
    &CORE_LOCALITY,
    &CORE_SUBSTITUTION_FORMAT_STRING,
    &CORE_TYPED_EXTENSION_CONFIG,
    &CORE_NODE,
    &NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER,
    &NETWORK_HTTP_CONNECTION_MANAGER_RDS,
    &NETWORK_HTTP_CONNECTION_MANAGER_HTTP_FILTER,
    &NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_SET_CURRENT_CLIENT_CERT_DETAILS,
    &NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_UPGRADE_CONFIG,
    &NETWORK_TCP_PROXY_TCP_PROXY,
    &NETWORK_TCP_PROXY_TCP_PROXY_WEIGHTED_CLUSTER,
    &NETWORK_TCP_PROXY_TCP_PROXY_WEIGHTED_CLUSTER_CLUSTER_WEIGHT,
    &TRANSPORT_SOCKETS_TLS_DOWNSTREAM_TLS_CONTEXT,
    &TRANSPORT_SOCKETS_TLS_UPSTREAM_TLS_CONTEXT,
    &TRANSPORT_SOCKETS_TLS_COMMON_TLS_CONTEXT,
    &TRANSPORT_SOCKETS_TLS_SDS_SECRET_CONFIG,
    &TRANSPORT_SOCKETS_TLS_COMMON_TLS_CONTEXT_COMBINED_CERTIFICATE_VALIDATION_CONTEXT,
    &TRANSPORT_SOCKETS_TLS_CERTIFICATE_VALIDATION_CONTEXT,
    &TRANSPORT_SOCKETS_TLS_SUBJECT_ALT_NAME_MATCHER,
    &TRANSPORT_SOCKETS_TLS_TLS_PARAMETERS,
    &TRANSPORT_SOCKETS_TLS_TLS_CERTIFICATE,
    &TRANSPORT_SOCKETS_RAW_BUFFER_RAW_BUFFER,
    &MATCHER_STRING_MATCHER,
    &MATCHER_REGEX_MATCHER,
    &MATCHER_REGEX_MATCHER_GOOGLE_RE2,
    &MATCHER_REGEX_MATCH_AND_SUBSTITUTE,
    &FRACTIONAL_PERCENT,
    &PERCENT,
    &INT64_RANGE,
    &ROUTE_ROUTE_CONFIGURATION,
    &ROUTE_VHDS,
    &ROUTE_VIRTUAL_HOST,
    &ROUTE_ROUTE,
    &ROUTE_ROUTE_MATCH,
    &ROUTE_ROUTE_MATCH_GRPC_ROUTE_MATCH_OPTIONS,
    &ROUTE_ROUTE_ACTION,
    &ROUTE_WEIGHTED_CLUSTER,
    &ROUTE_WEIGHTED_CLUSTER_CLUSTER_WEIGHT,
    &ROUTE_HEADER_MATCHER,
    &ROUTE_QUERY_PARAMETER_MATCHER,
    &ROUTE_RETRY_POLICY,
    &ROUTE_RETRY_POLICY_RETRY_BACK_OFF,
    &ROUTE_RETRY_POLICY_RETRY_HOST_PREDICATE,
    &ROUTE_REDIRECT_ACTION,
    &ROUTE_DIRECT_RESPONSE_ACTION,
    &ROUTE_DECORATOR,
    &ROUTE_CORS_POLICY,
    &ROUTE_ROUTE_ACTION_REQUEST_MIRROR_POLICY,
    &ROUTE_ROUTE_ACTION_HASH_POLICY,
    &ROUTE_ROUTE_ACTION_HASH_POLICY_HEADER,
    &ROUTE_ROUTE_ACTION_HASH_POLICY_COOKIE,
    &ROUTE_ROUTE_ACTION_HASH_POLICY_CONNECTION_PROPERTIES,
    &ROUTE_ROUTE_ACTION_HASH_POLICY_QUERY_PARAMETER,
    &ROUTE_ROUTE_ACTION_MAX_STREAM_DURATION,
    &ROUTE_ROUTE_ACTION_UPGRADE_CONFIG,
    &HTTP_FAULT_HTTPFAULT,
    &HTTP_FAULT_FAULT_ABORT,
    &COMMON_FAULT_FAULT_DELAY,
    &HTTP_CORS_CORS,
    &HTTP_CORS_CORS_POLICY,
    &HTTP_ROUTER_ROUTER,
    &LISTENER_ORIGINAL_DST_ORIGINAL_DST,
    &LISTENER_TLS_INSPECTOR_TLS_INSPECTOR,
    &LISTENER_HTTP_INSPECTOR_HTTP_INSPECTOR,
    &ACCESS_LOGGERS_FILE_FILE_ACCESS_LOG,
    &RETRY_HOST_PREVIOUS_HOSTS_PREVIOUS_HOSTS_PREDICATE,
    &CLUSTER_CLUSTER,
    &CLUSTER_CLUSTER_TRANSPORT_SOCKET_MATCH,
    &CLUSTER_CLUSTER_EDS_CLUSTER_CONFIG,
    &CLUSTER_CLUSTER_COMMON_LB_CONFIG,
    &CLUSTER_CLUSTER_COMMON_LB_CONFIG_LOCALITY_WEIGHTED_LB_CONFIG,
    &CLUSTER_CLUSTER_RING_HASH_LB_CONFIG,
    &CLUSTER_CLUSTER_LEAST_REQUEST_LB_CONFIG,
    &CLUSTER_CLUSTER_MAGLEV_LB_CONFIG,
    &CLUSTER_CLUSTER_ORIGINAL_DST_LB_CONFIG,
    &CLUSTER_CIRCUIT_BREAKERS,
    &CLUSTER_CIRCUIT_BREAKERS_THRESHOLDS,
    &CLUSTER_CIRCUIT_BREAKERS_THRESHOLDS_RETRY_BUDGET,
    &CLUSTER_OUTLIER_DETECTION,
    &CLUSTER_UPSTREAM_CONNECTION_OPTIONS,
    &UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS,
    &UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG,
    &UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS_USE_DOWNSTREAM_HTTP_CONFIG,
    &UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS_AUTO_HTTP_CONFIG,
    &ENDPOINT_CLUSTER_LOAD_ASSIGNMENT,
    &ENDPOINT_CLUSTER_LOAD_ASSIGNMENT_POLICY,
    &ENDPOINT_LOCALITY_LB_ENDPOINTS,
    &ENDPOINT_LB_ENDPOINT,
    &ENDPOINT_ENDPOINT,
    &ENDPOINT_ENDPOINT_ADDITIONAL_ADDRESS,
    &ACCESSLOG_ACCESS_LOG,
];

static LISTENER_LISTENER: Shape = Shape {
    name: "envoy.config.listener.v3.Listener",
    fields: &[
        one(1, "name", String),
        one(2, "address", Message(&CORE_ADDRESS)),
        many(3, "filter_chains", Message(&LISTENER_FILTER_CHAIN)),
        one(4, "use_original_dst", BoolValue),
        one(5, "per_connection_buffer_limit_bytes", Uint32Value),
        one(6, "metadata", Message(&CORE_METADATA)),
        one(7, "deprecated_v1", Opaque),
        one(8, "drain_type", Enum(E_LISTENER_LISTENER_DRAIN_TYPE)),
        many(9, "listener_filters", Message(&LISTENER_LISTENER_FILTER)),
        one(10, "transparent", BoolValue),
        one(11, "freebind", BoolValue),
        one(12, "tcp_fast_open_queue_length", Uint32Value),
        many(13, "socket_options", Opaque),
        one(15, "listener_filters_timeout", Duration),
        one(16, "traffic_direction", Enum(E_CORE_TRAFFIC_DIRECTION)),
        one(17, "continue_on_listener_filters_timeout", Bool),
        one(18, "udp_listener_config", Opaque),
        one(19, "api_listener", Opaque),
        one(20, "connection_balance_config", Opaque),
        one(21, "reuse_port", Bool),
        many(22, "access_log", Message(&ACCESSLOG_ACCESS_LOG)),
        one(24, "tcp_backlog_size", Uint32Value),
        one(25, "default_filter_chain", Message(&LISTENER_FILTER_CHAIN)),
        one(26, "bind_to_port", BoolValue),
        one(27, "internal_listener", Opaque),
        one(28, "stat_prefix", String),
        one(29, "enable_reuse_port", BoolValue),
        one(30, "enable_mptcp", Bool),
        one(31, "ignore_global_conn_limit", Bool),
        one(32, "filter_chain_matcher", Opaque),
        many(33, "additional_addresses", Message(&LISTENER_ADDITIONAL_ADDRESS)),
        one(34, "max_connections_to_accept_per_socket_event", Uint32Value),
        one(35, "bypass_overload_manager", Bool),
        one(36, "fcds_config", Opaque),
        one(37, "tcp_keepalive", Message(&CORE_TCP_KEEPALIVE)),
        one(38, "per_connection_buffer_high_watermark_timeout", Duration),
        one(39, "stats_matcher", Opaque),
    ],
};
static LISTENER_FILTER_CHAIN: Shape = Shape {
    name: "envoy.config.listener.v3.FilterChain",
    fields: &[
        one(1, "filter_chain_match", Message(&LISTENER_FILTER_CHAIN_MATCH)),
        many(3, "filters", Message(&LISTENER_FILTER)),
        one(4, "use_proxy_proto", BoolValue),
        one(5, "metadata", Message(&CORE_METADATA)),
        one(6, "transport_socket", Message(&CORE_TRANSPORT_SOCKET)),
        one(7, "name", String),
        one(9, "transport_socket_connect_timeout", Duration),
    ],
};
static LISTENER_FILTER_CHAIN_MATCH: Shape = Shape {
    name: "envoy.config.listener.v3.FilterChainMatch",
    fields: &[
        many(3, "prefix_ranges", Message(&CORE_CIDR_RANGE)),
        one(4, "address_suffix", String),
        one(5, "suffix_len", Uint32Value),
        many(6, "source_prefix_ranges", Message(&CORE_CIDR_RANGE)),
        many(7, "source_ports", Uint32),
        one(8, "destination_port", Uint32Value),
        one(9, "transport_protocol", String),
        many(10, "application_protocols", String),
        many(11, "server_names", String),
        one(12, "source_type", Enum(E_LISTENER_FILTER_CHAIN_MATCH_CONNECTION_SOURCE_TYPE)),
        many(13, "direct_source_prefix_ranges", Message(&CORE_CIDR_RANGE)),
    ],
};
static LISTENER_FILTER: Shape = Shape {
    name: "envoy.config.listener.v3.Filter",
    fields: &[one(1, "name", String), one(4, "typed_config", Any), one(5, "config_discovery", Opaque)],
};
static LISTENER_LISTENER_FILTER: Shape = Shape {
    name: "envoy.config.listener.v3.ListenerFilter",
    fields: &[
        one(1, "name", String),
        one(3, "typed_config", Any),
        one(4, "filter_disabled", Opaque),
        one(5, "config_discovery", Opaque),
    ],
};
static LISTENER_ADDITIONAL_ADDRESS: Shape = Shape {
    name: "envoy.config.listener.v3.AdditionalAddress",
    fields: &[
        one(1, "address", Message(&CORE_ADDRESS)),
        one(2, "socket_options", Opaque),
        one(3, "tcp_keepalive", Message(&CORE_TCP_KEEPALIVE)),
    ],
};
static CORE_ADDRESS: Shape = Shape {
    name: "envoy.config.core.v3.Address",
    fields: &[
        one(1, "socket_address", Message(&CORE_SOCKET_ADDRESS)),
        one(2, "pipe", Opaque),
        one(3, "envoy_internal_address", Opaque),
    ],
};
static CORE_SOCKET_ADDRESS: Shape = Shape {
    name: "envoy.config.core.v3.SocketAddress",
    fields: &[
        one(1, "protocol", Enum(E_CORE_SOCKET_ADDRESS_PROTOCOL)),
        one(2, "address", String),
        one(3, "port_value", Uint32),
        one(4, "named_port", String),
        one(5, "resolver_name", String),
        one(6, "ipv4_compat", Bool),
        one(7, "network_namespace_filepath", String),
    ],
};
static CORE_CIDR_RANGE: Shape = Shape {
    name: "envoy.config.core.v3.CidrRange",
    fields: &[one(1, "address_prefix", String), one(2, "prefix_len", Uint32Value)],
};
static CORE_TRANSPORT_SOCKET: Shape = Shape {
    name: "envoy.config.core.v3.TransportSocket",
    fields: &[one(1, "name", String), one(3, "typed_config", Any)],
};
static CORE_METADATA: Shape = Shape {
    name: "envoy.config.core.v3.Metadata",
    fields: &[one(1, "filter_metadata", Map(&Struct)), one(2, "typed_filter_metadata", Map(&Any))],
};
static CORE_CONFIG_SOURCE: Shape = Shape {
    name: "envoy.config.core.v3.ConfigSource",
    fields: &[
        one(1, "path", String),
        one(2, "api_config_source", Opaque),
        one(3, "ads", Message(&CORE_AGGREGATED_CONFIG_SOURCE)),
        one(4, "initial_fetch_timeout", Duration),
        one(5, "self", Opaque),
        one(6, "resource_api_version", Enum(E_CORE_API_VERSION)),
        many(7, "authorities", Opaque),
        one(8, "path_config_source", Opaque),
    ],
};
static CORE_AGGREGATED_CONFIG_SOURCE: Shape =
    Shape { name: "envoy.config.core.v3.AggregatedConfigSource", fields: &[] };
static CORE_DATA_SOURCE: Shape = Shape {
    name: "envoy.config.core.v3.DataSource",
    fields: &[
        one(1, "filename", String),
        one(2, "inline_bytes", Bytes),
        one(3, "inline_string", String),
        one(4, "environment_variable", String),
        one(5, "watched_directory", Opaque),
    ],
};
static CORE_HEADER_VALUE_OPTION: Shape = Shape {
    name: "envoy.config.core.v3.HeaderValueOption",
    fields: &[
        one(1, "header", Message(&CORE_HEADER_VALUE)),
        one(2, "append", BoolValue),
        one(3, "append_action", Enum(E_CORE_HEADER_VALUE_OPTION_HEADER_APPEND_ACTION)),
        one(4, "keep_empty_value", Bool),
    ],
};
static CORE_HEADER_VALUE: Shape = Shape {
    name: "envoy.config.core.v3.HeaderValue",
    fields: &[one(1, "key", String), one(2, "value", String), one(3, "raw_value", Bytes)],
};
static CORE_RUNTIME_FRACTIONAL_PERCENT: Shape = Shape {
    name: "envoy.config.core.v3.RuntimeFractionalPercent",
    fields: &[one(1, "default_value", Message(&FRACTIONAL_PERCENT)), one(2, "runtime_key", String)],
};
static CORE_BIND_CONFIG: Shape = Shape {
    name: "envoy.config.core.v3.BindConfig",
    fields: &[
        one(1, "source_address", Message(&CORE_SOCKET_ADDRESS)),
        one(2, "freebind", BoolValue),
        many(3, "socket_options", Opaque),
        many(4, "additional_source_addresses", Message(&CORE_SOCKET_ADDRESS)),
        many(5, "extra_source_addresses", Opaque),
        one(6, "local_address_selector", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(7, "validate_network_namespaces", Bool),
    ],
};
static CORE_TCP_KEEPALIVE: Shape = Shape {
    name: "envoy.config.core.v3.TcpKeepalive",
    fields: &[
        one(1, "keepalive_probes", Uint32Value),
        one(2, "keepalive_time", Uint32Value),
        one(3, "keepalive_interval", Uint32Value),
    ],
};
static CORE_HTTP_PROTOCOL_OPTIONS: Shape = Shape {
    name: "envoy.config.core.v3.HttpProtocolOptions",
    fields: &[
        one(1, "idle_timeout", Duration),
        one(2, "max_headers_count", Uint32Value),
        one(3, "max_connection_duration", Duration),
        one(4, "max_stream_duration", Duration),
        one(5, "headers_with_underscores_action", Enum(E_CORE_HTTP_PROTOCOL_OPTIONS_HEADERS_WITH_UNDERSCORES_ACTION)),
        one(6, "max_requests_per_connection", Uint32Value),
        one(7, "max_response_headers_kb", Uint32Value),
        one(8, "max_connection_duration_jitter", Message(&PERCENT)),
    ],
};
static CORE_HTTP1_PROTOCOL_OPTIONS: Shape = Shape {
    name: "envoy.config.core.v3.Http1ProtocolOptions",
    fields: &[
        one(1, "allow_absolute_url", BoolValue),
        one(2, "accept_http_10", Bool),
        one(3, "default_host_for_http_10", String),
        one(4, "header_key_format", Opaque),
        one(5, "enable_trailers", Bool),
        one(6, "allow_chunked_length", Bool),
        one(7, "override_stream_error_on_invalid_http_message", BoolValue),
        one(8, "send_fully_qualified_url", Bool),
        one(9, "use_balsa_parser", BoolValue),
        one(10, "allow_custom_methods", Bool),
        many(11, "ignore_http_11_upgrade", Message(&MATCHER_STRING_MATCHER)),
    ],
};
static CORE_HTTP2_PROTOCOL_OPTIONS: Shape = Shape {
    name: "envoy.config.core.v3.Http2ProtocolOptions",
    fields: &[
        one(1, "hpack_table_size", Uint32Value),
        one(2, "max_concurrent_streams", Uint32Value),
        one(3, "initial_stream_window_size", Uint32Value),
        one(4, "initial_connection_window_size", Uint32Value),
        one(5, "allow_connect", Bool),
        one(6, "allow_metadata", Bool),
        one(7, "max_outbound_frames", Uint32Value),
        one(8, "max_outbound_control_frames", Uint32Value),
        one(9, "max_consecutive_inbound_frames_with_empty_payload", Uint32Value),
        one(10, "max_inbound_priority_frames_per_stream", Uint32Value),
        one(11, "max_inbound_window_update_frames_per_data_frame_sent", Uint32Value),
        one(12, "stream_error_on_invalid_http_messaging", Bool),
        many(13, "custom_settings_parameters", Opaque),
        one(14, "override_stream_error_on_invalid_http_message", BoolValue),
        one(15, "connection_keepalive", Opaque),
        one(16, "use_oghttp2_codec", BoolValue),
        one(17, "max_metadata_size", Uint64Value),
        one(18, "enable_huffman_encoding", BoolValue),
        one(19, "max_header_field_size_kb", Uint32Value),
        one(20, "disallow_obs_text", BoolValue),
        one(21, "stream_reset_burst", Uint64Value),
        one(22, "stream_reset_rate", Uint64Value),
    ],
};
static CORE_UPSTREAM_HTTP_PROTOCOL_OPTIONS: Shape = Shape {
    name: "envoy.config.core.v3.UpstreamHttpProtocolOptions",
    fields: &[
        one(1, "auto_sni", Bool),
        one(2, "auto_san_validation", Bool),
        one(3, "override_auto_sni_header", String),
    ],
};
static CORE_LOCALITY: Shape = Shape {
    name: "envoy.config.core.v3.Locality",
    fields: &[one(1, "region", String), one(2, "zone", String), one(3, "sub_zone", String)],
};
static CORE_SUBSTITUTION_FORMAT_STRING: Shape = Shape {
    name: "envoy.config.core.v3.SubstitutionFormatString",
    fields: &[
        one(1, "text_format", String),
        one(2, "json_format", Struct),
        one(3, "omit_empty_values", Bool),
        one(4, "content_type", String),
        one(5, "text_format_source", Message(&CORE_DATA_SOURCE)),
        many(6, "formatters", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(7, "json_format_options", Opaque),
    ],
};
static CORE_TYPED_EXTENSION_CONFIG: Shape = Shape {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[one(1, "name", String), one(2, "typed_config", Any)],
};
static CORE_NODE: Shape = Shape {
    name: "envoy.config.core.v3.Node",
    fields: &[
        one(1, "id", String),
        one(2, "cluster", String),
        one(3, "metadata", Struct),
        one(4, "locality", Message(&CORE_LOCALITY)),
        one(6, "user_agent_name", String),
        one(7, "user_agent_version", String),
        one(8, "user_agent_build_version", Opaque),
        many(9, "extensions", Opaque),
        many(10, "client_features", String),
        many(11, "listening_addresses", Message(&CORE_ADDRESS)),
        one(12, "dynamic_parameters", Map(&Opaque)),
    ],
};
static NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER: Shape = Shape {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    fields: &[
        one(1, "codec_type", Enum(E_NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_CODEC_TYPE)),
        one(2, "stat_prefix", String),
        one(3, "rds", Message(&NETWORK_HTTP_CONNECTION_MANAGER_RDS)),
        one(4, "route_config", Message(&ROUTE_ROUTE_CONFIGURATION)),
        many(5, "http_filters", Message(&NETWORK_HTTP_CONNECTION_MANAGER_HTTP_FILTER)),
        one(6, "add_user_agent", BoolValue),
        one(7, "tracing", Opaque),
        one(8, "http_protocol_options", Message(&CORE_HTTP1_PROTOCOL_OPTIONS)),
        one(9, "http2_protocol_options", Message(&CORE_HTTP2_PROTOCOL_OPTIONS)),
        one(10, "server_name", String),
        one(12, "drain_timeout", Duration),
        many(13, "access_log", Message(&ACCESSLOG_ACCESS_LOG)),
        one(14, "use_remote_address", BoolValue),
        one(15, "generate_request_id", BoolValue),
        one(
            16,
            "forward_client_cert_details",
            Enum(E_NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_FORWARD_CLIENT_CERT_DETAILS),
        ),
        one(
            17,
            "set_current_client_cert_details",
            Message(&NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_SET_CURRENT_CLIENT_CERT_DETAILS),
        ),
        one(18, "proxy_100_continue", Bool),
        one(19, "xff_num_trusted_hops", Uint32),
        one(20, "represent_ipv4_remote_address_as_ipv4_mapped_ipv6", Bool),
        one(21, "skip_xff_append", Bool),
        one(22, "via", String),
        many(23, "upgrade_configs", Message(&NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_UPGRADE_CONFIG)),
        one(24, "stream_idle_timeout", Duration),
        one(25, "internal_address_config", Opaque),
        one(26, "delayed_close_timeout", Duration),
        one(28, "request_timeout", Duration),
        one(29, "max_request_headers_kb", Uint32Value),
        one(30, "normalize_path", BoolValue),
        one(31, "scoped_routes", Opaque),
        one(32, "preserve_external_request_id", Bool),
        one(33, "merge_slashes", Bool),
        one(
            34,
            "server_header_transformation",
            Enum(E_NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_SERVER_HEADER_TRANSFORMATION),
        ),
        one(35, "common_http_protocol_options", Message(&CORE_HTTP_PROTOCOL_OPTIONS)),
        one(36, "request_id_extension", Opaque),
        one(37, "always_set_request_id_in_response", Bool),
        one(38, "local_reply_config", Opaque),
        one(39, "strip_matching_host_port", Bool),
        one(40, "stream_error_on_invalid_http_message", BoolValue),
        one(41, "request_headers_timeout", Duration),
        one(42, "strip_any_host_port", Bool),
        one(43, "path_normalization_options", Opaque),
        one(44, "http3_protocol_options", Opaque),
        one(
            45,
            "path_with_escaped_slashes_action",
            Enum(E_NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_PATH_WITH_ESCAPED_SLASHES_ACTION),
        ),
        many(46, "original_ip_detection_extensions", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(47, "strip_trailing_host_dot", Bool),
        one(48, "scheme_header_transformation", Opaque),
        one(49, "proxy_status_config", Opaque),
        one(50, "typed_header_validation_config", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(51, "append_x_forwarded_port", Bool),
        many(52, "early_header_mutation_extensions", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(53, "add_proxy_protocol_connection_state", BoolValue),
        one(54, "access_log_flush_interval", Duration),
        one(55, "flush_access_log_on_new_request", Bool),
        one(56, "access_log_options", Opaque),
        one(57, "append_local_overload", Bool),
        one(58, "http1_safe_max_connection_duration", Bool),
        one(59, "stream_flush_timeout", Duration),
        one(60, "forward_client_cert_matcher", Opaque),
        one(61, "forward_proto_config", Opaque),
        one(62, "drain_timeout_jitter", Message(&PERCENT)),
    ],
};
static NETWORK_HTTP_CONNECTION_MANAGER_RDS: Shape = Shape {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
    fields: &[one(1, "config_source", Message(&CORE_CONFIG_SOURCE)), one(2, "route_config_name", String)],
};
static NETWORK_HTTP_CONNECTION_MANAGER_HTTP_FILTER: Shape = Shape {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    fields: &[
        one(1, "name", String),
        one(4, "typed_config", Any),
        one(5, "config_discovery", Opaque),
        one(6, "is_optional", Bool),
        one(7, "disabled", Bool),
    ],
};
static NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_SET_CURRENT_CLIENT_CERT_DETAILS: Shape = Shape {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
    fields: &[
        one(1, "subject", BoolValue),
        one(3, "cert", Bool),
        one(4, "dns", Bool),
        one(5, "uri", Bool),
        one(6, "chain", Bool),
        one(7, "format", Enum(E_NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_FORWARD_CLIENT_CERT_FORMAT)),
        one(8, "issuer", Bool),
    ],
};
static NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_UPGRADE_CONFIG: Shape = Shape {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
    fields: &[
        one(1, "upgrade_type", String),
        many(2, "filters", Message(&NETWORK_HTTP_CONNECTION_MANAGER_HTTP_FILTER)),
        one(3, "enabled", BoolValue),
    ],
};
static NETWORK_TCP_PROXY_TCP_PROXY: Shape = Shape {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    fields: &[
        one(1, "stat_prefix", String),
        one(2, "cluster", String),
        one(3, "downstream_idle_timeout", Duration),
        one(4, "upstream_idle_timeout", Duration),
        many(5, "access_log", Message(&ACCESSLOG_ACCESS_LOG)),
        one(7, "max_connect_attempts", Uint32Value),
        one(8, "idle_timeout", Duration),
        one(9, "metadata_match", Message(&CORE_METADATA)),
        one(10, "weighted_clusters", Message(&NETWORK_TCP_PROXY_TCP_PROXY_WEIGHTED_CLUSTER)),
        many(11, "hash_policy", Opaque),
        one(12, "tunneling_config", Opaque),
        one(13, "max_downstream_connection_duration", Duration),
        one(14, "on_demand", Opaque),
        one(15, "access_log_flush_interval", Duration),
        one(16, "flush_access_log_on_connected", Bool),
        one(17, "access_log_options", Opaque),
        one(18, "backoff_options", Opaque),
        many(19, "proxy_protocol_tlvs", Opaque),
        one(20, "max_downstream_connection_duration_jitter_percentage", Message(&PERCENT)),
        one(21, "upstream_connect_mode", Enum(E_NETWORK_TCP_PROXY_UPSTREAM_CONNECT_MODE)),
        one(22, "max_early_data_bytes", Uint32Value),
        one(23, "proxy_protocol_tlv_merge_policy", Enum(E_NETWORK_TCP_PROXY_PROXY_PROTOCOL_TLV_MERGE_POLICY)),
        one(24, "check_drain_close", BoolValue),
    ],
};
static NETWORK_TCP_PROXY_TCP_PROXY_WEIGHTED_CLUSTER: Shape = Shape {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster",
    fields: &[many(1, "clusters", Message(&NETWORK_TCP_PROXY_TCP_PROXY_WEIGHTED_CLUSTER_CLUSTER_WEIGHT))],
};
static NETWORK_TCP_PROXY_TCP_PROXY_WEIGHTED_CLUSTER_CLUSTER_WEIGHT: Shape = Shape {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
    fields: &[one(1, "name", String), one(2, "weight", Uint32), one(3, "metadata_match", Message(&CORE_METADATA))],
};
static TRANSPORT_SOCKETS_TLS_DOWNSTREAM_TLS_CONTEXT: Shape = Shape {
    name: "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    fields: &[
        one(1, "common_tls_context", Message(&TRANSPORT_SOCKETS_TLS_COMMON_TLS_CONTEXT)),
        one(2, "require_client_certificate", BoolValue),
        one(3, "require_sni", BoolValue),
        one(4, "session_ticket_keys", Opaque),
        one(5, "session_ticket_keys_sds_secret_config", Message(&TRANSPORT_SOCKETS_TLS_SDS_SECRET_CONFIG)),
        one(6, "session_timeout", Duration),
        one(7, "disable_stateless_session_resumption", Bool),
        one(8, "ocsp_staple_policy", Enum(E_TRANSPORT_SOCKETS_TLS_DOWNSTREAM_TLS_CONTEXT_OCSP_STAPLE_POLICY)),
        one(9, "full_scan_certs_on_sni_mismatch", BoolValue),
        one(10, "disable_stateful_session_resumption", Bool),
        one(11, "prefer_client_ciphers", Bool),
    ],
};
static TRANSPORT_SOCKETS_TLS_UPSTREAM_TLS_CONTEXT: Shape = Shape {
    name: "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    fields: &[
        one(1, "common_tls_context", Message(&TRANSPORT_SOCKETS_TLS_COMMON_TLS_CONTEXT)),
        one(2, "sni", String),
        one(3, "allow_renegotiation", Bool),
        one(4, "max_session_keys", Uint32Value),
        one(5, "enforce_rsa_key_usage", BoolValue),
        one(6, "auto_host_sni", Bool),
        one(7, "auto_sni_san_validation", Bool),
    ],
};
static TRANSPORT_SOCKETS_TLS_COMMON_TLS_CONTEXT: Shape = Shape {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
    fields: &[
        one(1, "tls_params", Message(&TRANSPORT_SOCKETS_TLS_TLS_PARAMETERS)),
        many(2, "tls_certificates", Message(&TRANSPORT_SOCKETS_TLS_TLS_CERTIFICATE)),
        one(3, "validation_context", Message(&TRANSPORT_SOCKETS_TLS_CERTIFICATE_VALIDATION_CONTEXT)),
        many(4, "alpn_protocols", String),
        many(6, "tls_certificate_sds_secret_configs", Message(&TRANSPORT_SOCKETS_TLS_SDS_SECRET_CONFIG)),
        one(7, "validation_context_sds_secret_config", Message(&TRANSPORT_SOCKETS_TLS_SDS_SECRET_CONFIG)),
        one(
            8,
            "combined_validation_context",
            Message(&TRANSPORT_SOCKETS_TLS_COMMON_TLS_CONTEXT_COMBINED_CERTIFICATE_VALIDATION_CONTEXT),
        ),
        one(9, "tls_certificate_certificate_provider", Opaque),
        one(10, "validation_context_certificate_provider", Opaque),
        one(11, "tls_certificate_certificate_provider_instance", Opaque),
        one(12, "validation_context_certificate_provider_instance", Opaque),
        one(13, "custom_handshaker", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(14, "tls_certificate_provider_instance", Opaque),
        one(15, "key_log", Opaque),
        one(16, "custom_tls_certificate_selector", Message(&CORE_TYPED_EXTENSION_CONFIG)),
    ],
};
static TRANSPORT_SOCKETS_TLS_SDS_SECRET_CONFIG: Shape = Shape {
    name: "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
    fields: &[one(1, "name", String), one(2, "sds_config", Message(&CORE_CONFIG_SOURCE))],
};
static TRANSPORT_SOCKETS_TLS_COMMON_TLS_CONTEXT_COMBINED_CERTIFICATE_VALIDATION_CONTEXT: Shape = Shape {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
    fields: &[
        one(1, "default_validation_context", Message(&TRANSPORT_SOCKETS_TLS_CERTIFICATE_VALIDATION_CONTEXT)),
        one(2, "validation_context_sds_secret_config", Message(&TRANSPORT_SOCKETS_TLS_SDS_SECRET_CONFIG)),
        one(3, "validation_context_certificate_provider", Opaque),
        one(4, "validation_context_certificate_provider_instance", Opaque),
    ],
};
static TRANSPORT_SOCKETS_TLS_CERTIFICATE_VALIDATION_CONTEXT: Shape = Shape {
    name: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
    fields: &[
        one(1, "trusted_ca", Message(&CORE_DATA_SOURCE)),
        many(2, "verify_certificate_hash", String),
        many(3, "verify_certificate_spki", String),
        one(6, "require_signed_certificate_timestamp", BoolValue),
        one(7, "crl", Message(&CORE_DATA_SOURCE)),
        one(8, "allow_expired_certificate", Bool),
        many(9, "match_subject_alt_names", Message(&MATCHER_STRING_MATCHER)),
        one(
            10,
            "trust_chain_verification",
            Enum(E_TRANSPORT_SOCKETS_TLS_CERTIFICATE_VALIDATION_CONTEXT_TRUST_CHAIN_VERIFICATION),
        ),
        one(11, "watched_directory", Opaque),
        one(12, "custom_validator_config", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(13, "ca_certificate_provider_instance", Opaque),
        one(14, "only_verify_leaf_cert_crl", Bool),
        many(15, "match_typed_subject_alt_names", Message(&TRANSPORT_SOCKETS_TLS_SUBJECT_ALT_NAME_MATCHER)),
        one(16, "max_verify_depth", Uint32Value),
        one(17, "system_root_certs", Opaque),
        one(18, "suppress_client_ca_list", Bool),
    ],
};
static TRANSPORT_SOCKETS_TLS_SUBJECT_ALT_NAME_MATCHER: Shape = Shape {
    name: "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
    fields: &[
        one(1, "san_type", Enum(E_TRANSPORT_SOCKETS_TLS_SUBJECT_ALT_NAME_MATCHER_SAN_TYPE)),
        one(2, "matcher", Message(&MATCHER_STRING_MATCHER)),
        one(3, "oid", String),
    ],
};
static TRANSPORT_SOCKETS_TLS_TLS_PARAMETERS: Shape = Shape {
    name: "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
    fields: &[
        one(1, "tls_minimum_protocol_version", Enum(E_TRANSPORT_SOCKETS_TLS_TLS_PARAMETERS_TLS_PROTOCOL)),
        one(2, "tls_maximum_protocol_version", Enum(E_TRANSPORT_SOCKETS_TLS_TLS_PARAMETERS_TLS_PROTOCOL)),
        many(3, "cipher_suites", String),
        many(4, "ecdh_curves", String),
        many(5, "signature_algorithms", String),
        many(6, "compliance_policies", Enum(E_TRANSPORT_SOCKETS_TLS_TLS_PARAMETERS_COMPLIANCE_POLICY)),
    ],
};
static TRANSPORT_SOCKETS_TLS_TLS_CERTIFICATE: Shape = Shape {
    name: "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
    fields: &[
        one(1, "certificate_chain", Message(&CORE_DATA_SOURCE)),
        one(2, "private_key", Message(&CORE_DATA_SOURCE)),
        one(3, "password", Message(&CORE_DATA_SOURCE)),
        one(4, "ocsp_staple", Message(&CORE_DATA_SOURCE)),
        many(5, "signed_certificate_timestamp", Message(&CORE_DATA_SOURCE)),
        one(6, "private_key_provider", Opaque),
        one(7, "watched_directory", Opaque),
        one(8, "pkcs12", Message(&CORE_DATA_SOURCE)),
        one(9, "tls_params", Message(&TRANSPORT_SOCKETS_TLS_TLS_PARAMETERS)),
    ],
};
static TRANSPORT_SOCKETS_RAW_BUFFER_RAW_BUFFER: Shape =
    Shape { name: "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", fields: &[] };
static MATCHER_STRING_MATCHER: Shape = Shape {
    name: "envoy.type.matcher.v3.StringMatcher",
    fields: &[
        one(1, "exact", String),
        one(2, "prefix", String),
        one(3, "suffix", String),
        one(5, "safe_regex", Message(&MATCHER_REGEX_MATCHER)),
        one(6, "ignore_case", Bool),
        one(7, "contains", String),
        one(8, "custom", Opaque),
    ],
};
static MATCHER_REGEX_MATCHER: Shape = Shape {
    name: "envoy.type.matcher.v3.RegexMatcher",
    fields: &[one(1, "google_re2", Message(&MATCHER_REGEX_MATCHER_GOOGLE_RE2)), one(2, "regex", String)],
};
static MATCHER_REGEX_MATCHER_GOOGLE_RE2: Shape =
    Shape { name: "envoy.type.matcher.v3.RegexMatcher.GoogleRE2", fields: &[one(1, "max_program_size", Uint32Value)] };
static MATCHER_REGEX_MATCH_AND_SUBSTITUTE: Shape = Shape {
    name: "envoy.type.matcher.v3.RegexMatchAndSubstitute",
    fields: &[one(1, "pattern", Message(&MATCHER_REGEX_MATCHER)), one(2, "substitution", String)],
};
static FRACTIONAL_PERCENT: Shape = Shape {
    name: "envoy.type.v3.FractionalPercent",
    fields: &[one(1, "numerator", Uint32), one(2, "denominator", Enum(E_FRACTIONAL_PERCENT_DENOMINATOR_TYPE))],
};
static PERCENT: Shape = Shape { name: "envoy.type.v3.Percent", fields: &[one(1, "value", Double)] };
static INT64_RANGE: Shape =
    Shape { name: "envoy.type.v3.Int64Range", fields: &[one(1, "start", Int64), one(2, "end", Int64)] };
static ROUTE_ROUTE_CONFIGURATION: Shape = Shape {
    name: "envoy.config.route.v3.RouteConfiguration",
    fields: &[
        one(1, "name", String),
        many(2, "virtual_hosts", Message(&ROUTE_VIRTUAL_HOST)),
        many(3, "internal_only_headers", String),
        many(4, "response_headers_to_add", Message(&CORE_HEADER_VALUE_OPTION)),
        many(5, "response_headers_to_remove", String),
        many(6, "request_headers_to_add", Message(&CORE_HEADER_VALUE_OPTION)),
        one(7, "validate_clusters", BoolValue),
        many(8, "request_headers_to_remove", String),
        one(9, "vhds", Message(&ROUTE_VHDS)),
        one(10, "most_specific_header_mutations_wins", Bool),
        one(11, "max_direct_response_body_size_bytes", Uint32Value),
        many(12, "cluster_specifier_plugins", Opaque),
        many(13, "request_mirror_policies", Message(&ROUTE_ROUTE_ACTION_REQUEST_MIRROR_POLICY)),
        one(14, "ignore_port_in_host_matching", Bool),
        one(15, "ignore_path_parameters_in_path_matching", Bool),
        one(16, "typed_per_filter_config", Map(&Any)),
        one(17, "metadata", Message(&CORE_METADATA)),
        one(18, "vhost_header", String),
        many(19, "route_specifiers", Message(&CORE_TYPED_EXTENSION_CONFIG)),
    ],
};
static ROUTE_VHDS: Shape =
    Shape { name: "envoy.config.route.v3.Vhds", fields: &[one(1, "config_source", Message(&CORE_CONFIG_SOURCE))] };
static ROUTE_VIRTUAL_HOST: Shape = Shape {
    name: "envoy.config.route.v3.VirtualHost",
    fields: &[
        one(1, "name", String),
        many(2, "domains", String),
        many(3, "routes", Message(&ROUTE_ROUTE)),
        one(4, "require_tls", Enum(E_ROUTE_VIRTUAL_HOST_TLS_REQUIREMENT_TYPE)),
        many(5, "virtual_clusters", Opaque),
        many(6, "rate_limits", Opaque),
        many(7, "request_headers_to_add", Message(&CORE_HEADER_VALUE_OPTION)),
        one(8, "cors", Message(&ROUTE_CORS_POLICY)),
        many(10, "response_headers_to_add", Message(&CORE_HEADER_VALUE_OPTION)),
        many(11, "response_headers_to_remove", String),
        many(13, "request_headers_to_remove", String),
        one(14, "include_request_attempt_count", Bool),
        one(15, "typed_per_filter_config", Map(&Any)),
        one(16, "retry_policy", Message(&ROUTE_RETRY_POLICY)),
        one(17, "hedge_policy", Opaque),
        one(18, "per_request_buffer_limit_bytes", Uint32Value),
        one(19, "include_attempt_count_in_response", Bool),
        one(20, "retry_policy_typed_config", Any),
        one(21, "matcher", Opaque),
        many(22, "request_mirror_policies", Message(&ROUTE_ROUTE_ACTION_REQUEST_MIRROR_POLICY)),
        one(23, "include_is_timeout_retry_header", Bool),
        one(24, "metadata", Message(&CORE_METADATA)),
        one(25, "request_body_buffer_limit", Uint64Value),
        many(26, "route_specifiers", Message(&CORE_TYPED_EXTENSION_CONFIG)),
    ],
};
static ROUTE_ROUTE: Shape = Shape {
    name: "envoy.config.route.v3.Route",
    fields: &[
        one(1, "match", Message(&ROUTE_ROUTE_MATCH)),
        one(2, "route", Message(&ROUTE_ROUTE_ACTION)),
        one(3, "redirect", Message(&ROUTE_REDIRECT_ACTION)),
        one(4, "metadata", Message(&CORE_METADATA)),
        one(5, "decorator", Message(&ROUTE_DECORATOR)),
        one(7, "direct_response", Message(&ROUTE_DIRECT_RESPONSE_ACTION)),
        many(9, "request_headers_to_add", Message(&CORE_HEADER_VALUE_OPTION)),
        many(10, "response_headers_to_add", Message(&CORE_HEADER_VALUE_OPTION)),
        many(11, "response_headers_to_remove", String),
        many(12, "request_headers_to_remove", String),
        one(13, "typed_per_filter_config", Map(&Any)),
        one(14, "name", String),
        one(15, "tracing", Opaque),
        one(16, "per_request_buffer_limit_bytes", Uint32Value),
        one(17, "filter_action", Opaque),
        one(18, "non_forwarding_action", Opaque),
        one(19, "stat_prefix", String),
        one(20, "request_body_buffer_limit", Uint64Value),
        many(21, "route_specifiers", Message(&CORE_TYPED_EXTENSION_CONFIG)),
    ],
};
static ROUTE_ROUTE_MATCH: Shape = Shape {
    name: "envoy.config.route.v3.RouteMatch",
    fields: &[
        one(1, "prefix", String),
        one(2, "path", String),
        one(4, "case_sensitive", BoolValue),
        many(6, "headers", Message(&ROUTE_HEADER_MATCHER)),
        many(7, "query_parameters", Message(&ROUTE_QUERY_PARAMETER_MATCHER)),
        one(8, "grpc", Message(&ROUTE_ROUTE_MATCH_GRPC_ROUTE_MATCH_OPTIONS)),
        one(9, "runtime_fraction", Message(&CORE_RUNTIME_FRACTIONAL_PERCENT)),
        one(10, "safe_regex", Message(&MATCHER_REGEX_MATCHER)),
        one(11, "tls_context", Opaque),
        one(12, "connect_matcher", Opaque),
        many(13, "dynamic_metadata", Opaque),
        one(14, "path_separated_prefix", String),
        one(15, "path_match_policy", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        many(16, "filter_state", Opaque),
        many(17, "cookies", Opaque),
    ],
};
static ROUTE_ROUTE_MATCH_GRPC_ROUTE_MATCH_OPTIONS: Shape =
    Shape { name: "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions", fields: &[] };
static ROUTE_ROUTE_ACTION: Shape = Shape {
    name: "envoy.config.route.v3.RouteAction",
    fields: &[
        one(1, "cluster", String),
        one(2, "cluster_header", String),
        one(3, "weighted_clusters", Message(&ROUTE_WEIGHTED_CLUSTER)),
        one(4, "metadata_match", Message(&CORE_METADATA)),
        one(5, "prefix_rewrite", String),
        one(6, "host_rewrite_literal", String),
        one(7, "auto_host_rewrite", BoolValue),
        one(8, "timeout", Duration),
        one(9, "retry_policy", Message(&ROUTE_RETRY_POLICY)),
        one(11, "priority", Enum(E_CORE_ROUTING_PRIORITY)),
        many(13, "rate_limits", Opaque),
        one(14, "include_vh_rate_limits", BoolValue),
        many(15, "hash_policy", Message(&ROUTE_ROUTE_ACTION_HASH_POLICY)),
        one(17, "cors", Message(&ROUTE_CORS_POLICY)),
        one(20, "cluster_not_found_response_code", Enum(E_ROUTE_ROUTE_ACTION_CLUSTER_NOT_FOUND_RESPONSE_CODE)),
        one(23, "max_grpc_timeout", Duration),
        one(24, "idle_timeout", Duration),
        many(25, "upgrade_configs", Message(&ROUTE_ROUTE_ACTION_UPGRADE_CONFIG)),
        one(26, "internal_redirect_action", Enum(E_ROUTE_ROUTE_ACTION_INTERNAL_REDIRECT_ACTION)),
        one(27, "hedge_policy", Opaque),
        one(28, "grpc_timeout_offset", Duration),
        one(29, "host_rewrite_header", String),
        many(30, "request_mirror_policies", Message(&ROUTE_ROUTE_ACTION_REQUEST_MIRROR_POLICY)),
        one(31, "max_internal_redirects", Uint32Value),
        one(32, "regex_rewrite", Message(&MATCHER_REGEX_MATCH_AND_SUBSTITUTE)),
        one(33, "retry_policy_typed_config", Any),
        one(34, "internal_redirect_policy", Opaque),
        one(35, "host_rewrite_path_regex", Message(&MATCHER_REGEX_MATCH_AND_SUBSTITUTE)),
        one(36, "max_stream_duration", Message(&ROUTE_ROUTE_ACTION_MAX_STREAM_DURATION)),
        one(37, "cluster_specifier_plugin", String),
        one(38, "append_x_forwarded_host", Bool),
        one(39, "inline_cluster_specifier_plugin", Opaque),
        one(40, "early_data_policy", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(41, "path_rewrite_policy", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(42, "flush_timeout", Duration),
        one(44, "host_rewrite", String),
        one(45, "path_rewrite", String),
    ],
};
static ROUTE_WEIGHTED_CLUSTER: Shape = Shape {
    name: "envoy.config.route.v3.WeightedCluster",
    fields: &[
        many(1, "clusters", Message(&ROUTE_WEIGHTED_CLUSTER_CLUSTER_WEIGHT)),
        one(2, "runtime_key_prefix", String),
        one(3, "total_weight", Uint32Value),
        one(4, "header_name", String),
        one(5, "use_hash_policy", BoolValue),
    ],
};
static ROUTE_WEIGHTED_CLUSTER_CLUSTER_WEIGHT: Shape = Shape {
    name: "envoy.config.route.v3.WeightedCluster.ClusterWeight",
    fields: &[
        one(1, "name", String),
        one(2, "weight", Uint32Value),
        one(3, "metadata_match", Message(&CORE_METADATA)),
        many(4, "request_headers_to_add", Message(&CORE_HEADER_VALUE_OPTION)),
        many(5, "response_headers_to_add", Message(&CORE_HEADER_VALUE_OPTION)),
        many(6, "response_headers_to_remove", String),
        many(9, "request_headers_to_remove", String),
        one(10, "typed_per_filter_config", Map(&Any)),
        one(11, "host_rewrite_literal", String),
        one(12, "cluster_header", String),
    ],
};
static ROUTE_HEADER_MATCHER: Shape = Shape {
    name: "envoy.config.route.v3.HeaderMatcher",
    fields: &[
        one(1, "name", String),
        one(4, "exact_match", String),
        one(6, "range_match", Message(&INT64_RANGE)),
        one(7, "present_match", Bool),
        one(8, "invert_match", Bool),
        one(9, "prefix_match", String),
        one(10, "suffix_match", String),
        one(11, "safe_regex_match", Message(&MATCHER_REGEX_MATCHER)),
        one(12, "contains_match", String),
        one(13, "string_match", Message(&MATCHER_STRING_MATCHER)),
        one(14, "treat_missing_header_as_empty", Bool),
    ],
};
static ROUTE_QUERY_PARAMETER_MATCHER: Shape = Shape {
    name: "envoy.config.route.v3.QueryParameterMatcher",
    fields: &[
        one(1, "name", String),
        one(5, "string_match", Message(&MATCHER_STRING_MATCHER)),
        one(6, "present_match", Bool),
    ],
};
static ROUTE_RETRY_POLICY: Shape = Shape {
    name: "envoy.config.route.v3.RetryPolicy",
    fields: &[
        one(1, "retry_on", String),
        one(2, "num_retries", Uint32Value),
        one(3, "per_try_timeout", Duration),
        one(4, "retry_priority", Opaque),
        many(5, "retry_host_predicate", Message(&ROUTE_RETRY_POLICY_RETRY_HOST_PREDICATE)),
        one(6, "host_selection_retry_max_attempts", Int64),
        many(7, "retriable_status_codes", Uint32),
        one(8, "retry_back_off", Message(&ROUTE_RETRY_POLICY_RETRY_BACK_OFF)),
        many(9, "retriable_headers", Message(&ROUTE_HEADER_MATCHER)),
        many(10, "retriable_request_headers", Message(&ROUTE_HEADER_MATCHER)),
        one(11, "rate_limited_retry_back_off", Opaque),
        many(12, "retry_options_predicates", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(13, "per_try_idle_timeout", Duration),
        one(14, "refresh_cluster_on_retry", Bool),
    ],
};
static ROUTE_RETRY_POLICY_RETRY_BACK_OFF: Shape = Shape {
    name: "envoy.config.route.v3.RetryPolicy.RetryBackOff",
    fields: &[one(1, "base_interval", Duration), one(2, "max_interval", Duration)],
};
static ROUTE_RETRY_POLICY_RETRY_HOST_PREDICATE: Shape = Shape {
    name: "envoy.config.route.v3.RetryPolicy.RetryHostPredicate",
    fields: &[one(1, "name", String), one(3, "typed_config", Any)],
};
static ROUTE_REDIRECT_ACTION: Shape = Shape {
    name: "envoy.config.route.v3.RedirectAction",
    fields: &[
        one(1, "host_redirect", String),
        one(2, "path_redirect", String),
        one(3, "response_code", Enum(E_ROUTE_REDIRECT_ACTION_REDIRECT_RESPONSE_CODE)),
        one(4, "https_redirect", Bool),
        one(5, "prefix_rewrite", String),
        one(6, "strip_query", Bool),
        one(7, "scheme_redirect", String),
        one(8, "port_redirect", Uint32),
        one(9, "regex_rewrite", Message(&MATCHER_REGEX_MATCH_AND_SUBSTITUTE)),
        one(10, "path_rewrite", String),
    ],
};
static ROUTE_DIRECT_RESPONSE_ACTION: Shape = Shape {
    name: "envoy.config.route.v3.DirectResponseAction",
    fields: &[
        one(1, "status", Uint32),
        one(2, "body", Message(&CORE_DATA_SOURCE)),
        one(3, "body_format", Message(&CORE_SUBSTITUTION_FORMAT_STRING)),
    ],
};
static ROUTE_DECORATOR: Shape = Shape {
    name: "envoy.config.route.v3.Decorator",
    fields: &[one(1, "operation", String), one(2, "propagate", BoolValue)],
};
static ROUTE_CORS_POLICY: Shape = Shape {
    name: "envoy.config.route.v3.CorsPolicy",
    fields: &[
        one(2, "allow_methods", String),
        one(3, "allow_headers", String),
        one(4, "expose_headers", String),
        one(5, "max_age", String),
        one(6, "allow_credentials", BoolValue),
        one(9, "filter_enabled", Message(&CORE_RUNTIME_FRACTIONAL_PERCENT)),
        one(10, "shadow_enabled", Message(&CORE_RUNTIME_FRACTIONAL_PERCENT)),
        many(11, "allow_origin_string_match", Message(&MATCHER_STRING_MATCHER)),
        one(12, "allow_private_network_access", BoolValue),
        one(13, "forward_not_matching_preflights", BoolValue),
    ],
};
static ROUTE_ROUTE_ACTION_REQUEST_MIRROR_POLICY: Shape = Shape {
    name: "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
    fields: &[
        one(1, "cluster", String),
        one(3, "runtime_fraction", Message(&CORE_RUNTIME_FRACTIONAL_PERCENT)),
        one(4, "trace_sampled", BoolValue),
        one(5, "cluster_header", String),
        one(6, "disable_shadow_host_suffix_append", Bool),
        many(7, "request_headers_mutations", Opaque),
        one(8, "host_rewrite_literal", String),
    ],
};
static ROUTE_ROUTE_ACTION_HASH_POLICY: Shape = Shape {
    name: "envoy.config.route.v3.RouteAction.HashPolicy",
    fields: &[
        one(1, "header", Message(&ROUTE_ROUTE_ACTION_HASH_POLICY_HEADER)),
        one(2, "cookie", Message(&ROUTE_ROUTE_ACTION_HASH_POLICY_COOKIE)),
        one(3, "connection_properties", Message(&ROUTE_ROUTE_ACTION_HASH_POLICY_CONNECTION_PROPERTIES)),
        one(4, "terminal", Bool),
        one(5, "query_parameter", Message(&ROUTE_ROUTE_ACTION_HASH_POLICY_QUERY_PARAMETER)),
        one(6, "filter_state", Opaque),
    ],
};
static ROUTE_ROUTE_ACTION_HASH_POLICY_HEADER: Shape = Shape {
    name: "envoy.config.route.v3.RouteAction.HashPolicy.Header",
    fields: &[one(1, "header_name", String), one(2, "regex_rewrite", Message(&MATCHER_REGEX_MATCH_AND_SUBSTITUTE))],
};
static ROUTE_ROUTE_ACTION_HASH_POLICY_COOKIE: Shape = Shape {
    name: "envoy.config.route.v3.RouteAction.HashPolicy.Cookie",
    fields: &[one(1, "name", String), one(2, "ttl", Duration), one(3, "path", String), many(4, "attributes", Opaque)],
};
static ROUTE_ROUTE_ACTION_HASH_POLICY_CONNECTION_PROPERTIES: Shape = Shape {
    name: "envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties",
    fields: &[one(1, "source_ip", Bool)],
};
static ROUTE_ROUTE_ACTION_HASH_POLICY_QUERY_PARAMETER: Shape =
    Shape { name: "envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter", fields: &[one(1, "name", String)] };
static ROUTE_ROUTE_ACTION_MAX_STREAM_DURATION: Shape = Shape {
    name: "envoy.config.route.v3.RouteAction.MaxStreamDuration",
    fields: &[
        one(1, "max_stream_duration", Duration),
        one(2, "grpc_timeout_header_max", Duration),
        one(3, "grpc_timeout_header_offset", Duration),
    ],
};
static ROUTE_ROUTE_ACTION_UPGRADE_CONFIG: Shape = Shape {
    name: "envoy.config.route.v3.RouteAction.UpgradeConfig",
    fields: &[one(1, "upgrade_type", String), one(2, "enabled", BoolValue), one(3, "connect_config", Opaque)],
};
static HTTP_FAULT_HTTPFAULT: Shape = Shape {
    name: "envoy.extensions.filters.http.fault.v3.HTTPFault",
    fields: &[
        one(1, "delay", Message(&COMMON_FAULT_FAULT_DELAY)),
        one(2, "abort", Message(&HTTP_FAULT_FAULT_ABORT)),
        one(3, "upstream_cluster", String),
        many(4, "headers", Message(&ROUTE_HEADER_MATCHER)),
        many(5, "downstream_nodes", String),
        one(6, "max_active_faults", Uint32Value),
        one(7, "response_rate_limit", Opaque),
        one(8, "delay_percent_runtime", String),
        one(9, "abort_percent_runtime", String),
        one(10, "delay_duration_runtime", String),
        one(11, "abort_http_status_runtime", String),
        one(12, "max_active_faults_runtime", String),
        one(13, "response_rate_limit_percent_runtime", String),
        one(14, "abort_grpc_status_runtime", String),
        one(15, "disable_downstream_cluster_stats", Bool),
        one(16, "filter_metadata", Struct),
    ],
};
static HTTP_FAULT_FAULT_ABORT: Shape = Shape {
    name: "envoy.extensions.filters.http.fault.v3.FaultAbort",
    fields: &[
        one(2, "http_status", Uint32),
        one(3, "percentage", Message(&FRACTIONAL_PERCENT)),
        one(4, "header_abort", Opaque),
        one(5, "grpc_status", Uint32),
        one(6, "response_body", String),
    ],
};
static COMMON_FAULT_FAULT_DELAY: Shape = Shape {
    name: "envoy.extensions.filters.common.fault.v3.FaultDelay",
    fields: &[
        one(3, "fixed_delay", Duration),
        one(4, "percentage", Message(&FRACTIONAL_PERCENT)),
        one(5, "header_delay", Opaque),
    ],
};
static HTTP_CORS_CORS: Shape = Shape { name: "envoy.extensions.filters.http.cors.v3.Cors", fields: &[] };
static HTTP_CORS_CORS_POLICY: Shape = Shape {
    name: "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    fields: &[
        many(1, "allow_origin_string_match", Message(&MATCHER_STRING_MATCHER)),
        one(2, "allow_methods", String),
        one(3, "allow_headers", String),
        one(4, "expose_headers", String),
        one(5, "max_age", String),
        one(6, "allow_credentials", BoolValue),
        one(7, "filter_enabled", Message(&CORE_RUNTIME_FRACTIONAL_PERCENT)),
        one(8, "shadow_enabled", Message(&CORE_RUNTIME_FRACTIONAL_PERCENT)),
        one(9, "allow_private_network_access", BoolValue),
        one(10, "forward_not_matching_preflights", BoolValue),
    ],
};
static HTTP_ROUTER_ROUTER: Shape = Shape {
    name: "envoy.extensions.filters.http.router.v3.Router",
    fields: &[
        one(1, "dynamic_stats", BoolValue),
        one(2, "start_child_span", Bool),
        many(3, "upstream_log", Message(&ACCESSLOG_ACCESS_LOG)),
        one(4, "suppress_envoy_headers", Bool),
        many(5, "strict_check_headers", String),
        one(6, "respect_expected_rq_timeout", Bool),
        one(7, "suppress_grpc_request_failure_code_stats", Bool),
        many(8, "upstream_http_filters", Message(&NETWORK_HTTP_CONNECTION_MANAGER_HTTP_FILTER)),
        one(9, "upstream_log_options", Opaque),
        one(10, "reject_connect_request_early_data", BoolValue),
    ],
};
static LISTENER_ORIGINAL_DST_ORIGINAL_DST: Shape =
    Shape { name: "envoy.extensions.filters.listener.original_dst.v3.OriginalDst", fields: &[] };
static LISTENER_TLS_INSPECTOR_TLS_INSPECTOR: Shape = Shape {
    name: "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    fields: &[
        one(1, "enable_ja3_fingerprinting", BoolValue),
        one(2, "initial_read_buffer_size", Uint32Value),
        one(3, "enable_ja4_fingerprinting", BoolValue),
        one(4, "close_connection_on_client_hello_parsing_errors", Bool),
        one(5, "max_client_hello_size", Uint32Value),
    ],
};
static LISTENER_HTTP_INSPECTOR_HTTP_INSPECTOR: Shape =
    Shape { name: "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", fields: &[] };
static ACCESS_LOGGERS_FILE_FILE_ACCESS_LOG: Shape = Shape {
    name: "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    fields: &[
        one(1, "path", String),
        one(2, "format", String),
        one(3, "json_format", Struct),
        one(4, "typed_json_format", Struct),
        one(5, "log_format", Message(&CORE_SUBSTITUTION_FORMAT_STRING)),
    ],
};
static RETRY_HOST_PREVIOUS_HOSTS_PREVIOUS_HOSTS_PREDICATE: Shape =
    Shape { name: "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", fields: &[] };
static CLUSTER_CLUSTER: Shape = Shape {
    name: "envoy.config.cluster.v3.Cluster",
    fields: &[
        one(1, "name", String),
        one(2, "type", Enum(E_CLUSTER_CLUSTER_DISCOVERY_TYPE)),
        one(3, "eds_cluster_config", Message(&CLUSTER_CLUSTER_EDS_CLUSTER_CONFIG)),
        one(4, "connect_timeout", Duration),
        one(5, "per_connection_buffer_limit_bytes", Uint32Value),
        one(6, "lb_policy", Enum(E_CLUSTER_CLUSTER_LB_POLICY)),
        many(8, "health_checks", Opaque),
        one(9, "max_requests_per_connection", Uint32Value),
        one(10, "circuit_breakers", Message(&CLUSTER_CIRCUIT_BREAKERS)),
        one(13, "http_protocol_options", Message(&CORE_HTTP1_PROTOCOL_OPTIONS)),
        one(14, "http2_protocol_options", Message(&CORE_HTTP2_PROTOCOL_OPTIONS)),
        one(16, "dns_refresh_rate", Duration),
        one(17, "dns_lookup_family", Enum(E_CLUSTER_CLUSTER_DNS_LOOKUP_FAMILY)),
        many(18, "dns_resolvers", Message(&CORE_ADDRESS)),
        one(19, "outlier_detection", Message(&CLUSTER_OUTLIER_DETECTION)),
        one(20, "cleanup_interval", Duration),
        one(21, "upstream_bind_config", Message(&CORE_BIND_CONFIG)),
        one(22, "lb_subset_config", Opaque),
        one(23, "ring_hash_lb_config", Message(&CLUSTER_CLUSTER_RING_HASH_LB_CONFIG)),
        one(24, "transport_socket", Message(&CORE_TRANSPORT_SOCKET)),
        one(25, "metadata", Message(&CORE_METADATA)),
        one(26, "protocol_selection", Enum(E_CLUSTER_CLUSTER_CLUSTER_PROTOCOL_SELECTION)),
        one(27, "common_lb_config", Message(&CLUSTER_CLUSTER_COMMON_LB_CONFIG)),
        one(28, "alt_stat_name", String),
        one(29, "common_http_protocol_options", Message(&CORE_HTTP_PROTOCOL_OPTIONS)),
        one(30, "upstream_connection_options", Message(&CLUSTER_UPSTREAM_CONNECTION_OPTIONS)),
        one(31, "close_connections_on_host_health_failure", Bool),
        one(32, "ignore_health_on_host_removal", Bool),
        one(33, "load_assignment", Message(&ENDPOINT_CLUSTER_LOAD_ASSIGNMENT)),
        one(34, "original_dst_lb_config", Message(&CLUSTER_CLUSTER_ORIGINAL_DST_LB_CONFIG)),
        one(36, "typed_extension_protocol_options", Map(&Any)),
        one(37, "least_request_lb_config", Message(&CLUSTER_CLUSTER_LEAST_REQUEST_LB_CONFIG)),
        one(38, "cluster_type", Opaque),
        one(39, "respect_dns_ttl", Bool),
        many(40, "filters", Opaque),
        one(41, "load_balancing_policy", Opaque),
        one(42, "lrs_server", Message(&CORE_CONFIG_SOURCE)),
        many(43, "transport_socket_matches", Message(&CLUSTER_CLUSTER_TRANSPORT_SOCKET_MATCH)),
        one(44, "dns_failure_refresh_rate", Opaque),
        one(45, "use_tcp_for_dns_lookups", Bool),
        one(46, "upstream_http_protocol_options", Message(&CORE_UPSTREAM_HTTP_PROTOCOL_OPTIONS)),
        one(47, "track_timeout_budgets", Bool),
        one(48, "upstream_config", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(49, "track_cluster_stats", Opaque),
        one(50, "preconnect_policy", Opaque),
        one(51, "connection_pool_per_downstream_connection", Bool),
        one(52, "maglev_lb_config", Message(&CLUSTER_CLUSTER_MAGLEV_LB_CONFIG)),
        one(53, "dns_resolution_config", Opaque),
        one(54, "wait_for_warm_on_init", BoolValue),
        one(55, "typed_dns_resolver_config", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(56, "round_robin_lb_config", Opaque),
        many(57, "lrs_report_endpoint_metrics", String),
        one(58, "dns_jitter", Duration),
        one(59, "transport_socket_matcher", Opaque),
        one(60, "per_connection_buffer_high_watermark_timeout", Duration),
        one(61, "stats_matcher", Opaque),
        one(62, "queuing_policies", Opaque),
    ],
};
static CLUSTER_CLUSTER_TRANSPORT_SOCKET_MATCH: Shape = Shape {
    name: "envoy.config.cluster.v3.Cluster.TransportSocketMatch",
    fields: &[
        one(1, "name", String),
        one(2, "match", Struct),
        one(3, "transport_socket", Message(&CORE_TRANSPORT_SOCKET)),
    ],
};
static CLUSTER_CLUSTER_EDS_CLUSTER_CONFIG: Shape = Shape {
    name: "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
    fields: &[one(1, "eds_config", Message(&CORE_CONFIG_SOURCE)), one(2, "service_name", String)],
};
static CLUSTER_CLUSTER_COMMON_LB_CONFIG: Shape = Shape {
    name: "envoy.config.cluster.v3.Cluster.CommonLbConfig",
    fields: &[
        one(1, "healthy_panic_threshold", Message(&PERCENT)),
        one(2, "zone_aware_lb_config", Opaque),
        one(3, "locality_weighted_lb_config", Message(&CLUSTER_CLUSTER_COMMON_LB_CONFIG_LOCALITY_WEIGHTED_LB_CONFIG)),
        one(4, "update_merge_window", Duration),
        one(5, "ignore_new_hosts_until_first_hc", Bool),
        one(6, "close_connections_on_host_set_change", Bool),
        one(7, "consistent_hashing_lb_config", Opaque),
        one(8, "override_host_status", Opaque),
    ],
};
static CLUSTER_CLUSTER_COMMON_LB_CONFIG_LOCALITY_WEIGHTED_LB_CONFIG: Shape =
    Shape { name: "envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig", fields: &[] };
static CLUSTER_CLUSTER_RING_HASH_LB_CONFIG: Shape = Shape {
    name: "envoy.config.cluster.v3.Cluster.RingHashLbConfig",
    fields: &[
        one(1, "minimum_ring_size", Uint64Value),
        one(3, "hash_function", Enum(E_CLUSTER_CLUSTER_RING_HASH_LB_CONFIG_HASH_FUNCTION)),
        one(4, "maximum_ring_size", Uint64Value),
    ],
};
static CLUSTER_CLUSTER_LEAST_REQUEST_LB_CONFIG: Shape = Shape {
    name: "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
    fields: &[
        one(1, "choice_count", Uint32Value),
        one(2, "active_request_bias", Opaque),
        one(3, "slow_start_config", Opaque),
    ],
};
static CLUSTER_CLUSTER_MAGLEV_LB_CONFIG: Shape =
    Shape { name: "envoy.config.cluster.v3.Cluster.MaglevLbConfig", fields: &[one(1, "table_size", Uint64Value)] };
static CLUSTER_CLUSTER_ORIGINAL_DST_LB_CONFIG: Shape = Shape {
    name: "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig",
    fields: &[
        one(1, "use_http_header", Bool),
        one(2, "http_header_name", String),
        one(3, "upstream_port_override", Uint32Value),
        one(4, "metadata_key", Opaque),
    ],
};
static CLUSTER_CIRCUIT_BREAKERS: Shape = Shape {
    name: "envoy.config.cluster.v3.CircuitBreakers",
    fields: &[
        many(1, "thresholds", Message(&CLUSTER_CIRCUIT_BREAKERS_THRESHOLDS)),
        many(2, "per_host_thresholds", Message(&CLUSTER_CIRCUIT_BREAKERS_THRESHOLDS)),
    ],
};
static CLUSTER_CIRCUIT_BREAKERS_THRESHOLDS: Shape = Shape {
    name: "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
    fields: &[
        one(1, "priority", Enum(E_CORE_ROUTING_PRIORITY)),
        one(2, "max_connections", Uint32Value),
        one(3, "max_pending_requests", Uint32Value),
        one(4, "max_requests", Uint32Value),
        one(5, "max_retries", Uint32Value),
        one(6, "track_remaining", Bool),
        one(7, "max_connection_pools", Uint32Value),
        one(8, "retry_budget", Message(&CLUSTER_CIRCUIT_BREAKERS_THRESHOLDS_RETRY_BUDGET)),
    ],
};
static CLUSTER_CIRCUIT_BREAKERS_THRESHOLDS_RETRY_BUDGET: Shape = Shape {
    name: "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget",
    fields: &[
        one(1, "budget_percent", Message(&PERCENT)),
        one(2, "min_retry_concurrency", Uint32Value),
        one(3, "budget_interval", Duration),
    ],
};
static CLUSTER_OUTLIER_DETECTION: Shape = Shape {
    name: "envoy.config.cluster.v3.OutlierDetection",
    fields: &[
        one(1, "consecutive_5xx", Uint32Value),
        one(2, "interval", Duration),
        one(3, "base_ejection_time", Duration),
        one(4, "max_ejection_percent", Uint32Value),
        one(5, "enforcing_consecutive_5xx", Uint32Value),
        one(6, "enforcing_success_rate", Uint32Value),
        one(7, "success_rate_minimum_hosts", Uint32Value),
        one(8, "success_rate_request_volume", Uint32Value),
        one(9, "success_rate_stdev_factor", Uint32Value),
        one(10, "consecutive_gateway_failure", Uint32Value),
        one(11, "enforcing_consecutive_gateway_failure", Uint32Value),
        one(12, "split_external_local_origin_errors", Bool),
        one(13, "consecutive_local_origin_failure", Uint32Value),
        one(14, "enforcing_consecutive_local_origin_failure", Uint32Value),
        one(15, "enforcing_local_origin_success_rate", Uint32Value),
        one(16, "failure_percentage_threshold", Uint32Value),
        one(17, "enforcing_failure_percentage", Uint32Value),
        one(18, "enforcing_failure_percentage_local_origin", Uint32Value),
        one(19, "failure_percentage_minimum_hosts", Uint32Value),
        one(20, "failure_percentage_request_volume", Uint32Value),
        one(21, "max_ejection_time", Duration),
        one(22, "max_ejection_time_jitter", Duration),
        one(23, "successful_active_health_check_uneject_host", BoolValue),
        many(24, "monitors", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(25, "always_eject_one_host", BoolValue),
        one(26, "detect_degraded_hosts", BoolValue),
    ],
};
static CLUSTER_UPSTREAM_CONNECTION_OPTIONS: Shape = Shape {
    name: "envoy.config.cluster.v3.UpstreamConnectionOptions",
    fields: &[
        one(1, "tcp_keepalive", Message(&CORE_TCP_KEEPALIVE)),
        one(2, "set_local_interface_name_on_upstream_connections", Bool),
        one(3, "happy_eyeballs_config", Opaque),
    ],
};
static UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS: Shape = Shape {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    fields: &[
        one(1, "common_http_protocol_options", Message(&CORE_HTTP_PROTOCOL_OPTIONS)),
        one(2, "upstream_http_protocol_options", Message(&CORE_UPSTREAM_HTTP_PROTOCOL_OPTIONS)),
        one(3, "explicit_http_config", Message(&UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG)),
        one(
            4,
            "use_downstream_protocol_config",
            Message(&UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS_USE_DOWNSTREAM_HTTP_CONFIG),
        ),
        one(5, "auto_config", Message(&UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS_AUTO_HTTP_CONFIG)),
        many(6, "http_filters", Message(&NETWORK_HTTP_CONNECTION_MANAGER_HTTP_FILTER)),
        one(7, "header_validation_config", Message(&CORE_TYPED_EXTENSION_CONFIG)),
        one(8, "outlier_detection", Opaque),
        many(9, "request_mirror_policies", Message(&ROUTE_ROUTE_ACTION_REQUEST_MIRROR_POLICY)),
        many(10, "hash_policy", Message(&ROUTE_ROUTE_ACTION_HASH_POLICY)),
        one(11, "retry_policy", Message(&ROUTE_RETRY_POLICY)),
    ],
};
static UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG: Shape = Shape {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
    fields: &[
        one(1, "http_protocol_options", Message(&CORE_HTTP1_PROTOCOL_OPTIONS)),
        one(2, "http2_protocol_options", Message(&CORE_HTTP2_PROTOCOL_OPTIONS)),
        one(3, "http3_protocol_options", Opaque),
    ],
};
static UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS_USE_DOWNSTREAM_HTTP_CONFIG: Shape = Shape {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
    fields: &[
        one(1, "http_protocol_options", Message(&CORE_HTTP1_PROTOCOL_OPTIONS)),
        one(2, "http2_protocol_options", Message(&CORE_HTTP2_PROTOCOL_OPTIONS)),
        one(3, "http3_protocol_options", Opaque),
    ],
};
static UPSTREAMS_HTTP_HTTP_PROTOCOL_OPTIONS_AUTO_HTTP_CONFIG: Shape = Shape {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
    fields: &[
        one(1, "http_protocol_options", Message(&CORE_HTTP1_PROTOCOL_OPTIONS)),
        one(2, "http2_protocol_options", Message(&CORE_HTTP2_PROTOCOL_OPTIONS)),
        one(3, "http3_protocol_options", Opaque),
        one(4, "alternate_protocols_cache_options", Opaque),
    ],
};
static ENDPOINT_CLUSTER_LOAD_ASSIGNMENT: Shape = Shape {
    name: "envoy.config.endpoint.v3.ClusterLoadAssignment",
    fields: &[
        one(1, "cluster_name", String),
        many(2, "endpoints", Message(&ENDPOINT_LOCALITY_LB_ENDPOINTS)),
        one(4, "policy", Message(&ENDPOINT_CLUSTER_LOAD_ASSIGNMENT_POLICY)),
        one(5, "named_endpoints", Map(&Message(&ENDPOINT_ENDPOINT))),
    ],
};
static ENDPOINT_CLUSTER_LOAD_ASSIGNMENT_POLICY: Shape = Shape {
    name: "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy",
    fields: &[
        many(2, "drop_overloads", Opaque),
        one(3, "overprovisioning_factor", Uint32Value),
        one(4, "endpoint_stale_after", Duration),
        one(6, "weighted_priority_health", Bool),
    ],
};
static ENDPOINT_LOCALITY_LB_ENDPOINTS: Shape = Shape {
    name: "envoy.config.endpoint.v3.LocalityLbEndpoints",
    fields: &[
        one(1, "locality", Message(&CORE_LOCALITY)),
        many(2, "lb_endpoints", Message(&ENDPOINT_LB_ENDPOINT)),
        one(3, "load_balancing_weight", Uint32Value),
        one(5, "priority", Uint32),
        one(6, "proximity", Uint32Value),
        one(7, "load_balancer_endpoints", Opaque),
        one(8, "leds_cluster_locality_config", Opaque),
        one(9, "metadata", Message(&CORE_METADATA)),
    ],
};
static ENDPOINT_LB_ENDPOINT: Shape = Shape {
    name: "envoy.config.endpoint.v3.LbEndpoint",
    fields: &[
        one(1, "endpoint", Message(&ENDPOINT_ENDPOINT)),
        one(2, "health_status", Enum(E_CORE_HEALTH_STATUS)),
        one(3, "metadata", Message(&CORE_METADATA)),
        one(4, "load_balancing_weight", Uint32Value),
        one(5, "endpoint_name", String),
    ],
};
static ENDPOINT_ENDPOINT: Shape = Shape {
    name: "envoy.config.endpoint.v3.Endpoint",
    fields: &[
        one(1, "address", Message(&CORE_ADDRESS)),
        one(2, "health_check_config", Opaque),
        one(3, "hostname", String),
        many(4, "additional_addresses", Message(&ENDPOINT_ENDPOINT_ADDITIONAL_ADDRESS)),
        one(5, "observability_name", String),
    ],
};
static ENDPOINT_ENDPOINT_ADDITIONAL_ADDRESS: Shape = Shape {
    name: "envoy.config.endpoint.v3.Endpoint.AdditionalAddress",
    fields: &[one(1, "address", Message(&CORE_ADDRESS))],
};
static ACCESSLOG_ACCESS_LOG: Shape = Shape {
    name: "envoy.config.accesslog.v3.AccessLog",
    fields: &[one(1, "name", String), one(2, "filter", Opaque), one(4, "typed_config", Any)],
};

static E_CLUSTER_CLUSTER_CLUSTER_PROTOCOL_SELECTION: &[(i32, &str)] =
    &[(0, "USE_CONFIGURED_PROTOCOL"), (1, "USE_DOWNSTREAM_PROTOCOL")];
static E_CLUSTER_CLUSTER_DISCOVERY_TYPE: &[(i32, &str)] =
    &[(0, "STATIC"), (1, "STRICT_DNS"), (2, "LOGICAL_DNS"), (3, "EDS"), (4, "ORIGINAL_DST")];
static E_CLUSTER_CLUSTER_DNS_LOOKUP_FAMILY: &[(i32, &str)] =
    &[(0, "AUTO"), (1, "V4_ONLY"), (2, "V6_ONLY"), (3, "V4_PREFERRED"), (4, "ALL")];
static E_CLUSTER_CLUSTER_LB_POLICY: &[(i32, &str)] = &[
    (0, "ROUND_ROBIN"),
    (1, "LEAST_REQUEST"),
    (2, "RING_HASH"),
    (3, "RANDOM"),
    (5, "MAGLEV"),
    (6, "CLUSTER_PROVIDED"),
    (7, "LOAD_BALANCING_POLICY_CONFIG"),
];
static E_CLUSTER_CLUSTER_RING_HASH_LB_CONFIG_HASH_FUNCTION: &[(i32, &str)] = &[(0, "XX_HASH"), (1, "MURMUR_HASH_2")];
static E_CORE_API_VERSION: &[(i32, &str)] = &[(0, "AUTO"), (1, "V2"), (2, "V3")];
static E_CORE_HEADER_VALUE_OPTION_HEADER_APPEND_ACTION: &[(i32, &str)] = &[
    (0, "APPEND_IF_EXISTS_OR_ADD"),
    (1, "ADD_IF_ABSENT"),
    (2, "OVERWRITE_IF_EXISTS_OR_ADD"),
    (3, "OVERWRITE_IF_EXISTS"),
];
static E_CORE_HEALTH_STATUS: &[(i32, &str)] =
    &[(0, "UNKNOWN"), (1, "HEALTHY"), (2, "UNHEALTHY"), (3, "DRAINING"), (4, "TIMEOUT"), (5, "DEGRADED")];
static E_CORE_HTTP_PROTOCOL_OPTIONS_HEADERS_WITH_UNDERSCORES_ACTION: &[(i32, &str)] =
    &[(0, "ALLOW"), (1, "REJECT_REQUEST"), (2, "DROP_HEADER")];
static E_CORE_ROUTING_PRIORITY: &[(i32, &str)] = &[(0, "DEFAULT"), (1, "HIGH")];
static E_CORE_SOCKET_ADDRESS_PROTOCOL: &[(i32, &str)] = &[(0, "TCP"), (1, "UDP")];
static E_CORE_TRAFFIC_DIRECTION: &[(i32, &str)] = &[(0, "UNSPECIFIED"), (1, "INBOUND"), (2, "OUTBOUND")];
static E_LISTENER_FILTER_CHAIN_MATCH_CONNECTION_SOURCE_TYPE: &[(i32, &str)] =
    &[(0, "ANY"), (1, "SAME_IP_OR_LOOPBACK"), (2, "EXTERNAL")];
static E_LISTENER_LISTENER_DRAIN_TYPE: &[(i32, &str)] = &[(0, "DEFAULT"), (1, "MODIFY_ONLY")];
static E_ROUTE_REDIRECT_ACTION_REDIRECT_RESPONSE_CODE: &[(i32, &str)] =
    &[(0, "MOVED_PERMANENTLY"), (1, "FOUND"), (2, "SEE_OTHER"), (3, "TEMPORARY_REDIRECT"), (4, "PERMANENT_REDIRECT")];
static E_ROUTE_ROUTE_ACTION_CLUSTER_NOT_FOUND_RESPONSE_CODE: &[(i32, &str)] =
    &[(0, "SERVICE_UNAVAILABLE"), (1, "NOT_FOUND"), (2, "INTERNAL_SERVER_ERROR")];
static E_ROUTE_ROUTE_ACTION_INTERNAL_REDIRECT_ACTION: &[(i32, &str)] =
    &[(0, "PASS_THROUGH_INTERNAL_REDIRECT"), (1, "HANDLE_INTERNAL_REDIRECT")];
static E_ROUTE_VIRTUAL_HOST_TLS_REQUIREMENT_TYPE: &[(i32, &str)] = &[(0, "NONE"), (1, "EXTERNAL_ONLY"), (2, "ALL")];
static E_NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_CODEC_TYPE: &[(i32, &str)] =
    &[(0, "AUTO"), (1, "HTTP1"), (2, "HTTP2"), (3, "HTTP3")];
static E_NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_FORWARD_CLIENT_CERT_DETAILS: &[(i32, &str)] =
    &[(0, "SANITIZE"), (1, "FORWARD_ONLY"), (2, "APPEND_FORWARD"), (3, "SANITIZE_SET"), (4, "ALWAYS_FORWARD_ONLY")];
static E_NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_FORWARD_CLIENT_CERT_FORMAT: &[(i32, &str)] =
    &[(0, "TEXT"), (1, "JSON")];
static E_NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_PATH_WITH_ESCAPED_SLASHES_ACTION: &[(i32, &str)] = &[
    (0, "IMPLEMENTATION_SPECIFIC_DEFAULT"),
    (1, "KEEP_UNCHANGED"),
    (2, "REJECT_REQUEST"),
    (3, "UNESCAPE_AND_REDIRECT"),
    (4, "UNESCAPE_AND_FORWARD"),
];
static E_NETWORK_HTTP_CONNECTION_MANAGER_HTTP_CONNECTION_MANAGER_SERVER_HEADER_TRANSFORMATION: &[(i32, &str)] =
    &[(0, "OVERWRITE"), (1, "APPEND_IF_ABSENT"), (2, "PASS_THROUGH")];
static E_NETWORK_TCP_PROXY_PROXY_PROTOCOL_TLV_MERGE_POLICY: &[(i32, &str)] =
    &[(0, "ADD_IF_ABSENT"), (1, "OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD"), (2, "APPEND_IF_EXISTS_OR_ADD")];
static E_NETWORK_TCP_PROXY_UPSTREAM_CONNECT_MODE: &[(i32, &str)] =
    &[(0, "IMMEDIATE"), (1, "ON_DOWNSTREAM_DATA"), (2, "ON_DOWNSTREAM_TLS_HANDSHAKE")];
static E_TRANSPORT_SOCKETS_TLS_CERTIFICATE_VALIDATION_CONTEXT_TRUST_CHAIN_VERIFICATION: &[(i32, &str)] =
    &[(0, "VERIFY_TRUST_CHAIN"), (1, "ACCEPT_UNTRUSTED")];
static E_TRANSPORT_SOCKETS_TLS_DOWNSTREAM_TLS_CONTEXT_OCSP_STAPLE_POLICY: &[(i32, &str)] =
    &[(0, "LENIENT_STAPLING"), (1, "STRICT_STAPLING"), (2, "MUST_STAPLE")];
static E_TRANSPORT_SOCKETS_TLS_SUBJECT_ALT_NAME_MATCHER_SAN_TYPE: &[(i32, &str)] =
    &[(0, "SAN_TYPE_UNSPECIFIED"), (1, "EMAIL"), (2, "DNS"), (3, "URI"), (4, "IP_ADDRESS"), (5, "OTHER_NAME")];
static E_TRANSPORT_SOCKETS_TLS_TLS_PARAMETERS_COMPLIANCE_POLICY: &[(i32, &str)] =
    &[(0, "FIPS_202205"), (1, "CNSA2_202603"), (2, "CNSA1_202603")];
static E_TRANSPORT_SOCKETS_TLS_TLS_PARAMETERS_TLS_PROTOCOL: &[(i32, &str)] =
    &[(0, "TLS_AUTO"), (1, "TLSv1_0"), (2, "TLSv1_1"), (3, "TLSv1_2"), (4, "TLSv1_3")];
static E_FRACTIONAL_PERCENT_DENOMINATOR_TYPE: &[(i32, &str)] = &[(0, "HUNDRED"), (1, "TEN_THOUSAND"), (2, "MILLION")];
