//! The resources as they were sent: what a dump shows, and what the next stream says that we have already.
//!
//! A sidecar in a large mesh has thousands, and nobody may ever ask for one. They are much alike, so each is kept as what sets it
//! apart from another.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
    time::SystemTime,
};

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use xds::{type_url, types::discovery};

/// One resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The version that was accepted; empty when none was.
    pub version: Box<str>,
    /// The message as it was accepted.
    pub message: Message,
    /// When.
    pub updated: SystemTime,
    /// Why the last version was refused, if it was.
    pub refused: Option<Box<Refusal>>,
}

/// An encoded message, as the difference to another of its kind.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pattern: Arc<[u8]>,
    difference: Box<[u8]>,
}

impl Message {
    /// Keeps a message. If it is not like the pattern it becomes the next ones' pattern.
    fn new(message: Vec<u8>, pattern: &mut Arc<[u8]>) -> Self {
        let mut difference = compress_prepend_size_with_dict(&message, pattern);
        if difference.len() > message.len() / 2 {
            *pattern = message.into();
            difference = compress_prepend_size_with_dict(pattern, pattern);
        }
        Self { pattern: pattern.clone(), difference: difference.into() }
    }

    /// The message.
    pub fn encoded(&self) -> Vec<u8> {
        // It was made above; one that never was is empty.
        decompress_size_prepended_with_dict(&self.difference, &self.pattern).unwrap_or_default()
    }
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
    kinds: HashMap<&'static str, Kind>,
}

/// All resources of a kind, by name.
#[derive(Debug, Default)]
struct Kind {
    resources: BTreeMap<Arc<str>, Resource>,
    /// What the next message is likely to be like.
    pattern: Arc<[u8]>,
}

impl Held {
    /// The resources of a kind.
    pub fn kind(&self, kind: &str) -> impl Iterator<Item = (&str, &Resource)> {
        self.from(kind, Bound::Unbounded).map(|(name, resource)| (&**name, resource))
    }

    /// The resources of a kind from a name on, in order.
    pub fn from(&self, kind: &str, start: Bound<&str>) -> impl Iterator<Item = (&Arc<str>, &Resource)> {
        let kind = self.kinds.get(kind).into_iter();
        kind.flat_map(move |kind| kind.resources.range::<str, _>((start, Bound::Unbounded)))
    }

    /// Notes an accepted resource.
    pub fn accept(&mut self, kind: &str, name: Arc<str>, resource: discovery::Resource, now: SystemTime) {
        let (Some(kind), Some(message)) = (self.of(kind), resource.resource) else { return };
        let message = Message::new(message.value, &mut kind.pattern);
        kind.resources
            .insert(name, Resource { version: resource.version.into(), message, updated: now, refused: None });
    }

    /// Notes a refused resource; what was accepted before stays.
    pub fn refuse(&mut self, kind: &str, name: Arc<str>, version: String, reason: String, now: SystemTime) {
        let Some(kind) = self.of(kind) else { return };
        let resource = kind.resources.entry(name).or_insert_with(|| Resource {
            version: Box::default(),
            message: Message::default(),
            updated: now,
            refused: None,
        });
        resource.refused = Some(Box::new(Refusal { version, reason, at: now }));
    }

    /// Forgets a resource.
    pub fn remove(&mut self, kind: &str, name: &str) {
        if let Some(kind) = self.of(kind) {
            kind.resources.remove(name);
        }
    }

    /// The accepted versions of a kind.
    pub fn versions(&self, kind: &str) -> HashMap<String, String> {
        self.kind(kind)
            .filter(|(_, resource)| !resource.version.is_empty())
            .map(|(name, resource)| (name.to_owned(), resource.version.to_string()))
            .collect()
    }

    fn of(&mut self, kind: &str) -> Option<&mut Kind> {
        let kind = type_url::PUSH_ORDER.into_iter().find(|known| *known == kind)?;
        Some(self.kinds.entry(kind).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Message;

    #[test]
    fn messages_read_back_and_those_that_are_alike_are_small() {
        let mut pattern = Arc::default();
        let alike = |number: u32| {
            format!("a cluster called service-{number} with much to say of itself. ").repeat(9).into_bytes()
        };
        let other = (0..=255u8).collect::<Vec<_>>();
        let messages: Vec<Vec<u8>> =
            (0..50).map(alike).chain([other, Vec::new(), vec![0]]).chain((50..60).map(alike)).collect();
        for message in messages {
            let kept = Message::new(message.clone(), &mut pattern);
            assert_eq!(kept.encoded(), message);
            assert!(kept.difference.len() <= message.len() / 2 + 8, "{} of {}", kept.difference.len(), message.len());
        }
        assert!(Message::default().encoded().is_empty());
    }
}
