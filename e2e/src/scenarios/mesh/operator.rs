//! What the operator tells and does about a MeshInstall that lives: who uses it, tags, overlays, settings without effect.

use anyhow::{Result, ensure};

use super::{SOON, STARTED};
use forestay_e2e::kube_box::KubeBox;

const TAG: &str = r"
apiVersion: install.forestay.dev/v1alpha1
kind: MeshRevisionTag
metadata: {name: prod}
spec: {targetRef: {kind: MeshInstall, name: default}}
---
apiVersion: v1
kind: Namespace
metadata: {name: tagged, labels: {istio.io/rev: prod}}
";

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: one, namespace: tagged}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: app, image: 'docker.io/curlimages/curl:8.16.0', command: [/bin/sleep, infinity]}]}}";

/// One condition of a MeshInstall or tag, as `status reason message`.
async fn condition(kube: &KubeBox, object: &str, of: &str) -> Result<String> {
    let of = format!("@.type==\"{of}\"");
    let path = format!("jsonpath={{range .status.conditions[?({of})]}}{{.status}} {{.reason}} {{.message}}{{end}}");
    kube.kubectl_ok(&["get", object, "-o", &path]).await
}

/// A namespace with a tag's label gets the revision's sidecar; the tag counts as use; without the tag it is told apart.
pub(crate) async fn tag(kube: &KubeBox) -> Result<()> {
    kube.apply(TAG).await?;
    kube.eventually("the tag Ready", SOON, || async {
        let ready = condition(kube, "mrt/prod", "Ready").await?;
        ensure!(ready.starts_with("True Healthy"), "{ready}");
        Ok(())
    })
    .await?;
    // The API server heeds a new configuration a moment after it has it.
    kube.eventually("a new pod of the revision", SOON, || async {
        let dry = ["-n", "tagged", "run", "probe", "--image=none", "--dry-run=server", "-o"];
        let path = "jsonpath={.metadata.annotations.istio\\.io/rev}";
        let found = kube.kubectl_ok(&[&dry[..], &[path]].concat()).await?;
        ensure!(found == "default", "it gets {found:?}");
        Ok(())
    })
    .await?;
    kube.apply(POD).await?;
    kube.wait_for("tagged", "pod/one", "condition=Ready", STARTED).await?;
    let revision = kube
        .kubectl_ok(&["-n", "tagged", "get", "pod", "one", "-o", "jsonpath={.metadata.annotations.istio\\.io/rev}"])
        .await?;
    ensure!(revision == "default", "the pod's revision is {revision:?}");
    kube.eventually("the pod counted", SOON, || async {
        let used = condition(kube, "mi/default", "InUse").await?;
        ensure!(used.starts_with("True ReferencedByWorkloads") && used.contains("tagged"), "{used}");
        let tag = condition(kube, "mrt/prod", "InUse").await?;
        ensure!(tag.starts_with("True ReferencedByWorkloads"), "{tag}");
        Ok(())
    })
    .await?;

    // A revision's name is no name for a tag: two webhooks would take the same pods.
    kube.apply(&TAG.replace("prod", "default").replace("name: tagged", "name: untouched")).await?;
    kube.eventually("the tag refused", SOON, || async {
        let ready = condition(kube, "mrt/default", "Ready").await?;
        ensure!(ready.starts_with("False NameAlreadyExists"), "{ready}");
        Ok(())
    })
    .await?;
    kube.kubectl_ok(&["delete", "mrt", "prod", "default"]).await?;
    kube.eventually("the tag's webhook configuration gone", SOON, || async {
        let left = kube.kubectl_ok(&["get", "mutatingwebhookconfigurations", "-o", "name"]).await?;
        ensure!(!left.contains("istio-revision-tag"), "{left}");
        Ok(())
    })
    .await?;
    kube.kubectl_ok(&["delete", "namespace", "tagged", "untouched", "--wait=false"]).await?;
    Ok(())
}

/// An overlay reaches the object; a setting without effect, and one that cannot be, are told by name; what ran runs on.
pub(crate) async fn settings(kube: &KubeBox) -> Result<()> {
    let patch = |spec: &str| format!("{{\"spec\": {spec}}}");
    let merge = |spec: String| async move {
        kube.kubectl_ok(&["patch", "mi", "default", "--type=merge", "-p", &spec]).await.map(drop)
    };
    merge(patch(
        r#"{"meshConfig": {"enableTracing": true}, "webhook": {"overlays": [
            {"kind": "Deployment", "patch": {"metadata": {"annotations": {"example.org/overlay": "yes"}}}}]}}"#,
    ))
    .await?;
    kube.eventually("overlay and condition", SOON, || async {
        let path = "jsonpath={.metadata.annotations.example\\.org/overlay}";
        let seen =
            kube.kubectl_ok(&["-n", "istio-system", "get", "deploy", "istio-sidecar-injector", "-o", path]).await?;
        ensure!(seen == "yes", "the overlay's annotation is {seen:?}");
        let effective = condition(kube, "mi/default", "SettingsEffective").await?;
        ensure!(
            effective.starts_with("False WithoutEffect") && effective.contains("spec.meshConfig.enableTracing"),
            "{effective}"
        );
        Ok(())
    })
    .await?;

    merge(patch(r#"{"meshConfig": {"accesslogFile": "/dev/stdout"}}"#)).await?;
    kube.eventually("the mistake named", SOON, || async {
        let stalled = condition(kube, "mi/default", "Stalled").await?;
        ensure!(stalled.starts_with("True InvalidSpec") && stalled.contains("is accessLogFile meant?"), "{stalled}");
        let webhook = condition(kube, "mi/default", "WebhookReady").await?;
        ensure!(webhook.starts_with("True"), "what ran before does not run on: {webhook}");
        Ok(())
    })
    .await?;

    merge(patch(r#"{"meshConfig": {"accesslogFile": null, "enableTracing": null}, "webhook": {"overlays": null}}"#))
        .await?;
    kube.eventually("all well again", SOON, || async {
        let ready = condition(kube, "mi/default", "Ready").await?;
        ensure!(ready.starts_with("True"), "{ready}");
        let effective = condition(kube, "mi/default", "SettingsEffective").await?;
        ensure!(effective.starts_with("True"), "{effective}");
        ensure!(condition(kube, "mi/default", "Stalled").await?.is_empty(), "it is still stalled");
        Ok(())
    })
    .await
}
