//! One endpoint, as a worker knows it: its connections and what is going on with it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use engine::ir::tls::UpstreamTransport;
use futures::future::{LocalBoxFuture, Shared};
use hyper::client::conn::{http1, http2};
use rustls::ClientConfig;
use tokio::time::Instant;

use super::outlier;
use crate::error::ProxyError;
use crate::http::body::RequestBody;
use crate::net::ClientAddress;
use crate::telemetry::istio::Number;
use crate::tls::client::Inside;
use crate::tls::verify::Leaf;

/// An endpoint of one cluster, in one worker.
#[derive(Debug)]
pub struct Host {
    /// Where it listens.
    pub address: SocketAddr,
    /// Requests and connections it has from this worker.
    pub active: Cell<u32>,
    /// Connections to it from this worker.
    pub(super) connections: Rc<Cell<u32>>,
    /// What all workers know of its failures, if the cluster ejects.
    pub outlier: Option<Arc<outlier::Record>>,
    /// Whether it has left the cluster: no idle connection is kept.
    pub gone: Cell<bool>,
    pub(super) idle: RefCell<Vec<Idle>>,
    pub(super) shared: RefCell<Vec<Multiplexed>>,
    pub(super) connecting: RefCell<Option<Connecting>>,
    tls: RefCell<Vec<Made>>,
    /// The number of the workload behind it, for metrics; kept once known.
    pub peer: Cell<Option<Number>>,
}

/// What a connection must be like to be used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// How it is encrypted.
    pub transport: UpstreamTransport,
    /// The generation of our identity it was made with; zero without TLS.
    pub generation: u64,
    /// The server name, where it follows the request.
    pub name: Option<Rc<str>>,
    /// The client that it is seen to come from, where the application is to see its clients.
    pub client: Option<ClientAddress>,
}

impl Kind {
    /// Whether one TLS configuration serves both.
    fn same_tls(&self, other: &Self) -> bool {
        (&self.transport, self.generation, &self.name) == (&other.transport, other.generation, &other.name)
    }
}

/// What is the same for all requests on a connection.
#[derive(Debug)]
pub struct About {
    /// Its kind.
    pub kind: Kind,
    /// The server, if there is TLS.
    pub peer: Option<Arc<Leaf>>,
    /// Our address on it.
    pub local: SocketAddr,
    /// How many requests it has had.
    pub requests: Cell<u32>,
    /// Told when the connection has ended.
    pub closed: Cell<bool>,
}

/// An HTTP/1 connection that waits for a request.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) about: Rc<About>,
    pub(super) since: Instant,
}

/// An HTTP/2 connection.
#[derive(Clone, Debug)]
pub(super) struct Multiplexed {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) about: Rc<About>,
    pub(super) last: Rc<Cell<Instant>>,
}

/// An HTTP/2 connection in the making, which all requests that come meanwhile wait for.
pub(super) struct Connecting {
    pub(super) kind: Kind,
    pub(super) outcome: Shared<LocalBoxFuture<'static, Result<super::pool::Made, ProxyError>>>,
}

impl std::fmt::Debug for Connecting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connecting").field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Made {
    kind: Kind,
    inside: Inside,
    config: Arc<ClientConfig>,
}

impl Host {
    /// An endpoint without connections.
    pub fn new(address: SocketAddr, outlier: Option<Arc<outlier::Record>>) -> Self {
        Self {
            address,
            active: Cell::new(0),
            connections: Rc::default(),
            outlier,
            gone: Cell::new(false),
            idle: RefCell::default(),
            shared: RefCell::default(),
            connecting: RefCell::default(),
            tls: RefCell::default(),
            peer: Cell::new(None),
        }
    }

    /// The endpoint has left: what is idle closes at once, what works finishes.
    pub fn leave(&self) {
        self.gone.set(true);
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().clear();
    }

    /// Closes connections that have been idle since before `before`, and forgets closed ones.
    pub fn tidy(&self, before: Instant) {
        self.idle.borrow_mut().retain(|idle| idle.since >= before && !idle.sender.is_closed());
        self.shared.borrow_mut().retain(|shared| {
            // Anybody else who holds it is a stream in flight.
            let busy = Rc::strong_count(&shared.about) > 1;
            !shared.sender.is_closed() && (busy || shared.last.get() >= before)
        });
        if self.idle.borrow().is_empty() {
            self.idle.borrow_mut().shrink_to_fit();
        }
    }

    /// Whether nothing goes on here, so that a dynamic endpoint may be forgotten.
    pub fn is_quiet(&self) -> bool {
        self.active.get() == 0 && self.idle.borrow().is_empty() && self.shared.borrow().is_empty()
    }

    /// How many connections wait for a request.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The TLS configuration for this endpoint, with the sessions of earlier connections to it.
    pub(super) fn tls_config(
        &self,
        kind: &Kind,
        inside: Inside,
        make: impl FnOnce() -> Result<Arc<ClientConfig>, String>,
    ) -> Result<Arc<ClientConfig>, String> {
        let mut made = self.tls.borrow_mut();
        made.retain(|made| made.kind.generation == kind.generation);
        if let Some(found) = made.iter().find(|made| made.kind.same_tls(kind) && made.inside == inside) {
            return Ok(found.config.clone());
        }
        let config = make()?;
        made.push(Made { kind: kind.clone(), inside, config: config.clone() });
        Ok(config)
    }
}

/// One request or connection at an endpoint, counted until dropped.
#[derive(Debug)]
pub struct Active(Rc<Host>);

impl Active {
    /// Counts one more.
    pub fn new(host: &Rc<Host>) -> Self {
        host.active.set(host.active.get().saturating_add(1));
        Self(host.clone())
    }

    /// The endpoint.
    pub fn host(&self) -> &Rc<Host> {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}
