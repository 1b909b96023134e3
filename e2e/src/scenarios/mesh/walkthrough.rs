//! The page, word for word as the walkthrough asks for it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use super::{SOON, Visitor, apply_sample, pod};
use forestay_e2e::kube_box::KubeBox;

const TITLE: &str = "Simple Bookstore App";

/// From inside: `kubectl exec` in ratings, with curl.
pub(crate) async fn from_inside(kube: &KubeBox) -> Result<()> {
    let ratings = pod(kube, "app=ratings").await?;
    let command = ["curl", "-sS", "productpage:9080/productpage"];
    kube.eventually("the page from inside", SOON, || async {
        let page = kube.exec_ok("default", &ratings, Some("ratings"), &command).await?;
        ensure!(page.contains(&format!("<title>{TITLE}</title>")), "no title in: {page}");
        Ok(())
    })
    .await
}

/// From outside: the Gateway and its VirtualService, through LoadBalancer address and NodePort.
pub(crate) async fn through_the_gateway(kube: &KubeBox) -> Result<()> {
    apply_sample(kube, "bookinfo/networking/bookinfo-gateway.yaml").await?;
    let visitor = Visitor::anonymous(kube).await?;
    kube.eventually("the page through the gateway", SOON, || async {
        let page = visitor.page().await?;
        ensure!(page.title() == Some(TITLE), "the title is {:?}", page.title());
        Ok(())
    })
    .await?;
    let missing = visitor.get("/nothing/here").await?;
    ensure!(missing.status() == 404, "a path that no rule names answered {}", missing.status());

    let port = "jsonpath={.spec.ports[?(@.name==\"http2\")].nodePort}";
    let port = kube.kubectl_ok(&["-n", "istio-system", "get", "service", "istio-ingressgateway", "-o", port]).await?;
    let node = "jsonpath={.items[0].status.hostIP}";
    let gateway = ["-n", "istio-system", "get", "po", "-l", "istio=ingressgateway", "-o", node];
    let node: SocketAddr =
        format!("{}:{port}", kube.kubectl_ok(&gateway).await?.trim()).parse().context("node port")?;
    let page = kube.http_get(&format!("http://{node}/productpage")).await?;
    ensure!(page.status() == 200, "the NodePort answered {}", page.status());
    Ok(())
}
