//! Admission: pods of the mesh get their sidecar.
//!
//! An AdmissionReview comes in; an AdmissionReview goes out, with a JSON Patch or a refusal that says why.
//!
//! * [`configuration`]: which pods the API server sends here, as a pure function for the operator
//! * [`inject`]: from a pod and the settings to the pod with its sidecar; pure
//! * `review`: the envelope around it
//! * `serve`: TLS, HTTP, limits, draining; `certificate`: the serving certificate, minted and renewed in memory
//! * `watch`: settings and authority, followed live; `metrics`: what is counted
//! * [`run()`]: the process

mod certificate;
pub mod configuration;
pub mod inject;
mod metrics;
mod review;
mod run;
mod serve;
mod watch;

pub use run::{Args, run};
pub use watch::native_sidecars;
