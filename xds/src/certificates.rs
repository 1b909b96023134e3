//! `istio.v1.auth.IstioCertificateService`: a signing request goes in, a certificate chain comes out.
//!
//! Istio's `security/v1alpha1/ca.proto` as Rust. It is one unary method, so messages, client and server are written
//! out here; no build script, no `protoc`.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Service, StdError};
use tonic::server::{NamedService, UnaryService};
use tonic::{GrpcMethod, Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::types::google::Struct;

const SERVICE: &str = "istio.v1.auth.IstioCertificateService";
const METHOD: &str = "CreateCertificate";
const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// A signing request is some 1 KB, a chain some 5 KB.
const MAX_MESSAGE: usize = 256 * 1024;

/// What a workload asks for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// The signing request, PEM. Only its public key counts.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// How long the certificate shall be valid, in seconds; the authority may shorten it.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// `ImpersonatedIdentity`, `CertSigner`.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Struct>,
}

/// What it gets.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateResponse {
    /// One PEM certificate per element: the leaf first, the root last.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

/// The service as a client sees it.
#[derive(Clone, Debug)]
pub struct IstioCertificateServiceClient<T> {
    inner: tonic::client::Grpc<T>,
}

impl<T> IstioCertificateServiceClient<T>
where
    T: tonic::client::GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    /// A client over a channel, or over a channel with an interceptor.
    pub fn new(channel: T) -> Self {
        Self { inner: tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE) }
    }

    /// A client over something that is no `Channel` and needs to be told scheme and authority.
    pub fn with_origin(channel: T, origin: http::Uri) -> Self {
        Self { inner: tonic::client::Grpc::with_origin(channel, origin).max_decoding_message_size(MAX_MESSAGE) }
    }

    /// Has a signing request signed.
    pub async fn create_certificate(
        &mut self,
        request: impl tonic::IntoRequest<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let not_ready = |error: T::Error| Status::unavailable(format!("control plane not ready: {}", error.into()));
        self.inner.ready().await.map_err(not_ready)?;
        let mut request = request.into_request();
        request.extensions_mut().insert(GrpcMethod::new(SERVICE, METHOD));
        self.inner.unary(request, http::uri::PathAndQuery::from_static(PATH), ProstCodec::default()).await
    }
}

/// The service as a certificate authority implements it.
#[tonic::async_trait]
pub trait IstioCertificateService: Send + Sync + 'static {
    /// Signs a signing request for the identity that the caller has proved.
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status>;
}

/// Serves an [`IstioCertificateService`] on a tonic server.
#[derive(Debug)]
pub struct IstioCertificateServiceServer<S> {
    inner: Arc<S>,
}

impl<S> IstioCertificateServiceServer<S> {
    /// Serves this implementation.
    pub fn new(inner: S) -> Self {
        Self::from_arc(Arc::new(inner))
    }

    /// Serves this shared implementation.
    pub fn from_arc(inner: Arc<S>) -> Self {
        Self { inner }
    }
}

impl<S> Clone for IstioCertificateServiceServer<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S> NamedService for IstioCertificateServiceServer<S> {
    const NAME: &'static str = SERVICE;
}

impl<S, B> Service<http::Request<B>> for IstioCertificateServiceServer<S>
where
    S: IstioCertificateService,
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != PATH {
            let message = format!("{SERVICE} has the one method {METHOD}");
            return Box::pin(async move { Ok(Status::unimplemented(message).into_http()) });
        }
        let method = CreateCertificate(Arc::clone(&self.inner));
        Box::pin(async move {
            let limit = Some(MAX_MESSAGE);
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default()).apply_max_message_size_config(limit, limit);
            Ok(grpc.unary(method, request).await)
        })
    }
}

struct CreateCertificate<S>(Arc<S>);

impl<S: IstioCertificateService> UnaryService<IstioCertificateRequest> for CreateCertificate<S> {
    type Response = IstioCertificateResponse;
    type Future = BoxFuture<Response<IstioCertificateResponse>, Status>;

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.create_certificate(request).await })
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Request, Response, Status};

    use super::{
        IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService, IstioCertificateServiceClient,
        IstioCertificateServiceServer,
    };

    struct Authority;

    #[tonic::async_trait]
    impl IstioCertificateService for Authority {
        async fn create_certificate(
            &self,
            request: Request<IstioCertificateRequest>,
        ) -> Result<Response<IstioCertificateResponse>, Status> {
            let request = request.into_inner();
            if request.csr.is_empty() {
                return Err(Status::invalid_argument("csr is empty"));
            }
            Ok(Response::new(IstioCertificateResponse { cert_chain: vec![request.csr, "root".into()] }))
        }
    }

    // Client and server meet without a socket: a server is a service, and a client takes any service.
    #[tokio::test]
    async fn client_and_server_understand_each_other() {
        let mut client = IstioCertificateServiceClient::new(IstioCertificateServiceServer::new(Authority));
        let request =
            |csr: &str| IstioCertificateRequest { csr: csr.into(), validity_duration: 86_400, metadata: None };

        let response = client.create_certificate(request("leaf")).await.expect("signed");
        assert_eq!(response.into_inner().cert_chain, ["leaf", "root"]);

        let status = client.create_certificate(request("")).await.expect_err("refused");
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "csr is empty"));
    }
}
