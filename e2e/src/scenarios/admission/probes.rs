//! Probes under STRICT mTLS. The kubelet has no certificate of the mesh: the sidecar makes the probes for it, and their
//! outcome has to be the application's.

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::images::PROBED_IMAGE;
use forestay_e2e::kube_box::KubeBox;
use serde_json::Value;

use super::{INJECTED, get, namespaces, remove, strict};
use crate::scenarios::mesh::{SOON, STARTED};

const NAMESPACE: &str = "probes";

/// The containers whose readiness is probed, by the type of their probe.
const READINESS: [&str; 6] = ["http", "named", "https", "tcp", "grpc", "exec"];

/// One container for each type of probe, each a program of its own.
fn pod() -> String {
    let container = |name: &str, kind: &str, port: u16, more: &str| {
        format!("  - {{name: {name}, image: '{PROBED_IMAGE}', args: [{kind}, \"{port}\"], {more}}}\n")
    };
    let ready = |probe: &str| format!("readinessProbe: {{{probe}, periodSeconds: 1, failureThreshold: 1}}");
    let containers = [
        container("http", "http", 8001, &ready("httpGet: {path: /, port: 8001}")),
        container(
            "named",
            "http",
            8002,
            &format!("ports: [{{name: web, containerPort: 8002}}], {}", ready("httpGet: {path: /, port: web}")),
        ),
        container("https", "https", 8003, &ready("httpGet: {path: /, port: 8003, scheme: HTTPS}")),
        container("tcp", "tcp", 8004, &ready("tcpSocket: {port: 8004}")),
        container("grpc", "grpc", 8005, &ready("grpc: {port: 8005, service: probed}")),
        container("exec", "none", 0, &ready("exec: {command: [/bin/probed, check]}")),
        container(
            "slow",
            "http",
            8006,
            "env: [{name: FAILING, value: \"true\"}], startupProbe: {httpGet: {path: /, port: 8006}, periodSeconds: 1, failureThreshold: 600}",
        ),
        container(
            "live",
            "http",
            8007,
            "livenessProbe: {httpGet: {path: /, port: 8007}, periodSeconds: 1, failureThreshold: 1}",
        ),
    ];
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: probed, namespace: {NAMESPACE}}}\nspec:\n  containers:\n{}",
        containers.concat()
    )
}

/// A pod that keeps its probe for itself: the proof that the others' would not pass without the sidecar's help.
fn unhelped() -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: unhelped, namespace: {NAMESPACE}, annotations: {{sidecar.istio.io/rewriteAppHTTPProbers: \"false\"}}}}, spec: {{containers: [{{name: http, image: '{PROBED_IMAGE}', args: [http, \"8001\"], readinessProbe: {{httpGet: {{path: /, port: 8001}}, periodSeconds: 1}}}}]}}}}"
    )
}

/// A pod whose probes go to another port, and one with a classic sidecar beside a sidecar of its own, whose startup probe has
/// to succeed before ours is started.
fn elsewhere() -> String {
    let pod = |name: &str, annotation: &str, init: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {NAMESPACE}, annotations: {{{annotation}}}}}, spec: {{{init}containers: [{{name: http, image: '{PROBED_IMAGE}', args: [http, \"8001\"], readinessProbe: {{httpGet: {{path: /, port: 8001}}, periodSeconds: 1}}}}]}}}}\n"
        )
    };
    let own = format!(
        "initContainers: [{{name: own, image: '{PROBED_IMAGE}', args: [http, \"8009\"], restartPolicy: Always, startupProbe: {{httpGet: {{path: /, port: 8009}}, periodSeconds: 1, failureThreshold: 600}}}}], "
    );
    let moved = pod("moved", "status.sidecar.istio.io/port: \"15999\"", "");
    format!("{moved}---\n{}", pod("beside", "sidecar.istio.io/nativeSidecar: \"false\"", &own))
}

/// Probes of every type, passing and failing.
pub(crate) async fn probes(kube: &KubeBox) -> Result<()> {
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    strict(kube, NAMESPACE).await?;
    kube.apply(&format!("{}---\n{}\n---\n{}", pod(), unhelped(), elsewhere())).await?;

    state(kube, "every type of probe passing, the slow one not begun", &READINESS, |container| {
        container["ready"] == true
    })
    .await?;
    state(kube, "the slow one not begun", &["slow"], |container| container["started"] == false).await?;
    tell_the_program(kube, &["slow"], "mend").await?;
    kube.wait_for(NAMESPACE, "pod/probed", "condition=Ready", STARTED).await?;

    for name in ["pod/moved", "pod/beside"] {
        kube.wait_for(NAMESPACE, name, "condition=Ready", STARTED).await?;
    }
    let moved = get(kube, NAMESPACE, "pod/moved").await?;
    let port = &moved["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"];
    ensure!(port == 15999, "the probe goes to port {port}");

    let address = get(kube, NAMESPACE, "pod/probed").await?["status"]["podIP"].as_str().map(str::to_owned);
    let url = format!("http://{}:8001/", address.context("the pod has no address")?);
    kube.eventually("plaintext refused by STRICT", SOON, || async {
        let answer = kube.http_get(&url).await;
        ensure!(answer.is_err(), "plaintext is answered: {answer:?}");
        Ok(())
    })
    .await?;
    kube.eventually("a probe without the sidecar's help failing", STARTED, || async {
        let about = "--field-selector=involvedObject.name=unhelped,reason=Unhealthy";
        let events = kube.kubectl_ok(&["-n", NAMESPACE, "get", "events", about]).await?;
        ensure!(events.contains("Readiness probe failed"), "no event tells of it: {events}");
        Ok(())
    })
    .await?;

    tell_the_program(kube, &READINESS, "fail").await?;
    state(kube, "every type of probe failing with the application", &READINESS, |container| {
        container["ready"] == false
    })
    .await?;
    kube.wait_for(NAMESPACE, "pod/probed", "condition=Ready=False", SOON).await?;
    tell_the_program(kube, &READINESS, "mend").await?;
    kube.wait_for(NAMESPACE, "pod/probed", "condition=Ready", SOON).await?;

    tell_the_program(kube, &["live"], "fail").await?;
    state(kube, "a failed liveness probe restarting its container", &["live"], |container| {
        container["restartCount"].as_u64() >= Some(1) && container["ready"] == true
    })
    .await?;
    state(kube, "nobody else restarted", &[READINESS.as_slice(), &["slow"]].concat(), |container| {
        container["restartCount"] == 0
    })
    .await?;
    remove(kube, &[NAMESPACE]).await
}

/// Waits until the kubelet says of each of these containers what it should.
async fn state(kube: &KubeBox, what: &str, containers: &[&str], holds: impl Fn(&Value) -> bool) -> Result<()> {
    kube.eventually(what, STARTED, || async {
        let pod = get(kube, NAMESPACE, "pod/probed").await?;
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        for name in containers {
            let status = statuses.iter().find(|status| status["name"] == *name);
            let status = status.with_context(|| format!("no status of container {name}"))?;
            ensure!(holds(status), "container {name}: {status}");
        }
        Ok(())
    })
    .await
}

async fn tell_the_program(kube: &KubeBox, containers: &[&str], word: &str) -> Result<()> {
    for container in containers {
        kube.exec_ok(NAMESPACE, "pod/probed", Some(container), &["/bin/probed", word]).await?;
    }
    Ok(())
}
