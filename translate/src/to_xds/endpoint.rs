//! Where a service is: addresses, what they can be used for, and who is behind them.

use std::collections::BTreeSet;

use names::identity::SpiffeId;
use xds::types::endpoint::{self as eds, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints};
use xds::types::{core, uint32};

use crate::model::labels::{self, Labels};
use crate::model::mesh::Mesh;
use crate::model::service::{Service, ServicePort};
use crate::model::snapshot::Snapshot;
use crate::model::workload::{self, Endpoint, Health};

/// The endpoints of a port that have all of a subset's labels.
pub(crate) fn of_port<'a>(
    snapshot: &'a Snapshot,
    service: &'a Service,
    port: &'a ServicePort,
    subset: Option<&'a Labels>,
) -> impl Iterator<Item = (&'a Endpoint, u16)> {
    snapshot.endpoints(service).iter().filter_map(move |endpoint| {
        let number = *endpoint.ports.get(&port.name)?;
        let chosen = subset.is_none_or(|labels| labels::subset_of(labels, &endpoint.workload.labels));
        chosen.then_some((endpoint, number))
    })
}

/// The load assignment of a cluster.
pub(crate) fn load_assignment<'a>(
    cluster: &str,
    endpoints: impl Iterator<Item = (&'a Endpoint, u16)>,
    mesh: &Mesh,
) -> ClusterLoadAssignment {
    let endpoints: Vec<_> = endpoints.map(|(endpoint, port)| lb_endpoint(endpoint, port, mesh)).collect();
    let weight = endpoints.iter().filter_map(|endpoint| endpoint.load_balancing_weight).map(|weight| weight.value);
    let weight: u32 = weight.fold(0, u32::saturating_add);
    // A locality without endpoints would be an error in Envoy's eyes (weight 0).
    let locality = (!endpoints.is_empty()).then(|| LocalityLbEndpoints {
        // Unknown, but there: gRPC refuses a group without one.
        locality: Some(core::Locality::default()),
        lb_endpoints: endpoints,
        load_balancing_weight: Some(uint32(weight)),
        ..Default::default()
    });
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: locality.into_iter().collect(),
        ..Default::default()
    }
}

fn lb_endpoint(endpoint: &Endpoint, port: u16, mesh: &Mesh) -> LbEndpoint {
    let at = &endpoint.workload;
    let workload = xds::workload::Workload {
        name: at.workload_name.clone(),
        namespace: at.namespace.clone(),
        canonical_name: workload::canonical_name(&at.labels, &at.workload_name),
        canonical_revision: workload::canonical_revision(&at.labels),
        cluster: mesh.cluster_id.clone(),
    };
    let health = match endpoint.health {
        Health::Ready => core::HealthStatus::Healthy,
        Health::Draining => core::HealthStatus::Draining,
        Health::Unready => core::HealthStatus::Unhealthy,
    };
    LbEndpoint {
        health_status: health.into(),
        metadata: Some(xds::workload::endpoint_metadata(&workload, at.speaks_mesh_tls())),
        load_balancing_weight: Some(uint32(endpoint.weight)),
        host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(eds::Endpoint {
            address: Some(address(&endpoint.address, port)),
            ..Default::default()
        })),
    }
}

fn address(address: &str, port: u16) -> core::Address {
    match address.strip_prefix("unix://") {
        Some(path) => {
            core::Address { address: Some(core::address::Address::Pipe(core::Pipe { path: path.to_owned(), mode: 0 })) }
        }
        None => xds::types::socket_address(address, port),
    }
}

/// The identities of a service's endpoints: one of them must be shown by who answers there.
pub(crate) fn identities(snapshot: &Snapshot, service: &Service) -> Vec<String> {
    let with_account = snapshot.endpoints(service).iter().map(|endpoint| &endpoint.workload);
    let with_account = with_account.filter(|workload| !workload.service_account.is_empty());
    let trust_domain = &snapshot.mesh.config.trust_domain;
    let identities: BTreeSet<String> = with_account
        .map(|at| SpiffeId::new(trust_domain, &at.namespace, &at.service_account).to_string())
        .chain(service.subject_alt_names.iter().cloned())
        .collect();
    identities.into_iter().collect()
}
