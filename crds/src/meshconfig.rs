//! MeshConfig and ProxyConfig: the settings of a whole mesh, and of a proxy.
//!
//! Typed are the fields that Forestay reads; all others are kept as they are in `other`, so that nothing is lost on the
//! way from a MeshInstall to the ConfigMap and to a proxy. [`Default`] gives Istio's defaults, so a field that a
//! document leaves out has the value that Istio would give it.

pub mod fields;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::networking::destination_rule::{H2UpgradePolicy, LocalityLoadBalancerSetting, TcpKeepalive};
use crate::networking::virtual_service::HttpRetry;
use crate::{Duration, ParseError};

/// The settings of a mesh: key `mesh` of ConfigMap `istio[-<revision>]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshConfig {
    /// Where access logs go; empty switches them off.
    pub access_log_file: String,
    /// The format of an access log's line; Istio's when empty.
    pub access_log_format: String,
    /// Lines of text or of JSON.
    pub access_log_encoding: AccessLogEncoding,
    /// Whether proxies make spans.
    pub enable_tracing: bool,
    /// Whether proxies use mutual TLS to endpoints that take it.
    pub enable_auto_mtls: bool,
    /// Whether applications' metrics are served together with the proxy's.
    pub enable_prometheus_merge: bool,
    /// What happens to requests for hosts that the mesh does not know.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// The trust domain of the mesh's identities.
    pub trust_domain: String,
    /// Other trust domains whose identities count as ours.
    pub trust_domain_aliases: Vec<String>,
    /// The namespace whose rules apply to the whole mesh.
    pub root_namespace: String,
    /// The Service of the ingress gateway.
    pub ingress_service: String,
    /// The `istio` label of the ingress gateway's pods.
    pub ingress_selector: String,
    /// The port of outbound capture.
    pub proxy_listen_port: u16,
    /// The port of inbound capture.
    pub proxy_inbound_listen_port: u16,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a proxy waits for the first bytes of a port of unknown protocol; 0 is no limit.
    pub protocol_detection_timeout: Duration,
    /// How often names are looked up again while lookups fail.
    pub dns_refresh_rate: Duration,
    /// Keep-alive probes of upstream connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Whether HTTP/1.1 becomes HTTP/2 between proxies.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// Retries of routes that say nothing about them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_http_retry_policy: Option<HttpRetry>,
    /// Preference of near endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// How paths are normalised before they are matched.
    pub path_normalization: PathNormalization,
    /// Where Services are visible that do not say it.
    pub default_service_export_to: Vec<String>,
    /// Where VirtualServices apply that do not say it.
    pub default_virtual_service_export_to: Vec<String>,
    /// Where DestinationRules apply that do not say it.
    pub default_destination_rule_export_to: Vec<String>,
    /// The settings of proxies.
    pub default_config: ProxyConfig,
    /// All other fields, unread.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for MeshConfig {
    fn default() -> Self {
        let everywhere = || vec!["*".to_owned()];
        Self {
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: AccessLogEncoding::Text,
            enable_tracing: true,
            enable_auto_mtls: true,
            enable_prometheus_merge: true,
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            trust_domain: names::identity::TRUST_DOMAIN.to_owned(),
            trust_domain_aliases: Vec::new(),
            root_namespace: names::resources::MESH_NAMESPACE.to_owned(),
            ingress_service: names::resources::INGRESS_GATEWAY.to_owned(),
            ingress_selector: "ingressgateway".to_owned(),
            proxy_listen_port: names::ports::OUTBOUND,
            proxy_inbound_listen_port: names::ports::INBOUND,
            connect_timeout: Duration::from_secs(10),
            protocol_detection_timeout: Duration::from_secs(0),
            dns_refresh_rate: Duration::from_secs(60),
            tcp_keepalive: None,
            h2_upgrade_policy: H2UpgradePolicy::Default,
            default_http_retry_policy: None,
            locality_lb_setting: None,
            path_normalization: PathNormalization::default(),
            default_service_export_to: everywhere(),
            default_virtual_service_export_to: everywhere(),
            default_destination_rule_export_to: everywhere(),
            default_config: ProxyConfig::default(),
            other: Map::new(),
        }
    }
}

impl MeshConfig {
    /// Reads the YAML of key `mesh`. What it leaves out has Istio's default.
    pub fn from_yaml(text: &str) -> Result<Self, crate::yaml::ReadError> {
        crate::yaml::from_str(text)
    }

    /// Lays a document over these settings, field by field.
    pub fn merged(&self, over: &Value) -> Result<Self, ParseError> {
        merged(self, over)
    }
}

/// How an access log's lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessLogEncoding {
    /// As text.
    #[default]
    Text,
    /// As JSON.
    Json,
}

/// What happens to requests for hosts that the mesh does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OutboundTrafficPolicy {
    /// Whether they are let through.
    pub mode: OutboundTrafficMode,
    /// All other fields, unread.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for OutboundTrafficPolicy {
    fn default() -> Self {
        Self { mode: OutboundTrafficMode::AllowAny, other: Map::new() }
    }
}

/// Whether requests for unknown hosts are let through. In MeshConfig, `REGISTRY_ONLY` is protobuf's zero, but a mesh
/// that says nothing allows any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficMode {
    /// No.
    RegistryOnly,
    /// Yes.
    AllowAny,
    /// Yes, by looking up each request's host.
    AllowAnyDynamicDns,
}

/// How paths are normalised before they are matched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PathNormalization {
    /// By which rules.
    pub normalization: NormalizationType,
}

/// Rules of path normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NormalizationType {
    /// The same as BASE.
    #[default]
    Default,
    /// None.
    None,
    /// RFC 3986.
    Base,
    /// And `//` becomes `/`.
    MergeSlashes,
    /// And `%2f` becomes `/` first.
    DecodeAndMergeSlashes,
}

/// The settings of a proxy: `defaultConfig` of the mesh, and annotation `proxy.istio.io/config` over it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyConfig {
    /// Where the proxy keeps its state.
    pub config_path: String,
    /// How long a replaced listener drains.
    pub drain_duration: Duration,
    /// How long the proxy drains before it exits.
    pub termination_drain_duration: Duration,
    /// The control plane, `host:port`.
    pub discovery_address: String,
    /// The port of administration.
    pub proxy_admin_port: u16,
    /// The port of health, merged statistics and rewritten probes.
    pub status_port: u16,
    /// Worker threads; the CPU limit when absent, all CPUs when 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Environment of proxy and init container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_metadata: BTreeMap<String, String>,
    /// How connections are redirected.
    pub interception_mode: InterceptionMode,
    /// Whether the application waits for the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_application_until_proxy_starts: Option<bool>,
    /// Which variant of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ProxyImage>,
    /// The mesh's id; its trust domain when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mesh_id: String,
    /// All other fields, unread.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            config_path: "./etc/istio/proxy".to_owned(),
            drain_duration: Duration::from_secs(45),
            termination_drain_duration: Duration::from_secs(5),
            discovery_address: format!(
                "{}.{}.svc:{}",
                names::resources::istiod(names::DEFAULT_REVISION),
                names::resources::MESH_NAMESPACE,
                names::ports::XDS_TLS
            ),
            proxy_admin_port: names::ports::PROXY_ADMIN,
            status_port: names::ports::AGENT,
            concurrency: None,
            proxy_metadata: BTreeMap::new(),
            interception_mode: InterceptionMode::Redirect,
            hold_application_until_proxy_starts: None,
            image: None,
            mesh_id: String::new(),
            other: Map::new(),
        }
    }
}

impl ProxyConfig {
    /// Lays a document over these settings, field by field; `proxyMetadata` key by key.
    pub fn merged(&self, over: &Value) -> Result<Self, ParseError> {
        merged(self, over)
    }

    /// The fields that differ from Istio's defaults: what a proxy is told in `PROXY_CONFIG`.
    pub fn differences(&self) -> Map<String, Value> {
        let (ours, defaults) = (object(self), object(&Self::default()));
        ours.into_iter().filter(|(name, value)| defaults.get(name) != Some(value)).collect()
    }
}

/// How connections are redirected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InterceptionMode {
    /// The destination address is rewritten.
    #[default]
    Redirect,
    /// The proxy accepts for any address.
    Tproxy,
    /// Not at all.
    None,
}

impl InterceptionMode {
    /// As Istio writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "REDIRECT",
            Self::Tproxy => "TPROXY",
            Self::None => "NONE",
        }
    }
}

/// A variant of the proxy's image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyImage {
    /// `default`, `debug` or `distroless`.
    pub image_type: String,
}

fn merged<T: Serialize + serde::de::DeserializeOwned>(base: &T, over: &Value) -> Result<T, ParseError> {
    let mut value = Value::Object(object(base));
    lay_over(&mut value, over);
    crate::parse(value)
}

/// Our own types, which are objects and always have a JSON form.
fn object<T: Serialize>(value: &T) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// Objects merge member by member; anything else is replaced.
fn lay_over(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                if value.is_null() {
                    continue;
                }
                lay_over(base.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{MeshConfig, OutboundTrafficMode, ProxyConfig};
    use crate::Duration;

    #[test]
    fn what_is_left_out_has_istios_default() {
        let mesh = MeshConfig::from_yaml("accessLogFile: /dev/stdout\ndefaultConfig: {concurrency: 2}\n").unwrap();
        assert_eq!(mesh.access_log_file, "/dev/stdout");
        assert_eq!(mesh.outbound_traffic_policy.mode, OutboundTrafficMode::AllowAny);
        assert!(mesh.enable_auto_mtls);
        assert_eq!(mesh.default_config.concurrency, Some(2));
        assert_eq!(mesh.default_config.drain_duration, Duration::from_secs(45));
        assert_eq!(mesh.default_config.discovery_address, "istiod.istio-system.svc:15012");
    }

    #[test]
    fn unknown_fields_survive() {
        let mesh = MeshConfig::from_yaml("extensionProviders: [{name: x}]\ndefaultConfig: {tracing: {sampling: 1}}\n");
        let written = serde_json::to_value(mesh.unwrap()).unwrap();
        assert_eq!(written["extensionProviders"], json!([{"name": "x"}]));
        assert_eq!(written["defaultConfig"]["tracing"], json!({"sampling": 1}));
    }

    #[test]
    fn a_pods_settings_lie_over_the_meshs() {
        let mesh: ProxyConfig = crate::parse(json!({"proxyMetadata": {"A": "1"}, "tracing": {"sampling": 1}})).unwrap();
        let over = json!({"proxyMetadata": {"B": "2"}, "concurrency": 4});
        let pod = mesh.merged(&over).unwrap();
        let expected = json!({"proxyMetadata": {"A": "1", "B": "2"}, "concurrency": 4, "tracing": {"sampling": 1}});
        assert_eq!(serde_json::Value::Object(pod.differences()), expected);
        let error = mesh.merged(&json!({"concurrency": "many"})).unwrap_err().to_string();
        assert!(error.starts_with("concurrency: invalid type"), "{error}");
    }
}
