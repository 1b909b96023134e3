//! Addons whose programs are not here: the API server takes their objects, the status says what their pods lack; what
//! admission refuses; and what is left when addons go.

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use names::resources::MESH_NAMESPACE;
use serde_json::Value;

use super::{condition, event, get, mesh_install, says, set};
use crate::scenarios::mesh::STARTED;

/// Each with the words that tell what to do.
const REFUSED: [(&str, &str, &str); 11] = [
    ("both owners of tracing", "{jaeger: {}, zipkin: {}}", "jaeger and zipkin exclude each other"),
    ("both, one elsewhere", "{jaeger: {externalURL: 'http://a.b'}, zipkin: {}}", "set enabled: false on one of them"),
    (
        "elsewhere and an image",
        "{prometheus: {externalURL: 'http://a.b', image: a/b:1}}",
        "with externalURL nothing is deployed",
    ),
    (
        "elsewhere and resources",
        "{grafana: {externalURL: 'http://a.b', resources: {requests: {cpu: 1}}}}",
        "with externalURL nothing is deployed",
    ),
    (
        "elsewhere and a claim",
        "{jaeger: {externalURL: 'http://a.b', persistence: {}}}",
        "with externalURL nothing is deployed",
    ),
    ("no address", "{prometheus: {externalURL: 'prometheus:9090'}}", "externalURL must be an address such as https://"),
    ("another scheme", "{zipkin: {externalURL: 'ftp://a.b'}}", "externalURL must be an address such as https://"),
    ("an image by name alone", "{grafana: {image: 'grafana:12'}}", "image must be a whole reference"),
    ("a Kiali elsewhere", "{kiali: {externalURL: 'http://a.b'}}", "leave spec.addons.kiali out"),
    ("a claim for Kiali", "{kiali: {persistence: {}}}", "Kiali keeps no data"),
    ("a claim for Zipkin", "{zipkin: {persistence: {size: 1Gi}}}", "Zipkin keeps its traces in memory"),
];

/// What the API server takes.
const TAKEN: [(&str, &str); 4] = [
    ("one of two switched off", "{jaeger: {enabled: false}, zipkin: {}}"),
    (
        "elsewhere",
        "{prometheus: {externalURL: 'https://prometheus.example.org:9090/prom'}, zipkin: {externalURL: 'http://10.0.0.1'}}",
    ),
    (
        "everything of one",
        "{grafana: {image: a/b:1, resources: {limits: {cpu: 1}}, persistence: {size: 5Gi, storageClassName: fast}, pod: {labels: {a: b}}}}",
    ),
    ("none", "{}"),
];

pub(super) async fn refused(kube: &KubeBox) -> Result<()> {
    let dry_run = ["apply", "--dry-run=server", "-f", "-"];
    for (name, addons, words) in REFUSED {
        let answer = kube.kubectl_with_input(&dry_run, &mesh_install("other", addons)).await;
        let text = format!("{:#}", answer.err().with_context(|| format!("{name}: accepted"))?);
        ensure!(text.contains(words), "{name}: does not say {words:?}: {text}");
    }
    for (name, addons) in TAKEN {
        let answer = kube.kubectl_with_input(&dry_run, &mesh_install("other", addons)).await;
        ensure!(answer.is_ok(), "{name}: {:#}", answer.err().context("no error")?);
    }
    let explained = kube.kubectl_ok(&["explain", "meshinstall.spec.addons.prometheus.externalURL"]).await?;
    let words = explained.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(words.contains("nothing is deployed"), "kubectl explain says {explained}");
    Ok(())
}

/// The objects are there, in the words of the API server's strict validation; what their pods lack is told, by pod and
/// image; the mesh stays Ready.
pub(super) async fn accepted(kube: &KubeBox) -> Result<()> {
    set(kube, r#"{"grafana": {"persistence": {"size": "1Gi"}}, "kiali": {}, "zipkin": null, "jaeger": {}}"#).await?;
    kube.eventually("what the pods lack is told", STARTED, || async {
        let (ready, ..) = condition(kube, "default", "Ready").await?;
        ensure!(ready == "True", "Ready is {ready}");
        let (status, _, message) = condition(kube, "default", "AddonsReady").await?;
        ensure!(status == "False", "AddonsReady is {status}: {message}");
        for words in [names::images::KIALI, names::images::JAEGER, "Deployment istio-system/grafana"] {
            ensure!(message.contains(words), "the message does not say {words:?}: {message}");
        }
        Ok(())
    })
    .await?;
    for object in [
        "deployment/grafana",
        "service/grafana",
        "persistentvolumeclaim/grafana",
        "deployment/kiali",
        "service/kiali",
        "clusterrole/kiali-istio-system",
        "deployment/jaeger",
        "service/tracing",
        "service/zipkin",
        "service/jaeger-collector",
    ] {
        let object = get(kube, MESH_NAMESPACE, object).await?;
        // What was applied is what it has: a field that the API server does not know would be missing.
        ensure!(object["metadata"]["labels"]["install.forestay.dev/owned-by"] == "default", "{object}");
    }
    let zipkin = kube.kubectl(&["-n", MESH_NAMESPACE, "get", "deployment", "zipkin"]).await?;
    ensure!(!zipkin.status.success(), "Zipkin is still there beside Jaeger");
    let tracing = get(kube, MESH_NAMESPACE, "service/tracing").await?;
    ensure!(tracing["spec"]["selector"]["app"] == "jaeger", "Service tracing leads to {}", tracing["spec"]["selector"]);
    Ok(())
}

/// Prometheus too, while it runs: everything of the addons goes but the claim, and an event says so.
pub(super) async fn switched_off(kube: &KubeBox) -> Result<()> {
    set(kube, "null").await?;
    says(kube, "default", "True", "NoAddons").await?;
    kube.eventually("every addon is gone", STARTED, || async {
        let left = addons_left(kube).await?;
        ensure!(left == ["PersistentVolumeClaim/grafana"], "left are {left:?}");
        Ok(())
    })
    .await?;
    event(kube, "Kept", "PersistentVolumeClaim istio-system/grafana").await
}

/// The kinds and names of what belongs to an addon.
async fn addons_left(kube: &KubeBox) -> Result<Vec<String>> {
    let kinds =
        "deployments,services,configmaps,serviceaccounts,persistentvolumeclaims,clusterroles,clusterrolebindings";
    let chosen = "install.forestay.dev/component in (prometheus,grafana,kiali,jaeger,zipkin)";
    let left = kube.kubectl_ok(&["-n", MESH_NAMESPACE, "get", kinds, "-l", chosen, "-o", "json"]).await?;
    let left: Value = serde_json::from_str(&left)?;
    let name = |object: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
    };
    Ok(left["items"].as_array().into_iter().flatten().map(name).collect())
}

/// With `uninstall: Purge` the claim goes too.
pub(super) async fn purged(kube: &KubeBox) -> Result<()> {
    kube.kubectl_ok(&["patch", "mi", "default", "--type=merge", "-p", r#"{"spec": {"uninstall": "Purge"}}"#]).await?;
    kube.kubectl_ok(&["delete", "mi", "default", "--timeout=240s"]).await?;
    let left = addons_left(kube).await?;
    ensure!(left.is_empty(), "left are {left:?}");
    Ok(())
}
