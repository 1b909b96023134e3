//! Services: what has a host name, ports and endpoints; from Kubernetes or from a ServiceEntry.

use std::net::IpAddr;

use xds::provenance::Provenance;
use xds::service::ServiceName;

use super::labels::Labels;
use super::protocol::Protocol;
use super::visibility::Visibility;

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The full host name, in lower case.
    pub host: String,
    /// The name, without namespace.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The ports, in the order in which they are declared.
    pub ports: Vec<ServicePort>,
    /// Virtual addresses; none where it is headless or known by name only.
    pub addresses: Vec<IpAddr>,
    /// Which workloads of its namespace are its endpoints.
    pub selector: Labels,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Endpoints that are written down in the service itself (ServiceEntry).
    pub endpoints: Vec<InlineEndpoint>,
    /// Whether its peers are outside of the mesh and know nothing of mesh TLS.
    pub mesh_external: bool,
    /// Names that its servers' certificates must have, where the rule says so.
    pub subject_alt_names: Vec<String>,
    /// Where it is visible.
    pub visibility: Visibility,
    /// When it was made, in seconds of Unix time; of two in conflict, the older wins.
    pub created: i64,
    /// Whether it comes from Kubernetes, and from where else.
    pub origin: Origin,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The number that clients use.
    pub number: u16,
    /// The name; may be empty if it is the only port.
    pub name: String,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The port of the workload.
    pub target: TargetPort,
}

/// The port of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name of a container's port.
    Name(String),
}

/// How endpoints are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The control plane knows them.
    Endpoints,
    /// The control plane knows them, and clients connect to them directly: a headless Service.
    Headless,
    /// By DNS: of the endpoints' names, or of the host itself.
    Dns {
        /// One answer at a time.
        round_robin: bool,
    },
    /// They are where the client connects to.
    None,
}

/// Where a service comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry of this generation.
    ServiceEntry {
        /// `metadata.generation`
        generation: i64,
    },
}

/// An endpoint that is written down in a ServiceEntry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineEndpoint {
    /// An address or a DNS name.
    pub address: String,
    /// Port numbers by the service's port names, where they differ.
    pub ports: Vec<(String, u16)>,
    /// Labels, which subsets choose by.
    pub labels: Labels,
    /// The service account that it runs as.
    pub service_account: String,
    /// Its share of traffic; 1 where nothing is said.
    pub weight: u32,
}

impl Service {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The order in which services that contradict each other count: Kubernetes' own first, since a ServiceEntry may add
    /// to the mesh but not take something over; then the older one.
    pub(crate) fn precedence(&self) -> (bool, i64, &str, &str) {
        (self.origin != Origin::Kubernetes, self.created, &self.host, &self.namespace)
    }

    /// Whether clients connect to its endpoints directly.
    pub fn is_headless(&self) -> bool {
        self.resolution == Resolution::Headless
    }

    /// As metrics name it.
    pub fn service_name(&self) -> ServiceName {
        ServiceName { host: self.host.clone(), name: self.name.clone(), namespace: self.namespace.clone() }
    }

    /// The object it comes from.
    pub fn provenance(&self) -> Provenance {
        match self.origin {
            Origin::Kubernetes => Provenance::of_object("Service", &self.namespace, &self.name),
            Origin::ServiceEntry { generation } => {
                Provenance::of_rule(super::rule::NETWORKING, "ServiceEntry", &self.namespace, &self.name, generation)
            }
        }
    }
}
