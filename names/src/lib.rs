//! Every fixed name of Forestay, in one place and without dependencies.
//!
//! Users, dashboards and Kiali rely on these names: they are facts of Istio's interface or promises of ours. What comes
//! in: nothing. What goes out: constants, and the few functions that put a name together or take one apart.
//!
//! * [`ports`]: the ports that proxies, control plane and webhook listen on
//! * [`labels`], [`annotations`]: the marks on namespaces, pods and our own objects
//! * [`identity`]: SPIFFE identities
//! * [`images`]: image names and the rule that picks a hub and a tag
//! * [`resources`]: names of Kubernetes objects, with their revision suffix
//! * [`traffic`]: names of clusters, listeners, routes and virtual hosts in xDS
//! * [`paths`]: where a proxy finds its token, root certificate and pod information

pub mod annotations;
pub mod identity;
pub mod images;
pub mod labels;
pub mod paths;
pub mod ports;
pub mod resources;
pub mod traffic;

/// The version of everything built from this tree: image tag, `/version`, `MeshInstall.spec.version`.
pub const VERSION: &str = if cfg!(feature = "next-version") { NEXT_VERSION } else { env!("CARGO_PKG_VERSION") };

/// What [`VERSION`] is with the feature `next-version`, by which the upgrade scenarios build this tree a second time: the
/// minor version after.
pub const NEXT_VERSION: &str = "0.2.0";

/// The name of the revision that serves namespaces with `istio-injection=enabled`; its objects carry no suffix.
pub const DEFAULT_REVISION: &str = "default";

/// The DNS domain of a cluster unless configured otherwise.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The id of a cluster unless configured otherwise, as Istio names it (`ISTIO_META_CLUSTER_ID`).
pub const CLUSTER_ID: &str = "Kubernetes";

#[cfg(test)]
mod tests {
    #[test]
    fn the_next_version_is_the_next_minor_version() {
        let minor: u32 = env!("CARGO_PKG_VERSION_MINOR").parse().unwrap();
        assert_eq!(super::NEXT_VERSION, format!("{}.{}.0", env!("CARGO_PKG_VERSION_MAJOR"), minor + 1));
    }
}
