//! Workloads (pods), the slices of endpoints that Kubernetes keeps for a Service, and the endpoints made of both.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::labels::Labels;

/// A pod, as far as the mesh is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Its addresses.
    pub ips: Vec<String>,
    /// Its labels.
    pub labels: Labels,
    /// The service account it runs as.
    pub service_account: String,
    /// The machine it runs on.
    pub node: String,
    /// The name of its Deployment, StatefulSet, ...; of itself if it has no owner.
    pub workload_name: String,
    /// Ports of its containers: name to number.
    pub ports: BTreeMap<String, u16>,
    /// Whether it says that it is ready.
    pub ready: bool,
    /// Whether it has succeeded or failed and will not serve again.
    pub finished: bool,
}

impl Workload {
    /// Whether its proxy takes mesh TLS.
    pub fn speaks_mesh_tls(&self) -> bool {
        self.labels.get(names::labels::TLS_MODE).is_some_and(|mode| mode == "istio")
    }
}

/// The service that a workload is, for telemetry: by label, else its own name.
pub fn canonical_name(labels: &Labels, workload_name: &str) -> String {
    first(labels, &[names::labels::CANONICAL_NAME, names::labels::KUBERNETES_NAME, names::labels::APP])
        .unwrap_or_else(|| workload_name.to_owned())
}

/// The version that a workload is, for telemetry: by label, else `latest`.
pub fn canonical_revision(labels: &Labels) -> String {
    first(labels, &[names::labels::CANONICAL_REVISION, names::labels::KUBERNETES_VERSION, names::labels::VERSION])
        .unwrap_or_else(|| "latest".to_owned())
}

fn first(labels: &Labels, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| labels.get(*key)).filter(|value| !value.is_empty()).cloned()
}

/// An EndpointSlice: some of a Service's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The slice's own name.
    pub name: String,
    /// The namespace of slice and Service.
    pub namespace: String,
    /// The Service that it belongs to.
    pub service: String,
    /// The ports of all its addresses: name to number.
    pub ports: BTreeMap<String, u16>,
    /// Its addresses.
    pub addresses: Vec<SliceAddress>,
}

/// One address of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceAddress {
    /// The IP address.
    pub ip: String,
    /// What it can be used for.
    pub health: Health,
    /// The pod behind it.
    pub pod: String,
    /// The machine it is on.
    pub node: String,
}

/// What an endpoint can be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    /// Everything.
    #[default]
    Ready,
    /// It is terminating, but still serves: for when no other is left.
    Draining,
    /// Nothing.
    Unready,
}

/// An endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An IP address; for services found by DNS a name.
    pub address: String,
    /// Numbers by the service's port names.
    pub ports: BTreeMap<String, u16>,
    /// What it can be used for.
    pub health: Health,
    /// Its share of traffic.
    pub weight: u32,
    /// The workload behind it.
    pub workload: Arc<Workload>,
}
