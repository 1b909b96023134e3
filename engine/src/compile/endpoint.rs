//! Endpoints.

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

use xds::{
    types::{core, endpoint as message},
    workload::{self, Workload},
};

use super::{At, Checked, Invalid, Refused, Shared, absent, part};
use crate::ir::{
    cluster::{DnsTarget, LbPolicy},
    endpoint::{Endpoint, EndpointSet, Health, Locality},
};

/// A cluster's endpoints, as a cluster with `policy` uses them.
pub(crate) fn compile(
    assignment: &message::ClusterLoadAssignment,
    policy: LbPolicy,
    shared: &Shared,
) -> Result<EndpointSet, Refused> {
    addresses(assignment, shared)
        .map(|endpoints| {
            let mut set = EndpointSet::new(endpoints, policy);
            let factor = assignment.policy.as_ref().and_then(|policy| policy.overprovisioning_factor.as_ref());
            if let Some(factor) = factor {
                set.overprovisioning = factor.value.max(1);
            }
            set
        })
        .map_err(|invalid| invalid.of("ClusterLoadAssignment", &assignment.cluster_name))
}

/// Endpoints with addresses.
pub(super) fn addresses(assignment: &message::ClusterLoadAssignment, shared: &Shared) -> Checked<Vec<Endpoint>> {
    walk(assignment, shared, |host, port, endpoint| {
        let ip: IpAddr = host.parse().map_err(|_| Invalid::new(format!("{host:?} is no IP address"))).at("address")?;
        Ok(Endpoint { address: SocketAddr::new(ip.to_canonical(), port), ..endpoint })
    })
}

/// Endpoints with names that are to be resolved.
pub(super) fn names(assignment: &message::ClusterLoadAssignment, shared: &Shared) -> Checked<Vec<DnsTarget>> {
    walk(assignment, shared, |host, port, template| Ok(DnsTarget { host: host.into(), port, template }))
}

fn walk<T>(
    assignment: &message::ClusterLoadAssignment,
    shared: &Shared,
    make: impl Fn(&str, u16, Endpoint) -> Checked<T>,
) -> Checked<Vec<T>> {
    absent(assignment.policy.as_ref().is_none_or(|policy| policy.drop_overloads.is_empty()), "policy.drop_overloads")?;
    let mut out = Vec::new();
    for (group_index, group) in assignment.endpoints.iter().enumerate() {
        let field = || format!("endpoints[{group_index}]");
        absent(group.lb_config.is_none(), "lb_config").map_err(|invalid| invalid.within(&field()))?;
        let locality =
            shared.localities.get(group.locality.as_ref().map_or_else(Locality::default, |locality| Locality {
                region: locality.region.as_str().into(),
                zone: locality.zone.as_str().into(),
                sub_zone: locality.sub_zone.as_str().into(),
            }));
        let group_weight = group.load_balancing_weight.as_ref().map_or(0, |weight| weight.value);
        for (index, member) in group.lb_endpoints.iter().enumerate() {
            let one = || -> Checked<T> {
                let Some(message::lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &member.host_identifier else {
                    return Err(Invalid::missing("endpoint"));
                };
                let (host, port) = part::host_and_port(endpoint.address.as_ref()).at("endpoint.address")?;
                let template = template(member, endpoint, &locality, group_weight, group.priority, shared)?;
                make(host, port, template).at("endpoint")
            };
            // The field's name is put together only for an endpoint that is wrong: there may be thousands.
            out.push(one().at_index("lb_endpoints", index).map_err(|invalid| invalid.within(&field()))?);
        }
    }
    Ok(out)
}

fn template(
    member: &message::LbEndpoint,
    endpoint: &message::Endpoint,
    locality: &Arc<Locality>,
    locality_weight: u32,
    priority: u32,
    shared: &Shared,
) -> Checked<Endpoint> {
    let metadata = member.metadata.as_ref();
    let additional = super::each("endpoint.additional_addresses", &endpoint.additional_addresses, |additional| {
        part::socket_address(additional.address.as_ref()).at("address")
    })?;
    Ok(Endpoint {
        address: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
        additional_addresses: additional.into(),
        hostname: (!endpoint.hostname.is_empty()).then(|| endpoint.hostname.as_str().into()),
        weight: member.load_balancing_weight.as_ref().map_or(1, |weight| weight.value).max(1),
        health: match core::HealthStatus::try_from(member.health_status) {
            Ok(core::HealthStatus::Unknown | core::HealthStatus::Healthy | core::HealthStatus::Degraded) => {
                Health::Healthy
            }
            Ok(core::HealthStatus::Draining) => Health::Draining,
            Ok(core::HealthStatus::Unhealthy | core::HealthStatus::Timeout) => Health::Unhealthy,
            Err(_) => return Err(Invalid::unsupported("health_status")),
        },
        mtls: metadata.is_some_and(workload::speaks_mesh_tls),
        workload: metadata.and_then(Workload::read).map(|workload| shared.workloads.get(workload)),
        locality: locality.clone(),
        locality_weight,
        priority,
    })
}
