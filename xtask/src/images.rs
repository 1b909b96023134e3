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
        let mut archives = e2e::images::mesh(&binaries, names::VERSION, &cache)?;
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

/// Builds the mesh's two programs once more, as the next version, into a folder of their own. Only the workspace's crates
/// are compiled again: the feature is of the crate `names`, which no dependency knows.
pub(crate) fn next_version(workspace: &Workspace, show: &Show) -> Result<()> {
    const PROGRAMS: [&str; 2] = ["forestay", "forestay-proxy"];
    show.step("build the next version", || {
        let log = workspace.logs("build")?.join("next-version.log");
        let mut arguments = vec!["build", "--workspace", "--features", "forestay-names/next-version"];
        arguments.extend(PROGRAMS.iter().flat_map(|program| ["--bin", program]));
        program::succeed(workspace.cargo(&arguments), &log, show, "build the next version")?;
        let folder = workspace.binaries().join(e2e::images::NEXT);
        std::fs::create_dir_all(&folder)?;
        for program in PROGRAMS {
            // Copied: cargo puts this version's programs where these are.
            std::fs::copy(workspace.binaries().join(program), folder.join(program))?;
        }
        Ok(())
    })
}

#[allow(clippy::cast_precision_loss)] // a size for people
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
