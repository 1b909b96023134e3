//! A canary beside the first mesh: each namespace's pods belong to their revision, all trust each other, and when the
//! canary goes the first mesh does not notice.

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use names::DEFAULT_REVISION;
use names::resources::{MESH_NAMESPACE, WEBHOOK_CA_SECRET, injector, istiod};

use super::{
    INJECTED, client, get, httpbin, idle_pod, injected, mesh_install, namespaces, remove, strict, webhook_metric,
};
use crate::scenarios::mesh::inject::{containers, name_of, pods};
use crate::scenarios::mesh::{SOON, STARTED};

const CANARY: &str = "canary";
/// The namespaces with the revision of each.
const NAMESPACES: [(&str, &str); 2] = [("steady", DEFAULT_REVISION), ("trying", CANARY)];
const COUNTED: &str = "sidecar_injection_requests_total";

/// The canary comes, serves and goes.
pub(crate) async fn side_by_side(kube: &KubeBox) -> Result<()> {
    kube.apply(&mesh_install(CANARY)).await?;
    kube.wait_for("default", "mi/canary", "condition=Ready", STARTED).await?;
    kube.wait_for("default", "mi/default", "condition=Ready", STARTED).await?;
    let configurations = kube.kubectl_ok(&["get", "mutatingwebhookconfigurations", "-o", "name"]).await?;
    for (_, revision) in NAMESPACES {
        let name = format!("/{}", injector(revision));
        ensure!(configurations.lines().any(|line| line.ends_with(&name)), "no {name} in {configurations}");
    }

    namespaces(kube, &["steady"], INJECTED).await?;
    namespaces(kube, &["trying"], "istio.io/rev: canary").await?;
    let mut before = Vec::new();
    for (namespace, revision) in NAMESPACES {
        before.push(webhook_metric(kube, revision, COUNTED).await?);
        strict(kube, namespace).await?;
        kube.apply(&format!("{}{}", httpbin("server", namespace), client("client", namespace, "sleep infinity")))
            .await?;
    }
    for (namespace, _) in NAMESPACES {
        for deployment in ["server", "client"] {
            kube.wait_for(namespace, &format!("deployment/{deployment}"), "condition=Available", STARTED).await?;
        }
    }
    for ((namespace, revision), before) in NAMESPACES.into_iter().zip(before) {
        belong(kube, namespace, revision).await?;
        let asked = webhook_metric(kube, revision, COUNTED).await? - before;
        ensure!((asked - 2.0).abs() < 0.5, "the webhook of revision {revision} was asked {asked} times for two pods");
    }
    for (from, to) in [("steady", "trying"), ("trying", "steady")] {
        talk(kube, from, to).await?;
    }
    validated_once(kube).await?;

    let first = objects_of_the_first(kube).await?;
    kube.kubectl_ok(&["delete", "mi", CANARY, "--timeout=240s"]).await?;
    let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings";
    let left = kube.kubectl_ok(&["get", kinds, "-l", "istio.io/rev=canary", "-o", "name"]).await?;
    ensure!(left.trim().is_empty(), "the canary left {left}");
    let now = objects_of_the_first(kube).await?;
    ensure!(now == first, "the canary's end changed the first mesh, from\n{first}\nto\n{now}");
    kube.wait_for("default", "mi/default", "condition=Ready", SOON).await?;
    // Who has no control plane any more goes on with what it knows.
    talk(kube, "steady", "trying").await?;
    kube.apply(&idle_pod("later", "steady", "", "")).await?;
    kube.apply(&idle_pod("later", "trying", "", "")).await?;
    for (namespace, _) in NAMESPACES {
        kube.wait_for(namespace, "pod/later", "condition=Ready", STARTED).await?;
    }
    injected(&get(kube, "steady", "pod/later").await?)?;
    let unasked = get(kube, "trying", "pod/later").await?;
    ensure!(containers(&unasked, "initContainers").is_empty(), "a pod of a revision that is gone was injected");
    remove(kube, &["steady", "trying"]).await
}

/// The pods of a namespace are their revision's, and its control plane knows them and nobody else's.
async fn belong(kube: &KubeBox, namespace: &str, revision: &str) -> Result<()> {
    let control_plane = format!("{}.{MESH_NAMESPACE}.svc:15012", istiod(revision));
    for pod in pods(kube, namespace).await? {
        injected(&pod)?;
        let name = name_of(&pod);
        let annotations = &pod["metadata"]["annotations"];
        ensure!(annotations["istio.io/rev"] == revision, "{name}: istio.io/rev is {}", annotations["istio.io/rev"]);
        let proxies = pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
        let proxy = proxies.iter().find(|container| container["name"] == "istio-proxy").context("no istio-proxy")?;
        let env = proxy["env"].as_array().cloned().unwrap_or_default();
        let authority = env.iter().find(|variable| variable["name"] == "CA_ADDR").context("no CA_ADDR")?;
        ensure!(authority["value"] == *control_plane, "{name}: CA_ADDR is {}", authority["value"]);
    }
    let address = "jsonpath={.items[0].status.podIP}";
    let labels = format!("app=istiod,istio.io/rev={revision}");
    let address = kube.kubectl_ok(&["-n", MESH_NAMESPACE, "get", "pod", "-l", &labels, "-o", address]).await?;
    kube.eventually("the control plane knowing its proxies", SOON, || async {
        let known = kube.http_get(&format!("http://{address}:15014/debug/syncz")).await?;
        let known = String::from_utf8_lossy(known.body()).into_owned();
        for (other, its) in NAMESPACES {
            let there = known.contains(&format!(".{other}\""));
            ensure!(there == (its == revision), "the control plane of {revision} on namespace {other}: {known}");
        }
        Ok(())
    })
    .await
}

/// Each of Istio's objects is checked by one revision: its own, or the default one where it names none.
async fn validated_once(kube: &KubeBox) -> Result<()> {
    const CHECKED: &str = "galley_validation_time_seconds_count";
    let before = [webhook_metric(kube, DEFAULT_REVISION, CHECKED).await?, webhook_metric(kube, CANARY, CHECKED).await?];
    for label in ["", "istio.io/rev: default", "istio.io/rev: canary", "istio.io/rev: another"] {
        let rule = format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: once, namespace: steady, labels: {{{label}}}}}, spec: {{hosts: [once.example.org], http: [{{route: [{{destination: {{host: server}}}}]}}]}}}}"
        );
        kube.kubectl_with_input(&["create", "--dry-run=server", "-f", "-"], &rule).await?;
    }
    for ((revision, before), expected) in [DEFAULT_REVISION, CANARY].into_iter().zip(before).zip([2.0, 1.0]) {
        let checked = webhook_metric(kube, revision, CHECKED).await? - before;
        ensure!((checked - expected).abs() < 0.5, "revision {revision} checked {checked} objects, not {expected}");
    }
    Ok(())
}

/// A request from one namespace to the other, by mutual TLS.
async fn talk(kube: &KubeBox, from: &str, to: &str) -> Result<()> {
    let url = format!("http://server.{to}:8000/headers");
    kube.eventually("a request between revisions", SOON, || async {
        let ask = ["curl", "-fsS", &url];
        let headers = kube.exec_ok(from, "deployment/client", Some("app"), &ask).await?;
        for part in [
            format!("By=spiffe://cluster.local/ns/{to}/sa/default"),
            format!("URI=spiffe://cluster.local/ns/{from}/sa/default"),
        ] {
            ensure!(headers.contains(&part), "x-forwarded-client-cert does not say {part}: {headers}");
        }
        Ok(())
    })
    .await
}

/// What the first mesh consists of: name, identity and generation of each object, and the Secret that both share.
async fn objects_of_the_first(kube: &KubeBox) -> Result<String> {
    let row = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid} {.metadata.generation}{\"\\n\"}{end}";
    let owned = format!("{}={DEFAULT_REVISION}", names::labels::OWNED_BY);
    let namespaced = "deployments,services,serviceaccounts,configmaps,roles,rolebindings,poddisruptionbudgets";
    let everywhere = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations";
    let kinds = format!("{namespaced},{everywhere}");
    let own = kube.kubectl_ok(&["-n", MESH_NAMESPACE, "get", &kinds, "-l", &owned, "-o", row]).await?;
    ensure!(own.lines().count() >= 10, "the first mesh has only {own}");
    let uid = "jsonpath={.metadata.uid}";
    let shared = kube.kubectl_ok(&["-n", MESH_NAMESPACE, "get", "secret", WEBHOOK_CA_SECRET, "-o", uid]).await?;
    Ok(format!("{own}{shared}"))
}
