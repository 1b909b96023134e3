//! The streams that are open now, for people who ask.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use names::identity::SpiffeId;
use xds::node::ProxyNode;

use crate::push::resource::Kind;
use crate::push::subscriber::{Progress, Protocol, View};

/// One open stream.
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) node: ProxyNode,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) protocol: Protocol,
    state: Mutex<State>,
}

/// What changes while it is open.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) progress: [Progress; Kind::ALL.len()],
    /// What the proxy shall have; what it was sent is this or was this before.
    pub(crate) view: Option<Arc<View>>,
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        self.lock().clone()
    }

    pub(crate) fn set_progress(&self, kind: Kind, progress: Progress) {
        self.lock().progress[kind.index()] = progress;
    }

    pub(crate) fn set_view(&self, view: Arc<View>) {
        self.lock().view = Some(view);
    }
}

/// All open streams.
#[derive(Default)]
pub(crate) struct Connections {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
}

impl Connections {
    /// Enters a stream; it leaves when the returned guard is dropped.
    pub(crate) fn enter(
        self: &Arc<Self>,
        node: ProxyNode,
        address: Option<SocketAddr>,
        identity: Option<SpiffeId>,
        protocol: Protocol,
    ) -> Entered {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection { id, node, address, identity, protocol, state: Mutex::default() });
        self.lock().insert(id, Arc::clone(&connection));
        Entered { all: Arc::clone(self), connection }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, the oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Connection>> {
        self.lock().values().cloned().collect()
    }

    /// The newest stream of the proxy that people call `<pod>.<namespace>`.
    pub(crate) fn find(&self, proxy: &str) -> Option<Arc<Connection>> {
        self.lock().values().rev().find(|connection| proxy_name(&connection.node) == proxy).cloned()
    }
}

/// `<pod>.<namespace>`, as `proxy-status` prints it.
pub(crate) fn proxy_name(node: &ProxyNode) -> String {
    format!("{}.{}", node.id.pod, node.id.namespace)
}

/// A stream that is open for as long as this lives.
pub(crate) struct Entered {
    all: Arc<Connections>,
    connection: Arc<Connection>,
}

impl std::ops::Deref for Entered {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.all.lock().remove(&self.connection.id);
    }
}
