//! Envoy's messages, under short names. Only this crate names `envoy-types`: one place to follow its layout.

pub use envoy_types::pb::envoy::config::accesslog::v3 as access_log;
pub use envoy_types::pb::envoy::config::cluster::v3 as cluster;
pub use envoy_types::pb::envoy::config::core::v3 as core;
pub use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
pub use envoy_types::pb::envoy::config::listener::v3 as listener;
pub use envoy_types::pb::envoy::config::rbac::v3 as rbac;
pub use envoy_types::pb::envoy::config::route::v3 as route;
pub use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file_access_log;
pub use envoy_types::pb::envoy::extensions::access_loggers::stream::v3 as stream_access_log;
pub use envoy_types::pb::envoy::extensions::filters::common::fault::v3 as fault_common;
pub use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as cors;
pub use envoy_types::pb::envoy::extensions::filters::http::fault::v3 as fault;
pub use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as http_rbac;
pub use envoy_types::pb::envoy::extensions::filters::http::router::v3 as router;
pub use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3 as http_inspector;
pub use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3 as original_dst;
pub use envoy_types::pb::envoy::extensions::filters::listener::original_src::v3 as original_src;
pub use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3 as tls_inspector;
pub use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as http_connection_manager;
pub use envoy_types::pb::envoy::extensions::filters::network::rbac::v3 as network_rbac;
pub use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
pub use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3 as previous_hosts;
pub use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3 as raw_buffer;
pub use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
pub use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
pub use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
pub use envoy_types::pb::envoy::r#type::v3 as common;

/// The messages of the discovery service, and its client and server.
pub mod discovery {
    pub use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
    pub use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
        AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
    };
    pub use envoy_types::pb::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
    };
}

/// Protobuf's own messages.
pub mod google {
    pub use envoy_types::pb::google::protobuf::{
        Any, BoolValue, DoubleValue, Duration, Empty, ListValue, NullValue, Struct, UInt32Value, UInt64Value, Value,
        value,
    };
    pub use envoy_types::pb::google::rpc::Status;

    /// A `google.protobuf.Duration` of a [`std::time::Duration`]; what is longer than protobuf can say is its maximum.
    pub fn duration(value: std::time::Duration) -> Duration {
        Duration {
            seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
        }
    }

    /// A [`std::time::Duration`] of a `google.protobuf.Duration`; a negative one is none.
    pub fn to_duration(value: &Duration) -> Option<std::time::Duration> {
        let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        Some(std::time::Duration::new(u64::try_from(value.seconds).ok()?, nanos))
    }
}

// Filled in by everyone who builds a message; they read better at the use site than the struct literal.

/// A `google.protobuf.UInt32Value`.
pub fn uint32(value: u32) -> google::UInt32Value {
    google::UInt32Value { value }
}

/// A `google.protobuf.BoolValue`.
pub fn boolean(value: bool) -> google::BoolValue {
    google::BoolValue { value }
}

/// The address of a TCP socket.
pub fn socket_address(address: impl Into<String>, port: u16) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: address.into(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(port))),
            ..core::SocketAddress::default()
        })),
    }
}

/// Configuration that comes from the stream it was named on.
pub fn ads() -> core::ConfigSource {
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource::default(),
        )),
        initial_fetch_timeout: Some(google::Duration { seconds: 0, nanos: 0 }),
        ..core::ConfigSource::default()
    }
}
