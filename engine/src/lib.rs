//! xDS compiled into what a proxy decides by. Pure: no socket, no clock, no runtime.
//!
//! What comes in: Envoy's resources as the control plane sends them. What goes out: an immutable [`Snapshot`] and the
//! decisions over it.
//!
//! * [`ir`]: what xDS means to us: listeners, filter chains, routes, clusters, endpoints
//! * [`compile`]: Envoy's messages to [`ir`]; an error names resource and field and is the text of the NACK
//! * [`store`]: the resources a proxy holds, by name, from which a [`Snapshot`] is built after each change
//! * [`snapshot`]: the whole configuration that a request is judged by, shared and never changed
//! * [`decide`]: filter chain, virtual host, route, weighted cluster, fault, retry, endpoint
//! * [`explain`]: "what would this request do?", over the same decisions

pub mod compile;
pub mod decide;
pub mod explain;
pub mod ir;
pub mod snapshot;
pub mod store;

pub use ir::endpoint::{Endpoint, EndpointSet};
pub use snapshot::Snapshot;
pub use store::Store;
