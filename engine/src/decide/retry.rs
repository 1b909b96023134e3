//! Whether a failed attempt is tried again, and after which wait.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::matching;
use crate::ir::{retry::RetryPolicy, route::Request};

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// No connection to the endpoint: refused, timed out, or its TLS failed.
    ConnectFailure,
    /// The endpoint refused the stream before it did anything (`REFUSED_STREAM`, or a GOAWAY below the stream).
    RefusedStream,
    /// The connection or the stream broke before any byte of the request was sent.
    ResetBeforeRequest,
    /// The connection or the stream broke before response headers.
    Reset,
    /// The time for one attempt was over before response headers.
    PerTryTimeout,
    /// No request was made: a circuit breaker is open.
    Overflow,
    /// Response headers.
    Response {
        /// The status.
        status: StatusCode,
        /// The headers.
        headers: &'a HeaderMap,
    },
}

/// Whether `outcome` is one that `policy` tries again. Whether attempts, budget and request body allow it is the caller's.
pub fn retriable(policy: &RetryPolicy, outcome: &Outcome<'_>) -> bool {
    let on = policy.on;
    match outcome {
        Outcome::Overflow => false,
        Outcome::ConnectFailure => {
            on.connect_failure || on.reset || on.server_error || on.gateway_error || on.reset_before_request
        }
        Outcome::RefusedStream => on.refused_stream || on.reset || on.server_error || on.gateway_error,
        Outcome::ResetBeforeRequest => on.reset_before_request || on.reset || on.server_error || on.gateway_error,
        Outcome::Reset | Outcome::PerTryTimeout => on.reset || on.server_error || on.gateway_error,
        Outcome::Response { status, headers } => response(policy, *status, headers),
    }
}

fn response(policy: &RetryPolicy, status: StatusCode, headers: &HeaderMap) -> bool {
    let on = policy.on;
    // An answer of a rate limit is not tried again unless that is asked for, whatever its status.
    if headers.contains_key("x-envoy-ratelimited") {
        return on.envoy_ratelimited;
    }
    let code = status.as_u16();
    let http = (on.server_error && status.is_server_error())
        || (on.gateway_error && matches!(code, 502..=504))
        || (on.retriable_4xx && code == 409)
        || (on.retriable_status_codes && policy.status_codes.contains(&code))
        || (on.retriable_headers
            && policy.response_headers.iter().any(|wanted| matching::response_header(wanted, status, headers)));
    let grpc = headers.get("grpc-status").and_then(|value| value.to_str().ok()).is_some_and(|status| match status {
        "1" => on.grpc_cancelled,
        "4" => on.grpc_deadline_exceeded,
        "8" => on.grpc_resource_exhausted,
        "13" => on.grpc_internal,
        "14" => on.grpc_unavailable,
        _ => false,
    });
    http || grpc
}

/// Whether `policy` applies to `request` at all.
pub fn applies(policy: &RetryPolicy, request: &Request<'_>) -> bool {
    policy.attempts > 0
        && !policy.on.is_empty()
        && (policy.request_headers.is_empty()
            || policy.request_headers.iter().any(|wanted| matching::header(wanted, request)))
}

/// The wait before further attempt number `attempt` (from 1): a random part of the base doubled with each attempt, up
/// to the maximum.
pub fn backoff(policy: &RetryPolicy, attempt: u32, seed: u64) -> Duration {
    let factor = 1u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX).saturating_sub(1).max(1);
    let bound = policy.backoff_base.saturating_mul(factor).min(policy.backoff_max);
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(seed.checked_rem(nanos).unwrap_or(0))
}
