//! A resource, encoded once and shared by every proxy that it goes to; and sets of them.

use std::sync::{Arc, Weak};

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use translate::Resource as Content;
use xds::provenance::Provenance;
use xds::type_url;
use xds::types::google::Any;
use xds::version::Version;

use super::subscriber::Protocol;

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
    pub(crate) const ALL: [Self; 5] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Routes, Self::VirtualHost];

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

    /// Whether a response of the state of the world says everything that the client named. What it leaves out is gone
    /// in the client's eyes; of the other kinds it is unchanged.
    pub(crate) fn is_always_whole(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }

    /// Its place in arrays with one element per kind.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// The fields of `envoy.service.discovery.v3.Resource`.
mod field {
    pub(super) const VERSION: u32 = 1;
    pub(super) const RESOURCE: u32 = 2;
    pub(super) const NAME: u32 = 3;
    /// `resources` in both responses: `Resource`s in the delta one, `Any`s in the state of the world.
    pub(super) const RESOURCES: u32 = 2;
}

/// One resource as it goes over the wire. Its content is shared with the translation, and with every proxy.
pub(crate) struct Resource {
    name: Arc<str>,
    content: Arc<Content>,
}

impl Resource {
    pub(crate) fn new(name: Arc<str>, content: Arc<Content>) -> Arc<Self> {
        Arc::new(Self { name, content })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn version(&self) -> Version {
        self.content.version
    }

    /// The message inside.
    pub(crate) fn content(&self) -> &Any {
        &self.content.any
    }

    /// The rule that it came from.
    pub(crate) fn provenance(&self) -> Option<&Provenance> {
        self.content.provenance.as_ref()
    }

    /// How many bytes it takes in a response.
    pub(crate) fn encoded_len(&self, protocol: Protocol) -> usize {
        match protocol {
            Protocol::Delta => field_len(field::RESOURCES, self.delta_len()),
            Protocol::StateOfTheWorld => field_len(field::RESOURCES, self.content.any.encoded_len()),
        }
    }

    fn delta_len(&self) -> usize {
        field_len(field::VERSION, VERSION_LEN)
            + field_len(field::NAME, self.name.len())
            + field_len(field::RESOURCE, self.content.any.encoded_len())
    }

    /// Writes field `resources` of a response, from the shared content: nothing is copied but into the buffer.
    pub(crate) fn encode(&self, protocol: Protocol, buffer: &mut impl bytes::BufMut) {
        if protocol == Protocol::Delta {
            begin(field::RESOURCES, self.delta_len(), buffer);
            put(field::VERSION, self.version().to_string().as_bytes(), buffer);
            put(field::NAME, self.name.as_bytes(), buffer);
        }
        // `Resource.resource` and `DiscoveryResponse.resources` are both field 2.
        begin(field::RESOURCE, self.content.any.encoded_len(), buffer);
        self.content.any.encode_raw(buffer);
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version())
    }
}

/// A version is written as 16 hexadecimal digits.
const VERSION_LEN: usize = 16;

/// The length of a length-delimited field.
pub(crate) fn field_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

/// Starts a length-delimited field.
fn begin(tag: u32, len: usize, buffer: &mut impl bytes::BufMut) {
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
    /// Sorts `resources`; of two with one name the first stays.
    pub(crate) fn new(mut resources: Vec<Arc<Resource>>) -> Self {
        resources.sort_by(|a, b| a.name.cmp(&b.name));
        resources.dedup_by(|second, first| second.name == first.name);
        Self(resources.into())
    }

    pub(crate) fn empty() -> Self {
        Self(Arc::new([]))
    }

    /// Where it is, as long as it is there.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>().addr()
    }

    pub(crate) fn downgrade(&self) -> WeakSet {
        WeakSet(Arc::downgrade(&self.0))
    }

    /// The same set, not only an equal one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether it has the very same resources in it.
    pub(crate) fn has_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(other.0.iter()).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        let at = self.0.binary_search_by(|resource| (*resource.name).cmp(name)).ok()?;
        self.0.get(at)
    }
}

/// A set that somebody else keeps.
pub(crate) struct WeakSet(Weak<[Arc<Resource>]>);

impl WeakSet {
    pub(crate) fn upgrade(&self) -> Option<Set> {
        self.0.upgrade().map(Set)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl std::ops::Deref for Set {
    type Target = [Arc<Resource>];

    fn deref(&self) -> &[Arc<Resource>] {
        &self.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use xds::types::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};

    /// A resource with any content.
    pub(crate) fn content(kind: Kind, text: &str) -> Arc<Content> {
        let any = Any { type_url: kind.type_url().to_owned(), value: text.as_bytes().to_vec() };
        Arc::new(Content { version: Version::of(&any.value), any, provenance: None })
    }

    #[test]
    fn both_protocols_read_the_shared_content() {
        let content = content(Kind::Cluster, "content");
        let resource = Resource::new("a".into(), Arc::clone(&content));
        let bytes = |protocol| {
            let mut bytes = Vec::new();
            resource.encode(protocol, &mut bytes);
            assert_eq!(bytes.len(), resource.encoded_len(protocol));
            bytes
        };
        let delta = DeltaDiscoveryResponse::decode(&*bytes(Protocol::Delta)).unwrap();
        assert_eq!(delta.resources.len(), 1);
        assert_eq!(delta.resources[0].name, "a");
        assert_eq!(delta.resources[0].version, Version::of(b"content").to_string());
        assert_eq!(delta.resources[0].resource.as_ref(), Some(&content.any));
        let world = DiscoveryResponse::decode(&*bytes(Protocol::StateOfTheWorld)).unwrap();
        assert_eq!(world.resources, std::slice::from_ref(&content.any));
    }
}
