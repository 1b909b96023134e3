//! One file system layer: a tree of files, and the tar that it becomes.
//!
//! The bytes depend on names, modes and contents only (owner, group and times are zero, entries are sorted), so that
//! the same files always have the same digest and an unchanged image is recognised as such.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

const BLOCK: usize = 512;

/// A tree of files, directories and symbolic links by absolute path inside the image.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { target: String },
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory; directories above files need not be named, they get mode 0755.
    pub fn directory(&mut self, path: impl AsRef<Path>, mode: u32) -> &mut Self {
        self.insert(path.as_ref(), Entry::Directory { mode })
    }

    /// Adds a file with its content.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>) -> &mut Self {
        self.insert(path.as_ref(), Entry::File { mode, content: content.into() })
    }

    /// Adds a file with the content of one on this machine.
    pub fn copy(&mut self, path: impl AsRef<Path>, mode: u32, from: impl AsRef<Path>) -> Result<&mut Self> {
        let from = from.as_ref();
        let content = std::fs::read(from).with_context(|| format!("reading {} for an image", from.display()))?;
        Ok(self.insert(path.as_ref(), Entry::File { mode, content }))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: impl AsRef<Path>, target: impl Into<String>) -> &mut Self {
        self.insert(path.as_ref(), Entry::Link { target: target.into() })
    }

    /// Whether something is at that path.
    pub fn contains(&self, path: impl AsRef<Path>) -> bool {
        self.entries.contains_key(&relative(path.as_ref()))
    }

    fn insert(&mut self, path: &Path, entry: Entry) -> &mut Self {
        let path = relative(path);
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            self.entries.entry(parent.to_owned()).or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.insert(path, entry);
        self
    }

    /// The layer as an uncompressed tar (POSIX ustar).
    pub fn to_tar(&self) -> Result<Vec<u8>> {
        let mut tar = Vec::new();
        for (path, entry) in &self.entries {
            let path =
                path.to_str().with_context(|| format!("{}: a path in an image must be UTF-8", path.display()))?;
            match entry {
                Entry::Directory { mode } => append(&mut tar, &format!("{path}/"), *mode, b'5', "", &[])?,
                Entry::File { mode, content } => append(&mut tar, path, *mode, b'0', "", content)?,
                Entry::Link { target } => append(&mut tar, path, 0o777, b'2', target, &[])?,
            }
        }
        tar.resize(tar.len() + 2 * BLOCK, 0);
        Ok(tar)
    }
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

/// Appends one entry, padded to whole blocks. Also used for the archive around the layers, which is a tar as well.
pub(super) fn append(tar: &mut Vec<u8>, path: &str, mode: u32, kind: u8, link: &str, content: &[u8]) -> Result<()> {
    let (prefix, name) = split(path)?;
    if link.len() > 100 {
        bail!("{path}: the link's target {link} is longer than the 100 bytes of a tar header");
    }
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = header.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0"); // owner
    put(116, b"0000000\0"); // group
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0"); // time
    put(148, b"        "); // the checksum counts as spaces while it is computed
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

/// Splits a path into the header's prefix (155 bytes) and name (100 bytes) at a slash.
fn split(path: &str) -> Result<(&str, &str)> {
    if path.len() <= 100 {
        return Ok(("", path));
    }
    path.match_indices('/')
        .map(|(at, _)| path.split_at(at))
        .map(|(prefix, name)| (prefix, name.trim_start_matches('/')))
        .find(|(prefix, name)| prefix.len() <= 155 && name.len() <= 100 && !name.is_empty())
        .with_context(|| format!("{path}: too long for a tar header"))
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, process::Command};

    use super::Layer;

    fn sample() -> Layer {
        let mut layer = Layer::new();
        layer.file("/usr/local/bin/tool", 0o755, "#!/bin/sh\n");
        layer.directory("/tmp", 0o1777);
        layer.link("/bin/sh", "/usr/local/bin/tool");
        layer.file(format!("/{}/{}", "d".repeat(90), "f".repeat(60)), 0o644, vec![7; 513]);
        layer
    }

    #[test]
    fn tar_reads_what_a_layer_writes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&sample().to_tar().unwrap()).unwrap();
        let output = Command::new("tar").args(["--numeric-owner", "--utc", "-tvf"]).arg(file.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listing: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let (long_directory, long_file) = ("d".repeat(90), "f".repeat(60));
        assert_eq!(
            listing,
            [
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 bin/".to_owned(),
                "lrwxrwxrwx 0/0 0 1970-01-01 00:00 bin/sh -> /usr/local/bin/tool".to_owned(),
                format!("drwxr-xr-x 0/0 0 1970-01-01 00:00 {long_directory}/"),
                format!("-rw-r--r-- 0/0 513 1970-01-01 00:00 {long_directory}/{long_file}"),
                "drwxrwxrwt 0/0 0 1970-01-01 00:00 tmp/".to_owned(),
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 usr/".to_owned(),
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 usr/local/".to_owned(),
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 usr/local/bin/".to_owned(),
                "-rwxr-xr-x 0/0 10 1970-01-01 00:00 usr/local/bin/tool".to_owned(),
            ]
        );
    }

    #[test]
    fn order_of_insertion_does_not_matter() {
        let mut other = Layer::new();
        other.file(format!("/{}/{}", "d".repeat(90), "f".repeat(60)), 0o644, vec![7; 513]);
        other.link("/bin/sh", "/usr/local/bin/tool");
        other.directory("/tmp", 0o1777);
        other.file("/usr/local/bin/tool", 0o755, "#!/bin/sh\n");
        assert_eq!(other.to_tar().unwrap(), sample().to_tar().unwrap());
    }

    #[test]
    fn a_name_that_no_header_holds_is_refused() {
        let mut layer = Layer::new();
        layer.file(format!("/{}", "f".repeat(101)), 0o644, "");
        assert!(layer.to_tar().unwrap_err().to_string().contains("too long"));
    }
}
