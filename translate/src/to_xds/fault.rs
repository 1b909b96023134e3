//! Delays and failures to inject.

use crds::networking::virtual_service::{HttpFaultInjection, Percent};
use xds::types::{common, fault, fault_common, google};

use super::filters::share;
use super::route::{Found, Place};
use crate::problem::Reason;

/// gRPC's status codes by the names that Istio takes.
const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What the rule says, in Envoy's terms; `None` if that is nothing.
pub(crate) fn of(injection: &HttpFaultInjection, place: &Place<'_>, found: &mut Found) -> Option<fault::HttpFault> {
    let delay = injection.delay.as_ref().and_then(|delay| {
        let Some(fixed) = delay.fixed_delay else {
            let message = "only fixedDelay is injected: give one, in place of exponentialDelay";
            found.problem(place, Reason::Unsupported, "fault.delay", message);
            return None;
        };
        Some(fault_common::FaultDelay {
            percentage: Some(percentage(delay.percentage.as_ref(), Some(delay.percent))),
            fault_delay_secifier: Some(fault_common::fault_delay::FaultDelaySecifier::FixedDelay(google::duration(
                fixed.get(),
            ))),
        })
    });
    let abort = injection.abort.as_ref().and_then(|abort| {
        let error = if let Some(status) = abort.http_status {
            let status = u32::try_from(status).ok().filter(|status| (200..600).contains(status));
            status.map(fault::fault_abort::ErrorType::HttpStatus)
        } else {
            abort.grpc_status.as_deref().and_then(grpc_status).map(fault::fault_abort::ErrorType::GrpcStatus)
        };
        if error.is_none() {
            let message = "gives neither an httpStatus from 200 to 599 nor a known grpcStatus: nothing is aborted";
            found.problem(place, Reason::Invalid, "fault.abort", message);
        }
        Some(fault::FaultAbort {
            percentage: Some(percentage(abort.percentage.as_ref(), None)),
            error_type: Some(error?),
            ..Default::default()
        })
    });
    if delay.is_none() && abort.is_none() {
        return None;
    }
    Some(fault::HttpFault { delay, abort, ..Default::default() })
}

/// The share of requests: as given, else the deprecated whole percentage, else all.
fn percentage(percentage: Option<&Percent>, deprecated: Option<i32>) -> common::FractionalPercent {
    match (percentage, deprecated) {
        (Some(percentage), _) => share(percentage.value),
        (None, Some(percent)) if percent > 0 => share(f64::from(percent)),
        (None, _) => share(100.0),
    }
}

fn grpc_status(text: &str) -> Option<u32> {
    let by_name = GRPC_STATUS.iter().position(|name| name.eq_ignore_ascii_case(text));
    let by_number = || text.parse::<usize>().ok().filter(|number| *number < GRPC_STATUS.len());
    u32::try_from(by_name.or_else(by_number)?).ok()
}
