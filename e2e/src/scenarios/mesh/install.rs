//! `kubectl apply` of the operator and of a MeshInstall, until `Ready`.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::{STARTED, config, operator_installed};
use forestay_e2e::kube_box::KubeBox;

/// Applies the operator's manifests and a MeshInstall and waits as the README says.
pub(crate) async fn install(kube: &KubeBox) -> Result<()> {
    operator_installed(kube).await?;
    let applied = Instant::now();
    kube.kubectl_ok(&["apply", "-f", &config("samples/meshinstall.yaml").display().to_string()]).await?;
    kube.wait_for("default", "mi/default", "condition=Ready", STARTED).await?;
    println!("    MeshInstall to Ready: {:.1} s", applied.elapsed().as_secs_f64());

    for condition in ["Reconciled", "ControlPlaneReady", "WebhookReady", "GatewaysReady", "Ready"] {
        let path = format!(
            "jsonpath={{.status.conditions[?(@.type==\"{condition}\")].status}} {{.status.conditions[?(@.type==\"{condition}\")].observedGeneration}}"
        );
        let found = kube.kubectl_ok(&["get", "mi", "default", "-o", &path]).await?;
        ensure!(found == "True 1", "condition {condition}: status and observedGeneration are {found:?}");
    }
    let table = kube.kubectl_ok(&["get", "mi"]).await?;
    let (head, row) = table.split_once('\n').context("kubectl get mi prints no table")?;
    for column in ["NAME", "VERSION", "REVISION", "READY", "STATUS", "AGE"] {
        ensure!(head.contains(column), "kubectl get mi has no column {column}:\n{table}");
    }
    for value in ["default", "True", names::VERSION] {
        ensure!(row.contains(value), "kubectl get mi does not say {value}:\n{table}");
    }
    Ok(())
}
