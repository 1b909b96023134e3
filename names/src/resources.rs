//! Names of Kubernetes objects. Those of a named revision carry `-<revision>`.

use crate::DEFAULT_REVISION;

/// The mesh's namespace unless configured otherwise.
pub const MESH_NAMESPACE: &str = "istio-system";
/// The API group of our own kinds.
pub const API_GROUP: &str = "install.forestay.dev";
/// The operator's namespace.
pub const OPERATOR_NAMESPACE: &str = "forestay-system";
/// The operator's Deployment, ServiceAccount, Lease and field manager.
pub const OPERATOR: &str = "forestay-operator";
/// The field manager that keeps a Deployment's number of pods when the operator hands it over.
pub const REPLICAS_MANAGER: &str = "forestay-operator-replicas";
/// The field manager that starts pods anew whose ServiceAccount was made anew.
pub const TOKENS_MANAGER: &str = "forestay-operator-tokens";
/// The policy that keeps the operator in place while there is a MeshInstall, and its binding.
pub const GUARD: &str = "forestay-operator-guard";
/// The finalizer on a MeshInstall.
pub const FINALIZER: &str = "install.forestay.dev/finalizer";
/// The ConfigMap with the mesh's root certificate, in every namespace.
pub const ROOT_CERT_CONFIG_MAP: &str = "istio-ca-root-cert";
/// The key of [`ROOT_CERT_CONFIG_MAP`].
pub const ROOT_CERT_KEY: &str = "root-cert.pem";
/// The Secret of the self-signed certificate authority.
pub const CA_SECRET: &str = "istio-ca-secret";
/// The Lease by which control planes of one namespace agree who signs and writes.
pub const ISTIOD_LEASE: &str = "istiod-leader";
/// The Secret of a certificate authority that the user brought.
pub const PLUGGED_CA_SECRET: &str = "cacerts";
/// The Secret of the webhook's own certificate authority (keys `ca-cert.pem`, `ca-key.pem`).
pub const WEBHOOK_CA_SECRET: &str = "istio-sidecar-injector-ca";
/// The default ingress gateway's Deployment, Service and ServiceAccount prefix.
pub const INGRESS_GATEWAY: &str = "istio-ingressgateway";
/// The egress gateway's Deployment, Service and ServiceAccount prefix.
pub const EGRESS_GATEWAY: &str = "istio-egressgateway";

/// `base` for the default revision, `base-<revision>` for a named one.
pub fn revisioned(base: &str, revision: &str) -> String {
    if revision.is_empty() || revision == DEFAULT_REVISION { base.to_owned() } else { format!("{base}-{revision}") }
}

/// The control plane's Deployment, Service and ServiceAccount.
pub fn istiod(revision: &str) -> String {
    revisioned("istiod", revision)
}

/// The webhook's Deployment, Service, ServiceAccount, ConfigMap and MutatingWebhookConfiguration.
pub fn injector(revision: &str) -> String {
    revisioned("istio-sidecar-injector", revision)
}

/// The ConfigMap with the MeshConfig, key `mesh`.
pub fn mesh_config(revision: &str) -> String {
    revisioned("istio", revision)
}

/// The ValidatingWebhookConfiguration of a revision: `istio-validator[-<revision>]-<mesh namespace>`.
pub fn validator(revision: &str, mesh_namespace: &str) -> String {
    format!("{}-{mesh_namespace}", revisioned("istio-validator", revision))
}

#[cfg(test)]
mod tests {
    use super::{injector, istiod, mesh_config, validator};

    #[test]
    fn only_a_named_revision_has_a_suffix() {
        assert_eq!(istiod("default"), "istiod");
        assert_eq!(istiod(""), "istiod");
        assert_eq!(injector("canary"), "istio-sidecar-injector-canary");
        assert_eq!(mesh_config("canary"), "istio-canary");
        assert_eq!(validator("default", "istio-system"), "istio-validator-istio-system");
        assert_eq!(validator("canary", "mesh"), "istio-validator-canary-mesh");
    }
}
