//! What is not the operator's to change: Istio's sample that somebody applied, and another MeshInstall's addon.

use anyhow::{Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use names::resources::MESH_NAMESPACE;

use super::{event, get, mesh_install, says, set};
use crate::scenarios::mesh::{STARTED, sample};

/// Its objects stay as they are, the condition names one and says what to do, the mesh is Ready; when they go the
/// operator's come.
pub(super) async fn the_samples_own(kube: &KubeBox) -> Result<()> {
    let file = sample("addons/prometheus.yaml")?.display().to_string();
    kube.kubectl_ok(&["apply", "-f", &file]).await?;
    let objects = ["configmap/prometheus", "serviceaccount/prometheus", "service/prometheus"];
    let mut before = Vec::new();
    for object in objects {
        before.push(get(kube, MESH_NAMESPACE, object).await?);
    }

    set(kube, r#"{"prometheus": {}}"#).await?;
    let message = says(kube, "default", "False", "ForeignObject").await?;
    for words in ["spec.addons.prometheus", "istio-system/prometheus exists", "left as it is", "remove that object"] {
        ensure!(message.contains(words), "the message does not say {words:?}: {message}");
    }
    event(kube, "ForeignObject", "spec.addons.prometheus").await?;
    let deployment = get(kube, MESH_NAMESPACE, "deployment/prometheus").await?;
    ensure!(deployment["metadata"]["ownerReferences"].is_null(), "the sample's Deployment was taken over");
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array().map_or(0, Vec::len);
    ensure!(containers == 2, "the sample's Deployment has {containers} containers, not its 2");
    for (object, before) in objects.iter().zip(before) {
        let after = get(kube, MESH_NAMESPACE, object).await?;
        let version = |of: &serde_json::Value| of["metadata"]["resourceVersion"].clone();
        ensure!(version(&after) == version(&before), "{object} of the sample was written to");
    }
    let role = kube.kubectl(&["get", "clusterrole", "prometheus-istio-system"]).await?;
    ensure!(!role.status.success(), "a part of the addon was made beside the sample's");

    // Switched off again, nothing of somebody else's goes.
    set(kube, r#"{"prometheus": {"enabled": false}}"#).await?;
    says(kube, "default", "True", "NoAddons").await?;
    get(kube, MESH_NAMESPACE, "deployment/prometheus").await?;

    set(kube, r#"{"prometheus": {"enabled": true}}"#).await?;
    says(kube, "default", "False", "ForeignObject").await?;
    kube.kubectl_ok(&["delete", "--wait=false", "-f", &file]).await?;
    says(kube, "default", "True", "Available").await?;
    let owner = get(kube, MESH_NAMESPACE, "deployment/prometheus").await?["metadata"]["ownerReferences"][0].clone();
    ensure!(owner["kind"] == "MeshInstall" && owner["name"] == "default", "the operator's has the owner {owner}");
    Ok(())
}

/// Two revisions in a namespace ask for the same: the first has it, the second is told, and takes nothing with it.
pub(super) async fn another_installs(kube: &KubeBox) -> Result<()> {
    let uid = |object: serde_json::Value| object["metadata"]["uid"].clone();
    let before = uid(get(kube, MESH_NAMESPACE, "deployment/prometheus").await?);
    kube.apply(&mesh_install("canary", "{prometheus: {}, jaeger: {}}")).await?;
    kube.wait_for("default", "mi/canary", "condition=Ready", STARTED).await?;
    let message = says(kube, "canary", "False", "AddonTaken").await?;
    for words in ["istio-system/prometheus is MeshInstall default's", "spec.addons.jaeger: Service istio-system/"] {
        ensure!(message.contains(words), "the message does not say {words:?}: {message}");
    }
    says(kube, "default", "True", "Available").await?;
    kube.kubectl_ok(&["delete", "mi", "canary", "--timeout=120s"]).await?;
    ensure!(
        uid(get(kube, MESH_NAMESPACE, "deployment/prometheus").await?) == before,
        "the first one's addon was replaced"
    );
    Ok(())
}
