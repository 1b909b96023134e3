//! `cargo xtask crds`: the YAML that is generated from types and code, and committed: the CustomResourceDefinitions, and
//! what the operator's code says of itself (its own manifests, everything in one file, the page about conditions).

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// The folder of the definitions, where nothing else may be.
const DEFINITIONS: &str = "config/crd";
/// Client-side apply puts the whole object into an annotation, and annotations end at 262,144 bytes.
const LARGEST: usize = 250_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail when a committed file is not what would be written
    #[arg(long)]
    check: bool,
}

/// Files by their path from the workspace's root.
type Files = BTreeMap<String, String>;

pub(crate) fn run(arguments: &Arguments, workspace: &Workspace) -> Result<ExitCode> {
    if arguments.check {
        let problems = problems(workspace)?;
        for problem in &problems {
            eprintln!("{problem}");
        }
        return Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let generated = generated()?;
    for path in committed(&workspace.root, &generated)?.keys().filter(|path| !generated.contains_key(*path)) {
        std::fs::remove_file(workspace.root.join(path))?;
        println!("removed {path}");
    }
    for (path, content) in &generated {
        let file = workspace.root.join(path);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, content).with_context(|| format!("writing {path}"))?;
        println!("{:>7} bytes {path}", content.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with the committed files.
pub(crate) fn problems(workspace: &Workspace) -> Result<Vec<String>> {
    let generated = generated()?;
    Ok(differences(&generated, &committed(&workspace.root, &generated)?))
}

fn generated() -> Result<Files> {
    let definitions = ::crds::manifests().context("generating the definitions")?;
    let operators = operator::manifests().context("generating the operator's manifests")?;
    Ok(definitions
        .into_iter()
        .map(|manifest| (format!("{DEFINITIONS}/{}", manifest.file_name), manifest.yaml))
        .chain(operators.into_iter().map(|manifest| (manifest.path, manifest.content)))
        .collect())
}

/// The generated files as they are in the work tree, and every other file in the folder of the definitions.
fn committed(root: &Path, generated: &Files) -> Result<Files> {
    let mut paths: Vec<String> = generated.keys().cloned().collect();
    if let Ok(entries) = root.join(DEFINITIONS).read_dir() {
        for entry in entries {
            paths.extend(entry?.file_name().to_str().map(|name| format!("{DEFINITIONS}/{name}")));
        }
    }
    let read = |path: String| std::fs::read_to_string(root.join(&path)).ok().map(|content| (path, content));
    Ok(paths.into_iter().filter_map(read).collect())
}

fn differences(generated: &Files, committed: &Files) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, content) in generated {
        match committed.get(path) {
            None => problems.push(format!("{path}: missing; run `cargo xtask crds`")),
            Some(text) if text != content => {
                problems.push(format!("{path}: not what the code says; run `cargo xtask crds`"));
            }
            Some(_) => {}
        }
        if path.starts_with(DEFINITIONS) && content.len() > LARGEST {
            let size = content.len();
            problems.push(format!("{path}: {size} bytes; over {LARGEST} `kubectl apply` without --server-side fails"));
        }
    }
    for path in committed.keys().filter(|path| !generated.contains_key(*path)) {
        problems.push(format!("{path}: nothing generates it; run `cargo xtask crds`"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{Files, LARGEST, differences};

    #[test]
    fn stale_missing_left_over_and_large_files_are_found() {
        let files = |files: &[(&str, &str)]| -> Files {
            files.iter().map(|(path, text)| (format!("config/crd/{path}"), (*text).to_owned())).collect()
        };
        let large = "x".repeat(LARGEST + 1);
        let generated = files(&[("same", "1"), ("stale", "2"), ("missing", "3"), ("large", &large)]);
        let committed = files(&[("same", "1"), ("stale", "0"), ("large", &large), ("old", "")]);
        let problems = differences(&generated, &committed);
        let begin: Vec<&str> = problems.iter().filter_map(|problem| problem.split(':').next()).collect();
        assert_eq!(begin, ["config/crd/large", "config/crd/missing", "config/crd/stale", "config/crd/old"]);

        let elsewhere = Files::from([("config/install.yaml".to_owned(), large)]);
        assert!(differences(&elsewhere, &elsewhere).is_empty(), "one object must be small, not a file of many");
    }
}
