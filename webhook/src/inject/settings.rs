//! What injection depends on beside the pod: the two ConfigMaps of a revision, read into types.
//!
//! ConfigMap `istio[-<revision>]`, key `mesh`, is the MeshConfig; `istio-sidecar-injector[-<revision>]` has `config`
//! (policy and selectors) and `values` (the part of Istio's Helm values that concerns injection). What they leave out
//! has Istio's default.

use std::collections::BTreeMap;

use crds::meshconfig::MeshConfig;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::{Map, Value};

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
    /// Whether the cluster's kubelets run native sidecars.
    pub native_sidecars: bool,
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
        let values: Values = crds::yaml::from_str(key(&injector_name, injector, "values")?)
            .map_err(|error| SettingsError::new(&injector_name, "values", &error))?;
        Ok(Self { revision: revision.to_owned(), config, values, mesh, native_sidecars })
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
        }
    }
}

/// Defines a group of Helm values with the defaults that Istio's chart gives them.
macro_rules! values {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty = $default:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

values! {
    /// Key `values`.
    Values {
        /// `global.*`.
        global: Global = Global::default(),
        /// `sidecarInjectorWebhook.*`.
        sidecar_injector_webhook: SidecarInjectorWebhook = SidecarInjectorWebhook::default(),
        /// The revision; empty for the default one.
        revision: String = String::new(),
    }
}

values! {
    /// `global.*`.
    Global {
        /// Registry and organisation of the proxy's image.
        hub: String = names::images::HUB.to_owned(),
        /// Tag of the proxy's image.
        tag: Text = Text(names::VERSION.to_owned()),
        /// Variant of the proxy's image.
        variant: String = String::new(),
        /// `Always`, `IfNotPresent`, `Never`; Kubernetes' default when empty.
        image_pull_policy: String = String::new(),
        /// Secrets for pulling the proxy's image.
        image_pull_secrets: Vec<String> = Vec::new(),
        /// The mesh's namespace.
        istio_namespace: String = names::resources::MESH_NAMESPACE.to_owned(),
        /// The network that pods are in.
        network: String = String::new(),
        /// The mesh's id; its trust domain when empty.
        #[serde(rename = "meshID")]
        mesh_id: String = String::new(),
        /// The certificate authority, when it is not the control plane.
        ca_address: String = String::new(),
        /// Whose root certificate pods get.
        pilot_cert_provider: String = "istiod".to_owned(),
        /// Logs as JSON.
        log_as_json: bool = false,
        /// Log levels.
        logging: Logging = Logging::default(),
        /// The cluster.
        multi_cluster: MultiCluster = MultiCluster::default(),
        /// The proxy.
        proxy: Proxy = Proxy::default(),
        /// The init container.
        #[serde(rename = "proxy_init")]
        proxy_init: ProxyInit = ProxyInit::default(),
        /// Service account tokens.
        sds: Sds = Sds::default(),
    }
}

values! {
    /// `global.logging.*`.
    Logging {
        /// Levels by scope, such as `default:info`.
        level: String = "default:info".to_owned(),
    }
}

values! {
    /// `global.multiCluster.*`.
    MultiCluster {
        /// The cluster's id.
        cluster_name: String = String::new(),
    }
}

values! {
    /// `global.sds.*`.
    Sds {
        /// The token that a proxy shows to the certificate authority.
        token: Token = Token::default(),
    }
}

values! {
    /// `global.sds.token.*`.
    Token {
        /// Its audience.
        aud: String = names::identity::TOKEN_AUDIENCE.to_owned(),
    }
}

values! {
    /// `global.proxy_init.*`.
    ProxyInit {
        /// The init container's image; the proxy's own unless it names another.
        image: String = String::new(),
        /// Applies rules even where some exist already.
        force_apply_iptables: bool = false,
    }
}

values! {
    /// `global.proxy.*`.
    Proxy {
        /// The image's name, or a whole reference.
        image: String = names::images::PROXY.to_owned(),
        /// The cluster's DNS domain.
        cluster_domain: String = names::CLUSTER_DOMAIN.to_owned(),
        /// The proxy's log level.
        log_level: String = "warning".to_owned(),
        /// Levels by component.
        component_log_level: String = "misc:error".to_owned(),
        /// Outbound addresses to capture.
        #[serde(rename = "includeIPRanges")]
        include_ip_ranges: String = "*".to_owned(),
        /// Outbound addresses to leave alone.
        #[serde(rename = "excludeIPRanges")]
        exclude_ip_ranges: String = String::new(),
        /// Inbound ports to capture.
        include_inbound_ports: Text = Text("*".to_owned()),
        /// Inbound ports to leave alone.
        exclude_inbound_ports: Text = Text::default(),
        /// Outbound ports to capture whatever the address.
        include_outbound_ports: Text = Text::default(),
        /// Outbound ports to leave alone.
        exclude_outbound_ports: Text = Text::default(),
        /// The port of merged statistics and rewritten probes.
        status_port: Text = Text(names::ports::AGENT.to_string()),
        /// Seconds before the first readiness probe.
        readiness_initial_delay_seconds: u32 = 0,
        /// Seconds between readiness probes.
        readiness_period_seconds: u32 = 15,
        /// Failed readiness probes until the pod is unready.
        readiness_failure_threshold: u32 = 4,
        /// The startup probe.
        startup_probe: StartupProbe = StartupProbe::default(),
        /// Requests and limits.
        resources: Map<String, Value> = default_resources(),
        /// Runs the containers privileged.
        privileged: bool = false,
        /// The containers' seccomp profile.
        seccomp_profile: Map<String, Value> = Map::new(),
        /// Whether the application waits for the proxy.
        hold_application_until_proxy_starts: bool = false,
        /// Replaces the proxy's lifecycle hooks.
        lifecycle: Map<String, Value> = Map::new(),
    }
}

values! {
    /// `global.proxy.startupProbe.*`.
    StartupProbe {
        /// Whether there is one.
        enabled: bool = true,
        /// Failed probes, one a second, until the container is started again.
        failure_threshold: u32 = 600,
    }
}

values! {
    /// `sidecarInjectorWebhook.*`.
    SidecarInjectorWebhook {
        /// Whether probes of applications go through the proxy's agent.
        #[serde(rename = "rewriteAppHTTPProbe")]
        rewrite_app_http_probe: bool = true,
    }
}

fn default_resources() -> Map<String, Value> {
    let resources = serde_json::json!({
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "2000m", "memory": "1024Mi"},
    });
    match resources {
        Value::Object(resources) => resources,
        _ => Map::new(),
    }
}

/// Text that people also write as a number: a tag `1.0`, a port `80`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Value")]
pub struct Text(pub String);

impl From<Value> for Text {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::default(),
            Value::String(text) => Self(text),
            other => Self(other.to_string()),
        }
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
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
