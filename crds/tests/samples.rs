//! Upstream's own YAML, read in place: `$FORESTAY_SAMPLES`, by default `../shared/samples` beside the workspace. Every
//! document of Istio's kinds is accepted: by the schema, by the check, and with no field that the kind does not have.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forestay_crds::check::Severity;
use forestay_crds::kinds::Kind;
use forestay_crds::yaml::documents;

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn upstreams_yaml_is_in_order() {
    let folder = std::env::var("FORESTAY_SAMPLES")
        .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples"), PathBuf::from);
    let mut files = Vec::new();
    yaml_files(&folder, &mut files);
    if files.is_empty() {
        eprintln!("SKIPPED: no samples in {} (set FORESTAY_SAMPLES)", folder.display());
        return;
    }
    let (mut read, mut wrong) = (BTreeMap::new(), Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        // Some files are Helm templates or patches and no YAML of their own; what is YAML is read.
        for document in documents(&text).into_iter().flatten() {
            let Some(kind) = Kind::of(document.group(), document.kind()) else { continue };
            *read.entry(kind).or_insert(0) += 1;
            let place = format!("{}:{}", file.display(), document.line);
            let version = document.api_version().rsplit('/').next().unwrap_or_default();
            if !kind.versions().contains(&version) {
                wrong.push(format!("{place}: {} is not served in {version}", kind.name()));
            }
            wrong.extend(kind.unknown_fields(&document.value).iter().map(|field| format!("{place}: unknown {field}")));
            wrong.extend(kind.schema_problems(&document.value).iter().map(|problem| format!("{place}: {problem}")));
            match kind.check(document.value.clone()) {
                Err(error) => wrong.push(format!("{place}: {error}")),
                Ok(problems) => wrong.extend(
                    problems.iter().filter(|one| one.severity == Severity::Error).map(|one| format!("{place}: {one}")),
                ),
            }
        }
    }
    println!("{read:?}");
    let total: i32 = read.values().sum();
    assert!(total > 20, "only {total} documents of our kinds: is this the right folder?");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
