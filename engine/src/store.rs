//! The resources a proxy holds, and the snapshots that are made of them.
//!
//! What comes in: added, changed and removed resources of one type after another. What goes out: [`Changes`]: new
//! endpoints per cluster, and a new [`Snapshot`] if anything else changed. Only what changed is compiled; a snapshot
//! shares everything else with the one before.
//!
//! A changed virtual host takes over once every cluster that it names is known with its endpoints, or after [`PATIENCE`]: a
//! rule that names a new subset must not lose requests because the subset's cluster comes a moment later.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use xds::{
    any, type_url,
    types::{cluster, discovery, endpoint, listener, route},
};

use crate::{
    compile::{self, Frame, Proxy, Refused, Shared},
    ir::{
        cluster::{Cluster, ClusterKind, LbPolicy},
        endpoint::EndpointSet,
        listener::{ChainAction, Listener, RouteSource},
        route::{RouteTable, VirtualHost},
    },
    snapshot::Snapshot,
};

/// How long an old virtual host is kept while clusters of the new one are missing.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What must be told to the workers.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// New endpoints, by cluster. They come before the snapshot.
    pub endpoints: Vec<(Arc<str>, Arc<EndpointSet>)>,
    /// The new configuration, if it changed.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Clusters with EDS that are gone. They come after the snapshot.
    pub removed: Vec<Arc<str>>,
}

impl Changes {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.snapshot.is_none() && self.removed.is_empty()
    }
}

/// A virtual host, and the one that will take its place.
#[derive(Debug)]
struct Held {
    live: Arc<VirtualHost>,
    next: Option<Box<(Arc<VirtualHost>, Instant)>>,
}

/// The resources a proxy holds.
#[derive(Debug)]
pub struct Store {
    proxy: Proxy,
    shared: Shared,
    generation: u64,
    listeners: HashMap<Arc<str>, Arc<Listener>>,
    frames: HashMap<Arc<str>, Frame>,
    hosts: BTreeMap<Arc<str>, Held>,
    clusters: HashMap<Arc<str>, Arc<Cluster>>,
    /// By EDS name.
    endpoints: HashMap<Arc<str>, Arc<EndpointSet>>,
    tables: HashMap<Arc<str>, Arc<RouteTable>>,
    /// Route tables to be made anew.
    stale_tables: HashSet<Arc<str>>,
    /// EDS names whose clusters need their endpoints told.
    stale_endpoints: HashSet<Arc<str>>,
    removed: Vec<Arc<str>>,
    changed: bool,
}

impl Store {
    /// A store without resources.
    pub fn new(proxy: Proxy) -> Self {
        Self {
            proxy,
            shared: Shared::default(),
            generation: 0,
            listeners: HashMap::new(),
            frames: HashMap::new(),
            hosts: BTreeMap::new(),
            clusters: HashMap::new(),
            endpoints: HashMap::new(),
            tables: HashMap::new(),
            stale_tables: HashSet::new(),
            stale_endpoints: HashSet::new(),
            removed: Vec::new(),
            changed: false,
        }
    }

    /// Takes resources of one type. A resource that is refused leaves the one before in place.
    pub fn upsert(&mut self, kind: &str, resources: &[discovery::Resource], now: Instant) -> Vec<Refused> {
        resources.iter().filter_map(|resource| self.upsert_one(kind, resource, now).err()).collect()
    }

    /// The name of a resource, as all who keep it share it.
    pub fn name(&self, name: &str) -> Arc<str> {
        self.shared.texts.get(name)
    }

    /// Takes one resource. If it is refused the one before stays in place.
    pub fn upsert_one(&mut self, kind: &str, resource: &discovery::Resource, now: Instant) -> Result<(), Refused> {
        let name = resource.name.as_str();
        let key = self.name(name);
        match kind {
            type_url::LISTENER => {
                let message: listener::Listener = unpack("Listener", resource)?;
                named("Listener", name, &message.name)?;
                let listener = Arc::new(compile::listener(&message, &self.proxy)?);
                // An unchanged listener keeps its identity, and with it whatever hangs on that.
                if self.listeners.get(name) != Some(&listener) {
                    self.listeners.insert(key, listener);
                    self.changed = true;
                }
            }
            type_url::ROUTES => {
                let message: route::RouteConfiguration = unpack("RouteConfiguration", resource)?;
                named("RouteConfiguration", name, &message.name)?;
                let frame = compile::frame(&message, &self.shared)?;
                self.frames.insert(key.clone(), frame);
                self.stale_tables.insert(key);
            }
            type_url::VIRTUAL_HOST => {
                let message: route::VirtualHost = unpack("VirtualHost", resource)?;
                let host = Arc::new(compile::virtual_host(&message, name, &self.shared)?);
                self.take_host(key, host, now);
            }
            type_url::CLUSTER => {
                let message: cluster::Cluster = unpack("Cluster", resource)?;
                named("Cluster", name, &message.name)?;
                let cluster = Arc::new(compile::cluster(&message, &self.shared)?);
                self.take_cluster(key, cluster);
            }
            type_url::ENDPOINTS => {
                let message: endpoint::ClusterLoadAssignment = unpack("ClusterLoadAssignment", resource)?;
                named("ClusterLoadAssignment", name, &message.cluster_name)?;
                let policy = self.policy_of(name);
                let set = Arc::new(compile::endpoints(&message, policy, &self.shared)?);
                if self.endpoints.get(name) != Some(&set) {
                    self.endpoints.insert(key.clone(), set);
                    self.stale_endpoints.insert(key);
                }
            }
            other => {
                let reason = format!("resources of type {other} are not understood by this proxy");
                return Err(Refused { kind: "resource", name: name.to_owned(), field: String::new(), reason });
            }
        }
        Ok(())
    }

    /// Lets go of resources of one type.
    pub fn remove(&mut self, kind: &str, names: &[String]) {
        for name in names {
            let name = name.as_str();
            match kind {
                type_url::LISTENER => self.changed |= self.listeners.remove(name).is_some(),
                type_url::ROUTES => self.stale_tables.extend(self.frames.remove_entry(name).map(|(name, _)| name)),
                type_url::VIRTUAL_HOST => {
                    let gone = self.hosts.remove_entry(name);
                    self.stale_tables.extend(gone.map(|(name, _)| table_of(&name).into()));
                }
                type_url::CLUSTER => {
                    if let Some((name, cluster)) = self.clusters.remove_entry(name) {
                        self.changed = true;
                        self.removed.extend(eds_name(&cluster).map(|_| name));
                    }
                }
                // The cluster is still there: it has no endpoints now.
                type_url::ENDPOINTS => {
                    self.stale_endpoints.extend(self.endpoints.remove_entry(name).map(|(name, _)| name));
                }
                _ => {}
            }
        }
    }

    /// The route configurations that listeners name.
    pub fn wanted_routes(&self) -> BTreeSet<Arc<str>> {
        let chains = self.listeners.values().flat_map(|listener| listener.chains.iter().chain(&listener.default_chain));
        chains
            .filter_map(|chain| match &chain.action {
                ChainAction::Http(http) => match &http.routes {
                    RouteSource::Named(name) => Some(name.clone()),
                    RouteSource::Inline(_) => None,
                },
                ChainAction::Tcp(_) => None,
            })
            .collect()
    }

    /// The endpoints that clusters name.
    pub fn wanted_endpoints(&self) -> BTreeSet<Arc<str>> {
        self.clusters.values().filter_map(|cluster| eds_name(cluster)).cloned().collect()
    }

    /// Whether every route configuration whose virtual hosts come apart has at least one.
    pub fn tables_have_hosts(&self) -> bool {
        self.frames.iter().filter(|(_, frame)| frame.vhds).all(|(name, _)| !self.hosts_of(name).is_empty())
    }

    /// When [`Store::changes`] should be asked again although nothing came in.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.hosts.values().filter_map(|held| held.next.as_ref().map(|next| next.1)).min()
    }

    /// Makes the next changes carry a snapshot, whether anything changed or not.
    pub fn announce(&mut self) {
        self.changed = true;
    }

    /// What must be told to the workers since the last time.
    pub fn changes(&mut self, now: Instant) -> Changes {
        self.promote(now);
        let endpoints = self.changed_endpoints();
        for name in std::mem::take(&mut self.stale_tables) {
            self.changed = true;
            match self.frames.get(&name) {
                Some(frame) => {
                    let table = frame.table(&self.hosts_of(&name), &self.proxy.viewpoint);
                    self.tables.insert(name, Arc::new(table));
                }
                None => {
                    self.tables.remove(&name);
                }
            }
        }
        let snapshot = std::mem::take(&mut self.changed).then(|| {
            self.generation += 1;
            Arc::new(Snapshot::new(self.generation, self.listeners.clone(), self.tables.clone(), self.clusters.clone()))
        });
        // A cluster that went and came back in one go is still there.
        let mut removed = std::mem::take(&mut self.removed);
        removed.retain(|name| self.clusters.get(name).is_none_or(|cluster| eds_name(cluster).is_none()));
        Changes { endpoints, snapshot, removed }
    }

    fn take_host(&mut self, name: Arc<str>, host: Arc<VirtualHost>, now: Instant) {
        let ready = self.knows_clusters_of(&host);
        match self.hosts.get_mut(&name) {
            Some(held) if !ready => held.next = Some(Box::new((host, now + PATIENCE))),
            _ => {
                self.stale_tables.insert(table_of(&name).into());
                self.hosts.insert(name, Held { live: host, next: None });
            }
        }
    }

    fn take_cluster(&mut self, name: Arc<str>, cluster: Arc<Cluster>) {
        let old = self.clusters.get(&name);
        if old == Some(&cluster) {
            return;
        }
        let eds = eds_name(&cluster).cloned();
        let same_endpoints =
            old.is_some_and(|old| eds_name(old) == eds.as_ref() && old.settings.lb == cluster.settings.lb);
        if old.is_some_and(|old| eds_name(old).is_some()) && eds.is_none() {
            self.removed.push(name.clone());
        }
        if let Some(eds) = eds
            && !same_endpoints
        {
            self.stale_endpoints.insert(eds);
        }
        self.clusters.insert(name, cluster);
        self.changed = true;
    }

    fn knows_clusters_of(&self, host: &VirtualHost) -> bool {
        host.clusters().all(|name| {
            self.clusters
                .get(name)
                .is_some_and(|cluster| eds_name(cluster).is_none_or(|eds| self.endpoints.contains_key(eds)))
        })
    }

    /// Lets waiting virtual hosts take over whose clusters have come, or whose time is up.
    fn promote(&mut self, now: Instant) {
        let due: Vec<Arc<str>> = self
            .hosts
            .iter()
            .filter_map(|(name, held)| {
                let (next, deadline) = held.next.as_deref()?;
                (now >= *deadline || self.knows_clusters_of(next)).then(|| name.clone())
            })
            .collect();
        for name in due {
            if let Some(held) = self.hosts.get_mut(&name)
                && let Some(next) = held.next.take()
            {
                held.live = next.0;
                self.stale_tables.insert(table_of(&name).into());
            }
        }
    }

    fn hosts_of(&self, table: &str) -> Vec<Arc<VirtualHost>> {
        let prefix: Arc<str> = format!("{table}/").into();
        self.hosts
            .range(prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&*prefix))
            .map(|(_, held)| held.live.clone())
            .collect()
    }

    fn changed_endpoints(&mut self) -> Vec<(Arc<str>, Arc<EndpointSet>)> {
        let stale = std::mem::take(&mut self.stale_endpoints);
        if stale.is_empty() {
            return Vec::new();
        }
        let mut changed = Vec::new();
        for (name, cluster) in &self.clusters {
            let Some(eds) = eds_name(cluster).filter(|eds| stale.contains(*eds)) else { continue };
            match self.endpoints.get(eds) {
                // Endpoints are not there yet: to be waited for, which is not the same as none.
                None => changed.push((name.clone(), Arc::new(EndpointSet::default()))),
                Some(set) if !set.fits(cluster.settings.lb) => {
                    changed.push((name.clone(), Arc::new(set.for_policy(cluster.settings.lb))));
                }
                Some(set) => changed.push((name.clone(), set.clone())),
            }
        }
        changed
    }

    /// How the cluster chooses that these endpoints are for.
    fn policy_of(&self, eds: &str) -> LbPolicy {
        let mut clusters = self.clusters.get(eds).into_iter().chain(self.clusters.values());
        clusters
            .find(|cluster| eds_name(cluster).is_some_and(|name| &**name == eds))
            .map_or(LbPolicy::RoundRobin, |cluster| cluster.settings.lb)
    }
}

fn eds_name(cluster: &Cluster) -> Option<&Arc<str>> {
    match &cluster.kind {
        ClusterKind::Eds { service_name } => Some(service_name),
        _ => None,
    }
}

/// The route configuration of a virtual host's resource.
fn table_of(resource: &str) -> &str {
    resource.split_once('/').map_or(resource, |(table, _)| table)
}

fn unpack<M: prost::Message + prost::Name + Default>(
    kind: &'static str,
    resource: &discovery::Resource,
) -> Result<M, Refused> {
    any::unpack_required(resource.resource.as_ref()).map_err(|error| Refused {
        kind,
        name: resource.name.clone(),
        field: String::new(),
        reason: error.to_string(),
    })
}

/// A resource under another name than its own would never be found again.
fn named(kind: &'static str, resource: &str, message: &str) -> Result<(), Refused> {
    if resource == message {
        return Ok(());
    }
    let reason = format!("the message inside is called {message:?}");
    Err(Refused { kind, name: resource.to_owned(), field: "name".to_owned(), reason })
}
