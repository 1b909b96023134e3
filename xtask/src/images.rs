//! `cargo xtask images`: the programs, then the images from them.

use std::process::ExitCode;

use anyhow::Result;
use e2e::images::{Archive, Binaries};

use crate::{program, show::Show, workspace::Workspace};

pub(crate) fn run(workspace: &Workspace, show: &Show) -> Result<ExitCode> {
    for archive in build(workspace, show)? {
        println!("{} ({:.1} MB)", archive.path.display(), mebibytes(archive.size));
        for image in archive.images {
            println!("  {image}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the workspace's programs and the images from them.
pub(crate) fn build(workspace: &Workspace, show: &Show) -> Result<Vec<Archive>> {
    show.step("build the programs", || programs(workspace, show, "build the programs"))?;
    show.step("build the images", || {
        let cache = e2e::tools::Cache::open()?;
        e2e::tools::ensure_packages(&["binutils"], show)?;
        let binaries = Binaries::in_folder(workspace.binaries());
        let mut archives = e2e::images::mesh(&binaries, &cache)?;
        archives.push(e2e::images::samples(&binaries, &cache)?);
        Ok(archives)
    })
}

/// All of the workspace's programs at once: choosing some would choose other features of their dependencies, and those
/// would be compiled again.
fn programs(workspace: &Workspace, show: &Show, step: &str) -> Result<()> {
    let log = workspace.logs("build")?.join("programs.log");
    program::succeed(workspace.cargo(&["build", "--workspace", "--bins"]), &log, show, step).map(drop)
}

#[allow(clippy::cast_precision_loss)] // a size for people
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
