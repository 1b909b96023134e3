//! Certificates for the scenarios that change authorities.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use forestay_e2e::kube_box::KubeBox;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// An authority with its key, PEM.
pub(crate) struct Authority {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// The webhook's authority as it would be had it been made so long ago: same name, same key, other dates.
pub(crate) fn aged(key: &str, age: Duration) -> Result<String> {
    let mut params = parameters("istio-sidecar-injector-ca", 0);
    let now = SystemTime::now();
    params.not_before = (now - age).into();
    params.not_after = (now - age + Duration::from_hours(365 * 24)).into();
    Ok(params.self_signed(&KeyPair::from_pem(key)?)?.pem())
}

/// A root of the mesh's user, and an intermediate below it, called `name`.
pub(crate) fn plugged_in(name: &str) -> Result<(Authority, Authority)> {
    let (root_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let root_params = parameters("a root of my own", 1);
    let root = root_params.self_signed(&root_key)?.pem();
    let root_pem = root_key.serialize_pem();
    let cert = parameters(name, 0).signed_by(&key, &Issuer::new(root_params, root_key))?.pem();
    Ok((Authority { cert: root, key: root_pem }, Authority { cert, key: key.serialize_pem() }))
}

fn parameters(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Shakes hands with `address` as the API server does, trusting only `root`.
pub(crate) async fn trusted(kube: &KubeBox, address: SocketAddr, name: &str, root: &str) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).context("the root")?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = kube.connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let handshake = connector.connect(ServerName::try_from(name.to_owned())?, tcp);
    tokio::time::timeout(Duration::from_secs(20), handshake).await.context("no answer to a handshake")??;
    Ok(())
}
