//! WorkloadGroup: what the WorkloadEntries of machines that join by themselves look like.

use std::collections::BTreeMap;

use kube::CustomResource;

use super::workload_entry::{WorkloadEntrySpec, socket_without_ports};
use crate::message::message;
use crate::schema::at_most_one_of;
use crate::status::IstioStatus;

mod check;

message! {
    /// A template for WorkloadEntries, and how their health is found out.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io", version = "v1", kind = "WorkloadGroup", namespaced, schema = "disabled",
        status = "IstioStatus", derive = "PartialEq", derive = "Default",
        shortname = "wg", category = "istio-io", category = "networking-istio-io",
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )]
    #[schemars(extend("required" = ["template"]))]
    pub struct WorkloadGroupSpec {
        /// Labels and annotations of each WorkloadEntry.
        pub metadata: Option<WorkloadMetadata>,
        /// The rest of each WorkloadEntry; the address is filled in when a workload joins.
        #[schemars(extend("x-kubernetes-validations" = [socket_without_ports()]))]
        pub template: Option<WorkloadEntrySpec>,
        /// How the health of each workload is found out.
        pub probe: Option<ReadinessProbe>,
    }
}

message! {
    /// Labels and annotations of a WorkloadEntry.
    pub struct WorkloadMetadata {
        /// Labels.
        #[schemars(extend("maxProperties" = 256))]
        pub labels: BTreeMap<String, String>,
        /// Annotations.
        #[schemars(extend("maxProperties" = 256))]
        pub annotations: BTreeMap<String, String>,
    }
}

message! {
    /// How the health of a workload is found out.
    #[schemars(extend("oneOf" = at_most_one_of(&["httpGet", "tcpSocket", "exec", "grpc"])))]
    pub struct ReadinessProbe {
        /// Seconds before the first try; 0 when absent.
        #[schemars(range(min = 0))]
        pub initial_delay_seconds: i32,
        /// Seconds a try may take; 1 when absent.
        #[schemars(range(min = 0))]
        pub timeout_seconds: i32,
        /// Seconds between tries; 10 when absent.
        #[schemars(range(min = 0))]
        pub period_seconds: i32,
        /// Successes in a row after which it is healthy again; 1 when absent.
        #[schemars(range(min = 0))]
        pub success_threshold: i32,
        /// Failures in a row after which it is not healthy; 3 when absent.
        #[schemars(range(min = 0))]
        pub failure_threshold: i32,
        /// By a request.
        pub http_get: Option<HttpHealthCheck>,
        /// By connecting.
        pub tcp_socket: Option<TcpHealthCheck>,
        /// By a command that ends with 0.
        pub exec: Option<ExecHealthCheck>,
        /// By gRPC's health service.
        pub grpc: Option<GrpcHealthCheck>,
    }
}

message! {
    /// A request that must be answered with a status from 200 to 399.
    #[schemars(extend("required" = ["port"]))]
    pub struct HttpHealthCheck {
        /// The path; `/` when absent.
        pub path: String,
        /// The port.
        #[schemars(schema_with = "crate::schema::port")]
        pub port: u32,
        /// The host to connect to; the workload itself when absent.
        pub host: String,
        /// `HTTP` or `HTTPS`; the first when absent.
        #[schemars(extend("x-kubernetes-validations" = [{
            "message": "scheme must be one of [HTTP, HTTPS]",
            "rule": "self in [\"\", \"HTTP\", \"HTTPS\"]",
        }]))]
        pub scheme: String,
        /// Headers.
        pub http_headers: Vec<HttpHeader>,
    }
}

message! {
    /// A header of a health check.
    pub struct HttpHeader {
        /// Its name.
        #[schemars(regex(pattern = "^[-_A-Za-z0-9]+$"))]
        pub name: String,
        /// Its value.
        pub value: String,
    }
}

message! {
    /// A port that must accept connections.
    #[schemars(extend("required" = ["port"]))]
    pub struct TcpHealthCheck {
        /// The host to connect to; the workload itself when absent.
        pub host: String,
        /// The port.
        #[schemars(schema_with = "crate::schema::port")]
        pub port: u32,
    }
}

message! {
    /// A command that must end with 0.
    #[schemars(extend("required" = ["command"]))]
    pub struct ExecHealthCheck {
        /// The program and its arguments; no shell.
        #[schemars(inner(length(min = 1)))]
        pub command: Vec<String>,
    }
}

message! {
    /// A call of gRPC's health service.
    pub struct GrpcHealthCheck {
        /// The port.
        #[schemars(schema_with = "crate::schema::port")]
        pub port: u32,
        /// The service to ask for; the whole server when absent.
        pub service: String,
    }
}
