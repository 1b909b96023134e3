//! A resource, encoded once and shared by every proxy that it goes to; and sets of them.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use xds::type_url;
use xds::types::google::Any;
use xds::version::Version;

/// The kinds of resources, in the order in which additions reach a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Cluster,
    Endpoints,
    Listener,
    Routes,
    VirtualHost,
}

impl Kind {
    /// What is named comes before what names it.
    pub(crate) const ALL: [Self; 5] =
        [Self::Cluster, Self::Endpoints, Self::Listener, Self::Routes, Self::VirtualHost];

    /// The order of removals: what names something goes before what it names, so that no moment has a dangling name.
    pub(crate) const REMOVAL: [Self; 5] =
        [Self::Listener, Self::Routes, Self::VirtualHost, Self::Cluster, Self::Endpoints];

    /// The type URL on the wire.
    pub(crate) fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => type_url::CLUSTER,
            Self::Endpoints => type_url::ENDPOINTS,
            Self::Listener => type_url::LISTENER,
            Self::Routes => type_url::ROUTES,
            Self::VirtualHost => type_url::VIRTUAL_HOST,
        }
    }

    /// `cds`, `eds`, ... as metrics say it.
    pub(crate) fn short(self) -> &'static str {
        type_url::short(self.type_url())
    }

    pub(crate) fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// Its place in arrays with one element per kind.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// The fields of `envoy.service.discovery.v3.Resource` and of the responses that we write by hand.
const RESOURCE_VERSION: u32 = 1;
const RESOURCE_ANY: u32 = 2;
const RESOURCE_NAME: u32 = 3;
/// `resources` in both responses, `Resource`s in the delta one and `Any`s in the state of the world.
pub(crate) const RESPONSE_RESOURCES: u32 = 2;

/// One resource as it goes over the wire.
pub(crate) struct Resource {
    name: Arc<str>,
    version: Version,
    /// `DeltaDiscoveryResponse.resources`: key, length, `Resource`.
    delta: Bytes,
    /// Where in `delta` the `Any` stands, with a key and a length: `Resource.resource` and `DiscoveryResponse.resources`
    /// are both field 2, so that the same bytes serve for both protocols.
    any_at: usize,
}

impl Resource {
    /// Encodes a resource. `content` is in canonical form, its hash is the version.
    pub(crate) fn encode(name: impl Into<Arc<str>>, content: &Any) -> Arc<Self> {
        let name = name.into();
        let version = Version::of(&content.value);
        let version_text = version.to_string();

        let field = |tag, len: usize| key_len(tag) + encoded_len_varint(len as u64) + len;
        let any_len = prost::Message::encoded_len(content);
        let len = field(RESOURCE_VERSION, version_text.len())
            + field(RESOURCE_NAME, name.len())
            + field(RESOURCE_ANY, any_len);
        let mut delta = BytesMut::with_capacity(field(RESPONSE_RESOURCES, len));
        begin(RESPONSE_RESOURCES, len, &mut delta);
        put(RESOURCE_VERSION, version_text.as_bytes(), &mut delta);
        put(RESOURCE_NAME, name.as_bytes(), &mut delta);
        let any_at = delta.len();
        begin(RESOURCE_ANY, any_len, &mut delta);
        content.encode_raw_into(&mut delta);
        Arc::new(Self { name, version, delta: delta.freeze(), any_at })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The field `resources` of a delta response.
    pub(crate) fn delta(&self) -> &[u8] {
        &self.delta
    }

    /// The field `resources` of a response with the state of the world.
    pub(crate) fn state_of_the_world(&self) -> &[u8] {
        self.delta.get(self.any_at..).unwrap_or_default()
    }

    /// The message inside, for people who ask what a proxy was sent.
    pub(crate) fn content(&self) -> Option<Any> {
        #[derive(Clone, PartialEq, prost::Message)]
        struct Resources {
            #[prost(message, repeated, tag = "2")]
            resources: Vec<Any>,
        }
        let resources: Resources = prost::Message::decode(self.state_of_the_world()).ok()?;
        resources.resources.into_iter().next()
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

trait EncodeRaw {
    fn encode_raw_into(&self, buffer: &mut BytesMut);
}

impl EncodeRaw for Any {
    fn encode_raw_into(&self, buffer: &mut BytesMut) {
        // A growing buffer has room for everything.
        prost::Message::encode_raw(self, buffer);
    }
}

/// Starts a length-delimited field.
pub(crate) fn begin(tag: u32, len: usize, buffer: &mut impl bytes::BufMut) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(len as u64, buffer);
}

/// Writes a length-delimited field.
pub(crate) fn put(tag: u32, content: &[u8], buffer: &mut impl bytes::BufMut) {
    begin(tag, content.len(), buffer);
    buffer.put_slice(content);
}

/// Resources of one kind, sorted by name, shared by all proxies with the same projection.
#[derive(Clone, Debug)]
pub(crate) struct Set(Arc<[Arc<Resource>]>);

impl Set {
    /// Sorts `resources`; of two with one name the first stays, and the name of the other is returned.
    pub(crate) fn new(mut resources: Vec<Arc<Resource>>) -> (Self, Vec<Arc<str>>) {
        resources.sort_by(|a, b| a.name.cmp(&b.name));
        let mut duplicates = Vec::new();
        resources.dedup_by(|second, first| {
            let same = second.name == first.name;
            if same {
                duplicates.push(Arc::clone(&second.name));
            }
            same
        });
        (Self(resources.into()), duplicates)
    }

    pub(crate) fn empty() -> Self {
        Self(Arc::new([]))
    }

    /// The same set, not only an equal one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// `self`, with whatever did not change taken from `old`; `old` itself when nothing changed. So an unchanged
    /// resource is the same allocation in every generation, and comparing sets is comparing pointers.
    pub(crate) fn reusing(self, old: &Self) -> Self {
        let same = |a: &Arc<Resource>, b: &Arc<Resource>| a.name == b.name && a.version == b.version;
        if self.0.len() == old.0.len() && self.0.iter().zip(old.0.iter()).all(|(a, b)| same(a, b)) {
            return old.clone();
        }
        let reused = self.0.iter().map(|new| match old.get(&new.name) {
            Some(known) if same(known, new) => Arc::clone(known),
            _ => Arc::clone(new),
        });
        Self(reused.collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        let at = self.0.binary_search_by(|resource| (*resource.name).cmp(name)).ok()?;
        self.0.get(at)
    }
}

impl std::ops::Deref for Set {
    type Target = [Arc<Resource>];

    fn deref(&self) -> &[Arc<Resource>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use xds::types::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};

    fn content(text: &str) -> Any {
        Any { type_url: type_url::CLUSTER.to_owned(), value: text.as_bytes().to_vec() }
    }

    #[test]
    fn both_protocols_read_the_shared_bytes() {
        let resource = Resource::encode("a", &content("content"));
        let delta = DeltaDiscoveryResponse::decode(resource.delta()).unwrap();
        assert_eq!(delta.resources.len(), 1);
        assert_eq!(delta.resources[0].name, "a");
        assert_eq!(delta.resources[0].version, Version::of(b"content").to_string());
        assert_eq!(delta.resources[0].resource, Some(content("content")));
        let world = DiscoveryResponse::decode(resource.state_of_the_world()).unwrap();
        assert_eq!(world.resources, [content("content")]);
        assert_eq!(resource.content(), Some(content("content")));
    }

    #[test]
    fn what_did_not_change_is_the_same_allocation() {
        let set = |items: &[(&str, &str)]| {
            Set::new(items.iter().map(|(name, text)| Resource::encode(*name, &content(text))).collect()).0
        };
        let old = set(&[("b", "1"), ("a", "1")]);
        assert!(set(&[("a", "1"), ("b", "1")]).reusing(&old).is(&old));
        let new = set(&[("a", "1"), ("b", "2"), ("c", "1")]).reusing(&old);
        assert!(!new.is(&old));
        assert!(Arc::ptr_eq(&new[0], &old[0]));
        assert!(!Arc::ptr_eq(&new[1], &old[1]));
        assert_eq!(new.get("c").map(|c| c.name().to_string()), Some("c".to_owned()));
    }

    #[test]
    fn a_name_is_taken_once() {
        let (set, duplicates) =
            Set::new(vec![Resource::encode("a", &content("1")), Resource::encode("a", &content("2"))]);
        assert_eq!((set.len(), duplicates.len()), (1, 1));
    }
}
