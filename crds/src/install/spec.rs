//! What a person asks for.

#![allow(unreachable_pub)] // the derive of KubeSchema repeats each struct, `pub` and all, inside a function

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::resources::Resources;
use super::schema;
use super::status::MeshInstallStatus;

/// One revision of the mesh: its control plane, its webhook, its gateways and the settings of its proxies.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "install.forestay.dev",
    version = "v1alpha1",
    kind = "MeshInstall",
    plural = "meshinstalls",
    shortname = "mi",
    category = "mesh",
    status = "MeshInstallStatus",
    derive = "PartialEq",
    doc = "One revision of the mesh: its control plane, its webhook, its gateways and the settings of its proxies.",
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version", description = "Version of the mesh"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".spec.revision", description = "Value of istio.io/rev"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether everything runs"
    ),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.state", description = "What it is doing, in a word"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Profile", type_ = "string", json_path = ".spec.profile", priority = 1),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.namespace", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name becomes a label of everything that is made for it: choose one of at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct MeshInstallSpec {
    /// Version of the control plane and of the proxies. The operator brings the version it was built as, and refuses others.
    #[serde(default = "version")]
    #[schemars(length(min = 1, max = 64))]
    pub version: String,

    /// Namespace of the control plane, created when it does not exist and never deleted. Cannot be changed.
    #[serde(default = "namespace")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("spec.namespace cannot be changed: create a second MeshInstall with another revision and move the workloads to it"))]
    pub namespace: String,

    /// Name of the revision, the value of the label `istio.io/rev`. `default` also serves namespaces labelled `istio-injection=enabled`. Cannot be changed.
    #[serde(default = "revision")]
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("spec.revision cannot be changed: create a second MeshInstall with the new revision and move the workloads to it"))]
    pub revision: String,

    /// Registry and organisation that images come from. By default what the operator was told, else `docker.io/forestay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub hub: Option<String>,

    /// Starting point that the rest of the spec changes: `default` (control plane, ingress gateway), `minimal` (no
    /// gateway), `demo` (also an egress gateway, access logs, every request traced, small requests).
    #[serde(default)]
    pub profile: Profile,

    /// Istio's MeshConfig. Each field replaces the default; `defaultConfig` and its `proxyMetadata` are merged, and so
    /// is `extensionProviders`, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "schema::mesh_config")]
    pub mesh_config: Map<String, Value>,

    /// The control plane, Deployment `istiod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<WorkloadSpec>,

    /// The admission webhook, Deployment `istio-sidecar-injector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WorkloadSpec>,

    /// Gateways. One that has the name of a gateway of the profile changes it; any other name adds one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub gateways: Vec<GatewaySpec>,

    /// What sidecars and gateways start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySpec>,
}

impl Default for MeshInstallSpec {
    /// What the API server makes of an empty spec.
    fn default() -> Self {
        Self {
            version: version(),
            namespace: namespace(),
            revision: revision(),
            hub: None,
            profile: Profile::Default,
            mesh_config: Map::new(),
            control_plane: None,
            webhook: None,
            gateways: Vec::new(),
            proxy: None,
        }
    }
}

/// A named starting point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Profile {
    /// Control plane and ingress gateway.
    #[default]
    Default,
    /// Control plane without gateways.
    Minimal,
    /// Everything that a walkthrough shows, with small requests.
    Demo,
}

/// One Deployment of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// Number of pods. 1 by default, and 2 of the webhook in profile default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: Option<i32>,
    /// Requests and limits, instead of the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// A whole image reference, instead of the one made of `hub` and `version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.contains('/')")
        .message("image must be a whole reference such as registry.example.org/mesh/forestay:1.0.0; to change only the registry set spec.hub"))]
    pub image: Option<String>,
}

/// One gateway: a Deployment, a Service and what belongs to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.enabled) || self.enabled || !has(self.replicas)")
    .message("a gateway with enabled: false runs no pods: remove replicas, or set enabled: true"))]
pub struct GatewaySpec {
    /// Name of its Deployment, Service and service account prefix, for example `istio-ingressgateway`.
    #[schemars(length(min = 1, max = 50), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// `false` takes a gateway of the profile away. `true` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Its namespace, which must exist. `spec.namespace` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// Type of its Service. `LoadBalancer` by default, `ClusterIP` for the profile's egress gateway.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Ports of its Service, instead of `http2` 80 and `https` 443; `status-port` 15021 is always there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<ServicePort>,
    /// Number of pods. 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: Option<i32>,
    /// Requests and limits, instead of the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels that a Gateway object selects it by, instead of `istio: <name without "istio-">`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// How a gateway's Service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// An address of its own from the cluster's load balancer.
    #[default]
    LoadBalancer,
    /// A port on every node.
    NodePort,
    /// Only from inside the cluster.
    ClusterIP,
}

/// One port of a gateway's Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name, which also tells its protocol, for example `http2`, `https`, `tcp-mongo`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The Service's port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The port in the pod. 8080 for 80, 8443 for 443, else the Service's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<i32>,
    /// The port on every node, when it must be a certain one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// TCP by default.
    #[serde(default)]
    pub protocol: TransportProtocol,
}

/// A port's transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TransportProtocol {
    /// TCP.
    #[default]
    TCP,
    /// UDP.
    UDP,
}

/// What sidecars and gateways start from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxySpec {
    /// A whole image reference, instead of the one made of `hub` and `version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.contains('/')")
        .message("image must be a whole reference such as registry.example.org/mesh/proxyv2:1.0.0; to change only the registry set spec.hub"))]
    pub image: Option<String>,
    /// Requests and limits of a sidecar, instead of the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Log level of the proxy. `warning` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
}

/// How much a proxy logs, in Istio's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For someone who looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// What may be wrong.
    Warning,
    /// What is wrong.
    Error,
    /// Only what ends the proxy.
    Critical,
    /// Nothing.
    Off,
}

impl LogLevel {
    /// The word that the proxy's `--proxyLogLevel` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Off => "off",
        }
    }
}

fn version() -> String {
    names::VERSION.to_owned()
}

fn namespace() -> String {
    names::resources::MESH_NAMESPACE.to_owned()
}

fn revision() -> String {
    names::DEFAULT_REVISION.to_owned()
}
