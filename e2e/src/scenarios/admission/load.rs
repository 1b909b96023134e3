//! A steady stream of admissions that counts what their makers would see. Server-side dry runs: the API server and the
//! webhook do all their work, and nothing is left to clean up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use forestay_e2e::kube_box::{KubeBox, PAUSE_IMAGE};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

/// What a load saw.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) admitted: usize,
    pub(crate) longest: Duration,
    /// What the others were told.
    pub(crate) refused: Vec<String>,
}

/// Admissions of pods, one after the other by each client, until stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// A pod to try.
pub(crate) fn pod() -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"generateName": "load-", "labels": {"app": "load"}},
        "spec": {"containers": [{"name": "app", "image": PAUSE_IMAGE}]},
    }))?)
}

/// Has a pod admitted, without making it; it must come back with a sidecar if and only if `injected`.
pub(crate) async fn admit(api: &Api<Pod>, pod: &Pod, injected: bool) -> Result<()> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let admitted = api.create(&dry_run, pod).await?;
    let init = admitted.spec.and_then(|spec| spec.init_containers).unwrap_or_default();
    let has = init.iter().any(|container| container.name == "istio-proxy");
    ensure!(has == injected, "admitted {} a sidecar", if has { "with" } else { "without" });
    Ok(())
}

impl Load {
    /// Starts `clients` that each try a pod in `namespace` every 20 ms.
    pub(crate) fn start(kube: &KubeBox, namespace: &str, clients: usize, injected: bool) -> Result<Self> {
        let api = Api::namespaced(kube.client()?, namespace);
        let mut load = Self { stop: Arc::default(), seen: Arc::default(), tasks: Vec::new() };
        for _ in 0..clients {
            let (api, pod, stop, seen) = (api.clone(), pod()?, load.stop.clone(), load.seen.clone());
            load.tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let outcome = admit(&api, &pod, injected).await;
                    {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.longest = seen.longest.max(begun.elapsed());
                        match outcome {
                            Ok(()) => seen.admitted += 1,
                            Err(error) => seen.refused.push(format!("{error:#}")),
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }));
        }
        Ok(load)
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops; fails unless all were admitted, and enough were tried to mean something.
    pub(crate) async fn all_admitted(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            let _ = task.await;
        }
        let seen = self.seen();
        println!("    {} admissions meanwhile, the longest {:.0} ms", seen.admitted, seen.longest.as_secs_f64() * 1e3);
        ensure!(
            seen.refused.is_empty(),
            "{} of {} admissions failed: {:#?}",
            seen.refused.len(),
            seen.admitted + seen.refused.len(),
            seen.refused.iter().take(5).collect::<Vec<_>>()
        );
        ensure!(seen.admitted >= 50, "only {} admissions, too few to mean anything", seen.admitted);
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
