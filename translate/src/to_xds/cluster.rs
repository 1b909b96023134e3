//! How a service is spoken to: one cluster for each port, and one for each port of each subset.

use crds::networking::destination_rule::{ClientTlsMode, ClientTlsSettings, SimpleLb};
use crds::security::peer_authentication::MutualTlsMode;
use xds::provenance::Provenance;
use xds::types::cluster::{self as cds, Cluster};
use xds::types::{core, google};

use super::endpoint;
use super::tls::{self, Peer};
use super::traffic_policy::{self, ServerNames};
use crate::model::labels::Labels;
use crate::model::mesh::Mesh;
use crate::model::policy::{Destination, Policy, SubsetOf};
use crate::model::protocol::Protocol;
use crate::model::service::{Resolution, Service, ServicePort};
use crate::model::snapshot::Snapshot;
use crate::projection::InboundPort;

/// The address from which a sidecar connects to its own application: its own rules let connections from there pass.
const INBOUND_SOURCE: &str = "127.0.0.6";

/// What a cluster is for: a port of a service, or of a subset of it, under the rules that count.
#[derive(Clone, Copy)]
pub(crate) struct ClusterOf<'a> {
    pub(crate) service: &'a Service,
    pub(crate) port: &'a ServicePort,
    pub(crate) subset: Option<SubsetOf<'a>>,
    pub(crate) destination: &'a Destination,
}

impl<'a> ClusterOf<'a> {
    /// The subset's name; empty for the whole service.
    pub(crate) fn subset_name(&self) -> &'a str {
        self.subset.map_or("", |of| of.subset.name.as_str())
    }

    /// The labels that the subset asks for.
    pub(crate) fn labels(&self) -> Option<&'a Labels> {
        self.subset.map(|of| &of.subset.labels)
    }

    pub(crate) fn policy(&self) -> Policy<'a> {
        self.destination.policy(self.port.number, self.subset)
    }

    /// Whether its endpoints are a resource of their own.
    pub(crate) fn is_eds(&self) -> bool {
        let simple = self.policy().load_balancer.and_then(|settings| settings.simple);
        self.service.resolution == Resolution::Endpoints && simple != Some(SimpleLb::Passthrough)
    }
}

/// The cluster of a service's port, or of a subset of it, and where it came from.
pub(crate) fn outbound(snapshot: &Snapshot, of: &ClusterOf<'_>) -> (Cluster, Provenance) {
    let mut cluster = Cluster {
        name: names::traffic::outbound_cluster(of.port.number, of.subset_name(), &of.service.host),
        connect_timeout: Some(google::duration(snapshot.mesh.config.connect_timeout.get())),
        ..Default::default()
    };
    discover(&mut cluster, snapshot, of);
    let policy = of.policy();
    let server_names = server_names(policy.tls.filter(|tls| is_outside(tls)), of.service);
    traffic_policy::apply(&mut cluster, &policy, of.port.protocol, server_names);
    secure(&mut cluster, snapshot, of, policy.tls);

    // Which rule says how the cluster is spoken to: the subset's, else the host's, else only the service.
    let provenance = match (of.subset, of.destination.deciding()) {
        (Some(subset), _) => subset.rule.provenance().at(format!("spec.subsets[{}]", subset.index)),
        (None, Some(rule)) if rule.spec.traffic_policy.is_some() => rule.provenance().at("spec.trafficPolicy"),
        _ => of.service.provenance(),
    };
    let mut metadata = provenance.metadata();
    xds::service::write([&of.service.service_name()], &mut metadata);
    cluster.metadata = Some(metadata);
    (cluster, provenance)
}

/// Whether TLS is spoken with somebody who does not belong to the mesh.
fn is_outside(tls: &ClientTlsSettings) -> bool {
    matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual)
}

/// Without `sni` in the rule, the server name is the request's host, and so is the name that the certificate must have.
fn server_names(tls: Option<&ClientTlsSettings>, service: &Service) -> ServerNames {
    let from_host = tls.is_some_and(|tls| tls.sni.is_empty());
    let verified_by_host =
        tls.is_some_and(|tls| tls.insecure_skip_verify != Some(true) && tls.subject_alt_names.is_empty());
    ServerNames { from_host, verified_by_host: from_host && verified_by_host && service.subject_alt_names.is_empty() }
}

/// How endpoints are found.
fn discover(cluster: &mut Cluster, snapshot: &Snapshot, of: &ClusterOf<'_>) {
    use cds::cluster::DiscoveryType;
    let kind = match of.service.resolution {
        Resolution::Endpoints => {
            cluster.eds_cluster_config = Some(cds::cluster::EdsClusterConfig {
                eds_config: Some(xds::types::ads()),
                service_name: cluster.name.clone(),
            });
            DiscoveryType::Eds
        }
        Resolution::Dns { round_robin } => {
            let endpoints = endpoint::of_port(snapshot, of.service, of.port, of.labels());
            cluster.load_assignment = Some(endpoint::load_assignment(&cluster.name, endpoints, &snapshot.mesh));
            #[allow(deprecated)] // the newer form is an extension that Istio's proxies do not all know
            {
                // The answers' lifetime counts; the rate is for when there is no answer.
                cluster.respect_dns_ttl = true;
                cluster.dns_refresh_rate = Some(google::duration(snapshot.mesh.config.dns_refresh_rate.get()));
            }
            cluster.dns_lookup_family = cds::cluster::DnsLookupFamily::V4Preferred.into();
            if round_robin { DiscoveryType::LogicalDns } else { DiscoveryType::StrictDns }
        }
        Resolution::Headless | Resolution::None => {
            cluster.lb_policy = cds::cluster::LbPolicy::ClusterProvided.into();
            DiscoveryType::OriginalDst
        }
    };
    cluster.cluster_discovery_type = Some(cds::cluster::ClusterDiscoveryType::Type(kind.into()));
}

/// TLS: as a rule settles it, else mesh TLS to those who speak it.
fn secure(cluster: &mut Cluster, snapshot: &Snapshot, of: &ClusterOf<'_>, settings: Option<&ClientTlsSettings>) {
    let service = of.service;
    let peer = Peer {
        sni: names::traffic::sni(of.port.number, of.subset_name(), &service.host),
        names: if settings.is_some_and(is_outside) {
            service.subject_alt_names.clone()
        } else {
            endpoint::identities(snapshot, service)
        },
        http2: of.port.protocol.is_http2(),
    };
    if let Some(settings) = settings {
        cluster.transport_socket = tls::client(settings, &peer);
        return;
    }
    let refused = snapshot.namespace_mutual_tls(&service.namespace) == MutualTlsMode::Disable;
    if !snapshot.mesh.config.enable_auto_mtls || service.mesh_external || refused {
        return;
    }
    if cluster.lb_policy == i32::from(cds::cluster::LbPolicy::ClusterProvided) {
        // Endpoints that the control plane does not hand out cannot be told apart one by one: all or none.
        let mut endpoints = endpoint::of_port(snapshot, service, of.port, of.labels()).peekable();
        if endpoints.peek().is_some() && endpoints.all(|(endpoint, _)| endpoint.workload.speaks_mesh_tls()) {
            cluster.transport_socket = Some(tls::mesh_client(&peer));
        }
    } else {
        cluster.transport_socket_matches = tls::automatic(&peer);
    }
}

fn original_destination(name: &str, mesh: &Mesh) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cds::cluster::ClusterDiscoveryType::Type(
            cds::cluster::DiscoveryType::OriginalDst.into(),
        )),
        lb_policy: cds::cluster::LbPolicy::ClusterProvided.into(),
        connect_timeout: Some(google::duration(mesh.config.connect_timeout.get())),
        ..Default::default()
    }
}

/// Where connections go that are none of the mesh's business.
pub(crate) fn passthrough(mesh: &Mesh) -> Cluster {
    let mut cluster = original_destination(names::traffic::PASSTHROUGH, mesh);
    traffic_policy::apply(&mut cluster, &Policy::default(), Protocol::Unsupported, ServerNames::default());
    cluster
}

/// Where connections end.
pub(crate) fn black_hole(mesh: &Mesh) -> Cluster {
    Cluster {
        name: names::traffic::BLACK_HOLE.to_owned(),
        cluster_discovery_type: Some(cds::cluster::ClusterDiscoveryType::Type(
            cds::cluster::DiscoveryType::Static.into(),
        )),
        connect_timeout: Some(google::duration(mesh.config.connect_timeout.get())),
        ..Default::default()
    }
}

fn from_inbound_source(cluster: &mut Cluster) {
    cluster.upstream_bind_config = Some(core::BindConfig {
        source_address: Some(core::SocketAddress {
            address: INBOUND_SOURCE.to_owned(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(0)),
            ..Default::default()
        }),
        ..Default::default()
    });
}

/// Where inbound connections go whose port no service declares.
pub(crate) fn inbound_passthrough(mesh: &Mesh) -> Cluster {
    let mut cluster = original_destination(names::traffic::INBOUND_PASSTHROUGH, mesh);
    traffic_policy::apply(&mut cluster, &Policy::default(), Protocol::Unsupported, ServerNames::default());
    from_inbound_source(&mut cluster);
    cluster
}

/// A port of the sidecar's own application.
pub(crate) fn inbound(port: &InboundPort, mesh: &Mesh) -> Cluster {
    let mut cluster = original_destination(&names::traffic::inbound_cluster(port.number), mesh);
    traffic_policy::apply(&mut cluster, &Policy::default(), port.protocol(), ServerNames::default());
    from_inbound_source(&mut cluster);
    let mut metadata = port.services.first().map(|service| service.provenance.metadata()).unwrap_or_default();
    xds::service::write(port.services.iter().map(|service| &service.name), &mut metadata);
    cluster.metadata = Some(metadata);
    cluster
}
