//! Admission.
pub mod configuration;
mod inject;
pub use configuration::{Registration, configuration};
