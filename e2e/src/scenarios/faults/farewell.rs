//! The operator taken away before its meshes: refused in words; and where somebody insists, told on the MeshInstall, and
//! never a deletion that hangs.

use std::time::Instant;

use anyhow::{Result, ensure};
use forestay_e2e::kube_box::KubeBox;

use super::{insist, installed, operator_available, process, ready, refused, says, uninstalled};
use crate::scenarios::mesh::{SOON, STARTED, config};

/// `kubectl delete -f config/install.yaml` with a MeshInstall, a scaled down operator, and one that is removed by force.
pub(crate) async fn operator_first(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    let install = config("install.yaml").display().to_string();
    let before = kube.kubectl_ok(&["get", "crd,clusterroles,clusterrolebindings", "-o", "name"]).await?;
    let begun = Instant::now();
    let error = refused(kube, &["delete", "-f", &install]).await?;
    println!("    refused after {:.1} s", begun.elapsed().as_secs_f64());
    for part in ["MeshInstall default is still there", "kubectl delete meshinstall default"] {
        ensure!(error.contains(part), "kubectl does not say {part}: {error}");
    }
    for what in [
        "namespaces \"forestay-system\"",
        "deployments.apps \"forestay-operator\"",
        "meshinstalls.install.forestay.dev",
    ] {
        ensure!(error.contains(what), "nothing is said of {what}: {error}");
    }
    let after = kube.kubectl_ok(&["get", "crd,clusterroles,clusterrolebindings", "-o", "name"]).await?;
    ensure!(before == after, "of\n{before}\nthere is left\n{after}");
    ready(kube, "default").await?;

    // Scaled to nothing: told, and a deletion tells what it waits for.
    process::scale(kube, 0).await?;
    says(kube, "default", "Ready", "Unknown", "OperatorGone", &["Scale it up"]).await?;
    kube.kubectl_ok(&["delete", "mi", "default", "--wait=false"]).await?;
    process::scale(kube, 1).await?;
    operator_available(kube).await?;
    kube.wait_for("default", "mi/default", "delete", STARTED).await?;

    // Removed by somebody who insists: what it made goes by its owner references.
    installed(kube).await?;
    insist(kube).await?;
    let delete = ["-n", "forestay-system", "delete", "deployment", "forestay-operator", "--timeout=60s"];
    kube.eventually("the operator's Deployment deleted", SOON, || async { kube.kubectl_ok(&delete).await }).await?;
    says(kube, "default", "Ready", "Unknown", "OperatorGone", &["owner references"]).await?;
    kube.kubectl_ok(&["delete", "mi", "default", "--timeout=60s"]).await?;
    let owned = format!("{}=default", names::labels::OWNED_BY);
    kube.eventually("nothing of the mesh left", STARTED, || async {
        let kinds = "deployments,services,configmaps,mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles";
        let left = kube.kubectl_ok(&["get", kinds, "-A", "-l", &owned, "-o", "name"]).await?;
        ensure!(left.trim().is_empty(), "left: {left}");
        Ok(())
    })
    .await?;

    // In the right order nothing is refused, and nothing is left.
    kube.kubectl_ok(&["apply", "-f", &install]).await?;
    operator_available(kube).await?;
    installed(kube).await?;
    uninstalled(kube, "default").await?;
    kube.kubectl_ok(&["delete", "-f", &install, "--timeout=180s"]).await?;
    let left = kube.kubectl_ok(&["get", "crd,namespace", "-o", "name"]).await?;
    ensure!(!left.contains("istio.io") && !left.contains("forestay"), "left: {left}");
    // As the group began.
    kube.kubectl_ok(&["apply", "-f", &install]).await?;
    operator_available(kube).await
}
