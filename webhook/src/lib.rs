//! Admission: pods of the mesh get their sidecar, and Istio's objects are checked.
//!
//! An AdmissionReview comes in; an AdmissionReview goes out, with a JSON Patch, with warnings, or with a refusal that
//! says why.
//!
//! * [`configuration`]: what the API server sends here, as pure functions for the operator
//! * [`inject`]: from a pod and the settings to the pod with its sidecar; pure
//! * [`review()`], [`validate()`]: the answers of the two endpoints, from bytes to an [`Answer`]; `envelope`: what both have
//!   around them
//! * `serve`: TLS, HTTP, limits, draining; `body`: reading within them; `idle`: when a connection is of no more use;
//!   `places`: who makes room for whom; `rest`: when memory goes back; `certificate`: the serving certificate, minted and
//!   renewed in memory
//! * `watch`: settings and authority, followed live; `metrics`: what is counted
//! * [`run()`]: the process

mod body;
mod certificate;
pub mod configuration;
mod envelope;
mod idle;
pub mod inject;
mod metrics;
mod places;
mod rest;
mod review;
mod run;
mod serve;
mod validate;
mod watch;

pub use envelope::Answer;
pub use review::review;
pub use run::{Args, THREADS, run};
pub use validate::validate;
pub use watch::native_sidecars;
