//! Which watches bring which MeshInstall up for reconciliation.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::future::Future;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::install::{MeshInstall, MeshRevisionTag};
use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{self as core, Namespace};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Client, Resource, ResourceExt};
use names::{labels, resources};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tracing::{debug, warn};

use crate::definitions::{self, Definitions};
use crate::live::{self, Live};
use crate::meshinstall::reconcile::{Authorities, Context, Error, Made, reconcile};
use crate::meshinstall::validate::RelatedImages;
use crate::meshinstall::written::Written;
use crate::metrics::Metrics;
use crate::pod::Pod;
use crate::{farewell, guard, tag, usage};

type Guarded = DeserializeGuard<MeshInstall>;

/// Events come in bursts (a Deployment, its pods, its endpoints): those of this time bring one reconciliation.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Who uses a revision is counted at most this often: in a large cluster pods come and go all the time, and none of them
/// changes what the operator makes.
const COUNTING: Duration = Duration::from_secs(1);
/// After the first failure; doubled with each further one.
const RETRY: Duration = Duration::from_secs(1);
/// At most.
const RETRY_MOST: Duration = Duration::from_mins(1);

/// Runs until `stop` resolves; reconciliations under way are finished.
pub(crate) async fn run(
    client: Client,
    identity: String,
    namespace: String,
    related_images: RelatedImages,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let (relisted, relists) = watch::channel(());
    let (installs, writer) = reflector::store();
    let api: Api<Guarded> = Api::all(client.clone());
    let specs = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
    // Not the status, which is ours.
    let specs = listed_again(specs, &relisted).touched_objects().predicate_filter(
        predicates::generation.combine(predicates::finalizers).combine(predicates::annotations),
        PredicateConfig::default(),
    );
    let mut controller = Controller::for_stream(told(specs), installs.clone())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(4));

    let mut objects = Vec::new();
    for kind in live::managed_kinds().into_iter().chain(guard::kinds()) {
        let writer = reflector::store::Writer::new(kind.clone());
        objects.push((kind.clone(), writer.as_reader()));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let changes =
            ours(watcher(api, labelled()).modify(forget_managers).default_backoff().reflect(writer), &relisted);
        let all = installs.clone();
        controller = controller.watches_stream_with(changes, move |object| made_for(&all, &object), kind);
    }
    let (pods, writer) = reflector::store();
    let api: Api<Pod> = Api::all(client.clone());
    let changes = ours(watcher(api, labelled()).modify(forget_managers).default_backoff().reflect(writer), &relisted);
    let all = installs.clone();
    controller = controller.watches_stream(changes, move |pod: Pod| made_for(&all, &pod));

    let (endpoints, writer) = reflector::store();
    let api: Api<EndpointSlice> = Api::all(client.clone());
    let changes = ours(watcher(api, labelled()).modify(forget_managers).default_backoff().reflect(writer), &relisted);
    let all = installs.clone();
    controller = controller.watches_stream(changes, move |slice: EndpointSlice| made_for(&all, &slice));

    let (namespaces, writer) = reflector::store();
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let changes = watcher(api, watcher::Config::default()).modify(usage::trim_namespace);
    let of_namespaces = noteworthy(changes.default_backoff().reflect(writer), &relisted).map(drop);

    let (sidecars, writer) = reflector::store();
    let api: Api<PartialObjectMeta<core::Pod>> = Api::all(client.clone());
    let injected = watcher::Config::default().labels(&usage::injected_pods());
    let changes = watcher(api, injected).modify(usage::trim_pod);
    let of_sidecars = noteworthy(changes.default_backoff().reflect(writer), &relisted).map(drop);
    // A label that has gone does not say which revision it was.
    let counted = stream::select(of_namespaces, of_sidecars);
    let counted = tokio_stream::StreamExt::chunks_timeout(counted, usize::MAX, COUNTING);
    controller = controller.reconcile_all_on(stream::select(counted.map(drop), WatchStream::from_changes(relists)));

    let (control_planes, writer) = reflector::store();
    let api: Api<PartialObjectMeta<Deployment>> = Api::all(client.clone());
    let changes = watcher(api, watcher::Config::default().labels("app=istiod")).modify(trim);
    let all = installs.clone();
    let changes = noteworthy(changes.default_backoff().reflect(writer), &relisted);
    controller = controller.watches_stream(changes, move |_: PartialObjectMeta<Deployment>| every(&all));

    let (definitions, writer) = reflector::store();
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    let changes = watcher(api, watcher::Config::default()).modify(trim);
    let all = installs.clone();
    let changes = ours(changes.default_backoff().reflect(writer), &relisted);
    controller = controller.watches_stream(changes, move |of: PartialObjectMeta<CustomResourceDefinition>| {
        if definitions::is_of_the_mesh(&of.name_any()) { every(&all) } else { Vec::new() }
    });

    let (tags, writer) = reflector::store();
    let api: Api<DeserializeGuard<MeshRevisionTag>> = Api::all(client.clone());
    let changes = ours(watcher(api, watcher::Config::default()).default_backoff().reflect(writer), &relisted);
    let all = installs.clone();
    // One that has moved has left another.
    controller = controller.watches_stream(changes, move |_: DeserializeGuard<MeshRevisionTag>| every(&all));

    let reporter = Reporter { controller: resources::OPERATOR.into(), instance: Some(identity.clone()) };
    let (reconciled, ended) = watch::channel(());
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        live: Live { installs, objects, pods, endpoints, tags, control_planes, definitions, namespaces, sidecars },
        definitions: Definitions::default(),
        client,
        namespace: namespace.clone(),
        related_images,
        metrics,
        made: Made::default(),
        authorities: Authorities::default(),
        written: Written::default(),
        reconciled,
    });
    let stop = stop.shared();
    let leaving = context.clone();
    let keeping_tags = tag::run(context.client.clone(), context.clone(), WatchStream::new(ended), stop.clone());
    let failures = Arc::new(Failures::default());
    let (counting, forgetting) = (failures.clone(), failures);
    let installing = controller
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
        });
    futures::join!(installing, keeping_tags);
    farewell::say(&leaving, &namespace, &identity).await;
}

fn labelled() -> watcher::Config {
    watcher::Config::default().labels(&live::selector())
}

/// What the caches have no use for.
fn forget_managers<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// What is kept of somebody else's object: who it is and whose.
fn trim<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    object.meta_mut().annotations = None;
}

/// The events of a watch without its failures, which are logged: each watch waits and begins again by itself. The controller
/// would hold up all of them for the failure of one, and after an outage of the API server, when every watch fails, for
/// minutes.
fn told<K>(
    events: impl futures::Stream<Item = Result<K, watcher::Error>> + Send + 'static,
) -> impl futures::Stream<Item = Result<K, watcher::Error>> + Send + 'static
where
    K: Send + 'static,
{
    events.filter_map(|event| {
        std::future::ready(match event {
            Ok(object) => Some(Ok(object)),
            Err(error) => {
                warn!("watch: {error}");
                None
            }
        })
    })
}

/// Says whenever a watch has listed everything anew, because the API server was away or had forgotten what the watch had
/// seen last. What was deleted in between is in no event: it is only no longer there.
fn listed_again<K>(
    events: impl futures::Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static,
    relisted: &watch::Sender<()>,
) -> impl futures::Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static
where
    K: Send + 'static,
{
    let (relisted, mut before) = (relisted.clone(), false);
    events.inspect(move |event| {
        if matches!(event, Ok(watcher::Event::InitDone)) && std::mem::replace(&mut before, true) {
            relisted.send_replace(());
        }
    })
}

/// Changes and deletions, but no repetitions: a predicate on the generation would swallow deletions and status.
fn ours<K>(
    events: impl futures::Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static,
    relisted: &watch::Sender<()>,
) -> impl futures::Stream<Item = Result<K, watcher::Error>> + Send + 'static
where
    K: Resource + Clone + Send + 'static,
    K::DynamicType: Send,
{
    let events = listed_again(events, relisted).touched_objects();
    told(events.predicate_filter(predicates::resource_version, PredicateConfig::default()))
}

/// Deletions, and changes of what is kept of an object; a pod's status, which changes far more often, is not.
fn noteworthy<K>(
    events: impl futures::Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static,
    relisted: &watch::Sender<()>,
) -> impl futures::Stream<Item = Result<K, watcher::Error>> + Send + 'static
where
    K: Resource + Clone + Send + 'static,
{
    let mut known: HashMap<String, u64> = HashMap::new();
    listed_again(events, relisted).filter_map(move |event| {
        let kept = |object: &K| {
            let (metadata, mut hasher) = (object.meta(), DefaultHasher::new());
            (&metadata.labels, &metadata.annotations, metadata.deletion_timestamp.is_some()).hash(&mut hasher);
            hasher.finish()
        };
        let noted = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                let (uid, kept) = (object.meta().uid.clone().unwrap_or_default(), kept(&object));
                (known.insert(uid, kept) != Some(kept)).then_some(Ok(object))
            }
            Ok(watcher::Event::Delete(object)) => {
                known.remove(object.meta().uid.as_deref().unwrap_or_default());
                Some(Ok(object))
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            Err(error) => {
                warn!("watch: {error}");
                None
            }
        };
        std::future::ready(noted)
    })
}

/// All MeshInstalls.
fn every(installs: &Store<Guarded>) -> Vec<ObjectRef<Guarded>> {
    installs.state().iter().map(|install| ObjectRef::new(&install.name_any())).collect()
}

/// The MeshInstalls that an object was made for: the one on its label; for one that revisions share, all of its namespace.
fn made_for<K: Resource>(installs: &Store<Guarded>, object: &K) -> Vec<ObjectRef<Guarded>> {
    // Somebody may have edited the one or the other.
    let by_reference = object.owner_references().iter().filter(|owner| owner.kind == "MeshInstall").map(|o| &o.name);
    let owners: Vec<_> = object.labels().get(labels::OWNED_BY).into_iter().chain(by_reference).collect();
    if !owners.is_empty() {
        return owners.into_iter().map(|owner| ObjectRef::new(owner)).collect();
    }
    let Some(namespace) = object.namespace() else { return every(installs) };
    let in_it = |install: &Guarded| install.0.as_ref().is_ok_and(|i| i.spec.namespace == namespace);
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
    use futures::{StreamExt as _, stream};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt as _;
    use kube::runtime::watcher::Event;
    use tokio::sync::watch;

    use super::{backoff, noteworthy, ours};

    /// `b` is deleted while nobody watches. No event says so, whichever way events are chosen; that there was a new list does.
    #[tokio::test]
    async fn what_was_deleted_while_nobody_watched_is_looked_for() {
        let map = |name: &str| {
            let metadata = serde_json::json!({"name": name, "uid": name, "resourceVersion": "1"});
            serde_json::from_value::<ConfigMap>(serde_json::json!({"metadata": metadata})).unwrap()
        };
        let first = [Event::Init, Event::InitApply(map("a")), Event::InitApply(map("b")), Event::InitDone];
        let again = [Event::Init, Event::InitApply(map("a")), Event::InitDone];
        for (way, lists, told, relisted_at_the_end) in [
            ("first list", vec![first.to_vec()], vec!["a", "b"], false),
            ("listed again", vec![first.to_vec(), again.to_vec()], vec!["a", "b"], true),
        ] {
            let (relisted, receiver) = watch::channel(());
            let events = || stream::iter(lists.concat().into_iter().map(Ok));
            let seen: Vec<String> = ours(events(), &relisted).map(|object| object.unwrap().name_any()).collect().await;
            assert_eq!(seen, told, "{way}");
            assert_eq!(receiver.has_changed().unwrap(), relisted_at_the_end, "{way}");

            let (relisted, receiver) = watch::channel(());
            let seen = noteworthy(events(), &relisted).map(|object| object.unwrap().name_any());
            assert_eq!(seen.collect::<Vec<_>>().await, told, "{way}, noteworthy");
            assert_eq!(receiver.has_changed().unwrap(), relisted_at_the_end, "{way}, noteworthy");
        }
    }

    #[test]
    fn waits_longer_with_each_failure_but_not_for_ever() {
        let seconds: Vec<u64> = [1, 2, 3, 6, 7, 40, u32::MAX].map(|n| backoff(n).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60, 60]);
    }
}
