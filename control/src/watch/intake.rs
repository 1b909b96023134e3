//! The inputs of this moment.
//!
//! Comes in: reduced objects, removals, what could not be read. Goes out: to the queue that something changed, and to
//! the push the inputs and the changes since the last time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use translate::model::change::{Change, Key, Kind};
use translate::model::inputs::Inputs;
use translate::model::mesh::Mesh;
use translate::model::object::Object;

use super::check;
use crate::metrics::Metrics;
use crate::push::queue::Lane;

/// What an event did, as metrics say it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Add,
    Update,
    Same,
    Delete,
}

impl Event {
    fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Update => "update",
            Self::Same => "updatesame",
            Self::Delete => "delete",
        }
    }
}

/// Where watches put what they see.
pub(crate) struct Intake {
    state: Mutex<State>,
    queue: mpsc::UnboundedSender<Lane>,
    metrics: Arc<Metrics>,
    mesh: watch::Sender<Arc<Mesh>>,
    /// Counts up when every object has to be reduced again.
    epoch: watch::Sender<u64>,
    synced: watch::Sender<bool>,
}

struct State {
    inputs: Inputs,
    changes: Vec<Change>,
    /// When the oldest of `changes` came.
    since: Option<Instant>,
    /// Objects whose newest version cannot be read, with the reason.
    unreadable: BTreeMap<(Kind, Key), String>,
    /// What has not been listed yet.
    awaited: BTreeSet<Kind>,
}

/// What changed since the last time.
pub(crate) struct Taken {
    pub(crate) inputs: Inputs,
    pub(crate) changes: Vec<Change>,
    pub(crate) since: Instant,
}

impl Intake {
    /// An intake that has everything once all of `awaited` were listed.
    pub(crate) fn new(
        mesh: Mesh,
        awaited: impl IntoIterator<Item = Kind>,
        queue: mpsc::UnboundedSender<Lane>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut inputs = Inputs::default();
        let _ = inputs.set_mesh(mesh); // the first state is no change
        let mesh = Arc::clone(&inputs.mesh);
        Self {
            state: Mutex::new(State {
                inputs,
                changes: Vec::new(),
                since: None,
                unreadable: BTreeMap::new(),
                awaited: awaited.into_iter().collect(),
            }),
            queue,
            metrics,
            mesh: watch::Sender::new(mesh),
            epoch: watch::Sender::new(0),
            synced: watch::Sender::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What holds for the whole mesh.
    pub(crate) fn mesh(&self) -> watch::Receiver<Arc<Mesh>> {
        self.mesh.subscribe()
    }

    /// Changes when every object has to be reduced again.
    pub(crate) fn epoch(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// True once everything has been listed: before that, absence means nothing.
    pub(crate) fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// An object was added or changed.
    pub(crate) fn apply(&self, object: Object) {
        let (kind, key) = name(&object);
        let mut state = self.state();
        if state.unreadable.remove(&(kind, key.clone())).is_some() {
            self.metrics.rejected_configs.remove([kind.as_str(), &format!("{}/{}", key.namespace, key.name)]);
            tracing::info!("{} {}/{} can be read again", kind.as_str(), key.namespace, key.name);
        }
        let known = contains(&state.inputs, kind, &key);
        let checked = object.clone();
        let change = state.inputs.apply(object);
        if change.is_some() {
            self.check(kind, &key, &checked);
        }
        let event = match (known, &change) {
            (_, None) => Event::Same,
            (false, _) => Event::Add,
            (true, _) => Event::Update,
        };
        self.note(&mut state, kind, event, change);
    }

    /// Tells what is wrong with the newest version of an object. It is followed as far as it goes all the same: the
    /// rest of the rule may be what keeps a service up.
    fn check(&self, kind: Kind, key: &Key, object: &Object) {
        let problems = check::problems(object);
        let name = format!("{}/{}", key.namespace, key.name);
        let labels = [kind.as_str(), name.as_str(), check::REASON];
        if problems.is_empty() {
            self.metrics.problems.remove(labels);
        } else {
            self.metrics.problems.with(labels).set(i64::try_from(problems.len()).unwrap_or(i64::MAX));
        }
        for problem in problems {
            tracing::warn!("{} {name}, {problem}", kind.as_str());
        }
    }

    /// An object was removed, or its newest version says nothing to the mesh.
    pub(crate) fn remove(&self, kind: Kind, key: &Key) {
        let mut state = self.state();
        if state.unreadable.remove(&(kind, key.clone())).is_some() {
            self.metrics.rejected_configs.remove([kind.as_str(), &format!("{}/{}", key.namespace, key.name)]);
        }
        let change = state.inputs.remove(kind, key);
        if change.is_some() {
            self.metrics.problems.remove([kind.as_str(), &format!("{}/{}", key.namespace, key.name), check::REASON]);
            self.note(&mut state, kind, Event::Delete, change);
        }
    }

    /// An object cannot be read; what it said before still counts.
    pub(crate) fn reject(&self, kind: Kind, key: &Key, message: &str) {
        let mut state = self.state();
        let before = state.unreadable.insert((kind, key.clone()), message.to_owned());
        if before.as_deref() == Some(message) {
            return;
        }
        let last_good = contains(&state.inputs, kind, key);
        drop(state);
        let object = format!("{}/{}", key.namespace, key.name);
        self.metrics.rejected_configs.with([kind.as_str(), &object]).set(1);
        let consequence = if last_good { "its last good version stays in use" } else { "it is left out" };
        tracing::warn!("{} {object} cannot be read: {message}; {consequence}", kind.as_str());
    }

    /// Everything of a kind has been listed: what is not in `listed` is gone.
    pub(crate) fn listed(&self, kind: Kind, listed: &BTreeSet<Key>) {
        let gone: Vec<Key> = keys(&self.state().inputs, kind).filter(|key| !listed.contains(*key)).cloned().collect();
        for key in gone {
            self.remove(kind, &key);
        }
        self.arrived(kind);
    }

    /// A kind is known as far as it can be.
    pub(crate) fn arrived(&self, kind: Kind) {
        let mut state = self.state();
        if state.awaited.remove(&kind) && state.awaited.is_empty() {
            // The first push happens even if the mesh is empty.
            state.since.get_or_insert_with(Instant::now);
            drop(state);
            self.synced.send_replace(true);
            let _ = self.queue.send(Lane::Config); // nobody pushes any more: shutting down
        }
    }

    /// The mesh's settings changed.
    pub(crate) fn set_mesh(&self, mesh: Mesh) {
        let mut state = self.state();
        let again = super::reduces_differently(&state.inputs.mesh, &mesh);
        if let Some(change) = state.inputs.set_mesh(mesh) {
            tracing::info!("the MeshConfig changed");
            let mesh = Arc::clone(&state.inputs.mesh);
            self.note(&mut state, Kind::Mesh, Event::Update, Some(change));
            drop(state);
            self.mesh.send_replace(mesh);
            if again {
                self.epoch.send_modify(|epoch| *epoch += 1);
            }
        }
    }

    /// The inputs, and what changed since the last time.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.state();
        self.metrics.services.set(i64::try_from(state.inputs.services.len()).unwrap_or(i64::MAX));
        self.metrics.virtual_services.set(i64::try_from(state.inputs.virtual_services.len()).unwrap_or(i64::MAX));
        Taken {
            inputs: state.inputs.clone(),
            changes: std::mem::take(&mut state.changes),
            since: state.since.take().unwrap_or_else(Instant::now),
        }
    }

    /// The inputs as they are now, for people who ask.
    pub(crate) fn inputs(&self) -> Inputs {
        self.state().inputs.clone()
    }

    /// Objects that cannot be read now, with the reason.
    pub(crate) fn unreadable(&self) -> Vec<(Kind, Key, String)> {
        let state = self.state();
        state.unreadable.iter().map(|((kind, key), reason)| (*kind, key.clone(), reason.clone())).collect()
    }

    fn note(&self, state: &mut State, kind: Kind, event: Event, change: Option<Change>) {
        let is_registry = matches!(kind, Kind::Service | Kind::EndpointSlice | Kind::Pod);
        let events = if is_registry { &self.metrics.registry_events } else { &self.metrics.config_events };
        events.with([kind.as_str(), event.as_str()]).inc();
        let Some(change) = change else { return };
        let (update, lane) = match kind {
            Kind::EndpointSlice | Kind::Pod => ("eds", Lane::Endpoints),
            Kind::Service if event == Event::Delete => ("svcdelete", Lane::Config),
            Kind::Service => ("svc", Lane::Config),
            _ => ("config", Lane::Config),
        };
        self.metrics.inbound_updates.with([update]).inc();
        tracing::debug!("{change}: {}", event.as_str());
        state.changes.push(change);
        state.since.get_or_insert_with(Instant::now);
        if state.awaited.is_empty() {
            let _ = self.queue.send(lane); // nobody pushes any more: shutting down
        }
    }
}

pub(super) fn name(object: &Object) -> (Kind, Key) {
    match object {
        Object::Service(it) => (Kind::Service, Key::new(&it.namespace, &it.name)),
        Object::EndpointSlice(it) => (Kind::EndpointSlice, Key::new(&it.namespace, &it.name)),
        Object::Workload(it) => (Kind::Pod, Key::new(&it.namespace, &it.name)),
        Object::VirtualService(it) => (Kind::VirtualService, Key::new(&it.namespace, &it.name)),
        Object::DestinationRule(it) => (Kind::DestinationRule, Key::new(&it.namespace, &it.name)),
        Object::Gateway(it) => (Kind::Gateway, Key::new(&it.namespace, &it.name)),
        Object::ServiceEntry(it) => (Kind::ServiceEntry, Key::new(&it.namespace, &it.name)),
        Object::PeerAuthentication(it) => (Kind::PeerAuthentication, Key::new(&it.namespace, &it.name)),
    }
}

fn contains(inputs: &Inputs, kind: Kind, key: &Key) -> bool {
    match kind {
        Kind::Service => inputs.services.contains_key(key),
        Kind::EndpointSlice => inputs.slices.contains_key(key),
        Kind::Pod => inputs.workloads.contains_key(key),
        Kind::VirtualService => inputs.virtual_services.contains_key(key),
        Kind::DestinationRule => inputs.destination_rules.contains_key(key),
        Kind::Gateway => inputs.gateways.contains_key(key),
        Kind::ServiceEntry => inputs.service_entries.contains_key(key),
        Kind::PeerAuthentication => inputs.peer_authentications.contains_key(key),
        Kind::Mesh => true,
    }
}

fn keys(inputs: &Inputs, kind: Kind) -> Box<dyn Iterator<Item = &Key> + '_> {
    match kind {
        Kind::Service => Box::new(inputs.services.keys()),
        Kind::EndpointSlice => Box::new(inputs.slices.keys()),
        Kind::Pod => Box::new(inputs.workloads.keys()),
        Kind::VirtualService => Box::new(inputs.virtual_services.keys()),
        Kind::DestinationRule => Box::new(inputs.destination_rules.keys()),
        Kind::Gateway => Box::new(inputs.gateways.keys()),
        Kind::ServiceEntry => Box::new(inputs.service_entries.keys()),
        Kind::PeerAuthentication => Box::new(inputs.peer_authentications.keys()),
        Kind::Mesh => Box::new(std::iter::empty()),
    }
}
