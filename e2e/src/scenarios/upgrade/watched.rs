//! A watcher of the mesh's parts: when each went to another version, and when it was whole again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forestay_e2e::kube_box::KubeBox;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use names::resources::MESH_NAMESPACE;

/// What was seen, in order: `istiod moved`, `istiod whole`.
type Steps = Arc<Mutex<Vec<String>>>;

/// Looks at the parts of one revision until it is asked what it saw.
pub(crate) struct Watched {
    stop: Arc<AtomicBool>,
    steps: Steps,
    task: tokio::task::JoinHandle<()>,
}

impl Watched {
    /// Starts to look for the version `to`.
    pub(crate) fn start(kube: &KubeBox, revision: &str, to: &str) -> Result<Self> {
        let (stop, steps) = (Arc::new(AtomicBool::new(false)), Steps::default());
        let (client, revision, to) = (kube.client()?, revision.to_owned(), to.to_owned());
        let (stopped, noted) = (stop.clone(), steps.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                // A look that fails is made up for by the next: what happened stays to be seen.
                if let Ok(seen) = look(&client, &revision, &to).await {
                    let mut steps = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    for step in seen {
                        if !steps.contains(&step) {
                            steps.push(step);
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Ok(Self { stop, steps, task })
    }

    /// Fails unless every step came no later than the next of `order`.
    pub(crate) async fn in_order(self, order: &[&str]) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?;
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        println!("    {}", steps.join(", "));
        let mut last = 0;
        for step in order {
            let at = steps.iter().position(|seen| seen == step).with_context(|| format!("{step}: not in {steps:?}"))?;
            ensure!(at >= last, "{step} came too early: {steps:?}");
            last = at;
        }
        Ok(())
    }
}

/// What is so at this moment: the steps of one look are in the order in which they can only have come.
async fn look(client: &Client, revision: &str, to: &str) -> Result<Vec<String>> {
    let (name, tag) = (format!("{}={revision}", names::labels::REVISION), format!(":{to}"));
    // The last step first: what came before it is there, then, in what is read after it.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), MESH_NAMESPACE);
    let injector = names::resources::injector(revision);
    let settings = maps.get(&injector).await?;
    let injects = settings.data.unwrap_or_default().get("values").is_some_and(|values| values.contains(to));
    let listed = ListParams::default().labels(&name);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), MESH_NAMESPACE);
    let deployments: BTreeMap<String, Deployment> =
        deployments.list(&listed).await?.into_iter().map(|one| (one.name_any(), one)).collect();
    let mut steps = Vec::new();
    for part in [names::resources::istiod(revision), injector, names::resources::INGRESS_GATEWAY.to_owned()] {
        let Some(deployment) = deployments.get(&part) else { continue };
        let spec = deployment.spec.clone().unwrap_or_default();
        let image = spec.template.spec.and_then(|pod| pod.containers.into_iter().next()).and_then(|one| one.image);
        if !image.is_some_and(|image| image.ends_with(&tag)) {
            continue;
        }
        steps.push(format!("{part} moved"));
        let status = deployment.status.clone().unwrap_or_default();
        let wanted = spec.replicas.unwrap_or(1);
        let numbers = [status.replicas, status.updated_replicas, status.available_replicas];
        let seen = status.observed_generation >= deployment.metadata.generation;
        if seen && numbers.iter().all(|number| *number == Some(wanted)) {
            steps.push(format!("{part} whole"));
        }
    }
    if injects {
        steps.push("injection moved".to_owned());
    }
    Ok(steps)
}
