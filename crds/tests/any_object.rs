//! Whatever an object looks like, the door answers: no panic, and no field of the schema is called unknown.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeMap;
use std::sync::LazyLock;

use forestay_crds::kinds::Kind;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// What an object is made by: each choice takes the next number, and when they end everything is empty.
struct Choices {
    numbers: std::vec::IntoIter<u32>,
    /// Whether a value may be something else than its schema says.
    wild: bool,
}

/// Texts that somewhere in Istio's API mean something, and some that should not.
const TEXTS: [&str; 24] = [
    "",
    "*",
    "a",
    "a.b.svc.cluster.local",
    "*.example.com",
    "./*",
    "~/*",
    "10.0.0.0/8",
    "::1",
    "unix:///a/b",
    "unix://",
    "80",
    "1s",
    "-1s",
    "(",
    "http://[::1",
    "oci://a/b:c",
    "{\"keys\": [{\"kty\": \"RSA\"}]}",
    "{**}/{*}",
    "\u{0}",
    "ü",
    "request.headers[",
    "99999999999999999999",
    "a/b/c",
];

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        self.numbers.next().and_then(|number| usize::try_from(number).ok()).unwrap_or_default() % bound.max(1)
    }

    fn text(&mut self) -> String {
        TEXTS[self.below(TEXTS.len())].to_owned()
    }

    fn anything(&mut self) -> Value {
        match self.below(8) {
            0 => Value::Null,
            1 => json!(self.below(2) == 1),
            2 => json!(-1.5e300),
            3 => json!(u64::MAX),
            4 => json!(self.text()),
            5 => json!([self.text(), null, 1]),
            _ => Value::Object(Map::from_iter([(self.text(), json!(self.text()))])),
        }
    }

    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        if self.wild && self.below(12) == 1 {
            return self.anything();
        }
        if let Some(values) = schema["enum"].as_array() {
            return values[self.below(values.len())].clone();
        }
        match schema["type"].as_str().unwrap_or_default() {
            "object" => self.object(schema, depth),
            "array" => (0..self.below(3)).map(|_| self.value(&schema["items"], depth + 1)).collect(),
            "boolean" => json!(self.below(2) == 1),
            "integer" => json!([0, 1, 80, 65536, i64::from(i32::MAX), -1][self.below(6)]),
            "number" => json!([0.0, 0.5, 100.0, 1e9, -1.0][self.below(5)]),
            _ => json!(self.text()),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut members = Map::new();
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            // The deeper, the rarer.
            if self.below(2 + depth) == 1 {
                members.insert(name.clone(), self.value(inner, depth + 1));
            }
        }
        if let Some(inner) = schema.get("additionalProperties") {
            for _ in 0..self.below(3) {
                members.insert(self.text(), self.value(inner, depth + 1));
            }
        }
        Value::Object(members)
    }
}

/// The schema of each kind's spec.
static SCHEMAS: LazyLock<BTreeMap<Kind, Value>> = LazyLock::new(|| {
    let spec = |kind: Kind| {
        json!(kind.definition())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take()
    };
    Kind::ALL.iter().map(|kind| (*kind, spec(*kind))).collect()
});

fn object(kind: Kind, numbers: Vec<u32>, wild: bool) -> Value {
    let spec = Choices { numbers: numbers.into_iter(), wild }.object(&SCHEMAS[&kind], 0);
    json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})
}

fn kinds() -> impl Strategy<Value = Kind> {
    select(Kind::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_is_given(kind in kinds(), numbers in proptest::collection::vec(any::<u32>(), 0..400), wild in any::<bool>()) {
        let object = object(kind, numbers, wild);
        // Whatever it says; that it says something is the property.
        let _ = kind.check(object.clone());
        let _ = kind.schema_problems(&object);
        let unknown = kind.unknown_fields(&object);
        prop_assert!(wild || unknown.is_empty(), "{:?}", unknown);
    }

    #[test]
    fn anything_at_all_is_answered(kind in kinds(), numbers in proptest::collection::vec(any::<u32>(), 0..8)) {
        let mut choices = Choices { numbers: numbers.into_iter(), wild: true };
        let (metadata, spec, whole) = (choices.anything(), choices.anything(), choices.anything());
        for object in [json!({"metadata": metadata, "spec": spec}), whole] {
            let _ = kind.check(object.clone());
            let _ = kind.schema_problems(&object);
            let _ = kind.unknown_fields(&object);
        }
    }

    #[test]
    fn a_field_too_many_is_found(kind in kinds(), numbers in proptest::collection::vec(any::<u32>(), 0..400)) {
        let mut object = object(kind, numbers, false);
        object["spec"]["noSuchField"] = json!(1);
        prop_assert_eq!(kind.unknown_fields(&object), ["spec.noSuchField"]);
    }
}
