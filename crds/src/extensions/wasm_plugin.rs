//! WasmPlugin: a WebAssembly module in proxies.

use kube::CustomResource;
use serde_json::{Map, Value};

use super::plugin::{self, FailStrategy, Module, PluginType, PullPolicy, TrafficSelector, VmConfig};
use crate::check::{Checker, Problem};
use crate::message::message;
use crate::selector::WorkloadSelector;
use crate::status::IstioStatus;
use crate::target::{PolicyTargetReference, check_scope};

message! {
    /// A module, where it comes from and where it stands.
    #[derive(CustomResource)]
    #[kube(
        group = "extensions.istio.io", version = "v1alpha1", kind = "WasmPlugin", namespaced, schema = "disabled",
        status = "IstioStatus", derive = "PartialEq", derive = "Default",
        category = "istio-io", category = "extensions-istio-io",
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )]
    #[schemars(extend("required" = ["url"], "x-kubernetes-validations" = [{
        "message": "only one of targetRefs or selector can be set",
        "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    }]))]
    pub struct WasmPluginSpec {
        /// Workloads that this applies to; all of the namespace when absent.
        pub selector: Option<WorkloadSelector>,
        /// The older form of `targetRefs`.
        pub target_ref: Option<PolicyTargetReference>,
        /// Gateways or Services that this applies to.
        #[schemars(length(max = 16))]
        pub target_refs: Vec<PolicyTargetReference>,
        /// Where the module is: `oci://` (also without a scheme), `http(s)://` or `file://` in the proxy's container.
        #[schemars(schema_with = "schema::url")]
        pub url: String,
        /// The module's checksum.
        #[schemars(regex(pattern = r"(^$|^[a-f0-9]{64}$)"))]
        pub sha256: String,
        /// When an image is fetched.
        pub image_pull_policy: PullPolicy,
        /// A Secret of the same namespace for the registry.
        #[schemars(length(min = 1, max = 253))]
        pub image_pull_secret: String,
        /// Not used by Istio either.
        pub verification_key: String,
        /// The module's own settings.
        #[schemars(schema_with = "plugin::schema::free_form")]
        pub plugin_config: Option<Map<String, Value>>,
        /// Which of a module's filters this is.
        #[schemars(length(min = 1, max = 256))]
        pub plugin_name: String,
        /// Where among the proxy's filters.
        pub phase: PluginPhase,
        /// The order in a phase, highest first.
        pub priority: Option<i32>,
        /// What happens when the module fails.
        pub fail_strategy: FailStrategy,
        /// Its virtual machine.
        pub vm_config: Option<VmConfig>,
        /// Which traffic it sees: one must match; all when empty.
        #[serde(rename = "match")]
        pub matches: Vec<TrafficSelector>,
        /// What it is loaded as.
        #[serde(rename = "type")]
        pub plugin_type: PluginType,
    }
}

message! {
    /// Where among the proxy's filters.
    pub enum PluginPhase {
        /// At the end, before the router.
        #[default]
        UnspecifiedPhase,
        /// Before authentication.
        Authn,
        /// Before authorization.
        Authz,
        /// Before statistics.
        Stats,
    }
}

impl WasmPluginSpec {
    /// What is wrong with this plugin.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        check_scope(&mut c, self.selector.as_ref(), self.target_ref.as_ref(), &self.target_refs);
        let module = Module {
            url: &self.url,
            sha256: &self.sha256,
            image_pull_secret: &self.image_pull_secret,
            plugin_name: &self.plugin_name,
            vm_config: self.vm_config.as_ref(),
        };
        module.check(&mut c);
        plugin::check_match(&mut c, &self.matches);
        c.finish()
    }
}

/// The parts of the schema that attributes cannot say.
mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    pub(super) fn url(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 1,
            "x-kubernetes-validations": [{
                "message": "url must have schema one of [http, https, file, oci]",
                "rule": "isURL(self) ? (url(self).getScheme() in [\"\", \"http\", \"https\", \"oci\", \"file\"]) : (isURL(\"http://\" + self) &&\nurl(\"http://\" + self).getScheme() in [\"\", \"http\", \"https\", \"oci\", \"file\"])",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::WasmPluginSpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("an image", "{url: 'registry.example.com/filter:1'}", &[]),
            ("an image at an address", "{url: '10.0.0.1:5000/filter:1'}", &[]),
            ("an image by its scheme", "{url: 'oci://registry.example.com:5000/filter:1'}", &[]),
            (
                "nothing that is a host",
                "{url: 'a b'}",
                &["spec.url: \"a b\" is not a URL: invalid international domain name"],
            ),
            ("in capitals", "{url: 'HTTPS://a/b'}", &[]),
            (
                "an image on a port, which reads as a scheme",
                "{url: 'registry.example.com:5000/filter:1'}",
                &[
                    "spec.url: \"registry.example.com\" is read as a scheme, and is not one of oci, http, https, file: write \"oci://registry.example.com:5000/filter:1\" for an image",
                ],
            ),
            ("a file", "{url: 'file:///opt/filter.wasm', pluginConfig: {a: {b: 1}}, priority: -1}", &[]),
            ("nothing", "{}", &["spec.url: must be set"]),
            ("by ftp", "{url: 'ftp://a/b'}", &["spec.url: \"ftp\" is not one of oci, http, https, file"]),
            (
                "no URL",
                "{url: 'http://a b/'}",
                &["spec.url: \"http://a b/\" is not a URL: invalid international domain name"],
            ),
            (
                "a checksum in capitals",
                "{url: a, sha256: 01BA4719C80B6FE911B091A7C05124B64EEECE964E09C058EF8F9805DACA546B}",
                &["spec.sha256: must be digits and the letters a to f"],
            ),
            (
                "its environment",
                "{url: a, vmConfig: {env: [{name: A, value: b, valueFrom: HOST}, {name: A}, {}]}}",
                &[
                    "spec.vmConfig.env[0].value: must not be set when valueFrom is HOST",
                    "spec.vmConfig.env[1].name: \"A\" is listed twice",
                    "spec.vmConfig.env[2].name: must be set",
                ],
            ),
            (
                "ports",
                "{url: a, match: [{mode: CLIENT, ports: [{number: 0}, {number: 80}, {number: 80}]}]}",
                &[
                    "spec.match[0].ports[0].number: 0 is not a port: it must be between 1 and 65535",
                    "spec.match[0].ports[2].number: 80 is listed twice",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: WasmPluginSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
