//! Keeping what a failure needs: logs, objects, events, the node's network.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result};

use super::KubeBox;
use super::layout::Layout;

/// What is asked of the API server, and the file that takes the answer.
const QUESTIONS: [(&str, &[&str]); 8] = [
    ("all.txt", &["get", "all,configmaps,serviceaccounts", "-A", "-o", "wide"]),
    ("events.txt", &["get", "events", "-A", "--sort-by=.lastTimestamp"]),
    ("pods.yaml", &["get", "pods", "-A", "-o", "yaml"]),
    ("pods.describe.txt", &["describe", "pods", "-A"]),
    ("services.yaml", &["get", "services,endpointslices", "-A", "-o", "yaml"]),
    ("workloads.yaml", &["get", "deployments,replicasets,statefulsets,daemonsets,jobs", "-A", "-o", "yaml"]),
    ("webhooks.yaml", &["get", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "-o", "yaml"]),
    ("nodes.describe.txt", &["describe", "nodes"]),
];

/// Each question has its own deadline: the API server may be what failed.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) async fn collect(kube_box: &KubeBox, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("mkdir {}", folder.display()))?;
    logs(&kube_box.layout, folder)?;
    let status = match kube_box.status() {
        Ok(status) => serde_json::to_string_pretty(&status)?,
        Err(error) => format!("{error:#}"),
    };
    save(folder, "parts.json", status.as_bytes())?;
    for (file, question) in QUESTIONS {
        save_answer(folder, file, kube_box.kubectl(question)).await?;
    }
    // Whatever was added to the API: a mesh's own kinds are what a mesh's tests are about.
    let kinds = kube_box.kubectl_ok(&["get", "crds", "-o", "jsonpath={.items[*].metadata.name}"]);
    if let Ok(Ok(kinds)) = tokio::time::timeout(PATIENCE, kinds).await
        && !kinds.trim().is_empty()
    {
        let kinds = kinds.split_whitespace().collect::<Vec<_>>().join(",");
        save_answer(folder, "custom-resources.yaml", kube_box.kubectl(&["get", &kinds, "-A", "-o", "yaml"])).await?;
    }
    for (file, program, arguments) in [
        ("addresses.txt", "ip", &["addr"] as &[&str]),
        ("routes.txt", "ip", &["route", "show", "table", "all"]),
        ("nftables.txt", "nft", &["list", "ruleset"]),
        ("sockets.txt", "ss", &["-tanp"]),
    ] {
        let output = tokio::process::Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", kube_box.init))
            .arg(program)
            .args(arguments)
            .kill_on_drop(true)
            .output();
        save_answer(folder, file, async { Ok(output.await?) }).await?;
    }
    Ok(())
}

/// The parts' and the pods' logs only: all there is of a box that did not come up.
pub(crate) fn logs(layout: &Layout, folder: &Path) -> Result<()> {
    for name in ["log", "podlogs"] {
        copy_tree(&layout.path(name), &folder.join(name))?;
    }
    Ok(())
}

async fn save_answer(folder: &Path, file: &str, answer: impl Future<Output = Result<Output>>) -> Result<()> {
    let text = match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(output)) => [output.stdout, output.stderr].concat(),
        Ok(Err(error)) => format!("{error:#}\n").into_bytes(),
        Err(_) => format!("no answer within {} s\n", PATIENCE.as_secs()).into_bytes(),
    };
    save(folder, file, &text)
}

fn save(folder: &Path, file: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(file);
    fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
}

/// Copies regular files; what vanishes meanwhile is not missed.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("mkdir {}", to.display()))?;
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    for entry in entries.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy_tree(&path, &target)?,
            Ok(kind) if kind.is_file() => drop(fs::copy(&path, &target)),
            _ => {}
        }
    }
    Ok(())
}

/// The last lines of a log, for an error message.
pub(crate) fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}
