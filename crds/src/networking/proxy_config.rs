//! ProxyConfig: settings of single workloads' proxies. The mesh's settings of proxies are in [`crate::meshconfig`].

use std::collections::BTreeMap;

use kube::CustomResource;

use crate::message::message;
use crate::selector::WorkloadSelector;
use crate::status::IstioStatus;

mod check;

message! {
    /// Settings of the proxies of some workloads, from when their pods start.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io", version = "v1beta1", kind = "ProxyConfig", namespaced, schema = "disabled",
        status = "IstioStatus", derive = "PartialEq", derive = "Default",
        category = "istio-io", category = "networking-istio-io",
    )]
    pub struct ProxyConfigSpec {
        /// The workloads; all of the namespace (of the mesh, in the root namespace) when absent.
        pub selector: Option<WorkloadSelector>,
        /// Worker threads; 0 stands for one a core.
        #[schemars(range(min = 0))]
        pub concurrency: Option<i32>,
        /// Environment variables of the proxy.
        #[schemars(schema_with = "schema::environment")]
        pub environment_variables: BTreeMap<String, String>,
        /// Which image the proxy is of.
        pub image: Option<ProxyImage>,
    }
}

message! {
    /// An image of the proxy.
    pub struct ProxyImage {
        /// `default`, `debug` or `distroless`.
        pub image_type: String,
    }
}

/// The parts of the schema that attributes cannot say.
mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    pub(super) fn environment(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "additionalProperties": {"type": "string", "maxLength": 2048}})
    }
}
