//! TLS on both sides, and who the peer is.
//!
//! What comes in: the mesh identity, by generation, and what a chain or a cluster says about TLS. What goes out: streams
//! after a handshake, with the peer's identity checked.
//!
//! * [`identity`]: our certificate, key and roots: one value per generation
//! * [`server`], [`client`]: rustls configurations, kept per generation
//! * [`verify`]: the one function that judges a peer after every handshake

pub mod client;
pub mod identity;
pub mod server;
pub mod verify;

#[cfg(test)]
pub(crate) mod tests;

/// Application protocols that Istio's proxies speak of among themselves.
pub(crate) mod alpn {
    /// Whether a client of the mesh said so: any of Istio's own protocol names.
    pub(crate) const PEER_EXCHANGE: &str = "istio-peer-exchange";
    /// HTTP/2 over mesh TLS, as `istio.alpn` writes it.
    pub(crate) const MESH_HTTP2: [&str; 3] = ["istio-h2", "istio", "h2"];
    /// HTTP/1.1 over mesh TLS, as `istio.alpn` writes it.
    pub(crate) const MESH_HTTP11: [&str; 3] = ["istio-http/1.1", "istio", "http/1.1"];
}
