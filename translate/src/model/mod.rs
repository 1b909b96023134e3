//! The model of a mesh: what Kubernetes and Istio objects mean, reduced to what translation reads.
//!
//! * [`host`], [`protocol`] (of `crds`), [`labels`], [`visibility`]: the small algebra that rules are matched by
//! * [`service`], [`workload`], [`rule`], [`mesh`]: the things in a mesh
//! * [`kubernetes`], [`istio`], [`object`]: from API objects to those things
//! * [`inputs`]: all things by name, and how a change is applied; [`change`]: what changed
//! * [`snapshot`]: the inputs of one moment, immutable and indexed; [`registry`] finds services, [`policy`] finds rules
//! * [`proxy`]: whom a translation is for

pub mod change;
pub mod inputs;
pub mod istio;
pub mod kubernetes;
pub mod labels;
pub mod mesh;
pub mod object;
pub mod policy;
pub mod proxy;
pub mod registry;
pub mod rule;
pub mod service;
pub mod snapshot;
pub mod visibility;
pub mod workload;

pub use crds::{host, protocol};
