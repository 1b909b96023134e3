//! From a snapshot to Envoy's configuration: one file for each kind of thing that a proxy has.
//!
//! * [`sidecar`]: outbound listeners, and which route configurations and clusters they need
//! * [`inbound`]: the inbound listener and its clusters
//! * [`gateway`]: the listeners and virtual hosts of a gateway
//! * [`virtual_host`]: which virtual hosts a sidecar's route configuration has; [`route`]: the routes of a VirtualService,
//!   with [`route_match`], [`route_action`], [`headers`], [`fault`]
//! * [`cluster`]: how a service is spoken to, with [`traffic_policy`] and [`tls`]; [`endpoint`]: where it is
//! * [`filters`]: filter chains' parts
//! * [`grpc`]: the same for applications whose gRPC library reads xDS itself

pub(crate) mod cluster;
pub(crate) mod endpoint;
pub(crate) mod fault;
pub(crate) mod filters;
pub(crate) mod gateway;
pub(crate) mod grpc;
pub(crate) mod headers;
pub(crate) mod inbound;
pub(crate) mod route;
pub(crate) mod route_action;
pub(crate) mod route_match;
pub(crate) mod sidecar;
pub(crate) mod tls;
pub(crate) mod traffic_policy;
pub(crate) mod virtual_host;
