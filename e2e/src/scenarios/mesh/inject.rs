//! Who gets a sidecar: labelled namespaces' pods, natively or classically, and nobody else.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{STARTED, apply_sample, sample};
use forestay_e2e::kube_box::KubeBox;

/// Bookinfo, unmodified, in a labelled namespace: two containers a pod, the sidecar a native one.
pub(crate) async fn bookinfo(kube: &KubeBox) -> Result<()> {
    kube.kubectl_ok(&["label", "namespace", "default", "istio-injection=enabled", "--overwrite"]).await?;
    apply_sample(kube, "bookinfo/platform/kube/bookinfo.yaml").await?;
    kube.wait_for("default", "deployment", "condition=Available", STARTED).await.or(kube
        .kubectl_ok(&["wait", "deployment", "--all", "--for=condition=Available", "--timeout=240s"])
        .await
        .map(drop))?;
    let pods = pods(kube, "default").await?;
    ensure!(pods.len() == 6, "Bookinfo has {} pods, not 6", pods.len());
    for pod in &pods {
        let name = name_of(pod);
        ensure!(native_sidecar(pod), "{name} has no native sidecar: {}", pod["spec"]["initContainers"]);
        let status = &pod["metadata"]["annotations"]["sidecar.istio.io/status"];
        ensure!(status.is_string(), "{name} has no annotation sidecar.istio.io/status");
        ensure!(pod["metadata"]["labels"]["security.istio.io/tlsMode"] == "istio", "{name} is not marked for mTLS");
    }
    let table = kube.kubectl_ok(&["get", "pods"]).await?;
    for line in table.lines().skip(1) {
        ensure!(line.contains("2/2"), "kubectl get pods does not say 2/2:\n{table}");
    }
    Ok(())
}

/// The annotation for a classic sidecar, an opted-out pod, and a namespace without a label.
pub(crate) async fn choices(kube: &KubeBox) -> Result<()> {
    for namespace in ["choices", "plain"] {
        kube.kubectl_ok(&["create", "namespace", namespace]).await?;
    }
    kube.kubectl_ok(&["label", "namespace", "choices", "istio-injection=enabled"]).await?;
    let curl = sample("curl/curl.yaml")?;
    kube.apply_file("plain", &curl).await?;
    kube.apply_file("choices", &curl).await?;
    let classic = r#"{"spec":{"template":{"metadata":{"annotations":{"sidecar.istio.io/nativeSidecar":"false"}}}}}"#;
    kube.kubectl_ok(&["-n", "choices", "patch", "deployment", "curl", "--type=merge", "-p", classic]).await?;
    let out = |name: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: choices, labels: {{sidecar.istio.io/inject: \"false\"}}}}, spec: {{containers: [{{name: app, image: 'docker.io/curlimages/curl:8.16.0', command: [/bin/sleep, infinity]}}]}}}}"
        )
    };
    kube.apply(&out("left-out")).await?;
    for namespace in ["choices", "plain"] {
        kube.kubectl_ok(&["-n", namespace, "rollout", "status", "deployment/curl", "--timeout=240s"]).await?;
    }
    kube.wait_for("choices", "pod/left-out", "condition=Ready", STARTED).await?;

    let injected = pods(kube, "choices").await?;
    let classic =
        injected.iter().find(|pod| name_of(pod) != "left-out" && pod["metadata"]["deletionTimestamp"].is_null());
    let classic = classic.context("no pod of curl in choices")?;
    ensure!(!native_sidecar(classic), "the annotation nativeSidecar: \"false\" gave a native sidecar");
    ensure!(
        containers(classic, "containers").contains(&"istio-proxy"),
        "the classic form has no container istio-proxy"
    );
    ensure!(containers(classic, "initContainers") == ["istio-init"], "the classic form has other init containers");
    for pod in pods(kube, "plain").await?.iter().chain(injected.iter().filter(|pod| name_of(pod) == "left-out")) {
        let all = [containers(pod, "containers"), containers(pod, "initContainers")].concat();
        ensure!(!all.contains(&"istio-proxy"), "{} was injected and should not have been", name_of(pod));
    }
    kube.kubectl_ok(&["delete", "namespace", "choices", "--wait=false"]).await?;
    Ok(())
}

/// The pods of a namespace as objects.
pub(crate) async fn pods(kube: &KubeBox, namespace: &str) -> Result<Vec<Value>> {
    let list: Value = serde_json::from_str(&kube.kubectl_ok(&["-n", namespace, "get", "pods", "-o", "json"]).await?)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

pub(crate) fn name_of(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

pub(crate) fn containers<'a>(pod: &'a Value, kind: &str) -> Vec<&'a str> {
    let containers = pod["spec"][kind].as_array().into_iter().flatten();
    containers.filter_map(|container| container["name"].as_str()).collect()
}

fn native_sidecar(pod: &Value) -> bool {
    let mut init = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    init.any(|container| container["name"] == "istio-proxy" && container["restartPolicy"] == "Always")
}
