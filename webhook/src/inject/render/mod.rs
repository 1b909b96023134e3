//! The containers and volumes that injection adds, as plain JSON: pieces of which the built-in templates are put together.

mod environment;
mod init;
mod proxy;
mod volumes;
