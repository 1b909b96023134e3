//! Addons that run here: Prometheus and Zipkin.

use std::time::Duration;

use anyhow::{Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use names::resources::MESH_NAMESPACE;

use super::{address, get, page, query, says, set};
use crate::scenarios::mesh::{self, SOON, STARTED};

/// How long until everything has been scraped: every 15 seconds.
const SCRAPED: Duration = Duration::from_mins(2);

/// Bookinfo's edges, as (from, to); reviews-v1 does not ask ratings.
const EDGES: [(&str, &str); 5] = [
    ("ratings-v1", "productpage-v1"),
    ("productpage-v1", "details-v1"),
    ("productpage-v1", "reviews-v2"),
    ("productpage-v1", "reviews-v3"),
    ("reviews-v3", "ratings-v1"),
];

/// Control plane, webhook and sidecars are scraped, and each edge is told by both of its ends.
pub(super) async fn prometheus(kube: &KubeBox) -> Result<()> {
    set(kube, r#"{"prometheus": {}}"#).await?;
    says(kube, "default", "True", "Available").await?;
    let prometheus = address(kube, "prometheus", 9090).await?;
    let ratings = mesh::pod(kube, "app=ratings").await?;
    let command = ["curl", "-sS", "-o", "/dev/null", "productpage:9080/productpage"];
    for (promql, what) in [
        (r#"up{job="kubernetes-pods", app="istiod"} == 1"#, "the control plane"),
        (r#"up{job="kubernetes-pods", app="sidecar-injector"} == 1"#, "the webhook"),
        (r#"up{job="kubernetes-pods", app="productpage", namespace="default"} == 1"#, "a sidecar"),
        (r#"up{job="kubernetes-nodes"} == 1"#, "the kubelet"),
        (r#"up{job="kubernetes-api-servers"} == 1"#, "the API server"),
    ] {
        kube.eventually(&format!("{what} is scraped"), SCRAPED, || async {
            ensure!(!query(kube, &prometheus, promql).await?.is_empty(), "nothing for {promql}");
            Ok(())
        })
        .await?;
    }
    for (from, to) in EDGES {
        for reporter in ["source", "destination"] {
            let promql = format!(
                r#"istio_requests_total{{reporter="{reporter}", source_workload="{from}", source_workload_namespace="default", destination_workload="{to}", destination_workload_namespace="default", response_code="200"}} > 0"#
            );
            kube.eventually(&format!("{from} -> {to} at the {reporter}"), SCRAPED, || async {
                kube.exec_ok("default", &ratings, Some("ratings"), &command).await?;
                if query(kube, &prometheus, &promql).await?.is_empty() {
                    let told = query(
                        kube,
                        &prometheus,
                        "count by (reporter, source_workload, destination_workload) (istio_requests_total)",
                    )
                    .await?;
                    anyhow::bail!("nothing for {promql}; told are {told:?}");
                }
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

/// Both of its Services answer; one that is deleted is put back.
pub(super) async fn zipkin(kube: &KubeBox) -> Result<()> {
    set(kube, r#"{"zipkin": {}}"#).await?;
    kube.eventually("zipkin is listed", SOON, || async {
        let install = get(kube, "default", "mi/default").await?;
        let components = install["status"]["components"].as_array().cloned().unwrap_or_default();
        let zipkin = components.iter().find(|component| component["component"] == "zipkin");
        ensure!(zipkin.is_some_and(|zipkin| zipkin["image"] == names::images::ZIPKIN), "{components:?}");
        Ok(())
    })
    .await?;
    kube.wait_for(MESH_NAMESPACE, "deployment/zipkin", "condition=Available", STARTED).await?;
    says(kube, "default", "True", "Available").await?;
    for (service, port, path) in [("zipkin", 9411, "/health"), ("tracing", 80, "/api/v2/services")] {
        let url = format!("{}{path}", address(kube, service, port).await?);
        kube.eventually("Zipkin answers", SOON, || page(kube, &url)).await?;
    }
    let health = page(kube, &format!("{}/health", address(kube, "zipkin", 9411).await?)).await?;
    ensure!(health.contains("\"UP\""), "/health says {health}");

    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "delete", "service", "tracing"]).await?;
    kube.eventually("Service tracing is put back", SOON, || get(kube, MESH_NAMESPACE, "service/tracing")).await?;
    Ok(())
}
