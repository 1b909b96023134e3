//! TrafficExtension: a WebAssembly module or a Lua script in proxies.

use kube::CustomResource;
use serde_json::{Map, Value};

use super::plugin::{self, FailStrategy, Module, PluginType, PullPolicy, TrafficSelector, VmConfig};
use crate::check::{Checker, Problem};
use crate::message::message;
use crate::schema::at_most_one_of;
use crate::selector::WorkloadSelector;
use crate::status::IstioStatus;
use crate::target::{PolicyTargetReference, check_scope};

message! {
    /// An extension and where it stands.
    #[derive(CustomResource)]
    #[kube(
        group = "extensions.istio.io", version = "v1alpha1", kind = "TrafficExtension", namespaced,
        schema = "disabled", status = "IstioStatus", derive = "PartialEq", derive = "Default",
        category = "istio-io", category = "extensions-istio-io",
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )]
    #[schemars(extend("oneOf" = at_most_one_of(&["wasm", "lua"]), "x-kubernetes-validations" = [
        {
            "message": "only one of targetRefs or selector can be set",
            "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
        },
        {"message": "exactly one of wasm or lua must be set", "rule": "has(self.wasm) != has(self.lua)"},
    ]))]
    pub struct TrafficExtensionSpec {
        /// Workloads that this applies to; all of the namespace when absent.
        pub selector: Option<WorkloadSelector>,
        /// Gateways or Services that this applies to.
        #[schemars(length(max = 16))]
        pub target_refs: Vec<PolicyTargetReference>,
        /// Where among the proxy's filters.
        pub phase: ExtensionPhase,
        /// The order in a phase, highest first.
        pub priority: Option<i32>,
        /// Which traffic it sees: one must match; all when empty.
        #[serde(rename = "match")]
        pub matches: Vec<TrafficSelector>,
        /// A WebAssembly module.
        pub wasm: Option<WasmConfig>,
        /// A Lua script.
        pub lua: Option<LuaConfig>,
    }
}

message! {
    /// Where among the proxy's filters.
    pub enum ExtensionPhase {
        /// At the end, before the router.
        #[default]
        Unspecified,
        /// Before authentication.
        Authn,
        /// Before authorization.
        Authz,
        /// Before statistics.
        Stats,
    }
}

message! {
    /// A WebAssembly module.
    #[schemars(extend("required" = ["url"]))]
    pub struct WasmConfig {
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
        /// What happens when the module fails.
        pub fail_strategy: FailStrategy,
        /// Its virtual machine.
        pub vm_config: Option<VmConfig>,
        /// What it is loaded as.
        #[serde(rename = "type")]
        pub plugin_type: PluginType,
    }
}

message! {
    /// A Lua script.
    #[schemars(extend("required" = ["inlineCode"]))]
    pub struct LuaConfig {
        /// The script, with `envoy_on_request` or `envoy_on_response`.
        #[schemars(length(min = 1, max = 65536))]
        pub inline_code: String,
    }
}

impl TrafficExtensionSpec {
    /// What is wrong with this extension.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        check_scope(&mut c, self.selector.as_ref(), None, &self.target_refs);
        if self.wasm.is_some() == self.lua.is_some() {
            c.error("", "needs exactly one of wasm, lua");
        }
        if let Some(wasm) = &self.wasm {
            let module = Module {
                url: &wasm.url,
                sha256: &wasm.sha256,
                image_pull_secret: &wasm.image_pull_secret,
                plugin_name: &wasm.plugin_name,
                vm_config: wasm.vm_config.as_ref(),
            };
            c.field("wasm", |c| module.check(c));
        }
        if let Some(lua) = &self.lua {
            c.required("lua.inlineCode", &lua.inline_code);
            if lua.inline_code.len() > 65536 {
                c.error("lua.inlineCode", format!("has {} bytes, of which there can be 65536", lua.inline_code.len()));
            }
        }
        plugin::check_match(&mut c, &self.matches);
        c.finish()
    }
}

/// The parts of the schema that attributes cannot say.
mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    /// The same as WasmPlugin's, with the schemes in another order.
    pub(super) fn url(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 1,
            "x-kubernetes-validations": [{
                "message": "url must have schema one of [http, https, file, oci]",
                "rule": "isURL(self) ? (url(self).getScheme() in [\"\", \"http\", \"https\", \"file\", \"oci\"]) : (isURL(\"http://\" + self) &&\nurl(\"http://\" + self).getScheme() in [\"\", \"http\", \"https\", \"file\", \"oci\"])",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::TrafficExtensionSpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("a script", "{lua: {inlineCode: 'function envoy_on_request() end'}, phase: AUTHN}", &[]),
            ("a module", "{wasm: {url: 'oci://a/b'}, match: [{ports: [{number: 80}]}]}", &[]),
            ("neither", "{}", &["spec: needs exactly one of wasm, lua"]),
            ("both", "{wasm: {url: a}, lua: {inlineCode: x}}", &["spec: needs exactly one of wasm, lua"]),
            ("an empty script", "{lua: {}}", &["spec.lua.inlineCode: must be set"]),
            (
                "a module from nowhere",
                "{wasm: {sha256: ab}}",
                &["spec.wasm.url: must be set", "spec.wasm.sha256: must be 64 characters long, not 2"],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: TrafficExtensionSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
