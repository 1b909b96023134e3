//! What Istio takes is taken: objects of every kind and version that are legal and unusual (`legal.yaml`).

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeSet;

use forestay_crds::check::Severity;
use forestay_crds::kinds::Kind;
use forestay_crds::yaml::documents;

#[test]
fn what_is_legal_is_taken() {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for document in documents(include_str!("legal.yaml")) {
        let document = document.unwrap();
        let kind = Kind::of(document.group(), document.kind()).unwrap();
        let version = document.api_version().rsplit('/').next().unwrap_or_default().to_owned();
        let object = &document.value;
        let who = format!("{} {}", kind.name(), object["metadata"]["name"]);
        if !kind.versions().contains(&version.as_str()) {
            wrong.push(format!("{who}: is not served in {version}"));
        }
        seen.insert((kind, version));
        wrong.extend(kind.unknown_fields(object).iter().map(|field| format!("{who}: unknown {field}")));
        wrong.extend(kind.schema_problems(object).iter().map(|problem| format!("{who}: {problem}")));
        let problems = match kind.check(object.clone()) {
            Ok(problems) => problems,
            Err(error) => {
                wrong.push(format!("{who}: {error}"));
                continue;
            }
        };
        let warns = object["metadata"]["annotations"]["warns"].as_str();
        let mut warned = false;
        for problem in problems {
            let expected = warns.is_some_and(|part| problem.message.contains(part));
            warned |= expected;
            if problem.severity == Severity::Error || !expected {
                wrong.push(format!("{who}: {problem}"));
            }
        }
        if warns.is_some() && !warned {
            wrong.push(format!("{who}: no warning"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let missing: Vec<_> = Kind::ALL.iter().filter(|kind| !seen.iter().any(|(own, _)| own == *kind)).collect();
    assert!(missing.is_empty(), "no document of {missing:?}");
}
