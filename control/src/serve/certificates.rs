//! The certificate service: an authenticated caller gets a certificate for who it is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tonic::{Request, Response, Status};
use xds::certificates::{IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService};

use super::authenticate::Authenticator;
use super::tls::Peer;
use crate::ca::authority::Error;
use crate::ca::store;
use crate::metrics::Metrics;

/// `istio.v1.auth.IstioCertificateService`.
pub(crate) struct Certificates {
    pub(crate) authority: store::Current,
    pub(crate) authenticator: Authenticator,
    pub(crate) metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl IstioCertificateService for Certificates {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.metrics.csr_count.inc();
        let Some(peer) = request.extensions().get::<Peer>() else {
            self.metrics.internal_errors.inc();
            return Err(Status::internal("the connection is not known"));
        };
        let identity = self
            .authenticator
            .identity(peer, request.metadata())
            .await
            .inspect_err(|_| self.metrics.authentication_failures.inc())?;
        let request = request.into_inner();
        let authority = self.authority.borrow().clone();
        let authority = authority.ok_or_else(|| Status::unavailable("the certificate authority is not loaded yet"))?;
        let ttl = u64::try_from(request.validity_duration).ok().map(Duration::from_secs);

        match authority.sign_request(&request.csr, &identity, ttl, SystemTime::now()) {
            Ok(issued) => {
                self.metrics.certificates_issued.inc();
                tracing::debug!("a certificate was issued for {identity}");
                Ok(Response::new(IstioCertificateResponse { cert_chain: issued.chain }))
            }
            Err(error @ (Error::Request(_) | Error::WeakKey)) => {
                self.metrics.csr_parsing_errors.inc();
                tracing::warn!("the signing request of {identity} was refused: {error}");
                Err(Status::invalid_argument(error.to_string()))
            }
            Err(error) => {
                self.metrics.csr_sign_errors.with(["CSR_ERROR"]).inc();
                tracing::error!("no certificate could be issued for {identity}: {error}");
                Err(Status::internal("the certificate could not be signed"))
            }
        }
    }
}
