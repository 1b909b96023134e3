//! Group `security.istio.io`: one file a kind, types beside their checks.

pub mod authorization_policy;
pub(crate) mod dry_run;
pub mod peer_authentication;
pub mod request_authentication;

/// The group's name.
pub const GROUP: &str = "security.istio.io";
/// The versions in which its kinds are served; the first is stored.
pub const VERSIONS: &[&str] = &["v1", "v1beta1"];
