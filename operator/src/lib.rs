//! The operator: keeps the cluster as each MeshInstall says.
//!
//! In come MeshInstalls and what the cluster holds; out go Deployments, Services, settings, the webhook configuration,
//! a status that a person can read, and events.
//!
//! * [`run()`]: the process: client, Lease, controller, `/metrics` and `/ready`
//! * `leader`: the Lease, so that of several replicas one works; `farewell`: what the last one says when it is removed
//! * `controller`: which watches bring which MeshInstall up; `live`: what those watches know
//! * `meshinstall`: one reconciliation, step by step; the steps that decide are pure
//! * `addons`: Prometheus, Grafana, Kiali, Jaeger and Zipkin, which a MeshInstall may ask for
//! * `definitions`: whether Istio's kinds are there; `guard`: that nobody takes the operator away before its meshes
//! * `version`: which versions of the mesh it serves, and which changes of them it takes
//! * `rbac`: who may do what, in one table; `answer`: a refusal of the API server in its own words
//! * [`manifests()`]: the operator's own YAML, from the same code; `kustomize`: the same as bases; [`bundle()`]: the same as
//!   a package for OLM
//! * [`injection_settings()`]: what the webhook of a MeshInstall would read, without a cluster

mod addons;
mod answer;
mod bundle;
mod controller;
mod definitions;
mod farewell;
mod guard;
mod kustomize;
mod leader;
mod live;
mod manifests;
mod meshinstall;
mod metrics;
mod pod;
mod rbac;
mod run;
mod serve;
mod tag;
mod usage;
mod version;

pub use bundle::{bundle, released_catalogs};
pub use manifests::{Manifest, manifests};
pub use meshinstall::injection::{InjectionError, InjectionSettings, injection_settings};
pub use run::{Args, run};
