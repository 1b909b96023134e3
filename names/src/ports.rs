//! The ports of Istio's interface, and what listens there.

/// Proxy administration (`/config_dump`, `/clusters`, `/certs`, `/ready`), on loopback.
pub const PROXY_ADMIN: u16 = 15000;
/// Where outbound connections of an application are redirected to.
pub const OUTBOUND: u16 = 15001;
/// Where nobody listens: a connection to it tells whether redirection is in force.
pub const REDIRECTION_PROBE: u16 = 15002;
/// Where inbound connections of an application are redirected to.
pub const INBOUND: u16 = 15006;
/// HBONE, which Forestay never advertises but never captures either.
pub const HBONE: u16 = 15008;
/// Control plane: plaintext xDS, on loopback unless asked for.
pub const XDS_PLAINTEXT: u16 = 15010;
/// Control plane: xDS and certificate authority over TLS.
pub const XDS_TLS: u16 = 15012;
/// Control plane, webhook and operator: `/metrics`; the control plane also `/version` and `/debug/*`.
pub const MONITORING: u16 = 15014;
/// Admission webhook, behind port 443 of its Service.
pub const WEBHOOK: u16 = 15017;
/// Merged Prometheus statistics and the applications' rewritten probes.
pub const AGENT: u16 = 15020;
/// The proxy's health for kubelet and load balancers: `/healthz/ready`.
pub const HEALTH: u16 = 15021;
/// The proxy's DNS server.
pub const DNS: u16 = 15053;
/// The proxy's own Prometheus statistics.
pub const PROXY_STATS: u16 = 15090;
/// Readiness of control plane, webhook and operator: `/ready`.
pub const READINESS: u16 = 8080;
/// Where an ingress gateway's port 80 ends up in its pod.
pub const GATEWAY_HTTP: u16 = 8080;
/// Where an ingress gateway's port 443 ends up in its pod.
pub const GATEWAY_HTTPS: u16 = 8443;

/// The user and the group that a proxy runs as; redirection lets their traffic out.
pub const PROXY_UID: u32 = 1337;
