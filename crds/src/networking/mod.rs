//! Group `networking.istio.io`: one file a kind, types beside their checks.

pub mod destination_rule;
pub mod gateway;
pub mod service_entry;
pub mod virtual_service;

/// The group's name.
pub const GROUP: &str = "networking.istio.io";
/// The versions in which its kinds are served; the first is stored.
pub const VERSIONS: &[&str] = &["v1", "v1alpha3", "v1beta1"];
