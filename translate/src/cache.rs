//! What was computed for one projection, kept for the next proxy that has it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use xds::provenance::Provenance;
use xds::types::{cluster, listener, route};
use xds::{type_url, version::Version};

use crate::model::snapshot::Snapshot;
use crate::projection;
use crate::resource::{Part, Resource, Resources};
use crate::to_xds::cluster::ClusterOf;
use crate::to_xds::{self, endpoint};

/// What was computed from one snapshot. With the next snapshot it starts anew, but a resource that comes out as it was
/// before is the same allocation: what did not change costs no memory twice.
#[derive(Debug, Default)]
pub struct Cache {
    snapshot: u64,
    pub(crate) outbound: HashMap<projection::Outbound, Arc<Part>>,
    pub(crate) inbound: HashMap<projection::Inbound, Arc<Part>>,
    pub(crate) edge: HashMap<projection::Edge, Arc<Part>>,
    pub(crate) grpc_client: HashMap<projection::Outbound, Arc<Part>>,
    pub(crate) grpc_server: HashMap<projection::GrpcServer, Arc<Part>>,
    clusters: HashMap<projection::Cluster, Shared>,
    endpoints: HashMap<projection::Endpoints, Shared>,
    known: HashMap<(&'static str, Arc<str>, Version), Weak<Resource>>,
}

/// A resource and its name.
type Shared = (Arc<str>, Arc<Resource>);

impl Cache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was computed from another snapshot.
    pub(crate) fn enter(&mut self, snapshot: &Snapshot) {
        if self.snapshot == snapshot.id {
            return;
        }
        self.snapshot = snapshot.id;
        self.outbound.clear();
        self.inbound.clear();
        self.edge.clear();
        self.grpc_client.clear();
        self.grpc_server.clear();
        self.clusters.clear();
        self.endpoints.clear();
        self.known.retain(|_, resource| resource.strong_count() > 0);
    }

    fn share<M: prost::Message + prost::Name>(
        &mut self,
        kind: &'static str,
        name: &str,
        message: &M,
        provenance: Option<Provenance>,
    ) -> Shared {
        let resource = Resource::encode(message, provenance);
        let key = (kind, Arc::from(name), resource.version);
        if let Some((known, same)) = self.known.get_key_value(&key).and_then(|(key, it)| Some((key, it.upgrade()?)))
            && *same == resource
        {
            return (Arc::clone(&known.1), same);
        }
        let resource = Arc::new(resource);
        let name = Arc::clone(&key.1);
        self.known.insert(key, Arc::downgrade(&resource));
        (name, resource)
    }

    fn add<M: prost::Message + prost::Name>(
        &mut self,
        to: &mut Resources,
        kind: &'static str,
        name: &str,
        message: &M,
        provenance: Option<Provenance>,
    ) {
        let (name, resource) = self.share(kind, name, message, provenance);
        to.insert(name, resource);
    }

    /// Adds a listener.
    pub(crate) fn listener(&mut self, part: &mut Part, of: &listener::Listener, provenance: Option<Provenance>) {
        self.add(&mut part.listeners, type_url::LISTENER, &of.name, of, provenance);
    }

    /// Adds a cluster that has no endpoints of its own.
    pub(crate) fn cluster(&mut self, part: &mut Part, of: &cluster::Cluster, provenance: Option<Provenance>) {
        self.add(&mut part.clusters, type_url::CLUSTER, &of.name, of, provenance);
    }

    /// Adds a route configuration: for our proxies its frame, with each virtual host as a resource of its own; for
    /// others everything in one.
    pub(crate) fn routes(
        &mut self,
        part: &mut Part,
        name: &str,
        hosts: Vec<to_xds::virtual_host::Built>,
        virtual_hosts: bool,
    ) {
        let mut frame = route::RouteConfiguration {
            name: name.to_owned(),
            ignore_port_in_host_matching: true,
            ..Default::default()
        };
        if virtual_hosts {
            frame.vhds = Some(route::Vhds { config_source: Some(xds::types::ads()) });
            for to_xds::virtual_host::Built { host, provenance } in hosts {
                let name = names::traffic::virtual_host_resource(name, &host.name);
                self.add(&mut part.virtual_hosts, type_url::VIRTUAL_HOST, &name, &host, provenance);
            }
        } else {
            frame.virtual_hosts = hosts.into_iter().map(|built| built.host).collect();
        }
        self.add(&mut part.routes, type_url::ROUTES, name, &frame, None);
    }

    /// Adds a route configuration as it is.
    pub(crate) fn whole_routes(
        &mut self,
        part: &mut Part,
        of: &route::RouteConfiguration,
        provenance: Option<Provenance>,
    ) {
        self.add(&mut part.routes, type_url::ROUTES, &of.name, of, provenance);
    }

    /// Adds the endpoints of a service's port, or of a subset of it, under the name of their cluster.
    pub(crate) fn endpoints(&mut self, part: &mut Part, snapshot: &Snapshot, cluster: &str, of: &ClusterOf<'_>) {
        let (name, resource) = self.shared_endpoints(snapshot, cluster, of);
        part.endpoints.insert(name, resource);
    }

    /// Adds the cluster of a service's port, or of a subset of it, with its endpoints.
    pub(crate) fn outbound_cluster(&mut self, part: &mut Part, snapshot: &Snapshot, of: &ClusterOf<'_>) {
        let (name, resource) = self.shared_cluster(snapshot, of);
        if of.is_eds() {
            let (name, resource) = self.shared_endpoints(snapshot, &name, of);
            part.endpoints.insert(name, resource);
        }
        part.clusters.insert(name, resource);
    }

    fn shared_cluster(&mut self, snapshot: &Snapshot, of: &ClusterOf<'_>) -> Shared {
        let key = projection::Cluster {
            host: of.service.host.clone(),
            namespace: of.service.namespace.clone(),
            port: of.port.number,
            subset: of.subset_name().to_owned(),
            rules: of.destination.identity(),
        };
        if let Some(shared) = self.clusters.get(&key) {
            return shared.clone();
        }
        let (cluster, provenance) = to_xds::cluster::outbound(snapshot, of);
        let shared = self.share(type_url::CLUSTER, &cluster.name, &cluster, Some(provenance));
        self.clusters.insert(key, shared.clone());
        shared
    }

    fn shared_endpoints(&mut self, snapshot: &Snapshot, cluster: &str, of: &ClusterOf<'_>) -> Shared {
        let key = projection::Endpoints {
            cluster: cluster.to_owned(),
            namespace: of.service.namespace.clone(),
            labels: of.labels().cloned().unwrap_or_default(),
        };
        if let Some(shared) = self.endpoints.get(&key) {
            return shared.clone();
        }
        let endpoints = endpoint::of_port(snapshot, of.service, of.port, of.labels());
        let assignment = endpoint::load_assignment(cluster, endpoints, &snapshot.mesh);
        let shared = self.share(type_url::ENDPOINTS, cluster, &assignment, Some(of.service.provenance()));
        self.endpoints.insert(key, shared.clone());
        shared
    }
}
