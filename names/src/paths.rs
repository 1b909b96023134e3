//! Files in a proxy's pod, where injection mounts them and the proxy reads them.

/// The projected service account token with audience `istio-ca`.
pub const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
/// The mesh's root certificate, from ConfigMap `istio-ca-root-cert`.
pub const ROOT_CERT: &str = "/var/run/secrets/istio/root-cert.pem";
/// The directory of [`ROOT_CERT`].
pub const ROOT_CERT_DIR: &str = "/var/run/secrets/istio";
/// The pod's labels, by the downward API (`key="value"` lines).
pub const POD_LABELS: &str = "/etc/istio/pod/labels";
/// The pod's annotations, by the downward API.
pub const POD_ANNOTATIONS: &str = "/etc/istio/pod/annotations";
/// A memory-backed directory for the proxy's own state.
pub const PROXY_STATE: &str = "/etc/istio/proxy";
/// Where an application whose gRPC library reads xDS itself finds how, unless `GRPC_XDS_BOOTSTRAP` says otherwise.
pub const GRPC_BOOTSTRAP: &str = "/etc/istio/proxy/grpc-bootstrap.json";
/// The socket through which such an application reaches the control plane.
pub const GRPC_XDS_SOCKET: &str = "/etc/istio/proxy/XDS";
