//! What the operator costs: how long an installation takes, what it asks the API server for while nothing happens, and what
//! it holds with 1,000 namespaces and 10,000 pods. Not part of a run of everything; `cargo xtask test --scenario scale`.
//! With `FORESTAY_PROGRAMS=<folder of release builds>` the figures are those of `docs/performance.md`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::faults::{self, process};
use super::mesh::{SOON, STARTED};
use crate::runner::{Group, Scenario};

const NAMESPACES: usize = 1_000;
const PODS: usize = 10_000;
/// How long is watched for requests while nothing happens.
const IDLE: Duration = Duration::from_mins(2);
/// Requests at a time of those who make namespaces and pods.
const AT_ONCE: usize = 32;

/// The measurements.
pub(crate) fn group() -> Group {
    let scenario = Scenario::new;
    Group {
        name: "scale",
        images: faults::archives,
        prepare: |kube| faults::prepare(kube).boxed(),
        scenarios: vec![
            scenario("time-to-ready", "MeshInstall to Ready, five times; time of a reconciliation", 20, |b| {
                time_to_ready(b).boxed()
            }),
            scenario("idle", "requests to the API server while nothing happens", 15, |b| idle(b).boxed()),
            scenario("crowd", "memory with 1,000 namespaces and 10,000 pods", 40, |b| crowd(b).boxed()),
        ],
    }
}

const MESH: &str =
    "{apiVersion: install.forestay.dev/v1alpha1, kind: MeshInstall, metadata: {name: default}, spec: {}}";

async fn time_to_ready(kube: &KubeBox) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        kube.apply(MESH).await?;
        kube.wait_for("default", "mi/default", "condition=Ready", STARTED).await?;
        times.push(begun.elapsed().as_secs_f64());
        kube.kubectl_ok(&["delete", "mi", "default", "--timeout=240s"]).await?;
    }
    times.sort_by(f64::total_cmp);
    println!("    MeshInstall to Ready, s: median {:.1}, of {times:.1?}", times[times.len() / 2]);
    println!("    {}", reconciliations(kube).await?);
    Ok(())
}

async fn operator_metrics(kube: &KubeBox) -> Result<String> {
    let path = "jsonpath={.items[0].status.podIP}";
    let address = kube.kubectl_ok(&["-n", "forestay-system", "get", "pods", "-o", path]).await?;
    let answer = kube.http_get(&format!("http://{address}:{}/metrics", names::ports::MONITORING)).await?;
    Ok(String::from_utf8_lossy(answer.body()).into_owned())
}

/// The histogram of reconciliations, in a line.
async fn reconciliations(kube: &KubeBox) -> Result<String> {
    let text = operator_metrics(kube).await?;
    let value = |name: &str| {
        let line =
            text.lines().find_map(|line| line.strip_prefix(&format!("forestay_operator_reconcile_seconds_{name} ")));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default()
    };
    let (count, sum) = (value("count"), value("sum"));
    let mut quantiles = Vec::new();
    for quantile in [0.5, 0.9, 0.99] {
        let bound = text.lines().find_map(|line| {
            let (bound, rest) =
                line.strip_prefix("forestay_operator_reconcile_seconds_bucket{le=\"")?.split_once("\"}")?;
            let below: f64 = rest.trim().parse().ok()?;
            (below >= count * quantile).then(|| bound.to_owned())
        });
        quantiles.push(format!("p{} <= {} s", quantile * 100.0, bound.unwrap_or_default()));
    }
    Ok(format!("{count} reconciliations, mean {:.1} ms, {}", sum / count.max(1.0) * 1e3, quantiles.join(", ")))
}

async fn settled(kube: &KubeBox) -> Result<()> {
    kube.apply(MESH).await?;
    kube.wait_for("default", "mi/default", "condition=Ready", STARTED).await
}

/// Counts what the operator asks for over some minutes in which nothing happens.
async fn idle(kube: &KubeBox) -> Result<()> {
    settled(kube).await?;
    let accounts = ["forestay-system/forestay-operator", "istio-system/istiod", "istio-system/istio-sidecar-injector"];
    let count = |account| Ok::<usize, anyhow::Error>(process::asked(kube, account)?.len());
    let before = accounts.iter().map(|account| count(account)).collect::<Result<Vec<_>>>()?;
    // The one thing here that is measured over time.
    tokio::time::sleep(IDLE).await;
    for (account, before) in accounts.iter().zip(before) {
        let asked = process::asked(kube, account)?.split_off(before);
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for one in &asked {
            *kinds.entry(format!("{} {}", one.verb, one.resource)).or_default() += 1;
        }
        let hourly = asked.len() * 3600 / usize::try_from(IDLE.as_secs())?;
        println!("    {account}: {} requests in {} s, {hourly} an hour: {kinds:?}", asked.len(), IDLE.as_secs());
    }
    Ok(())
}

/// The anonymous (resident) memory of operator, control plane and webhook, MiB.
fn memory(kube: &KubeBox) -> Result<String> {
    let mut text = Vec::new();
    for (name, command) in
        [("operator", "forestay operator"), ("control plane", "forestay istiod"), ("webhook", "forestay webhook")]
    {
        let (anonymous, resident) = process::memory(process::running(kube, command)?)?;
        text.push(format!("{name} {anonymous:.1} ({resident:.1})"));
    }
    Ok(text.join(", "))
}

async fn crowd(kube: &KubeBox) -> Result<()> {
    settled(kube).await?;
    println!("    MiB anonymous (resident), empty: {}", memory(kube)?);
    let client = kube.client()?;
    let begun = Instant::now();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    stream::iter(0..NAMESPACES)
        .map(|index| {
            let namespaces = namespaces.clone();
            async move {
                let namespace = serde_json::from_value(json!({"metadata": {"name": name(index)}}))?;
                namespaces.create(&PostParams::default(), &namespace).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    let accounts: Api<ServiceAccount> = Api::all(client.clone());
    kube.eventually("a service account in each", STARTED, || async {
        let defaults = ListParams::default().fields("metadata.name=default");
        let found = accounts.list_metadata(&defaults).await?.items.len();
        ensure!(found >= NAMESPACES, "in {found} so far");
        Ok(())
    })
    .await?;
    stream::iter(0..PODS)
        .map(|index| create_pod(&client, index))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    // Only now, so that no webhook is asked about the pods.
    stream::iter(0..NAMESPACES)
        .map(|index| {
            let namespaces = namespaces.clone();
            async move {
                let patch = json!({"metadata": {"labels": {"istio-injection": "enabled"}}});
                namespaces.patch(&name(index), &PatchParams::default(), &Patch::Merge(patch)).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    println!("    {NAMESPACES} namespaces and {PODS} pods made in {:.0} s", begun.elapsed().as_secs_f64());
    let counted = Instant::now();
    kube.eventually("all counted", STARTED, || async {
        let path = "jsonpath={.status.dataPlane}";
        let counted: Value = serde_json::from_str(&kube.kubectl_ok(&["get", "mi", "default", "-o", path]).await?)?;
        ensure!(counted["pods"] == PODS && counted["namespaces"] == NAMESPACES, "counted so far: {counted}");
        Ok(())
    })
    .await?;
    println!("    counted {:.1} s later", counted.elapsed().as_secs_f64());
    println!("    MiB anonymous (resident), full: {}", memory(kube)?);
    println!("    {}", reconciliations(kube).await?);
    // A leader that begins with all of it there.
    kube.kubectl_ok(&["-n", "forestay-system", "rollout", "restart", "deployment/forestay-operator"]).await?;
    kube.kubectl_ok(&["-n", "forestay-system", "rollout", "status", "deployment/forestay-operator", "--timeout=240s"])
        .await?;
    kube.eventually("the next operator at work", SOON, || async {
        let text = operator_metrics(kube).await?;
        let led = text.lines().any(|line| line == "forestay_operator_leading 1");
        ensure!(led && !text.contains("reconcile_seconds_count 0"), "not yet");
        Ok(())
    })
    .await?;
    println!("    MiB anonymous (resident), a new operator: {}", memory(kube)?);
    println!("    {}", reconciliations(kube).await?);
    Ok(())
}

fn name(index: usize) -> String {
    format!("crowd-{index:04}")
}

/// A pod that carries the marks of a sidecar and that no scheduler touches.
async fn create_pod(client: &Client, index: usize) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &name(index % NAMESPACES));
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": format!("pod-{index:05}"),
            "labels": {"app": "crowd", "security.istio.io/tlsMode": "istio", "pod-template-hash": "5d9c7b8f6"},
            "annotations": {
                "istio.io/rev": "default",
                names::annotations::PROXY_VERSION: names::VERSION,
                "sidecar.istio.io/status": "{\"containers\":null,\"initContainers\":[\"istio-init\",\"istio-proxy\"]}",
            },
        },
        "spec": {
            "schedulingGates": [{"name": "example.org/never"}],
            "containers": [{"name": "app", "image": "example.org/app:1"}, {"name": "istio-proxy", "image": "example.org/proxy:1"}],
        },
    }))?;
    pods.create(&PostParams::default(), &pod).await.with_context(|| format!("pod {index}"))?;
    Ok(())
}
