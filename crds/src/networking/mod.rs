//! Group `networking.istio.io`: one file a kind, types beside their checks.

pub mod destination_rule;
pub mod envoy_filter;
pub mod gateway;
pub mod proxy_config;
pub mod service_entry;
pub mod sidecar;
pub mod virtual_service;
pub mod workload_entry;
pub mod workload_group;

/// The group's name.
pub const GROUP: &str = "networking.istio.io";
/// The versions in which most of its kinds are served; the first is stored.
pub const VERSIONS: &[&str] = &["v1", "v1alpha3", "v1beta1"];
/// The one version of EnvoyFilter.
pub const ENVOY_FILTER_VERSIONS: &[&str] = &["v1alpha3"];
/// The one version of ProxyConfig.
pub const PROXY_CONFIG_VERSIONS: &[&str] = &["v1beta1"];
