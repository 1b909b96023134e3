//! What is said about an object grows no faster than the object, whatever list in it is long.
//!
//! For every list and map in the schema of every kind there are two objects, the second with four times as many items. What
//! is counted is memory that a check asks for, which no machine makes faster or slower.

#![allow(clippy::unwrap_used)] // a test fails by panicking
#![expect(unsafe_code, reason = "a counting allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use forestay_crds::kinds::Kind;
use serde_json::{Map, Value, json};

struct Counting;

thread_local! {
    static ASKED_FOR: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: what is asked for is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Gone when a thread ends.
        let _ = ASKED_FOR.try_with(|asked_for| asked_for.set(asked_for.get() + layout.size()));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the items of a long list are.
#[derive(Clone, Copy, Debug)]
enum Items {
    /// All the same.
    Alike,
    /// None like another.
    Different,
    /// Each the beginning, or the end, of others.
    Nested,
}

impl Items {
    fn text(self, index: usize) -> String {
        match self {
            Self::Alike => "*.a".to_owned(),
            Self::Different => format!("a{index}.b"),
            Self::Nested => format!("*.{}", "a.".repeat(index % 20)),
        }
    }
}

/// A value of a schema, in which the list or map at `long` (a path in the schema) has so many items.
fn value(schema: &Value, path: &str, long: &str, size: usize, items: Items, index: usize) -> Value {
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    if let Some(first) = schema.pointer("/enum/0") {
        return first.clone();
    }
    let on_the_way = |path: &str| long == path || long.starts_with(&format!("{path}/"));
    match text("type") {
        Some("object") => {
            let mut members = Map::new();
            for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let path = format!("{path}/{name}");
                // Of all else only what is plain.
                let plain =
                    !["object", "array"].contains(&inner.get("type").and_then(Value::as_str).unwrap_or_default());
                if on_the_way(&path) || (plain && long.starts_with(path.rsplit_once('/').unwrap().0)) {
                    members.insert(name.clone(), value(inner, &path, long, size, items, index));
                }
            }
            if let Some(inner) = schema.get("additionalProperties") {
                for index in 0..if long == path { size } else { 1 } {
                    let key = if long == path { format!("{}{index}", items.text(index)) } else { "a".to_owned() };
                    members.insert(key, value(inner, &format!("{path}/*"), long, size, items, index));
                }
            }
            Value::Object(members)
        }
        Some("array") => {
            let count = if long == path { size } else { 1 };
            let inner = schema.get("items").unwrap();
            (0..count).map(|index| value(inner, &format!("{path}/*"), long, size, items, index)).collect()
        }
        Some("integer") => json!(index % 65535 + 1),
        Some("number") => json!(index % 100),
        Some("boolean") => json!(true),
        // Durations have a form.
        Some("string") if path.ends_with("imeout") || path.ends_with("nterval") => json!("1s"),
        _ => json!(items.text(index)),
    }
}

/// Paths of the lists and maps of a schema.
fn lists(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        lists(inner, &format!("{path}/{name}"), found);
    }
    for inner in [schema.get("items"), schema.get("additionalProperties")].into_iter().flatten() {
        found.push(path.to_owned());
        lists(inner, &format!("{path}/*"), found);
    }
}

#[test]
fn what_a_check_takes_grows_with_the_object() {
    let mut slow = Vec::new();
    let mut looked_at = 0;
    for kind in Kind::ALL {
        let schema = kind.schema();
        let spec = schema.pointer("/properties/spec").unwrap();
        let mut long = Vec::new();
        lists(spec, "", &mut long);
        for long in long {
            for items in [Items::Alike, Items::Different, Items::Nested] {
                let of = |size: usize| {
                    let object = json!({
                        "apiVersion": format!("{}/{}", kind.group(), kind.stored_version()),
                        "kind": kind.name(),
                        "metadata": {"name": "a", "namespace": "b"},
                        "spec": value(spec, "", &long, size, items, 0),
                    });
                    let before = ASKED_FOR.get();
                    let problems = kind.check(object.clone());
                    kind.unknown_fields(&object);
                    let found = problems.map_or(0, |problems| problems.len());
                    assert!(found < 1100, "{} {long}: {found} problems", kind.name());
                    (ASKED_FOR.get() - before, object.to_string().len())
                };
                // The first look at a kind reads its schema.
                of(1);
                let ((small, _), (large, length)) = (of(150), of(600));
                looked_at += 1;
                if large > small * 5 + 65536 {
                    slow.push(format!("{} {long} ({items:?}, {length} bytes): {small}, then {large}", kind.name()));
                }
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
    assert!(looked_at > 550, "only {looked_at} objects");
}
