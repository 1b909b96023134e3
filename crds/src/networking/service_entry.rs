//! ServiceEntry: a service that Kubernetes does not know.

use kube::CustomResource;

use super::workload_entry::WorkloadEntrySpec;
use crate::message::message;
use crate::selector::LabelSelector;
use crate::status::IstioStatus;

mod check;

message! {
    /// Hosts, their ports and their endpoints.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io", version = "v1", kind = "ServiceEntry", plural = "serviceentries", namespaced,
        schema = "disabled", status = "IstioStatus", derive = "PartialEq", derive = "Default",
        shortname = "se", category = "istio-io", category = "networking-istio-io",
        printcolumn(name = "Hosts", type_ = "string", json_path = ".spec.hosts", description = "The hosts associated with the ServiceEntry"),
        printcolumn(name = "Location", type_ = "string", json_path = ".spec.location", description = "Whether the service is external to the mesh or part of the mesh (MESH_EXTERNAL or MESH_INTERNAL)"),
        printcolumn(name = "Resolution", type_ = "string", json_path = ".spec.resolution", description = "Service resolution mode for the hosts (NONE, STATIC, or DNS)"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )]
    #[schemars(extend("required" = ["hosts"], "x-kubernetes-validations" = [
        {
            "message": "only one of WorkloadSelector or Endpoints can be set",
            "rule": "(has(self.workloadSelector) ? 1 : 0) + (has(self.endpoints) ? 1 : 0) <= 1",
        },
        {
            "message": "CIDR addresses are allowed only for NONE/STATIC resolution types",
            "rule": "!((has(self.addresses) ? self.addresses : []).exists(k, k.contains(\"/\")) && !((has(self.resolution) ? self.resolution : \"NONE\") in [\"STATIC\", \"NONE\"]))",
        },
        {
            "message": "NONE mode cannot set endpoints",
            "rule": "((has(self.resolution) ? self.resolution : \"NONE\") == \"NONE\") ? !has(self.endpoints) : true",
        },
        {
            "message": "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
            "rule": "((has(self.resolution) ? self.resolution : \"\") == \"DNS_ROUND_ROBIN\") ? ((has(self.endpoints) ? self.endpoints : []).size() <= 1) : true",
        },
    ]))]
    pub struct ServiceEntrySpec {
        /// The hosts.
        #[schemars(schema_with = "schema::hosts")]
        pub hosts: Vec<String>,
        /// Virtual addresses of the hosts, or CIDR blocks.
        #[schemars(length(max = 256), inner(length(max = 64)))]
        pub addresses: Vec<String>,
        /// Ports of the hosts.
        #[schemars(length(max = 256), extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
            "x-kubernetes-validations" = [{
                "message": "port number cannot be duplicated",
                "rule": "self.all(l1, self.exists_one(l2, l1.number == l2.number))",
            }],
        ))]
        pub ports: Vec<ServicePort>,
        /// Whether the hosts are part of the mesh.
        pub location: Location,
        /// How endpoints are found.
        pub resolution: Resolution,
        /// The endpoints.
        #[schemars(length(max = 4096))]
        pub endpoints: Vec<WorkloadEntrySpec>,
        /// Chooses pods or WorkloadEntries as endpoints.
        pub workload_selector: Option<LabelSelector>,
        /// Namespaces that this is visible in: `.`, `*`, or names.
        pub export_to: Vec<String>,
        /// Names that the servers' certificates must have.
        pub subject_alt_names: Vec<String>,
    }
}

message! {
    /// A port of a ServiceEntry.
    #[schemars(extend("required" = ["number", "name"]))]
    pub struct ServicePort {
        /// The number.
        #[schemars(schema_with = "crate::schema::port")]
        pub number: u32,
        /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.
        #[schemars(length(max = 256))]
        pub protocol: String,
        /// A name.
        #[schemars(length(max = 256))]
        pub name: String,
        /// The port of the endpoints; the same when absent.
        #[schemars(schema_with = "crate::schema::port")]
        pub target_port: u32,
    }
}

message! {
    /// Whether hosts are part of the mesh.
    pub enum Location {
        /// No: no mutual TLS of the mesh.
        #[default]
        MeshExternal,
        /// Yes.
        MeshInternal,
    }
}

message! {
    /// How endpoints are found.
    pub enum Resolution {
        /// They are where the caller connects to.
        #[default]
        None,
        /// As listed.
        Static,
        /// By DNS, with all answers.
        Dns,
        /// By DNS, with one answer at a time.
        DnsRoundRobin,
        /// By DNS, for the host of each request.
        DynamicDns,
    }
}

/// The parts of the schema that attributes cannot say.
mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    pub(super) fn hosts(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array", "minItems": 1, "maxItems": 256,
            "items": {
                "type": "string",
                "x-kubernetes-validations": [{"message": "hostname cannot be wildcard", "rule": "self != \"*\""}],
            },
        })
    }
}
