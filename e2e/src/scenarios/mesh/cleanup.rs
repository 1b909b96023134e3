//! `kubectl delete mi`: what was made goes, webhook configurations first, and pods can be created again at once.

use anyhow::{Result, ensure};

use super::{SOON, STARTED};
use forestay_e2e::kube_box::KubeBox;

/// Deletes the MeshInstall and looks for what it left.
pub(crate) async fn cleanup(kube: &KubeBox) -> Result<()> {
    // Bookinfo uses the revision: the deletion says so and waits, until somebody says not to.
    kube.kubectl_ok(&["delete", "mi", "default", "--wait=false"]).await?;
    kube.eventually("the deletion waiting", SOON, || async {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].message}";
        let message = kube.kubectl_ok(&["get", "mi", "default", "-o", path]).await?;
        ensure!(message.contains("waiting until nobody uses the revision"), "{message}");
        Ok(())
    })
    .await?;
    let force = format!("{}=true", names::annotations::FORCE_DELETE);
    kube.kubectl_ok(&["annotate", "mi", "default", &force]).await?;
    kube.kubectl_ok(&["wait", "--for=delete", "mi/default", "--timeout=240s"]).await?;
    let left = kube
        .kubectl_ok(&["get", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "-o", "name"])
        .await?;
    ensure!(left.trim().is_empty(), "webhook configurations are left: {left}");

    // The namespace still asks for injection: with the webhook gone its pods must come up all the same, without one.
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: after, namespace: default}, spec: {containers: [{name: app, image: 'docker.io/curlimages/curl:8.16.0', command: [/bin/sleep, infinity]}]}}";
    kube.apply(pod).await?;
    kube.wait_for("default", "pod/after", "condition=Ready", STARTED).await?;

    let kinds = "deployments,services,serviceaccounts,configmaps,secrets,roles,rolebindings,poddisruptionbudgets";
    let owned = format!("{}=default", names::labels::OWNED_BY);
    kube.eventually("nothing of the mesh left", STARTED, || async {
        let left = kube.kubectl_ok(&["-n", "istio-system", "get", kinds, "-l", &owned, "-o", "name"]).await?;
        ensure!(left.trim().is_empty(), "left in istio-system: {left}");
        let left = kube.kubectl_ok(&["get", "clusterroles,clusterrolebindings", "-l", &owned, "-o", "name"]).await?;
        ensure!(left.trim().is_empty(), "left in the cluster: {left}");
        Ok(())
    })
    .await?;
    // The CA's root stays, so that a mesh installed again keeps its identities.
    kube.kubectl_ok(&["-n", "istio-system", "get", "secret", "istio-ca-secret"]).await?;
    Ok(())
}
