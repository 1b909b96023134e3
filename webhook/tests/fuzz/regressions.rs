//! What once went wrong, or is known to break readers, by name.

use serde_json::{Value, json};

use crate::entropy::Entropy;
use crate::{answer, question, review, settings, uid, validate};

/// Bodies that no generator makes.
#[test]
fn bodies() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deep = |depth: usize| {
        let review = question("", "v1", "Pod", "CREATE", &json!("HERE")).to_string();
        review.replace("\"HERE\"", &nested(depth)).into_bytes()
    };
    let rows: Vec<(&str, Vec<u8>, Option<&str>)> = vec![
        ("nothing", vec![], None),
        ("not text", vec![0xff, 0xfe, 0x00], None),
        ("not JSON", b"hello".to_vec(), None),
        ("null", b"null".to_vec(), None),
        ("a number that is too large", b"{\"request\":{\"uid\":\"u\",\"object\":1e999}}".to_vec(), Some("u")),
        ("half a surrogate", b"{\"request\":{\"uid\":\"u\",\"object\":\"\\ud800\"}}".to_vec(), Some("u")),
        ("a list in a list, without end", vec![b'['; 100_000], None),
        ("an object as deep as a reader goes", deep(100), None),
        ("an object deeper than a reader goes", deep(10_000), Some("705ab4f5-6393-11e8-b7cc-42010a800002")),
        ("the same member twice", b"{\"request\":{\"uid\":\"u\",\"uid\":\"v\"}}".to_vec(), None),
        (
            "another uid before the request's",
            b"{\"apiVersion\":{\"uid\":\"v\"},\"request\":{\"uid\":\"u\"}}".to_vec(),
            Some("u"),
        ),
        ("two reviews", b"{\"request\":{\"uid\":\"u\"}}{}".to_vec(), Some("u")),
    ];
    let settings = settings(&mut Entropy::new(&[]));
    for (name, body, uid) in rows {
        let read = |answer| answer::read(&answer, uid).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!read(review(&body, &[], Some(&settings))).allowed, "{name}");
        // A pod is not of the kinds that are validated, so that an object which can be read passes there.
        let passes = name == "an object as deep as a reader goes";
        assert_eq!(read(validate(&body)).allowed, passes, "{name}");
    }
}

/// Pods that the fuzzer found.
#[test]
fn pods() {
    let rows: [(&str, Value); 1] =
        [("no spec at all", json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}))];
    let settings = settings(&mut Entropy::new(&[]));
    for (name, pod) in rows {
        let question = question("", "v1", "Pod", "CREATE", &pod);
        let answer = review(question.to_string().as_bytes(), &[], Some(&settings));
        answer::read(&answer, uid(&question)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
