//! The proxy's life in its pod: certificate, node, probes, merged metrics, health, its end.
//!
//! * [`readiness`]: whether the pod may get traffic; [`lifecycle`]: serving, draining, quitting

pub mod lifecycle;
pub mod readiness;
