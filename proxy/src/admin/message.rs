//! A protobuf message as JSON, in the form that Envoy's administration writes: original field names, durations as `5s`,
//! `Any` with `@type`.
//!
//! What a message's table does not name is left out; what is no message at all becomes text in base64.

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint},
};
use serde_json::{Map, Value, json};
use xds::types::google;

/// The fields of a message.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// One field.
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Bool,
    Int64,
    Uint32,
    Double,
    String,
    Bytes,
    Enum(&'static [(i32, &'static str)]),
    Message(&'static Shape),
    /// A map from strings.
    Map(&'static Kind),
    Duration,
    BoolValue,
    Uint32Value,
    Uint64Value,
    Struct,
    Any,
    /// A message that is not shown field by field.
    Opaque,
}

/// What stands in place of a secret, as in Envoy's dumps.
pub(super) const REDACTED: &str = "[redacted]";
/// Fields with secrets in them.
const SECRET: [&str; 4] = ["private_key", "password", "private_key_provider", "session_ticket_keys"];

/// How deep messages may lie in each other, as protobuf's own readers limit it.
const DEEPEST: u32 = 100;

/// A message of type `type_url` as an object with `@type`.
pub(super) fn any(type_url: &str, bytes: &[u8]) -> Value {
    any_at(type_url, bytes, DEEPEST)
}

fn any_at(type_url: &str, bytes: &[u8], depth: u32) -> Value {
    let name = xds::any::type_name(type_url);
    let mut object = Map::new();
    object.insert("@type".to_owned(), json!(type_url));
    match super::shape::of(name) {
        Some(shape) => {
            if let Value::Object(fields) = message(shape, bytes, depth) {
                object.extend(fields);
            }
        }
        None if name == "google.protobuf.Struct" => {
            object.insert("value".to_owned(), structure(bytes));
        }
        None if bytes.is_empty() => {}
        None => {
            object.insert("value".to_owned(), json!(STANDARD.encode(bytes)));
        }
    }
    Value::Object(object)
}

fn message(shape: &Shape, bytes: &[u8], depth: u32) -> Value {
    let mut object = Map::new();
    if depth == 0 {
        return Value::Object(object);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((number, raw)) = next(&mut rest) else { break };
        let Some(field) = shape.fields.iter().find(|field| field.number == number) else { continue };
        add(&mut object, field, &raw, depth - 1);
    }
    Value::Object(object)
}

fn add(object: &mut Map<String, Value>, field: &Field, raw: &Raw<'_>, depth: u32) {
    if let Kind::Map(kind) = field.kind {
        let entries = object.entry(field.name).or_insert_with(|| json!({}));
        if let (Value::Object(entries), Some((key, value))) = (entries, entry(raw, *kind, depth)) {
            entries.insert(key, value);
        }
        return;
    }
    if !field.repeated {
        if let Some(value) = value(field.kind, raw, depth) {
            let value = if SECRET.contains(&field.name) { redacted(value) } else { value };
            object.insert(field.name.to_owned(), value);
        }
        return;
    }
    let Value::Array(list) = object.entry(field.name).or_insert_with(|| json!([])) else { return };
    match (raw, field.kind) {
        // Numbers of a list come packed together.
        (Raw::Bytes(packed), Kind::Bool | Kind::Int64 | Kind::Uint32 | Kind::Enum(_)) => {
            let mut rest = *packed;
            while let Ok(number) = decode_varint(&mut rest) {
                list.extend(value(field.kind, &Raw::Number(number), depth));
                if rest.is_empty() {
                    break;
                }
            }
        }
        _ => list.extend(value(field.kind, raw, depth)),
    }
}

/// A secret's place: where it is may be seen (a file's name), what it is may not.
fn redacted(mut secret: Value) -> Value {
    match &mut secret {
        Value::Object(source) => {
            if let Some(bytes) = source.get_mut("inline_bytes") {
                *bytes = json!(STANDARD.encode(REDACTED));
            }
            if let Some(text) = source.get_mut("inline_string") {
                *text = json!(REDACTED);
            }
        }
        other => *other = json!(STANDARD.encode(REDACTED)),
    }
    secret
}

/// A field as it is on the wire.
enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<(u32, Raw<'a>)> {
    let (number, wire) = decode_key(rest).ok()?;
    let mut take = |length: usize| {
        let (head, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        Some(head)
    };
    let raw = match wire {
        WireType::Varint => Raw::Number(decode_varint(rest).ok()?),
        WireType::SixtyFourBit => Raw::Number(u64::from_le_bytes(take(8)?.try_into().ok()?)),
        WireType::ThirtyTwoBit => Raw::Number(u64::from(u32::from_le_bytes(take(4)?.try_into().ok()?))),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
            let (head, tail) = rest.split_at_checked(length)?;
            *rest = tail;
            Raw::Bytes(head)
        }
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    Some((number, raw))
}

fn entry(raw: &Raw<'_>, kind: Kind, depth: u32) -> Option<(String, Value)> {
    let Raw::Bytes(bytes) = raw else { return None };
    let mut rest = *bytes;
    let (mut key, mut found) = (String::new(), Value::Null);
    while !rest.is_empty() {
        match next(&mut rest)? {
            (1, Raw::Bytes(bytes)) => key = String::from_utf8_lossy(bytes).into_owned(),
            (2, raw) => found = value(kind, &raw, depth)?,
            _ => {}
        }
    }
    Some((key, found))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // that is how protobuf puts numbers on the wire
fn value(kind: Kind, raw: &Raw<'_>, depth: u32) -> Option<Value> {
    Some(match (kind, raw) {
        (Kind::Bool, Raw::Number(number)) => json!(*number != 0),
        (Kind::Uint32, Raw::Number(number)) => json!(*number as u32),
        // JSON's numbers are doubles, so protobuf writes these as text.
        (Kind::Int64, Raw::Number(number)) => json!((*number as i64).to_string()),
        (Kind::Double, Raw::Number(number)) => json!(f64::from_bits(*number)),
        (Kind::Enum(names), Raw::Number(number)) => {
            let number = *number as i32;
            names.iter().find(|(value, _)| *value == number).map_or_else(|| json!(number), |(_, name)| json!(name))
        }
        (Kind::String, Raw::Bytes(bytes)) => json!(String::from_utf8_lossy(bytes)),
        (Kind::Bytes | Kind::Opaque, Raw::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        (Kind::Message(shape), Raw::Bytes(bytes)) => message(shape, bytes, depth),
        (Kind::Duration, Raw::Bytes(bytes)) => json!(duration(&google::Duration::decode(*bytes).ok()?)),
        (Kind::BoolValue, Raw::Bytes(bytes)) => json!(google::BoolValue::decode(*bytes).ok()?.value),
        (Kind::Uint32Value, Raw::Bytes(bytes)) => json!(google::UInt32Value::decode(*bytes).ok()?.value),
        (Kind::Uint64Value, Raw::Bytes(bytes)) => json!(google::UInt64Value::decode(*bytes).ok()?.value.to_string()),
        (Kind::Struct, Raw::Bytes(bytes)) => structure(bytes),
        (Kind::Any, Raw::Bytes(bytes)) => {
            let inner = google::Any::decode(*bytes).ok()?;
            any_at(&inner.type_url, &inner.value, depth)
        }
        _ => return None,
    })
}

/// `5s`, `0.250s`: protobuf's JSON.
fn duration(value: &google::Duration) -> String {
    if value.nanos == 0 {
        return format!("{}s", value.seconds);
    }
    let fraction = format!("{:09}", value.nanos.unsigned_abs());
    let digits = if fraction.ends_with("000000") {
        3
    } else if fraction.ends_with("000") {
        6
    } else {
        9
    };
    let sign = if value.nanos < 0 && value.seconds == 0 { "-" } else { "" };
    format!("{sign}{}.{}s", value.seconds, fraction.get(..digits).unwrap_or(&fraction))
}

fn structure(bytes: &[u8]) -> Value {
    google::Struct::decode(bytes).map_or(Value::Null, |fields| from_struct(&fields))
}

/// A `Struct` as the JSON it stands for, keys in order.
pub(super) fn from_struct(fields: &google::Struct) -> Value {
    let mut keys: Vec<_> = fields.fields.iter().collect();
    keys.sort_by(|left, right| left.0.cmp(right.0));
    Value::Object(keys.into_iter().map(|(key, value)| (key.clone(), from_value(value))).collect())
}

/// Protobuf's `Value` as JSON.
pub(crate) fn from_value(value: &google::Value) -> Value {
    use google::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => json!(value),
        Some(Kind::NumberValue(number)) => number_value(*number),
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(from_value).collect()),
        Some(Kind::StructValue(fields)) => from_struct(fields),
    }
}

/// A whole number without a fraction.
#[allow(clippy::cast_possible_truncation)] // only where nothing is cut off
fn number_value(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 { json!(number as i64) } else { json!(number) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use xds::{
        any::pack,
        dynamic::{Object, number, string},
        types::{self, cluster, core, google, listener, route, tcp_proxy, tls},
    };

    use super::{any, duration};

    #[test]
    fn a_listener_reads_as_envoy_writes_it() {
        let proxy = tcp_proxy::TcpProxy {
            stat_prefix: "blackhole".into(),
            cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster("BlackHoleCluster".into())),
            idle_timeout: Some(google::Duration { seconds: 3600, nanos: 0 }),
            ..Default::default()
        };
        let mut metadata = core::Metadata::default();
        let forestay = Object::new().set("rule", string("Service default/a")).set("generation", number(3.0)).build();
        metadata.filter_metadata.insert("forestay".into(), forestay);
        let message = listener::Listener {
            name: "virtualOutbound".into(),
            address: Some(types::socket_address("0.0.0.0", 15001)),
            use_original_dst: Some(types::boolean(true)),
            traffic_direction: core::TrafficDirection::Outbound.into(),
            metadata: Some(metadata),
            filter_chains: vec![listener::FilterChain {
                filters: vec![listener::Filter {
                    name: "tcp".into(),
                    config_type: Some(listener::filter::ConfigType::TypedConfig(pack(&proxy))),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let packed = pack(&message);
        let expected = json!({
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
            "name": "virtualOutbound",
            "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15001}},
            "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "blackhole",
                "cluster": "BlackHoleCluster",
                "idle_timeout": "3600s",
            }}]}],
            "use_original_dst": true,
            "metadata": {"filter_metadata": {"forestay": {"generation": 3, "rule": "Service default/a"}}},
            "traffic_direction": "OUTBOUND",
        });
        assert_eq!(any(&packed.type_url, &packed.value), expected);
    }

    #[test]
    fn packed_numbers_wrappers_and_maps_are_read() {
        let retry = route::RetryPolicy {
            num_retries: Some(types::uint32(2)),
            retriable_status_codes: vec![503, 504],
            ..Default::default()
        };
        let action = route::RouteAction { retry_policy: Some(retry), ..Default::default() };
        let packed = pack(&route::VirtualHost {
            name: "a".into(),
            routes: vec![route::Route { action: Some(route::route::Action::Route(action)), ..Default::default() }],
            ..Default::default()
        });
        let json = any(&packed.type_url, &packed.value);
        assert_eq!(
            json["routes"][0]["route"]["retry_policy"],
            json!({"num_retries": 2, "retriable_status_codes": [503, 504]})
        );
        let mut message = cluster::Cluster { name: "c".into(), ..Default::default() };
        message.typed_extension_protocol_options.insert("k".into(), pack(&core::BindConfig::default()));
        let packed = pack(&message);
        let json = any(&packed.type_url, &packed.value);
        assert_eq!(
            json["typed_extension_protocol_options"],
            json!({"k": {"@type": "type.googleapis.com/envoy.config.core.v3.BindConfig"}})
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        use core::data_source::Specifier;
        let source = |specifier| Some(core::DataSource { specifier: Some(specifier), ..Default::default() });
        let certificate = |key| tls::TlsCertificate { private_key: source(key), ..Default::default() };
        let context = tls::DownstreamTlsContext {
            common_tls_context: Some(tls::CommonTlsContext {
                tls_certificates: vec![
                    certificate(Specifier::InlineString("the key".into())),
                    certificate(Specifier::InlineBytes(b"the key".to_vec())),
                    certificate(Specifier::Filename("/etc/key.pem".into())),
                ],
                ..Default::default()
            }),
            session_ticket_keys_type: Some(tls::downstream_tls_context::SessionTicketKeysType::SessionTicketKeys(
                tls::TlsSessionTicketKeys { keys: vec![core::DataSource::default()] },
            )),
            ..Default::default()
        };
        let packed = pack(&context);
        let json = any(&packed.type_url, &packed.value);
        let keys: Vec<_> =
            (0..3).map(|index| &json["common_tls_context"]["tls_certificates"][index]["private_key"]).collect();
        assert_eq!(keys[0], &json!({"inline_string": "[redacted]"}));
        assert_eq!(keys[1], &json!({"inline_bytes": "W3JlZGFjdGVkXQ=="}));
        assert_eq!(keys[2], &json!({"filename": "/etc/key.pem"}));
        assert_eq!(json["session_ticket_keys"], "W3JlZGFjdGVkXQ==");
    }

    #[test]
    fn broken_and_unknown_messages_do_no_harm() {
        let url = xds::type_url::LISTENER;
        assert_eq!(any(url, &[0xff, 0xff, 0xff]), json!({"@type": url}));
        assert_eq!(any(url, &[0x0a, 0x7f, 1]), json!({"@type": url}));
        assert_eq!(any("x/unknown.Type", &[1, 2]), json!({"@type": "x/unknown.Type", "value": "AQI="}));
    }

    #[test]
    fn durations_are_protobufs_json() {
        for (seconds, nanos, text) in
            [(5, 0, "5s"), (0, 250_000_000, "0.250s"), (1, 1_000, "1.000001s"), (1, 1, "1.000000001s")]
        {
            assert_eq!(duration(&google::Duration { seconds, nanos }), text);
        }
    }
}
