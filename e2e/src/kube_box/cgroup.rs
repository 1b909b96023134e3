//! The control groups under which all pods of a box live, on cgroup v1 and v2.
//!
//! The kubelet gets `cgroupRoot: /<name>`: without it everything goes to `/kubepods` at the root, and two boxes would
//! share it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

const MOUNT: &str = "/sys/fs/cgroup";

/// What the kubelet and runc need. Others of the machine are left alone.
const CONTROLLERS_V1: [&str; 9] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"];
const CONTROLLERS_V2: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "io"];

/// Without a weight of its own a group has that of one process: beside a compiler's twenty all pods of a box together
/// would get a twentieth of the machine, and a webhook, which has ten seconds to answer, would be found too slow.
const WEIGHT_V1: (&str, &str) = ("cpu.shares", "4096");
const WEIGHT_V2: (&str, &str) = ("cpu.weight", "400");

/// How this machine's control groups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// One hierarchy a controller; perhaps an empty v2 one at `unified`.
    V1,
    /// One hierarchy for everything.
    V2,
}

fn version() -> Result<Version> {
    let root = statfs(MOUNT).with_context(|| format!("{MOUNT}: is the cgroup file system mounted?"))?;
    Ok(if root.filesystem_type() == CGROUP2_SUPER_MAGIC { Version::V2 } else { Version::V1 })
}

/// Makes the group `name` in every hierarchy.
pub(crate) fn create(name: &str) -> Result<()> {
    match version()? {
        Version::V1 => create_v1(Path::new(MOUNT), name),
        Version::V2 => create_v2(Path::new(MOUNT), name),
    }
}

fn create_v1(mount: &Path, name: &str) -> Result<()> {
    let mut seen = Vec::new();
    for controller in CONTROLLERS_V1 {
        let hierarchy = mount.join(controller);
        if !hierarchy.is_dir() {
            continue; // cgroup v1 kernels may lack one; the kubelet says so if it minds
        }
        seen.push(controller);
        let group = hierarchy.join(name);
        make(&group)?;
        if controller == "cpu" {
            write(&group.join(WEIGHT_V1.0), WEIGHT_V1.1)?;
        }
        if controller == "cpuset" {
            // An empty cpuset takes no process, and v1 does not inherit.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let value = fs::read_to_string(hierarchy.join(file))
                    .with_context(|| format!("read {}", hierarchy.join(file).display()))?;
                write(&group.join(file), value.trim())?;
            }
        }
    }
    if !seen.contains(&"memory") || !seen.contains(&"cpu") {
        bail!("{}: no cgroup controllers `cpu` and `memory` (found {seen:?})", mount.display());
    }
    Ok(())
}

fn create_v2(mount: &Path, name: &str) -> Result<()> {
    let available = fs::read_to_string(mount.join("cgroup.controllers"))
        .with_context(|| format!("read {}/cgroup.controllers", mount.display()))?;
    let wanted: Vec<&str> =
        CONTROLLERS_V2.into_iter().filter(|wanted| available.split_whitespace().any(|have| have == *wanted)).collect();
    for needed in ["cpu", "memory", "pids"] {
        if !wanted.contains(&needed) {
            bail!("{}: controller `{needed}` is missing (available: {})", mount.display(), available.trim());
        }
    }
    let enable = wanted.iter().map(|controller| format!("+{controller}")).collect::<Vec<_>>().join(" ");
    let control = mount.join("cgroup.subtree_control");
    if let Err(error) = fs::write(&control, &enable) {
        // The root of a container's cgroup namespace is an inner node: it may have processes or children with
        // controllers, not both. Only the machine's owner may move processes that are not ours.
        let already = fs::read_to_string(&control).unwrap_or_default();
        if !wanted.iter().all(|wanted| already.split_whitespace().any(|have| have == *wanted)) {
            bail!(
                "{}: {error}. In a container: move the processes of the cgroup root into a child group first \
                 (mkdir {MOUNT}/init; write each id of {MOUNT}/cgroup.procs to {MOUNT}/init/cgroup.procs)",
                control.display()
            );
        }
    }
    let group = mount.join(name);
    make(&group)?;
    write(&group.join(WEIGHT_V2.0), WEIGHT_V2.1)?;
    write(&group.join("cgroup.subtree_control"), &enable)
}

fn make(group: &Path) -> Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("mkdir {}", group.display()))
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("write {value:?} to {}", path.display()))
}

/// The folders of the group `name` in every hierarchy that has one, `unified` included (runc makes one there too).
fn groups(name: &str) -> Vec<PathBuf> {
    let mount = Path::new(MOUNT);
    let mut found = vec![mount.join(name)];
    if let Ok(entries) = fs::read_dir(mount) {
        found.extend(entries.flatten().map(|entry| entry.path().join(name)));
    }
    found.retain(|group| group.is_dir());
    found
}

/// Removes the group `name` with everything below it, in every hierarchy. The processes are gone by now or about to
/// go, and the kernel answers "busy" until they are.
pub(crate) fn remove(name: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    for group in groups(name) {
        loop {
            match remove_tree(&group) {
                Ok(()) => break,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("remove the control group {}", group.display()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
    Ok(())
}

fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_copies_the_cpuset_and_skips_absent_controllers() -> Result<()> {
        let mount = tempfile::tempdir()?;
        for controller in ["cpu", "memory", "cpuset"] {
            fs::create_dir(mount.path().join(controller))?;
        }
        fs::write(mount.path().join("cpuset/cpuset.cpus"), "0-1\n")?;
        fs::write(mount.path().join("cpuset/cpuset.mems"), "0\n")?;
        create_v1(mount.path(), "forestay-a")?;
        assert_eq!(fs::read_to_string(mount.path().join("cpuset/forestay-a/cpuset.cpus"))?, "0-1");
        assert_eq!(fs::read_to_string(mount.path().join("cpu/forestay-a/cpu.shares"))?, "4096");
        assert!(mount.path().join("memory/forestay-a").is_dir());
        assert!(!mount.path().join("pids").exists());
        Ok(())
    }

    #[test]
    fn v2_enables_the_controllers_at_the_root_and_in_the_group() -> Result<()> {
        let mount = tempfile::tempdir()?;
        fs::write(mount.path().join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids rdma\n")?;
        create_v2(mount.path(), "forestay-a")?;
        for file in ["cgroup.subtree_control", "forestay-a/cgroup.subtree_control"] {
            assert_eq!(fs::read_to_string(mount.path().join(file))?, "+cpu +cpuset +memory +pids +io", "{file}");
        }
        assert_eq!(fs::read_to_string(mount.path().join("forestay-a/cpu.weight"))?, "400");
        Ok(())
    }

    #[test]
    fn v2_without_memory_names_it() -> Result<()> {
        let mount = tempfile::tempdir()?;
        fs::write(mount.path().join("cgroup.controllers"), "cpu pids\n")?;
        let error = create_v2(mount.path(), "forestay-a").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("`memory` is missing"), "{error}");
        Ok(())
    }
}
