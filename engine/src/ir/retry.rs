//! When a failed attempt is tried again.

use std::time::Duration;

use http::HeaderName;

use super::route::HeaderMatch;

/// A route's retry policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RetryPolicy {
    /// Which outcomes are tried again.
    pub on: RetryOn,
    /// How many further attempts there are at most.
    pub attempts: u32,
    /// The time for one attempt; `None` leaves only the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// Statuses that [`RetryOn::retriable_status_codes`] refers to.
    pub status_codes: Box<[u16]>,
    /// Response headers that [`RetryOn::retriable_headers`] refers to.
    pub response_headers: Box<[HeaderMatch]>,
    /// Only requests that match one of these are tried again; all if empty.
    pub request_headers: Box<[HeaderMatch]>,
    /// The first wait's upper bound; later ones double it.
    pub backoff_base: Duration,
    /// No wait is longer.
    pub backoff_max: Duration,
    /// Whether an endpoint that was tried already is avoided (`previous_hosts`).
    pub avoid_previous_hosts: bool,
    /// How often the balancer looks for an endpoint that was not tried yet.
    pub host_selection_attempts: u32,
    /// Response headers that tell how long to wait, if the policy honours them.
    pub reset_headers: Box<[HeaderName]>,
}

/// The conditions of `retry_on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RetryOn {
    /// `5xx`: any 5xx, and no response at all.
    pub server_error: bool,
    /// `gateway-error`: 502, 503 or 504.
    pub gateway_error: bool,
    /// `reset`: no response at all.
    pub reset: bool,
    /// `reset-before-request`: no response, and the request was not sent yet.
    pub reset_before_request: bool,
    /// `connect-failure`: no connection to the endpoint.
    pub connect_failure: bool,
    /// `retriable-4xx`: 409.
    pub retriable_4xx: bool,
    /// `refused-stream`: the endpoint refused the stream (`REFUSED_STREAM`).
    pub refused_stream: bool,
    /// `retriable-status-codes`: one of [`RetryPolicy::status_codes`].
    pub retriable_status_codes: bool,
    /// `retriable-headers`: one of [`RetryPolicy::response_headers`].
    pub retriable_headers: bool,
    /// `envoy-ratelimited`: the answer carries `x-envoy-ratelimited`.
    pub envoy_ratelimited: bool,
    /// `cancelled`: gRPC status 1 in the response's headers.
    pub grpc_cancelled: bool,
    /// `deadline-exceeded`: gRPC status 4 in the response's headers.
    pub grpc_deadline_exceeded: bool,
    /// `internal`: gRPC status 13 in the response's headers.
    pub grpc_internal: bool,
    /// `resource-exhausted`: gRPC status 8 in the response's headers.
    pub grpc_resource_exhausted: bool,
    /// `unavailable`: gRPC status 14 in the response's headers.
    pub grpc_unavailable: bool,
}

impl RetryOn {
    /// Whether no condition is set.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}
