//! Who the peer is.
//!
//! Chains are verified during a full handshake; a resumed one skips that. So what depends on the present (names, trust domain,
//! expiry) is judged by [`check_peer`] after every handshake, full or resumed, before a byte is sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::ir::tls::NameMatch;
use names::identity::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::provider;

/// What matters of a peer's own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its SPIFFE identity, if it has exactly one URI and that is one.
    pub spiffe: Option<SpiffeId>,
    /// URIs among its names.
    pub uris: Vec<String>,
    /// DNS names among its names.
    pub dns: Vec<String>,
    /// IP addresses among its names.
    pub addresses: Vec<IpAddr>,
    /// Its subject, as RFC 2253 writes it.
    pub subject: String,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Not valid before, in seconds since 1970.
    pub not_before: i64,
    /// Not valid after, in seconds since 1970.
    pub not_after: i64,
}

impl Leaf {
    /// Reads a certificate.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        use sha2::Digest;
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| format!("not a certificate: {error}"))?;
        let names =
            certificate.subject_alternative_name().map_err(|error| format!("subject alternative name: {error}"))?;
        let (mut uris, mut dns, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                GeneralName::IPAddress(octets) => addresses.extend(address(octets)),
                _ => {}
            }
        }
        // An SVID has exactly one URI (SPIFFE, X509-SVID, section 2).
        let spiffe = if let [uri] = uris.as_slice() { SpiffeId::parse(uri) } else { None };
        let mut parts: Vec<_> = certificate.subject().iter_rdn().map(rdn).collect();
        parts.reverse();
        Ok(Self {
            spiffe,
            uris,
            dns,
            addresses,
            subject: parts.join(","),
            fingerprint: hex(&sha2::Sha256::digest(der)),
            serial: hex(certificate.raw_serial()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// Four octets or sixteen (RFC 5280, section 4.2.1.6); others are no address.
fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn rdn(rdn: &x509_parser::x509::RelativeDistinguishedName<'_>) -> String {
    let parts = rdn.iter().map(|attribute| {
        let kind = x509_parser::objects::oid2abbrev(attribute.attr_type(), x509_parser::objects::oid_registry());
        let kind = kind.map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
        format!("{kind}={}", attribute.as_str().unwrap_or_default())
    });
    parts.collect::<Vec<_>>().join("+")
}

/// What is expected of a peer beside a chain to a trusted root.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// It has one of these names; any will do if empty.
    pub names: &'a [NameMatch],
    /// It is for this server name.
    pub server_name: Option<&'a str>,
    /// It must be a workload of the mesh.
    pub workload: bool,
}

/// Judges a peer by its certificate: **the one function for every handshake, full or resumed.**
pub fn check_peer(certificate: &CertificateDer<'_>, expected: Expected<'_>, now: SystemTime) -> Result<Leaf, String> {
    let leaf = Leaf::read(certificate)?;
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    // A clock may be a little behind the authority's that signed the certificate a moment ago.
    if now.saturating_add(60) < leaf.not_before {
        return Err(format!("certificate of {} is not valid yet", name(&leaf)));
    }
    if now > leaf.not_after {
        return Err(format!("certificate of {} has expired", name(&leaf)));
    }
    if expected.workload && leaf.spiffe.is_none() {
        return Err(format!("{} is no workload of the mesh: its certificate has no SPIFFE identity", name(&leaf)));
    }
    if !expected.names.is_empty() {
        let is_one = |name: &NameMatch| {
            leaf.uris.iter().any(|uri| name.matches_uri(uri))
                || leaf.dns.iter().any(|own| name.matches_dns(own))
                || leaf.addresses.iter().any(|address| name.matches_address(*address))
        };
        if !expected.names.iter().any(is_one) {
            return Err(format!("{} is not who is expected there", name(&leaf)));
        }
    }
    if let Some(wanted) = expected.server_name {
        let fits = || {
            let name = ServerName::try_from(wanted).ok()?;
            let parsed = ParsedCertificate::try_from(certificate).ok()?;
            rustls::client::verify_server_name(&parsed, &name).ok()
        };
        fits().ok_or_else(|| format!("certificate of {} is not for {wanted}", name(&leaf)))?;
    }
    Ok(leaf)
}

fn name(leaf: &Leaf) -> &str {
    leaf.uris.first().or_else(|| leaf.dns.first()).map_or(leaf.subject.as_str(), String::as_str)
}

/// Verifies that a server's chain ends at a trusted root, unless a rule says that any chain will do; its names are
/// [`check_peer`]'s business. Signatures are verified in any case.
#[derive(Debug)]
pub(crate) struct ChainVerifier {
    /// `None` trusts any chain.
    roots: Option<Arc<RootCertStore>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ChainVerifier {
    /// Accepts chains that end at one of these.
    pub(crate) fn trusting(roots: Arc<RootCertStore>) -> Arc<Self> {
        Self::new(Some(roots))
    }

    /// Accepts any chain, where a rule says that the server is not verified.
    pub(crate) fn any() -> Arc<Self> {
        Self::new(None)
    }

    fn new(roots: Option<Arc<RootCertStore>>) -> Arc<Self> {
        Arc::new(Self { roots, algorithms: provider().signature_verification_algorithms })
    }
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
