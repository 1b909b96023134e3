//! `cargo xtask vectors`: the test vectors alone. A crate that has some has a test target named `vectors`, which prints
//! for each file its cases, how many passed, and the first difference of each that failed.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{MetadataCommand, TargetKind};

use crate::workspace::Workspace;

/// Tells the tests which files to read, separated by `:`; all of them when it is not set.
const FILES: &str = "FORESTAY_VECTOR_FILES";
const TARGET: &str = "vectors";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these files (names in the folder of vectors, or paths)
    files: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, workspace: &Workspace) -> Result<ExitCode> {
    let metadata = MetadataCommand::new().manifest_path(workspace.root.join("Cargo.toml")).no_deps().exec()?;
    let crates: BTreeSet<&str> = metadata
        .packages
        .iter()
        .filter(|package| {
            package.targets.iter().any(|target| target.name == TARGET && target.kind.contains(&TargetKind::Test))
        })
        .map(|package| package.name.as_str())
        .collect();
    if crates.is_empty() {
        bail!("no crate has a test target named `{TARGET}` yet");
    }
    let mut command =
        workspace.cargo(&["test", "--workspace", "--no-fail-fast", "--test", TARGET, "--", "--nocapture"]);
    if !arguments.files.is_empty() {
        let mut files = Vec::new();
        for file in &arguments.files {
            // A path as the caller sees it; a bare name is looked up in the folder of vectors by the tests.
            files.push(if file.exists() { file.canonicalize()? } else { file.clone() });
        }
        command.env(FILES, std::env::join_paths(files).context("a file's name with a `:` in it")?);
    }
    let status = command.status().context("starting cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
