//! The API server killed while a mesh is installed and another serves: no request fails, and everything finds its way back.

use std::time::Duration;

use anyhow::{Result, ensure};
use forestay_e2e::images::HTTPBIN_IMAGE;
use forestay_e2e::kube_box::{KubeBox, Part};

use super::process::{leader, pods};
use super::{installed, ready, uninstalled};
use crate::scenarios::mesh::load::Load;
use crate::scenarios::mesh::{SOON, STARTED, gateway};

const APP: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: served, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: served}
spec: {selector: {app: httpbin}, ports: [{name: http, port: 8000, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: httpbin, namespace: served}
spec:
  selector: {matchLabels: {app: httpbin}}
  template:
    metadata: {labels: {app: httpbin}}
    spec: {containers: [{name: httpbin, image: 'IMAGE', ports: [{containerPort: 8080}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: httpbin, namespace: served}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin, namespace: served}
spec: {hosts: ['*'], gateways: [httpbin], http: [{route: [{destination: {host: httpbin, port: {number: 8000}}}]}]}
";

const CANARY: &str = "{apiVersion: install.forestay.dev/v1alpha1, kind: MeshInstall, metadata: {name: canary}, spec: {profile: minimal, revision: canary}}";

/// Killed twice while a canary is installed, under load.
pub(crate) async fn killed(kube: &KubeBox) -> Result<()> {
    installed(kube).await?;
    kube.apply(&APP.replace("IMAGE", HTTPBIN_IMAGE)).await?;
    kube.wait_for("served", "deployment/httpbin", "condition=Available", STARTED).await?;
    let target = gateway(kube).await?;
    kube.eventually("a page through the gateway", SOON, || async {
        let answer = kube.http_get(&format!("http://{}/status/200", target.ip())).await?;
        ensure!(answer.status() == 200, "it answered {}", answer.status());
        Ok(())
    })
    .await?;
    let restarts = restarts(kube).await?;
    let load = Load::start(kube, target, "/status/200", 4, Duration::from_millis(20));
    kube.apply(CANARY).await?;
    for _ in 0..2 {
        // As soon as it is there the operator has work again.
        let starts = || anyhow::Ok(kube.status()?.part(Part::KubeApiserver).map(|part| part.starts));
        let before = starts()?;
        kube.kill(Part::KubeApiserver)?;
        kube.eventually("the API server again", STARTED, || async {
            // Not the one that is about to die.
            ensure!(starts()? > before, "it has not been started again");
            kube.kubectl_ok(&["get", "--raw", "/readyz"]).await.map(drop)
        })
        .await?;
    }
    ready(kube, "canary").await?;
    ready(kube, "default").await?;
    load.stop().await.all_good(100)?;
    for (before, (pod, after)) in restarts.iter().zip(self::restarts(kube).await?) {
        // Who cannot renew the Lease ends and begins again; that is once for each time that the API server was away.
        let most = if pod.contains("operator") { 2 } else { 0 };
        ensure!(after <= before.1 + most, "{pod} was restarted {} times", after - before.1);
    }
    println!("    operator {} leads again", leader(kube).await?);
    uninstalled(kube, "canary").await?;
    kube.kubectl_ok(&["delete", "namespace", "served", "--timeout=120s"]).await.map(drop)
}

/// How long the API server does nothing, and works, in turn: a request takes a second and more, an order of magnitude more
/// than on a machine that is merely busy, and within the times that Leases and clients allow.
const BEATS: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_millis(300));

/// A mesh is installed and deleted by an API server that hardly works.
pub(crate) async fn slow(kube: &KubeBox) -> Result<()> {
    let labelled = format!("{}=default", names::labels::OWNED_BY);
    let begun = std::time::Instant::now();
    let lifetime = async {
        installed(kube).await?;
        let ready = begun.elapsed();
        uninstalled(kube, "default").await?;
        Ok::<_, anyhow::Error>(ready)
    };
    let hinder = async {
        loop {
            kube.pause(Part::KubeApiserver)?;
            tokio::time::sleep(BEATS.0).await;
            kube.resume(Part::KubeApiserver)?;
            tokio::time::sleep(BEATS.1).await;
        }
    };
    let outcome: Result<Duration> = tokio::select! {
        outcome = lifetime => outcome,
        broken = hinder => broken,
    };
    kube.resume(Part::KubeApiserver)?;
    let ready = outcome?;
    println!("    Ready after {:.1} s, gone after {:.1} s", ready.as_secs_f64(), begun.elapsed().as_secs_f64());
    kube.eventually("nothing of it left", SOON, || async {
        let kinds = "deployments,services,serviceaccounts,configmaps,poddisruptionbudgets,roles,rolebindings";
        let left = kube.kubectl_ok(&["get", kinds, "-A", "-l", &labelled, "-o", "name"]).await?;
        ensure!(left.trim().is_empty(), "left: {left}");
        Ok(())
    })
    .await
}

/// How often each of the mesh's pods was restarted.
async fn restarts(kube: &KubeBox) -> Result<Vec<(String, u32)>> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let mut all = Vec::new();
    for (namespace, labels) in [("istio-system", "istio.io/rev=default"), ("forestay-system", "")] {
        let text = kube.kubectl_ok(&["-n", namespace, "get", "pods", "-l", labels, "-o", path]).await?;
        let rows = text.lines().filter_map(|line| line.split_once(' '));
        all.extend(rows.filter_map(|(pod, count)| Some((pod.to_owned(), count.parse().ok()?))));
    }
    ensure!(pods(kube).await?.len() == 1 && all.len() >= 4, "the mesh's pods are {all:?}");
    Ok(all)
}
