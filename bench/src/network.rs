//! The room that a measurement happens in: a network namespace with nothing in it but its own loopback.
//!
//! The ports of a proxy and of a control plane are fixed; here they are free, and nothing that is measured reaches the
//! machine's network. The namespace goes when the last process in it ends.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, unshare};

/// Where proxies, as pods, have their addresses. Not loopback: these are addresses as pods have them.
pub(crate) const GATEWAY: &str = "10.10.0.1";
/// Where the endpoints of the work's two services are.
pub(crate) const STABLE: [&str; 2] = ["10.10.1.1", "10.10.1.2"];
/// See [`STABLE`].
pub(crate) const NEXT: [&str; 2] = ["10.10.2.1", "10.10.2.2"];

/// Moves the calling thread, and what it starts from now on, into a new network.
pub(crate) fn enter_new() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace; this needs root")?;
    ip(&["link", "set", "lo", "up"])?;
    for address in [GATEWAY].iter().chain(&STABLE).chain(&NEXT) {
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(arguments).status().context("running ip, of the package iproute2")?;
    if !status.success() {
        bail!("ip {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}
