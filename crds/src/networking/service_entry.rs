//! ServiceEntry: a service that Kubernetes does not know.

use std::collections::BTreeMap;

use kube::CustomResource;

use crate::message::message;
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

message! {
    /// A workload outside Kubernetes: an endpoint of a ServiceEntry.
    #[schemars(extend("x-kubernetes-validations" = [
        {"message": "Address is required", "rule": "has(self.address) || has(self.network)"},
        {
            "message": "UDS may not include ports",
            "rule": "(has(self.address) ? self.address : \"\").startsWith(\"unix://\") ? !has(self.ports) : true",
        },
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
        /// Port names and the endpoint's numbers.
        #[schemars(schema_with = "schema::endpoint_ports")]
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

message! {
    /// Chooses workloads by labels.
    pub struct LabelSelector {
        /// Keys and values, all of which must match.
        #[schemars(schema_with = "schema::labels")]
        pub labels: BTreeMap<String, String>,
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

    pub(super) fn endpoint_ports(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object", "maxProperties": 128,
            "additionalProperties": crate::schema::port(generator),
            "x-kubernetes-validations": [{
                "message": "port name must be valid",
                "rule": "self.all(key, size(key) < 63 && key.matches(\"^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$\"))",
            }],
        })
    }

    pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object", "maxProperties": 256,
            "additionalProperties": {
                "type": "string", "maxLength": 63,
                "x-kubernetes-validations": [{
                    "message": "wildcard is not supported in selector",
                    "rule": "!self.contains(\"*\")",
                }],
            },
        })
    }
}
