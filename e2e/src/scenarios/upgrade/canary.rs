//! A second revision: upgraded while its operator is killed, then given the workloads by a tag.

use anyhow::{Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use names::resources::{MESH_NAMESPACE, OPERATOR, OPERATOR_NAMESPACE};
use names::{NEXT_VERSION, VERSION};

use super::in_place::{parts, restart_all};
use super::watched::Watched;
use super::{in_force, load, patch, says, unharmed};
use crate::scenarios::admission::load::Load as Admissions;
use crate::scenarios::mesh::{SOON, STARTED};

const CANARY: &str = "canary";

/// At the beginning of each step the operator is killed, without time to give up its Lease; the next one goes on.
pub(crate) async fn operator_killed(kube: &KubeBox) -> Result<()> {
    kube.apply(&format!(
        r"
apiVersion: install.forestay.dev/v1alpha1
kind: MeshInstall
metadata: {{name: {CANARY}}}
spec: {{profile: minimal, revision: {CANARY}, version: {VERSION}}}
"
    ))
    .await?;
    // A newer operator installs the version before, too.
    in_force(kube, CANARY, VERSION).await?;
    says(kube, CANARY, "UpToDate", "False UpgradeAvailable", NEXT_VERSION).await?;

    let watched = Watched::start(kube, CANARY, NEXT_VERSION)?;
    patch(kube, CANARY, &format!("{{\"version\": {NEXT_VERSION:?}}}")).await?;
    let parts = parts(CANARY);
    for part in &parts {
        kube.eventually(&format!("{part} on its way"), STARTED, || async {
            let image = "jsonpath={.spec.template.spec.containers[0].image}";
            let image = kube.kubectl_ok(&["-n", MESH_NAMESPACE, "get", "deploy", part, "-o", image]).await?;
            ensure!(image.ends_with(&format!(":{NEXT_VERSION}")), "it has {image}");
            Ok(())
        })
        .await?;
        let operator = format!("app.kubernetes.io/name={OPERATOR}");
        let kill = ["-n", OPERATOR_NAMESPACE, "delete", "pod", "-l", &operator, "--grace-period=0", "--force"];
        // One may have ended between kubectl's list and its request.
        kube.kubectl_ok(&[kill.as_slice(), &["--ignore-not-found"]].concat()).await?;
    }
    in_force(kube, CANARY, NEXT_VERSION).await?;
    let [control_plane, webhook] = parts;
    let order = ["moved", "whole"].map(|what| [format!("{control_plane} {what}"), format!("{webhook} {what}")]);
    let [[first, third], [second, fourth]] = order;
    watched.in_order(&[&first, &second, &third, &fourth, "injection moved"]).await?;
    // The other revision has not noticed.
    in_force(kube, "default", NEXT_VERSION).await
}

/// The tag leads to the first revision, then to the canary; pods that come get the one that it leads to.
pub(crate) async fn tag_moves(kube: &KubeBox) -> Result<()> {
    let load = load(kube).await?;
    point(kube, "default").await?;
    kube.kubectl_ok(&["label", "namespace", "default", "istio-injection-", "istio.io/rev=prod"]).await?;
    leads_to(kube, "default").await?;
    restart_all(kube).await?;
    revision(kube, "default").await?;

    let admissions = Admissions::start(kube, "default", 2, true)?;
    point(kube, CANARY).await?;
    leads_to(kube, CANARY).await?;
    admissions.all_admitted().await?;
    // Both revisions' sidecars and the gateway speak to each other all the while.
    restart_all(kube).await?;
    revision(kube, CANARY).await?;
    unharmed(kube, load).await
}

/// Waits until a new pod gets this revision: the API server heeds a configuration a moment after it has it.
async fn leads_to(kube: &KubeBox, revision: &str) -> Result<()> {
    kube.eventually("a new pod of the revision", SOON, || async {
        let dry = ["-n", "default", "run", "probe", "--image=none", "--dry-run=server", "-o"];
        let path = "jsonpath={.metadata.annotations.istio\\.io/rev}";
        let found = kube.kubectl_ok(&[&dry[..], &[path]].concat()).await?;
        ensure!(found == revision, "it gets {found}");
        Ok(())
    })
    .await
}

/// Points the tag at a MeshInstall and waits until it leads there.
async fn point(kube: &KubeBox, install: &str) -> Result<()> {
    kube.apply(&format!(
        r"
apiVersion: install.forestay.dev/v1alpha1
kind: MeshRevisionTag
metadata: {{name: prod}}
spec: {{targetRef: {{kind: MeshInstall, name: {install}}}}}
"
    ))
    .await?;
    kube.eventually("the tag Ready", SOON, || async {
        let path = "jsonpath={.status.revision} {.status.conditions[?(@.type==\"Ready\")].status}";
        let found = kube.kubectl_ok(&["get", "mrt", "prod", "-o", path]).await?;
        ensure!(found == format!("{install} True"), "it is {found}");
        Ok(())
    })
    .await
}

/// Every pod of Bookinfo must have the sidecar of this revision.
async fn revision(kube: &KubeBox, revision: &str) -> Result<()> {
    let path = "jsonpath={.items[*].metadata.annotations.istio\\.io/rev}";
    let found = kube.kubectl_ok(&["-n", "default", "get", "pods", "-o", path]).await?;
    ensure!(found.split(' ').all(|one| one == revision), "the pods' revisions are {found}");
    Ok(())
}
