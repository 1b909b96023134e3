//! The gateways of a mesh: the profile's, changed and extended by the spec's.

use std::collections::BTreeMap;

use crds::install::condition::Reason;
use crds::install::{GatewaySpec, ServicePort, ServiceSettings, TransportProtocol};

use super::{Invalid, overlays, pods, syntax};
use crate::meshinstall::dereference::{Dereferenced, NamespaceState};
use crate::meshinstall::mesh::{Gateway, GatewayPort};
use crate::meshinstall::profile;

/// What a gateway's proxy itself listens on, besides the health port that load balancers probe.
const RESERVED: [u16; 4] =
    [names::ports::PROXY_ADMIN, names::ports::AGENT, names::ports::PROXY_STATS, names::ports::DNS];

/// The profile's gateways, changed and extended by the spec's.
pub(super) fn gateways(read: &Dereferenced, defaults: &profile::Defaults) -> Result<Vec<Gateway>, Invalid> {
    let spec = &read.spec;
    let mut gateways = Vec::new();
    for (name, service_type) in defaults.gateways {
        let own = spec.gateways.iter().position(|gateway| gateway.name == *name);
        let entry = own.and_then(|index| Some((index, spec.gateways.get(index)?)));
        if entry.is_none_or(|(_, gateway)| gateway.enabled.unwrap_or(true)) {
            let (index, entry) = entry.map_or((0, None), |(index, gateway)| (index, Some(gateway)));
            let standard = GatewaySpec { name: (*name).to_owned(), ..GatewaySpec::default() };
            let mut gateway = gateway(read, index, entry.unwrap_or(&standard), defaults)?;
            gateway.service_type = entry.and_then(|gateway| gateway.type_).unwrap_or(*service_type);
            gateways.push(gateway);
        }
    }
    for (index, entry) in spec.gateways.iter().enumerate() {
        let of_profile = defaults.gateways.iter().any(|(name, _)| *name == entry.name);
        if !of_profile && entry.enabled.unwrap_or(true) {
            gateways.push(gateway(read, index, entry, defaults)?);
        }
    }
    Ok(gateways)
}

fn gateway(
    read: &Dereferenced,
    index: usize,
    entry: &GatewaySpec,
    defaults: &profile::Defaults,
) -> Result<Gateway, Invalid> {
    let field = |name: &str| format!("spec.gateways[{index}].{name}");
    let namespace = entry.namespace.clone().unwrap_or_else(|| read.spec.namespace.clone());
    // The mesh's own namespace is created; a gateway's is the user's.
    if namespace != read.spec.namespace {
        match read.namespaces.get(&namespace) {
            Some(NamespaceState::Active) => {}
            state => {
                return Err(Invalid {
                    reason: Reason::NamespaceUnavailable,
                    field: field("namespace"),
                    message: if state == Some(&NamespaceState::Terminating) {
                        format!("namespace {namespace:?} is being deleted; choose another, or wait and create it again")
                    } else {
                        format!("namespace {namespace:?} does not exist; create it, or choose another")
                    },
                });
            }
        }
    }
    let spec = &read.spec;
    let ours = [names::resources::istiod(&spec.revision), names::resources::injector(&spec.revision)];
    if namespace == spec.namespace && ours.contains(&entry.name) {
        let message = format!("{:?} is the name of a part of the mesh in this namespace; choose another", entry.name);
        return Err(Invalid::spec(field("name"), message));
    }
    pods::own_labels(&field("labels"), &entry.labels)?;
    overlays::check(&format!("spec.gateways[{index}]"), &entry.overlays)?;
    syntax::resources(&field("resources"), entry.resources.as_ref())?;
    Ok(Gateway {
        name: entry.name.clone(),
        namespace,
        service_type: entry.type_.unwrap_or_default(),
        ports: ports(&entry.ports, &field("ports"))?,
        service: service(&field("service"), entry.service.as_ref())?,
        scale: pods::scale(
            &format!("spec.gateways[{index}]"),
            entry.replicas,
            entry.autoscaling.as_ref(),
            entry.disruption_budget.as_ref(),
        )?,
        pods: pods::settings(&format!("spec.gateways[{index}]"), entry.pod.as_ref())?,
        overlays: entry.overlays.clone(),
        resources: entry.resources.clone().unwrap_or_else(|| defaults.gateway.clone()),
        labels: if entry.labels.is_empty() { profile::gateway_labels(&entry.name) } else { entry.labels.clone() },
    })
}

/// What else a gateway's Service has, with its addresses and blocks checked.
fn service(field: &str, own: Option<&ServiceSettings>) -> Result<ServiceSettings, Invalid> {
    let settings = own.cloned().unwrap_or_default();
    pods::own_labels(&format!("{field}.labels"), &settings.labels)?;
    syntax::annotations(&format!("{field}.annotations"), &settings.annotations)?;
    if let Some(class) = &settings.load_balancer_class {
        syntax::key(&format!("{field}.loadBalancerClass"), class)?;
    }
    for (index, range) in settings.load_balancer_source_ranges.iter().enumerate() {
        if range.trim().parse::<ipnet::IpNet>().is_err() {
            return Err(Invalid::spec(
                format!("{field}.loadBalancerSourceRanges[{index}]"),
                format!("{range:?} is not a block of addresses; write one such as 203.0.113.0/24"),
            ));
        }
    }
    let addresses = settings.external_ips.iter().enumerate().map(|(i, ip)| (format!("{field}.externalIPs[{i}]"), ip));
    let asked_for = settings.load_balancer_ip.iter().map(|ip| (format!("{field}.loadBalancerIP"), ip));
    for (field, address) in addresses.chain(asked_for) {
        if address.parse::<std::net::IpAddr>().is_err() {
            return Err(Invalid::spec(field, format!("{address:?} is not an IP address")));
        }
    }
    if let [first, second] = settings.ip_families.as_slice()
        && first == second
    {
        return Err(Invalid::spec(format!("{field}.ipFamilies"), "names one family twice; write IPv4 and IPv6"));
    }
    Ok(settings)
}

/// The ports of a gateway's Service, `status-port` always among them.
fn ports(own: &[ServicePort], field: &str) -> Result<Vec<GatewayPort>, Invalid> {
    let mut ports = if own.is_empty() { profile::gateway_ports() } else { Vec::new() };
    ports.extend(own.iter().map(|port| GatewayPort {
        name: port.name.clone(),
        port: port.port,
        target_port: port.target_port.unwrap_or(match port.port {
            80 => names::ports::GATEWAY_HTTP.into(),
            443 => names::ports::GATEWAY_HTTPS.into(),
            other => other,
        }),
        node_port: port.node_port,
        protocol: match port.protocol {
            TransportProtocol::TCP => "TCP",
            TransportProtocol::UDP => "UDP",
        },
    }));
    let status = profile::status_port();
    if !ports.iter().any(|port| port.name == status.name || port.port == status.port) {
        ports.insert(0, status);
    }
    let mut seen = BTreeMap::new();
    for port in &ports {
        if RESERVED.iter().any(|reserved| i32::from(*reserved) == port.target_port) {
            let message = format!(
                "{:?} ends at port {} of the pod, which the proxy itself listens on; give it another targetPort",
                port.name, port.target_port
            );
            return Err(Invalid::spec(field, message));
        }
        if let Some(other) = seen.insert((port.port, port.protocol), &port.name) {
            return Err(Invalid::spec(
                field,
                format!("{other:?} and {:?} are both on port {}; give one of them another", port.name, port.port),
            ));
        }
    }
    Ok(ports)
}
