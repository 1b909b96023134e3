//! A channel to the control plane.
//!
//! The server's certificate must be for the name that we dialled and chain to the mesh's root. We show our certificate
//! if we have one; otherwise each call carries the service account token, read anew because the kubelet renews it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, sign::SingleCertAndKey};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::tls::identity::{Identity, provider};

/// The time for TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A control plane that is gone without a word is noticed after this and [`KEEP_ALIVE_TIMEOUT`].
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the control plane is, and what proves both sides.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// `host:port`.
    pub address: String,
    /// The file with the mesh's root, PEM.
    pub roots: PathBuf,
    /// The file with the service account token.
    pub token: PathBuf,
}

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; is the volume mounted?")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file has no certificate in it.
    #[error("{path} has no usable certificate in it")]
    Roots {
        /// Which file.
        path: PathBuf,
    },
    /// The address is not one.
    #[error("the control plane's address {0:?} is not host:port")]
    Address(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS to the control plane: {0}")]
    Tls(#[from] rustls::Error),
    /// No connection.
    #[error("no connection to the control plane at {address}: {reason}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
}

/// Puts a token into a call, if there is one.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<tonic::metadata::Ascii>>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl ControlPlane {
    /// Connects with `identity`, or with the token when there is none or it has expired.
    pub async fn connect(&self, identity: Option<&Identity>) -> Result<(Channel, Bearer), ConnectError> {
        let identity = identity.filter(|identity| identity.not_after > SystemTime::now());
        let tls = Arc::new(self.tls(identity)?);
        let bearer = match identity {
            Some(_) => Bearer(None),
            None => Bearer(Some(self.bearer()?)),
        };
        let (host, _) = self.address.rsplit_once(':').ok_or_else(|| ConnectError::Address(self.address.clone()))?;
        let wrong = || ConnectError::Address(self.address.clone());
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| wrong())?;
        // tonic refuses `https` without its own TLS, so the scheme of the call is said apart from that of the endpoint.
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).map_err(|_| wrong())?;
        let origin: Uri = format!("https://{}", self.address).parse().map_err(|_| wrong())?;
        let address = self.address.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (tls, name, address) = (tls.clone(), name.clone(), address.clone());
            async move {
                let tcp = TcpStream::connect(&address).await?;
                tcp.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(TlsConnector::from(tls).connect(name, tcp).await?))
            }
        });
        let channel = endpoint
            .origin(origin)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector(connector)
            .await
            .map_err(|error| ConnectError::Connect { address: self.address.clone(), reason: chain(&error) })?;
        Ok((channel, bearer))
    }

    /// The mesh's roots, as the file has them now.
    pub fn read_roots(&self) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
        let pem = read(&self.roots)?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
        if certificates.is_empty() {
            return Err(ConnectError::Roots { path: self.roots.clone() });
        }
        Ok(certificates)
    }

    fn tls(&self, identity: Option<&Identity>) -> Result<ClientConfig, ConnectError> {
        let mut roots = RootCertStore::empty();
        for root in self.read_roots()? {
            roots.add(root)?;
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn bearer(&self) -> Result<MetadataValue<tonic::metadata::Ascii>, ConnectError> {
        let token = read(&self.token)?;
        let text = format!("Bearer {}", String::from_utf8_lossy(&token).trim());
        let mut value = MetadataValue::try_from(text).map_err(|_| ConnectError::File {
            path: self.token.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, "it is no token"),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConnectError> {
    std::fs::read(path).map_err(|source| ConnectError::File { path: path.to_owned(), source })
}

/// An error with all that caused it: tonic's own text is only "transport error".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
