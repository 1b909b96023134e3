//! The webhook's certificate authority: made by the operator, good for a year, replaced at two thirds.
//!
//! Every webhook replica mints its serving certificate from it. The API server trusts the certificates in `caBundle`:
//! the present one, and, for one lifetime of a serving certificate after a replacement, the one before. The mesh's own
//! authority has no part in this, so that admission works while the control plane is away.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// How long an authority is good for.
const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How old it is when the next one is made: two thirds.
const RENEWAL: SignedDuration = SignedDuration::from_hours(365 * 24 * 2 / 3);
/// How long a serving certificate may still be one of the authority before.
const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Clocks differ: a certificate is good from some time before it was made.
const BACKDATE: SignedDuration = SignedDuration::from_mins(10);

/// Key of the present certificate.
pub(crate) const CERT: &str = "ca-cert.pem";
/// Key of its private key.
pub(crate) const KEY: &str = "ca-key.pem";
/// Key of the certificate before, while it is still trusted.
pub(crate) const PREVIOUS_CERT: &str = "previous-ca-cert.pem";

/// The authority as the Secret holds it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct WebhookCa {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) previous: Option<String>,
    /// When the certificate was made.
    made: Timestamp,
}

impl std::fmt::Debug for WebhookCa {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookCa")
            .field("made", &self.made)
            .field("previous", &self.previous.is_some())
            .finish_non_exhaustive()
    }
}

impl WebhookCa {
    /// One whose texts are the same on every run, for goldens.
    #[cfg(test)]
    pub(crate) fn fixed(cert: &str, key: &str) -> Self {
        Self { cert: cert.to_owned(), key: key.to_owned(), previous: None, made: Timestamp::UNIX_EPOCH }
    }

    /// Makes a new authority.
    pub(crate) fn generate(now: Timestamp) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "istio-sidecar-injector-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // rcgen speaks the `time` crate's dates; the sum of its epoch and a duration is one.
        let date = |time: Timestamp| {
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default())
        };
        params.not_before = date(now - BACKDATE);
        params.not_after = date(now + LIFETIME);
        let cert = params.self_signed(&key)?.pem();
        Ok(Self { cert, key: key.serialize_pem(), previous: None, made: whole_seconds(now) })
    }

    /// Reads the Secret; what is not a usable authority is `None`, and a new one takes its place.
    pub(crate) fn read(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| data.get(key).and_then(|ByteString(bytes)| String::from_utf8(bytes.clone()).ok());
        let (cert, key) = (text(CERT)?, text(KEY)?);
        KeyPair::from_pem(&key).ok()?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(cert.as_bytes()).ok()?;
        let not_before = pem.parse_x509().ok()?.validity().not_before.timestamp();
        let made = Timestamp::from_second(not_before).ok()?.checked_add(BACKDATE).ok()?;
        Some(Self { cert, key, previous: text(PREVIOUS_CERT), made })
    }

    /// What the Secret should hold now: the same, the same without the certificate before, or a new authority.
    pub(crate) fn keep_or_renew(present: Option<Self>, now: Timestamp) -> Result<Self, rcgen::Error> {
        match present {
            Some(mut ca) if now < ca.made + RENEWAL => {
                if now >= ca.made + LEAF_LIFETIME {
                    ca.previous = None;
                }
                Ok(ca)
            }
            // One that has expired is trusted by nobody.
            Some(old) if now < old.made + LIFETIME => Ok(Self { previous: Some(old.cert), ..Self::generate(now)? }),
            _ => Self::generate(now),
        }
    }

    /// `caBundle` of the webhook configuration.
    pub(crate) fn bundle(&self) -> String {
        format!("{}{}", self.cert, self.previous.as_deref().unwrap_or_default())
    }

    /// How long until [`Self::keep_or_renew`] would change something.
    pub(crate) fn next_change(&self, now: Timestamp) -> Duration {
        let at = if self.previous.is_some() { self.made + LEAF_LIFETIME } else { self.made + RENEWAL };
        Duration::try_from(at.duration_since(now)).unwrap_or_default()
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;

    use super::{CERT, KEY, PREVIOUS_CERT, WebhookCa};

    const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn days(days: i64) -> SignedDuration {
        SignedDuration::from_hours(days * 24)
    }

    fn secret(ca: &WebhookCa) -> Secret {
        let mut data = BTreeMap::from([
            (CERT.to_owned(), ByteString(ca.cert.clone().into_bytes())),
            (KEY.to_owned(), ByteString(ca.key.clone().into_bytes())),
        ]);
        data.extend(ca.previous.clone().map(|old| (PREVIOUS_CERT.to_owned(), ByteString(old.into_bytes()))));
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn an_authority_reads_back_from_its_secret() {
        let ca = WebhookCa::generate(START).unwrap();
        assert_eq!(WebhookCa::read(&secret(&ca)), Some(ca));
    }

    #[test]
    fn what_is_no_authority_is_replaced() {
        let mut broken = secret(&WebhookCa::generate(START).unwrap());
        broken.data.as_mut().unwrap().insert(KEY.into(), ByteString(b"no key".to_vec()));
        assert_eq!(WebhookCa::read(&broken), None);
        assert_eq!(WebhookCa::read(&Secret::default()), None);
        assert!(WebhookCa::keep_or_renew(None, START).is_ok());
    }

    #[test]
    fn a_year_in_the_life_of_an_authority() {
        let first = WebhookCa::generate(START).unwrap();
        for (name, age) in [("new", 0), ("half a year", 182), ("just before two thirds", 243)] {
            let kept = WebhookCa::keep_or_renew(Some(first.clone()), START + days(age)).unwrap();
            assert_eq!(kept, first, "{name}");
        }
        let at = START + days(244);
        let second = WebhookCa::keep_or_renew(Some(first.clone()), at).unwrap();
        assert_ne!(second.cert, first.cert, "renewed at two thirds");
        assert_eq!(second.bundle(), format!("{}{}", second.cert, first.cert), "old and new are trusted");
        assert_eq!(second.next_change(at).as_secs(), 24 * 3600);

        let same = WebhookCa::keep_or_renew(Some(second.clone()), at + SignedDuration::from_hours(23)).unwrap();
        assert_eq!(same, second, "for a serving certificate's lifetime");
        let alone = WebhookCa::keep_or_renew(Some(second.clone()), at + SignedDuration::from_hours(24)).unwrap();
        assert_eq!(alone.bundle(), second.cert, "then the new one alone");
        assert_eq!(alone.next_change(at + days(1)).as_secs(), (365 * 24 * 2 / 3 - 24) * 3600);
    }

    #[test]
    fn an_expired_authority_is_not_trusted_any_more() {
        let old = WebhookCa::generate(START).unwrap();
        let new = WebhookCa::keep_or_renew(Some(old), START + days(400)).unwrap();
        assert_eq!(new.previous, None);
    }
}
