//! The authority itself: loads what a Secret holds, and issues certificates from it.
//!
//! Comes in: PEM material, an authenticated identity, a signing request. Goes out: certificate chains, leaf first, root
//! last. Nothing here reads a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use names::identity::SpiffeId;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKey, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// How long a workload's certificate lives unless the request says otherwise (`DEFAULT_WORKLOAD_CERT_TTL`).
pub(crate) const DEFAULT_TTL: Duration = Duration::from_hours(24);
/// The longest life that a request is granted (`MAX_WORKLOAD_CERT_TTL`).
pub(crate) const MAX_TTL: Duration = Duration::from_hours(90 * 24);
/// The life of a self-signed root (`CITADEL_SELF_SIGNED_CA_CERT_TTL`).
const ROOT_TTL: Duration = Duration::from_hours(10 * 365 * 24);
/// Certificates start to be valid this long before they are issued, because clocks differ.
const CLOCK_SKEW: Duration = Duration::from_mins(2);
/// The DER length of an RSA-2048 public key with exponent 65537; a shorter one is a weaker key.
const RSA_2048_PUBLIC_KEY: usize = 270;

/// Why the authority cannot be loaded or does not sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("key {key} is missing or empty")]
    Missing { key: &'static str },
    #[error("key {key} holds no PEM certificate")]
    NoCertificate { key: &'static str },
    #[error("key ca-key.pem holds no private key that can sign (PKCS#8, SEC1 or PKCS#1 in PEM): {0}")]
    Key(rcgen::Error),
    #[error("the certificate in ca-cert.pem cannot be read: {0}")]
    Certificate(String),
    #[error("the certificate in ca-cert.pem must not sign certificates (basic constraint CA is not set)")]
    NotAnAuthority,
    #[error("the private key in ca-key.pem does not belong to the certificate in ca-cert.pem")]
    KeyMismatch,
    #[error("the certificate in ca-cert.pem expired at {}", seconds(*not_after))]
    Expired { not_after: SystemTime },
    #[error("the certificate signing request cannot be used: {0}")]
    Request(rcgen::Error),
    #[error("the certificate signing request has a weak public key: at least RSA 2048 or a P-256 key is needed")]
    WeakKey,
    #[error("the certificate cannot be signed: {0}")]
    Sign(rcgen::Error),
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What a CA Secret holds, under the keys that Istio uses.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Material {
    /// `ca-cert.pem`: the certificate that signs.
    pub(crate) ca_cert: String,
    /// `ca-key.pem`: its private key.
    pub(crate) ca_key: String,
    /// `cert-chain.pem`: from the signing certificate up to the root, which it may leave out.
    pub(crate) cert_chain: String,
    /// `root-cert.pem`: what proxies trust; during a rotation more than one certificate.
    pub(crate) root_cert: String,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("root_cert", &self.root_cert).finish_non_exhaustive()
    }
}

impl Material {
    /// The keys of the Secret.
    pub(crate) const CA_CERT: &str = "ca-cert.pem";
    pub(crate) const CA_KEY: &str = "ca-key.pem";
    pub(crate) const CERT_CHAIN: &str = "cert-chain.pem";
    pub(crate) const ROOT_CERT: &str = "root-cert.pem";

    /// Makes a new self-signed root for `trust_domain`, valid for ten years.
    pub(crate) fn self_signed(trust_domain: &str, now: SystemTime) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(Error::Sign)?;
        Self::self_signed_by(trust_domain, &key, now)
    }

    /// A new self-signed root for the key of the old one. Certificates under either verify against both, so that a root
    /// can be renewed without a moment in which half of the mesh does not trust the other.
    pub(crate) fn renewed(&self, trust_domain: &str, now: SystemTime) -> Result<Self, Error> {
        let key = KeyPair::from_pem(&self.ca_key).map_err(Error::Key)?;
        Self::self_signed_by(trust_domain, &key, now)
    }

    fn self_signed_by(trust_domain: &str, key: &KeyPair, now: SystemTime) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        set_validity(&mut params, before(now), now + ROOT_TTL);
        params.serial_number = Some(serial()?);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let pem = params.self_signed(key).map_err(Error::Sign)?.pem();
        Ok(Self { ca_cert: pem.clone(), ca_key: key.serialize_pem(), cert_chain: pem.clone(), root_cert: pem })
    }
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// One PEM for each certificate: leaf first, root last.
    pub(crate) chain: Vec<String>,
    /// When the leaf expires.
    pub(crate) not_after: SystemTime,
}

/// A loaded authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What follows a leaf: intermediates in order, then the root.
    above: Vec<String>,
    /// The trusted roots, as they stand in `root-cert.pem`.
    root_pem: String,
    roots: Vec<CertificateDer<'static>>,
    not_before: SystemTime,
    not_after: SystemTime,
    root_not_after: SystemTime,
}

impl Authority {
    /// Loads and checks `material`; an expired certificate or a key that does not belong is refused, so that the last
    /// good authority stays in use.
    pub(crate) fn load(material: &Material, now: SystemTime) -> Result<Self, Error> {
        let ca = certificates(&material.ca_cert, Material::CA_CERT)?;
        let ca = ca.into_iter().next().ok_or(Error::NoCertificate { key: Material::CA_CERT })?;
        let roots = certificates(&material.root_cert, Material::ROOT_CERT)?;
        if material.ca_key.trim().is_empty() {
            return Err(Error::Missing { key: Material::CA_KEY });
        }
        let key = KeyPair::from_pem(&material.ca_key).map_err(Error::Key)?;

        let validity = Validity::of(&ca)?;
        if !validity.is_ca {
            return Err(Error::NotAnAuthority);
        }
        if validity.public_key != key.subject_public_key_info() {
            return Err(Error::KeyMismatch);
        }
        if validity.not_after <= now {
            return Err(Error::Expired { not_after: validity.not_after });
        }
        let root_not_after = roots
            .iter()
            .map(|root| Validity::of(root).map(|validity| validity.not_after))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .max()
            .unwrap_or(validity.not_after);

        let issuer = Issuer::from_ca_cert_der(&ca, key).map_err(|error| Error::Certificate(error.to_string()))?;
        Ok(Self {
            above: above(&ca, &material.cert_chain, &roots),
            issuer,
            root_pem: material.root_cert.clone(),
            roots,
            not_before: validity.not_before,
            not_after: validity.not_after,
            root_not_after,
        })
    }

    /// The trusted roots in PEM: what goes into `istio-ca-root-cert`.
    pub(crate) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The trusted roots.
    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// From when to when the signing certificate is valid.
    pub(crate) fn validity(&self) -> (SystemTime, SystemTime) {
        (self.not_before, self.not_after)
    }

    /// When the last of the trusted roots expires.
    pub(crate) fn root_not_after(&self) -> SystemTime {
        self.root_not_after
    }

    /// Signs `csr` for `identity`. The identity is the authenticated one: whatever names the request carries are
    /// ignored, only its public key is used, after its signature has proved possession of the private key.
    pub(crate) fn sign_request(
        &self,
        csr: &str,
        identity: &SpiffeId,
        ttl: Option<Duration>,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        let request = CertificateSigningRequestParams::from_pem(csr).map_err(Error::Request)?;
        check_strength(&request.public_key)?;
        let ttl = match ttl {
            None | Some(Duration::ZERO) => DEFAULT_TTL,
            Some(ttl) => ttl.min(MAX_TTL),
        };
        let uri = Ia5String::try_from(identity.to_string()).map_err(Error::Sign)?;
        self.issue(&request.public_key, vec![SanType::URI(uri)], ttl, now)
    }

    /// Issues a certificate for a server of ours: a new key, and `dns_names`. Returns the chain and the key's PKCS#8 DER.
    pub(crate) fn issue_server(
        &self,
        dns_names: &[String],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<(Issued, Vec<u8>), Error> {
        let key = KeyPair::generate().map_err(Error::Sign)?;
        let names = dns_names
            .iter()
            .map(|name| Ok(SanType::DnsName(Ia5String::try_from(name.as_str())?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::Sign)?;
        Ok((self.issue(&key, names, ttl, now)?, key.serialize_der()))
    }

    fn issue(
        &self,
        key: &impl PublicKeyData,
        names: Vec<SanType>,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.serial_number = Some(serial()?);
        // A leaf that outlived its issuer would fail verification while looking valid.
        let not_after = (now + ttl).min(self.not_after);
        set_validity(&mut params, before(now), not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(key, &self.issuer).map_err(Error::Sign)?;
        let chain = std::iter::once(leaf.pem()).chain(self.above.iter().cloned()).collect();
        Ok(Issued { chain, not_after })
    }
}

/// The public key of a request must be as strong as the certificates that the mesh relies on.
fn check_strength(key: &PublicKey) -> Result<(), Error> {
    let rsa = [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_RSA_SHA384, &rcgen::PKCS_RSA_SHA512];
    if rsa.contains(&key.algorithm()) && key.der_bytes().len() < RSA_2048_PUBLIC_KEY {
        return Err(Error::WeakKey);
    }
    Ok(())
}

/// What follows a leaf: the signing certificate unless it is a root itself, the rest of the chain, and the root.
fn above(ca: &CertificateDer<'static>, cert_chain: &str, roots: &[CertificateDer<'static>]) -> Vec<String> {
    let mut above: Vec<CertificateDer<'static>> = vec![ca.clone()];
    let chain = CertificateDer::pem_slice_iter(cert_chain.as_bytes()).filter_map(Result::ok);
    for certificate in chain.chain(roots.iter().cloned()) {
        if !above.contains(&certificate) {
            above.push(certificate);
        }
    }
    // Roots last, and a renewed root only once: of several roots the peer needs the one that it knows already.
    let (roots, mut intermediates): (Vec<_>, Vec<_>) =
        above.into_iter().partition(|certificate| roots.contains(certificate));
    intermediates.extend(roots);
    intermediates.iter().map(|certificate| pem(certificate)).collect()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::with_capacity(body.len() + body.len() / 64 + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).unwrap_or_default());
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn certificates(pem: &str, key: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    if pem.trim().is_empty() {
        return Err(Error::Missing { key });
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Error::NoCertificate { key }),
    }
}

struct Validity {
    not_before: SystemTime,
    not_after: SystemTime,
    is_ca: bool,
    public_key: Vec<u8>,
}

impl Validity {
    fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(certificate).map_err(|error| Error::Certificate(error.to_string()))?;
        let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Ok(Self {
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            is_ca: parsed.is_ca(),
            public_key: parsed.public_key().raw.to_vec(),
        })
    }
}

/// The workload identity in a verified certificate: its SPIFFE URI. Two different ones are none.
pub(crate) fn identity_of(certificate: &CertificateDer<'_>) -> Option<SpiffeId> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut identities = names.value.general_names.iter().filter_map(|name| match name {
        x509_parser::extensions::GeneralName::URI(uri) => SpiffeId::parse(uri),
        _ => None,
    });
    let identity = identities.next()?;
    identities.all(|other| other == identity).then_some(identity)
}

fn before(now: SystemTime) -> SystemTime {
    now.checked_sub(CLOCK_SKEW).unwrap_or(UNIX_EPOCH)
}

/// rcgen's times are made here in one place, so that its time crate needs no name of ours.
fn set_validity(params: &mut CertificateParams, not_before: SystemTime, not_after: SystemTime) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(seconds(not_before));
    params.not_after = epoch + Duration::from_secs(seconds(not_after));
}

fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0_u8; 16];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Error::Sign(rcgen::Error::RingUnspecified))?;
    bytes[0] &= 0x7f; // positive, as RFC 5280 section 4.1.2.2 asks
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn authority() -> Authority {
        Authority::load(&Material::self_signed("cluster.local", now()).unwrap(), now()).unwrap()
    }

    fn request(names: &[&str]) -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        (CertificateParams::new(names).unwrap().serialize_request(&key).unwrap().pem().unwrap(), key)
    }

    fn reviews() -> SpiffeId {
        SpiffeId::new("cluster.local", "default", "bookinfo-reviews")
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    /// Verifies as a proxy does: against the roots, for a client, at a time.
    fn verify(authority: &Authority, chain: &[String], at: SystemTime) -> Result<(), String> {
        let mut roots = rustls::RootCertStore::empty();
        for root in authority.roots() {
            roots.add(root.clone()).unwrap();
        }
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .map_err(|error| error.to_string())?;
        let ders: Vec<_> = chain.iter().map(|pem| der(pem)).collect();
        let time = rustls_pki_types::UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap());
        verifier.verify_client_cert(&ders[0], &ders[1..], time).map(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_issued_chain_verifies_and_carries_the_identity() {
        let authority = authority();
        let (csr, key) = request(&[]);
        let issued = authority.sign_request(&csr, &reviews(), None, now()).unwrap();
        assert_eq!(issued.chain.len(), 2, "leaf first, root last");
        assert_eq!(issued.chain[1].replace("\r\n", "\n"), authority.root_pem().replace("\r\n", "\n"));
        assert_eq!(identity_of(&der(&issued.chain[0])), Some(reviews()));
        let leaf = Validity::of(&der(&issued.chain[0])).unwrap();
        assert_eq!(leaf.public_key, key.subject_public_key_info(), "the key is the request's");
        assert!(!leaf.is_ca);
        verify(&authority, &issued.chain, now()).unwrap();
        verify(&authority, &issued.chain, now() - Duration::from_mins(1)).unwrap();
        verify(&authority, &issued.chain, now() + 25 * HOUR).unwrap_err();
    }

    #[test]
    fn names_in_the_request_are_ignored() {
        let (csr, _) = request(&["kubernetes.default.svc", "other.example"]);
        let issued = authority().sign_request(&csr, &reviews(), None, now()).unwrap();
        let leaf = der(&issued.chain[0]);
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let names: Vec<String> = parsed
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["URI(spiffe://cluster.local/ns/default/sa/bookinfo-reviews)"]);
    }

    #[test]
    fn the_life_of_a_certificate_is_capped() {
        let authority = authority();
        let (csr, _) = request(&[]);
        for (name, asked, got) in [
            ("nothing asked", None, DEFAULT_TTL),
            ("zero asked", Some(Duration::ZERO), DEFAULT_TTL),
            ("an hour", Some(HOUR), HOUR),
            ("a year", Some(365 * 24 * HOUR), MAX_TTL),
        ] {
            let issued = authority.sign_request(&csr, &reviews(), asked, now()).unwrap();
            assert_eq!(issued.not_after, now() + got, "{name}");
            assert_eq!(Validity::of(&der(&issued.chain[0])).unwrap().not_after, issued.not_after, "{name}");
        }
        let late = authority.validity().1 - HOUR;
        let issued = authority.sign_request(&csr, &reviews(), None, late).unwrap();
        assert_eq!(issued.not_after, authority.validity().1, "never longer than the issuer");
    }

    #[test]
    fn a_request_that_proves_nothing_is_refused() {
        let authority = authority();
        let (csr, _) = request(&[]);
        let body: String = csr.lines().filter(|line| !line.starts_with("-----")).collect();
        let mut bytes = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(body.replace('\r', "")).unwrap()
        };
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let forged = super::pem(&bytes.into()).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        for (name, csr) in [("empty", ""), ("not PEM", "hello"), ("forged signature", forged.as_str())] {
            assert!(matches!(authority.sign_request(csr, &reviews(), None, now()), Err(Error::Request(_))), "{name}");
        }
    }

    #[test]
    fn material_that_cannot_work_says_why() {
        let good = Material::self_signed("cluster.local", now()).unwrap();
        let other = Material::self_signed("cluster.local", now()).unwrap();
        let leaf = {
            let (csr, key) = request(&[]);
            let authority = Authority::load(&good, now()).unwrap();
            let issued = authority.sign_request(&csr, &reviews(), None, now()).unwrap();
            Material { ca_cert: issued.chain[0].clone(), ca_key: key.serialize_pem(), ..good.clone() }
        };
        let rows = [
            ("no key", Material { ca_key: String::new(), ..good.clone() }, now(), "ca-key.pem is missing"),
            ("no root", Material { root_cert: String::new(), ..good.clone() }, now(), "root-cert.pem is missing"),
            ("no PEM", Material { ca_cert: "x".into(), ..good.clone() }, now(), "ca-cert.pem holds no PEM"),
            ("other key", Material { ca_key: other.ca_key, ..good.clone() }, now(), "does not belong"),
            ("a leaf", leaf, now(), "must not sign"),
            ("expired", good.clone(), now() + 11 * 365 * 24 * HOUR, "expired"),
        ];
        for (name, material, at, expected) in rows {
            let error = Authority::load(&material, at).err().expect(name).to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        assert!(!format!("{good:?}").contains("PRIVATE"), "a private key is never printed");
    }

    #[test]
    fn a_plugged_in_intermediate_stands_between_leaf_and_root() {
        let root = Material::self_signed("example.org", now()).unwrap();
        let root_issuer = Issuer::from_ca_cert_pem(&root.ca_cert, KeyPair::from_pem(&root.ca_key).unwrap()).unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "intermediate");
        set_validity(&mut params, now(), now() + 1000 * HOUR);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_cert = params.signed_by(&key, &root_issuer).unwrap().pem();
        let material = Material {
            cert_chain: format!("{ca_cert}{}", root.root_cert),
            ca_cert,
            ca_key: key.serialize_pem(),
            root_cert: root.root_cert,
        };
        let authority = Authority::load(&material, now()).unwrap();
        let (csr, _) = request(&[]);
        let issued = authority.sign_request(&csr, &reviews(), None, now()).unwrap();
        assert_eq!(issued.chain.len(), 3);
        verify(&authority, &issued.chain, now()).unwrap();
    }

    #[test]
    fn a_renewed_root_and_the_old_one_trust_each_others_leaves() {
        let old = Material::self_signed("cluster.local", now()).unwrap();
        let later = now() + 9 * 365 * 24 * HOUR;
        let new = old.renewed("cluster.local", later).unwrap();
        let (old, new) = (Authority::load(&old, later).unwrap(), Authority::load(&new, later).unwrap());
        let (csr, _) = request(&[]);
        let from_old = old.sign_request(&csr, &reviews(), None, later).unwrap();
        let from_new = new.sign_request(&csr, &reviews(), None, later).unwrap();
        verify(&new, &from_old.chain, later).unwrap();
        verify(&old, &from_new.chain, later).unwrap();
    }
}
