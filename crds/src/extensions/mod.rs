//! Group `extensions.istio.io`: code of users in proxies. One file a kind, types beside their checks; what the kinds
//! share stands in [`plugin`].

pub mod plugin;
pub mod traffic_extension;
pub mod wasm_plugin;

/// The group's name.
pub const GROUP: &str = "extensions.istio.io";
/// The version in which its kinds are served and stored.
pub const VERSIONS: &[&str] = &["v1alpha1"];
