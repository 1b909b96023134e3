//! What a box changes on the machine itself, and putting it back.
//!
//! The kubelet sets three machine-wide sysctls, and three fixed folders have to exist as mount points. The first box
//! notes what was there; the last one to go restores it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// What the kubelet writes if it differs (`vm.overcommit_memory=1`, `kernel.panic=10`, `kernel.panic_on_oops=1`).
const SYSCTLS: [&str; 3] = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"];

/// Paths that no setting of containerd, libcni and the kubelet moves; every box mounts a tmpfs of its own over them.
pub(crate) const FIXED_FOLDERS: [&str; 3] = ["/var/lib/cni", "/var/log/containers", "/var/lib/kubelet"];

/// What the kernel must have, and how it shows.
const MODULES: [(&str, Sign); 2] = [
    ("overlay", Sign::FileSystem("overlay")),
    // Pods share one bridge: without it the answers of a ClusterIP's endpoint bypass the translation of their address.
    ("br_netfilter", Sign::Path("/proc/sys/net/bridge/bridge-nf-call-iptables")),
];

#[derive(Clone, Copy)]
enum Sign {
    Path(&'static str),
    FileSystem(&'static str),
}

/// Sees to it that the kernel can do what a node needs. A module that had to be loaded stays: by then others may use
/// it.
pub(crate) fn load_modules() -> Result<()> {
    for (module, sign) in MODULES {
        let there = || match sign {
            Sign::Path(path) => Path::new(path).exists(),
            Sign::FileSystem(name) => fs::read_to_string("/proc/filesystems")
                .is_ok_and(|known| known.lines().any(|line| line.trim_start_matches("nodev").trim() == name)),
        };
        if !there() {
            let output = Command::new("modprobe").arg(module).output().context("run `modprobe` (package kmod)")?;
            if !there() {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                bail!("the kernel lacks {module}, which pods' networks and images need: {said}");
            }
        }
    }
    Ok(())
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Before {
    sysctls: BTreeMap<String, String>,
    made_folders: Vec<PathBuf>,
}

const RECORD: &str = "machine.json";

/// The folder of all boxes, held exclusively: starts and stops of boxes happen one at a time.
pub(crate) struct Machine {
    root: PathBuf,
    _lock: Flock<File>,
}

impl Machine {
    /// Locks the folder `root`, making it if need be.
    pub(crate) fn lock(root: &Path) -> Result<Machine> {
        loop {
            fs::create_dir_all(root).with_context(|| format!("mkdir {}", root.display()))?;
            let folder = File::open(root).with_context(|| format!("open {}", root.display()))?;
            let locked_inode = folder.metadata()?.ino();
            let lock = Flock::lock(folder, FlockArg::LockExclusive)
                .map_err(|(_, error)| error)
                .with_context(|| format!("lock {}", root.display()))?;
            // The last box to go removes the folder: it may have done so while we waited.
            if fs::metadata(root).is_ok_and(|now| now.ino() == locked_inode) {
                return Ok(Machine { root: root.to_owned(), _lock: lock });
            }
        }
    }

    /// Notes what is there before the first box, and makes the fixed folders.
    pub(crate) fn prepare(&self) -> Result<()> {
        let record = self.root.join(RECORD);
        if !record.exists() {
            let mut before = Before::default();
            for name in SYSCTLS {
                let path = Path::new("/proc/sys").join(name);
                let value = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                before.sysctls.insert(name.to_owned(), value.trim().to_owned());
            }
            before.made_folders = FIXED_FOLDERS.iter().map(PathBuf::from).filter(|folder| !folder.exists()).collect();
            fs::write(&record, serde_json::to_vec_pretty(&before)?)
                .with_context(|| format!("write {}", record.display()))?;
        }
        for folder in FIXED_FOLDERS {
            fs::create_dir_all(folder).with_context(|| format!("mkdir {folder}"))?;
        }
        Ok(())
    }

    /// Puts everything back if no box is left.
    pub(crate) fn restore_after_last(self) -> Result<()> {
        let entries = fs::read_dir(&self.root).with_context(|| format!("read {}", self.root.display()))?;
        for entry in entries {
            if entry?.file_type()?.is_dir() {
                return Ok(());
            }
        }
        let record = self.root.join(RECORD);
        let before: Before = match fs::read(&record) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{}", record.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Before::default(),
            Err(error) => return Err(error).with_context(|| format!("read {}", record.display())),
        };
        for (name, value) in &before.sysctls {
            let path = Path::new("/proc/sys").join(name);
            let now = fs::read_to_string(&path).unwrap_or_default();
            if now.trim() != value {
                fs::write(&path, value).with_context(|| format!("restore {}={value}", path.display()))?;
            }
        }
        for folder in &before.made_folders {
            // Somebody else may use it by now: then it is not empty, and stays.
            let _ = fs::remove_dir(folder);
        }
        for gone in [fs::remove_file(&record), fs::remove_dir(&self.root)] {
            match gone {
                Err(error)
                    if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::DirectoryNotEmpty =>
                {
                    return Err(error).with_context(|| format!("clean up {}", self.root.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
