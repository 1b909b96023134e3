//! The certificate authority of a control plane that has no Kubernetes to review tokens with.
//!
//! The control plane reads this authority from a folder (`--ca-dir`). A proxy gets its first certificate here instead
//! (`CA_ADDR`), whatever its token, and shows it to the control plane from then on. All of it stays in one namespace.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair, SanType,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status};
use xds::certificates::{
    IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService, IstioCertificateServiceServer,
};

/// The files of an authority, as the control plane reads them.
pub(crate) const ROOT: &str = "root-cert.pem";

/// Signs what it is asked to.
struct Signer(CertifiedIssuer<'static, KeyPair>);

#[tonic::async_trait]
impl IstioCertificateService for Signer {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let invalid = |error: rcgen::Error| Status::invalid_argument(error.to_string());
        let request = CertificateSigningRequestParams::from_pem(&request.into_inner().csr).map_err(invalid)?;
        let leaf = request.signed_by(&self.0).map_err(invalid)?;
        Ok(Response::new(IstioCertificateResponse { cert_chain: vec![leaf.pem(), self.0.pem()] }))
    }
}

/// Makes an authority, writes it into `folder`, and serves it until the process ends. Its address is what returns.
pub(crate) fn start(folder: &Path) -> Result<SocketAddr> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    for (name, text) in [
        ("ca-cert.pem", authority.pem()),
        ("ca-key.pem", authority.key().serialize_pem()),
        ("cert-chain.pem", String::new()),
        (ROOT, authority.pem()),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let acceptor = TlsAcceptor::from(Arc::new(tls(&authority)?));
    let service = IstioCertificateServiceServer::new(Signer(authority));

    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(serve(listener, acceptor, service)));
    Ok(address)
}

async fn serve(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    service: IstioCertificateServiceServer<Signer>,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?; // else an answer waits 40 ms for an acknowledgement
        let (acceptor, service) = (acceptor.clone(), service.clone());
        tokio::spawn(async move {
            // A proxy that hangs up says so itself.
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(tls), TowerToHyperService::new(service))
                .await;
        });
    }
}

fn tls(authority: &CertifiedIssuer<'static, KeyPair>) -> Result<ServerConfig> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.subject_alt_names = vec![SanType::DnsName("localhost".try_into()?)];
    let certificate = params.signed_by(&key, authority)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
