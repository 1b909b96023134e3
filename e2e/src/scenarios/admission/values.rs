//! Istio's Helm values in a MeshInstall: templates of the user's own, redirection by a CNI plugin, and mistakes.

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use serde_json::{Value, json};

use super::{INJECTED, get, idle_pod, injected, namespaces, remove};
use crate::scenarios::mesh::inject::containers;
use crate::scenarios::mesh::{SOON, STARTED};

/// Sets `spec.values` of the mesh; null takes them away.
async fn set(kube: &KubeBox, values: &Value) -> Result<()> {
    // A merge patch keeps what it does not name.
    kube.kubectl_ok(&["patch", "mi", "default", "--type=merge", "-p", r#"{"spec":{"values":null}}"#]).await?;
    if values.is_null() {
        return Ok(());
    }
    let patch = json!({"spec": {"values": values}}).to_string();
    kube.kubectl_ok(&["patch", "mi", "default", "--type=merge", "-p", &patch]).await.map(drop)
}

/// What a pod would become, without making it.
async fn tried(kube: &KubeBox, pod: &str) -> Result<Value> {
    let tried = kube.kubectl_with_input(&["create", "--dry-run=server", "-o", "json", "-f", "-"], pod).await?;
    Ok(serde_json::from_str(&tried)?)
}

/// Waits until a pod would become what is wanted; every replica of the webhook is asked several times.
async fn becomes(kube: &KubeBox, what: &str, pod: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    kube.eventually(what, SOON, || async {
        for _ in 0..4 {
            let tried = tried(kube, pod).await?;
            ensure!(wanted(&tried), "the pod is {tried}");
        }
        Ok(())
    })
    .await
}

fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let all = ["containers", "initContainers"].into_iter().filter_map(|list| pod["spec"][list].as_array());
    all.flatten().find(|container| container["name"] == name)
}

fn has_argument(pod: &Value, argument: &str) -> bool {
    let arguments = container(pod, "istio-proxy").and_then(|proxy| proxy["args"].as_array());
    arguments.into_iter().flatten().any(|one| one == argument)
}

/// A template of the user's own, and the gateway's: pods of both run.
pub(crate) async fn templates(kube: &KubeBox) -> Result<()> {
    const NAMESPACE: &str = "templates";
    const TEAM: &str = r#"
metadata:
  labels:
    team: {{ index .ObjectMeta.Labels "belongs-to" | default "nobody" | quote }}
spec:
  containers:
  - name: istio-proxy
    env:
    - name: GREETING
      value: {{ printf "hello from %s" .ObjectMeta.Namespace | quote }}
"#;
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    let values =
        json!({"sidecarInjectorWebhook": {"templates": {"team": TEAM}, "aliases": {"all": ["sidecar", "team"]}}});
    set(kube, &values).await?;
    let pod = |name: &str, templates: &str| {
        let marks =
            format!("labels: {{belongs-to: sailors}}, annotations: {{inject.istio.io/templates: '{templates}'}}");
        idle_pod(name, NAMESPACE, &marks, "")
    };
    // Until both replicas know the template a pod that asks for it is refused, which says what there is.
    becomes(kube, "a template of the user's own", &pod("tried", "all"), |pod| {
        pod["metadata"]["labels"]["team"] == "sailors"
    })
    .await?;
    kube.apply(&pod("by-alias", "all")).await?;
    kube.apply(&pod("by-names", "sidecar,team")).await?;
    // Kubernetes takes `auto`, which has no tag, for one to be pulled always, before the webhook says which image it is.
    let gateway = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: a-gateway, namespace: {NAMESPACE}, labels: {{istio: a-gateway}}, annotations: {{inject.istio.io/templates: gateway}}}}, spec: {{containers: [{{name: istio-proxy, image: auto, imagePullPolicy: IfNotPresent}}]}}}}"
    );
    kube.apply(&gateway).await?;
    for name in ["by-alias", "by-names", "a-gateway"] {
        kube.wait_for(NAMESPACE, &format!("pod/{name}"), "condition=Ready", STARTED).await?;
    }
    for name in ["by-alias", "by-names"] {
        let pod = get(kube, NAMESPACE, &format!("pod/{name}")).await?;
        injected(&pod)?;
        ensure!(pod["metadata"]["labels"]["team"] == "sailors", "{name}: {}", pod["metadata"]["labels"]);
        let env = container(&pod, "istio-proxy").and_then(|proxy| proxy["env"].as_array()).context("no environment")?;
        let greeting = env.iter().find(|one| one["name"] == "GREETING").context("no GREETING")?;
        ensure!(greeting["value"] == format!("hello from {NAMESPACE}"), "{name}: {greeting}");
    }
    let gateway = get(kube, NAMESPACE, "pod/a-gateway").await?;
    let all = [containers(&gateway, "containers"), containers(&gateway, "initContainers")].concat();
    ensure!(all == ["istio-proxy"] && has_argument(&gateway, "router"), "the gateway has {all:?}");

    set(kube, &Value::Null).await?;
    remove(kube, &[NAMESPACE]).await
}

/// A CNI plugin is to redirect, and there is none: the pod does not start without redirection, and its log says why.
pub(crate) async fn cni(kube: &KubeBox) -> Result<()> {
    const NAMESPACE: &str = "cni";
    const VALIDATION: &str = "istio-validation";
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    set(kube, &json!({"pilot": {"cni": {"enabled": true}}})).await?;
    becomes(kube, "istio-validation", &idle_pod("tried", NAMESPACE, "", ""), |pod| {
        container(pod, VALIDATION).is_some()
    })
    .await?;
    kube.apply(&idle_pod("waiting", NAMESPACE, "", "")).await?;
    kube.eventually("a validation that failed", STARTED, || async {
        let pod = get(kube, NAMESPACE, "pod/waiting").await?;
        let statuses = pod["status"]["initContainerStatuses"].as_array().cloned().unwrap_or_default();
        let status = statuses.into_iter().find(|status| status["name"] == VALIDATION).context("no status yet")?;
        let ended = ["state", "lastState"].map(|state| status[state]["terminated"]["exitCode"].as_i64());
        ensure!(ended.contains(&Some(126)), "its state: {status}");
        let log = kube.logs(NAMESPACE, "waiting", Some(VALIDATION)).await?;
        ensure!(log.contains("the CNI plugin that is to redirect this pod did not run"), "its log: {log}");
        Ok(())
    })
    .await?;
    let pod = get(kube, NAMESPACE, "pod/waiting").await?;
    let capabilities = container(&pod, VALIDATION).map(|one| one["securityContext"]["capabilities"].clone());
    ensure!(capabilities == Some(json!({"drop": ["ALL"]})), "it may {capabilities:?}");
    let app = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    ensure!(app.iter().all(|status| status["started"] != true), "the application started without redirection: {app:?}");
    ensure!(container(&pod, "istio-init").is_none(), "istio-init stands beside it");

    set(kube, &Value::Null).await?;
    becomes(kube, "istio-init again", &idle_pod("tried", NAMESPACE, "", ""), |pod| {
        container(pod, "istio-init").is_some()
    })
    .await?;
    remove(kube, &[NAMESPACE]).await
}

/// A value changes what pods get; a broken one is named and changes nothing.
pub(crate) async fn spec_values(kube: &KubeBox) -> Result<()> {
    const NAMESPACE: &str = "values";
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    let pod = idle_pod("tried", NAMESPACE, "", "");
    let debug = "--proxyLogLevel=debug";
    set(kube, &json!({"global": {"proxy": {"logLevel": "debug"}}})).await?;
    becomes(kube, "the value in force", &pod, |pod| has_argument(pod, debug)).await?;

    for (values, parts) in [
        (json!({"global": {"proxy": {"logLevel": ["debug"]}}}), ["spec.values", "logLevel"]),
        (
            json!({"sidecarInjectorWebhook": {"templates": {"mine": "spec: {{ if"}}}),
            ["spec.values.sidecarInjectorWebhook.templates", "mine"],
        ),
    ] {
        // Over the good value, which so stays in the spec.
        let patch = json!({"spec": {"values": values}}).to_string();
        kube.kubectl_ok(&["patch", "mi", "default", "--type=merge", "-p", &patch]).await?;
        kube.eventually("a condition that names the value", SOON, || async {
            let install = get(kube, "default", "mi/default").await?;
            let conditions = install["status"]["conditions"].to_string();
            let said = install["status"]["conditions"].as_array().into_iter().flatten().any(|condition| {
                let message = condition["message"].as_str().unwrap_or_default();
                condition["reason"] == "InvalidSpec" && parts.iter().all(|part| message.contains(part))
            });
            ensure!(said, "no condition says {parts:?}: {conditions}");
            Ok(())
        })
        .await?;
        ensure!(has_argument(&tried(kube, &pod).await?, debug), "{parts:?}: the last good value is no longer in force");
        set(kube, &json!({"global": {"proxy": {"logLevel": "debug"}}})).await?;
    }
    set(kube, &Value::Null).await?;
    becomes(kube, "the value gone", &pod, |pod| !has_argument(pod, debug)).await?;
    kube.wait_for("default", "mi/default", "condition=Ready", STARTED).await?;
    remove(kube, &[NAMESPACE]).await
}
