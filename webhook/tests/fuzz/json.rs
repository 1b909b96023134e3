//! Arbitrary JSON, and arbitrary changes to some.

use serde_json::{Map, Number, Value, json};

use crate::entropy::Entropy;

/// Text that has broken a reader of something before, or that one of our readers takes apart.
const TEXTS: [&str; 58] = [
    "",
    "a",
    "default",
    "true",
    "false",
    "null",
    "0",
    "1",
    "-1",
    "80",
    "15020",
    "65535",
    "65536",
    "4294967296",
    "99999999999999999999",
    "1e400",
    "NaN",
    "100m",
    "128Mi",
    "1.5",
    "1s",
    "-1s",
    "1.000000001s",
    "9223372036854775807s",
    "*",
    "*.example.com",
    "**",
    "reviews.default.svc.cluster.local",
    "./*",
    "~/x",
    "/",
    "a/b/c",
    "//",
    "http://[::1",
    "10.0.0.1",
    "10.0.0.0/8",
    "10.0.0.0/33",
    "::/0",
    "::ffff:10.0.0.1",
    "80,443",
    ",,,",
    " , ",
    "80:/metrics,90:x",
    "=",
    "a=b",
    "[a-z]+",
    "(",
    "(a{1000}){1000}",
    "{{ .Values.global }}",
    "{{ end }}",
    "concurrency: 2",
    "a: [",
    "&a [*a]",
    "{\"a\":{\"mountPath\":\"/x\"}}",
    "{\"initContainers\":[\"istio-init\"],\"containers\":[\"istio-proxy\",\"a\"],\"revision\":\"x\"}",
    "\u{0}",
    "ä€😀\u{202e}",
    "line one\nline two\t\u{7}",
];

/// Names of members that mean something somewhere.
const KEYS: [&str; 20] = [
    "name",
    "kind",
    "apiVersion",
    "metadata",
    "spec",
    "uid",
    "request",
    "object",
    "labels",
    "annotations",
    "items",
    "containers",
    "template",
    "hosts",
    "http",
    "port",
    "value",
    "",
    "a.b/c",
    "$ref",
];

pub(crate) fn text(e: &mut Entropy<'_>) -> String {
    match e.below(16) {
        0..=12 => e.pick(&TEXTS).to_owned(),
        13 => format!("{}{}", e.pick(&TEXTS), e.pick(&TEXTS)),
        14 => (0..e.below(40)).filter_map(|_| char::from_u32(e.number() % 0x11_0000)).collect(),
        _ => e.pick(&TEXTS).repeat(1 + e.below(2000)),
    }
}

pub(crate) fn key(e: &mut Entropy<'_>) -> String {
    if e.one_in(4) { text(e) } else { e.pick(&KEYS).to_owned() }
}

fn number(e: &mut Entropy<'_>) -> Value {
    match e.below(8) {
        0 => json!(0),
        1 => json!(1),
        2 => json!(-1),
        3 => json!(i64::from(e.number())),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => Number::from_f64(f64::from(e.number()) / 7.0).map_or(Value::Null, Value::Number),
        _ => json!(1e300),
    }
}

/// Any JSON, at most so deep.
pub(crate) fn value(e: &mut Entropy<'_>, depth: usize) -> Value {
    match e.below(if depth == 0 { 5 } else { 9 }) {
        0 => Value::Null,
        1 => Value::Bool(e.one_in(2)),
        2 => number(e),
        3 | 4 => Value::String(text(e)),
        5 | 6 => (0..e.below(4)).map(|_| value(e, depth - 1)).collect(),
        _ => Value::Object((0..e.below(5)).map(|_| (key(e), value(e, depth - 1))).collect()),
    }
}

/// Changes a document at an arbitrary place: another value, a member more or less, another name, an item twice.
pub(crate) fn mutate(e: &mut Entropy<'_>, document: &mut Value) {
    let deeper = !e.one_in(5);
    match document {
        Value::Object(members) if deeper && !members.is_empty() => {
            let name = members.keys().nth(e.below(members.len())).cloned().unwrap_or_default();
            match e.below(12) {
                0 => {
                    members.remove(&name);
                }
                1 => {
                    let member = members.remove(&name).unwrap_or_default();
                    members.insert(key(e), member);
                }
                2 => {
                    members.insert(key(e), value(e, 3));
                }
                _ => mutate(e, members.entry(name).or_insert(Value::Null)),
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let index = e.below(items.len());
            match e.below(8) {
                0 => {
                    items.remove(index);
                }
                1 => items.push(items[index].clone()),
                2 => items.insert(index, value(e, 2)),
                _ => mutate(e, &mut items[index]),
            }
        }
        other => *other = value(e, 3),
    }
}

/// An object with arbitrary members, strings all.
pub(crate) fn strings(e: &mut Entropy<'_>, keys: &[&str], most: usize) -> Value {
    let mut members = Map::new();
    for _ in 0..e.below(most + 1) {
        let name = if e.one_in(8) { key(e) } else { e.pick(keys).to_owned() };
        members.insert(name, Value::String(text(e)));
    }
    Value::Object(members)
}
