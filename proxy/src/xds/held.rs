//! The resources as they were sent: what a dump shows, and what the next stream says that we have already.

use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

use bytes::Bytes;
use xds::type_url;

/// One resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The version that was accepted; empty when none was.
    pub version: String,
    /// The message, encoded, as it was accepted.
    pub message: Bytes,
    /// When.
    pub updated: SystemTime,
    /// Why the last version was refused, if it was.
    pub refused: Option<Refusal>,
}

/// A version that was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The version.
    pub version: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: SystemTime,
}

/// All resources, by kind and name.
#[derive(Debug, Default)]
pub struct Held {
    kinds: HashMap<&'static str, BTreeMap<String, Resource>>,
}

impl Held {
    /// The resources of a kind.
    pub fn kind(&self, kind: &str) -> impl Iterator<Item = (&str, &Resource)> {
        self.kinds.get(kind).into_iter().flatten().map(|(name, resource)| (name.as_str(), resource))
    }

    /// Notes an accepted resource.
    pub fn accept(&mut self, kind: &str, name: &str, version: &str, message: &[u8], now: SystemTime) {
        let Some(kind) = self.of(kind) else { return };
        kind.insert(
            name.to_owned(),
            Resource {
                version: version.to_owned(),
                message: Bytes::copy_from_slice(message),
                updated: now,
                refused: None,
            },
        );
    }

    /// Notes a refused resource; what was accepted before stays.
    pub fn refuse(&mut self, kind: &str, name: &str, version: &str, reason: String, now: SystemTime) {
        let Some(kind) = self.of(kind) else { return };
        let resource = kind.entry(name.to_owned()).or_insert_with(|| Resource {
            version: String::new(),
            message: Bytes::new(),
            updated: now,
            refused: None,
        });
        resource.refused = Some(Refusal { version: version.to_owned(), reason, at: now });
    }

    /// Forgets a resource.
    pub fn remove(&mut self, kind: &str, name: &str) {
        if let Some(kind) = self.of(kind) {
            kind.remove(name);
        }
    }

    /// The accepted versions of a kind.
    pub fn versions(&self, kind: &str) -> HashMap<String, String> {
        self.kind(kind)
            .filter(|(_, resource)| !resource.version.is_empty())
            .map(|(name, resource)| (name.to_owned(), resource.version.clone()))
            .collect()
    }

    fn of(&mut self, kind: &str) -> Option<&mut BTreeMap<String, Resource>> {
        let kind = type_url::PUSH_ORDER.into_iter().find(|known| *known == kind)?;
        Some(self.kinds.entry(kind).or_default())
    }
}
