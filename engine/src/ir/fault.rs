//! Faults that a rule injects.

use std::time::Duration;

use super::{Fraction, route::HeaderMatch};

/// A fault of a route (`envoy.filters.http.fault`): delay first, then abort.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// Waits before anything else happens.
    pub delay: Option<DelayFault>,
    /// Answers instead of forwarding.
    pub abort: Option<AbortFault>,
    /// Only requests with all of these get the fault.
    pub headers: Box<[HeaderMatch]>,
}

/// A delay for a share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayFault {
    /// How long.
    pub duration: Duration,
    /// For which share.
    pub share: Fraction,
}

/// An answer in place of the destination's, for a share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortFault {
    /// The answer.
    pub status: AbortStatus,
    /// For which share.
    pub share: Fraction,
}

/// What an aborted request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortStatus {
    /// An HTTP status, 200 to 599.
    Http(u16),
    /// A gRPC status; a client that does not speak gRPC gets the HTTP status that maps to it.
    Grpc(u32),
}
