//! The request path end to end, in memory: clients, proxies and servers on one paused clock.

mod abuse;
mod failures;
mod mesh;
mod routing;
mod world;

pub(crate) use world::{gateway, http_chain};
