//! What injection depends on beside the pod: the two ConfigMaps of a revision, read into types.
//!
//! ConfigMap `istio[-<revision>]`, key `mesh`, is the MeshConfig; `istio-sidecar-injector[-<revision>]` has `config`
//! (policy, selectors, templates) and `values` (the part of Istio's Helm values that concerns injection). What they leave
//! out has Istio's default.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::meshconfig::MeshConfig;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use super::cluster::Cluster;
use super::template::UserTemplate;
pub use super::values::{Values, unread};

/// Everything that injection depends on beside the pod; immutable, replaced as a whole.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The revision that this webhook injects.
    pub revision: String,
    /// Policy and selectors.
    pub config: Config,
    /// Images, ports, resources, annotations.
    pub values: Values,
    /// The mesh's settings.
    pub mesh: MeshConfig,
    /// Key `values` as it is written, for templates.
    pub(crate) raw_values: Value,
    /// The user's templates by name, each by itself: a broken one is refused to the pods that ask for it.
    pub(crate) templates: BTreeMap<String, UserTemplate>,
    /// Whether the cluster's kubelets run native sidecars, or what the values say instead.
    pub native_sidecars: bool,
    /// Whether the values leave it to the kubelets.
    native_by_node: bool,
    /// Namespaces and nodes.
    pub cluster: Arc<Cluster>,
}

/// A ConfigMap that cannot be used; the message names ConfigMap, key, and line or field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ConfigMap {config_map}, key {key}: {message}")]
pub struct SettingsError {
    config_map: String,
    key: &'static str,
    message: String,
}

impl Settings {
    /// Reads the contents of both ConfigMaps (`data`) of a revision.
    pub fn read(
        revision: &str,
        mesh: &BTreeMap<String, String>,
        injector: &BTreeMap<String, String>,
        native_sidecars: bool,
    ) -> Result<Self, SettingsError> {
        let mesh_name = names::resources::mesh_config(revision);
        let injector_name = names::resources::injector(revision);
        let mesh = MeshConfig::from_yaml(key(&mesh_name, mesh, "mesh")?)
            .map_err(|error| SettingsError::new(&mesh_name, "mesh", &error))?;
        let config: Config = crds::yaml::from_str(key(&injector_name, injector, "config")?)
            .map_err(|error| SettingsError::new(&injector_name, "config", &error))?;
        // JSON is YAML, so a person may write either.
        let text = key(&injector_name, injector, "values")?;
        let values: Values =
            crds::yaml::from_str(text).map_err(|error| SettingsError::new(&injector_name, "values", &error))?;
        let raw_values =
            crds::yaml::value(text).map_err(|error| SettingsError::new(&injector_name, "values", &error))?;
        let native = match values.pilot.env.get(super::values::NATIVE_SIDECARS).map_or("auto", |value| value.trim()) {
            "" | "auto" => None,
            other => Some(super::annotations::boolean(other).map_err(|_| {
                let message = format!("pilot.env.ENABLE_NATIVE_SIDECARS: \"{other}\" is none of auto, true, false");
                SettingsError::new(&injector_name, "values", &message)
            })?),
        };
        // What the chart does when it writes key `config` is done here again, for values that came another way.
        let mut config = config;
        let ours = &values.sidecar_injector_webhook;
        for (name, text) in &ours.templates {
            config.templates.entry(name.clone()).or_insert_with(|| text.clone());
        }
        for (name, of) in &ours.aliases {
            config.aliases.entry(name.clone()).or_insert_with(|| of.clone());
        }
        if config.default_templates.is_empty() {
            config.default_templates.clone_from(&ours.default_templates);
        }
        if config.default_templates.is_empty() {
            config.default_templates = vec![super::template::SIDECAR.to_owned()];
        }
        let templates = config.templates.iter().map(|(name, text)| (name.clone(), UserTemplate::parse(name, text)));
        Ok(Self {
            revision: revision.to_owned(),
            templates: templates.collect(),
            config,
            values,
            raw_values,
            mesh,
            native_sidecars: native.unwrap_or(native_sidecars),
            native_by_node: native.is_none(),
            cluster: Arc::default(),
        })
    }

    /// The same settings in the cluster as it is now.
    #[must_use]
    pub fn within(mut self, cluster: Arc<Cluster>) -> Self {
        self.cluster = cluster;
        self
    }

    /// Takes over the last good version of templates that are broken now. What comes back names each broken one, and says
    /// why.
    pub fn keep_good_templates(&mut self, earlier: Option<&Self>) -> Vec<String> {
        let mut broken = Vec::new();
        for (name, template) in &mut self.templates {
            let Err(problem) = template.checked() else { continue };
            let good = earlier.and_then(|earlier| earlier.templates.get(name)).filter(|one| one.checked().is_ok());
            let outcome = if good.is_some() {
                "its last good version stays in force"
            } else {
                "pods that ask for it are refused"
            };
            broken.push(format!("template \"{name}\" is broken, {outcome}: {problem}"));
            if let Some(good) = good {
                *template = good.clone();
            }
        }
        broken
    }

    /// Whether a pod gets a native sidecar: by its node's kubelet where it has one already, else by all of them.
    pub(crate) fn native_on(&self, node: Option<&str>) -> bool {
        let of_node = node.filter(|_| self.native_by_node).and_then(|node| self.cluster.nodes.get(node));
        of_node.copied().unwrap_or(self.native_sidecars)
    }
}

impl SettingsError {
    fn new(config_map: &str, key: &'static str, message: &dyn ToString) -> Self {
        Self { config_map: config_map.to_owned(), key, message: message.to_string() }
    }
}

fn key<'a>(config_map: &str, data: &'a BTreeMap<String, String>, key: &'static str) -> Result<&'a str, SettingsError> {
    data.get(key).map(String::as_str).ok_or_else(|| SettingsError::new(config_map, key, &"is missing"))
}

/// Key `config`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// `enabled` or `disabled`: what happens to a pod that nothing else decides. Any other value injects nothing.
    pub policy: String,
    /// Pods that are injected unless they say otherwise.
    pub always_inject_selector: Vec<LabelSelector>,
    /// Pods that are not injected unless they say otherwise.
    pub never_inject_selector: Vec<LabelSelector>,
    /// Annotations put on every injected pod.
    pub injected_annotations: BTreeMap<String, String>,
    /// The templates of pods that name none.
    pub default_templates: Vec<String>,
    /// Names that stand for templates.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// The user's own templates, in Go's template syntax, by name. One named as a built-in replaces it.
    pub templates: BTreeMap<String, String>,
}

impl Config {
    /// The same without what decides about a pod's labels, for files.
    pub(crate) fn without_selectors(&self) -> Self {
        Self { always_inject_selector: Vec::new(), never_inject_selector: Vec::new(), ..self.clone() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: "enabled".to_owned(),
            always_inject_selector: Vec::new(),
            never_inject_selector: Vec::new(),
            injected_annotations: BTreeMap::new(),
            default_templates: Vec::new(),
            aliases: BTreeMap::new(),
            templates: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Settings;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn both_maps_are_read() {
        let mesh = data(&[("mesh", "trustDomain: example.org\n")]);
        let injector = data(&[
            ("config", "policy: disabled\n"),
            ("values", r#"{"global": {"tag": 1.5, "proxy": {"statusPort": 80}}}"#),
        ]);
        let settings = Settings::read("canary", &mesh, &injector, true).unwrap();
        assert_eq!(settings.mesh.trust_domain, "example.org");
        assert_eq!(settings.config.policy, "disabled");
        assert_eq!(&*settings.values.global.tag, "1.5");
        assert_eq!(&*settings.values.global.proxy.status_port, "80");
        assert_eq!(settings.values.global.hub, "docker.io/forestay");
    }

    #[test]
    fn an_error_names_map_key_and_field() {
        let good = data(&[("config", ""), ("values", "{}")]);
        let rows = [
            (data(&[]), good.clone(), "ConfigMap istio-canary, key mesh: is missing"),
            (
                data(&[("mesh", "enableTracing: 7")]),
                good,
                "ConfigMap istio-canary, key mesh: enableTracing: invalid type: integer `7`, expected a boolean",
            ),
            (
                data(&[("mesh", "")]),
                data(&[("config", ""), ("values", r#"{"global": {"hub": []}}"#)]),
                "ConfigMap istio-sidecar-injector-canary, key values: global.hub: invalid type: sequence, expected a string",
            ),
        ];
        for (mesh, injector, expected) in rows {
            assert_eq!(Settings::read("canary", &mesh, &injector, true).unwrap_err().to_string(), expected);
        }
    }
}
