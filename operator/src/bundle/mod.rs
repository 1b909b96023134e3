//! The operator as a package for OLM, the Operator Lifecycle Manager: a bundle of format registry+v1 and a file-based
//! catalog with it. In comes what the rest of this crate says of the operator and what `crds` says of the kinds; out go
//! the files of `config/bundle` and `config/catalog`.
//!
//! * `csv`: the ClusterServiceVersion: what OLM installs, and what its catalogs show
//! * `descriptors`: our own kinds' fields as OpenShift's console shows them, from their schemas
//! * `examples`: an object of each kind, from `config/samples`
//! * `metadata`: annotations, Dockerfiles, the configuration of the scorecard
//! * `catalog`: package, channels, and the bundle's entry
//! * `release`: which version takes over from which
//!
//! What OLM v1 asks beyond OLM v0 is kept: all namespaces or none, no dependencies on other packages, no webhooks in the
//! CSV, no conversion webhooks in definitions.

mod catalog;
mod csv;
mod descriptors;
mod examples;
mod metadata;
mod release;

use crds::yaml::{self, YamlError};
use names::images;
use serde_json::Value;

use crate::manifests::{HEAD, Manifest};
use release::Release;

/// The package's name in catalogs.
const PACKAGE: &str = names::resources::OPERATOR;
/// The folder of the bundle.
const FOLDER: &str = "config/bundle";
/// The folder of the package in the catalog.
const CATALOG: &str = "config/catalog/forestay-operator";

/// One of the definitions that the bundle brings.
struct Definition {
    /// As in `config/crd`.
    file_name: String,
    yaml: String,
    value: Value,
}

impl Definition {
    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// `<plural>.<group>`.
    fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    fn group(&self) -> &str {
        self.text("/spec/group")
    }

    fn kind(&self) -> &str {
        self.text("/spec/names/kind")
    }

    /// Whether it is one of our own kinds, not Istio's.
    fn is_ours(&self) -> bool {
        self.group() == names::resources::API_GROUP
    }

    /// All versions with their schemas, the stored one first.
    fn versions(&self) -> impl Iterator<Item = (&str, &Value)> {
        let versions = self.value.pointer("/spec/versions").and_then(Value::as_array);
        versions
            .into_iter()
            .flatten()
            .filter_map(|version| Some((version.get("name")?.as_str()?, version.pointer("/schema/openAPIV3Schema")?)))
    }

    /// The version that people should write: the most stable one.
    fn version(&self) -> &str {
        let priority = |version: &&str| kube::core::Version::parse(version).priority();
        self.versions().map(|(name, _)| name).max_by_key(priority).unwrap_or_default()
    }
}

/// Every file of the bundle and of its catalog. The same code gives the same text.
pub fn bundle() -> Result<Vec<Manifest>, YamlError> {
    let definitions = crds::manifests()?
        .into_iter()
        .map(|manifest| {
            let value = yaml::value(&manifest.yaml)?;
            Ok(Definition { file_name: manifest.file_name, yaml: manifest.yaml, value })
        })
        .collect::<Result<Vec<_>, YamlError>>()?;
    let release = Release::current();
    let csv = csv::csv(&release, &definitions)?;

    let mut files = vec![
        (format!("{FOLDER}/bundle.Dockerfile"), metadata::dockerfile(&release)),
        (format!("{FOLDER}/metadata/annotations.yaml"), written(&metadata::annotations(&release))?),
        (format!("{FOLDER}/tests/scorecard/config.yaml"), written(&metadata::scorecard())?),
        (format!("{FOLDER}/manifests/{PACKAGE}.clusterserviceversion.yaml"), written(&csv)?),
        ("config/catalog.Dockerfile".to_owned(), metadata::catalog_dockerfile()),
        (format!("{CATALOG}/package.yaml"), catalog::package(&release)?),
        (catalog_file(&release.name()), written(&catalog::bundle(&release, &csv, &definitions))?),
    ];
    files.extend(definitions.into_iter().map(|file| (format!("{FOLDER}/manifests/{}", file.file_name), file.yaml)));
    Ok(files.into_iter().map(|(path, content)| Manifest { path, content }).collect())
}

/// The catalog's files that stay as they were when their versions were released.
pub fn released_catalogs() -> Vec<String> {
    Release::earlier().iter().map(|release| catalog_file(&release.name())).collect()
}

fn catalog_file(release: &str) -> String {
    format!("{CATALOG}/{release}.yaml")
}

fn written(value: &Value) -> Result<String, YamlError> {
    Ok(format!("{HEAD}{}", yaml::to_string(value)?))
}

/// The image of the bundle itself, which catalogs name.
fn bundle_image(release: &Release) -> String {
    images::reference(images::HUB, &format!("{PACKAGE}-bundle"), &release.version().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::LazyLock;

    use serde_json::Value;

    use super::{FOLDER, bundle};
    use crate::manifests::Manifest;
    use crate::manifests::tests::check_committed;

    static BUNDLE: LazyLock<Vec<Manifest>> = LazyLock::new(|| bundle().unwrap());

    fn csv() -> Value {
        let file = BUNDLE.iter().find(|file| file.path.ends_with(".clusterserviceversion.yaml")).unwrap();
        crds::yaml::value(&file.content).unwrap()
    }

    #[test]
    fn the_committed_files_are_current() {
        check_committed(&BUNDLE);
    }

    /// OLM keeps a bundle in one object, and etcd takes 1.5 MB.
    #[test]
    fn the_bundle_is_small() {
        let size: usize =
            BUNDLE.iter().filter(|file| file.path.starts_with(FOLDER)).map(|file| file.content.len()).sum();
        assert!(size < 1_000_000, "{size} bytes");
    }

    #[test]
    fn every_definition_is_owned_described_and_has_an_example() {
        let csv = csv();
        let examples: Vec<Value> =
            serde_json::from_str(csv["metadata"]["annotations"]["alm-examples"].as_str().unwrap()).unwrap();
        let examples: BTreeSet<(&str, &str)> = examples
            .iter()
            .map(|example| (example["apiVersion"].as_str().unwrap(), example["kind"].as_str().unwrap()))
            .collect();
        let owned = csv["spec"]["customresourcedefinitions"]["owned"].as_array().unwrap();
        assert_eq!(owned.len(), crds::manifests().unwrap().len());
        for one in owned {
            let (name, kind) = (one["name"].as_str().unwrap(), one["kind"].as_str().unwrap());
            let (_, group) = name.split_once('.').unwrap();
            let version = format!("{group}/{}", one["version"].as_str().unwrap());
            assert!(examples.contains(&(&version, kind)), "no file of config/samples has a {version} {kind}");
            assert!(!one["description"].as_str().unwrap().is_empty(), "{name} has no description");
        }
    }

    #[test]
    fn every_field_of_a_mesh_install_is_described() {
        let csv = csv();
        let owned = csv["spec"]["customresourcedefinitions"]["owned"].as_array().unwrap();
        let install = owned.iter().find(|one| one["kind"] == "MeshInstall").unwrap();
        let name = "meshinstalls.install.forestay.dev.yaml";
        let definition = crds::manifests().unwrap().into_iter().find(|file| file.file_name == name).unwrap();
        let definition = crds::yaml::value(&definition.yaml).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for (part, list) in [("spec", "specDescriptors"), ("status", "statusDescriptors")] {
            let described: BTreeSet<&str> =
                install[list].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
            for field in schema[part]["properties"].as_object().unwrap().keys() {
                assert!(described.contains(field.as_str()), "{part}.{field}");
            }
        }
        for descriptor in install["specDescriptors"].as_array().unwrap() {
            assert!(!descriptor["description"].as_str().unwrap_or_default().is_empty(), "{descriptor}");
        }
    }

    /// The operator's environment and the list that catalogs mirror are one list.
    #[test]
    fn what_the_operator_runs_is_what_a_mirror_holds() {
        let csv = csv();
        let container = &csv["spec"]["install"]["spec"]["deployments"][0]["spec"]["template"]["spec"]["containers"][0];
        let related: BTreeSet<&str> =
            csv["spec"]["relatedImages"].as_array().unwrap().iter().map(|one| one["image"].as_str().unwrap()).collect();
        let environment: BTreeSet<&str> = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|variable| variable["name"].as_str().unwrap().starts_with("RELATED_IMAGE_"))
            .map(|variable| variable["value"].as_str().unwrap())
            .collect();
        assert_eq!(related, environment);
        assert!(related.contains(container["image"].as_str().unwrap()));
    }

    #[test]
    fn what_olm_v1_cannot_take_is_not_there() {
        let csv = csv();
        let modes = csv["spec"]["installModes"].as_array().unwrap();
        let supported: Vec<&str> =
            modes.iter().filter(|mode| mode["supported"] == true).map(|mode| mode["type"].as_str().unwrap()).collect();
        assert_eq!(supported, ["AllNamespaces"]);
        for absent in ["webhookdefinitions", "apiservicedefinitions"] {
            assert!(csv["spec"].get(absent).is_none(), "{absent}");
        }
        assert!(csv["spec"]["customresourcedefinitions"].get("required").is_none());
        for file in BUNDLE.iter() {
            assert!(!file.path.ends_with("dependencies.yaml"), "{}", file.path);
            if file.path.contains("/manifests/") && !file.path.contains("clusterserviceversion") {
                let conversion = &crds::yaml::value(&file.content).unwrap()["spec"]["conversion"];
                assert!(conversion.is_null() || conversion["strategy"] == "None", "{}: {conversion}", file.path);
            }
        }
    }
}
