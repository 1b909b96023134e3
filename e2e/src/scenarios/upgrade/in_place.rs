//! One MeshInstall, taken to the next version where it is.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use names::resources::{MESH_NAMESPACE, injector, istiod};
use names::{DEFAULT_REVISION, NEXT_VERSION, VERSION};

use super::watched::Watched;
use super::{condition, field, in_force, load, next_operator, patch, says, unharmed};
use crate::scenarios::mesh::{SOON, STARTED};

/// Every pod of mesh and workloads, with how often its containers started.
async fn pods(kube: &KubeBox) -> Result<BTreeSet<String>> {
    let row = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
    let mut all = BTreeSet::new();
    for namespace in [MESH_NAMESPACE, "default"] {
        let listed = kube.kubectl_ok(&["-n", namespace, "get", "pods", "-o", row]).await?;
        all.extend(listed.lines().map(str::to_owned));
    }
    Ok(all)
}

/// The operator of the next version serves the mesh as it is, and says that there is a newer one.
pub(crate) async fn operator_first(kube: &KubeBox) -> Result<()> {
    let load = load(kube).await?;
    let before = pods(kube).await?;
    next_operator(kube).await?;
    says(kube, "default", "UpToDate", "False UpgradeAvailable", &format!("\"version\":\"{NEXT_VERSION}\"")).await?;
    in_force(kube, "default", VERSION).await?;
    let after = pods(kube).await?;
    ensure!(after == before, "pods changed, from\n{before:#?}\nto\n{after:#?}");
    unharmed(kube, load).await
}

/// What the record of KEP-3659 leads to is all that the MeshInstall owns.
pub(crate) async fn record(kube: &KubeBox) -> Result<()> {
    let parent = "jsonpath={.metadata.labels.applyset\\.kubernetes\\.io/is-parent-type}";
    let parent = kube.kubectl_ok(&["get", "crd", "meshinstalls.install.forestay.dev", "-o", parent]).await?;
    ensure!(parent == "true", "the definition's label is-parent-type is {parent:?}");
    let tooling = field(kube, "default", ".metadata.annotations.applyset\\.kubernetes\\.io/tooling").await?;
    ensure!(tooling == format!("forestay-operator/v{NEXT_VERSION}"), "the tooling is {tooling:?}");
    let id = field(kube, "default", ".metadata.labels.applyset\\.kubernetes\\.io/id").await?;
    let kinds = field(kube, "default", ".metadata.annotations.applyset\\.kubernetes\\.io/contains-group-kinds").await?;
    let namespaces =
        field(kube, "default", ".metadata.annotations.applyset\\.kubernetes\\.io/additional-namespaces").await?;
    ensure!(namespaces == MESH_NAMESPACE, "the namespaces are {namespaces:?}");
    let row = "jsonpath={range .items[*]}{.kind} {.metadata.name}{\"\\n\"}{end}";
    let by = async |label: String| {
        let listed = kube.kubectl_ok(&["get", &kinds.to_lowercase(), "-A", "-l", &label, "-o", row]).await?;
        anyhow::Ok(listed.lines().map(str::to_owned).collect::<BTreeSet<_>>())
    };
    let members = by(format!("applyset.kubernetes.io/part-of={id}")).await?;
    let owned = by(format!("{}=default", names::labels::OWNED_BY)).await?;
    ensure!(members == owned && members.len() > 15, "the set has {members:#?}, the MeshInstall {owned:#?}");
    Ok(())
}

/// Each is told with its remedy; what runs is kept all the while.
pub(crate) async fn refused(kube: &KubeBox) -> Result<()> {
    let before = pods(kube).await?;
    for (version, reason, remedy) in [
        ("0.0.9", "DowngradeRefused", format!("set \"{VERSION}\"")),
        ("0.3.0", "UnknownVersion", format!("set \"{VERSION}\", which is in force, or install the operator")),
        ("1.0.0", "UnknownVersion", "of another major version".to_owned()),
        ("latest", "UnknownVersion", "is not a version".to_owned()),
    ] {
        patch(kube, "default", &format!("{{\"version\": {version:?}}}")).await?;
        let words = format!("spec.version: {version:?}");
        kube.eventually(&format!("version {version} refused"), SOON, || async {
            for of in ["Reconciled", "Stalled", "Ready"] {
                let found = condition(kube, "default", of).await?;
                let said = found.contains(reason) && found.contains(&remedy);
                ensure!(said && (found.contains(&words) || found.contains(version)), "{of}: {found}");
            }
            Ok(())
        })
        .await?;
    }
    // What is in force is still put back.
    let uid = "jsonpath={.metadata.uid}";
    let service = ["-n", MESH_NAMESPACE, "get", "service", "istio-sidecar-injector", "-o", uid];
    let first = kube.kubectl_ok(&service).await?;
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "delete", "service", "istio-sidecar-injector"]).await?;
    kube.eventually("a deleted Service put back", SOON, || async {
        ensure!(kube.kubectl_ok(&service).await? != first, "it is still there");
        Ok(())
    })
    .await?;
    ensure!(field(kube, "default", ".status.version").await? == VERSION, "another version is in force");
    patch(kube, "default", &format!("{{\"version\": {VERSION:?}}}")).await?;
    in_force(kube, "default", VERSION).await?;
    ensure!(condition(kube, "default", "Stalled").await?.is_empty(), "it is still stalled");
    ensure!(pods(kube).await? == before, "pods changed");
    Ok(())
}

/// The control plane's new image is not there: the sequence stops, everything serves, and there is a way back.
pub(crate) async fn stopped(kube: &KubeBox) -> Result<()> {
    let load = load(kube).await?;
    let missing = "docker.io/forestay/missing:1";
    patch(kube, "default", &format!("{{\"version\": {NEXT_VERSION:?}, \"controlPlane\": {{\"image\": {missing:?}}}}}"))
        .await?;
    says(kube, "default", "UpToDate", "False UpgradeStopped", &format!("Deployment {MESH_NAMESPACE}/istiod")).await?;
    let why = condition(kube, "default", "Ready").await?;
    for words in ["False ImagePullFailed", missing, "step 1 of 4", &format!("set spec.version back to \"{VERSION}\"")] {
        ensure!(why.contains(words), "Ready does not say {words:?}: {why}");
    }
    for part in ["WebhookReady", "GatewaysReady"] {
        let still = condition(kube, "default", part).await?;
        ensure!(still.starts_with("True Available"), "{part}: {still}");
    }
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    for part in ["istio-sidecar-injector", "istio-ingressgateway"] {
        let image = kube.kubectl_ok(&["-n", MESH_NAMESPACE, "get", "deploy", part, "-o", image]).await?;
        ensure!(image.ends_with(&format!(":{VERSION}")), "{part} has gone on to {image}");
    }
    // A pod that comes now gets the sidecar that the control plane in force knows.
    kube.kubectl_ok(&["-n", "default", "rollout", "restart", "deployment/details-v1"]).await?;
    kube.kubectl_ok(&["-n", "default", "rollout", "status", "deployment/details-v1", "--timeout=240s"]).await?;
    ensure!(field(kube, "default", ".status.dataPlane.outdated").await? == "0", "a new pod has another version");

    patch(kube, "default", &format!("{{\"version\": {VERSION:?}, \"controlPlane\": null}}")).await?;
    in_force(kube, "default", VERSION).await?;
    says(kube, "default", "UpToDate", "False UpgradeAvailable", NEXT_VERSION).await?;
    unharmed(kube, load).await
}

/// Control plane, webhook, injection, gateway: each after the one before is whole.
pub(crate) async fn upgraded(kube: &KubeBox) -> Result<()> {
    let load = load(kube).await?;
    let watched = Watched::start(kube, DEFAULT_REVISION, NEXT_VERSION)?;
    let begun = std::time::Instant::now();
    patch(kube, "default", &format!("{{\"version\": {NEXT_VERSION:?}}}")).await?;
    in_force(kube, "default", NEXT_VERSION).await?;
    println!("    upgraded in {:.1} s", begun.elapsed().as_secs_f64());
    watched
        .in_order(&[
            "istiod moved",
            "istiod whole",
            "istio-sidecar-injector moved",
            "istio-sidecar-injector whole",
            "injection moved",
        ])
        .await?;
    says(kube, "default", "UpToDate", "True Current", NEXT_VERSION).await?;
    kube.eventually("Bookinfo's sidecars counted as outdated", SOON, || async {
        let outdated = field(kube, "default", ".status.dataPlane.outdated").await?;
        ensure!(outdated == "6", "{outdated} are");
        let used = condition(kube, "default", "InUse").await?;
        ensure!(used.contains(&format!("6 of them of another version ({VERSION})")), "{used}");
        Ok(())
    })
    .await?;
    kube.eventually("events of beginning and end", SOON, || async {
        let events = kube.kubectl_ok(&["get", "events", "-A", "-o", "jsonpath={.items[*].reason}"]).await?;
        for reason in ["UpgradeStarted", "UpgradeStopped", "Upgraded"] {
            ensure!(events.split(' ').any(|event| event == reason), "no event {reason} in {events}");
        }
        Ok(())
    })
    .await?;
    unharmed(kube, load).await
}

/// The sidecars follow when their workloads restart.
pub(crate) async fn workloads(kube: &KubeBox) -> Result<()> {
    let load = load(kube).await?;
    restart_all(kube).await?;
    kube.eventually("no outdated sidecar", SOON, || async {
        let outdated = field(kube, "default", ".status.dataPlane.outdated").await?;
        ensure!(outdated == "0", "{outdated} are");
        Ok(())
    })
    .await?;
    let versions = "jsonpath={.items[*].metadata.annotations.install\\.forestay\\.dev/proxy-version}";
    let versions = kube.kubectl_ok(&["-n", "default", "get", "pods", "-o", versions]).await?;
    let other = versions.split(' ').find(|version| *version != NEXT_VERSION);
    ensure!(other.is_none(), "a pod has a sidecar of {other:?}");
    unharmed(kube, load).await?;
    // An operator of the next version alone cannot take it back.
    patch(kube, "default", &format!("{{\"version\": {VERSION:?}}}")).await?;
    says(kube, "default", "Reconciled", "False DowngradeRefused", &format!("set \"{NEXT_VERSION}\"")).await?;
    patch(kube, "default", &format!("{{\"version\": {NEXT_VERSION:?}}}")).await?;
    in_force(kube, "default", NEXT_VERSION).await
}

/// Restarts Bookinfo's workloads and waits until their old pods are gone.
pub(crate) async fn restart_all(kube: &KubeBox) -> Result<()> {
    let before = kube.kubectl_ok(&["-n", "default", "get", "pods", "-o", "name"]).await?;
    kube.kubectl_ok(&["-n", "default", "rollout", "restart", "deployment"]).await?;
    let deployments = kube.kubectl_ok(&["-n", "default", "get", "deployment", "-o", "name"]).await?;
    for deployment in deployments.lines() {
        kube.kubectl_ok(&["-n", "default", "rollout", "status", deployment, "--timeout=240s"]).await?;
    }
    kube.eventually("the old pods gone", STARTED, || async {
        let now = kube.kubectl_ok(&["-n", "default", "get", "pods", "-o", "name"]).await?;
        let left = now.lines().find(|pod| before.lines().any(|old| old == *pod));
        ensure!(left.is_none(), "{} is still there", left.context("none")?);
        Ok(())
    })
    .await
}

/// The names of one revision's parts, as [`Watched`] calls them.
pub(crate) fn parts(revision: &str) -> [String; 2] {
    [istiod(revision), injector(revision)]
}
