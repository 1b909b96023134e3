//! The data plane: sidecar and gateway in one program.
//!
//! What comes in: configuration over xDS, certificates, connections. What goes out: connections to where rules say they go, with
//! metrics and logs. One control thread ([`xds`], [`agent`], [`admin`]) and N workers ([`workers`]), which share nothing on a
//! request's path. A connection passes through the rooms in this order:
//!
//! * [`listen`]: accept, original destination, sniff
//! * [`tls`]: handshake, and who the peer is
//! * [`http`] or [`tcp`]: requests, or bytes
//! * [`upstream`]: cluster, endpoint, connection
//! * [`telemetry`]: what is told of it; [`error`]: what goes wrong, and what client and log see of it
//!
//! [`run`] is the process. [`net`] is the seam below: sockets, or memory in tests. [`redirect`] sets up redirection in a pod's network namespace.

pub mod admin;
pub mod agent;
pub mod error;
pub mod http;
pub mod listen;
pub mod net;
pub mod redirect;
pub mod run;
pub mod tcp;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod workers;
pub mod xds;
