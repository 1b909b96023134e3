//! The same message, the same bytes.
//!
//! A resource's version is the hash of its encoding, and equal resources are shared. But prost keeps protobuf maps in
//! `HashMap`s and writes their entries in whatever order those have. So messages are put into canonical form after
//! encoding: the entries of every map sorted by key. `SHAPES` says where maps can occur in the messages we emit;
//! everything else is copied. Messages inside an `Any` are canonical already, because [`crate::any::pack`] made them.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost::{Message, Name};

/// Where maps can occur in a message: the fields to look into.
type Shape = &'static [(u32, Field)];

#[derive(Clone, Copy)]
enum Field {
    /// A message, or repeated messages, with maps somewhere inside.
    Message(&'static Shape),
    /// A map from string to message.
    Map(&'static Shape),
}

use Field::{Map, Message as Sub};

static OPAQUE: Shape = &[];
static STRUCT: Shape = &[(1, Map(&VALUE))];
static VALUE: Shape = &[(5, Sub(&STRUCT)), (6, Sub(&LIST))];
static LIST: Shape = &[(1, Sub(&VALUE))];
static METADATA: Shape = &[(1, Map(&STRUCT)), (2, Map(&OPAQUE))];

static LB_ENDPOINT: Shape = &[(3, Sub(&METADATA))];
static LOCALITY_ENDPOINTS: Shape = &[(2, Sub(&LB_ENDPOINT)), (9, Sub(&METADATA))];
static LOAD_ASSIGNMENT: Shape = &[(2, Sub(&LOCALITY_ENDPOINTS))];

static SOCKET_MATCH: Shape = &[(2, Sub(&STRUCT))];
static CLUSTER: Shape =
    &[(25, Sub(&METADATA)), (33, Sub(&LOAD_ASSIGNMENT)), (36, Map(&OPAQUE)), (43, Sub(&SOCKET_MATCH))];

static CLUSTER_WEIGHT: Shape = &[(3, Sub(&METADATA)), (10, Map(&OPAQUE))];
static WEIGHTED_CLUSTERS: Shape = &[(1, Sub(&CLUSTER_WEIGHT))];
static ROUTE_ACTION: Shape = &[(3, Sub(&WEIGHTED_CLUSTERS)), (4, Sub(&METADATA))];
static ROUTE: Shape = &[(2, Sub(&ROUTE_ACTION)), (4, Sub(&METADATA)), (13, Map(&OPAQUE))];
static VIRTUAL_HOST: Shape = &[(3, Sub(&ROUTE)), (15, Map(&OPAQUE)), (24, Sub(&METADATA))];
static ROUTES: Shape = &[(2, Sub(&VIRTUAL_HOST)), (16, Map(&OPAQUE)), (17, Sub(&METADATA))];
static CONNECTION_MANAGER: Shape = &[(4, Sub(&ROUTES))];

static FILTER_CHAIN: Shape = &[(5, Sub(&METADATA))];
static LISTENER: Shape = &[(3, Sub(&FILTER_CHAIN)), (6, Sub(&METADATA)), (25, Sub(&FILTER_CHAIN))];

static NODE: Shape = &[(3, Sub(&STRUCT))];

/// The messages that have maps in them.
static SHAPES: &[(&str, &Shape)] = &[
    ("envoy.config.cluster.v3.Cluster", &CLUSTER),
    ("envoy.config.core.v3.Metadata", &METADATA),
    ("envoy.config.core.v3.Node", &NODE),
    ("envoy.config.endpoint.v3.ClusterLoadAssignment", &LOAD_ASSIGNMENT),
    ("envoy.config.listener.v3.Listener", &LISTENER),
    ("envoy.config.route.v3.RouteConfiguration", &ROUTES),
    ("envoy.config.route.v3.VirtualHost", &VIRTUAL_HOST),
    ("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", &CONNECTION_MANAGER),
    ("google.protobuf.Struct", &STRUCT),
];

/// Encodes a message so that equal messages give equal bytes.
pub fn encode<M: Message + Name>(message: &M) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let name = M::full_name();
    match SHAPES.iter().find(|(of, _)| *of == name) {
        // Our own encoder wrote the bytes, so they parse; were they not to, they would still be a valid encoding.
        Some((_, shape)) => canonical(&bytes, shape).unwrap_or(bytes),
        None => bytes,
    }
}

/// One field as it is on the wire.
struct Raw<'a> {
    tag: u32,
    wire: WireType,
    /// For a length-delimited field its content, else the field's bytes.
    content: &'a [u8],
}

impl Raw<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        encode_key(self.tag, self.wire, out);
        if self.wire == WireType::LengthDelimited {
            encode_varint(self.content.len() as u64, out);
        }
        out.extend_from_slice(self.content);
    }
}

fn canonical(bytes: &[u8], shape: &Shape) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    // A map's entries stand together in what prost writes; they are held until another field begins.
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut held = None;
    while !rest.is_empty() {
        let field = next_field(&mut rest)?;
        if held != Some(field.tag) {
            flush(held.take(), &mut entries, &mut out);
        }
        let inside = shape.iter().find(|(tag, _)| *tag == field.tag).map(|(_, inside)| inside);
        match inside {
            Some(Field::Map(of)) => {
                entries.push(entry(field.content, of)?);
                held = Some(field.tag);
            }
            Some(Field::Message(of)) => {
                let content = canonical(field.content, of)?;
                Raw { content: &content, ..field }.write(&mut out);
            }
            None => field.write(&mut out),
        }
    }
    flush(held, &mut entries, &mut out);
    Some(out)
}

/// A map entry as (key, the entry in canonical form).
fn entry(bytes: &[u8], of: &Shape) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut key = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let field = next_field(&mut rest)?;
        if field.tag == 2 {
            let content = canonical(field.content, of)?;
            Raw { content: &content, ..field }.write(&mut out);
        } else {
            key = field.content.to_vec();
            field.write(&mut out);
        }
    }
    Some((key, out))
}

fn flush(tag: Option<u32>, entries: &mut Vec<(Vec<u8>, Vec<u8>)>, out: &mut Vec<u8>) {
    let Some(tag) = tag else { return };
    entries.sort();
    for (_, content) in entries.drain(..) {
        Raw { tag, wire: WireType::LengthDelimited, content: &content }.write(out);
    }
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<Raw<'a>> {
    let (tag, wire) = decode_key(rest).ok()?;
    let length = match wire {
        WireType::Varint => {
            let before = *rest;
            decode_varint(rest).ok()?;
            let length = before.len() - rest.len();
            *rest = before;
            length
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(rest).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Raw { tag, wire, content })
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::encode;
    use crate::dynamic::{Object, list, number, string};
    use crate::types::{cluster, core, google, route};

    fn metadata() -> core::Metadata {
        let inner = Object::new().set("z", string("1")).set("a", number(2.0)).set("m", list([string("x")])).build();
        let mut metadata = core::Metadata::default();
        for key in ["istio", "forestay", "envoy.lb", "x"] {
            metadata.filter_metadata.insert(key.to_owned(), inner.clone());
        }
        metadata
    }

    fn host() -> route::VirtualHost {
        let mut route = route::Route { metadata: Some(metadata()), ..Default::default() };
        for name in ["c", "b", "a"] {
            route.typed_per_filter_config.insert(name.to_owned(), google::Any::default());
        }
        route::VirtualHost {
            name: "reviews".into(),
            routes: vec![route.clone(), route::Route { name: "second".into(), ..route }],
            metadata: Some(metadata()),
            include_request_attempt_count: true,
            ..Default::default()
        }
    }

    #[test]
    fn equal_messages_give_equal_bytes_whatever_order_their_maps_have() {
        let first = encode(&host());
        for _ in 0..50 {
            assert_eq!(encode(&host()), first); // each HashMap is seeded anew
        }
    }

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        assert_eq!(route::VirtualHost::decode(encode(&host()).as_slice()).expect("decodes"), host());
        let cluster = cluster::Cluster {
            name: "c".into(),
            metadata: Some(metadata()),
            transport_socket_matches: vec![cluster::cluster::TransportSocketMatch {
                r#match: Some(Object::new().set("tlsMode", string("istio")).build()),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(cluster::Cluster::decode(encode(&cluster).as_slice()).expect("decodes"), cluster);
    }
}
