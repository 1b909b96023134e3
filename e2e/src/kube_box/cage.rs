//! The inside of the namespaces: links, addresses, mounts. Runs once, as the first thing the init does.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use super::layout::{Layout, NODE_ADDRESS};
use super::machine::FIXED_FOLDERS;

/// Sets up network and mounts of the namespaces this process is in.
pub(crate) fn enter(layout: &Layout) -> Result<()> {
    network()?;
    mounts(layout)
}

fn network() -> Result<()> {
    // A veth pair with both ends in here stands for the outside world: this kernel need not have a `dummy` device.
    // Nobody answers at the gateway: a connection to the outside fails with "no route to host" after three seconds.
    //
    // The bridge plugin would make cni0 itself, but if its very first ADD fails half-way, every later one fails with
    // "could not set bridge's mac: invalid argument". A bridge that has a fixed address is immune.
    let commands = format!(
        "link set lo up\n\
         link add node0 type veth peer name node0p\n\
         link set node0 up\n\
         link set node0p up\n\
         addr add {NODE_ADDRESS}/24 dev node0\n\
         route add default via 192.0.2.1 dev node0\n\
         link add cni0 address 0a:58:0a:f4:00:01 type bridge\n\
         addr add 10.244.0.1/24 dev cni0\n\
         link set cni0 up\n"
    );
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run `ip` (package iproute2)")?;
    if let Some(mut stdin) = ip.stdin.take() {
        stdin.write_all(commands.as_bytes()).context("write to `ip -batch`")?;
    }
    let output = ip.wait_with_output().context("wait for `ip`")?;
    if !output.status.success() {
        bail!("set up the links: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    // Per namespace; a new one forwards nothing.
    for switch in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/bridge/bridge-nf-call-iptables"] {
        fs::write(switch, "1").with_context(|| format!("switch on {switch}"))?;
    }
    Ok(())
}

fn mounts(layout: &Layout) -> Result<()> {
    // Shared within this mount namespace (which is private to the machine's): without it any container with
    // `mountPropagation: Bidirectional` fails with "is mounted on / but it is not a shared mount".
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)
        .context("make / a shared mount")?;
    // The shims' sockets (/run/containerd/s), the pods' network namespaces (/run/netns), iptables' lock and the like.
    tmpfs("/run")?;
    for folder in ["/run/netns", "/run/lock"] {
        fs::create_dir(folder).with_context(|| format!("mkdir {folder}"))?;
    }
    for folder in FIXED_FOLDERS {
        tmpfs(folder)?;
    }
    let images = layout.path("containerd");
    if statfs(&images).is_ok_and(|fs| fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC) {
        // We are in a container ourselves; an overlay cannot lie on an overlay.
        tmpfs(&images)?;
    }
    Ok(())
}

fn tmpfs(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("mount a tmpfs on {}", folder.display()))
}
