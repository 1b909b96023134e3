//! The control plane's configuration: asked for over one stream, compiled, handed to the workers.
//!
//! What comes in: resources by delta xDS. What goes out: snapshots and endpoint sets, in order, to every worker.
//!
//! * [`connect`]: a channel to the control plane, by certificate or by token
//! * [`session`]: what we asked for, hold and answer; pure, and outlives streams
//! * [`held`]: the resources as they were sent, for dumps and for the next stream
//! * [`client`]: one stream after another, with waits between them; `stream`: one, message by message
//! * [`publish`]: the way from the control thread to the workers

pub mod client;
pub mod connect;
pub mod held;
pub mod publish;
pub mod session;
mod stream;

#[cfg(test)]
mod cost;
