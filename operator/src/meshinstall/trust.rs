//! The webhook's certificate authority: made by the operator, good for a year, replaced at two thirds.
//!
//! Every webhook replica mints its serving certificate from it. The API servers trust the certificates in `caBundle`.
//! A replacement has three steps, so that at no moment a certificate is in use that some API server does not trust yet:
//!
//! 1. the next authority is announced: it stands in the Secret and in `caBundle`, and nobody mints from it;
//! 2. [`ANNOUNCED`] later it takes its place, and replicas mint from it;
//! 3. the one before stays in `caBundle` for as long as a certificate of it may be in use.
//!
//! The mesh's own authority has no part in this, so that admission works while the control plane is away.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::basis::Basis;

/// How long an authority is good for.
const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How old it is when the next one is announced: two thirds.
const RENEWAL: SignedDuration = SignedDuration::from_hours(365 * 24 * 2 / 3);
/// How long an authority is announced before it is used: by then every API server has heard of it.
const ANNOUNCED: SignedDuration = SignedDuration::from_mins(10);
/// How long a serving certificate may still be one of the authority before.
const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Clocks differ: a certificate is good from some time before it was made.
const BACKDATE: SignedDuration = SignedDuration::from_mins(10);

/// Key of the present certificate.
const CERT: &str = "ca-cert.pem";
/// Key of its private key.
const KEY: &str = "ca-key.pem";
/// Key of the announced certificate.
const NEXT_CERT: &str = "next-ca-cert.pem";
/// Key of its private key.
const NEXT_KEY: &str = "next-ca-key.pem";
/// Key of the certificate before, while it is still trusted.
const PREVIOUS_CERT: &str = "previous-ca-cert.pem";

/// The authority as the Secret holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebhookCa {
    present: Pair,
    next: Option<Pair>,
    previous: Option<String>,
    /// The Secret that it was settled from.
    basis: Basis,
}

/// A certificate with its key, PEM.
#[derive(Clone, PartialEq, Eq)]
struct Pair {
    cert: String,
    key: String,
    /// When the certificate was made.
    made: Timestamp,
}

impl std::fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("made", &self.made).finish_non_exhaustive()
    }
}

impl Pair {
    fn generate(now: Timestamp) -> Result<Self, rcgen::Error> {
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
        Ok(Self { cert, key: key.serialize_pem(), made: whole_seconds(now) })
    }

    fn read(cert: String, key: String) -> Option<Self> {
        KeyPair::from_pem(&key).ok()?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(cert.as_bytes()).ok()?;
        let not_before = pem.parse_x509().ok()?.validity().not_before.timestamp();
        let made = Timestamp::from_second(not_before).ok()?.checked_add(BACKDATE).ok()?;
        Some(Self { cert, key, made })
    }
}

impl WebhookCa {
    /// One whose texts are the same on every run, for goldens.
    #[cfg(test)]
    pub(crate) fn fixed(cert: &str, key: &str) -> Self {
        let present = Pair { cert: cert.to_owned(), key: key.to_owned(), made: Timestamp::UNIX_EPOCH };
        Self { present, next: None, previous: None, basis: Basis::Absent }
    }

    /// Makes a new authority.
    fn generate(now: Timestamp) -> Result<Self, rcgen::Error> {
        Ok(Self { present: Pair::generate(now)?, next: None, previous: None, basis: Basis::Absent })
    }

    /// Reads the Secret; nothing when it holds no usable authority.
    fn read(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| data.get(key).and_then(|ByteString(bytes)| String::from_utf8(bytes.clone()).ok());
        let present = Pair::read(text(CERT)?, text(KEY)?)?;
        let next = text(NEXT_CERT).zip(text(NEXT_KEY)).and_then(|(cert, key)| Pair::read(cert, key));
        Some(Self { present, next, previous: text(PREVIOUS_CERT), basis: Basis::of(Some(secret)) })
    }

    /// What the Secret should hold now. `last` is what this process has seen in it: replicas serve with certificates of
    /// that, so it is put back when the Secret was damaged. Whoever deletes the Secret wants another authority: then the
    /// next one is announced.
    pub(crate) fn settle(secret: Option<&Secret>, last: Option<Self>, now: Timestamp) -> Result<Self, rcgen::Error> {
        let found = match secret {
            Some(secret) => Self::read(secret).or(last),
            None => last.map(|last| last.announce(now)).transpose()?,
        };
        let settled = match found {
            Some(ca) => ca.advance(now)?,
            None => Self::generate(now)?,
        };
        Ok(Self { basis: Basis::of(secret), ..settled })
    }

    /// What it may be written over.
    pub(crate) fn basis(&self) -> &Basis {
        &self.basis
    }

    /// The same, or the next step of a replacement.
    fn advance(mut self, now: Timestamp) -> Result<Self, rcgen::Error> {
        // An old announcement, left by an operator that was away, is made anew: the times below count from it.
        let stale = self.next.as_ref().is_some_and(|next| now >= next.made + LEAF_LIFETIME);
        if stale {
            self.next = Some(Pair::generate(now)?);
        }
        if let Some(next) = self.next.take_if(|next| now >= next.made + ANNOUNCED) {
            self.previous = Some(std::mem::replace(&mut self.present, next).cert);
        }
        // One that has expired is trusted by nobody.
        if now >= self.present.made + LIFETIME {
            return Self::generate(now);
        }
        if now >= self.previous_goes() {
            self.previous = None;
        }
        if now >= self.present.made + RENEWAL { self.announce(now) } else { Ok(self) }
    }

    fn announce(self, now: Timestamp) -> Result<Self, rcgen::Error> {
        let next = match self.next {
            Some(next) => next,
            None => Pair::generate(now)?,
        };
        Ok(Self { next: Some(next), ..self })
    }

    /// An authority takes its place at most [`LEAF_LIFETIME`] after it was made.
    fn previous_goes(&self) -> Timestamp {
        self.present.made + LEAF_LIFETIME + LEAF_LIFETIME
    }

    /// `caBundle` of the webhook configuration.
    pub(crate) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.cert.as_str());
        [Some(self.present.cert.as_str()), next, self.previous.as_deref()].into_iter().flatten().collect()
    }

    /// The keys and values of the Secret.
    pub(crate) fn data(&self) -> BTreeMap<String, ByteString> {
        let next = self.next.as_ref();
        let values = [
            (CERT, Some(&self.present.cert)),
            (KEY, Some(&self.present.key)),
            (NEXT_CERT, next.map(|next| &next.cert)),
            (NEXT_KEY, next.map(|next| &next.key)),
            (PREVIOUS_CERT, self.previous.as_ref()),
        ];
        let bytes = |text: &String| ByteString(text.clone().into_bytes());
        values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), bytes(value?)))).collect()
    }

    /// How long until [`Self::settle`] would change something.
    pub(crate) fn next_change(&self, now: Timestamp) -> Duration {
        let at = match &self.next {
            Some(next) => next.made + ANNOUNCED,
            None if self.previous.is_some() => self.previous_goes(),
            None => self.present.made + RENEWAL,
        };
        Duration::try_from(at.duration_since(now)).unwrap_or_default()
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::{Basis, KEY, WebhookCa};

    const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn days(days: i64) -> SignedDuration {
        SignedDuration::from_hours(days * 24)
    }

    fn minutes(minutes: i64) -> SignedDuration {
        SignedDuration::from_mins(minutes)
    }

    fn secret(ca: &WebhookCa) -> Secret {
        Secret { data: Some(ca.data()), ..Secret::default() }
    }

    /// One that stands in a Secret.
    fn made() -> WebhookCa {
        later(&WebhookCa::generate(START).unwrap(), START)
    }

    /// One more look at what the Secret holds.
    fn later(ca: &WebhookCa, now: Timestamp) -> WebhookCa {
        WebhookCa::settle(Some(&secret(ca)), None, now).unwrap()
    }

    fn metadata(version: &str) -> ObjectMeta {
        ObjectMeta { uid: Some("u".into()), resource_version: Some(version.into()), ..ObjectMeta::default() }
    }

    fn broken(ca: &WebhookCa) -> Secret {
        let mut broken = secret(ca);
        broken.data.as_mut().unwrap().insert(KEY.into(), ByteString(b"no key".to_vec()));
        broken
    }

    #[test]
    fn an_authority_reads_back_from_its_secret_whatever_step_it_is_at() {
        let first = made();
        let announced = first.clone().announce(START + days(1)).unwrap();
        let both = WebhookCa { previous: Some(first.present.cert.clone()), ..announced.clone() };
        for ca in [first, announced, both] {
            assert_eq!(WebhookCa::read(&secret(&ca)), Some(ca));
        }
    }

    #[test]
    fn a_year_in_the_life_of_an_authority() {
        let first = made();
        for (name, age) in [("new", 0), ("half a year", 182), ("just before two thirds", 243)] {
            assert_eq!(later(&first, START + days(age)), first, "{name}");
        }
        let at = START + days(244);
        let announced = later(&first, at);
        let next = announced.next.clone().unwrap();
        assert_eq!(announced.present.cert, first.present.cert, "announced, not yet used");
        assert_eq!(announced.bundle(), format!("{}{}", first.present.cert, next.cert), "but trusted");
        assert_eq!(announced.next_change(at).as_secs(), 600);
        assert_eq!(later(&announced, at + minutes(9)), announced);

        let second = later(&announced, at + minutes(10));
        assert_eq!(second.present.cert, next.cert, "in use");
        assert_eq!(second.next, None);
        assert_eq!(second.bundle(), format!("{}{}", next.cert, first.present.cert), "the old one is still trusted");
        assert_eq!(later(&second, at + days(2) - minutes(1)), second, "while a certificate of it may be in use");
        assert_eq!(second.next_change(at).as_secs(), 48 * 3600);

        let alone = later(&second, at + days(2));
        assert_eq!(alone.bundle(), next.cert, "then the new one alone");
        assert_eq!(alone.next_change(at).as_secs(), 365 * 24 * 3600 * 2 / 3);
    }

    #[test]
    fn an_announcement_that_the_operator_slept_through_is_made_anew() {
        let announced = made().announce(START).unwrap();
        let again = later(&announced, START + days(3));
        assert_eq!(again.present, announced.present, "not used before API servers have heard of it");
        assert_eq!(again.next.as_ref().map(|next| next.made), Some(START + days(3)));
    }

    #[test]
    fn a_secret_that_is_gone_or_damaged() {
        let ca = made();
        let now = START + days(1);
        let settle = |secret: Option<&Secret>, last| WebhookCa::settle(secret, last, now).unwrap();
        assert_eq!(settle(Some(&broken(&ca)), Some(ca.clone())), ca, "damaged: put back");

        let deleted = settle(None, Some(ca.clone()));
        assert_eq!(deleted.present, ca.present, "deleted: replicas have certificates of it");
        assert_eq!(deleted.next.map(|next| next.made), Some(now), "and another is announced");

        for (name, secret) in [("never there", None), ("damaged, and nobody knows what it was", Some(&broken(&ca)))] {
            let new = settle(secret, None);
            assert_ne!(new.present, ca.present, "{name}");
            assert_eq!((new.next, new.previous), (None, None), "{name}");
        }
        let named = Secret { metadata: metadata("7"), ..secret(&ca) };
        let basis = |secret: Option<&Secret>| settle(secret, Some(ca.clone())).basis().clone();
        assert_eq!(basis(None), Basis::Absent, "deleted: written only if it is still absent");
        for of in [named.clone(), Secret { metadata: metadata("7"), ..broken(&ca) }] {
            assert_eq!(basis(Some(&of)), Basis::of(Some(&named)), "written over this version alone");
        }

        let mut half = ca.clone().announce(now).unwrap();
        half.next.as_mut().unwrap().key.clear();
        assert_eq!(settle(Some(&secret(&half)), None), ca, "an announcement without its key is none");
    }

    #[test]
    fn an_expired_authority_is_not_trusted_any_more() {
        let old = made();
        let new = later(&old, START + days(400));
        assert_ne!(new.present.cert, old.present.cert);
        assert_eq!((new.next, new.previous), (None, None));
    }
}
