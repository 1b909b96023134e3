//! Who calls: by client certificate, else by token.

use std::sync::Arc;

use names::identity::SpiffeId;
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;
use translate::model::mesh::Mesh;
use xds::node::ProxyNode;

use super::tls::Peer;
use crate::ca::token::Reviewer;

/// What Istio answers, word for word: agents look for it.
const UNAUTHENTICATED: &str = "request authenticate failure";

/// Establishes identities.
#[derive(Clone)]
pub(crate) struct Authenticator {
    reviewer: Reviewer,
    mesh: watch::Receiver<Arc<Mesh>>,
}

impl Authenticator {
    pub(crate) fn new(reviewer: Reviewer, mesh: watch::Receiver<Arc<Mesh>>) -> Self {
        Self { reviewer, mesh }
    }

    /// The caller's identity. The reason of a refusal goes to our log, not to the caller.
    pub(crate) async fn identity(&self, peer: &Peer, metadata: &MetadataMap) -> Result<SpiffeId, Status> {
        if let Some(identity) = &peer.identity {
            if self.is_ours(identity) {
                return Ok(identity.clone());
            }
            tracing::warn!(peer = ?peer.address, "{identity} is of another trust domain than the mesh's");
            return Err(Status::unauthenticated(UNAUTHENTICATED));
        }
        let Some(token) = bearer(metadata) else {
            tracing::warn!(peer = ?peer.address, "a caller has neither a client certificate of the mesh nor a token");
            return Err(Status::unauthenticated(UNAUTHENTICATED));
        };
        let trust_domain = self.mesh.borrow().config.trust_domain.clone();
        self.reviewer.review(token, &trust_domain).await.map_err(|refusal| {
            tracing::warn!(peer = ?peer.address, "a token was refused: {refusal}");
            match refusal {
                // The API server's trouble is not the caller's fault: it shall try again.
                crate::ca::token::Refusal::Review(_) => Status::unavailable("the token cannot be reviewed now"),
                _ => Status::unauthenticated(UNAUTHENTICATED),
            }
        })
    }

    fn is_ours(&self, identity: &SpiffeId) -> bool {
        let mesh = self.mesh.borrow();
        identity.trust_domain == mesh.config.trust_domain
            || mesh.config.trust_domain_aliases.contains(&identity.trust_domain)
    }
}

fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let value = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// Whether `identity` may have the configuration that `node` asks for: only its own.
pub(crate) fn authorize(identity: &SpiffeId, node: &ProxyNode) -> Result<(), Status> {
    let claims = &node.metadata;
    let fits = identity.namespace == claims.namespace
        && (claims.service_account.is_empty() || identity.service_account == claims.service_account);
    if fits {
        return Ok(());
    }
    let message = format!(
        "{identity} may not have the configuration of namespace {:?}, service account {:?}",
        claims.namespace, claims.service_account
    );
    tracing::warn!(node = %node.id, "{message}");
    Err(Status::permission_denied(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xds::node::{NodeId, NodeMetadata};

    fn peer(identity: Option<&str>) -> Peer {
        Peer { address: None, identity: identity.and_then(SpiffeId::parse), authenticate: true }
    }

    #[tokio::test]
    async fn a_certificate_of_the_mesh_is_an_identity_and_nothing_else_is_without_an_api_server() {
        let mut mesh = Mesh::default();
        mesh.config.trust_domain_aliases = vec!["old.example".to_owned()];
        let (_sender, mesh) = watch::channel(Arc::new(mesh));
        let authenticator = Authenticator::new(Reviewer::new(None), mesh);
        let mut with_token = MetadataMap::new();
        with_token.insert("authorization", "Bearer abc".parse().unwrap());
        let rows = [
            ("certificate", peer(Some("spiffe://cluster.local/ns/a/sa/b")), MetadataMap::new(), true),
            ("certificate of an alias", peer(Some("spiffe://old.example/ns/a/sa/b")), MetadataMap::new(), true),
            ("certificate of elsewhere", peer(Some("spiffe://evil.example/ns/a/sa/b")), MetadataMap::new(), false),
            ("nothing", peer(None), MetadataMap::new(), false),
            ("a token nobody can review", peer(None), with_token, false),
        ];
        for (name, peer, metadata, good) in rows {
            let answer = authenticator.identity(&peer, &metadata).await;
            assert_eq!(answer.is_ok(), good, "{name}: {answer:?}");
            if let Err(status) = answer {
                assert_eq!(
                    (status.code(), status.message()),
                    (tonic::Code::Unauthenticated, UNAUTHENTICATED),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_bearer_token_is_what_follows_bearer() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("Bearer ", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", value.parse().unwrap());
            assert_eq!(bearer(&metadata), expected, "{value:?}");
        }
    }

    #[test]
    fn an_identity_gets_only_its_own_configuration() {
        let identity = SpiffeId::new("cluster.local", "default", "reviews");
        for (name, namespace, account, good) in [
            ("its own", "default", "reviews", true),
            ("no account claimed", "default", "", true),
            ("another account", "default", "ratings", false),
            ("another namespace", "other", "reviews", false),
        ] {
            let node = ProxyNode {
                id: NodeId::parse(&format!("sidecar~10.0.0.1~pod.{namespace}~{namespace}.svc.cluster.local")).unwrap(),
                metadata: NodeMetadata {
                    namespace: namespace.to_owned(),
                    service_account: account.to_owned(),
                    ..NodeMetadata::default()
                },
            };
            let answer = authorize(&identity, &node);
            assert_eq!(answer.is_ok(), good, "{name}");
            if let Err(status) = answer {
                assert_eq!(status.code(), tonic::Code::PermissionDenied, "{name}");
            }
        }
    }
}
