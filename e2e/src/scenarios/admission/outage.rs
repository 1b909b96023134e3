//! The webhook is away: pods outside the mesh are made as always, those inside wait, and come up by themselves once it is
//! back. Nothing that is needed to bring it back depends on it. The same when it is there and does not answer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::{KubeBox, PAUSE_IMAGE};
use names::DEFAULT_REVISION;
use names::resources::{MESH_NAMESPACE, injector};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::load::Load;
use super::{INJECTED, idle_pod, injected, namespaces, refused, remove, scale_webhook, tell, webhooks_ready};
use crate::scenarios::mesh::inject::pods;
use crate::scenarios::mesh::memory::processes;
use crate::scenarios::mesh::{SOON, STARTED};

/// Scaled to nothing, its pods killed, and back.
pub(crate) async fn outage(kube: &KubeBox) -> Result<()> {
    const INSIDE: &str = "inside";
    const OUTSIDE: &str = "outside";
    namespaces(kube, &[INSIDE], INJECTED).await?;
    namespaces(kube, &[OUTSIDE], "").await?;
    kube.apply(&idle_pod("before", INSIDE, "", "")).await?;
    kube.wait_for(INSIDE, "pod/before", "condition=Ready", STARTED).await?;
    let load = Load::start(kube, OUTSIDE, 2, false)?;

    scale_webhook(kube, 0).await?;
    let all = ["-n", MESH_NAMESPACE, "delete", "pod", "-l", "app=sidecar-injector", "--grace-period=0", "--force"];
    // One may have ended between kubectl's list and its request.
    kube.kubectl_ok(&[all.as_slice(), &["--ignore-not-found"]].concat()).await?;
    let service = injector(DEFAULT_REVISION);
    kube.eventually("an admission that fails", SOON, || async {
        let pod = idle_pod("alone", INSIDE, "", "");
        let answer = kube.kubectl_with_input(&["create", "--dry-run=server", "-f", "-"], &pod).await;
        let error = format!("{:#}", answer.err().context("still admitted")?);
        ensure!(error.contains("failed calling webhook"), "another refusal: {error}");
        Ok(())
    })
    .await?;
    let error = refused(kube, &idle_pod("alone", INSIDE, "", "")).await?;
    for part in ["failed calling webhook", "namespace.sidecar-injector.istio.io", &service] {
        ensure!(error.contains(part), "the refusal does not say {part}: {error}");
    }
    kube.apply(&idle_pod("not-of-the-mesh", INSIDE, "labels: {sidecar.istio.io/inject: \"false\"}", "")).await?;
    kube.apply(&idle_pod("as-always", OUTSIDE, "", "")).await?;
    kube.apply(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: waiting, namespace: {INSIDE}}}, spec: {{replicas: 3, selector: {{matchLabels: {{app: waiting}}}}, template: {{metadata: {{labels: {{app: waiting}}}}, spec: {{containers: [{{name: app, image: '{PAUSE_IMAGE}'}}]}}}}}}}}"
    ))
    .await?;
    kube.eventually("an event that says what the Deployment waits for", SOON, || async {
        let events = kube.kubectl_ok(&["-n", INSIDE, "get", "events", "--field-selector=reason=FailedCreate"]).await?;
        ensure!(events.contains("failed calling webhook") && events.contains(&service), "the events: {events}");
        Ok(())
    })
    .await?;
    kube.wait_for(INSIDE, "pod/not-of-the-mesh", "condition=Ready", STARTED).await?;
    kube.wait_for(OUTSIDE, "pod/as-always", "condition=Ready", STARTED).await?;
    // What brings the webhook back can itself be made anew while it is away.
    let parts = [
        (MESH_NAMESPACE, "deployment/istiod"),
        ("forestay-system", "deployment/forestay-operator"),
        ("kube-system", "deployment/coredns"),
    ];
    for (namespace, deployment) in parts {
        kube.kubectl_ok(&["-n", namespace, "rollout", "restart", deployment]).await?;
    }
    for (namespace, deployment) in parts {
        kube.kubectl_ok(&["-n", namespace, "rollout", "status", deployment, "--timeout=240s"]).await?;
    }

    let back = Instant::now();
    scale_webhook(kube, 2).await?;
    webhooks_ready(kube, 2).await?;
    tell("webhook back", back);
    kube.wait_for(INSIDE, "deployment/waiting", "condition=Available", STARTED).await?;
    tell("and what waited for it up", back);
    for pod in pods(kube, INSIDE).await?.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "waiting") {
        injected(pod)?;
    }
    load.all_admitted().await?;
    remove(kube, &[INSIDE, OUTSIDE]).await
}

/// Processes that stand still, until they are told to go on; also when a scenario fails.
struct Frozen(Vec<Pid>);

impl Frozen {
    fn webhooks(kube: &KubeBox) -> Result<Self> {
        let of_webhook = |command: &str| command.starts_with("/usr/local/bin/forestay webhook");
        let mut frozen = Self(Vec::new());
        for (pid, _) in processes(kube)?.into_iter().filter(|(_, command)| of_webhook(command)) {
            let pid = Pid::from_raw(pid);
            kill(pid, Signal::SIGSTOP).with_context(|| format!("stopping process {pid}"))?;
            frozen.0.push(pid);
        }
        ensure!(!frozen.0.is_empty(), "no webhook runs");
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            if let Err(error) = kill(*pid, Signal::SIGCONT)
                && error != Errno::ESRCH
            {
                eprintln!("process {pid} stands still: {error}");
            }
        }
    }
}

/// All replicas hang: they take connections and answer nothing.
pub(crate) async fn frozen(kube: &KubeBox) -> Result<()> {
    const INSIDE: &str = "frozen";
    const OUTSIDE: &str = "beside";
    /// `timeoutSeconds` of the webhook, and what a busy machine adds.
    const ANSWERED: Duration = Duration::from_secs(10 + 20);
    namespaces(kube, &[INSIDE], INJECTED).await?;
    namespaces(kube, &[OUTSIDE], "").await?;
    let load = Load::start(kube, OUTSIDE, 2, false)?;
    let webhooks = Frozen::webhooks(kube)?;

    let begun = Instant::now();
    let error = refused(kube, &idle_pod("alone", INSIDE, "", "")).await?;
    tell("a pod of the mesh refused", begun);
    ensure!(begun.elapsed() < ANSWERED, "the refusal took {:?}", begun.elapsed());
    for part in ["failed calling webhook", "namespace.sidecar-injector.istio.io", &injector(DEFAULT_REVISION)] {
        ensure!(error.contains(part), "the refusal does not say {part}: {error}");
    }
    kube.apply(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: waiting, namespace: {INSIDE}}}, spec: {{replicas: 2, selector: {{matchLabels: {{app: waiting}}}}, template: {{metadata: {{labels: {{app: waiting}}}}, spec: {{containers: [{{name: app, image: '{PAUSE_IMAGE}'}}]}}}}}}}}"
    ))
    .await?;
    kube.apply(&idle_pod("as-always", OUTSIDE, "", "")).await?;
    kube.apply(&idle_pod("not-of-the-mesh", INSIDE, "labels: {sidecar.istio.io/inject: \"false\"}", "")).await?;
    kube.wait_for(OUTSIDE, "pod/as-always", "condition=Ready", STARTED).await?;
    kube.wait_for(INSIDE, "pod/not-of-the-mesh", "condition=Ready", STARTED).await?;
    kube.eventually("an event that says what the Deployment waits for", SOON, || async {
        let events = kube.kubectl_ok(&["-n", INSIDE, "get", "events", "--field-selector=reason=FailedCreate"]).await?;
        ensure!(events.contains("failed calling webhook"), "the events: {events}");
        Ok(())
    })
    .await?;

    let back = Instant::now();
    drop(webhooks);
    webhooks_ready(kube, 2).await?;
    kube.wait_for(INSIDE, "deployment/waiting", "condition=Available", STARTED).await?;
    tell("webhook going on, and what waited for it up", back);
    for pod in pods(kube, INSIDE).await?.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "waiting") {
        injected(pod)?;
    }
    load.all_admitted().await?;
    remove(kube, &[INSIDE, OUTSIDE]).await
}
