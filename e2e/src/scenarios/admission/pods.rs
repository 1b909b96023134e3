//! Pods that are unlike others: each is injected, left alone or refused, and whoever made it can see why.

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::images::CURL_IMAGE;
use forestay_e2e::kube_box::{KubeBox, PAUSE_IMAGE};

use super::{INJECTED, get, idle_pod, injected, namespaces, refused, remove};
use crate::scenarios::mesh::STARTED;
use crate::scenarios::mesh::inject::containers;

/// The host's network, a generated name, a debug copy, a sidecar of the user's own.
pub(crate) async fn odd(kube: &KubeBox) -> Result<()> {
    const NAMESPACE: &str = "odd";
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    kube.apply(&idle_pod("plain", NAMESPACE, "", "")).await?;
    kube.apply(&idle_pod("on-the-host", NAMESPACE, "", "hostNetwork: true")).await?;
    let own = "initContainers: [{name: istio-proxy, image: auto, imagePullPolicy: IfNotPresent, restartPolicy: Always, env: [{name: MINE, value: \"1\"}], resources: {requests: {cpu: 7m}}}]";
    kube.apply(&idle_pod("of-my-own", NAMESPACE, "", own)).await?;
    let generated = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{generateName: one-of-many-, namespace: {NAMESPACE}}}, spec: {{containers: [{{name: app, image: '{PAUSE_IMAGE}'}}]}}}}"
    );
    let generated = kube.kubectl_with_input(&["create", "-f", "-", "-o", "name"], &generated).await?;
    let generated = generated.trim();

    for pod in ["pod/plain", "pod/on-the-host", "pod/of-my-own", generated] {
        kube.wait_for(NAMESPACE, pod, "condition=Ready", STARTED).await?;
    }
    let host = get(kube, NAMESPACE, "pod/on-the-host").await?;
    let all = [containers(&host, "containers"), containers(&host, "initContainers")].concat();
    ensure!(all == ["app"], "a pod of the host's network has {all:?}");

    let many = get(kube, NAMESPACE, generated).await?;
    injected(&many)?;
    let canonical = &many["metadata"]["labels"]["service.istio.io/canonical-name"];
    ensure!(canonical == "one-of-many", "the canonical name of a generated one is {canonical}");

    let own = get(kube, NAMESPACE, "pod/of-my-own").await?;
    injected(&own)?;
    let proxies = own["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    let proxy = proxies.into_iter().find(|container| container["name"] == "istio-proxy").context("no istio-proxy")?;
    ensure!(proxy["resources"]["requests"]["cpu"] == "7m", "the user's request went: {}", proxy["resources"]);
    ensure!(
        proxy["env"].as_array().is_some_and(|env| env.iter().any(|one| one["name"] == "MINE")),
        "his variable went"
    );
    ensure!(proxy["image"] != "auto", "image auto stayed");

    // A copy keeps the annotations of the first injection and is injected again.
    let image = format!("--image={CURL_IMAGE}");
    let copy = ["-n", NAMESPACE, "debug", "pod/plain", "--copy-to=copied", "--container=debugger", &image];
    kube.kubectl_ok(&[copy.as_slice(), &["--profile=general", "--", "/bin/sleep", "infinity"]].concat()).await?;
    kube.wait_for(NAMESPACE, "pod/copied", "condition=Ready", STARTED).await?;
    let copied = get(kube, NAMESPACE, "pod/copied").await?;
    injected(&copied)?;
    ensure!(containers(&copied, "containers") == ["app", "debugger"], "{:?}", containers(&copied, "containers"));
    remove(kube, &[NAMESPACE]).await
}

/// LimitRange and Pod Security.
pub(crate) async fn limits(kube: &KubeBox) -> Result<()> {
    const RANGE: &str = "limited";
    const BASELINE: &str = "baseline";
    namespaces(kube, &[RANGE], INJECTED).await?;
    namespaces(kube, &[BASELINE], &format!("{INJECTED}, pod-security.kubernetes.io/enforce: baseline")).await?;
    kube.apply(&format!(
        "{{apiVersion: v1, kind: LimitRange, metadata: {{name: small, namespace: {RANGE}}}, spec: {{limits: [{{type: Container, default: {{cpu: 200m, memory: 128Mi}}, defaultRequest: {{cpu: 5m, memory: 16Mi}}, max: {{cpu: 500m, memory: 512Mi}}}}]}}}}"
    ))
    .await?;

    // The mesh's sidecars may use a whole processor, which is more than this namespace gives to any container.
    let error = refused(kube, &idle_pod("too-large", RANGE, "", "")).await?;
    ensure!(error.contains("maximum cpu usage per Container is 500m"), "the refusal does not name the limit: {error}");
    let fitting = "annotations: {sidecar.istio.io/proxyCPULimit: 250m, sidecar.istio.io/proxyMemoryLimit: 64Mi}";
    kube.apply(&idle_pod("fitting", RANGE, fitting, "")).await?;
    kube.wait_for(RANGE, "pod/fitting", "condition=Ready", STARTED).await?;
    injected(&get(kube, RANGE, "pod/fitting").await?)?;
    // What a sidecar does not say itself, Kubernetes fills in after the injection: a LimitRange counts for it as well.
    let half = "annotations: {sidecar.istio.io/proxyCPU: 5m}";
    kube.apply(&idle_pod("half", RANGE, half, "")).await?;
    kube.wait_for(RANGE, "pod/half", "condition=Ready", STARTED).await?;
    let half = get(kube, RANGE, "pod/half").await?;
    injected(&half)?;
    let proxies = half["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    let proxy = proxies.iter().find(|container| container["name"] == "istio-proxy").context("no istio-proxy")?;
    let expected =
        serde_json::json!({"limits": {"cpu": "200m", "memory": "128Mi"}, "requests": {"cpu": "5m", "memory": "16Mi"}});
    ensure!(proxy["resources"] == expected, "the namespace's defaults are not in {}", proxy["resources"]);

    let error = refused(kube, &idle_pod("refused", BASELINE, "", "")).await?;
    let what_to_do = "pod-security.kubernetes.io/enforce=privileged";
    for part in
        ["violates PodSecurity \"baseline:latest\"", "Warning: Pod Security \"baseline\"", "NET_ADMIN", what_to_do]
    {
        ensure!(error.contains(part), "kubectl does not say {part}: {error}");
    }
    kube.apply(&idle_pod("outside", BASELINE, "labels: {sidecar.istio.io/inject: \"false\"}", "")).await?;
    kube.wait_for(BASELINE, "pod/outside", "condition=Ready", STARTED).await?;
    remove(kube, &[RANGE, BASELINE]).await
}
