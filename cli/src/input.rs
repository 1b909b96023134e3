//! What `-f` names: files, folders, standard input.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Standard input, on a command line.
pub(crate) const STDIN: &str = "-";
/// The files of a folder that are read.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// Folders in folders, at most; a symbolic link that goes round in a circle ends here.
const DEPTH: usize = 16;

/// A text and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The path as the user wrote it, or [`STDIN`].
    pub(crate) name: String,
    /// Its content.
    pub(crate) text: String,
}

impl Source {
    /// How messages call it.
    pub(crate) fn display(&self) -> &str {
        if self.name == STDIN { "standard input" } else { &self.name }
    }
}

/// Reads what is named, in that order; of a folder everything that is YAML or JSON by its name, sorted.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).context("standard input")?;
            sources.push(source(STDIN.to_owned(), bytes)?);
        } else if path.is_dir() {
            let mut found = BTreeSet::new();
            list(path, DEPTH, &mut found)?;
            for path in found {
                sources.push(file(&path)?);
            }
        } else {
            sources.push(file(path)?);
        }
    }
    Ok(sources)
}

/// Reads one file.
pub(crate) fn file(path: &Path) -> anyhow::Result<Source> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    source(path.display().to_string(), bytes)
}

fn source(name: String, bytes: Vec<u8>) -> anyhow::Result<Source> {
    let text = String::from_utf8(bytes).with_context(|| name.clone())?;
    // Editors of some systems begin a file so; no reader of YAML or JSON wants it.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(Source { name, text })
}

fn list(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.is_dir() {
            if depth > 0 {
                list(&path, depth - 1, found)?;
            }
        } else if path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known)) {
            found.insert(path);
        }
    }
    Ok(())
}
