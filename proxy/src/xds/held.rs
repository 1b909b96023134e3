//! The resources as they were sent: what a dump shows, and what the next stream says that we have already.
//!
//! A sidecar in a large mesh has thousands, and nobody may ever ask for one: each takes its encoded bytes and little more.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
    time::SystemTime,
};

use xds::{type_url, types::discovery};

/// One resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The version that was accepted; empty when none was.
    pub version: Box<str>,
    /// The message, encoded, as it was accepted.
    pub message: Box<[u8]>,
    /// When.
    pub updated: SystemTime,
    /// Why the last version was refused, if it was.
    pub refused: Option<Box<Refusal>>,
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
    kinds: HashMap<&'static str, BTreeMap<Arc<str>, Resource>>,
}

impl Held {
    /// The resources of a kind.
    pub fn kind(&self, kind: &str) -> impl Iterator<Item = (&str, &Resource)> {
        self.kinds.get(kind).into_iter().flatten().map(|(name, resource)| (&**name, resource))
    }

    /// The resources of a kind from a name on, in order.
    pub fn from(&self, kind: &str, start: Bound<&str>) -> impl Iterator<Item = (&Arc<str>, &Resource)> {
        self.kinds.get(kind).into_iter().flat_map(move |kind| kind.range::<str, _>((start, Bound::Unbounded)))
    }

    /// Notes an accepted resource.
    pub fn accept(&mut self, kind: &str, name: Arc<str>, resource: discovery::Resource, now: SystemTime) {
        let (Some(kind), Some(message)) = (self.of(kind), resource.resource) else { return };
        let (version, message) = (resource.version.into(), message.value.into());
        kind.insert(name, Resource { version, message, updated: now, refused: None });
    }

    /// Notes a refused resource; what was accepted before stays.
    pub fn refuse(&mut self, kind: &str, name: Arc<str>, version: String, reason: String, now: SystemTime) {
        let Some(kind) = self.of(kind) else { return };
        let resource = kind.entry(name).or_insert_with(|| Resource {
            version: Box::default(),
            message: Box::default(),
            updated: now,
            refused: None,
        });
        resource.refused = Some(Box::new(Refusal { version, reason, at: now }));
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
            .map(|(name, resource)| (name.to_owned(), resource.version.to_string()))
            .collect()
    }

    fn of(&mut self, kind: &str) -> Option<&mut BTreeMap<Arc<str>, Resource>> {
        let kind = type_url::PUSH_ORDER.into_iter().find(|known| *known == kind)?;
        Some(self.kinds.entry(kind).or_default())
    }
}
