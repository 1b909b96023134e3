//! The whole configuration that a request is judged by.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use crate::ir::{
    cluster::Cluster,
    listener::{Direction, HttpChain, Listener, RouteSource},
    route::{Request, Route, RouteTable, VirtualHost},
};

/// An immutable configuration; shared by all workers, replaced as a whole. Endpoints are not part of it: they change
/// too often, and by cluster.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Goes up with each snapshot.
    pub generation: u64,
    listeners: HashMap<Arc<str>, Arc<Listener>>,
    /// Listeners without a socket of their own, by direction and original destination.
    captured: HashMap<(Direction, SocketAddr), Arc<Listener>>,
    tables: HashMap<Arc<str>, Arc<RouteTable>>,
    clusters: HashMap<Arc<str>, Arc<Cluster>>,
}

/// What a request was routed to.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The virtual host.
    pub host: Arc<VirtualHost>,
    /// The route.
    pub route: Arc<Route>,
}

/// Why a request was routed nowhere; each is 404 with the response flag `NR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The route configuration has not arrived, or was taken away.
    #[error("there is no such route configuration")]
    Table,
    /// No virtual host answers for the host.
    #[error("no virtual host answers for this host")]
    Host,
    /// No route of the virtual host matches.
    #[error("no route of the virtual host matches")]
    Route,
    /// The virtual host demands HTTPS: answer 301 to the same URL with `https`.
    #[error("the virtual host demands HTTPS")]
    TlsRequired,
}

impl Snapshot {
    /// A snapshot of these resources, by name.
    pub fn new(
        generation: u64,
        listeners: HashMap<Arc<str>, Arc<Listener>>,
        tables: HashMap<Arc<str>, Arc<RouteTable>>,
        clusters: HashMap<Arc<str>, Arc<Cluster>>,
    ) -> Self {
        let mut captured = HashMap::new();
        for listener in listeners.values().filter(|listener| !listener.bind) {
            for address in std::iter::once(&listener.address).chain(&listener.additional_addresses) {
                captured.insert((listener.direction, *address), listener.clone());
            }
        }
        Self { generation, listeners, captured, tables, clusters }
    }

    /// The listeners that have sockets of their own.
    pub fn bound_listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.values().filter(|listener| listener.bind)
    }

    /// All listeners.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.values()
    }

    /// A listener by its name.
    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.listeners.get(name)
    }

    /// The listener that takes over a connection which `accepted` accepted, if that hands connections on: exact address
    /// and port, then any address and port. `None` leaves the connection where it is. An inbound connection to port 9080
    /// is not for the listener of outbound ones to that port.
    pub fn handed_on(&self, accepted: &Listener, destination: SocketAddr) -> Option<&Arc<Listener>> {
        if !accepted.use_original_dst {
            return None;
        }
        let address = destination.ip().to_canonical();
        let any = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let port = destination.port();
        let find = |address| self.captured.get(&(accepted.direction, SocketAddr::new(address, port)));
        find(address).or_else(|| find(any))
    }

    /// A route table by its name.
    pub fn table(&self, name: &str) -> Option<&Arc<RouteTable>> {
        self.tables.get(name)
    }

    /// All route tables.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<RouteTable>> {
        self.tables.values()
    }

    /// The route table of an HTTP chain.
    pub fn table_of<'a>(&'a self, chain: &'a HttpChain) -> Option<&'a Arc<RouteTable>> {
        match &chain.routes {
            RouteSource::Inline(table) => Some(table),
            RouteSource::Named(name) => self.table(name),
        }
    }

    /// A cluster by its name; `None` is 503 with the response flag `NC`.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// All clusters.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    /// The route for `request` on `chain`; `seed` decides routes for a share of requests.
    pub fn route(&self, chain: &HttpChain, request: &Request<'_>, seed: u64) -> Result<Routed, NoRoute> {
        self.table_of(chain).ok_or(NoRoute::Table)?.route(request, seed)
    }
}

impl RouteTable {
    /// The route for `request`; `seed` decides routes for a share of requests.
    pub fn route(&self, request: &Request<'_>, seed: u64) -> Result<Routed, NoRoute> {
        let host = self.hosts.find(request.authority, self.ignore_port).ok_or(NoRoute::Host)?;
        if host.require_tls && request.scheme != "https" {
            return Err(NoRoute::TlsRequired);
        }
        let route = host.router.find(request, seed).ok_or(NoRoute::Route)?;
        Ok(Routed { host: host.clone(), route: route.clone() })
    }
}
