//! The request path end to end: clients, proxies and servers in memory, on one paused clock; what it costs, over real sockets.

mod abuse;
mod cost;
mod failures;
mod mesh;
mod routing;
mod world;

pub(crate) use world::{gateway, http_chain};
