//! Where connections arrive.
//!
//! * [`sockets`]: the control thread makes them and hands them out
//! * [`accept`]: a worker's loop on one of them
//! * [`connection`]: one connection, from its first byte to its end
//! * [`original_dst`], [`sniff`]: where it was going, and what it speaks
//! * [`live`]: the connections that are open; judged again when rules change
//! * [`drain`]: the end

pub mod accept;
pub mod connection;
pub mod drain;
pub mod live;
pub mod original_dst;
pub mod sniff;
pub mod sockets;
