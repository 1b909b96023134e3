//! Bytes both ways: what is not HTTP, and what stopped being HTTP by an upgrade.
//!
//! * [`proxy`]: a client's connection to a cluster
//! * [`relay`]: two streams, with half-close

pub mod proxy;
pub mod relay;
