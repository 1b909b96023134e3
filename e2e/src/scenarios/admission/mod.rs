//! Admission, as a user meets it with kubectl: every kind of workload, probes, odd pods, mistakes, two revisions, and
//! what happens while authorities change and while the webhook is away. The scenarios share one mesh; each has
//! namespaces of its own and takes them away again.
//!
//! * [`workloads`]: every kind of workload gets its sidecar and becomes ready; Jobs end
//! * [`probes`]: probes of every type under STRICT mTLS, passing and failing
//! * [`pods`]: pods that are unlike others
//! * [`mistakes`]: what is refused, and what keeps the last good state
//! * [`crowd`]: very many at once
//! * [`revisions`]: a canary beside the first mesh
//! * [`rotation`]: new authorities under load
//! * [`outage`]: the webhook is away or hangs, and comes back
//! * [`command`]: the command line says and does what the webhook does
//! * [`transparent`]: with interception mode TPROXY applications see their clients' addresses
//! * [`values`]: Helm values of a MeshInstall: templates, a CNI plugin, mistakes

mod authority;
mod command;
mod crowd;
pub(crate) mod load;
mod mistakes;
mod outage;
mod pods;
mod probes;
mod revisions;
mod rotation;
mod transparent;
mod values;
mod workloads;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use forestay_e2e::{images, progress, tools};
use futures::FutureExt as _;
use names::resources::{MESH_NAMESPACE, injector};
use serde_json::Value;

use super::mesh::{self, STARTED};
use crate::runner::{Group, Scenario};

/// The scenarios. Only the two of `kinds` are in need of their order, to wait less.
pub(crate) fn group() -> Group {
    let scenario = Scenario::new;
    Group {
        name: "admission",
        images: archives,
        prepare: |kube| prepare(kube).boxed(),
        scenarios: vec![
            scenario("workload-kinds", "all eight kinds are injected and ready; Jobs end, well or badly", 8, |b| {
                workloads::kinds(b).boxed()
            }),
            scenario("probes", "probes of every type pass under STRICT mTLS, and fail when they should", 8, |b| {
                probes::probes(b).boxed()
            }),
            scenario("odd-pods", "host network, generated names, debug copies, a sidecar of the user's own", 6, |b| {
                pods::odd(b).boxed()
            }),
            scenario("limits", "LimitRange and Pod Security: what passes, and who says what does not", 6, |b| {
                pods::limits(b).boxed()
            }),
            scenario("mistakes", "bad annotations and templates are refused by name", 4, |b| {
                mistakes::refusals(b).boxed()
            }),
            scenario("broken-settings", "a broken mesh configuration leaves the last good one in force", 5, |b| {
                mistakes::broken_settings(b).boxed()
            }),
            scenario(
                "kube-inject",
                "files injected by the command line run as those that the webhook injects",
                6,
                |b| command::kube_inject(b).boxed(),
            ),
            scenario(
                "check-inject",
                "what check-inject says is what then happens, also by tags and conditions",
                6,
                |b| command::check_inject(b).boxed(),
            ),
            scenario("spec-values", "a Helm value changes pods; a broken one is named and changes nothing", 5, |b| {
                values::spec_values(b).boxed()
            }),
            scenario("templates", "pods of a user's own template and of the gateway's run", 5, |b| {
                values::templates(b).boxed()
            }),
            scenario("cni", "without the CNI plugin that is to redirect a pod waits and says why", 5, |b| {
                values::cni(b).boxed()
            }),
            scenario("tproxy", "with interception mode TPROXY an application sees its clients' addresses", 5, |b| {
                transparent::transparent(b).boxed()
            }),
            scenario("cron-job", "a CronJob's Job runs on time and ends", 6, |b| workloads::cron_job(b).boxed()),
            scenario("500-at-once", "500 admissions at once are all answered", 5, |b| crowd::admissions(b).boxed()),
            scenario("60-pods", "60 pods come up with their sidecars", 10, |b| crowd::pods(b).boxed()),
            scenario("revisions", "a canary beside the first mesh, each its own pods, one trust", 8, |b| {
                revisions::side_by_side(b).boxed()
            }),
            scenario("webhook-authority", "the webhook's authority changes and no admission fails", 6, |b| {
                rotation::of_the_webhook(b).boxed()
            }),
            scenario("mesh-authority", "the mesh's root changes, no admission and no request fails", 8, |b| {
                rotation::of_the_mesh(b).boxed()
            }),
            scenario("outage", "without its webhook the mesh waits and everything else goes on", 8, |b| {
                outage::outage(b).boxed()
            }),
            scenario(
                "frozen",
                "with its webhook hanging the mesh waits, within bounds, and everything else goes on",
                8,
                |b| outage::frozen(b).boxed(),
            ),
        ],
    }
}

fn archives() -> Result<Vec<PathBuf>> {
    let mut archives = mesh::archives()?;
    archives.push(images::probed(&tools::probed(&progress::PlainLines)?, &tools::Cache::open()?)?.path);
    Ok(archives)
}

/// A MeshInstall without gateways, whose sidecars ask for little: very many have to fit on one node.
fn mesh_install(revision: &str) -> String {
    format!(
        r#"
apiVersion: install.forestay.dev/v1alpha1
kind: MeshInstall
metadata: {{name: {revision}}}
spec:
  profile: minimal
  revision: {revision}
  proxy: {{resources: {{requests: {{cpu: 5m, memory: 16Mi}}, limits: {{cpu: "1", memory: 256Mi}}}}}}
"#
    )
}

async fn prepare(kube: &KubeBox) -> Result<()> {
    mesh::operator_installed(kube).await?;
    kube.apply(&mesh_install(names::DEFAULT_REVISION)).await?;
    kube.wait_for("default", "mi/default", "condition=Ready", STARTED).await?;
    scale_webhook(kube, 2).await?;
    webhooks_ready(kube, 2).await
}

/// Scales the webhook as a user does: the number is his, since the MeshInstall does not say one.
async fn scale_webhook(kube: &KubeBox, replicas: u8) -> Result<()> {
    let deployment = format!("deployment/{}", injector(names::DEFAULT_REVISION));
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "scale", &deployment, &format!("--replicas={replicas}")]).await.map(drop)
}

async fn webhooks_ready(kube: &KubeBox, replicas: u8) -> Result<()> {
    let deployment = format!("deployment/{}", injector(names::DEFAULT_REVISION));
    let ready = format!("jsonpath={{.status.readyReplicas}}={replicas}");
    kube.wait_for(MESH_NAMESPACE, &deployment, &ready, STARTED).await
}

/// Makes namespaces with these labels.
async fn namespaces(kube: &KubeBox, names: &[&str], labels: &str) -> Result<()> {
    let one = |name: &&str| {
        format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}\n")
    };
    kube.apply(&names.iter().map(one).collect::<String>()).await.map(drop)
}

/// Label of a namespace whose pods are injected.
const INJECTED: &str = "istio-injection: enabled";

/// Takes namespaces away; nobody waits for the end of their pods.
async fn remove(kube: &KubeBox, names: &[&str]) -> Result<()> {
    let arguments = [&["delete", "namespace", "--wait=false"], names].concat();
    kube.kubectl_ok(&arguments).await.map(drop)
}

/// Only mutual TLS reaches the pods of a namespace.
async fn strict(kube: &KubeBox, namespace: &str) -> Result<()> {
    kube.apply(&format!(
        "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: default, namespace: {namespace}}}, spec: {{mtls: {{mode: STRICT}}}}}}"
    ))
    .await
    .map(drop)
}

/// A pod that does nothing and ends at once, as YAML in flow style; `metadata` and `spec` are more members of theirs.
fn idle_pod(name: &str, namespace: &str, metadata: &str, spec: &str) -> String {
    let image = forestay_e2e::kube_box::PAUSE_IMAGE;
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, {metadata}}}, spec: {{containers: [{{name: app, image: '{image}'}}], {spec}}}}}"
    )
}

/// go-httpbin as Deployment and Service `name`, port 8000. It stops listening as soon as it is asked to end, so it is asked
/// only once its clients can have heard of it, and a successor counts only when it listens.
fn httpbin(name: &str, namespace: &str) -> String {
    let image = images::HTTPBIN_IMAGE;
    format!(
        r"
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{kind: {name}}}, ports: [{{name: http, port: 8000, targetPort: 8080}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{kind: {name}}}}}
  template:
    metadata: {{labels: {{kind: {name}}}}}
    spec:
      containers:
      - name: httpbin
        image: '{image}'
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /status/200, port: 8080}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 5}}}}}}
"
    )
}

/// A Deployment `name` of a pod with a shell and curl.
fn client(name: &str, namespace: &str, script: &str) -> String {
    let image = images::CURL_IMAGE;
    format!(
        "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{selector: {{matchLabels: {{kind: {name}}}}}, template: {{metadata: {{labels: {{kind: {name}}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: app, image: '{image}', command: [/bin/sh, -c, '{script}']}}]}}}}}}}}\n"
    )
}

/// A key of a Secret, as text.
async fn secret_key(kube: &KubeBox, secret: &str, key: &str) -> Result<String> {
    let template = format!("go-template={{{{with index .data \"{key}\"}}}}{{{{. | base64decode}}}}{{{{end}}}}");
    kube.kubectl_ok(&["-n", MESH_NAMESPACE, "get", "secret", secret, "-o", &template]).await
}

/// kubectl must fail; its words come back.
async fn refused(kube: &KubeBox, yaml: &str) -> Result<String> {
    let answer = tokio::time::timeout(Duration::from_mins(1), kube.apply(yaml)).await.context("no answer")?;
    Ok(format!("{:#}", answer.err().with_context(|| format!("accepted: {yaml}"))?))
}

/// One object as kubectl shows it.
async fn get(kube: &KubeBox, namespace: &str, object: &str) -> Result<Value> {
    Ok(serde_json::from_str(&kube.kubectl_ok(&["-n", namespace, "get", object, "-o", "json"]).await?)?)
}

/// Fails unless a pod has exactly one sidecar and is marked as part of the mesh.
fn injected(pod: &Value) -> Result<()> {
    let name = mesh::inject::name_of(pod);
    let all = [mesh::inject::containers(pod, "containers"), mesh::inject::containers(pod, "initContainers")].concat();
    for ours in ["istio-proxy", "istio-init"] {
        let count = all.iter().filter(|container| **container == ours).count();
        ensure!(count == 1, "{name} has {count} containers {ours}: {all:?}");
    }
    ensure!(pod["metadata"]["labels"]["security.istio.io/tlsMode"] == "istio", "{name} is not marked for mTLS");
    ensure!(pod["metadata"]["annotations"]["sidecar.istio.io/status"].is_string(), "{name} has no status annotation");
    Ok(())
}

/// The addresses of a revision's webhook replicas.
async fn webhook_addresses(kube: &KubeBox, revision: &str) -> Result<Vec<String>> {
    let labels = format!("app=sidecar-injector,istio.io/rev={revision}");
    let addresses = "jsonpath={.items[*].status.podIP}";
    let running = "--field-selector=status.phase=Running";
    let pods = ["-n", MESH_NAMESPACE, "get", "pod", "-l", &labels, running, "-o", addresses];
    let addresses = kube.kubectl_ok(&pods).await?.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    ensure!(!addresses.is_empty(), "no webhook of revision {revision} runs");
    Ok(addresses)
}

/// The sum over a revision's webhook replicas of what a metric counts.
async fn webhook_metric(kube: &KubeBox, revision: &str, metric: &str) -> Result<f64> {
    let mut sum = 0.0;
    for address in webhook_addresses(kube, revision).await? {
        let answer = kube.http_get(&format!("http://{address}:{}/metrics", names::ports::MONITORING)).await?;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next() == Some(metric)).then(|| value.parse::<f64>().ok()).flatten()
        });
        let values: Vec<f64> = values.collect();
        ensure!(!values.is_empty(), "the webhook at {address} has no metric {metric}:\n{text}");
        sum += values.iter().sum::<f64>();
    }
    Ok(sum)
}

/// Says how long something took, for the log of the run.
fn tell(what: &str, since: Instant) {
    println!("    {what}: {:.1} s", since.elapsed().as_secs_f64());
}
