//! What is beside the manifests: annotations, Dockerfiles, the configuration of the scorecard.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::PACKAGE;
use super::release::{CANDIDATE, Release, STABLE};
use crate::manifests::HEAD;

/// The version of operator-sdk whose scorecard tests the bundle, and of opm that serves the catalog.
const SCORECARD: &str = "quay.io/operator-framework/scorecard-test:v1.42.0";
const OPM: &str = "quay.io/operator-framework/opm:v1.65.0";

/// The tests of the scorecard: its suite, its name.
const TESTS: [(&str, &str); 6] = [
    ("basic", "basic-check-spec"),
    ("olm", "olm-bundle-validation"),
    ("olm", "olm-crds-have-validation"),
    ("olm", "olm-crds-have-resources"),
    ("olm", "olm-spec-descriptors"),
    ("olm", "olm-status-descriptors"),
];

/// What the image's labels and `metadata/annotations.yaml` both say, in order.
fn labels(release: &Release) -> Vec<(&'static str, String)> {
    let channels = release.channels();
    let default = if channels.contains(&STABLE) { STABLE } else { CANDIDATE };
    vec![
        ("operators.operatorframework.io.bundle.mediatype.v1", "registry+v1".to_owned()),
        ("operators.operatorframework.io.bundle.manifests.v1", "manifests/".to_owned()),
        ("operators.operatorframework.io.bundle.metadata.v1", "metadata/".to_owned()),
        ("operators.operatorframework.io.bundle.package.v1", PACKAGE.to_owned()),
        ("operators.operatorframework.io.bundle.channels.v1", channels.join(",")),
        ("operators.operatorframework.io.bundle.channel.default.v1", default.to_owned()),
        ("operators.operatorframework.io.test.mediatype.v1", "scorecard+v1".to_owned()),
        ("operators.operatorframework.io.test.config.v1", "tests/scorecard/".to_owned()),
    ]
}

/// `metadata/annotations.yaml`.
pub(super) fn annotations(release: &Release) -> Value {
    let annotations: Map<String, Value> =
        labels(release).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({"annotations": annotations})
}

/// `bundle.Dockerfile`, to be built in its folder.
pub(super) fn dockerfile(release: &Release) -> String {
    let mut text = format!("{HEAD}# docker build -f bundle.Dockerfile -t <image of the bundle> .\nFROM scratch\n\n");
    for (name, value) in labels(release) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "LABEL {name}={value}");
    }
    text.push_str("\nCOPY manifests /manifests/\nCOPY metadata /metadata/\nCOPY tests/scorecard /tests/scorecard/\n");
    text
}

/// `tests/scorecard/config.yaml`.
pub(super) fn scorecard() -> Value {
    let tests: Vec<Value> = TESTS
        .iter()
        .map(|(suite, test)| {
            json!({
                "entrypoint": ["scorecard-test", test],
                "image": SCORECARD,
                "labels": {"suite": suite, "test": format!("{test}-test")},
            })
        })
        .collect();
    json!({
        "apiVersion": "scorecard.operatorframework.io/v1alpha3",
        "kind": "Configuration",
        "metadata": {"name": "config"},
        "stages": [{"parallel": true, "tests": tests}],
    })
}

/// `config/catalog.Dockerfile`, to be built in `config`, as `opm generate dockerfile` writes it.
pub(super) fn catalog_dockerfile() -> String {
    format!(
        "{HEAD}# docker build -f catalog.Dockerfile -t <image of the catalog> .\n\
         FROM {OPM} AS builder\n\
         ADD catalog /configs\n\
         RUN [\"/bin/opm\", \"serve\", \"/configs\", \"--cache-dir=/tmp/cache\", \"--cache-only\"]\n\n\
         FROM {OPM}\n\
         ENTRYPOINT [\"/bin/opm\"]\n\
         CMD [\"serve\", \"/configs\", \"--cache-dir=/tmp/cache\"]\n\
         COPY --from=builder /configs /configs\n\
         COPY --from=builder /tmp/cache /tmp/cache\n\
         LABEL operators.operatorframework.io.index.configs.v1=/configs\n"
    )
}
