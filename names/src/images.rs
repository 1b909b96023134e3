//! Image names.
//!
//! There are two images: the proxy, and one multi-call binary for everything else. An explicit value in a MeshInstall
//! wins over the operator's `RELATED_IMAGE_*` environment, and that over the default.

/// The registry and organisation that images come from unless configured otherwise.
pub const HUB: &str = "docker.io/forestay";
/// The proxy: sidecar, gateway and redirection set-up.
pub const PROXY: &str = "proxyv2";
/// The multi-call binary: `operator`, `istiod`, `webhook` and the CLI.
pub const FORESTAY: &str = "forestay";
/// The operator's environment variable that names the proxy's image.
pub const RELATED_IMAGE_PROXY: &str = "RELATED_IMAGE_PROXY";
/// The operator's environment variable that names the multi-call image.
pub const RELATED_IMAGE_FORESTAY: &str = "RELATED_IMAGE_FORESTAY";
/// Every image that an installation runs: the operator's environment variable for it, and its name.
pub const RELATED: [(&str, &str); 2] = [(RELATED_IMAGE_FORESTAY, FORESTAY), (RELATED_IMAGE_PROXY, PROXY)];
/// The operating system that images are built for, as Go and Kubernetes call it.
pub const OS: &str = "linux";
/// The architecture that images are built for, as Go and Kubernetes call it.
pub const ARCHITECTURE: &str = "amd64";

/// `<hub>/<name>:<tag>`; a name with a `/` in it is a whole reference already and is taken as it is.
pub fn reference(hub: &str, name: &str, tag: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{}/{name}:{tag}", hub.trim_end_matches('/')) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_with_a_slash_is_a_whole_reference() {
        assert_eq!(super::reference("docker.io/forestay/", "proxyv2", "0.1.0"), "docker.io/forestay/proxyv2:0.1.0");
        assert_eq!(super::reference("docker.io/forestay", "example.org/p:1", "0.1.0"), "example.org/p:1");
    }
}
