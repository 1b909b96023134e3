//! Java programs: from Maven Central by Maven, the ordinary client, and a small runtime for them by `jlink`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cache::{Cache, Key};
use super::debian;
use crate::progress::{Progress, step};

/// What is installed for it, each only when it is asked for.
const MAVEN: [&str; 1] = ["maven"];
const JDK: [&str; 1] = ["openjdk-17-jdk-headless"];
const HOME: &str = "/usr/lib/jvm/java-17-openjdk-amd64";

/// Zipkin's server: the small distribution, which is what the image `zipkin-slim` holds.
const ZIPKIN: &str = "io.zipkin:zipkin-server:3.4.4:jar:slim";
/// The plugin that fetches one artifact, in one version, so that every machine does the same.
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy";
/// After so long a registry that does not answer is given up, in seconds.
const PATIENCE: &str = "300";

/// What a server without windows needs of Java.
const MODULES: &str = "java.se,jdk.unsupported,jdk.crypto.ec,jdk.management,jdk.zipfs";
const LINK: [&str; 4] = ["--strip-java-debug-attributes", "--no-header-files", "--no-man-pages", "--compress=2"];

pub(super) fn zipkin(cache: &Cache, progress: &dyn Progress) -> Result<PathBuf> {
    cache.file("zipkin-server.jar", Key::new().text(ZIPKIN), |to| {
        debian::ensure(&MAVEN, progress)?;
        progress.note("zipkin-server: 44 MB from Maven Central, some ten seconds, once");
        step(progress, "fetch zipkin-server", || fetch(cache, ZIPKIN, to))
    })
}

/// Fetches one artifact with Maven, whose own settings say where from.
fn fetch(cache: &Cache, artifact: &str, to: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in(to.parent().context("the cache's entry has a folder")?)?;
    let output = Command::new("timeout")
        .args([PATIENCE, "mvn", "--batch-mode", "--quiet", COPY])
        .arg(format!("-Dmaven.repo.local={}", cache.folder("maven").display()))
        .arg(format!("-Dartifact={artifact}"))
        .arg(format!("-DoutputDirectory={}", folder.path().display()))
        .current_dir(folder.path())
        .output()
        .context("run Maven (Debian package maven) by timeout (package coreutils)")?;
    if output.status.code() == Some(124) {
        bail!("Maven Central did not answer within {PATIENCE} s: {artifact} cannot be fetched");
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        bail!("Maven cannot fetch {artifact}; is Maven Central within reach?\n{}", said.trim());
    }
    let mut jars = std::fs::read_dir(folder.path())?.flatten().map(|entry| entry.path());
    let jar = jars.find(|path| path.extension().is_some_and(|extension| extension == "jar"));
    let jar = jar.with_context(|| format!("Maven said nothing and {artifact} is not there"))?;
    std::fs::rename(&jar, to).with_context(|| format!("rename to {}", to.display()))
}

pub(super) fn runtime(cache: &Cache, progress: &dyn Progress) -> Result<PathBuf> {
    debian::ensure(&JDK, progress)?;
    let release = Path::new(HOME).join("release");
    let key = Key::new().content_of(&release)?.text(MODULES).text(&LINK.join(" "));
    cache.file("java-runtime", key, |to| {
        step(progress, "link a Java runtime", || {
            let output = Command::new(Path::new(HOME).join("bin/jlink"))
                .args(["--add-modules", MODULES])
                .args(LINK)
                .arg("--output")
                .arg(to)
                .output()
                .context("run jlink")?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                bail!("jlink: {}{}", said, String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(())
        })
    })
}
