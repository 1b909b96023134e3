//! What deletion leaves, by the word of every kind that the API server has; and what gets in its way.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use serde_json::Value;

use super::{condition, installed, mesh_install, ready, refused, says, uninstalled};
use crate::scenarios::mesh::{SOON, config};

/// Everything in the cluster, as `kind namespace/name`: each kind that can be listed, but for those that come and go by
/// themselves.
async fn everything(kube: &KubeBox) -> Result<BTreeSet<String>> {
    const BY_THEMSELVES: [&str; 6] = [
        "events",
        "events.events.k8s.io",
        "componentstatuses",
        "pods",
        "replicasets.apps",
        "endpointslices.discovery.k8s.io",
    ];
    let kinds = kube.kubectl_ok(&["api-resources", "--verbs=list", "-o", "name"]).await?;
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !BY_THEMSELVES.contains(kind)).collect();
    let columns = "custom-columns=K:.kind,S:.metadata.namespace,N:.metadata.name";
    let list = kube.kubectl_ok(&["get", &kinds.join(","), "-A", "--no-headers", "-o", columns]).await?;
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}/{}", words.next()?, words.next()?.replace("<none>", ""), words.next()?))
    };
    Ok(list.lines().filter_map(row).collect())
}

fn noted(kube: &KubeBox) -> std::path::PathBuf {
    kube.layout().path("before-any-mesh.txt")
}

/// Notes what is there before the first mesh.
pub(crate) async fn note_what_is_there(kube: &KubeBox) -> Result<()> {
    let all: Vec<String> = everything(kube).await?.into_iter().collect();
    fs::write(noted(kube), all.join("\n")).context("note what is there")
}

/// What is there now and was not before the first mesh, and what is missing.
async fn difference(kube: &KubeBox) -> Result<(Vec<String>, Vec<String>)> {
    let before = fs::read_to_string(noted(kube)).context("what was there")?;
    let before: BTreeSet<String> = before.lines().map(str::to_owned).collect();
    let now = everything(kube).await?;
    Ok((now.difference(&before).cloned().collect(), before.difference(&now).cloned().collect()))
}

/// Waits until the last event of a deletion is as it should be: events take their time, and there may be older ones.
async fn told(kube: &KubeBox, wanted: impl Fn(&str) -> bool) -> Result<()> {
    kube.eventually("what is kept told by the last event", SOON, || async {
        let said = last_event(kube).await?;
        ensure!(wanted(&said), "the last event says {said}");
        Ok(())
    })
    .await
}

/// The note of the last event of a deletion.
async fn last_event(kube: &KubeBox) -> Result<String> {
    let events = kube.kubectl_ok(&["get", "events.events.k8s.io", "-A", "-o", "json"]).await?;
    let events: Value = serde_json::from_str(&events)?;
    let events = events["items"].as_array().cloned().unwrap_or_default();
    let mut deleted: Vec<&Value> = events.iter().filter(|event| event["reason"] == "Deleted").collect();
    deleted.sort_by_key(|event| event["eventTime"].as_str().unwrap_or_default().to_owned());
    Ok(deleted.last().context("no event of a deletion")?["note"].as_str().unwrap_or_default().to_owned())
}

/// A deletion keeps what may hold somebody's work or trust; a purge takes that too. Both say so.
pub(crate) async fn keep_and_purge(kube: &KubeBox) -> Result<()> {
    const RULE: &str = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: somebody-elses, namespace: default}, spec: {hosts: [a.example.org], http: [{route: [{destination: {host: a}}]}]}}";
    installed(kube).await?;
    kube.apply(RULE).await?;
    uninstalled(kube, "default").await?;
    // The operator's own, and those that Kubernetes' parts hold or begin to hold meanwhile.
    let leases = ["Lease forestay-system/", "Lease kube-node-lease/", "Lease kube-system/"];
    let is_lease = |line: &str| leases.iter().any(|prefix| line.starts_with(prefix));
    let kept = |line: &String| {
        let roots = line.starts_with("ConfigMap ") && line.ends_with("/istio-ca-root-cert");
        // What Kubernetes itself puts into every namespace.
        let own = ["ConfigMap istio-system/kube-root-ca.crt", "ServiceAccount istio-system/default"];
        roots
            || own.contains(&line.as_str())
            || [
                "Namespace /istio-system",
                "Secret istio-system/istio-ca-secret",
                "Lease istio-system/istiod-leader",
                "VirtualService default/somebody-elses",
            ]
            .contains(&line.as_str())
    };
    kube.eventually("nothing left but what the design says", SOON, || async {
        let (more, missing) = difference(kube).await?;
        let more: Vec<&String> = more.iter().filter(|line| !kept(line) && !is_lease(line)).collect();
        ensure!(more.is_empty() && missing.is_empty(), "left: {more:#?}; missing: {missing:#?}");
        Ok(())
    })
    .await?;
    let parts = ["Kept: namespace istio-system", "istio-ca-secret", "istio-ca-root-cert", "CustomResourceDefinitions"];
    told(kube, |said| parts.iter().all(|part| said.contains(part))).await?;

    installed(kube).await?;
    kube.kubectl_ok(&["patch", "mi", "default", "--type=merge", "-p", r#"{"spec":{"uninstall":"Purge"}}"#]).await?;
    uninstalled(kube, "default").await?;
    kube.eventually("nothing left but the namespace", SOON, || async {
        let (more, missing) = difference(kube).await?;
        let kept = |line: &&String| {
            [
                "Namespace /istio-system",
                "ConfigMap istio-system/kube-root-ca.crt",
                "ServiceAccount istio-system/default",
            ]
            .contains(&line.as_str())
                || is_lease(line)
        };
        let more: Vec<&String> = more.iter().filter(|line| !kept(line)).collect();
        ensure!(more.is_empty(), "left: {more:#?}");
        // Only definitions may be gone, with the API that they are, and all of Istio's are.
        let istio = |line: &&String, kind: &str| line.starts_with(kind) && line.ends_with(".istio.io");
        let definition = |line: &&String| istio(line, "CustomResourceDefinition /");
        let others: Vec<&String> =
            missing.iter().filter(|line| !definition(line) && !istio(line, "APIService /")).collect();
        let gone = missing.iter().filter(definition).count();
        ensure!(others.is_empty() && gone == crds::istio_definitions().len(), "gone: {missing:#?}");
        Ok(())
    })
    .await?;
    told(kube, |said| said.contains("Kept: namespace istio-system") && !said.contains("Secret")).await?;
    kube.kubectl_ok(&["apply", "-f", &config("crd").display().to_string(), "--server-side"]).await.map_or_else(
        // The folder has a kustomization.yaml beside the definitions, which is no object.
        |error| if format!("{error:#}").contains("kustomization.yaml") { Ok(()) } else { Err(error) },
        |_| Ok(()),
    )
}

/// Edited while it goes, and parts of it gone before: it goes all the same, and is not built again.
pub(crate) async fn edited(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    kube.apply("{apiVersion: v1, kind: Namespace, metadata: {name: asking, labels: {istio-injection: enabled}}}")
        .await?;
    says(kube, "default", "InUse", "True", "ReferencedByWorkloads", &["asking"]).await?;
    kube.kubectl_ok(&[
        "patch",
        "mi",
        "default",
        "--type=merge",
        "-p",
        r#"{"spec":{"deletionGracePeriodSeconds":600}}"#,
    ])
    .await?;
    kube.kubectl_ok(&["delete", "mi", "default", "--wait=false"]).await?;
    says(kube, "default", "Ready", "False", "Deleting", &["waiting until nobody uses the revision", "asking"]).await?;
    let more = r#"{"spec":{"gateways":[{"name":"too-late","type":"ClusterIP"}]}}"#;
    kube.kubectl_ok(&["patch", "mi", "default", "--type=merge", "-p", more]).await?;
    kube.eventually("the edit looked at", SOON, || async {
        let install = mesh_install(kube, "default").await?;
        let said = condition(&install, "Ready");
        ensure!(
            said["reason"] == "Deleting" && said["observedGeneration"] == install["metadata"]["generation"],
            "it says {said}"
        );
        Ok(())
    })
    .await?;
    let late = refused(kube, &["-n", "istio-system", "get", "deployment", "too-late"]).await?;
    ensure!(late.contains("NotFound"), "a gateway was added to a mesh that is being deleted: {late}");
    let parts = ["deployment/istiod", "service/istiod", "serviceaccount/istiod", "configmap/istio"];
    kube.kubectl_ok(&[&["-n", "istio-system", "delete", "--wait=false"], &parts[..]].concat()).await?;
    uninstalled(kube, "default").await?;
    kube.kubectl_ok(&["delete", "namespace", "asking", "--timeout=120s"]).await.map(drop)
}

/// Of two with one revision the older has it; the other says so, takes nothing away when it goes, and has it afterwards.
pub(crate) async fn one_revision(kube: &KubeBox) -> Result<()> {
    const SECOND: &str = "{apiVersion: install.forestay.dev/v1alpha1, kind: MeshInstall, metadata: {name: second}, spec: {profile: minimal}}";
    installed(kube).await?;
    kube.apply(SECOND).await?;
    says(kube, "second", "Stalled", "True", "RevisionTaken", &["spec.revision", "MeshInstall default already has"])
        .await?;
    kube.kubectl_ok(&["delete", "mi", "second", "--timeout=120s"]).await?;
    ready(kube, "default").await?;
    kube.apply(SECOND).await?;
    says(kube, "second", "Stalled", "True", "RevisionTaken", &[]).await?;
    uninstalled(kube, "default").await?;
    ready(kube, "second").await?;
    uninstalled(kube, "second").await
}
