//! The cache outside the work tree: files under a key of everything that went into them.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

/// How many versions of one file are kept: the one in use and those of two other branches.
const KEEP: usize = 3;

/// `$FORESTAY_CACHE`, or `~/.cache/forestay`.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// What went into a file.
#[derive(Clone, Default)]
pub struct Key(Sha256);

impl Key {
    /// Nothing yet.
    pub fn new() -> Key {
        Key::default()
    }

    /// Some text: a flag, a version.
    #[must_use]
    pub fn text(self, text: &str) -> Key {
        self.bytes(text.as_bytes())
    }

    /// A path itself, not what it leads to.
    #[must_use]
    pub fn path(self, path: &Path) -> Key {
        self.bytes(path.as_os_str().as_bytes())
    }

    /// The content of a file.
    pub fn content_of(self, path: &Path) -> Result<Key> {
        let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(self.bytes(&content))
    }

    fn bytes(mut self, bytes: &[u8]) -> Key {
        // The length first, so that no two sequences of inputs look alike.
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn finish(self) -> String {
        let hash = self.0.finalize();
        hash.iter().take(10).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

impl Cache {
    /// Opens the cache, making its folder if need be.
    pub fn open() -> Result<Cache> {
        let root = match std::env::var_os("FORESTAY_CACHE").filter(|value| !value.is_empty()) {
            Some(root) => std::path::absolute(root).context("FORESTAY_CACHE")?,
            None => PathBuf::from(std::env::var_os("HOME").context("neither FORESTAY_CACHE nor HOME is set")?)
                .join(".cache/forestay"),
        };
        Cache::at(root)
    }

    fn at(root: PathBuf) -> Result<Cache> {
        fs::create_dir_all(&root)
            .with_context(|| format!("make the cache folder {} (FORESTAY_CACHE sets another)", root.display()))?;
        Ok(Cache { root })
    }

    /// The folder `name` in the cache, for what has keys of its own.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The file `name` as made from what is in `key`. If it is not there, `make` writes it to the path it is given;
    /// two processes do not make it at the same time, and a half-written file is never seen.
    pub fn file(&self, name: &str, key: Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let versions = self.root.join(name);
        let version = versions.join(key.finish());
        let file = version.join(name);
        if !file.exists() {
            fs::create_dir_all(&versions).with_context(|| format!("mkdir {}", versions.display()))?;
            let lock = versions.join("lock");
            let lock = File::create(&lock).with_context(|| format!("create {}", lock.display()))?;
            let _lock =
                Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).context("lock the cache")?;
            // Another process may have made it while we waited.
            if !file.exists() {
                let beside = tempfile::Builder::new()
                    .prefix(".making-")
                    .tempdir_in(&versions)
                    .with_context(|| format!("make a folder in {}", versions.display()))?;
                make(&beside.path().join(name)).with_context(|| format!("make {}", file.display()))?;
                fs::rename(beside.keep(), &version).with_context(|| format!("rename to {}", version.display()))?;
            }
            forget_old(&versions)?;
        }
        // The time of last use decides what is forgotten. A cache that we may only read serves as well.
        let _ = File::open(&version).and_then(|folder| folder.set_modified(SystemTime::now()));
        Ok(file)
    }
}

fn forget_old(versions: &Path) -> Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(versions).with_context(|| format!("read {}", versions.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            found.push((metadata.modified()?, entry.path()));
        }
    }
    found.sort();
    let surplus = found.len().saturating_sub(KEEP);
    for (_, path) in found.into_iter().take(surplus) {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_a_key() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let cache = Cache::at(folder.path().to_owned())?;
        let mut made = 0;
        for (key, expected) in [("a", 1), ("a", 1), ("b", 2), ("a", 2)] {
            let path = cache.file("tool", Key::new().text(key), |to| {
                made += 1;
                fs::write(to, key).context("write")
            })?;
            assert_eq!(fs::read_to_string(path)?, key);
            assert_eq!(made, expected, "{key}");
        }
        Ok(())
    }

    #[test]
    fn what_could_not_be_made_is_not_there() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let cache = Cache::at(folder.path().to_owned())?;
        let failed = cache.file("tool", Key::new().text("a"), |to| {
            fs::write(to, "half")?;
            bail_out()
        });
        assert!(failed.is_err());
        let path = cache.file("tool", Key::new().text("a"), |to| fs::write(to, "whole").context("write"))?;
        assert_eq!(fs::read_to_string(path)?, "whole");
        Ok(())
    }

    fn bail_out() -> Result<()> {
        anyhow::bail!("the compiler died")
    }

    #[test]
    fn old_versions_are_forgotten() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let cache = Cache::at(folder.path().to_owned())?;
        for key in ["a", "b", "c", "d", "e"] {
            cache.file("tool", Key::new().text(key), |to| fs::write(to, key).context("write"))?;
        }
        let left = fs::read_dir(folder.path().join("tool"))?.flatten().filter(|entry| entry.path().is_dir()).count();
        assert_eq!(left, KEEP);
        Ok(())
    }

    #[test]
    fn the_border_between_inputs_counts() {
        assert_ne!(Key::new().text("ab").text("c").finish(), Key::new().text("a").text("bc").finish());
    }
}
