//! From Istio's objects to the model: short hosts become full ones, short gateway names get their namespace.

use std::net::IpAddr;

use crds::networking::destination_rule as dr;
use crds::networking::gateway as gw;
use crds::networking::service_entry as se;
use crds::networking::virtual_service as vs;
use crds::networking::workload_entry::WorkloadEntrySpec;
use crds::security::peer_authentication as pa;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::host;
use super::kubernetes::created;
use super::mesh::Mesh;
use super::protocol::Protocol;
use super::rule::{DestinationRule, Gateway, MESH_GATEWAY, PeerAuthentication, Rule, ServiceEntry, VirtualService};
use super::service::{InlineEndpoint, Origin, Resolution, Service, ServicePort, TargetPort};
use super::visibility::Visibility;

fn rule<S>(kind: &'static str, metadata: &ObjectMeta, spec: S) -> Rule<S> {
    Rule {
        kind,
        name: metadata.name.clone().unwrap_or_default(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        created: created(metadata),
        visibility: Visibility::Public,
        spec,
    }
}

/// A VirtualService.
pub fn virtual_service(from: vs::VirtualService, mesh: &Mesh) -> VirtualService {
    let mut rule = rule("VirtualService", &from.metadata, from.spec);
    let namespace = &rule.namespace;
    let spec = &mut rule.spec;
    rule.visibility = Visibility::parse(&spec.export_to, &mesh.config.default_virtual_service_export_to, namespace);

    let resolve = |host: &mut String| *host = host::resolve(host, namespace, &mesh.cluster_domain);
    let resolve_gateways = |gateways: &mut Vec<String>| {
        for gateway in gateways {
            if gateway != MESH_GATEWAY && !gateway.contains('/') {
                *gateway = format!("{namespace}/{gateway}");
            }
        }
    };
    if spec.gateways.is_empty() {
        spec.gateways.push(MESH_GATEWAY.to_owned());
    }
    resolve_gateways(&mut spec.gateways);
    spec.hosts.iter_mut().for_each(resolve);
    for route in &mut spec.http {
        route.route.iter_mut().for_each(|to| resolve(&mut to.destination.host));
        route.mirror.iter_mut().for_each(|to| resolve(&mut to.host));
        route.mirrors.iter_mut().for_each(|to| resolve(&mut to.destination.host));
        route.matches.iter_mut().for_each(|to| resolve_gateways(&mut to.gateways));
    }
    for route in &mut spec.tcp {
        route.route.iter_mut().for_each(|to| resolve(&mut to.destination.host));
        route.matches.iter_mut().for_each(|to| resolve_gateways(&mut to.gateways));
    }
    for route in &mut spec.tls {
        route.route.iter_mut().for_each(|to| resolve(&mut to.destination.host));
        route.matches.iter_mut().for_each(|to| resolve_gateways(&mut to.gateways));
    }
    rule
}

/// A DestinationRule.
pub fn destination_rule(from: dr::DestinationRule, mesh: &Mesh) -> DestinationRule {
    let mut rule = rule("DestinationRule", &from.metadata, from.spec);
    rule.visibility =
        Visibility::parse(&rule.spec.export_to, &mesh.config.default_destination_rule_export_to, &rule.namespace);
    rule.spec.host = host::resolve(&rule.spec.host, &rule.namespace, &mesh.cluster_domain);
    rule
}

/// A Gateway.
pub fn gateway(from: gw::Gateway) -> Gateway {
    rule("Gateway", &from.metadata, from.spec)
}

/// A ServiceEntry.
pub fn service_entry(from: se::ServiceEntry, mesh: &Mesh) -> ServiceEntry {
    let mut rule = rule("ServiceEntry", &from.metadata, from.spec);
    rule.visibility = Visibility::parse(&rule.spec.export_to, &mesh.config.default_service_export_to, &rule.namespace);
    rule.spec.hosts.iter_mut().for_each(|host| host.make_ascii_lowercase());
    rule
}

/// A PeerAuthentication.
pub fn peer_authentication(from: pa::PeerAuthentication) -> PeerAuthentication {
    rule("PeerAuthentication", &from.metadata, from.spec)
}

/// The services that a ServiceEntry declares, one for each host.
pub fn services(entry: &ServiceEntry) -> impl Iterator<Item = Service> + '_ {
    let spec = &entry.spec;
    let ports: Vec<ServicePort> = spec.ports.iter().filter_map(service_port).collect();
    let resolution = match spec.resolution {
        se::Resolution::Static => Resolution::Endpoints,
        se::Resolution::Dns => Resolution::Dns { round_robin: false },
        se::Resolution::DnsRoundRobin => Resolution::Dns { round_robin: true },
        // A name looked up for each request: reached where the client connects to, until that is built.
        se::Resolution::None | se::Resolution::DynamicDns => Resolution::None,
    };
    let endpoints: Vec<InlineEndpoint> = spec.endpoints.iter().map(endpoint).collect();
    let addresses: Vec<IpAddr> = spec.addresses.iter().filter_map(|address| virtual_address(address)).collect();
    spec.hosts.iter().map(move |host| Service {
        host: host.clone(),
        name: entry.name.clone(),
        namespace: entry.namespace.clone(),
        ports: ports.clone(),
        addresses: addresses.clone(),
        selector: spec.workload_selector.as_ref().map(|selector| selector.labels.clone()).unwrap_or_default(),
        resolution,
        endpoints: endpoints.clone(),
        mesh_external: spec.location == se::Location::MeshExternal,
        subject_alt_names: spec.subject_alt_names.clone(),
        visibility: entry.visibility.clone(),
        created: entry.created,
        origin: Origin::ServiceEntry { generation: entry.generation },
    })
}

/// A whole address; of a CIDR block only one that holds a single address.
pub(crate) fn virtual_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let block: ipnet::IpNet = text.parse().ok()?;
    (block.prefix_len() == block.max_prefix_len()).then(|| block.addr())
}

fn service_port(from: &se::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(from.number).ok().filter(|number| *number > 0)?;
    let target = u16::try_from(from.target_port).ok().filter(|target| *target > 0).unwrap_or(number);
    Some(ServicePort {
        number,
        name: from.name.clone(),
        protocol: Protocol::parse(&from.protocol),
        target: TargetPort::Number(target),
    })
}

fn endpoint(from: &WorkloadEntrySpec) -> InlineEndpoint {
    let port = |(name, number): (&String, &u32)| Some((name.clone(), u16::try_from(*number).ok()?));
    InlineEndpoint {
        address: from.address.clone(),
        ports: from.ports.iter().filter_map(port).collect(),
        labels: from.labels.clone(),
        service_account: from.service_account.clone(),
        weight: from.weight.max(1),
    }
}
