//! Configuration from an API server.
//!
//! One watch per kind. An object is reduced inside the stream and then dropped: no reflector keeps it. Istio's kinds are
//! watched as plain documents, so that one that cannot be read stalls nothing; a kind whose CRD is not there yet counts
//! as empty and is asked for again.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use translate::model::change::{Key, Kind};
use translate::model::kubernetes::{self, Pod};
use translate::model::mesh::Mesh;
use translate::model::object::{self, Object, ObjectError};

use super::Intake;

/// The kinds that are watched, apart from the MeshConfig.
pub(crate) const KINDS: [Kind; 8] = [
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
    Kind::VirtualService,
    Kind::DestinationRule,
    Kind::Gateway,
    Kind::ServiceEntry,
    Kind::PeerAuthentication,
];

/// Istio's kinds, with group and plural. `v1` is served wherever the CRDs are those of this decade.
const ISTIO: [(Kind, &str, &str); 5] = [
    (Kind::VirtualService, "networking.istio.io", "virtualservices"),
    (Kind::DestinationRule, "networking.istio.io", "destinationrules"),
    (Kind::Gateway, "networking.istio.io", "gateways"),
    (Kind::ServiceEntry, "networking.istio.io", "serviceentries"),
    (Kind::PeerAuthentication, "security.istio.io", "peerauthentications"),
];

/// Starts all watches; they end with `stop`.
pub(crate) fn start(
    client: &Client,
    namespace: &str,
    revision: &str,
    intake: &Arc<Intake>,
    stop: &CancellationToken,
) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    let api = ConfigMapWatch {
        api: Api::namespaced(client.clone(), namespace),
        name: names::resources::mesh_config(revision),
        namespace: namespace.to_owned(),
    };
    tasks.spawn(mesh(api, Arc::clone(intake), stop.clone()));

    let watch = |kind| Watch { kind, intake: Arc::clone(intake), stop: stop.clone() };
    tasks.spawn(watch(Kind::Service).run(Api::<Service>::all(client.clone()), |service: &Service, mesh: &Mesh| {
        let service = kubernetes::service(service, mesh)?;
        Ok(Object::Service(Arc::new(service)))
    }));
    tasks.spawn(
        watch(Kind::EndpointSlice).run(Api::<EndpointSlice>::all(client.clone()), |slice: &EndpointSlice, _: &Mesh| {
            Ok(Object::EndpointSlice(Arc::new(kubernetes::endpoint_slice(slice)?)))
        }),
    );
    tasks.spawn(watch(Kind::Pod).run(Api::<Pod>::all(client.clone()), |pod: &Pod, _: &Mesh| {
        Ok(Object::Workload(Arc::new(kubernetes::pod(pod))))
    }));
    for (kind, group, plural) in ISTIO {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind.as_str()), plural);
        let types = TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() };
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let revision = revision.to_owned();
        tasks.spawn(watch(kind).run_with(api, resource, move |object: &DynamicObject, mesh: &Mesh| {
            if !is_of_revision(object, &revision) {
                let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
                return Err(ObjectError::Meaningless { kind: kind.as_str(), name, why: "it is of another revision" });
            }
            let mut object = object.clone();
            object.types = Some(types.clone()); // items of a list carry none
            let document = serde_json::to_value(&object).unwrap_or_default(); // it was JSON before
            object::from_document(document, mesh)
        }));
    }
    tasks
}

/// Whether an object of Istio's kinds is for this control plane: one with `istio.io/rev` is for that revision alone. A tag is
/// no revision here, as by Istio.
fn is_of_revision(object: &DynamicObject, revision: &str) -> bool {
    object.labels().get(names::labels::REVISION).is_none_or(|of| of == revision)
}

struct Watch {
    kind: Kind,
    intake: Arc<Intake>,
    stop: CancellationToken,
}

impl Watch {
    async fn run<K, R>(self, api: Api<K>, reduce: R)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
        R: Fn(&K, &Mesh) -> Result<Object, ObjectError> + Send + 'static,
    {
        self.run_with(api, (), reduce).await;
    }

    async fn run_with<K, R>(self, api: Api<K>, _: K::DynamicType, reduce: R)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        R: Fn(&K, &Mesh) -> Result<Object, ObjectError> + Send + 'static,
    {
        let mut epoch = self.intake.epoch();
        let mut troubled = false;
        loop {
            epoch.mark_unchanged();
            let mut events = watcher(api.clone(), watcher::Config::default()).default_backoff().boxed();
            let mut listed: BTreeSet<Key> = BTreeSet::new();
            loop {
                let event = tokio::select! {
                    () = self.stop.cancelled() => return,
                    changed = epoch.changed() => match changed {
                        Ok(()) => break, // list again, and reduce everything again
                        Err(_) => return,
                    },
                    event = events.next() => event,
                };
                match event {
                    Some(Ok(event)) => {
                        if std::mem::take(&mut troubled) {
                            tracing::info!("{} are watched again", self.kind.as_str());
                        }
                        self.event(event, &mut listed, &reduce);
                    }
                    Some(Err(error)) => {
                        self.trouble(&error, troubled);
                        troubled = true;
                    }
                    None => break,
                }
            }
        }
    }

    fn event<K: Resource>(
        &self,
        event: watcher::Event<K>,
        listed: &mut BTreeSet<Key>,
        reduce: &impl Fn(&K, &Mesh) -> Result<Object, ObjectError>,
    ) {
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(object) => {
                listed.insert(key(&object));
                self.object(&object, reduce);
            }
            watcher::Event::InitDone => {
                self.intake.listed(self.kind, listed);
                listed.clear();
            }
            watcher::Event::Apply(object) => self.object(&object, reduce),
            watcher::Event::Delete(object) => self.intake.remove(self.kind, &key(&object)),
        }
    }

    fn object<K: Resource>(&self, object: &K, reduce: &impl Fn(&K, &Mesh) -> Result<Object, ObjectError>) {
        let mesh = self.intake.mesh().borrow().clone();
        match reduce(object, &mesh) {
            Ok(object) => self.intake.apply(object),
            Err(ObjectError::Meaningless { .. }) => self.intake.remove(self.kind, &key(object)),
            Err(ObjectError::Parse { source, .. }) => {
                self.intake.reject(self.kind, &key(object), &source.to_string());
            }
            Err(error @ ObjectError::Kind { .. }) => self.intake.reject(self.kind, &key(object), &error.to_string()),
        }
    }

    fn trouble(&self, error: &watcher::Error, already: bool) {
        let kind = self.kind.as_str();
        if is_absent(error) {
            // Nothing can be of a kind that does not exist; the watch asks again by itself. What is known stays: an API
            // server that starts may not know a kind for a moment, and a CRD that goes away deletes its objects first.
            self.intake.arrived(self.kind);
            if !already {
                tracing::warn!("the API server does not know kind {kind}: apply Forestay's CRDs; asked again");
            }
        } else if already {
            tracing::debug!(%error, "{kind} cannot be watched");
        } else {
            tracing::warn!(%error, "{kind} cannot be watched; is the RBAC of istiod complete? Tried again");
        }
    }
}

/// The API server does not serve the kind.
fn is_absent(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 404
    )
}

fn key<K: Resource>(object: &K) -> Key {
    Key::new(object.namespace().unwrap_or_default(), object.name_any())
}

struct ConfigMapWatch {
    api: Api<ConfigMap>,
    name: String,
    namespace: String,
}

/// Follows the MeshConfig in ConfigMap `istio[-<revision>]`.
async fn mesh(watch: ConfigMapWatch, intake: Arc<Intake>, stop: CancellationToken) {
    let ConfigMapWatch { api, name, namespace } = watch;
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut found = false;
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(watcher::Event::Apply(map) | watcher::Event::InitApply(map))) => {
                found = true;
                let base = intake.mesh().borrow().clone();
                let text = map.data.as_ref().and_then(|data| data.get("mesh"));
                match super::mesh(&base, text.map(String::as_str)) {
                    Ok(mesh) => intake.set_mesh(mesh),
                    Err(error) => tracing::error!(
                        "ConfigMap {namespace}/{name}, key mesh, cannot be read: {error}; the last good one stays in use"
                    ),
                }
            }
            Some(Ok(watcher::Event::Init)) => found = false,
            Some(Ok(watcher::Event::InitDone)) => {
                if !found {
                    tracing::warn!("ConfigMap {namespace}/{name} is not there; the defaults of a MeshConfig hold");
                }
                intake.arrived(Kind::Mesh);
            }
            // The operator puts it back; until then what it said last is better than the defaults.
            Some(Ok(watcher::Event::Delete(_))) => {
                tracing::warn!("ConfigMap {namespace}/{name} was deleted; its last MeshConfig stays in use");
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "ConfigMap {namespace}/{name} cannot be watched; is the RBAC of istiod complete?");
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests;
