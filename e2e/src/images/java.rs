//! A Java runtime in an image: the folder that `jlink` made, and the libraries of the machine that it needs.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::layer::Layer;

/// Where it is in the image.
const HOME: &str = "/java";
/// Notices, which are links into each other, and nothing that runs.
const NOTICES: &str = "legal";
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

pub(super) fn layer(runtime: &Path) -> Result<Layer> {
    let mut layer = Layer::new();
    let mut files = Vec::new();
    collect(runtime, &mut files)?;
    let mut libraries = BTreeSet::new();
    for file in &files {
        let inside = file.strip_prefix(runtime).context("a file of the runtime")?;
        if inside.starts_with(NOTICES) {
            continue;
        }
        let mode = file.metadata()?.permissions().mode() & 0o777;
        layer.copy(Path::new(HOME).join(inside), mode, file)?;
        if mode & 0o111 != 0 || file.extension().is_some_and(|extension| extension == "so") {
            libraries.extend(needed(file)?.into_iter().filter(|library| !library.starts_with(runtime)));
        }
    }
    ensure!(!libraries.is_empty(), "{}: nothing in it runs", runtime.display());
    for library in libraries {
        let name = library.file_name().and_then(|name| name.to_str()).context("a library's name")?.to_owned();
        layer.copy(format!("{LIBRARIES}/{name}"), 0o644, library.canonicalize()?)?;
    }
    layer.copy(LOADER, 0o755, Path::new(LOADER).canonicalize()?)?;
    // Debian has merged /lib into /usr/lib; its loader's default path names both.
    layer.link("/lib/x86_64-linux-gnu", LIBRARIES);
    layer.directory("/tmp", 0o1777);
    Ok(layer)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// The machine's libraries that a program or library asks for; those of windows, which a server has none of, are absent.
fn needed(file: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(file).output().context("run ldd (Debian package libc-bin)")?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = listing.lines().filter_map(|line| line.split_once("=> ")?.1.split_whitespace().next());
    Ok(paths.filter(|path| path.starts_with('/')).map(PathBuf::from).collect())
}
