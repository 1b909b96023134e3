//! The verbs as people call them: the program is run, and what it prints and how it ends is looked at.
//!
//! Inputs are our own small files, and upstream's samples, read in place (`$FORESTAY_SAMPLES`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test fails by panicking

mod api_server;
mod check_inject;
mod completion;
mod kube_inject;
mod validate;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How a run ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

/// Runs `forestay` without any cluster but one that the arguments name.
fn forestay(arguments: &[&str]) -> Ended {
    forestay_reading(arguments, "")
}

fn forestay_reading(arguments: &[&str], stdin: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forestay"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent").env("KUBECONFIG", "/nonexistent");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever does not read it ends early; that is told by the exit code.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// A folder of upstream's samples; nothing where there are none.
fn samples(folder: &str) -> Option<PathBuf> {
    let root = std::env::var("FORESTAY_SAMPLES")
        .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples"), PathBuf::from);
    let folder = root.join(folder);
    if folder.exists() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no {} (set FORESTAY_SAMPLES)", folder.display());
    None
}

#[test]
fn a_command_line_that_cannot_be_meant_ends_with_64() {
    let rows: [(&str, &[&str]); 6] = [
        ("no verb", &[]),
        ("an unknown verb", &["analyse-everything"]),
        ("an unknown flag", &["version", "--nothing"]),
        ("validate without a file", &["validate"]),
        ("kube-inject without a file", &["kube-inject"]),
        ("a name that names nothing", &["x", "check-inject", "service/a"]),
    ];
    for (name, arguments) in rows {
        let ended = forestay(arguments);
        assert_eq!(ended.code, 64, "{name}: {ended:?}");
        assert!(ended.out.is_empty() && !ended.err.is_empty(), "{name}: {ended:?}");
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    let ended = forestay(&["--help"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    for verb in ["kube-inject", "validate", "experimental", "completion", "version"] {
        assert!(ended.out.contains(&format!("\n  {verb}")), "{}", ended.out);
    }
    assert_eq!(forestay(&["--version"]).code, 0);
    let ended = forestay(&["version", "--remote=false"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    assert!(ended.out.starts_with("client version: "), "{ended:?}");
}

#[test]
fn a_kubeconfig_that_is_named_must_be_there() {
    for arguments in [
        &["x", "check-inject", "a", "--kubeconfig", "/nonexistent/config"][..],
        &["kube-inject", "-f", "-", "-c", "/nonexistent/config"],
        &["validate", "-f", "-", "-c", "/nonexistent/config"],
    ] {
        let ended = forestay(arguments);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.err.contains("/nonexistent/config"), "{ended:?}");
    }
}
