//! From a changed model to the proxies that it concerns.
//!
//! * [`queue`]: gathers bursts of changes, endpoints and configuration apart
//! * [`resource`]: a resource encoded once, and the sets of them that proxies share
//! * [`intern`]: the same allocation for the same content
//! * [`cache`]: translates each projection of a proxy once and keeps what did not change
//! * [`problems`]: what translation found wrong with rules
//! * [`subscriber`]: what one stream subscribed to, holds and is owed. Pure.

pub(crate) mod cache;
pub(crate) mod intern;
pub(crate) mod problems;
pub(crate) mod queue;
pub(crate) mod resource;
pub(crate) mod subscriber;
