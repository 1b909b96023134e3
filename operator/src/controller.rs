//! Which watches bring which MeshInstall up for reconciliation.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::install::MeshInstall;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DynamicObject};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Client, Resource, ResourceExt};
use names::{labels, resources};
use tracing::{debug, warn};

use crate::live::{self, Live};
use crate::meshinstall::reconcile::{Authorities, Context, Error, Made, reconcile};
use crate::meshinstall::validate::RelatedImages;
use crate::metrics::Metrics;

type Guarded = DeserializeGuard<MeshInstall>;

/// Events come in bursts (a Deployment, its pods, its endpoints): those of this time bring one reconciliation.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// After the first failure; doubled with each further one.
const RETRY: Duration = Duration::from_secs(1);
/// At most.
const RETRY_MOST: Duration = Duration::from_mins(1);

/// Runs until `stop` resolves; reconciliations under way are finished.
pub(crate) async fn run(
    client: Client,
    identity: String,
    related_images: RelatedImages,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let (installs, writer) = reflector::store();
    let api: Api<Guarded> = Api::all(client.clone());
    // Not the status, which is ours.
    let specs = watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .touched_objects()
        .predicate_filter(predicates::generation.combine(predicates::finalizers), PredicateConfig::default());
    let mut controller = Controller::for_stream(specs, installs.clone())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(4));

    let mut objects = Vec::new();
    for kind in live::managed_kinds() {
        let writer = reflector::store::Writer::new(kind.clone());
        objects.push((kind.clone(), writer.as_reader()));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let changes = ours(watcher(api, labelled()).modify(forget_managers).default_backoff().reflect(writer));
        let all = installs.clone();
        controller = controller.watches_stream_with(changes, move |object| made_for(&all, &object), kind);
    }
    let (pods, writer) = reflector::store();
    let api: Api<Pod> = Api::all(client.clone());
    let changes = ours(watcher(api, labelled()).modify(forget_managers).default_backoff().reflect(writer));
    let all = installs.clone();
    controller = controller.watches_stream(changes, move |pod: Pod| made_for(&all, &pod));

    let (endpoints, writer) = reflector::store();
    let api: Api<EndpointSlice> = Api::all(client.clone());
    let changes = ours(watcher(api, labelled()).modify(forget_managers).default_backoff().reflect(writer));
    let all = installs.clone();
    controller = controller.watches_stream(changes, move |slice: EndpointSlice| made_for(&all, &slice));

    let reporter = Reporter { controller: resources::OPERATOR.into(), instance: Some(identity) };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        live: Live { installs, objects, pods, endpoints },
        client,
        related_images,
        metrics,
        made: Made::default(),
        authorities: Authorities::default(),
    });
    let failures = Arc::new(Failures::default());
    let (counting, forgetting) = (failures.clone(), failures);
    controller
        .graceful_shutdown_on(stop)
        .run(
            reconcile,
            move |install: Arc<Guarded>, error: &Error, _| {
                let wait = counting.count(&install.name_any());
                warn!(meshinstall = %install.name_any(), retry = ?wait, "{error}");
                Action::requeue(wait)
            },
            context,
        )
        .for_each(move |result| {
            match result {
                Ok((install, _)) => forgetting.forget(&install.name),
                Err(kube::runtime::controller::Error::ReconcilerFailed(..)) => {}
                Err(kube::runtime::controller::Error::ObjectNotFound(install)) => debug!(%install, "gone"),
                Err(error) => warn!("watch: {error}"),
            }
            std::future::ready(())
        })
        .await;
}

fn labelled() -> watcher::Config {
    watcher::Config::default().labels(&live::selector())
}

/// What the caches have no use for.
fn forget_managers<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Changes and deletions, but no repetitions: a predicate on the generation would swallow deletions and status.
fn ours<K>(
    events: impl futures::Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static,
) -> impl futures::Stream<Item = Result<K, watcher::Error>> + Send + 'static
where
    K: Resource + Clone + Send + 'static,
    K::DynamicType: Send,
{
    events.touched_objects().predicate_filter(predicates::resource_version, PredicateConfig::default())
}

/// The MeshInstalls that an object was made for: the one on its label; for one that revisions share, all of its namespace.
fn made_for<K: Resource>(installs: &Store<Guarded>, object: &K) -> Vec<ObjectRef<Guarded>> {
    if let Some(owner) = object.labels().get(labels::OWNED_BY) {
        return vec![ObjectRef::new(owner)];
    }
    let namespace = object.namespace();
    let in_it = |install: &Guarded| install.0.as_ref().is_ok_and(|i| Some(&i.spec.namespace) == namespace.as_ref());
    installs.state_filter(in_it).iter().map(|install| ObjectRef::new(&install.name_any())).collect()
}

/// How often each MeshInstall has failed in a row.
#[derive(Default)]
struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    fn count(&self, name: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(name.to_owned()).or_default();
        *count += 1;
        backoff(*count)
    }

    fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// How long to wait after the n-th failure in a row.
fn backoff(failures: u32) -> Duration {
    RETRY.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(RETRY_MOST)
}

#[cfg(test)]
mod tests {
    use super::backoff;

    #[test]
    fn waits_longer_with_each_failure_but_not_for_ever() {
        let seconds: Vec<u64> = [1, 2, 3, 6, 7, 40, u32::MAX].map(|n| backoff(n).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60, 60]);
    }
}
