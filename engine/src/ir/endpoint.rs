//! Endpoints: the addresses of a cluster.

use std::{net::SocketAddr, sync::Arc};

use xds::workload::Workload;

use super::cluster::LbPolicy;
use crate::decide::balance::Ring;

/// One address of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Further addresses of the same pod (the other family).
    pub additional_addresses: Box<[SocketAddr]>,
    /// Its host name, if it has one.
    pub hostname: Option<Arc<str>>,
    /// Its weight, at least 1.
    pub weight: u32,
    /// What the control plane says of it.
    pub health: Health,
    /// Whether it says `tlsMode: istio` of itself.
    pub mtls: bool,
    /// Who is behind it.
    pub workload: Option<Arc<Workload>>,
    /// Where it is.
    pub locality: Arc<Locality>,
    /// The weight of its locality; zero if there is none.
    pub locality_weight: u32,
    /// 0 is asked first.
    pub priority: u32,
}

/// What the control plane says of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// It gets traffic.
    Healthy,
    /// It is on its way out: traffic only when there is nothing else.
    Draining,
    /// It gets none.
    Unhealthy,
}

/// Where an endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Its region.
    pub region: Box<str>,
    /// Its zone.
    pub zone: Box<str>,
    /// Its sub-zone.
    pub sub_zone: Box<str>,
}

/// All endpoints of a cluster at one moment; never changed, only replaced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSet {
    /// The endpoints, by priority.
    pub endpoints: Box<[Endpoint]>,
    /// Priority spill-over begins when less than 100 / this of a priority is healthy, in per cent (140).
    pub overprovisioning: u32,
    /// How one is chosen.
    pub(crate) policy: Option<LbPolicy>,
    /// Whether the control plane says nothing bad of any.
    pub(crate) all_healthy: bool,
    /// Whether all weigh the same.
    pub(crate) equal_weights: bool,
    /// The ring, if the cluster hashes.
    pub(crate) ring: Option<Box<Ring>>,
}

impl EndpointSet {
    /// Endpoints as a cluster with `policy` uses them.
    pub fn new(mut endpoints: Vec<Endpoint>, policy: LbPolicy) -> Self {
        endpoints.sort_by_key(|endpoint| endpoint.priority);
        let ring = Ring::build(&endpoints, policy).map(Box::new);
        let weight = endpoints.first().map(|endpoint| endpoint.weight);
        Self {
            overprovisioning: 140,
            policy: Some(policy),
            all_healthy: endpoints.iter().all(|endpoint| endpoint.health == Health::Healthy),
            equal_weights: endpoints.iter().all(|endpoint| Some(endpoint.weight) == weight),
            ring,
            endpoints: endpoints.into(),
        }
    }

    /// Whether the set is ready for `policy`.
    pub(crate) fn fits(&self, policy: LbPolicy) -> bool {
        self.policy == Some(policy) || !(policy.hashes() || self.policy.is_some_and(LbPolicy::hashes))
    }

    /// The same endpoints, made ready for `policy`.
    pub(crate) fn for_policy(&self, policy: LbPolicy) -> Self {
        let mut set = Self::new(self.endpoints.to_vec(), policy);
        set.overprovisioning = self.overprovisioning;
        set
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}
