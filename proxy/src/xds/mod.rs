//! The control plane's configuration: asked for over one stream, compiled, handed to the workers.
//!
//! What comes in: resources by delta xDS. What goes out: snapshots and endpoint sets, in order, to every worker.
//!
//! * [`publish`]: the way from the control thread to the workers

pub mod publish;
