//! Istio's definitions missing, or newer than ours: a condition says so, what runs goes on, and the operator changes nothing.

use anyhow::{Result, ensure};
use forestay_e2e::kube_box::KubeBox;

use super::{installed, ready, refused, says};
use crate::scenarios::mesh::{SOON, config};

const MISSING: &str = "wasmplugins.extensions.istio.io";
const NEWER: &str = "virtualservices.networking.istio.io";

/// One goes, another becomes newer, and both are put right again.
pub(crate) async fn missing(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    let error = refused(kube, &["delete", "crd", MISSING]).await?;
    ensure!(error.contains("MeshInstall default is still there"), "kubectl says {error}");
    super::insist(kube).await?;
    // The API server takes a moment to see it.
    kube.eventually("the definition deleted", SOON, || async {
        kube.kubectl_ok(&["delete", "crd", MISSING, "--ignore-not-found", "--timeout=60s"]).await.map(drop)
    })
    .await?;
    let ignore = format!("{}-", names::annotations::IGNORE);
    let binding = ["annotate", "validatingadmissionpolicybinding", names::resources::GUARD, &ignore];
    kube.kubectl_ok(&binding).await?;
    says(kube, "default", "DefinitionsReady", "False", "DefinitionsMissing", &[MISSING, "is missing", "config/crd"])
        .await?;
    says(kube, "default", "Ready", "False", "DefinitionsMissing", &[MISSING]).await?;
    for part in ["Reconciled", "ControlPlaneReady", "WebhookReady", "GatewaysReady"] {
        let install = super::mesh_install(kube, "default").await?;
        let said = super::condition(&install, part);
        ensure!(said["status"] == "True", "what ran before does not run on: {said}");
    }
    let file = config(&format!("crd/{MISSING}.yaml")).display().to_string();
    kube.kubectl_ok(&["apply", "-f", &file]).await?;
    ready(kube, "default").await?;

    let generation = ["get", "crd", NEWER, "-o", "jsonpath={.metadata.generation} {.spec.versions[*].name}"];
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/shadowing";
    let patch = format!(r#"[{{"op": "add", "path": "{field}", "value": {{"type": "string"}}}}]"#);
    kube.kubectl_ok(&["patch", "crd", NEWER, "--type=json", "-p", &patch]).await?;
    let before = kube.kubectl_ok(&generation).await?;
    says(kube, "default", "DefinitionsReady", "True", "DefinitionsDiffer", &[NEWER, "spec.shadowing", "newer"]).await?;
    ready(kube, "default").await?;
    let after = kube.kubectl_ok(&generation).await?;
    ensure!(before == after, "the newer definition was changed, from {before} to {after}");
    let patch = format!(r#"[{{"op": "remove", "path": "{field}"}}]"#);
    kube.kubectl_ok(&["patch", "crd", NEWER, "--type=json", "-p", &patch]).await?;
    says(kube, "default", "DefinitionsReady", "True", "DefinitionsCurrent", &[]).await
}
