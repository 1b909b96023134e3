//! What each kind of resource reads of a proxy. Two proxies with an equal projection get the same bytes, computed,
//! encoded and hashed once. Whatever a resource reads of a proxy must be in its projection.

use std::collections::BTreeMap;

use crds::security::peer_authentication::MutualTlsMode;
use xds::provenance::Provenance;
use xds::service::ServiceName;

use crate::model::change::Key;
use crate::model::labels::Labels;
use crate::model::policy::Client;
use crate::model::protocol::Protocol;
use crate::model::proxy::Proxy;
use crate::model::registry::OwnPort;
use crate::model::snapshot::Snapshot;

/// What a sidecar's outbound listeners, routes and clusters read: who sees what, and which rules count for whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Outbound {
    /// The namespace: visibility, and whose rules come first.
    pub(crate) namespace: String,
    /// Only the labels that some rule asks for.
    pub(crate) labels: Labels,
    /// Whether virtual hosts are resources of their own.
    pub(crate) virtual_hosts: bool,
}

impl Outbound {
    pub(crate) fn of(snapshot: &Snapshot, proxy: &Proxy) -> Self {
        Self {
            namespace: proxy.namespace.clone(),
            labels: snapshot.asked_labels(&proxy.labels),
            virtual_hosts: proxy.virtual_hosts,
        }
    }

    pub(crate) fn client(&self) -> Client<'_> {
        Client { namespace: &self.namespace, labels: &self.labels }
    }
}

/// What a cluster reads: the service, and the rules that were chosen for it. Nothing of the proxy itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cluster {
    /// The service's host.
    pub(crate) host: String,
    /// The service's namespace.
    pub(crate) namespace: String,
    /// The service's port.
    pub(crate) port: u16,
    /// The subset; empty for the whole service.
    pub(crate) subset: String,
    /// The DestinationRules that were chosen.
    pub(crate) rules: Vec<(Key, i64)>,
}

/// What a load assignment reads: which endpoints. Nothing of the proxy itself (no locality, no network, yet).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoints {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The service's namespace.
    pub(crate) namespace: String,
    /// The labels that a subset asks for.
    pub(crate) labels: Labels,
}

/// What a sidecar's inbound listener and clusters read: the workload's ports, and what it asks of those who connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inbound {
    /// The ports on which something is known of the workload, by number.
    pub(crate) ports: Vec<InboundPort>,
    /// What is asked on every other port.
    pub(crate) elsewhere: MutualTlsMode,
    /// Whether the application is to see its clients' addresses.
    pub(crate) transparent: bool,
}

/// A port of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InboundPort {
    /// The number.
    pub(crate) number: u16,
    /// What is asked of those who connect.
    pub(crate) mode: MutualTlsMode,
    /// The services that lead to it, the deciding one first; none if only a policy knows the port.
    pub(crate) services: Vec<InboundService>,
}

/// A service that leads to a workload's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InboundService {
    pub(crate) name: ServiceName,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) provenance: Provenance,
}

impl InboundPort {
    /// What is spoken; found out from the first bytes where nothing is declared.
    pub(crate) fn protocol(&self) -> Protocol {
        self.services.first().map_or(Protocol::Unsupported, |service| service.protocol)
    }
}

impl Inbound {
    pub(crate) fn of(snapshot: &Snapshot, proxy: &Proxy) -> Self {
        let mode = |port| snapshot.mutual_tls(&proxy.namespace, &proxy.labels, port);
        let mut ports: BTreeMap<u16, Vec<InboundService>> = BTreeMap::new();
        for OwnPort { service, port, target } in snapshot.own_ports(proxy) {
            if port.protocol != Protocol::Udp {
                ports.entry(target).or_default().push(InboundService {
                    name: service.service_name(),
                    port: port.number,
                    protocol: port.protocol,
                    provenance: service.provenance(),
                });
            }
        }
        for port in snapshot.ports_with_policy(&proxy.namespace, &proxy.labels) {
            ports.entry(port).or_default();
        }
        let ports = ports
            .into_iter()
            .map(|(number, services)| InboundPort { number, mode: mode(Some(number)), services })
            .collect();
        Self { ports, elsewhere: mode(None), transparent: proxy.transparent }
    }
}

/// What the listeners of a gRPC server that reads xDS itself read: its ports, and the addresses it may listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GrpcServer {
    /// The ports to which services lead, by number.
    pub(crate) ports: Vec<InboundPort>,
    /// The pod's addresses.
    pub(crate) addresses: Vec<String>,
    /// Whether the pod is marked as one that speaks mesh TLS.
    pub(crate) marked: bool,
}

impl GrpcServer {
    pub(crate) fn of(snapshot: &Snapshot, proxy: &Proxy) -> Self {
        let mut ports = Inbound::of(snapshot, proxy).ports;
        ports.retain(|port| !port.services.is_empty());
        let marked =
            proxy.labels.get(names::labels::TLS_MODE).is_some_and(|mode| mode == xds::workload::TLS_MODE_ISTIO);
        Self { ports, addresses: proxy.ips.clone(), marked }
    }
}

/// What a gateway's listeners, routes and clusters read: which Gateways select it, and how its Services number ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Edge {
    /// The namespace: visibility, and whose rules come first.
    pub(crate) namespace: String,
    /// The labels: which Gateways select it.
    pub(crate) labels: Labels,
    /// Service port and pod port, of the Services that lead to it.
    pub(crate) ports: Vec<(u16, u16)>,
    /// Whether virtual hosts are resources of their own.
    pub(crate) virtual_hosts: bool,
}

impl Edge {
    pub(crate) fn of(snapshot: &Snapshot, proxy: &Proxy) -> Self {
        let own = snapshot.own_ports(proxy);
        Self {
            namespace: proxy.namespace.clone(),
            labels: proxy.labels.clone(),
            ports: own.iter().map(|own| (own.port.number, own.target)).collect(),
            virtual_hosts: proxy.virtual_hosts,
        }
    }

    pub(crate) fn client(&self) -> Client<'_> {
        Client { namespace: &self.namespace, labels: &self.labels }
    }

    /// The pod's port behind a Gateway's port number: that of the first Service port with this number, else itself.
    pub(crate) fn target(&self, number: u16) -> u16 {
        self.ports.iter().find(|(port, _)| *port == number).map_or(number, |(_, target)| *target)
    }
}
