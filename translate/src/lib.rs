//! What a mesh's objects mean, and what each proxy has to know of it. Pure: no clock, no socket, no client.
//!
//! Objects come in as [`model`] inputs; a [`Snapshot`] indexes those of one moment; [`translate`] turns a snapshot and
//! a proxy into a [`ResourceSet`], with the [`Problem`]s that it met. Work is shared: each kind of resource is computed
//! once per `projection` of a proxy, which is what the resource reads of it, and kept in a [`Cache`].
//!
//! * [`model`]: services, workloads, rules, and which of them count for whom
//! * `to_xds`: listeners, routes, clusters and endpoints
//! * `projection`, `cache`: what is computed once and shared
//! * `resource`, `problem`, [`describe()`]: what comes out; `unsupported`: which fields do not

mod cache;
mod describe;
pub mod model;
mod problem;
mod projection;
mod resource;
mod to_xds;
mod unsupported;

use std::sync::Arc;

use xds::node::ProxyType;

pub use cache::Cache;
pub use describe::describe;
pub use model::inputs::Inputs;
pub use model::proxy::Proxy;
pub use model::snapshot::Snapshot;
pub use problem::{Problem, Reason};
pub use resource::{Part, Resource, ResourceSet, Resources};

/// Everything that a proxy has to know. The result depends on snapshot and proxy alone; the cache only saves work.
pub fn translate(snapshot: &Snapshot, proxy: &Proxy, cache: &mut Cache) -> ResourceSet {
    cache.enter(snapshot);
    let parts = match proxy.proxy_type {
        ProxyType::Sidecar if proxy.grpc => {
            vec![grpc_client(snapshot, proxy, cache), grpc_server(snapshot, proxy, cache)]
        }
        ProxyType::Sidecar => vec![outbound(snapshot, proxy, cache), inbound(snapshot, proxy, cache)],
        ProxyType::Router => vec![edge(snapshot, proxy, cache)],
    };
    ResourceSet { parts }
}

fn outbound(snapshot: &Snapshot, proxy: &Proxy, cache: &mut Cache) -> Arc<Part> {
    let projection = projection::Outbound::of(snapshot, proxy);
    if let Some(part) = cache.outbound.get(&projection) {
        return Arc::clone(part);
    }
    let part = Arc::new(to_xds::sidecar::outbound(snapshot, &projection, cache));
    cache.outbound.insert(projection, Arc::clone(&part));
    part
}

fn inbound(snapshot: &Snapshot, proxy: &Proxy, cache: &mut Cache) -> Arc<Part> {
    let projection = projection::Inbound::of(snapshot, proxy);
    if let Some(part) = cache.inbound.get(&projection) {
        return Arc::clone(part);
    }
    let part = Arc::new(to_xds::inbound::inbound(snapshot, &projection, cache));
    cache.inbound.insert(projection, Arc::clone(&part));
    part
}

fn grpc_client(snapshot: &Snapshot, proxy: &Proxy, cache: &mut Cache) -> Arc<Part> {
    let projection = projection::Outbound::of(snapshot, proxy);
    if let Some(part) = cache.grpc_client.get(&projection) {
        return Arc::clone(part);
    }
    let part = Arc::new(to_xds::grpc::client::outbound(snapshot, &projection, cache));
    cache.grpc_client.insert(projection, Arc::clone(&part));
    part
}

fn grpc_server(snapshot: &Snapshot, proxy: &Proxy, cache: &mut Cache) -> Arc<Part> {
    let projection = projection::GrpcServer::of(snapshot, proxy);
    if let Some(part) = cache.grpc_server.get(&projection) {
        return Arc::clone(part);
    }
    let part = Arc::new(to_xds::grpc::server::inbound(&projection, cache));
    cache.grpc_server.insert(projection, Arc::clone(&part));
    part
}

fn edge(snapshot: &Snapshot, proxy: &Proxy, cache: &mut Cache) -> Arc<Part> {
    let projection = projection::Edge::of(snapshot, proxy);
    if let Some(part) = cache.edge.get(&projection) {
        return Arc::clone(part);
    }
    let part = Arc::new(to_xds::gateway::edge(snapshot, &projection, cache));
    cache.edge.insert(projection, Arc::clone(&part));
    part
}
