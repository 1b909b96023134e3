//! A service account token becomes an identity: Kubernetes' TokenReview, audience `istio-ca`.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use names::identity::SpiffeId;

/// The audience that a proxy's token is projected for. A token for the API server itself is refused: whoever could read
/// one would otherwise be able to get the workload's certificate with it.
pub(crate) const AUDIENCE: &str = "istio-ca";

/// Why a token gives no identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("tokens cannot be reviewed without a Kubernetes API server")]
    NoReviewer,
    #[error("the token review failed: {0}")]
    Review(#[source] Box<kube::Error>),
    #[error("the API server does not accept the token: {0}")]
    Unauthenticated(String),
    #[error("the token is not for audience {AUDIENCE}")]
    Audience,
    #[error("the token belongs to {0:?}, which is not a service account")]
    NotAServiceAccount(String),
}

/// Turns tokens into identities.
#[derive(Clone)]
pub(crate) struct Reviewer {
    /// Absent when configuration comes from a folder: then only certificates count.
    client: Option<Client>,
}

impl Reviewer {
    pub(crate) fn new(client: Option<Client>) -> Self {
        Self { client }
    }

    /// The identity in `trust_domain` of the service account that `token` was issued to.
    pub(crate) async fn review(&self, token: &str, trust_domain: &str) -> Result<SpiffeId, Refusal> {
        let client = self.client.clone().ok_or(Refusal::NoReviewer)?;
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) },
            ..TokenReview::default()
        };
        let answer = Api::<TokenReview>::all(client)
            .create(&PostParams::default(), &review)
            .await
            .map_err(|error| Refusal::Review(Box::new(error)))?;
        identity(&answer.status.unwrap_or_default(), trust_domain)
    }
}

/// What a review says.
fn identity(status: &TokenReviewStatus, trust_domain: &str) -> Result<SpiffeId, Refusal> {
    if status.authenticated != Some(true) {
        return Err(Refusal::Unauthenticated(status.error.clone().unwrap_or_else(|| "no reason given".to_owned())));
    }
    // An API server that does not know audiences answers without any.
    if !status.audiences.as_ref().is_some_and(|audiences| audiences.iter().any(|audience| audience == AUDIENCE)) {
        return Err(Refusal::Audience);
    }
    let user = status.user.as_ref().and_then(|user| user.username.as_deref()).unwrap_or_default();
    user.strip_prefix("system:serviceaccount:")
        .and_then(|account| account.split_once(':'))
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains(':'))
        .map(|(namespace, name)| SpiffeId::new(trust_domain, namespace, name))
        .ok_or_else(|| Refusal::NotAServiceAccount(user.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;

    fn status(authenticated: bool, audiences: &[&str], user: &str) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(authenticated),
            audiences: (!audiences.is_empty()).then(|| audiences.iter().map(|&audience| audience.to_owned()).collect()),
            user: Some(UserInfo { username: Some(user.to_owned()), ..UserInfo::default() }),
            error: None,
        }
    }

    #[test]
    fn only_a_service_account_token_for_our_audience_is_an_identity() {
        let account = "system:serviceaccount:default:bookinfo-reviews";
        let rows = [
            (
                "accepted",
                status(true, &["istio-ca"], account),
                Ok("spiffe://cluster.local/ns/default/sa/bookinfo-reviews"),
            ),
            (
                "one of several",
                status(true, &["x", "istio-ca"], account),
                Ok("spiffe://cluster.local/ns/default/sa/bookinfo-reviews"),
            ),
            ("refused", status(false, &["istio-ca"], account), Err("does not accept")),
            ("for the API server", status(true, &["https://kubernetes.default.svc"], account), Err("not for audience")),
            ("no audience", status(true, &[], account), Err("not for audience")),
            ("a person", status(true, &["istio-ca"], "kubernetes-admin"), Err("not a service account")),
            ("no name", status(true, &["istio-ca"], "system:serviceaccount:default:"), Err("not a service account")),
            (
                "too many parts",
                status(true, &["istio-ca"], "system:serviceaccount:a:b:c"),
                Err("not a service account"),
            ),
            ("nothing", TokenReviewStatus::default(), Err("does not accept")),
        ];
        for (name, status, expected) in rows {
            match (identity(&status, "cluster.local"), expected) {
                (Ok(identity), Ok(expected)) => assert_eq!(identity.to_string(), expected, "{name}"),
                (Err(refusal), Err(expected)) => assert!(refusal.to_string().contains(expected), "{name}: {refusal}"),
                (got, expected) => panic!("{name}: {got:?} instead of {expected:?}"),
            }
        }
    }

    #[tokio::test]
    async fn without_an_api_server_no_token_counts() {
        let refusal = Reviewer::new(None).review("token", "cluster.local").await.unwrap_err();
        assert!(matches!(refusal, Refusal::NoReviewer));
    }

    #[tokio::test]
    async fn the_api_server_is_asked_for_our_audience() {
        let reviewer = Reviewer::new(Some(crate::api_server::ApiServer::new().client()));
        let identity = reviewer.review("default:bookinfo-reviews", "example.org").await.unwrap();
        assert_eq!(identity.to_string(), "spiffe://example.org/ns/default/sa/bookinfo-reviews");
        let refusal = reviewer.review("nonsense", "example.org").await.unwrap_err().to_string();
        assert!(refusal.contains("invalid bearer token"), "{refusal}");
    }
}
