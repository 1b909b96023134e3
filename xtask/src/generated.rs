//! Files that code makes and that are committed: written, or compared with what is committed.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

/// Files by their path from the workspace's root.
pub(crate) type Files = BTreeMap<String, String>;

/// What a chore generates.
pub(crate) struct Generated {
    /// The chore that writes it, as it is called.
    pub(crate) chore: &'static str,
    /// What it makes.
    pub(crate) files: Files,
    /// The folders, with all below them, in which nothing else may be.
    pub(crate) folders: &'static [&'static str],
    /// The files in these folders that stay as they are.
    pub(crate) kept: Vec<String>,
}

impl Generated {
    /// Writes what has changed and removes what nothing makes any more.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        let committed = self.committed(root)?;
        for path in committed.keys().filter(|path| !self.files.contains_key(*path)) {
            fs::remove_file(root.join(path)).with_context(|| format!("removing {path}"))?;
            println!("removed {path}");
        }
        for (path, content) in &self.files {
            if committed.get(path) != Some(content) {
                let file = root.join(path);
                if let Some(folder) = file.parent() {
                    fs::create_dir_all(folder).with_context(|| format!("making the folder of {path}"))?;
                }
                fs::write(file, content).with_context(|| format!("writing {path}"))?;
                println!("{:>7} bytes {path}", content.len());
            }
        }
        Ok(())
    }

    /// What is wrong with the committed files.
    pub(crate) fn problems(&self, root: &Path) -> Result<Vec<String>> {
        Ok(self.differences(&self.committed(root)?))
    }

    /// The generated files as they are in the work tree, and every other file in the folders.
    fn committed(&self, root: &Path) -> Result<Files> {
        let mut paths: Vec<String> = self.files.keys().cloned().collect();
        for folder in self.folders {
            below(root, folder, &mut paths)?;
        }
        paths.retain(|path| !self.kept.contains(path));
        let read = |path: String| fs::read_to_string(root.join(&path)).ok().map(|content| (path, content));
        Ok(paths.into_iter().filter_map(read).collect())
    }

    fn differences(&self, committed: &Files) -> Vec<String> {
        let chore = self.chore;
        let mut problems = Vec::new();
        for (path, content) in &self.files {
            match committed.get(path) {
                None => problems.push(format!("{path}: missing; run `{chore}`")),
                Some(text) if text != content => {
                    problems.push(format!("{path}: not what the code says; run `{chore}`"));
                }
                Some(_) => {}
            }
        }
        for path in committed.keys().filter(|path| !self.files.contains_key(*path)) {
            problems.push(format!("{path}: nothing generates it; run `{chore}`"));
        }
        problems
    }
}

/// The files in a folder and in the folders in it. A folder that is not there has none.
fn below(root: &Path, folder: &str, paths: &mut Vec<String>) -> Result<()> {
    let Ok(entries) = root.join(folder).read_dir() else { return Ok(()) };
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {folder}"))?;
        let Some(path) = entry.file_name().to_str().map(|name| format!("{folder}/{name}")) else { continue };
        if entry.file_type()?.is_dir() {
            below(root, &path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Files, Generated};

    fn files(files: &[(&str, &str)]) -> Files {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    fn generated(made: &[(&str, &str)], kept: &[&str]) -> Generated {
        let kept = kept.iter().map(|path| (*path).to_owned()).collect();
        Generated { chore: "cargo xtask it", files: files(made), folders: &["made"], kept }
    }

    #[test]
    fn stale_missing_and_left_over_files_are_found() {
        let generated = generated(&[("made/same", "1"), ("made/stale", "2"), ("made/missing", "3")], &[]);
        let committed = files(&[("made/same", "1"), ("made/stale", "0"), ("made/old", "")]);
        let problems = generated.differences(&committed);
        let begin: Vec<&str> = problems.iter().filter_map(|problem| problem.split(':').next()).collect();
        assert_eq!(begin, ["made/missing", "made/stale", "made/old"]);
    }

    #[test]
    fn what_is_written_is_current_and_what_is_kept_stays() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("made/deep");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("old"), "left over").unwrap();
        std::fs::write(folder.join("kept"), "as it was").unwrap();
        let generated = generated(&[("made/deep/new", "1"), ("elsewhere", "2")], &["made/deep/kept"]);
        assert_eq!(generated.problems(root.path()).unwrap().len(), 3);
        generated.write(root.path()).unwrap();
        assert_eq!(generated.problems(root.path()).unwrap(), Vec::<String>::new());
        assert!(!folder.join("old").exists() && folder.join("kept").exists());
    }
}
