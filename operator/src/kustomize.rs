//! The operator's YAML as bases for kustomize: `config/crd`, `config/operator`, `config/rbac`, and `config/default`, which
//! is all three. In come the names of the files; out goes a `kustomization.yaml` for each folder.

use crds::yaml::{self, YamlError};
use serde_json::json;

use crate::manifests::{HEAD, Manifest};

/// The bases. `kubectl apply -k config/default` applies what `config/install.yaml` holds.
pub(crate) fn bases(definitions: &[String]) -> Result<Vec<Manifest>, YamlError> {
    let operator = ["operator.yaml".to_owned()];
    let parts = ["../crd".to_owned(), "../operator".to_owned(), "../rbac".to_owned()];
    [
        ("config/crd", definitions),
        ("config/operator", &operator[..]),
        ("config/rbac", &operator[..]),
        ("config/default", &parts[..]),
    ]
    .into_iter()
    .map(|(folder, resources)| {
        let kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": resources,
        });
        let content = format!("{HEAD}{}", yaml::to_string(&kustomization)?);
        Ok(Manifest { path: format!("{folder}/kustomization.yaml"), content })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use crate::manifests::manifests;

    /// What kustomize does with these bases, which change nothing: it reads what they list, folder by folder.
    fn collect(files: &BTreeMap<String, String>, folder: &str, into: &mut Vec<Value>) {
        let list = crds::yaml::value(&files[&format!("{folder}/kustomization.yaml")]).unwrap();
        for resource in list["resources"].as_array().unwrap() {
            let resource = resource.as_str().unwrap();
            match resource.strip_prefix("../") {
                Some(other) => collect(files, &format!("config/{other}"), into),
                None => into.extend(documents(&files[&format!("{folder}/{resource}")])),
            }
        }
    }

    fn documents(text: &str) -> Vec<Value> {
        crds::yaml::documents(text).into_iter().map(|document| document.unwrap().value).collect()
    }

    /// The scenario `bundle/kustomize` asks kubectl the same.
    #[test]
    fn the_default_base_holds_what_the_one_file_holds() {
        let mut files: BTreeMap<String, String> =
            manifests().unwrap().into_iter().map(|manifest| (manifest.path, manifest.content)).collect();
        let definitions = crds::manifests().unwrap();
        files.extend(definitions.into_iter().map(|file| (format!("config/crd/{}", file.file_name), file.yaml)));
        let mut collected = Vec::new();
        collect(&files, "config/default", &mut collected);
        assert_eq!(collected, documents(&files["config/install.yaml"]));
    }
}
