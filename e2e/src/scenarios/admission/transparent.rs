//! Interception mode TPROXY: the application sees its clients' addresses, through mutual TLS as without it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::images;
use forestay_e2e::kube_box::KubeBox;
use serde_json::Value;

use super::{INJECTED, get, injected, namespaces, remove, strict};
use crate::scenarios::mesh::{SOON, STARTED};

const NAMESPACE: &str = "transparent";
/// The two interception modes, each also the name of a pod and of its Service.
const MODES: [&str; 2] = ["TPROXY", "REDIRECT"];

/// go-httpbin with a shell beside it, as Pod and Service.
fn pod(mode: &str) -> String {
    let (name, httpbin, curl) = (mode.to_lowercase(), images::HTTPBIN_IMAGE, images::CURL_IMAGE);
    format!(
        "---
{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {NAMESPACE}}}, spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 8000, targetPort: 8080}}]}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{app: {name}}}, annotations: {{sidecar.istio.io/interceptionMode: {mode}}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: httpbin
    image: '{httpbin}'
    readinessProbe: {{httpGet: {{path: /status/200, port: 8080}}, periodSeconds: 1}}
    livenessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
  - {{name: shell, image: '{curl}', command: [/bin/sh, -c, sleep infinity]}}
"
    )
}

/// What the application of `server` takes for the address of a client in the pod `client`, by httpbin's `/ip`.
async fn seen(kube: &KubeBox, client: &str, server: &str) -> Result<String> {
    let url = format!("http://{server}.{NAMESPACE}:8000/ip");
    let curl = ["-n", NAMESPACE, "exec", client, "-c", "shell", "--", "curl", "-sS", "--fail", "-m", "10", &url];
    let answer: Value = serde_json::from_str(&kube.kubectl_ok(&curl).await?)?;
    // With its port, which is different each time.
    let seen = answer["origin"].as_str().and_then(|seen| Some(seen.parse::<SocketAddr>().ok()?.ip().to_string()));
    seen.with_context(|| format!("httpbin says {answer}"))
}

/// Pods of both modes call each other and themselves.
pub(crate) async fn transparent(kube: &KubeBox) -> Result<()> {
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    strict(kube, NAMESPACE).await?;
    kube.apply(&MODES.map(pod).concat()).await?;
    let mut addresses = Vec::new();
    for mode in MODES {
        let pod = format!("pod/{}", mode.to_lowercase());
        // Ready by a probe of the application, which the sidecar makes for the kubelet.
        kube.wait_for(NAMESPACE, &pod, "condition=Ready", STARTED).await?;
        let pod = get(kube, NAMESPACE, &pod).await?;
        injected(&pod)?;
        addresses.push(pod["status"]["podIP"].as_str().context("the pod has no address")?.to_owned());
    }
    let [transparent, redirected] = [&addresses[0], &addresses[1]];

    for (client, server, expected) in [
        ("redirect", "tproxy", redirected.as_str()),
        ("tproxy", "tproxy", transparent),
        ("tproxy", "redirect", "127.0.0.6"),
    ] {
        let what = format!("{expected} seen by {server} as the client {client}");
        kube.eventually(&what, SOON, || async {
            let seen = seen(kube, client, server).await?;
            ensure!(seen == expected, "it sees {seen}");
            Ok(())
        })
        .await?;
    }
    kube.eventually("plaintext refused by STRICT", SOON, || async {
        let answer = kube.http_get(&format!("http://{transparent}:8080/ip")).await;
        ensure!(answer.is_err(), "plaintext is answered: {answer:?}");
        Ok(())
    })
    .await?;
    // The kubelet goes on probing: what it found then is what it finds still.
    let statuses = get(kube, NAMESPACE, "pod/tproxy").await?["status"]["containerStatuses"].clone();
    let restarted = statuses.as_array().into_iter().flatten().any(|status| status["restartCount"] != 0);
    ensure!(!restarted, "a container was started again: {statuses}");
    remove(kube, &[NAMESPACE]).await
}
