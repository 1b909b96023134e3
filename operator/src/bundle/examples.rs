//! An object of each kind, for `alm-examples`: what a console's form for a new object begins with.

use crds::yaml::{self, YamlError};
use serde_json::Value;

use super::Definition;

/// Our own kinds, each in the sample that the guide applies, and Istio's together.
const SAMPLES: [&str; 3] = [
    include_str!("../../../config/samples/meshinstall.yaml"),
    include_str!("../../../config/samples/meshrevisiontag.yaml"),
    include_str!("../../../config/samples/kinds.yaml"),
];

/// The samples of the kinds that the bundle brings, in the order of the definitions.
pub(super) fn examples(definitions: &[Definition]) -> Result<Vec<Value>, YamlError> {
    let mut samples = Vec::new();
    for text in SAMPLES {
        for document in yaml::documents(text) {
            samples.push(document?);
        }
    }
    let of = |definition: &&Definition| {
        let version = format!("{}/{}", definition.group(), definition.version());
        let mut samples = samples.iter();
        samples.find(|sample| sample.api_version() == version && sample.kind() == definition.kind())
    };
    Ok(definitions.iter().filter_map(|definition| of(&definition)).map(|sample| sample.value.clone()).collect())
}
