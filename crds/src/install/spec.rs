//! What a person asks for.

#![allow(unreachable_pub)] // the derive of KubeSchema repeats each struct, `pub` and all, inside a function

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::addons::AddonsSpec;
use super::gateway::GatewaySpec;
use super::resources::Resources;
use super::schema;
use super::status::MeshInstallStatus;
use super::workload::WorkloadSpec;

/// One revision of the mesh: its control plane, its webhook, its gateways and the settings of its proxies.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "install.forestay.dev",
    version = "v1alpha1",
    kind = "MeshInstall",
    plural = "meshinstalls",
    shortname = "mi",
    category = "mesh",
    label("applyset.kubernetes.io/is-parent-type", "true"),
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
    printcolumn(name = "In force", type_ = "string", json_path = ".status.version", priority = 1, description = "Version that the last finished installation or upgrade came to"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.dataPlane.pods", priority = 1, description = "Pods that carry its sidecar"),
    printcolumn(name = "Outdated", type_ = "integer", json_path = ".status.dataPlane.outdated", priority = 1, description = "Those of them of another version"),
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
    /// Version of the control plane and of the proxies. By default the operator's own, and then written down: a newer
    /// operator goes on serving it, and a change starts the upgrade. An operator serves its own minor version up to
    /// itself and the minor version before; what is older than `status.version` is refused.
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

    /// Tag of the images, instead of `version`. A digest belongs into `image` of each part.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub tag: Option<String>,

    /// When nodes pull images. `IfNotPresent` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets that images are pulled with, in the namespaces of the control plane, of the gateways and of every pod
    /// with a sidecar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretReference>,

    /// Starting point that the rest of the spec changes: `default` (control plane, ingress gateway), `minimal` (no
    /// gateway), `demo` (also an egress gateway, access logs, every request traced, small requests), `empty` (nothing:
    /// switch parts on by `enabled: true`), `openshift` (as `default`, with ids that the namespace gives), `preview` (as
    /// `default`, with what Istio calls experimental).
    #[serde(default)]
    #[x_kube(validation = Rule::new("self != 'remote'")
        .message("profile remote needs a control plane in another cluster, which is not supported: install a control plane in this cluster (profile default)"))]
    pub profile: Profile,

    /// What deletion takes away. `Keep` by default.
    #[serde(default)]
    pub uninstall: Uninstall,

    /// How long a deletion waits while namespaces or pods use the revision, in seconds; 30 by default. The annotation
    /// `install.forestay.dev/force-delete: "true"` ends the wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub deletion_grace_period_seconds: Option<u32>,

    /// Istio's MeshConfig. Each field replaces the default; `defaultConfig` and its `proxyMetadata` are merged, and so
    /// is `extensionProviders`, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "schema::as_written")]
    pub mesh_config: Map<String, Value>,

    /// Istio's Helm values, those that concern injection: `sidecarInjectorWebhook` (templates, selectors), `global.proxy`,
    /// `global.imagePullSecrets`, `pilot.cni` and the like. Each replaces the operator's; null takes one away.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "schema::as_written")]
    pub values: Map<String, Value>,

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

    /// Programs to look at the mesh with, as Istio's samples deploy them: Prometheus, Grafana, Kiali, Jaeger, Zipkin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addons: Option<Box<AddonsSpec>>,
}

impl MeshInstallSpec {
    /// The tag of its images, which is also what a sidecar of it calls its version.
    pub fn image_tag(&self) -> &str {
        self.tag.as_ref().unwrap_or(&self.version)
    }
}

impl Default for MeshInstallSpec {
    /// What the API server makes of an empty spec.
    fn default() -> Self {
        Self {
            version: version(),
            namespace: namespace(),
            revision: revision(),
            hub: None,
            tag: None,
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            profile: Profile::Default,
            uninstall: Uninstall::Keep,
            deletion_grace_period_seconds: None,
            mesh_config: Map::new(),
            values: Map::new(),
            control_plane: None,
            webhook: None,
            gateways: Vec::new(),
            proxy: None,
            addons: None,
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
    /// Nothing that is not switched on.
    Empty,
    /// Control plane and ingress gateway, with user and group ids that OpenShift chooses.
    Openshift,
    /// Control plane and ingress gateway, with what Istio calls experimental.
    Preview,
    /// Refused: a control plane elsewhere.
    Remote,
}

/// What deletion takes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Uninstall {
    /// Everything but what may hold somebody's work or trust: the definitions with their objects, the mesh's
    /// certificate authority, the namespace.
    #[default]
    Keep,
    /// With the last MeshInstall also the certificate authority, its root in every namespace, the Leases, and all
    /// objects of Istio's kinds with their definitions. The namespace stays.
    Purge,
}

/// When nodes pull images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// For every container.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never.
    Never,
}

impl ImagePullPolicy {
    /// As a container has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// A Secret by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SecretReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
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
