//! The way from the control thread to the workers: one queue for each worker, no lock that two of them share.
//!
//! Order is kept: a cluster's endpoints are sent before the first snapshot that names the cluster. A worker that starts
//! later gets the present state first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use engine::{EndpointSet, Snapshot};
use tokio::sync::mpsc;

/// What changed.
#[derive(Clone, Debug)]
pub enum Update {
    /// A new configuration, in place of the old one.
    Snapshot(Arc<Snapshot>),
    /// New endpoints of one cluster with EDS, in place of the old ones.
    Endpoints {
        /// The cluster's name.
        cluster: Arc<str>,
        /// All of its endpoints.
        set: Arc<EndpointSet>,
    },
    /// A cluster with EDS is gone, and its endpoints with it.
    Removed {
        /// The cluster's name.
        cluster: Arc<str>,
    },
}

/// One worker's queue of changes.
#[derive(Debug)]
pub struct Subscription {
    queue: mpsc::UnboundedReceiver<Update>,
}

impl Subscription {
    /// The next change; `None` when the control thread has ended.
    pub async fn next(&mut self) -> Option<Update> {
        self.queue.recv().await
    }

    /// The next change, if there is one already.
    pub fn try_next(&mut self) -> Option<Update> {
        self.queue.try_recv().ok()
    }
}

/// The control thread's end.
#[derive(Debug, Default)]
pub struct Publisher {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    snapshot: Arc<Snapshot>,
    endpoints: HashMap<Arc<str>, Arc<EndpointSet>>,
    subscribers: Vec<mpsc::UnboundedSender<Update>>,
    /// Snapshots that workers may still hold. The last owner frees a configuration, and freeing a large one takes long:
    /// that must be this thread, so they are kept until nobody else has them.
    retired: Vec<Arc<Snapshot>>,
}

impl State {
    fn send(&mut self, update: &Update) {
        self.subscribers.retain(|subscriber| subscriber.send(update.clone()).is_ok());
    }
}

impl Publisher {
    /// A publisher without configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new worker's queue, with the present state in it.
    pub fn subscribe(&self) -> Subscription {
        let (sender, queue) = mpsc::unbounded_channel();
        let mut state = self.lock();
        for (cluster, set) in &state.endpoints {
            let update = Update::Endpoints { cluster: cluster.clone(), set: set.clone() };
            // The receiver is in our hands: sending cannot fail.
            let _ = sender.send(update);
        }
        let _ = sender.send(Update::Snapshot(state.snapshot.clone()));
        state.subscribers.push(sender);
        Subscription { queue }
    }

    /// Publishes a configuration.
    pub fn snapshot(&self, snapshot: Arc<Snapshot>) {
        let mut state = self.lock();
        let old = std::mem::replace(&mut state.snapshot, snapshot.clone());
        state.retired.push(old);
        state.send(&Update::Snapshot(snapshot));
        state.retired.retain(|old| Arc::strong_count(old) > 1);
    }

    /// Publishes a cluster's endpoints.
    pub fn endpoints(&self, cluster: Arc<str>, set: Arc<EndpointSet>) {
        let mut state = self.lock();
        state.endpoints.insert(cluster.clone(), set.clone());
        state.send(&Update::Endpoints { cluster, set });
    }

    /// Takes a cluster's endpoints away.
    pub fn removed(&self, cluster: Arc<str>) {
        let mut state = self.lock();
        if state.endpoints.remove(&cluster).is_some() {
            state.send(&Update::Removed { cluster });
        }
    }

    /// The present configuration.
    pub fn current(&self) -> Arc<Snapshot> {
        self.lock().snapshot.clone()
    }

    /// The present endpoints of all clusters with EDS.
    pub fn current_endpoints(&self) -> HashMap<Arc<str>, Arc<EndpointSet>> {
        self.lock().endpoints.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing below panics half-way through a change, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use engine::{EndpointSet, Snapshot};

    use super::{Publisher, Update};

    fn snapshot(generation: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot::new(generation, HashMap::new(), HashMap::new(), HashMap::new()))
    }

    fn kinds(subscription: &mut super::Subscription) -> Vec<String> {
        std::iter::from_fn(|| subscription.try_next())
            .map(|update| match update {
                Update::Snapshot(snapshot) => format!("snapshot {}", snapshot.generation),
                Update::Endpoints { cluster, .. } => format!("endpoints {cluster}"),
                Update::Removed { cluster } => format!("removed {cluster}"),
            })
            .collect()
    }

    #[test]
    fn a_late_worker_gets_the_present_and_then_what_changes_in_order() {
        let publisher = Publisher::new();
        publisher.endpoints("a".into(), Arc::new(EndpointSet::default()));
        publisher.snapshot(snapshot(1));
        let mut worker = publisher.subscribe();
        publisher.removed("a".into());
        publisher.removed("never there".into());
        publisher.snapshot(snapshot(2));
        assert_eq!(kinds(&mut worker), ["endpoints a", "snapshot 1", "removed a", "snapshot 2"]);
    }

    #[test]
    fn a_retired_snapshot_is_freed_here_once_no_worker_holds_it() {
        let publisher = Publisher::new();
        let first = snapshot(1);
        let weak = Arc::downgrade(&first);
        publisher.snapshot(first.clone());
        publisher.snapshot(snapshot(2));
        drop(first);
        assert!(weak.upgrade().is_some(), "held back although the worker let go of it");
        publisher.snapshot(snapshot(3));
        assert!(weak.upgrade().is_none());
    }
}
