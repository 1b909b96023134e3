//! Very many at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::{KubeBox, PAUSE_IMAGE};
use kube::Api;
use names::DEFAULT_REVISION;

use super::load::{admit, pod};
use super::{INJECTED, injected, namespaces, remove, tell, webhook_metric};
use crate::scenarios::mesh::inject;

/// 500 admissions at once: all answered, and how long they took.
pub(crate) async fn admissions(kube: &KubeBox) -> Result<()> {
    const NAMESPACE: &str = "crowd";
    const ADMISSIONS: u16 = 500;
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    let before = webhook_metric(kube, DEFAULT_REVISION, "sidecar_injection_success_total").await?;
    let seconds = webhook_metric(kube, DEFAULT_REVISION, "sidecar_injection_time_seconds_sum").await?;
    let (api, pod) = (Api::namespaced(kube.client()?, NAMESPACE), pod()?);
    let begun = Instant::now();
    let tasks: Vec<_> = (0..ADMISSIONS)
        .map(|_| {
            let (api, pod) = (api.clone(), pod.clone());
            tokio::spawn(async move {
                let begun = Instant::now();
                admit(&api, &pod, true).await.map(|()| begun.elapsed())
            })
        })
        .collect();
    let mut took = Vec::with_capacity(tasks.len());
    let mut failed = Vec::new();
    for task in tasks {
        match task.await.context("a task died")? {
            Ok(time) => took.push(time),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    let all = begun.elapsed();
    ensure!(
        failed.is_empty(),
        "{} of {ADMISSIONS} failed: {:#?}",
        failed.len(),
        failed.iter().take(5).collect::<Vec<_>>()
    );
    let counted = webhook_metric(kube, DEFAULT_REVISION, "sidecar_injection_success_total").await? - before;
    ensure!(counted >= f64::from(ADMISSIONS), "the webhook counted {counted} of {ADMISSIONS}");
    let own = webhook_metric(kube, DEFAULT_REVISION, "sidecar_injection_time_seconds_sum").await? - seconds;
    took.sort_unstable();
    let at = |percent: usize| milliseconds(took.get((took.len() * percent / 100).min(took.len() - 1)));
    println!(
        "    {ADMISSIONS} admissions in {:.1} s; ms as their makers saw it: p50 {:.0}, p90 {:.0}, p99 {:.0}, most {:.0}; in the webhook {:.2} each",
        all.as_secs_f64(),
        at(50),
        at(90),
        at(99),
        at(100),
        own * 1e3 / counted,
    );
    remove(kube, &[NAMESPACE]).await
}

fn milliseconds(time: Option<&Duration>) -> f64 {
    time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

/// 60 pods on one node, all with their sidecars and ready.
pub(crate) async fn pods(kube: &KubeBox) -> Result<()> {
    const NAMESPACE: &str = "sixty";
    const PODS: usize = 60;
    namespaces(kube, &[NAMESPACE], INJECTED).await?;
    let begun = Instant::now();
    kube.apply(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: many, namespace: {NAMESPACE}}}, spec: {{replicas: {PODS}, selector: {{matchLabels: {{app: many}}}}, template: {{metadata: {{labels: {{app: many}}}}, spec: {{containers: [{{name: app, image: '{PAUSE_IMAGE}'}}]}}}}}}}}"
    ))
    .await?;
    let ready = format!("jsonpath={{.status.readyReplicas}}={PODS}");
    kube.wait_for(NAMESPACE, "deployment/many", &ready, Duration::from_mins(8)).await?;
    tell(&format!("{PODS} pods ready"), begun);
    let all = inject::pods(kube, NAMESPACE).await?;
    ensure!(all.len() == PODS, "{} pods, not {PODS}", all.len());
    for pod in &all {
        injected(pod)?;
    }
    remove(kube, &[NAMESPACE]).await
}
