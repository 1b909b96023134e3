//! Files out of Debian's packages: real programs for images, without installing anything.
//!
//! Packages are fetched with `apt-get download` and unpacked with `dpkg -x` into the cache, keyed by the versions that
//! Debian offers at that moment; what a program needs to run is asked of its own dynamic loader.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{archive::digest, layer::Layer};

/// Unpacked packages in the cache.
#[derive(Clone, Debug)]
pub(super) struct Root {
    path: PathBuf,
}

impl Root {
    /// The packages, with everything that they depend on, unpacked below `folder`.
    pub(super) fn of(folder: &Path, packages: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
        let closure = closure(packages)?;
        let offered = offered(folder, &closure)?;
        let path = folder.join(digest(offered.as_bytes()).get(..16).unwrap_or_default());
        if path.join(".complete").exists() {
            return Ok(Self { path });
        }

        let unpacked = tempfile::tempdir_in(folder)?;
        let downloads = tempfile::tempdir_in(folder)?;
        // apt drops to its own user to download and warns when that user may not write here; root may.
        run(Command::new("apt-get")
            .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
            .args(&closure)
            .current_dir(downloads.path()))?;
        for package in downloads.path().read_dir()? {
            run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(unpacked.path()))?;
        }
        std::fs::write(unpacked.path().join(".complete"), &offered)?;
        let unpacked = unpacked.keep();
        if let Err(error) = std::fs::rename(&unpacked, &path) {
            std::fs::remove_dir_all(&unpacked)?;
            // Another process was quicker; its result is as good as ours.
            if !path.join(".complete").exists() {
                return Err(error).with_context(|| format!("writing {}", path.display()));
            }
        }
        Ok(Self { path })
    }

    /// A file of one of the packages, by its absolute path in an installed system.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    /// Adds a dynamically linked program with its loader and every library that it needs.
    pub(super) fn add_program(&self, layer: &mut Layer, program: &str) -> Result<()> {
        const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
        let libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
        let search = libraries.map(|folder| self.path.join(folder).display().to_string()).join(":");
        let loader = self.resolve(&self.path.join("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"))?;
        let listing = run(Command::new(&loader).args(["--library-path", &search, "--list"]).arg(self.file(program)))?;
        layer.copy(program, 0o755, self.file(program))?;
        layer.copy(LOADER, 0o755, &loader)?;
        for library in needed(&listing) {
            let Some(name) = library.file_name().and_then(|name| name.to_str()) else { continue };
            if !library.starts_with(&self.path) {
                bail!("{program} needs {name}, which none of the unpacked packages has");
            }
            layer.copy(format!("/usr/lib/x86_64-linux-gnu/{name}"), 0o644, self.resolve(&library)?)?;
        }
        // Debian has merged /lib into /usr/lib; its loader's default path names both.
        layer.link("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu");
        Ok(())
    }

    /// Adds the bundle of certificate authorities that the package's own installation script would have made.
    pub(super) fn add_certificate_authorities(&self, layer: &mut Layer) -> Result<()> {
        let folder = self.file("/usr/share/ca-certificates/mozilla");
        let mut certificates = BTreeSet::new();
        for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
            certificates.insert(entry?.path());
        }
        let mut bundle = Vec::new();
        for certificate in certificates {
            bundle.extend(std::fs::read(certificate)?);
        }
        layer.file("/etc/ssl/certs/ca-certificates.crt", 0o644, bundle);
        Ok(())
    }

    /// Adds busybox with a link for each of its applets, in `/bin`.
    pub(super) fn add_busybox(&self, layer: &mut Layer) -> Result<()> {
        let busybox = self.file("/bin/busybox");
        layer.copy("/bin/busybox", 0o755, &busybox)?;
        for applet in run(Command::new(&busybox).arg("--list"))?.lines().filter(|applet| *applet != "busybox") {
            layer.link(format!("/bin/{applet}"), "busybox");
        }
        Ok(())
    }

    /// Follows symbolic links, reading absolute ones below our root.
    fn resolve(&self, path: &Path) -> Result<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let Ok(target) = path.read_link() else { return Ok(path) };
            path = match target.strip_prefix("/") {
                Ok(inside) => self.path.join(inside),
                Err(_) => path.parent().unwrap_or(&self.path).join(target),
            };
        }
        bail!("{}: too many symbolic links", path.display())
    }
}

/// The packages and everything that they depend on.
fn closure(packages: &[&str]) -> Result<Vec<String>> {
    let depends = || {
        run(Command::new("apt-cache")
            .args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks"])
            .args(["--no-replaces", "--no-enhances"])
            .args(packages))
    };
    // A fresh machine has no lists of packages yet.
    let listing = depends().or_else(|_| update().and_then(|()| depends()))?;
    Ok(packages_of(&listing))
}

/// The package names in the output of `apt-cache depends --recurse`: the lines that are not indented. Virtual packages
/// stand in angle brackets; packages with installation scripts only are of no use here.
fn packages_of(listing: &str) -> Vec<String> {
    const SCRIPTS_ONLY: [&str; 4] = ["debconf", "cdebconf", "dpkg", "tar"];
    let names: BTreeSet<&str> = listing
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_alphanumeric()))
        .map(|line| line.split(':').next().unwrap_or(line))
        .filter(|name| !SCRIPTS_ONLY.contains(name) && !name.starts_with("perl") && !name.starts_with("debconf"))
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

/// File names and hashes of what Debian offers now; asked anew after `apt-get update` when the lists are missing.
fn offered(folder: &Path, packages: &[String]) -> Result<String> {
    let ask =
        || run(Command::new("apt-get").args(["-q", "download", "--print-uris"]).args(packages).current_dir(folder));
    let answer = ask().or_else(|_| update().and_then(|()| ask()))?;
    // Each line is 'URI' file size hash; the URI depends on the mirror.
    let mut lines: Vec<String> = answer
        .lines()
        .filter(|line| line.starts_with('\''))
        .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    Ok(lines.join("\n"))
}

fn update() -> Result<()> {
    run(Command::new("apt-get").args(["-q", "update"])).map(drop)
}

/// The libraries in the output of `ld.so --list`: `libz.so.1 => /path/libz.so.1 (0x...)`.
fn needed(listing: &str) -> Vec<PathBuf> {
    listing
        .lines()
        .filter_map(|line| line.split_once("=> ")?.1.split_whitespace().next())
        .filter(|path| path.starts_with('/') && !path.contains("ld-linux"))
        .map(PathBuf::from)
        .collect()
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    #[test]
    fn packages_are_the_lines_that_are_not_indented() {
        let listing = "curl\n  Depends: libc6\n  Depends: libcurl4\nlibc6\n  Depends: libgcc-s1\nlibcurl4\n\
                       <debconf-2.0>\n  cdebconf\ndebconf\nlibgcc-s1:amd64\nperl-base\n";
        assert_eq!(super::packages_of(listing), ["curl", "libc6", "libcurl4", "libgcc-s1"]);
    }

    #[test]
    fn libraries_are_what_the_loader_found() {
        let listing = "\tlinux-vdso.so.1 (0x1)\n\tlibz.so.1 => /r/lib/libz.so.1 (0x2)\n\
                       \t/lib64/ld-linux-x86-64.so.2 => /r/lib/ld-linux-x86-64.so.2 (0x3)\n";
        assert_eq!(super::needed(listing), [PathBuf::from("/r/lib/libz.so.1")]);
    }
}
