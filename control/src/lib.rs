//! The control plane, `istiod`: the shell around the pure crate `translate`.
//!
//! * [`run`](fn@run), [`Args`]: flags, and how the parts below are put together
//! * `watch`: objects come in, from Kubernetes or from a folder of YAML, and become the model of a mesh
//! * `push`: a changed model becomes resources, and what changed of them goes to who subscribed to it
//! * `serve`: the discovery service, the certificate service, `/ready`, `/metrics`, `/debug`
//! * `ca`: the certificate authority
//! * `leader`: which of the replicas may write
//! * `metrics`: what is measured

#[cfg(test)]
mod api_server;
mod ca;
mod leader;
mod metrics;
mod push;
mod run;
mod serve;
mod watch;

pub use run::{Args, Running, run, start};
