//! Every kind of workload, in a STRICT namespace: injected, ready, known by its own name; Jobs end.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::images::CURL_IMAGE;
use forestay_e2e::kube_box::{KubeBox, PAUSE_IMAGE};
use serde_json::Value;

use super::{INJECTED, httpbin, injected, namespaces, remove, strict, tell};
use crate::scenarios::mesh::STARTED;
use crate::scenarios::mesh::inject::{name_of, pods};

const NAMESPACE: &str = "kinds";
/// What Jobs ask of the mesh in the moment they start.
const ASK: &str = "curl -fsS -o /dev/null http://a-deployment:8000/status/200";

/// The Deployment that everybody else asks, and the CronJob, which has to wait for its minute.
async fn base(kube: &KubeBox) -> Result<()> {
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    strict(kube, NAMESPACE).await?;
    kube.apply(&httpbin("a-deployment", NAMESPACE)).await?;
    kube.apply(&format!(
        r#"
apiVersion: batch/v1
kind: CronJob
metadata: {{name: a-cronjob, namespace: {NAMESPACE}}}
spec:
  schedule: "* * * * *"
  concurrencyPolicy: Forbid
  jobTemplate: {{spec: {{backoffLimit: 0, template: {job}}}}}
"#,
        job = job("a-cronjob", "", ASK)
    ))
    .await?;
    kube.wait_for(NAMESPACE, "deployment/a-deployment", "condition=Available", STARTED).await
}

/// The template of a Job's pods.
fn job(kind: &str, annotations: &str, script: &str) -> String {
    format!(
        "{{metadata: {{labels: {{kind: {kind}}}, annotations: {{{annotations}}}}}, spec: {{restartPolicy: Never, containers: [{{name: app, image: '{CURL_IMAGE}', command: [/bin/sh, -c, '{script}']}}]}}}}"
    )
}

/// The rest of the kinds.
fn everything() -> String {
    let template = |kind: &str| {
        format!(
            "{{metadata: {{labels: {{kind: {kind}}}}}, spec: {{containers: [{{name: app, image: '{PAUSE_IMAGE}'}}]}}}}"
        )
    };
    let replicated = |api: &str, kind: &str, name: &str, more: &str| {
        format!(
            "---\n{{apiVersion: {api}, kind: {kind}, metadata: {{name: {name}, namespace: {NAMESPACE}}}, spec: {{{more} template: {}}}}}\n",
            template(name)
        )
    };
    let selector = |name: &str| format!("selector: {{matchLabels: {{kind: {name}}}}},");
    let job_of = |name: &str, template: String| {
        format!(
            "---\n{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}, namespace: {NAMESPACE}}}, spec: {{backoffLimit: 0, template: {template}}}}}\n"
        )
    };
    // A classic sidecar does not end by itself: it is told to, as Istio's users do.
    let classic = format!(
        "until curl -fsS http://localhost:15021/healthz/ready; do sleep 0.2; done; {ASK} && curl -fsS -X POST http://localhost:15020/quitquitquit"
    );
    [
        replicated(
            "apps/v1",
            "StatefulSet",
            "a-statefulset",
            &format!("serviceName: none, {}", selector("a-statefulset")),
        ),
        replicated("apps/v1", "DaemonSet", "a-daemonset", &selector("a-daemonset")),
        replicated("apps/v1", "ReplicaSet", "a-replicaset", &selector("a-replicaset")),
        replicated("v1", "ReplicationController", "a-controller", "selector: {kind: a-controller},"),
        format!("---\n{}\n", super::idle_pod("a-pod", NAMESPACE, "labels: {kind: a-pod}", "")),
        job_of("a-job", job("a-job", "", ASK)),
        job_of("a-classic-job", job("a-classic-job", "sidecar.istio.io/nativeSidecar: \"false\"", &classic)),
        job_of("a-failing-job", job("a-failing-job", "", &format!("{ASK}; exit 3"))),
    ]
    .concat()
}

/// All kinds but the CronJob.
pub(crate) async fn kinds(kube: &KubeBox) -> Result<()> {
    let begun = Instant::now();
    base(kube).await?;
    kube.apply(&everything()).await?;
    for (object, condition) in [
        ("statefulset/a-statefulset", "jsonpath={.status.readyReplicas}=1"),
        ("daemonset/a-daemonset", "jsonpath={.status.numberReady}=1"),
        ("replicaset/a-replicaset", "jsonpath={.status.readyReplicas}=1"),
        ("replicationcontroller/a-controller", "jsonpath={.status.readyReplicas}=1"),
        ("pod/a-pod", "condition=Ready"),
        ("job/a-job", "condition=Complete"),
        ("job/a-classic-job", "condition=Complete"),
        ("job/a-failing-job", "condition=Failed"),
    ] {
        kube.wait_for(NAMESPACE, object, condition, STARTED).await?;
    }
    tell("all kinds up, Jobs at their end", begun);

    let all = pods(kube, NAMESPACE).await?;
    let table = kube.kubectl_ok(&["-n", NAMESPACE, "get", "pods"]).await?;
    for (kind, ready, status) in [
        ("a-deployment", "2/2", "Running"),
        ("a-statefulset", "2/2", "Running"),
        ("a-daemonset", "2/2", "Running"),
        ("a-replicaset", "2/2", "Running"),
        ("a-controller", "2/2", "Running"),
        ("a-pod", "2/2", "Running"),
        ("a-job", "0/2", "Completed"),
        ("a-classic-job", "0/2", "Completed"),
        ("a-failing-job", "0/2", "Error"),
    ] {
        let mut of_kind = all.iter().filter(|pod| pod["metadata"]["labels"]["kind"] == kind);
        let pod = of_kind.next().with_context(|| format!("no pod of {kind}:\n{table}"))?;
        ensure!(of_kind.next().is_none(), "more than one pod of {kind}:\n{table}");
        belongs(pod, kind)?;
        let row = table.lines().find(|line| line.starts_with(name_of(pod))).context("a pod without a row")?;
        let columns: Vec<&str> = row.split_whitespace().collect();
        ensure!(columns.get(1..3) == Some(&[ready, status]), "not {ready} {status}: {row}");
    }
    Ok(())
}

/// The CronJob's first Job.
pub(crate) async fn cron_job(kube: &KubeBox) -> Result<()> {
    base(kube).await?;
    let pod = kube
        .eventually("a Job of the CronJob at its end", STARTED, || async {
            let done = pods(kube, NAMESPACE)
                .await?
                .into_iter()
                .find(|pod| pod["metadata"]["labels"]["kind"] == "a-cronjob" && pod["status"]["phase"] == "Succeeded");
            done.context("none yet")
        })
        .await?;
    belongs(&pod, "a-cronjob")?;
    let job = pod["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or_default();
    kube.wait_for(NAMESPACE, &format!("job/{job}"), "condition=Complete", STARTED).await?;
    remove(kube, &[NAMESPACE]).await
}

/// Injected, and known to telemetry by the name of the workload, whatever stands between it and the pod.
fn belongs(pod: &Value, workload: &str) -> Result<()> {
    injected(pod)?;
    let canonical = &pod["metadata"]["labels"]["service.istio.io/canonical-name"];
    ensure!(canonical == workload, "{}: the canonical name is {canonical}, not {workload}", name_of(pod));
    Ok(())
}
