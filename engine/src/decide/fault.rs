//! Whether a request gets a fault.

use std::time::Duration;

use super::matching;
use crate::ir::{
    fault::{AbortStatus, Fault},
    route::Request,
};

/// What a fault does to one request: first the delay, then the abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Wait this long (response flag `DI`).
    pub delay: Option<Duration>,
    /// Answer with this (response flag `FI`).
    pub abort: Option<AbortStatus>,
}

/// What `fault` does to `request`. Delay and abort are drawn independently: `seeds` are two independent random numbers.
pub fn inject(fault: &Fault, request: &Request<'_>, seeds: (u64, u64)) -> Injected {
    if !fault.headers.iter().all(|header| matching::header(header, request)) {
        return Injected::default();
    }
    Injected {
        delay: fault.delay.filter(|delay| delay.share.contains(seeds.0)).map(|delay| delay.duration),
        abort: fault.abort.filter(|abort| abort.share.contains(seeds.1)).map(|abort| abort.status),
    }
}
