//! TLS, on both sides.

use std::net::IpAddr;
use std::sync::Arc;

use super::text::TextMatch;

/// How a chain terminates TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownstreamTls {
    /// The certificate that is shown.
    pub certificate: Certificate,
    /// What a client's certificate must fulfil, if one is asked for.
    pub validation: Option<Validation>,
    /// Whether a client without a certificate is refused.
    pub require_client_certificate: bool,
    /// ALPN, in our order of preference.
    pub alpn: Box<[Box<str>]>,
    /// The lowest version; the library's default otherwise.
    pub min_version: Option<TlsVersion>,
    /// The highest version; the library's default otherwise.
    pub max_version: Option<TlsVersion>,
}

/// How a connection to an endpoint is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamTransport {
    /// Not at all.
    Plaintext,
    /// By TLS.
    Tls(Arc<UpstreamTls>),
}

/// TLS to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The server name that is sent.
    pub sni: Option<Box<str>>,
    /// Whether the server name is the request's host instead.
    pub auto_sni: bool,
    /// Whether the server's certificate must be for the server name.
    pub auto_san_validation: bool,
    /// Our certificate, if we show one.
    pub certificate: Option<Certificate>,
    /// What the server's certificate must fulfil; `None` accepts any.
    pub validation: Option<Validation>,
    /// ALPN, in our order of preference.
    pub alpn: Arc<[Box<str>]>,
    /// The lowest version; the library's default otherwise.
    pub min_version: Option<TlsVersion>,
    /// The highest version; the library's default otherwise.
    pub max_version: Option<TlsVersion>,
}

/// Where a certificate and its key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// The proxy's own, by the name `default`.
    Workload,
    /// A named secret (gateways).
    Named(Arc<str>),
    /// Files in the pod.
    Files {
        /// The chain, PEM.
        chain: Box<str>,
        /// The key, PEM.
        key: Box<str>,
    },
}

/// What a peer's certificate must fulfil.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// What it must chain to.
    pub roots: Roots,
    /// It must have one of these names; any will do if empty.
    pub subject_alt_names: Box<[NameMatch]>,
}

/// How a name of a certificate is compared with a configured one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameMatch {
    /// The kind of name; any if unset.
    pub kind: Option<NameKind>,
    /// What it must be.
    pub text: TextMatch,
}

/// The kinds of names in a certificate that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A URI, such as a SPIFFE identity.
    Uri,
    /// A DNS name.
    Dns,
    /// An IP address.
    Address,
}

impl NameMatch {
    /// Whether a URI of a certificate is one.
    pub fn matches_uri(&self, uri: &str) -> bool {
        self.is_for(NameKind::Uri) && self.text.matches(uri.as_bytes())
    }

    /// Whether a DNS name of a certificate is one. An exact DNS name is also met by a name with a wildcard, whose `*`
    /// stands for the whole left-most label (RFC 6125, section 6.4.3); neither minds case.
    pub fn matches_dns(&self, name: &str) -> bool {
        if !self.is_for(NameKind::Dns) {
            return false;
        }
        match &self.text {
            TextMatch::Exact { value, .. } => names_host(name, value),
            text => text.matches(name.as_bytes()),
        }
    }

    /// Whether an address of a certificate is one. It is compared as the shortest way to write it.
    pub fn matches_address(&self, address: IpAddr) -> bool {
        self.is_for(NameKind::Address) && self.text.matches(address.to_string().as_bytes())
    }

    fn is_for(&self, kind: NameKind) -> bool {
        self.kind.is_none_or(|own| own == kind)
    }
}

/// Whether a DNS name in a certificate, which may begin with `*.`, is for `host`.
fn names_host(name: &str, host: &str) -> bool {
    let wildcard = |domain: &str| {
        let Some((label, rest)) = host.split_once('.') else { return false };
        // `*.*.example.com` and `*` alone are for nobody.
        !label.is_empty() && !domain.is_empty() && !domain.contains('*') && rest.eq_ignore_ascii_case(domain)
    };
    name.eq_ignore_ascii_case(host) || name.strip_prefix("*.").is_some_and(wildcard)
}

/// Where trusted roots come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The mesh's, by the name `ROOTCA`.
    Mesh,
    /// A named secret.
    Named(Arc<str>),
    /// A file in the pod, PEM.
    File(Box<str>),
    /// In the configuration itself, PEM.
    Inline(Arc<str>),
    /// The system's.
    System,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2; what is older is not spoken.
    V1_2,
    /// 1.3.
    V1_3,
}
