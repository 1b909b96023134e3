//! Debian's packages on the machine.

use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::progress::{Progress, step};

/// What a box runs on: container runtime, CNI plugins, and what kube-proxy, the `portmap` plugin and the box's init
/// call. Static libc (`libc6-dev`) is for the pause image.
pub(crate) const BOX: [&str; 8] = [
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "nftables",
    "iproute2",
    "util-linux",
    "libc6-dev",
];

/// Installs those of `packages` that are missing, saying so. Becomes root by sudo if need be.
pub fn ensure(packages: &[&str], progress: &dyn Progress) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    progress.note(&format!("Debian packages to install: {}", missing.join(" ")));
    step(progress, "install Debian packages", || {
        static LISTS: Once = Once::new();
        // Lists that could not be fetched are no error yet: the old ones may do.
        LISTS.call_once(|| drop(apt_get(&["update"])));
        let install = [&["install", "-y", "--no-install-recommends"], missing.as_slice()].concat();
        apt_get(&install).or_else(|error| {
            // Mirrors and their names are away for a moment now and then; apt's own retries do not outlast it.
            progress.note(&format!("{error:#}; once more in {} s", PAUSE.as_secs()));
            std::thread::sleep(PAUSE);
            drop(apt_get(&["update"]));
            apt_get(&install)
        })
    })
}

/// Between two attempts to install.
const PAUSE: Duration = Duration::from_secs(20);

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .stderr(Stdio::null()) // unknown packages, which are the missing ones
        .output()
        .context("run `dpkg-query`: boxes need Debian 12 or a relative of it")?;
    let known = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(packages.iter().copied().filter(|package| !is_installed(&known, package)).collect())
}

fn is_installed(known: &str, package: &str) -> bool {
    known.lines().any(|line| line.split_once(' ') == Some((package, "installed")))
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    let output = command
        .args(["-q", "-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("run `apt-get`")?;
    if !output.status.success() {
        bail!("apt-get {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_means_installed() {
        let known = "runc installed\nnftables config-files\nlibc6-dev installed\n";
        for (package, expected) in [("runc", true), ("nftables", false), ("containerd", false), ("libc6", false)] {
            assert_eq!(is_installed(known, package), expected, "{package}");
        }
    }
}
