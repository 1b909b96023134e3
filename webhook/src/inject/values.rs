//! Key `values`: the part of Istio's Helm values that injection reads, with the chart's defaults.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Lifecycle, PodSecurityContext, ResourceRequirements, SeccompProfile};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::members;

/// Istio's switch for native sidecars, in `pilot.env`.
pub(crate) const NATIVE_SIDECARS: &str = "ENABLE_NATIVE_SIDECARS";
/// Istio's switch for what cryptography is allowed, in `pilot.env`.
pub(crate) const COMPLIANCE_POLICY: &str = "COMPLIANCE_POLICY";

/// What is read and does nothing here: there is one log level, and redirection is by nftables always.
const WITHOUT_EFFECT: [&str; 2] = ["global.proxy.componentLogLevel", "global.nativeNftables"];

type Unread = fn(&Value) -> Vec<String>;

/// The paths of values that injection does not read, or reads in vain. A user's template may read any value; what it
/// names counts as read.
pub fn unread(values: &Value) -> Vec<String> {
    let mut found = Vec::new();
    // What does not fit its type is refused elsewhere.
    let Ok(read) = serde_ignored::deserialize::<_, _, Values>(values, |path| found.push(path.to_string())) else {
        return Vec::new();
    };
    let known = |name: &&String| !matches!(name.as_str(), NATIVE_SIDECARS | COMPLIANCE_POLICY);
    found.extend(read.pilot.env.keys().filter(known).map(|name| format!("pilot.env.{name}")));
    let written = |path: &&&str| values.pointer(&format!("/{}", path.replace('.', "/"))).is_some();
    found.extend(WITHOUT_EFFECT.iter().filter(written).map(ToString::to_string));
    // What containers and pods get as it is.
    let parts: [(&str, Unread); 5] = [
        ("global.proxy.resources", members::unread::<ResourceRequirements>),
        ("global.proxy.lifecycle", members::unread::<Lifecycle>),
        ("global.proxy.seccompProfile", members::unread::<SeccompProfile>),
        ("gateways.seccompProfile", members::unread::<SeccompProfile>),
        ("gateways.securityContext", members::unread::<PodSecurityContext>),
    ];
    for (path, unread) in parts {
        let part = values.pointer(&format!("/{}", path.replace('.', "/")));
        found.extend(part.map(unread).unwrap_or_default().into_iter().map(|member| format!("{path}.{member}")));
    }
    let templates = &read.sidecar_injector_webhook.templates;
    let last = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
    found.retain(|path| !templates.values().any(|template| template.contains(&last(path))));
    found
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
        /// `pilot.*`.
        pilot: Pilot = Pilot::default(),
        /// `gateways.*`.
        gateways: Gateways = Gateways::default(),
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
        /// Redirection by nftables rather than iptables; ours always is.
        native_nftables: bool = false,
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
    /// `pilot.*`.
    Pilot {
        /// Redirection by a CNI plugin.
        cni: Cni = Cni::default(),
        /// Istio's switches of the control plane, as environment.
        env: BTreeMap<String, Text> = BTreeMap::new(),
    }
}

values! {
    /// `pilot.cni.*`.
    Cni {
        /// Whether a CNI plugin redirects; the init container then only looks whether it did.
        enabled: bool = false,
        /// `multus`, where networks are chosen by annotation.
        provider: String = String::new(),
    }
}

values! {
    /// `gateways.*`, for gateways by injection.
    Gateways {
        /// The pod's security context; low ports without privileges when empty.
        security_context: Map<String, Value> = Map::new(),
        /// The container's seccomp profile.
        seccomp_profile: Map<String, Value> = Map::new(),
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
        /// The user's own templates; what key `config` has goes first.
        templates: BTreeMap<String, String> = BTreeMap::new(),
        /// The templates of pods that name none.
        default_templates: Vec<String> = Vec::new(),
        /// Names that stand for templates.
        aliases: BTreeMap<String, Vec<String>> = BTreeMap::new(),
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
    use serde_json::json;

    use super::unread;

    #[test]
    fn what_nobody_reads_is_told_by_path() {
        let rows = [
            ("nothing", json!({}), &[][..]),
            (
                "what is read",
                json!({
                    "revision": "a",
                    "global": {"hub": "h", "tag": 1.5, "proxy": {"resources": {"limits": {"cpu": 1}}, "statusPort": 1},
                        "proxy_init": {"image": "i"}, "meshID": "m"},
                    "pilot": {"cni": {"enabled": true}, "env": {"ENABLE_NATIVE_SIDECARS": "auto"}},
                    "sidecarInjectorWebhook": {"templates": {"a": "b"}, "rewriteAppHTTPProbe": false},
                }),
                &[],
            ),
            ("a whole part", json!({"telemetry": {"enabled": true}}), &["telemetry"]),
            (
                "parts of parts",
                json!({
                    "global": {"hob": "h", "proxy": {"tracer": "zipkin", "resources": {"limit": {"cpu": 1}}}},
                    "pilot": {"traceSampling": 1, "env": {"PILOT_ENABLE_STATUS": true}},
                }),
                &[
                    "global.hob",
                    "global.proxy.tracer",
                    "pilot.traceSampling",
                    "pilot.env.PILOT_ENABLE_STATUS",
                    "global.proxy.resources.limit",
                ],
            ),
            (
                "what is read in vain",
                json!({"global": {"proxy": {"componentLogLevel": "misc:error"}}}),
                &["global.proxy.componentLogLevel"],
            ),
            (
                "what a template reads",
                json!({"mine": {"colour": "red"}, "sidecarInjectorWebhook": {"templates": {"a": "{{ .Values.mine.colour }}"}}}),
                &[],
            ),
        ];
        for (name, values, expected) in rows {
            assert_eq!(unread(&values), expected, "{name}");
        }
    }
}
