//! Where a WebAssembly module comes from, how it runs, and which traffic it sees.

use std::collections::HashSet;

use crate::check::Checker;
use crate::message::message;

message! {
    /// Traffic by direction and port.
    pub struct TrafficSelector {
        /// The direction.
        pub mode: TrafficMode,
        /// Ports of the service; any when empty.
        #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["number"]))]
        pub ports: Vec<PortSelector>,
    }
}

message! {
    /// A direction of traffic.
    pub enum TrafficMode {
        /// Both.
        #[default]
        Undefined,
        /// Outbound.
        Client,
        /// Inbound.
        Server,
        /// Both.
        ClientAndServer,
    }
}

message! {
    /// A port by its number.
    #[schemars(extend("required" = ["number"]))]
    pub struct PortSelector {
        /// The number.
        #[schemars(schema_with = "schema::port")]
        pub number: u32,
    }
}

message! {
    /// What a module is loaded as.
    pub enum PluginType {
        /// As an HTTP filter.
        #[default]
        UnspecifiedPluginType,
        /// As an HTTP filter.
        Http,
        /// As a network filter.
        Network,
    }
}

message! {
    /// What happens to traffic when a module fails.
    pub enum FailStrategy {
        /// It is refused.
        #[default]
        FailClose,
        /// It goes on without the module.
        FailOpen,
        /// The module is loaded again.
        FailReload,
    }
}

message! {
    /// When an image is fetched.
    pub enum PullPolicy {
        /// `IfNotPresent`, but `Always` for the tag `latest`.
        #[default]
        UnspecifiedPolicy,
        /// When it is not there yet.
        #[serde(rename = "IfNotPresent")]
        IfNotPresent,
        /// When the rule changes.
        #[serde(rename = "Always")]
        Always,
    }
}

message! {
    /// The module's virtual machine.
    pub struct VmConfig {
        /// Its environment.
        #[schemars(length(max = 256), extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
        ))]
        pub env: Vec<EnvVar>,
    }
}

message! {
    /// A variable.
    #[schemars(extend("required" = ["name"], "x-kubernetes-validations" = [{
        "message": "value may only be set when valueFrom is INLINE",
        "rule": "(has(self.valueFrom) ? self.valueFrom : \"\") != \"HOST\" || !has(self.value)",
    }]))]
    pub struct EnvVar {
        /// Its name.
        #[schemars(length(min = 1, max = 256))]
        pub name: String,
        /// Where its value comes from.
        pub value_from: EnvValueSource,
        /// The value.
        #[schemars(length(max = 2048))]
        pub value: String,
    }
}

message! {
    /// Where a variable's value comes from.
    pub enum EnvValueSource {
        /// From `value`.
        #[default]
        Inline,
        /// From the proxy's environment.
        Host,
    }
}

/// The fields that a module has in both kinds.
pub(super) struct Module<'a> {
    pub(super) url: &'a str,
    pub(super) sha256: &'a str,
    pub(super) image_pull_secret: &'a str,
    pub(super) plugin_name: &'a str,
    pub(super) vm_config: Option<&'a VmConfig>,
}

impl Module<'_> {
    pub(super) fn check(&self, c: &mut Checker) {
        if let Err(problem) = url(self.url) {
            c.error("url", problem);
        }
        if !self.sha256.is_empty() {
            if self.sha256.len() != 64 {
                c.error("sha256", format!("must be 64 characters long, not {}", self.sha256.len()));
            } else if !self.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                c.error("sha256", "must be digits and the letters a to f");
            }
        }
        if self.image_pull_secret.len() > 253 {
            c.error("imagePullSecret", "is longer than 253 characters");
        }
        if self.plugin_name.len() > 256 {
            c.error("pluginName", "is longer than 256 characters");
        }
        let Some(vm) = self.vm_config else { return };
        let mut seen = HashSet::new();
        c.each("vmConfig.env", &vm.env, |c, variable| {
            c.required("name", &variable.name);
            if !variable.name.is_empty() && !seen.insert(variable.name.clone()) {
                c.error("name", format!("\"{}\" is listed twice", variable.name));
            }
            if variable.value_from == EnvValueSource::Host && !variable.value.is_empty() {
                c.error("value", "must not be set when valueFrom is HOST");
            }
        });
    }
}

/// Where a module comes from.
const SCHEMES: [&str; 4] = ["oci", "http", "https", "file"];

/// A URL; without a scheme it is the name of an image. Whatever looks like a scheme is one: the definition's CEL rule reads
/// `registry.example.com:5000/filter` so, and refuses it.
fn url(text: &str) -> Result<(), String> {
    let is_scheme = |text: &&str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    if text.is_empty() {
        return Err("must be set".to_owned());
    }
    let (scheme, whole) = match text.split_once(':').map(|(scheme, _)| scheme).filter(is_scheme) {
        Some(scheme) => (scheme.to_ascii_lowercase(), text.to_owned()),
        // Of a URL of http the host is looked at.
        None => ("http".to_owned(), format!("http://{text}")),
    };
    if !SCHEMES.contains(&scheme.as_str()) {
        let schemes = SCHEMES.join(", ");
        return Err(if text.contains("://") {
            format!("\"{scheme}\" is not one of {schemes}")
        } else {
            format!(
                "\"{scheme}\" is read as a scheme, and is not one of {schemes}: write \"oci://{text}\" for an image"
            )
        });
    }
    url::Url::parse(&whole).map(drop).map_err(|reason| format!("\"{text}\" is not a URL: {reason}"))
}

pub(super) fn check_match(c: &mut Checker, matches: &[TrafficSelector]) {
    c.each("match", matches, |c, selector| {
        let mut seen = HashSet::new();
        c.each("ports", &selector.ports, |c, port| {
            c.port("number", port.number);
            if !seen.insert(port.number) {
                c.error("number", format!("{} is listed twice", port.number));
            }
        });
    });
}

/// The parts of the schema that attributes cannot say.
pub(super) mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    pub(super) fn port(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": 65535})
    }

    /// A module's own settings, whatever they are.
    pub(crate) fn free_form(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}
