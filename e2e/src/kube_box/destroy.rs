//! Removing a box, alive or half-dead.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::INIT_WORD;
use super::cgroup;
use super::init::Charge;
use super::layout::Layout;
use super::machine::Machine;

/// Removes the box `name` or whatever is left of it; no error if there is nothing.
pub fn destroy(name: &str) -> Result<()> {
    destroy_at(&Layout::new(name)?)
}

pub(crate) fn destroy_at(layout: &Layout) -> Result<()> {
    remove(layout)?;
    let root = layout.folder().parent().context("the box's folder has a parent")?;
    if root.exists() { Machine::lock(root)?.restore_after_last() } else { Ok(()) }
}

/// Everything of the box itself; what boxes share stays.
pub(crate) fn remove(layout: &Layout) -> Result<()> {
    let processes = processes(&layout.path(Charge::FILE))?;
    for process in &processes {
        match kill(Pid::from_raw(*process), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("kill process {process} of the box")),
        }
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !self::processes(&layout.path(Charge::FILE))?.is_empty() {
        if Instant::now() > deadline {
            bail!("box {}: its processes {processes:?} do not die", layout.name());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    cgroup::remove(&layout.cgroup())?;
    unmount_below(layout.folder())?;
    match fs::remove_dir_all(layout.folder()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", layout.folder().display()))
        }
        _ => Ok(()),
    }
}

/// The box's init and the `unshare` that waits for it: the processes with `INIT_WORD <charge>` among their arguments.
/// Their command line is the one trace that cannot get lost, and the charge's path the one name that nobody else has.
fn processes(charge: &Path) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let Ok(entry) = entry else { continue }; // ended meanwhile
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(command) = fs::read(entry.path().join("cmdline")) else { continue };
        let arguments: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        if arguments.windows(2).any(|pair| pair == [INIT_WORD.as_bytes(), charge.as_os_str().as_bytes()]) {
            found.push(process);
        }
    }
    Ok(found)
}

/// The box's mounts are in its own mount namespace and went with it. Should one have leaked, removing the folder would
/// delete what is mounted there.
fn unmount_below(folder: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let mut mounts: Vec<PathBuf> = table.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect();
    mounts.retain(|mount| mount.starts_with(folder) && mount != folder);
    for mount in mounts.iter().rev() {
        umount2(mount, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", mount.display()))?;
    }
    Ok(())
}
