//! `cargo xtask crds`: the YAML that is generated from types and code, and committed: the CustomResourceDefinitions, their
//! schemas as the program reads them, and what the operator's code says of itself (its own manifests, everything in one file, the page about conditions). The
//! bundle for OLM, which carries the definitions, is written with it.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{
    bundle,
    generated::{Files, Generated},
    workspace::Workspace,
};

/// The folder of the definitions.
const DEFINITIONS: &str = "config/crd";
/// The folder of the schemas that the program holds.
const SCHEMAS: &str = "crds/schemas";
/// Client-side apply puts the whole object into an annotation, and annotations end at 262,144 bytes.
const LARGEST: usize = 250_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail when a committed file is not what would be written
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments, workspace: &Workspace) -> Result<ExitCode> {
    if arguments.check {
        let problems = problems(workspace)?;
        for problem in &problems {
            eprintln!("{problem}");
        }
        return Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    generated()?.write(&workspace.root)?;
    bundle::write(workspace)?;
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with the committed files.
pub(crate) fn problems(workspace: &Workspace) -> Result<Vec<String>> {
    let generated = generated()?;
    let mut problems = generated.problems(&workspace.root)?;
    problems.extend(too_large(&generated.files));
    Ok(problems)
}

fn generated() -> Result<Generated> {
    let definitions = ::crds::manifests().context("generating the definitions")?;
    let operators = operator::manifests().context("generating the operator's manifests")?;
    let files = definitions
        .into_iter()
        .map(|manifest| (format!("{DEFINITIONS}/{}", manifest.file_name), manifest.yaml))
        .chain(::crds::schemas().into_iter().map(|(name, text)| (format!("{SCHEMAS}/{name}"), text)))
        .chain(operators.into_iter().map(|manifest| (manifest.path, manifest.content)))
        .collect();
    Ok(Generated { chore: "cargo xtask crds", files, folders: &[DEFINITIONS, SCHEMAS], kept: Vec::new() })
}

fn too_large(files: &Files) -> Vec<String> {
    let large = |(path, content): &(&String, &String)| path.starts_with(DEFINITIONS) && content.len() > LARGEST;
    files
        .iter()
        .filter(large)
        .map(|(path, content)| {
            let size = content.len();
            format!("{path}: {size} bytes; over {LARGEST} `kubectl apply` without --server-side fails")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Files, LARGEST, too_large};

    #[test]
    fn one_object_must_be_small_not_a_file_of_many() {
        let large = "x".repeat(LARGEST + 1);
        let files = Files::from([
            ("config/crd/large.yaml".to_owned(), large.clone()),
            ("config/crd/small.yaml".to_owned(), "x".to_owned()),
            ("config/install.yaml".to_owned(), large),
        ]);
        let problems = too_large(&files);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("config/crd/large.yaml: "), "{problems:?}");
    }
}
