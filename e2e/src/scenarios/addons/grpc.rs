//! Proxyless gRPC: applications whose gRPC library reads xDS itself, here Google's own for Go, with the template
//! `grpc-agent`. No proxy is in these pods.

use std::collections::BTreeMap;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::images::GRPC_ECHO_IMAGE;
use forestay_e2e::kube_box::KubeBox;
use names::resources::MESH_NAMESPACE;
use serde::Deserialize;
use serde_json::Value;

use super::{get, page};
use crate::scenarios::mesh::STARTED;

const NAMESPACE: &str = "proxyless";

/// How often the client calls to find out who answers.
const CALLS: usize = 20;

/// One Deployment of `grpc-echo`, with its own service account.
fn deployment(name: &str, account: &str, labels: &str, arguments: &str) -> String {
    format!(
        r#"---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{name: {name}}}}}
  template:
    metadata:
      labels: {{name: {name}, {labels}}}
      annotations:
        inject.istio.io/templates: grpc-agent
        proxy.istio.io/config: '{{"holdApplicationUntilProxyStarts": true}}'
    spec:
      serviceAccountName: {account}
      terminationGracePeriodSeconds: 1
      containers:
      - name: echo
        image: {GRPC_ECHO_IMAGE}
        args: [{arguments}]
        readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}
"#
    )
}

fn applications() -> String {
    let base = format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{istio-injection: enabled}}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: server, namespace: {NAMESPACE}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: client, namespace: {NAMESPACE}}}
---
apiVersion: v1
kind: Service
metadata: {{name: echo, namespace: {NAMESPACE}}}
spec:
  selector: {{app: echo}}
  ports: [{{name: grpc, port: 7070}}]
"
    );
    let server = |version: &str| {
        let labels = format!("app: echo, version: {version}");
        deployment(&format!("echo-{version}"), "server", &labels, &format!("serve, {version}"))
    };
    let target = format!("call, 'xds:///echo.{NAMESPACE}.svc.cluster.local:7070'");
    base + &server("v1") + &server("v2") + &deployment("client", "client", "app: client", &target)
}

/// The subsets, and how they are connected to.
fn destination(mode: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: echo, namespace: {NAMESPACE}}}
spec:
  host: echo
  trafficPolicy: {{tls: {{mode: {mode}}}}}
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]
"
    )
}

/// Which part of the calls goes to v1, and which to v2.
fn split(v1: u32, v2: u32) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo, namespace: {NAMESPACE}}}
spec:
  hosts: [echo]
  http:
  - route:
    - {{destination: {{host: echo, subset: v1}}, weight: {v1}}}
    - {{destination: {{host: echo, subset: v2}}, weight: {v2}}}
"
    )
}

/// What became of some calls, as `grpc-echo` says it.
#[derive(Debug, Deserialize)]
struct Outcome {
    answers: BTreeMap<String, usize>,
    errors: BTreeMap<String, usize>,
}

/// The client, by the address of its pod.
struct Client<'a> {
    kube: &'a KubeBox,
    url: String,
}

impl Client<'_> {
    async fn calls(&self) -> Result<Outcome> {
        serde_json::from_str(&page(self.kube, &self.url).await?).context("what the client says of its calls")
    }

    /// Waits until every call is answered by `expected`, and by each of them.
    async fn answered_by(&self, what: &str, expected: &[&str]) -> Result<()> {
        self.kube
            .eventually(what, STARTED, || async {
                let outcome = self.calls().await?;
                ensure!(
                    outcome.errors.is_empty()
                        && outcome.answers.keys().map(String::as_str).eq(expected.iter().copied()),
                    "{outcome:?}"
                );
                Ok(())
            })
            .await
    }
}

/// Servers and client become Ready; a VirtualService splits and moves; STRICT with ISTIO_MUTUAL; without control plane.
pub(crate) async fn proxyless(kube: &KubeBox) -> Result<()> {
    kube.apply(&applications()).await?;
    for name in ["echo-v1", "echo-v2", "client"] {
        kube.wait_for(NAMESPACE, &format!("deployment/{name}"), "condition=Available", STARTED).await?;
    }
    let pods = kube.kubectl_ok(&["-n", NAMESPACE, "get", "pods", "-l", "app=client", "-o", "json"]).await?;
    let pods: Value = serde_json::from_str(&pods)?;
    let pod = pods.pointer("/items/0").context("the client's pod")?;
    let containers = pod["spec"]["containers"].as_array().context("its containers")?;
    let names: Vec<_> = containers.iter().filter_map(|container| container["name"].as_str()).collect();
    ensure!(names == ["istio-proxy", "echo"], "the agent must come first, to hold the application: {names:?}");
    ensure!(pod["spec"]["initContainers"].is_null(), "something redirects the pod's connections");
    let ip = pod["status"]["podIP"].as_str().context("the client's address")?;
    let client = Client { kube, url: format!("http://{ip}:8080/calls?count={CALLS}") };

    client.answered_by("answers from both versions, without any rule", &["v1", "v2"]).await?;
    kube.apply(&format!("{}---{}", destination("DISABLE"), split(100, 0))).await?;
    client.answered_by("every answer from v1", &["v1"]).await?;
    kube.apply(&split(0, 100)).await?;
    client.answered_by("every answer from v2", &["v2"]).await?;
    let output = plain_call(kube).await?;
    ensure!(output.status.success(), "plain text is refused: {}", String::from_utf8_lossy(&output.stderr));

    kube.apply(&format!(
        "{}---\n{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: default, namespace: {NAMESPACE}}}, spec: {{mtls: {{mode: STRICT}}}}}}",
        destination("ISTIO_MUTUAL")
    ))
    .await?;
    let known = format!("v2 to spiffe://cluster.local/ns/{NAMESPACE}/sa/client");
    client.answered_by("answers to the client's certificate", &[&known]).await?;
    let output = plain_call(kube).await?;
    ensure!(!output.status.success(), "plain text is answered: {}", String::from_utf8_lossy(&output.stdout));

    without_control_plane(kube, &client, &known).await?;
    kube.apply(&split(100, 0)).await?;
    let moved = known.replacen("v2", "v1", 1);
    client.answered_by("the control plane followed again", &[&moved]).await?;
    kube.kubectl_ok(&["delete", "namespace", NAMESPACE, "--wait=false"]).await.map(drop)
}

/// A call of somebody who knows nothing of the mesh: by DNS, in plain text, on a connection of its own.
async fn plain_call(kube: &KubeBox) -> Result<Output> {
    let target = format!("dns:///echo.{NAMESPACE}.svc.cluster.local:7070");
    kube.exec(NAMESPACE, "deployment/client", Some("echo"), &["/bin/grpc-echo", "once", &target]).await
}

/// Takes the control plane away, and the operator that would bring it back; calls are answered as before.
async fn without_control_plane(kube: &KubeBox, client: &Client<'_>, expected: &str) -> Result<()> {
    let scale = |namespace: &'static str, name: &'static str, replicas: u64| async move {
        let replicas = format!("--replicas={replicas}");
        kube.kubectl_ok(&["-n", namespace, "scale", "deployment", name, &replicas]).await.map(drop)
    };
    let before = get(kube, MESH_NAMESPACE, "deployment/istiod").await?["spec"]["replicas"].as_u64().unwrap_or(1);
    scale("forestay-system", "forestay-operator", 0).await?;
    let outcome = async {
        scale(MESH_NAMESPACE, "istiod", 0).await?;
        let istiod = ["-n", MESH_NAMESPACE, "delete", "pod", "-l", "app=istiod", "--grace-period=0", "--force"];
        // One may have ended between kubectl's list and its request.
        kube.kubectl_ok(&[istiod.as_slice(), &["--ignore-not-found"]].concat()).await?;
        let outcome = client.calls().await?;
        let all = outcome.answers.get(expected).copied() == Some(CALLS);
        ensure!(all && outcome.errors.is_empty(), "without the control plane: {outcome:?}");
        Ok(())
    }
    .await;
    scale(MESH_NAMESPACE, "istiod", before).await?;
    scale("forestay-system", "forestay-operator", 1).await?;
    for (namespace, deployment) in
        [(MESH_NAMESPACE, "deployment/istiod"), ("forestay-system", "deployment/forestay-operator")]
    {
        kube.wait_for(namespace, deployment, "condition=Available", STARTED).await?;
    }
    kube.wait_for("default", "mi/default", "condition=Ready", STARTED).await?;
    outcome
}
