//! What is refused says why, and what cannot be read leaves the last good state.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use names::DEFAULT_REVISION;
use names::resources::{MESH_NAMESPACE, injector, mesh_config};

use super::{INJECTED, get, idle_pod, injected, namespaces, refused, remove, webhook_metric};
use crate::scenarios::mesh::{SOON, STARTED};

/// Pods that ask for what cannot be done, by kubectl and as a Deployment's.
pub(crate) async fn refusals(kube: &KubeBox) -> Result<()> {
    const NAMESPACE: &str = "mistakes";
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    for (name, annotation, value, parts) in [
        ("cpu", "sidecar.istio.io/proxyCPU", "many", &["many", "quantity"][..]),
        ("ports", "traffic.sidecar.istio.io/includeInboundPorts", "80,http", &["80,http"]),
        ("config", "proxy.istio.io/config", "concurrency: [", &[]),
        ("template", "inject.istio.io/templates", "sidecar,absent", &["absent", "sidecar"]),
    ] {
        let error =
            refused(kube, &idle_pod(name, NAMESPACE, &format!("annotations: {{{annotation}: '{value}'}}"), "")).await?;
        let named = if name == "template" { "template" } else { annotation };
        for part in ["denied the request", named].iter().chain(parts) {
            ensure!(error.contains(part), "{name}: the refusal does not say {part}: {error}");
        }
    }

    // A Deployment is accepted; its pods are not, and its ReplicaSet says so.
    let image = forestay_e2e::kube_box::PAUSE_IMAGE;
    kube.apply(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: wrong, namespace: {NAMESPACE}}}, spec: {{selector: {{matchLabels: {{app: wrong}}}}, template: {{metadata: {{labels: {{app: wrong}}, annotations: {{sidecar.istio.io/proxyCPU: many}}}}, spec: {{containers: [{{name: app, image: '{image}'}}]}}}}}}}}"
    ))
    .await?;
    kube.eventually("the ReplicaSet's event", SOON, || async {
        let described = kube.kubectl_ok(&["-n", NAMESPACE, "describe", "replicaset", "-l", "app=wrong"]).await?;
        let event = described.lines().find(|line| line.contains("Warning") && line.contains("FailedCreate"));
        let event = event.with_context(|| format!("no event FailedCreate:\n{described}"))?;
        ensure!(event.contains("sidecar.istio.io/proxyCPU"), "the event does not name the annotation: {event}");
        Ok(())
    })
    .await?;
    remove(kube, &[NAMESPACE]).await
}

/// Somebody keeps the operator's hands off the mesh's ConfigMap and breaks it.
pub(crate) async fn broken_settings(kube: &KubeBox) -> Result<()> {
    const NAMESPACE: &str = "settings";
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    let map = format!("configmap/{}", mesh_config(DEFAULT_REVISION));
    let ignore = format!("{}=true", names::annotations::IGNORE);
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "annotate", &map, &ignore]).await?;
    let broken = r#"{"data":{"mesh":"trustDomain: ["}}"#;
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "patch", &map, "--type=merge", "-p", broken]).await?;
    valid(kube, 0.0).await?;
    kube.eventually("a log that says so", SOON, || async {
        let logs = ["-n", MESH_NAMESPACE, "logs", "-l", "app=sidecar-injector", "--prefix", "--tail=-1"];
        let log = kube.kubectl_ok(&logs).await?;
        let line = log.lines().find(|line| line.contains("settings are broken"));
        let line = line.with_context(|| format!("no log says that the settings are broken:\n{log}"))?;
        ensure!(line.contains("ConfigMap istio, key mesh"), "the log does not name map and key: {line}");
        Ok(())
    })
    .await?;

    kube.apply(&idle_pod("meanwhile", NAMESPACE, "", "")).await?;
    kube.wait_for(NAMESPACE, "pod/meanwhile", "condition=Ready", STARTED).await?;
    injected(&get(kube, NAMESPACE, "pod/meanwhile").await?)?;

    // With its hands free again the operator puts the ConfigMap back.
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "annotate", &map, &format!("{}-", names::annotations::IGNORE)]).await?;
    valid(kube, 1.0).await?;
    remove(kube, &[NAMESPACE]).await
}

/// Waits until every replica says of its settings that they are in force, or that older ones are.
async fn valid(kube: &KubeBox, each: f64) -> Result<()> {
    let deployment = get(kube, MESH_NAMESPACE, &format!("deployment/{}", injector(DEFAULT_REVISION))).await?;
    let replicas = deployment["spec"]["replicas"].as_u64().context("no replicas")?;
    let wanted = each * f64::from(u32::try_from(replicas)?);
    kube.eventually("sidecar_injection_settings_valid", SOON + Duration::from_secs(30), || async {
        let sum = webhook_metric(kube, DEFAULT_REVISION, "sidecar_injection_settings_valid").await?;
        ensure!((sum - wanted).abs() < 0.5, "the sum over {replicas} replicas is {sum}, not {wanted}");
        Ok(())
    })
    .await
}
