//! Every API type.

pub mod install;
