//! `/clusters`: every cluster and its endpoints, as text lines or as JSON.

use std::{collections::HashMap, fmt::Write as _, net::SocketAddr, sync::Arc};

use engine::{
    EndpointSet, Snapshot,
    ir::{
        cluster::{Cluster, ClusterKind},
        endpoint::{Endpoint, Health},
    },
};
use serde_json::{Value, json};

type Sets = HashMap<Arc<str>, Arc<EndpointSet>>;

/// Clusters by name, each with the endpoints it has without a worker's help.
fn each<'a>(snapshot: &'a Snapshot, sets: &'a Sets) -> Vec<(&'a Cluster, &'a [Endpoint])> {
    let mut clusters: Vec<_> = snapshot
        .clusters()
        .map(|cluster| {
            let set = match &cluster.kind {
                ClusterKind::Eds { .. } => sets.get(&cluster.name),
                ClusterKind::Static(set) => Some(set),
                ClusterKind::OriginalDst { .. } | ClusterKind::StrictDns(_) | ClusterKind::LogicalDns(_) => None,
            };
            (&**cluster, set.map_or(&[][..], |set| &set.endpoints))
        })
        .collect();
    clusters.sort_by(|left, right| left.0.name.cmp(&right.0.name));
    clusters
}

pub(super) fn text(snapshot: &Snapshot, sets: &Sets) -> String {
    let mut out = String::new();
    for (cluster, endpoints) in each(snapshot, sets) {
        let name = &cluster.name;
        let breakers = &cluster.settings.breakers;
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{name}::observability_name::{name}\n\
             {name}::default_priority::max_connections::{}\n\
             {name}::default_priority::max_pending_requests::{}\n\
             {name}::default_priority::max_requests::{}\n\
             {name}::default_priority::max_retries::{}\n\
             {name}::added_via_api::true",
            breakers.max_connections, breakers.max_pending_requests, breakers.max_requests, breakers.max_retries,
        );
        for endpoint in endpoints {
            let prefix = format!("{name}::{}", endpoint.address);
            let locality = &endpoint.locality;
            let _ = writeln!(
                out,
                "{prefix}::hostname::{}\n\
                 {prefix}::health_flags::{}\n\
                 {prefix}::weight::{}\n\
                 {prefix}::region::{}\n\
                 {prefix}::zone::{}\n\
                 {prefix}::sub_zone::{}\n\
                 {prefix}::priority::{}",
                endpoint.hostname.as_deref().unwrap_or_default(),
                flags(endpoint.health),
                endpoint.weight,
                locality.region,
                locality.zone,
                locality.sub_zone,
                endpoint.priority,
            );
        }
    }
    out
}

fn flags(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Draining => "/eds_status_draining",
        Health::Unhealthy => "/failed_eds_health",
    }
}

pub(super) fn json(snapshot: &Snapshot, sets: &Sets) -> Value {
    let statuses: Vec<Value> = each(snapshot, sets)
        .into_iter()
        .map(|(cluster, endpoints)| {
            let hosts: Vec<Value> = endpoints.iter().map(host).collect();
            let mut status = json!({
                "name": &*cluster.name,
                "added_via_api": true,
                "observability_name": &*cluster.name,
                "host_statuses": hosts,
            });
            if let (ClusterKind::Eds { service_name }, Value::Object(fields)) = (&cluster.kind, &mut status) {
                fields.insert("eds_service_name".to_owned(), json!(&**service_name));
            }
            status
        })
        .collect();
    json!({"cluster_statuses": statuses})
}

fn host(endpoint: &Endpoint) -> Value {
    let health = match endpoint.health {
        Health::Healthy => "HEALTHY",
        Health::Draining => "DRAINING",
        Health::Unhealthy => "UNHEALTHY",
    };
    json!({
        "address": address(endpoint.address),
        "health_status": {"eds_health_status": health},
        "weight": endpoint.weight,
        "hostname": endpoint.hostname.as_deref().unwrap_or_default(),
        "locality": {
            "region": &*endpoint.locality.region,
            "zone": &*endpoint.locality.zone,
            "sub_zone": &*endpoint.locality.sub_zone,
        },
        "priority": endpoint.priority,
    })
}

/// An address as Envoy's JSON has it.
pub(super) fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}
