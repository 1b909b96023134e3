//! What an application is told whose gRPC library reads xDS itself (Istio's "proxyless gRPC").
//!
//! Clusters, routes and endpoints are those of a sidecar, reduced to what gRPC reads: it refuses a whole resource for a
//! part that it does not know, where Envoy would pass over it. What it asks for by name:
//!
//! * [`client`]: listener `<host>:<port>`, then routes `outbound|<port>||<host>`, clusters and endpoints
//! * [`server`]: listener `xds.istio.io/grpc/lds/inbound/<address>:<port>`
//! * [`tls`]: both sides' contexts, by the certificate provider that the agent's bootstrap file declares
//!
//! What gRPC reads stands in its proposals A27 (xDS), A28 (routes), A29 (TLS), A31 (timeouts), A33 (faults), A36
//! (servers), A42 (hashing), A44 (retries); what Istio sends it in `pilot/pkg/networking/grpcgen`.

pub(crate) mod client;
pub(crate) mod server;
mod tls;
