//! Admission.
pub mod configuration;
pub mod inject;
pub use configuration::{Registration, configuration};
