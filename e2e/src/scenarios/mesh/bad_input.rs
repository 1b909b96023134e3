//! What happens to mistakes: an error that names the field, and everything else goes on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::metrics::{scrape, series};
use super::{SOON, Visitor, apply_sample, delete_sample};
use forestay_e2e::kube_box::KubeBox;

/// A control plane that somebody else installed.
const FOREIGN: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: somebody-elses}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod, namespace: somebody-elses, labels: {app: istiod}}
spec:
  replicas: 0
  selector: {matchLabels: {app: istiod}}
  template:
    metadata: {labels: {app: istiod}}
    spec: {containers: [{name: discovery, image: "registry.istio.io/release/pilot:1.31.0"}]}
"#;

/// MeshInstalls that cannot work.
pub(crate) async fn mesh_installs(kube: &KubeBox) -> Result<()> {
    let install = |name: &str, spec: &str| {
        format!(
            "{{apiVersion: install.forestay.dev/v1alpha1, kind: MeshInstall, metadata: {{name: {name}}}, spec: {spec}}}"
        )
    };
    let refused = kube.apply(&install("odd", "{profile: sidecarless}")).await;
    let error = format!("{:#}", refused.err().context("an unknown profile was accepted")?);
    ensure!(error.contains("spec.profile"), "the refusal does not name spec.profile: {error}");

    kube.apply(FOREIGN).await?;
    for (name, spec, field) in [
        ("unknown-version", "{version: 9.9.9, revision: other}", "spec.version"),
        ("second", "{}", "spec.revision"),
        ("beside-istio", "{namespace: somebody-elses, revision: other}", "spec.namespace"),
    ] {
        kube.apply(&install(name, spec)).await?;
        kube.eventually("a condition that says why", SOON, || async {
            let path = "jsonpath={.status.conditions[?(@.type==\"Reconciled\")].status} {.status.conditions[?(@.type==\"Reconciled\")].message}";
            let condition = kube.kubectl_ok(&["get", "mi", name, "-o", path]).await?;
            ensure!(condition.starts_with("False") && condition.contains(field), "the condition of {name} is {condition:?}");
            Ok(())
        })
        .await?;
        kube.kubectl_ok(&["delete", "mi", name, "--timeout=120s"]).await?;
    }
    kube.kubectl_ok(&["delete", "namespace", "somebody-elses", "--wait=false"]).await?;
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    ensure!(kube.kubectl_ok(&["get", "mi", "default", "-o", ready]).await? == "True", "the good install suffered");
    Ok(())
}

/// A VirtualService that names a subset nobody defined: 503, its flag, and the control plane says so.
pub(crate) async fn missing_subset(kube: &KubeBox) -> Result<()> {
    apply_sample(kube, "bookinfo/networking/destination-rule-all.yaml").await?;
    kube.apply(
        "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: details, namespace: default}, spec: {hosts: [details], http: [{route: [{destination: {host: details, subset: v99}}]}]}}",
    )
    .await?;
    let visitor = Visitor::anonymous(kube).await?;
    kube.eventually("503 with flag NC", SOON, || async {
        let details = visitor.get("/api/v1/products/0").await?;
        ensure!(details.status() == 503, "details answered {}", details.status());
        let metrics = scrape(kube, ("default", "app=productpage")).await?;
        let told = series(&metrics, "istio_requests_total").into_iter().any(|labels| {
            labels.get("response_code").is_some_and(|code| code == "503")
                && labels.get("response_flags").is_some_and(|flags| flags == "NC")
        });
        ensure!(told, "istio_requests_total has no 503 with flag NC");
        Ok(())
    })
    .await?;
    kube.eventually("the control plane saying so", SOON, || async {
        let log = kube.logs("istio-system", "deployment/istiod", None).await?;
        let line = log.lines().find(|line| line.contains("default/details") && line.contains("v99"));
        line.context("istiod's log names neither the VirtualService nor the subset")?;
        Ok(())
    })
    .await?;
    kube.kubectl_ok(&["delete", "virtualservice", "details"]).await?;
    delete_sample(kube, "bookinfo/networking/destination-rule-all.yaml").await?;
    kube.eventually("details again", SOON, || async {
        let details = visitor.get("/api/v1/products/0").await?;
        ensure!(details.status() == 200, "details answered {}", details.status());
        Ok(())
    })
    .await
}

/// A pod whose annotation is malformed is refused, with the annotation's name.
pub(crate) async fn malformed_annotation(kube: &KubeBox) -> Result<()> {
    let annotation = "traffic.sidecar.istio.io/includeInboundPorts";
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: malformed, namespace: default, annotations: {{{annotation}: \"80,http\"}}}}, spec: {{containers: [{{name: app, image: 'docker.io/curlimages/curl:8.16.0'}}]}}}}"
    );
    let refused = tokio::time::timeout(Duration::from_mins(1), kube.apply(&pod)).await.context("no answer")?;
    let error = format!("{:#}", refused.err().context("a malformed annotation was accepted")?);
    ensure!(error.contains(annotation), "the refusal does not name {annotation}: {error}");
    Ok(())
}
