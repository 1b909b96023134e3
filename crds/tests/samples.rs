//! Upstream's own YAML, read in place: `$FORESTAY_SAMPLES`, by default `../shared/samples` beside the workspace. Every
//! document of a kind that has a type here is read and found in order.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::path::{Path, PathBuf};

use crds::check::{Problem, Severity};
use crds::networking::{destination_rule, gateway, service_entry, virtual_service};
use crds::parse;
use crds::security::peer_authentication;
use crds::yaml::Document;
use forestay_crds as crds;

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

/// Nothing for a kind without a type here.
fn problems(document: &Document) -> Option<Result<Vec<Problem>, String>> {
    macro_rules! check {
        ($kind:ty) => {
            parse::<$kind>(document.value.clone()).map(|object| object.spec.check()).map_err(|error| error.to_string())
        };
    }
    Some(match (document.group(), document.kind()) {
        ("networking.istio.io", "VirtualService") => check!(virtual_service::VirtualService),
        ("networking.istio.io", "DestinationRule") => check!(destination_rule::DestinationRule),
        ("networking.istio.io", "Gateway") => check!(gateway::Gateway),
        ("networking.istio.io", "ServiceEntry") => check!(service_entry::ServiceEntry),
        ("security.istio.io", "PeerAuthentication") => check!(peer_authentication::PeerAuthentication),
        _ => return None,
    })
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
    let (mut read, mut wrong) = (0, Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        // Some files are Helm templates or patches and no YAML of their own; what is YAML is read.
        for document in crds::yaml::documents(&text).into_iter().flatten() {
            let place = format!("{}:{}", file.display(), document.line);
            match problems(&document) {
                None => continue,
                Some(Err(error)) => wrong.push(format!("{place}: {error}")),
                Some(Ok(problems)) => wrong.extend(
                    problems.iter().filter(|one| one.severity == Severity::Error).map(|one| format!("{place}: {one}")),
                ),
            }
            read += 1;
        }
    }
    println!("{read} documents of our kinds");
    assert!(read > 20, "only {read} documents of our kinds: is this the right folder?");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
