//! The one door to Istio's kinds: what there is, its definition, and everything that can be said about an object of one.
//!
//! Webhook, command line and tests come through here, so that they know the same kinds and say the same about them.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value};

use crate::check::Problem;
use crate::extensions::{traffic_extension, wasm_plugin};
use crate::networking::{
    destination_rule, envoy_filter, gateway, proxy_config, service_entry, sidecar, virtual_service, workload_entry,
    workload_group,
};
use crate::parse::{ParseError, parse};
use crate::security::{authorization_policy, peer_authentication, request_authentication};
pub use crate::structural::UnknownField;
use crate::{extensions, manifests, networking, security, structural, telemetry};

/// One row a kind: its type, its plural, its versions as Istio lists them, and its check.
macro_rules! kinds {
    ($($name:ident: $group:ident / $module:ident, $plural:literal, $versions:expr, $check:expr;)*) => {
        /// A kind of Istio's API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                $name,
            )*
        }

        impl Kind {
            /// Every kind, by group.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kind's name, as in `kind:`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Its API group.
            pub const fn group(self) -> &'static str {
                match self { $(Self::$name => $group::GROUP,)* }
            }

            /// The plural that URLs and RBAC use.
            pub const fn plural(self) -> &'static str {
                match self { $(Self::$name => $plural,)* }
            }

            /// The versions that it is served in. All have one schema.
            pub const fn versions(self) -> &'static [&'static str] {
                match self { $(Self::$name => $versions,)* }
            }

            /// Its CustomResourceDefinition.
            pub fn definition(self) -> CustomResourceDefinition {
                match self { $(Self::$name => manifests::definition::<$module::$name>(self),)* }
            }

            /// The schema of an object, without descriptions. It is read, not made: what makes schemas is as large as all
            /// that a webhook needs for its reviews, and would stay in memory for the sake of one minute.
            pub fn schema(self) -> Value {
                manifests::read_schema(match self {
                    $(Self::$name => include_str!(concat!("../schemas/", $plural, ".json")),)*
                })
            }

            /// The same, kept for the next object.
            fn kept_schema(self) -> &'static Value {
                match self {
                    $(Self::$name => {
                        static SCHEMA: LazyLock<Value> = LazyLock::new(|| Kind::$name.schema());
                        &SCHEMA
                    })*
                }
            }

            /// The same, from the types.
            pub(crate) fn made_schema(self) -> Value {
                match self { $(Self::$name => manifests::schema::<$module::$name>(self),)* }
            }

            fn check_typed(self, object: Value) -> Result<Vec<Problem>, ParseError> {
                match self {
                    $(Self::$name => {
                        let check: fn(&$module::$name) -> Vec<Problem> = $check;
                        parse(object).map(|object| check(&object))
                    })*
                }
            }

            /// The object as its type writes what it has read; for tests.
            #[doc(hidden)]
            pub fn rewritten(self, object: Value) -> Result<Value, ParseError> {
                match self {
                    $(Self::$name => parse::<$module::$name>(object).and_then(|object| written(&object)),)*
                }
            }
        }
    };
}

kinds! {
    VirtualService: networking / virtual_service, "virtualservices", networking::VERSIONS, |it| it.check();
    DestinationRule: networking / destination_rule, "destinationrules", networking::VERSIONS, |it| it.check();
    Gateway: networking / gateway, "gateways", networking::VERSIONS, |it| it.check();
    ServiceEntry: networking / service_entry, "serviceentries", networking::VERSIONS, |it| it.check();
    Sidecar: networking / sidecar, "sidecars", networking::VERSIONS, |it| it.check();
    WorkloadEntry: networking / workload_entry, "workloadentries", networking::VERSIONS, |it| it.spec.check();
    WorkloadGroup: networking / workload_group, "workloadgroups", networking::VERSIONS, |it| it.spec.check();
    ProxyConfig: networking / proxy_config, "proxyconfigs", networking::PROXY_CONFIG_VERSIONS, |it| it.spec.check();
    EnvoyFilter: networking / envoy_filter, "envoyfilters", networking::ENVOY_FILTER_VERSIONS, |it| it.spec.check();
    PeerAuthentication: security / peer_authentication, "peerauthentications", security::VERSIONS, |it| it.check();
    RequestAuthentication: security / request_authentication, "requestauthentications", security::VERSIONS, |it| it.check();
    AuthorizationPolicy: security / authorization_policy, "authorizationpolicies", security::VERSIONS, |it| it.check();
    Telemetry: telemetry / telemetry, "telemetries", telemetry::VERSIONS, |it| it.spec.check();
    WasmPlugin: extensions / wasm_plugin, "wasmplugins", extensions::VERSIONS, |it| it.spec.check();
    TrafficExtension: extensions / traffic_extension, "trafficextensions", extensions::VERSIONS, |it| it.spec.check();
}

fn written<T: serde::Serialize>(object: &T) -> Result<Value, ParseError> {
    serde_json::to_value(object).map_err(|error| ParseError { path: String::new(), message: error.to_string() })
}

impl Kind {
    /// The kind of a document, by its group and its `kind`; none for what is not Istio's.
    pub fn of(group: &str, kind: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.name() == kind && one.group() == group)
    }

    /// The version that the API server stores: the first, but for Telemetry, which Istio stores in its older one.
    pub fn stored_version(self) -> &'static str {
        match self {
            Self::Telemetry => "v1alpha1",
            _ => self.versions().first().copied().unwrap_or_default(),
        }
    }

    /// Whether an object without a `spec` is refused; for the other kinds it is an object with nothing set.
    pub(crate) const fn requires_spec(self) -> bool {
        matches!(
            self,
            Self::ServiceEntry | Self::WorkloadEntry | Self::WorkloadGroup | Self::WasmPlugin | Self::TrafficExtension
        )
    }

    /// What is wrong with an object, in its fields and in its metadata. The error is about an object that does not even
    /// fit its type.
    ///
    /// Rules that the API server enforces by CEL are said here too. What it enforces by the schema proper (lengths, list
    /// keys, `null`) says [`Kind::schema_problems`].
    pub fn check(self, mut object: Value) -> Result<Vec<Problem>, ParseError> {
        if let Value::Object(members) = &mut object {
            for part in ["metadata", "spec"] {
                let part = members.entry(part).or_insert(Value::Null);
                if part.is_null() {
                    *part = Value::Object(Map::new());
                }
            }
        }
        let tried_out = if self.group() == security::GROUP { None } else { security::dry_run::elsewhere(&object) };
        let mut problems = self.check_typed(object)?;
        problems.extend(tried_out);
        Ok(problems)
    }

    /// What the API server would refuse by the kind's schema, CEL rules apart: for those who have none before them.
    pub fn schema_problems(self, object: &Value) -> Vec<Problem> {
        structural::problems(self.kept_schema(), object)
    }

    /// Paths of fields that the kind does not have, such as `spec.http[0].rout`. The API server drops them (`kubectl`
    /// warns), so they can only be seen before it.
    pub fn unknown_fields(self, object: &Value) -> Vec<String> {
        self.unknown(object).into_iter().map(|field| field.path).collect()
    }

    /// The same, with the fields that may have been meant.
    pub fn unknown(self, object: &Value) -> Vec<UnknownField> {
        structural::unknown_fields(self.kept_schema(), object)
    }

    /// Where the mesh does not act on a kind yet: what to tell who applies an object of it. Admission cuts a warning at
    /// 256 characters.
    pub const fn not_in_force(self) -> Option<&'static str> {
        match self {
            Self::VirtualService
            | Self::DestinationRule
            | Self::Gateway
            | Self::ServiceEntry
            | Self::PeerAuthentication => None,
            Self::AuthorizationPolicy => Some(
                "AuthorizationPolicy is NOT ENFORCED: this mesh does not act on it yet, and every request that it would \
                 deny gets through. Do not rely on it; restrict access by NetworkPolicy and STRICT mutual TLS.",
            ),
            Self::RequestAuthentication => Some(
                "RequestAuthentication is NOT ENFORCED: this mesh does not verify tokens yet, and requests with invalid, \
                 expired or forged tokens get through. Do not rely on it; verify tokens in the application.",
            ),
            Self::Telemetry => Some(
                "Telemetry has no effect yet: metrics, traces and access logs are as the mesh's settings say \
                 (meshConfig).",
            ),
            Self::Sidecar => {
                Some("Sidecar has no effect yet: every proxy gets every service that is exported to its namespace.")
            }
            Self::WorkloadEntry => Some(
                "WorkloadEntry has no effect yet: a ServiceEntry's workloadSelector chooses pods only. List the address \
                 in the ServiceEntry's endpoints.",
            ),
            Self::WorkloadGroup => {
                Some("WorkloadGroup has no effect yet: a workload outside Kubernetes cannot register itself.")
            }
            Self::ProxyConfig => Some(
                "ProxyConfig has no effect yet: use meshConfig.defaultConfig, or annotation proxy.istio.io/config on pods.",
            ),
            Self::EnvoyFilter => {
                Some("EnvoyFilter has no effect: this mesh does not patch its proxies' configuration.")
            }
            Self::WasmPlugin => Some("WasmPlugin has no effect: this mesh's proxy runs no WebAssembly."),
            Self::TrafficExtension => {
                Some("TrafficExtension has no effect: this mesh's proxy runs neither WebAssembly nor Lua.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::json;

    use super::Kind;
    use crate::check::Severity;

    #[test]
    fn the_table_says_what_the_definitions_say() {
        for kind in Kind::ALL {
            let definition = kind.definition();
            assert_eq!(definition.name_any(), format!("{}.{}", kind.plural(), kind.group()));
            assert_eq!(definition.spec.names.kind, kind.name());
            let versions: Vec<_> = definition.spec.versions.iter().map(|version| version.name.as_str()).collect();
            assert_eq!(versions, kind.versions());
            let stored: Vec<_> = definition.spec.versions.iter().filter(|version| version.storage).collect();
            assert!(matches!(stored.as_slice(), [one] if one.name == kind.stored_version()), "{kind:?}");
            assert_eq!(Kind::of(kind.group(), kind.name()), Some(*kind));
        }
        assert_eq!(Kind::of("gateway.networking.k8s.io", "Gateway"), None);
    }

    #[test]
    fn an_object_without_spec_or_metadata_is_checked_all_the_same() {
        for kind in Kind::ALL {
            for object in [json!({}), json!({"metadata": null, "spec": null}), json!({"metadata": {}, "spec": {}})] {
                let problems = kind.check(object).unwrap();
                let needs_something = problems.iter().any(|one| one.severity == Severity::Error);
                assert!(needs_something || !kind.requires_spec(), "{kind:?}: {problems:?}");
            }
            assert!(kind.check(json!("text")).is_err());
        }
    }

    /// Istio's annotation lets an AuthorizationPolicy be tried out. On the other kinds it is refused.
    #[test]
    fn what_is_to_be_tried_out() {
        for kind in Kind::ALL {
            let object = json!({
                "metadata": {"name": "a", "annotations": {"istio.io/dry-run": "true"}}, "spec": {},
            });
            let problems = kind.check(object).unwrap();
            let found = problems.iter().find(|problem| problem.field == "metadata.annotations[istio.io/dry-run]");
            let expected = match kind {
                Kind::AuthorizationPolicy => None,
                _ => Some(Severity::Error),
            };
            assert_eq!(found.map(|problem| problem.severity), expected, "{kind:?}: {problems:?}");
            assert!(found.is_none_or(|problem| problem.message.contains("AuthorizationPolicies only")), "{found:?}");
        }
    }

    #[test]
    fn an_error_names_the_field() {
        let error = Kind::VirtualService.check(json!({"spec": {"hosts": "a"}})).unwrap_err();
        assert!(error.to_string().starts_with("spec.hosts: invalid type: string"), "{error}");
    }

    #[test]
    fn unknown_fields_are_found_in_spec_and_at_the_top() {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "a", "anything": "is Kubernetes' own matter"},
            "spec": {"hosts": ["a"], "http": [{"rout": []}], "exportsTo": ["*"]},
            "specs": {}, "status": {"whatever": 1},
        });
        let found = Kind::VirtualService.unknown_fields(&object);
        assert_eq!(found, ["spec.http[0].rout", "spec.exportsTo", "specs"]);
        let told: Vec<_> = Kind::VirtualService.unknown(&object).iter().map(ToString::to_string).collect();
        assert_eq!(told[0], "spec.http[0].rout: unknown field; did you mean route?");
        assert_eq!(told[2], "specs: unknown field", "there is a spec already");
    }

    #[test]
    fn what_the_schema_refuses_is_found() {
        let object = json!({"spec": {"hosts": ["a", null], "location": "MESH_SOMEWHERE"}});
        let found: Vec<_> = Kind::ServiceEntry.schema_problems(&object).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "spec.hosts[1]: is null: leave the field out instead",
                "spec.location: \"MESH_SOMEWHERE\" is not one of MESH_EXTERNAL, MESH_INTERNAL",
            ]
        );
    }

    #[test]
    fn a_warning_about_what_is_not_in_force_is_whole_at_admission() {
        for kind in Kind::ALL {
            if let Some(sentence) = kind.not_in_force() {
                assert!(sentence.len() <= 256 && sentence.contains(kind.name()), "{sentence}");
            }
        }
    }
}
