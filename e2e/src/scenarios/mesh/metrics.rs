//! What a request leaves behind: the same edge, told by both of its ends.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{SOON, Visitor, apply_sample, delete_sample};
use forestay_e2e::kube_box::KubeBox;
use serde_json::Value;

/// An edge of Bookinfo's graph: where it is told, and what must be said of it.
struct Edge {
    pod: (&'static str, &'static str),
    reporter: &'static str,
    from: &'static str,
    to: &'static str,
    security: &'static str,
}

/// How long one answer may take; the next try may find another pod.
const TRY: Duration = Duration::from_secs(10);

const GATEWAY: (&str, &str) = ("istio-system", "istio=ingressgateway");

/// gateway -> productpage -> reviews -> ratings at the source and at the destination.
pub(crate) async fn edges(kube: &KubeBox) -> Result<()> {
    apply_sample(kube, "bookinfo/networking/destination-rule-all.yaml").await?;
    apply_sample(kube, "bookinfo/networking/virtual-service-reviews-v3.yaml").await?;
    let edge = |pod, reporter, from, to| Edge {
        pod,
        reporter,
        from,
        to,
        security: if reporter == "source" { "unknown" } else { "mutual_tls" },
    };
    let (productpage, reviews, ratings) =
        (("default", "app=productpage"), ("default", "app=reviews,version=v3"), ("default", "app=ratings"));
    let edges = [
        edge(GATEWAY, "source", "istio-ingressgateway", "productpage-v1"),
        edge(productpage, "destination", "istio-ingressgateway", "productpage-v1"),
        edge(productpage, "source", "productpage-v1", "reviews-v3"),
        edge(reviews, "destination", "productpage-v1", "reviews-v3"),
        edge(reviews, "source", "reviews-v3", "ratings-v1"),
        edge(ratings, "destination", "reviews-v3", "ratings-v1"),
    ];
    let visitor = Visitor::anonymous(kube).await?;
    for edge in &edges {
        kube.eventually("an edge in istio_requests_total", SOON, || async {
            visitor.page().await?;
            let metrics = scrape(kube, edge.pod).await?;
            let series = series(&metrics, "istio_requests_total");
            let found = series.iter().find(|labels| {
                labels.get("reporter").is_some_and(|value| value == edge.reporter)
                    && labels.get("source_workload").is_some_and(|value| value == edge.from)
                    && labels.get("destination_workload").is_some_and(|value| value == edge.to)
                    && labels.get("response_code").is_some_and(|value| value == "200")
            });
            let labels = found.with_context(|| {
                let told: Vec<_> = series.iter().map(|labels| format!("{labels:?}")).collect();
                format!(
                    "no {} -> {} told by {:?} as {}:\n{}",
                    edge.from,
                    edge.to,
                    edge.pod,
                    edge.reporter,
                    told.join("\n")
                )
            })?;
            check(labels, edge)
        })
        .await?;
    }
    delete_sample(kube, "bookinfo/networking/virtual-service-reviews-v3.yaml").await
}

fn check(labels: &BTreeMap<String, String>, edge: &Edge) -> Result<()> {
    let service = edge.to.rsplit_once('-').map_or(edge.to, |(service, _)| service);
    let (source_namespace, source_account, source_app) = if edge.from == "istio-ingressgateway" {
        ("istio-system", "istio-ingressgateway-service-account".to_owned(), "istio-ingressgateway".to_owned())
    } else {
        let app = edge.from.rsplit_once('-').map_or(edge.from, |(app, _)| app);
        ("default", format!("bookinfo-{app}"), app.to_owned())
    };
    let expected = [
        ("source_workload_namespace", source_namespace.to_owned()),
        ("source_canonical_service", source_app.clone()),
        ("source_app", source_app),
        ("source_principal", format!("spiffe://cluster.local/ns/{source_namespace}/sa/{source_account}")),
        ("destination_workload_namespace", "default".to_owned()),
        ("destination_app", service.to_owned()),
        ("destination_canonical_service", service.to_owned()),
        ("destination_service", format!("{service}.default.svc.cluster.local")),
        ("destination_service_name", service.to_owned()),
        ("destination_service_namespace", "default".to_owned()),
        ("destination_principal", format!("spiffe://cluster.local/ns/default/sa/bookinfo-{service}")),
        ("request_protocol", "http".to_owned()),
        ("response_flags", "-".to_owned()),
        ("connection_security_policy", edge.security.to_owned()),
    ];
    for (label, value) in expected {
        let found = labels.get(label).map_or("(absent)", String::as_str);
        ensure!(
            found == value,
            "{} -> {} told at the {}: {label} is {found:?}, not {value:?}",
            edge.from,
            edge.to,
            edge.reporter
        );
    }
    Ok(())
}

/// What a pod's proxy shows to Prometheus.
pub(crate) async fn scrape(kube: &KubeBox, (namespace, labels): (&str, &str)) -> Result<String> {
    let running = "--field-selector=status.phase=Running";
    let pods = kube.kubectl_ok(&["-n", namespace, "get", "pod", "-l", labels, running, "-o", "json"]).await?;
    let pods: Value = serde_json::from_str(&pods).context("pods as JSON")?;
    // One that is on its way out counts as running until it is gone, and its address may lead nowhere.
    let mut staying =
        pods["items"].as_array().into_iter().flatten().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let address = staying.find_map(|pod| pod["status"]["podIP"].as_str());
    let address = address.with_context(|| format!("{namespace} {labels}: no pod"))?;
    let answer = tokio::time::timeout(TRY, kube.http_get(&format!("http://{address}:15020/stats/prometheus")))
        .await
        .with_context(|| format!("{namespace} {labels}: {address} did not answer within {TRY:?}"))??;
    ensure!(answer.status() == 200, "{namespace} {labels}: /stats/prometheus answered {}", answer.status());
    Ok(String::from_utf8_lossy(answer.body()).into_owned())
}

/// The label sets of a metric's series.
pub(crate) fn series(metrics: &str, name: &str) -> Vec<BTreeMap<String, String>> {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once('}'));
    lines
        .map(|(labels, _)| {
            let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
            labels.map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned())).collect()
        })
        .collect()
}
