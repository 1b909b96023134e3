//! Where traffic goes: a worker's clusters, their endpoints, and the connections to them.
//!
//! What comes in: clusters and endpoints as the control plane gives them. What goes out: for a request or a connection, an
//! endpoint and a connection to it.
//!
//! * [`cluster`]: a worker's state of a cluster; unchanged ones keep pools, ejections and counts
//! * [`host`]: one endpoint with its idle connections
//! * [`connect`]: a new connection: socket, then TLS
//! * [`pool`]: a connection for one request, used before or new
//! * [`breaker`], [`outlier`]: what all workers share, only where it is configured
//! * [`dns`]: clusters whose endpoints are names

pub mod breaker;
pub mod cluster;
pub mod connect;
pub mod dns;
pub mod host;
pub mod outlier;
pub mod pool;
