//! WorkloadEntry: a workload that is no pod, or an endpoint of a ServiceEntry.

use std::collections::BTreeMap;

use kube::CustomResource;
use serde_json::{Value, json};

use crate::message::message;
use crate::status::IstioStatus;

mod check;

pub(in crate::networking) use check::{AddressOf, workload};

message! {
    /// Where a workload is, and what it is.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io", version = "v1", kind = "WorkloadEntry", plural = "workloadentries", namespaced,
        schema = "disabled", status = "IstioStatus", derive = "PartialEq", derive = "Default",
        shortname = "we", category = "istio-io", category = "networking-istio-io",
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(name = "Address", type_ = "string", json_path = ".spec.address", description = "Address associated with the network endpoint."),
    )]
    #[schemars(extend("x-kubernetes-validations" = [
        {"message": "Address is required", "rule": "has(self.address) || has(self.network)"},
        socket_without_ports(),
    ]))]
    pub struct WorkloadEntrySpec {
        /// An address, a DNS name, or `unix://<absolute path>`.
        #[schemars(length(max = 256), extend("x-kubernetes-validations" = [
            {
                "message": "UDS must be an absolute path or abstract socket",
                "rule": "self.startsWith(\"unix://\") ? (self.substring(7, 8) == \"/\" || self.substring(7, 8) == \"@\") : true",
            },
            {"message": "UDS may not be a dir", "rule": "self.startsWith(\"unix://\") ? !self.endsWith(\"/\") : true"},
        ]))]
        pub address: String,
        /// Port names and the workload's numbers.
        #[schemars(schema_with = "schema::ports")]
        pub ports: BTreeMap<String, u32>,
        /// Labels.
        #[schemars(extend("maxProperties" = 256))]
        pub labels: BTreeMap<String, String>,
        /// The network it is in.
        #[schemars(length(max = 2048))]
        pub network: String,
        /// `region/zone/subzone`.
        #[schemars(length(max = 2048))]
        pub locality: String,
        /// Its share of traffic.
        pub weight: u32,
        /// The service account that it runs as.
        #[schemars(length(max = 253))]
        pub service_account: String,
    }
}

/// The rule that a template of a WorkloadGroup shares.
pub(in crate::networking) fn socket_without_ports() -> Value {
    json!({
        "message": "UDS may not include ports",
        "rule": "(has(self.address) ? self.address : \"\").startsWith(\"unix://\") ? !has(self.ports) : true",
    })
}

/// The parts of the schema that attributes cannot say.
mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    pub(super) fn ports(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object", "maxProperties": 128,
            "additionalProperties": crate::schema::port(generator),
            "x-kubernetes-validations": [{
                "message": "port name must be valid",
                "rule": "self.all(key, size(key) < 63 && key.matches(\"^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$\"))",
            }],
        })
    }
}
