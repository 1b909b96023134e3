//! The file-based catalog: what `opm render` makes of the bundle, with package and channels around it.

use crds::yaml::{self, YamlError};
use serde_json::{Map, Value, json};

use super::release::{CANDIDATE, Release, STABLE};
use super::{Definition, PACKAGE, bundle_image, csv};
use crate::manifests::HEAD;

/// The package and its channels.
pub(super) fn package(release: &Release) -> Result<String, YamlError> {
    let default = if release.channels().contains(&STABLE) { STABLE } else { CANDIDATE };
    let mut documents = vec![json!({
        "schema": "olm.package",
        "name": PACKAGE,
        "defaultChannel": default,
        "description": csv::SUMMARY,
        "icon": csv::icon(),
    })];
    let mut line = release.line();
    line.push(release.clone());
    for channel in [STABLE, CANDIDATE] {
        let entries: Vec<Value> =
            line.iter().filter(|one| one.channels().contains(&channel)).map(|one| entry(one, channel)).collect();
        if !entries.is_empty() {
            documents.push(json!({
                "schema": "olm.channel", "package": PACKAGE, "name": channel, "entries": entries,
            }));
        }
    }
    let documents = documents.iter().map(yaml::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{HEAD}{}", documents.join("---\n")))
}

fn entry(release: &Release, channel: &str) -> Value {
    let mut entry = Map::from_iter([("name".to_owned(), release.name().into())]);
    if let Some(before) = release.replaces(channel) {
        entry.insert("replaces".to_owned(), before.into());
    }
    entry.insert("skipRange".to_owned(), release.skip_range().into());
    entry.into()
}

/// The bundle's entry. The checker in `e2e/go-olm` compares it with what OLM's own code makes of the bundle.
pub(super) fn bundle(release: &Release, csv: &Value, definitions: &[Definition]) -> Value {
    let kinds = definitions.iter().flat_map(|definition| {
        definition.versions().map(|(version, _)| {
            let value = json!({"group": definition.group(), "kind": definition.kind(), "version": version});
            json!({"type": "olm.gvk", "value": value})
        })
    });
    let mut properties: Vec<Value> = kinds.collect();
    let package = json!({"packageName": PACKAGE, "version": release.version().to_string()});
    properties.push(json!({"type": "olm.package", "value": package}));
    properties.push(json!({"type": "olm.csv.metadata", "value": csv_metadata(csv)}));

    let image = bundle_image(release);
    let mut related = vec![json!({"name": "", "image": image})];
    related.extend(csv::related_images().iter().map(|(name, image)| json!({"name": name, "image": image})));
    json!({
        "schema": "olm.bundle",
        "package": PACKAGE,
        "name": release.name(),
        "image": image,
        "properties": properties,
        "relatedImages": related,
    })
}

/// What consoles show of a ClusterServiceVersion without having it.
fn csv_metadata(csv: &Value) -> Value {
    let field = |pointer: &str| csv.pointer(pointer).cloned().unwrap_or_default();
    json!({
        "annotations": field("/metadata/annotations"),
        "apiServiceDefinitions": {},
        "crdDescriptions": field("/spec/customresourcedefinitions"),
        "description": field("/spec/description"),
        "displayName": field("/spec/displayName"),
        "installModes": field("/spec/installModes"),
        "keywords": field("/spec/keywords"),
        "labels": field("/metadata/labels"),
        "links": field("/spec/links"),
        "maintainers": field("/spec/maintainers"),
        "maturity": field("/spec/maturity"),
        "minKubeVersion": field("/spec/minKubeVersion"),
        "provider": field("/spec/provider"),
    })
}
