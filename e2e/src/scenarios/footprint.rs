//! What a box leaves on the machine, which must be nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use forestay_e2e::kube_box::{Layout, NetworkNamespace, state_root};

/// The machine before a box was started.
pub(crate) struct Footprint {
    layout: Layout,
    links: BTreeSet<String>,
    sysctls: Vec<(&'static str, String)>,
    folders: Vec<(&'static str, bool)>,
    /// Whether this box was the first: then everything must be as before once it is gone.
    alone: bool,
}

impl Footprint {
    pub(crate) fn before(name: &str) -> Result<Footprint> {
        let layout = Layout::new(name)?;
        let alone = fs::read_dir(state_root()).map_or(0, Iterator::count) == 0;
        Ok(Footprint { layout, links: links()?, sysctls: sysctls()?, folders: folders(), alone })
    }

    /// Fails with a list of everything that is left of the box, whose network namespace was `network`.
    pub(crate) fn check_gone(&self, network: &NetworkNamespace) -> Result<()> {
        let mut left: Vec<String> = Vec::new();
        left.extend(processes_in(network)?.into_iter().map(|process| format!("process {process}")));
        if self.layout.folder().exists() {
            left.push(format!("folder {}", self.layout.folder().display()));
        }
        left.extend(mounts_of(&self.layout)?.into_iter().map(|mount| format!("mount {mount}")));
        left.extend(cgroups_of(&self.layout).into_iter().map(|group| format!("control group {}", group.display())));
        left.extend(links()?.difference(&self.links).map(|link| format!("interface {link}")));
        if self.alone && fs::read_dir(state_root()).map_or(0, Iterator::count) == 0 {
            for ((name, before), (_, now)) in self.sysctls.iter().zip(sysctls()?) {
                if *before != now {
                    left.push(format!("sysctl {name}={now}, was {before}"));
                }
            }
            for ((folder, before), (_, now)) in self.folders.iter().zip(folders()) {
                if *before != now {
                    left.push(format!("folder {folder}"));
                }
            }
            if state_root().exists() {
                left.push(format!("folder {}", state_root().display()));
            }
        }
        if !left.is_empty() {
            bail!("left of box {}: {}", self.layout.name(), left.join(", "));
        }
        Ok(())
    }
}

/// The processes in `network`.
pub(crate) fn processes_in(network: &NetworkNamespace) -> Result<Vec<String>> {
    let wanted = network.inode()?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        let namespace = fs::metadata(entry.path().join("ns/net"));
        if namespace.is_ok_and(|namespace| std::os::unix::fs::MetadataExt::ino(&namespace) == wanted) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(format!("{} ({})", entry.file_name().to_string_lossy(), name.trim()));
        }
    }
    Ok(found)
}

fn mounts_of(layout: &Layout) -> Result<Vec<String>> {
    let folder = layout.folder().display().to_string();
    let table = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    Ok(table.lines().filter(|line| line.contains(&folder)).map(ToOwned::to_owned).collect())
}

fn cgroups_of(layout: &Layout) -> Vec<PathBuf> {
    let mount = Path::new("/sys/fs/cgroup");
    let name = layout.cgroup();
    let hierarchies = fs::read_dir(mount).into_iter().flatten().flatten().map(|entry| entry.path());
    hierarchies
        .chain([mount.to_owned()])
        .map(|hierarchy| hierarchy.join(&name))
        .filter(|group| group.exists())
        .collect()
}

fn links() -> Result<BTreeSet<String>> {
    let entries = fs::read_dir("/sys/class/net").context("read /sys/class/net")?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn sysctls() -> Result<Vec<(&'static str, String)>> {
    ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"]
        .into_iter()
        .map(|name| {
            let value =
                fs::read_to_string(Path::new("/proc/sys").join(name)).with_context(|| format!("read {name}"))?;
            Ok((name, value.trim().to_owned()))
        })
        .collect()
}

fn folders() -> Vec<(&'static str, bool)> {
    ["/var/lib/cni", "/var/log/containers", "/var/lib/kubelet", "/usr/libexec/kubernetes"]
        .into_iter()
        .map(|folder| (folder, Path::new(folder).exists()))
        .collect()
}
