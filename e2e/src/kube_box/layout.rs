//! Where everything of one box lies, and the addresses every box has.
//!
//! All boxes use the same addresses: each has its own network namespace.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use sha2::{Digest as _, Sha256};

/// The node's address on its only "outside" network, 192.0.2.0/24 (RFC 5737: documentation, never routed).
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Addresses for Services of type LoadBalancer: 192.0.2.128/25 without its first and last.
pub const LOAD_BALANCER_ADDRESSES: std::ops::RangeInclusive<u8> = 129..=254;
/// The node's name.
pub const NODE_NAME: &str = "node1";
/// The range of pod addresses.
pub const POD_CIDR: &str = "10.244.0.0/16";
/// The range of ClusterIPs.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The cluster's DNS server, which is CoreDNS behind a Service.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The DNS domain of the cluster.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Port of the API server on [`NODE_ADDRESS`].
pub(crate) const API_PORT: u16 = 6443;

/// The folder that holds the boxes of this machine: `$FORESTAY_STATE`, or `/var/lib/forestay-box`.
pub fn state_root() -> PathBuf {
    std::env::var_os("FORESTAY_STATE")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from("/var/lib/forestay-box"), PathBuf::from)
}

/// The files and folders of one box.
#[derive(Debug, Clone)]
pub struct Layout {
    name: String,
    folder: PathBuf,
}

impl Layout {
    /// The layout of the box `name` below [`state_root`].
    pub fn new(name: &str) -> Result<Layout> {
        Layout::below(&state_root(), name)
    }

    pub(crate) fn below(root: &Path, name: &str) -> Result<Layout> {
        let valid = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && name.len() <= 24;
        if !valid {
            bail!("box name {name:?}: use a lower-case letter, then letters, digits and dashes, at most 24 characters");
        }
        if !root.is_absolute() {
            bail!("FORESTAY_STATE={}: must be an absolute path", root.display());
        }
        let folder = root.join(name);
        // The longest socket below the folder; the kernel's limit for the path of a Unix socket is 108 bytes.
        let longest = folder.join("kubelet/plugins_registry/forestay-longest-name.sock");
        if longest.as_os_str().len() >= 108 {
            bail!("FORESTAY_STATE={}: too long, paths of Unix sockets end at 108 bytes", root.display());
        }
        Ok(Layout { name: name.to_owned(), folder })
    }

    /// The box's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The box's folder; everything else lies below it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `relative` as an absolute path below the box's folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.join(relative)
    }

    /// The control group of all pods, below every hierarchy's root. Groups are the machine's: boxes of one name in two
    /// state folders must not share one.
    pub fn cgroup(&self) -> String {
        let digest = Sha256::digest(self.folder.as_os_str().as_encoded_bytes());
        let place = digest.iter().take(4).fold(0_u32, |place, byte| place << 8 | u32::from(*byte));
        format!("forestay-{}-{place:08x}", self.name)
    }

    /// The API server's audit log, a line of JSON for each request of the mesh's programs.
    pub fn audit_log(&self) -> PathBuf {
        self.log("audit")
    }

    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.folder.join("pki").join(file)
    }

    /// The kubeconfig of `user` (`admin`, `kubelet`, ...), for use inside the box's network namespace.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// Where containerd answers.
    pub fn containerd_socket(&self) -> PathBuf {
        self.path("run/containerd.sock")
    }

    /// Where the box's init takes commands.
    pub(crate) fn init_socket(&self) -> PathBuf {
        self.path("init.sock")
    }

    /// The log of a part or of `init`.
    pub fn log(&self, part: &str) -> PathBuf {
        self.folder.join("log").join(format!("{part}.log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_paths_are_refused() {
        let long = "a".repeat(25);
        for (case, root, name, ok) in [
            ("plain", "/var/lib/forestay-box", "demo", true),
            ("digits and dashes", "/var/lib/forestay-box", "e2e-2", true),
            ("empty", "/var/lib/forestay-box", "", false),
            ("leaves the folder", "/var/lib/forestay-box", "../etc", false),
            ("hidden file", "/var/lib/forestay-box", ".sysctl", false),
            ("upper case", "/var/lib/forestay-box", "Demo", false),
            ("too long", "/var/lib/forestay-box", long.as_str(), false),
            ("relative root", "boxes", "demo", false),
            ("socket paths too long", "/a/very/long/folder/that/goes/on/and/on/until/no/socket/fits", "demo", false),
        ] {
            assert_eq!(Layout::below(Path::new(root), name).is_ok(), ok, "{case}");
        }
    }
}
