//! HTTP: from a client's connection to an endpoint's answer.
//!
//! A request goes through the rooms in this order:
//!
//! * [`serve`]: the client's connection, HTTP/1 or HTTP/2
//! * [`exchange`]: one request from its headers to its answer; calls the rest
//! * [`intake`]: what the request is for: host and path, in normal form
//! * [`forwarded`]: the headers that say who asked: `x-forwarded-*`, `x-request-id`, client certificate, peer metadata
//! * [`cors`]: cross-origin policies
//! * [`forward`]: attempts: endpoint, connection, timeout, retry
//! * [`head`]: what goes to an endpoint: path, host, headers
//! * [`headers`]: changes that rules make, and headers that end at each hop
//! * [`body`], [`replay`], [`kept`]: bodies, counted; bodies and headers, kept for another attempt
//! * [`mirror`], [`upgrade`]: copies; what stops being HTTP
//! * [`reply`]: answers of our own
//! * [`record`]: what metrics and logs learn of it

pub mod body;
pub mod cors;
pub mod exchange;
pub mod forward;
pub mod forwarded;
pub mod head;
pub mod headers;
pub mod intake;
pub mod kept;
pub mod local;
pub mod mirror;
pub mod record;
pub mod replay;
pub mod reply;
pub mod serve;
pub mod upgrade;

#[cfg(test)]
pub(crate) mod tests;
