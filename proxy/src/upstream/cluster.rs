//! A worker's clusters. What a worker keeps of one (endpoints' connections, counts, breakers) is made when traffic first comes to it: of the
//! thousand that a sidecar is told of it uses a few.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::ir::cluster::{Cluster, ClusterKind};
use engine::ir::endpoint::{Endpoint, EndpointSet};
use engine::{Snapshot, decide::balance};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::breaker::Breakers;
use super::host::Host;
use super::outlier::{Ejections, Seen};
use crate::error::ProxyError;
use crate::telemetry::envoy::ClusterCells;
use crate::telemetry::istio::WorkerSeries;

/// Idle connections are closed after this unless the cluster says less: servers commonly close theirs after 60 s or more, and a
/// request that meets a closing connection fails.
const IDLE: Duration = Duration::from_secs(55);

/// What all workers share of clusters.
#[derive(Debug, Default)]
pub struct SharedClusters(Mutex<HashMap<Arc<str>, Arc<Common>>>);

/// What all workers share of one cluster.
#[derive(Debug, Default)]
pub struct Common {
    /// Limits.
    pub breakers: Breakers,
    /// Endpoints that are left out.
    pub ejections: Ejections,
}

impl SharedClusters {
    fn get(&self, name: &Arc<str>) -> Arc<Common> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default().clone()
    }

    fn tidy(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, common| Arc::strong_count(common) > 1);
    }
}

/// One cluster.
#[derive(Debug)]
pub struct ClusterState {
    config: RefCell<Arc<Cluster>>,
    endpoints: RefCell<Rc<Endpoints>>,
    /// Endpoints by original destination.
    dynamic: RefCell<HashMap<SocketAddr, Rc<Host>>>,
    turn: Cell<u64>,
    /// Wakes a request that waits for a connection.
    pub(super) freed: Notify,
    /// What all workers share of it.
    pub common: Arc<Common>,
    /// What is counted of it.
    pub cells: Arc<ClusterCells>,
    /// The number of its service, for metrics.
    pub service: Cell<Option<u32>>,
}

/// A cluster's endpoints at one moment.
#[derive(Debug, Default)]
struct Endpoints {
    set: Arc<EndpointSet>,
    hosts: Box<[Rc<Host>]>,
}

struct LoadOf<'a> {
    hosts: &'a [Rc<Host>],
    ejections: &'a Ejections,
}

impl balance::Load for LoadOf<'_> {
    fn any_ejected(&self) -> bool {
        self.ejections.any()
    }

    fn ejected(&self, index: usize) -> bool {
        let record = self.hosts.get(index).and_then(|host| host.outlier.as_deref());
        record.is_some_and(|record| self.ejections.ejected(record))
    }

    fn active(&self, index: usize) -> u32 {
        self.hosts.get(index).map_or(0, |host| host.active.get())
    }
}

/// A chosen endpoint.
#[derive(Clone, Debug)]
pub struct Picked {
    /// The worker's side of it.
    pub host: Rc<Host>,
    /// Whether it speaks mesh TLS.
    pub mesh_tls: bool,
    /// Its host name, if it has one.
    pub hostname: Option<Arc<str>>,
}

impl ClusterState {
    /// Its configuration.
    pub fn config(&self) -> Arc<Cluster> {
        self.config.borrow().clone()
    }

    /// Chooses an endpoint. `original` is the destination that the connection had, for clusters that keep it.
    pub fn pick(
        &self,
        seed: u64,
        hash: Option<u64>,
        avoid: &[SocketAddr],
        attempts: u32,
        original: Option<SocketAddr>,
    ) -> Result<Picked, ProxyError> {
        let config = self.config.borrow();
        if let ClusterKind::OriginalDst { port_override, .. } = &config.kind {
            let mut address = original.ok_or_else(|| ProxyError::NoHealthyUpstream(config.name.to_string()))?;
            if let Some(port) = port_override {
                address.set_port(*port);
            }
            let host =
                self.dynamic.borrow_mut().entry(address).or_insert_with(|| Rc::new(Host::new(address, None))).clone();
            return Ok(Picked { host, mesh_tls: false, hostname: None });
        }
        let endpoints = self.endpoints.borrow();
        let load = LoadOf { hosts: &endpoints.hosts, ejections: &self.common.ejections };
        let mut turn = self.turn.get();
        let mut choice = balance::Choice { seed, turn: &mut turn, hash, avoid, attempts };
        let index = balance::pick(&config, &endpoints.set, &load, &mut choice);
        self.turn.set(turn);
        let found = index.and_then(|index| endpoints.hosts.get(index).zip(endpoints.set.endpoints.get(index)));
        let Some((host, endpoint)) = found else {
            let blackhole = &*config.name == names::traffic::BLACK_HOLE;
            return Err(if blackhole {
                ProxyError::BlackHole
            } else {
                ProxyError::NoHealthyUpstream(config.name.to_string())
            });
        };
        Ok(Picked { host: host.clone(), mesh_tls: endpoint.mtls, hostname: endpoint.hostname.clone() })
    }

    /// What the control plane says of the workload at an address.
    pub fn endpoint<R>(&self, address: SocketAddr, read: impl FnOnce(&Endpoint) -> R) -> Option<R> {
        let endpoints = self.endpoints.borrow();
        endpoints.set.endpoints.iter().find(|endpoint| endpoint.address == address).map(read)
    }

    /// Counts how a request or a connection went, where the cluster ejects.
    pub fn saw(&self, host: &Host, seen: Seen) {
        let config = self.config.borrow();
        if let (Some(rules), Some(record)) = (&config.settings.outlier, &host.outlier) {
            let total = self.endpoints.borrow().hosts.len();
            if self.common.ejections.count(rules, record, seen, total) {
                tracing::info!(cluster = %config.name, endpoint = %host.address, "ejected: too many failures in a row");
            }
        }
    }

    /// How long an idle connection is kept.
    pub fn idle(&self) -> Duration {
        self.config.borrow().settings.idle_timeout.map_or(IDLE, |configured| configured.min(IDLE))
    }

    fn replace(&self, set: Arc<EndpointSet>) {
        let ejects = self.config.borrow().settings.outlier.is_some();
        let old = self.endpoints.borrow().clone();
        let mut known: HashMap<SocketAddr, Rc<Host>> =
            old.hosts.iter().map(|host| (host.address, host.clone())).collect();
        let hosts = set.endpoints.iter().map(|endpoint| {
            let fits = |host: &Rc<Host>| host.outlier.is_some() == ejects;
            let host = known.remove(&endpoint.address).filter(fits).unwrap_or_else(|| {
                let record = ejects.then(|| self.common.ejections.record(endpoint.address));
                Rc::new(Host::new(endpoint.address, record))
            });
            host.peer.set(None); // another workload may have the address now
            if endpoint.health == engine::ir::endpoint::Health::Healthy {
                host.gone.set(false);
            } else {
                host.leave();
            }
            host
        });
        let hosts = hosts.collect();
        for host in known.into_values() {
            host.leave();
        }
        self.common.ejections.tidy();
        *self.endpoints.borrow_mut() = Rc::new(Endpoints { set, hosts });
    }

    fn tidy(&self) {
        let before = Instant::now().checked_sub(self.idle());
        let Some(before) = before else { return };
        for host in &self.endpoints.borrow().hosts {
            host.tidy(before);
        }
        self.dynamic.borrow_mut().retain(|_, host| {
            host.tidy(before);
            !host.is_quiet() || Rc::strong_count(host) > 1
        });
    }
}

/// All clusters of a worker.
#[derive(Debug)]
pub struct Clusters {
    snapshot: RefCell<Arc<Snapshot>>,
    /// Clusters that are used.
    states: RefCell<HashMap<Arc<str>, Rc<ClusterState>>>,
    /// Endpoints of the others.
    unused: RefCell<HashMap<Arc<str>, Arc<EndpointSet>>>,
    shared: Arc<SharedClusters>,
    series: Arc<WorkerSeries>,
}

impl Clusters {
    /// No clusters yet; `series` is where this worker counts.
    pub fn new(shared: Arc<SharedClusters>, series: Arc<WorkerSeries>) -> Self {
        let (snapshot, states, unused) = Default::default();
        Self { snapshot, states, unused, shared, series }
    }

    /// A cluster by its name. Only the first use of one takes locks.
    pub fn get(&self, name: &str) -> Option<Rc<ClusterState>> {
        if let Some(state) = self.states.borrow().get(name) {
            return Some(state.clone());
        }
        let snapshot = self.snapshot.borrow();
        let config = snapshot.cluster(name)?;
        let state = self.begin(config);
        self.states.borrow_mut().insert(config.name.clone(), state.clone());
        Some(state)
    }

    fn begin(&self, config: &Arc<Cluster>) -> Rc<ClusterState> {
        let state = Rc::new(ClusterState {
            config: RefCell::new(config.clone()),
            endpoints: RefCell::default(),
            dynamic: RefCell::default(),
            turn: Cell::new(fastrand::u64(..)), // workers do not start at the same endpoint
            freed: Notify::new(),
            common: self.shared.get(&config.name),
            cells: self.series.envoy.cluster(&config.name),
            service: Cell::new(None),
        });
        let set = match &config.kind {
            ClusterKind::Static(set) => Some(set.clone()),
            _ => self.unused.borrow_mut().remove(&config.name),
        };
        if let Some(set) = set {
            state.replace(set);
        }
        state
    }

    /// Goes over to the clusters of a new snapshot; those that stay keep what they have.
    pub fn update(&self, snapshot: &Arc<Snapshot>) {
        *self.snapshot.borrow_mut() = snapshot.clone();
        let mut states = self.states.borrow_mut();
        states.retain(|name, state| {
            let stays = snapshot.cluster(name).is_some();
            if !stays {
                state.endpoints.borrow().hosts.iter().for_each(|host| host.leave());
                state.dynamic.borrow().values().for_each(|host| host.leave());
            }
            stays
        });
        for state in states.values() {
            let Some(config) = snapshot.cluster(&state.config.borrow().name).cloned() else { continue };
            let changed = !Arc::ptr_eq(&state.config.borrow(), &config) && *state.config.borrow() != config;
            if changed {
                state.service.set(None);
                *state.config.borrow_mut() = config.clone();
            }
            match &config.kind {
                ClusterKind::Static(set) => {
                    if !Arc::ptr_eq(&state.endpoints.borrow().set, set) {
                        state.replace(set.clone());
                    }
                }
                ClusterKind::Eds { .. } | ClusterKind::StrictDns(_) | ClusterKind::LogicalDns(_) => {
                    if changed {
                        let set = state.endpoints.borrow().set.clone();
                        state.replace(set);
                    }
                }
                ClusterKind::OriginalDst { .. } => {}
            }
        }
        self.shared.tidy();
    }

    /// New endpoints of a cluster.
    pub fn endpoints(&self, name: &Arc<str>, set: Arc<EndpointSet>) {
        match self.states.borrow().get(name) {
            Some(state) => state.replace(set),
            None => {
                self.unused.borrow_mut().insert(name.clone(), set);
            }
        }
    }

    /// A cluster's endpoints are gone.
    pub fn removed(&self, name: &str) {
        self.unused.borrow_mut().remove(name);
        if let Some(state) = self.states.borrow().get(name) {
            state.replace(Arc::default());
        }
    }

    /// Closes what has been idle for too long; once in a while.
    pub fn tidy(&self) {
        for state in self.states.borrow().values() {
            state.tidy();
        }
    }
}
