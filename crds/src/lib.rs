//! Every API type of the mesh, with its checks, and the CRD YAML. No I/O.
//!
//! In comes JSON (from the API server) or YAML (from files); out come typed objects, the problems that a check finds in
//! them, and the CustomResourceDefinitions.
//!
//! * [`networking`], [`security`], [`telemetry`], [`extensions`]: Istio's kinds, one file each, types beside their
//!   checks; [`kinds`] is the one door to all of them
//! * [`install`]: our own MeshInstall
//! * [`meshconfig`]: the settings of a mesh and of a proxy
//! * [`parse()`]: from JSON to a type, with errors that name the field; [`yaml`]: the only reader and writer of YAML
//! * [`check`]: what a check says; [`host`], [`protocol`], [`pattern`], [`quantity`]: the words that rules are written in
//! * [`manifests()`]: the CustomResourceDefinitions as files; [`schemas()`]: their schemas, as the program reads them

mod beginnings;
pub mod check;
mod duration;
pub mod extensions;
pub mod host;
pub mod install;
pub mod kinds;
mod manifests;
pub mod meshconfig;
mod message;
mod nearest;
pub mod networking;
mod parse;
pub mod pattern;
pub mod protocol;
pub mod quantity;
mod schema;
pub mod security;
pub mod selector;
pub mod status;
mod structural;
pub mod target;
pub mod telemetry;
pub mod yaml;

pub use duration::{Duration, NotADuration};
pub use manifests::{Manifest, istio as istio_definitions, manifests, schemas};
pub use nearest::nearest;
pub use parse::{ParseError, parse};
