//! Addons: Prometheus and Zipkin run for real, under the image names that the operator renders; Grafana, Kiali and Jaeger
//! are taken by the API server, and their pods' trouble (there is no image of them) is told. Then a probe does against
//! control plane and proxies what Kiali does, under Kiali's own rights. The scenarios share one mesh, in this order:
//!
//! * [`left_alone`]: what somebody else has applied, and another MeshInstall
//! * [`running`]: Prometheus with Bookinfo's edges, Zipkin
//! * [`accepted`]: the rest, what admission refuses, and what is left when they go
//! * [`kiali`]: the probe
//! * [`grpc`]: applications without a proxy, whose gRPC library reads xDS itself

mod accepted;
mod grpc;
mod kiali;
mod left_alone;
mod running;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use forestay_e2e::{images, progress, tools};
use futures::FutureExt as _;
use names::resources::MESH_NAMESPACE;
use serde_json::Value;

use super::mesh::{self, SOON, STARTED};
use crate::runner::{Group, Scenario};

/// The scenarios, in order.
pub(crate) fn group() -> Group {
    let scenario = Scenario::new;
    Group {
        name: "addons",
        images: archives,
        prepare: |kube| prepare(kube).boxed(),
        scenarios: vec![
            scenario("refused", "what cannot be is refused at admission, with what to do", 2, |b| {
                accepted::refused(b).boxed()
            }),
            scenario("left-alone", "the samples' own Prometheus stays as it is until it goes", 6, |b| {
                left_alone::the_samples_own(b).boxed()
            }),
            scenario("bookinfo", "Bookinfo in the mesh", 6, |b| mesh::inject::bookinfo(b).boxed()),
            scenario("prometheus", "scrapes control plane and sidecars; answers with Bookinfo's edges", 5, |b| {
                running::prometheus(b).boxed()
            }),
            scenario("zipkin", "answers health at its Services, and is put back", 5, |b| running::zipkin(b).boxed()),
            scenario("shared", "a second revision of the namespace is told who has the addon", 4, |b| {
                left_alone::another_installs(b).boxed()
            }),
            scenario("accepted", "Grafana, Kiali and Jaeger are taken; their pods' trouble is told", 4, |b| {
                accepted::accepted(b).boxed()
            }),
            scenario("kiali-probe", "what Kiali asks control plane and proxies is answered", 4, |b| {
                kiali::probe(b).boxed()
            }),
            scenario("proxyless-grpc", "gRPC's own xDS: routed, mutual TLS, without the control plane", 10, |b| {
                grpc::proxyless(b).boxed()
            }),
            scenario("switched-off", "addons go, their data stay and are told", 4, |b| {
                accepted::switched_off(b).boxed()
            }),
            scenario("purged", "the last to go takes the data with it", 6, |b| accepted::purged(b).boxed()),
        ],
    }
}

fn archives() -> Result<Vec<PathBuf>> {
    let mut archives = mesh::archives()?;
    let cache = tools::Cache::open()?;
    archives.push(images::prometheus(&tools::prometheus(&progress::PlainLines)?, &cache)?.path);
    archives.push(images::grpc_echo(&tools::grpc_echo(&progress::PlainLines)?, &cache)?.path);
    let (jar, runtime) = (tools::zipkin(&progress::PlainLines)?, tools::java_runtime(&progress::PlainLines)?);
    archives.push(images::zipkin(&jar, &runtime, &cache)?.path);
    Ok(archives)
}

async fn prepare(kube: &KubeBox) -> Result<()> {
    mesh::operator_installed(kube).await?;
    kube.apply(&mesh_install(names::DEFAULT_REVISION, "{}")).await?;
    kube.wait_for("default", "mi/default", "condition=Ready", STARTED).await
}

/// A MeshInstall without gateways and with small sidecars, and these addons.
fn mesh_install(revision: &str, addons: &str) -> String {
    format!(
        "
apiVersion: install.forestay.dev/v1alpha1
kind: MeshInstall
metadata: {{name: {revision}}}
spec:
  profile: minimal
  revision: {revision}
  deletionGracePeriodSeconds: 0
  controlPlane: {{resources: {{requests: {{cpu: 10m}}}}}}
  webhook: {{resources: {{requests: {{cpu: 10m}}}}}}
  proxy: {{resources: {{requests: {{cpu: 5m, memory: 16Mi}}, limits: {{cpu: '1', memory: 256Mi}}}}}}
  addons: {addons}
"
    )
}

/// Lays this over the addons of MeshInstall `default`; null takes one away.
async fn set(kube: &KubeBox, addons: &str) -> Result<()> {
    let patch = format!(r#"{{"spec": {{"addons": {addons}}}}}"#);
    kube.kubectl_ok(&["patch", "mi", "default", "--type=merge", "-p", &patch]).await.map(drop)
}

/// One object as kubectl shows it.
async fn get(kube: &KubeBox, namespace: &str, object: &str) -> Result<Value> {
    let text = kube.kubectl_ok(&["-n", namespace, "get", object, "-o", "json"]).await?;
    serde_json::from_str(&text).with_context(|| format!("{object} as JSON"))
}

/// A condition of a MeshInstall, once it speaks of the newest generation: status, reason, message.
async fn condition(kube: &KubeBox, install: &str, condition: &str) -> Result<(String, String, String)> {
    let object = get(kube, "default", &format!("mi/{install}")).await?;
    let found = object["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == condition);
    let found = found.with_context(|| format!("mi/{install} has no condition {condition}"))?;
    ensure!(
        found["observedGeneration"] == object["metadata"]["generation"],
        "mi/{install}: {condition} speaks of generation {}, not of {}",
        found["observedGeneration"],
        object["metadata"]["generation"]
    );
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("reason"), text("message")))
}

/// Waits until a condition says this; the message comes back. The mesh itself must be Ready all the while.
async fn says(kube: &KubeBox, install: &str, status: &str, reason: &str) -> Result<String> {
    kube.eventually(&format!("AddonsReady={status}, {reason}"), STARTED, || async {
        let (ready, why, text) = condition(kube, install, "Ready").await?;
        ensure!(ready == "True", "Ready is {ready} ({why}): {text}");
        let (found, why, text) = condition(kube, install, "AddonsReady").await?;
        ensure!(found == status && why == reason, "AddonsReady is {found} ({why}): {text}");
        Ok(text)
    })
    .await
}

/// Waits for an event with this reason and these words.
async fn event(kube: &KubeBox, reason: &str, words: &str) -> Result<()> {
    kube.eventually(&format!("an event {reason}"), SOON, || async {
        let events = kube.kubectl_ok(&["get", "events", "-A", "-o", "json"]).await?;
        let events: Value = serde_json::from_str(&events)?;
        let says = |event: &Value| event["message"].as_str().is_some_and(|message| message.contains(words));
        let told =
            events["items"].as_array().into_iter().flatten().any(|event| event["reason"] == reason && says(event));
        ensure!(told, "no event {reason} says {words:?}");
        Ok(())
    })
    .await
}

/// Addresses of a Service's ports: the cluster IP with the number.
async fn address(kube: &KubeBox, service: &str, port: u16) -> Result<String> {
    let service = get(kube, MESH_NAMESPACE, &format!("service/{service}")).await?;
    let ip = service["spec"]["clusterIP"].as_str().context("a cluster IP")?;
    Ok(format!("http://{ip}:{port}"))
}

/// The body of a page that must answer 200.
async fn page(kube: &KubeBox, url: &str) -> Result<String> {
    let answer = tokio::time::timeout(Duration::from_secs(10), kube.http_get(url))
        .await
        .with_context(|| format!("{url}: no answer within 10 s"))??;
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    ensure!(answer.status() == 200, "{url} answered {}: {body}", answer.status());
    Ok(body)
}

/// The labels of every series that an instant query to the addon Prometheus gives, with its value.
async fn query(kube: &KubeBox, prometheus: &str, promql: &str) -> Result<Vec<(Value, f64)>> {
    let encoded: String = promql
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let answer: Value =
        serde_json::from_str(&page(kube, &format!("{prometheus}/api/v1/query?query={encoded}")).await?)?;
    ensure!(answer["status"] == "success", "{promql}: {answer}");
    let result = answer.pointer("/data/result").and_then(Value::as_array).context("a result")?;
    Ok(result
        .iter()
        .map(|series| {
            let value = series["value"][1].as_str().and_then(|value| value.parse().ok()).unwrap_or(f64::NAN);
            (series["metric"].clone(), value)
        })
        .collect())
}
