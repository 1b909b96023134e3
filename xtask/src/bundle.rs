//! `cargo xtask bundle`: the operator as a package for OLM, generated from its code and committed; and OLM's own checks of
//! it, which a small Go program runs.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use names::images;

use crate::{generated::Generated, show::Show, workspace::Workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail when a committed file is not what would be written, or OLM's checks find something
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments, workspace: &Workspace, show: &Show) -> Result<ExitCode> {
    if !arguments.check {
        write(workspace)?;
        return Ok(ExitCode::SUCCESS);
    }
    let problems = problems(workspace)?;
    for problem in &problems {
        eprintln!("{problem}");
    }
    let good = checker(workspace, show)?.status().context("running OLM's checks")?.success();
    Ok(if good && problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes bundle and catalog.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    generated()?.write(&workspace.root)
}

/// What is wrong with the committed files.
pub(crate) fn problems(workspace: &Workspace) -> Result<Vec<String>> {
    generated()?.problems(&workspace.root)
}

/// OLM's checks over the committed files, ready to be run.
pub(crate) fn checker(workspace: &Workspace, show: &Show) -> Result<Command> {
    let mut command = Command::new(e2e::tools::olm_checker(show)?);
    command
        .args(["-platform", &format!("{}/{}", images::OS, images::ARCHITECTURE)])
        .args(["-accepted", "e2e/go-olm/accepted.yaml", "config/bundle", "config/catalog"])
        .current_dir(&workspace.root);
    Ok(command)
}

fn generated() -> Result<Generated> {
    let files = operator::bundle().context("generating the bundle")?;
    Ok(Generated {
        chore: "cargo xtask bundle",
        files: files.into_iter().map(|file| (file.path, file.content)).collect(),
        folders: &["config/bundle", "config/catalog"],
        kept: operator::released_catalogs(),
    })
}
