//! A real Kubernetes in a box, and what it takes to fill it.
//!
//! * [`tools`]: the binaries a box is made of, built or installed once and kept outside the work tree.
//! * [`images`]: container images written as plain archives, without a container engine.
//! * [`kube_box`]: one single-node cluster in its own namespaces: start, use, hurt, stop.
//! * [`progress`]: how the long steps are shown.
//!
//! The binary `forestay-e2e` runs the scenarios on such boxes; `cargo xtask demo` leaves one running for people.

pub mod images;
pub mod kube_box;
pub mod progress;
pub mod tools;

pub use kube_box::{KubeBox, Options};
pub use progress::Progress;
