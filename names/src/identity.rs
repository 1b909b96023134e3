//! SPIFFE identities: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::fmt;

/// The trust domain unless configured otherwise.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// The audience of the service account token that a proxy shows to the certificate authority.
pub const TOKEN_AUDIENCE: &str = "istio-ca";

/// The identity of a workload in the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    /// The trust domain, `cluster.local`.
    pub trust_domain: String,
    /// The workload's namespace.
    pub namespace: String,
    /// The workload's service account.
    pub service_account: String,
}

impl SpiffeId {
    /// Puts an identity together from its parts.
    pub fn new(
        trust_domain: impl Into<String>,
        namespace: impl Into<String>,
        service_account: impl Into<String>,
    ) -> Self {
        Self { trust_domain: trust_domain.into(), namespace: namespace.into(), service_account: service_account.into() }
    }

    /// Reads `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; anything else is `None`.
    pub fn parse(uri: &str) -> Option<Self> {
        let (trust_domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
        let (namespace, service_account) = path.strip_prefix("ns/")?.split_once("/sa/")?;
        let whole = |part: &str| !part.is_empty() && !part.contains('/');
        (whole(trust_domain) && whole(namespace) && whole(service_account))
            .then(|| Self::new(trust_domain, namespace, service_account))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

#[cfg(test)]
mod tests {
    use super::SpiffeId;

    #[test]
    fn an_identity_reads_back_what_it_writes() {
        let id = SpiffeId::new("cluster.local", "default", "bookinfo-reviews");
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/default/sa/bookinfo-reviews");
        assert_eq!(SpiffeId::parse(&id.to_string()), Some(id));
    }

    #[test]
    fn what_is_not_a_workload_identity_is_none() {
        for uri in [
            "",
            "https://cluster.local/ns/a/sa/b",
            "spiffe://cluster.local",
            "spiffe://cluster.local/ns/a",
            "spiffe://cluster.local/ns//sa/b",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe:///ns/a/sa/b",
        ] {
            assert_eq!(SpiffeId::parse(uri), None, "{uri}");
        }
    }
}
