//! `cargo xtask vectors`: the test vectors alone. They are the tests with `vectors` in their path: in a module of that
//! name, or in a test target of that name. Each prints for its file the cases, how many passed, and the name and the
//! first difference of each that failed.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{MetadataCommand, TargetKind};

use crate::{tally::Tally, workspace::Workspace};

/// Tells the tests which files to read, separated by `:`; all of them when it is not set.
const FILES: &str = "FORESTAY_VECTOR_FILES";
const NAME: &str = "vectors";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these files (names in the folder of vectors, or paths)
    files: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, workspace: &Workspace) -> Result<ExitCode> {
    let mut files = Vec::new();
    for file in &arguments.files {
        // A path as the caller sees it; a bare name is looked up in the folder of vectors by the tests.
        files.push(if file.exists() { file.canonicalize()? } else { file.clone() });
    }
    let files = std::env::join_paths(files).context("a file's name with a `:` in it")?;

    let by_name: &[&str] = &["test", "--workspace", "--no-fail-fast", "--tests", NAME, "--", "--nocapture"];
    let by_target: &[&str] = &["test", "--workspace", "--no-fail-fast", "--test", NAME, "--", "--nocapture"];
    let runs = if has_target(workspace)? { vec![by_name, by_target] } else { vec![by_name] };
    let (mut good, mut total) = (true, Tally::default());
    for run in runs {
        let mut command = workspace.cargo(run);
        if !files.is_empty() {
            command.env(FILES, &files);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().context("starting cargo")?;
        let output = child.stdout.take().context("cargo's output")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            total += Tally::of(&line);
            if !is_noise(&line) {
                println!("{line}");
            }
        }
        good &= child.wait()?.success();
    }
    if total.passed + total.failed == 0 {
        bail!("no test has `{NAME}` in its path");
    }
    println!("{total}");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn has_target(workspace: &Workspace) -> Result<bool> {
    let metadata = MetadataCommand::new().manifest_path(workspace.root.join("Cargo.toml")).no_deps().exec()?;
    let mut targets = metadata.packages.iter().flat_map(|package| &package.targets);
    Ok(targets.any(|target| target.name == NAME && target.kind.contains(&TargetKind::Test)))
}

/// What the runner says about itself rather than about a file.
fn is_noise(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with("running ") || line.starts_with("test result: ok.")
}

#[cfg(test)]
mod tests {
    use super::is_noise;

    #[test]
    fn what_is_about_files_is_shown() {
        for noise in ["", "running 0 tests", "test result: ok. 0 passed; 0 failed"] {
            assert!(is_noise(noise), "{noise}");
        }
        for told in ["injection.json: 74 cases, 70 passed", "test result: FAILED. 1 passed; 1 failed", "test a ... ok"]
        {
            assert!(!is_noise(told), "{told}");
        }
    }
}
