//! Retry policies.

use std::time::Duration;

use xds::types::route;

use super::{At, Checked, Invalid, each, header, part};
use crate::ir::retry::{RetryOn, RetryPolicy};

/// Envoy's first back-off.
const BASE: Duration = Duration::from_millis(25);

/// `RetryPolicy`; `None` when it tries nothing again.
pub(crate) fn policy(wanted: &route::RetryPolicy) -> Checked<Option<RetryPolicy>> {
    let on = conditions(&wanted.retry_on).at("retry_on")?;
    let attempts = wanted.num_retries.as_ref().map_or(1, |attempts| attempts.value);
    if on.is_empty() || attempts == 0 {
        return Ok(None);
    }
    let mut avoid_previous_hosts = false;
    for (index, predicate) in wanted.retry_host_predicate.iter().enumerate() {
        match predicate.name.as_str() {
            "envoy.retry_host_predicates.previous_hosts" => avoid_previous_hosts = true,
            _ => return Err(Invalid::unsupported("name")).at_index("retry_host_predicate", index),
        }
    }
    // `retry_priority` (previous priorities) only reorders what is tried; without it a retry is still right.
    let status_codes = each("retriable_status_codes", &wanted.retriable_status_codes, |code| {
        u16::try_from(*code)
            .ok()
            .filter(|code| (100..=599).contains(code))
            .ok_or_else(|| Invalid::new(format!("{code} is no status")))
    })?;
    let backoff = wanted.retry_back_off.as_ref();
    let base = part::optional_duration(
        backoff.and_then(|backoff| backoff.base_interval.as_ref()),
        "retry_back_off.base_interval",
    )?
    .unwrap_or(BASE);
    let max = part::optional_duration(
        backoff.and_then(|backoff| backoff.max_interval.as_ref()),
        "retry_back_off.max_interval",
    )?
    .unwrap_or(base * 10);
    let limited = wanted.rate_limited_retry_back_off.as_ref();
    let reset_headers = limited.map_or(&[][..], |limited| &limited.reset_headers);
    Ok(Some(RetryPolicy {
        on,
        attempts,
        per_try_timeout: part::limit(wanted.per_try_timeout.as_ref(), "per_try_timeout", None)?,
        status_codes: status_codes.into(),
        response_headers: each("retriable_headers", &wanted.retriable_headers, header::matcher)?.into(),
        request_headers: each("retriable_request_headers", &wanted.retriable_request_headers, header::matcher)?.into(),
        backoff_base: base.max(Duration::from_millis(1)),
        backoff_max: max.max(base),
        avoid_previous_hosts,
        host_selection_attempts: u32::try_from(wanted.host_selection_retry_max_attempts).unwrap_or(0),
        reset_headers: each("rate_limited_retry_back_off.reset_headers", reset_headers, |reset| {
            header::name(&reset.name)
        })?
        .into(),
    }))
}

fn conditions(list: &str) -> Checked<RetryOn> {
    let mut on = RetryOn::default();
    for condition in list.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
        let flag = match condition {
            "5xx" => &mut on.server_error,
            "gateway-error" => &mut on.gateway_error,
            "reset" => &mut on.reset,
            "reset-before-request" => &mut on.reset_before_request,
            "connect-failure" => &mut on.connect_failure,
            "retriable-4xx" => &mut on.retriable_4xx,
            "refused-stream" => &mut on.refused_stream,
            "retriable-status-codes" => &mut on.retriable_status_codes,
            "retriable-headers" => &mut on.retriable_headers,
            "envoy-ratelimited" => &mut on.envoy_ratelimited,
            "cancelled" => &mut on.grpc_cancelled,
            "deadline-exceeded" => &mut on.grpc_deadline_exceeded,
            "internal" => &mut on.grpc_internal,
            "resource-exhausted" => &mut on.grpc_resource_exhausted,
            "unavailable" => &mut on.grpc_unavailable,
            // A retry after a POST with HTTP/3 problems: we have no HTTP/3, so there is nothing to retry.
            "http3-post-connect-failure" => continue,
            other => return Err(Invalid::new(format!("{other:?} is no condition that this proxy knows"))),
        };
        *flag = true;
    }
    Ok(on)
}
