//! `cargo xtask crds`: the CustomResourceDefinitions as YAML, generated from the types and committed.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// Client-side apply puts the whole object into an annotation, and annotations end at 262,144 bytes.
const LARGEST: usize = 250_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail when a committed file is not what would be written
    #[arg(long)]
    check: bool,
}

/// Files by name.
type Files = BTreeMap<String, String>;

pub(crate) fn run(arguments: &Arguments, workspace: &Workspace) -> Result<ExitCode> {
    if arguments.check {
        let problems = problems(workspace)?;
        for problem in &problems {
            eprintln!("{problem}");
        }
        return Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let (folder, generated) = (workspace.root.join("config/crd"), generated()?);
    std::fs::create_dir_all(&folder)?;
    for name in committed(&folder)?.keys().filter(|name| !generated.contains_key(*name)) {
        std::fs::remove_file(folder.join(name))?;
        println!("removed {name}");
    }
    for (name, yaml) in &generated {
        std::fs::write(folder.join(name), yaml).with_context(|| format!("writing {name}"))?;
        println!("{:>7} bytes {name}", yaml.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with the committed files.
pub(crate) fn problems(workspace: &Workspace) -> Result<Vec<String>> {
    Ok(differences(&generated()?, &committed(&workspace.root.join("config/crd"))?))
}

fn generated() -> Result<Files> {
    let manifests = ::crds::manifests().context("generating the CRDs")?;
    Ok(manifests.into_iter().map(|manifest| (manifest.file_name, manifest.yaml)).collect())
}

fn committed(folder: &Path) -> Result<Files> {
    let Ok(entries) = folder.read_dir() else { return Ok(Files::new()) };
    let mut files = Files::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml")
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            files.insert(name.to_owned(), std::fs::read_to_string(&path)?);
        }
    }
    Ok(files)
}

fn differences(generated: &Files, committed: &Files) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, yaml) in generated {
        match committed.get(name) {
            None => problems.push(format!("config/crd/{name}: missing; run `cargo xtask crds`")),
            Some(text) if text != yaml => {
                problems.push(format!("config/crd/{name}: not what the types say; run `cargo xtask crds`"));
            }
            Some(_) => {}
        }
        if yaml.len() > LARGEST {
            problems.push(format!(
                "config/crd/{name}: {} bytes; over {LARGEST} `kubectl apply` without --server-side fails",
                yaml.len()
            ));
        }
    }
    for name in committed.keys().filter(|name| !generated.contains_key(*name)) {
        problems.push(format!("config/crd/{name}: no type has it; run `cargo xtask crds`"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{Files, LARGEST, differences};

    #[test]
    fn stale_missing_left_over_and_large_files_are_found() {
        let files = |files: &[(&str, &str)]| -> Files {
            files.iter().map(|(name, yaml)| ((*name).to_owned(), (*yaml).to_owned())).collect()
        };
        let large = "x".repeat(LARGEST + 1);
        let generated = files(&[("same", "1"), ("stale", "2"), ("missing", "3"), ("large", &large)]);
        let committed = files(&[("same", "1"), ("stale", "0"), ("large", &large), ("old", "")]);
        let problems = differences(&generated, &committed);
        let begin: Vec<&str> = problems.iter().filter_map(|problem| problem.split(':').next()).collect();
        assert_eq!(begin, ["config/crd/large", "config/crd/missing", "config/crd/stale", "config/crd/old"]);
        assert!(differences(&generated, &generated).len() == 1);
    }
}
