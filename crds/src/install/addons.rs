//! Programs to look at a mesh with: what Istio's `samples/addons` deploy, as parts of a MeshInstall.

#![allow(unreachable_pub)] // the derive of KubeSchema repeats each struct, `pub` and all, inside a function

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::resources::{Quantity, Resources};
use super::workload::{Overlay, PodSettings};

/// Programs to look at the mesh with, in its namespace: none unless it stands here. They have the names, ports and
/// Services of Istio's samples, and nobody has to sign in to them: do not expose them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.jaeger) || !has(self.zipkin) || !self.jaeger.enabled || !self.zipkin.enabled")
    .message("jaeger and zipkin exclude each other, both are the Services tracing and zipkin: set enabled: false on one of them"))]
pub struct AddonsSpec {
    /// Prometheus: scrapes control plane, proxies and every pod with the annotation `prometheus.io/scrape`. Deployment and
    /// Service `prometheus`, port 9090.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<AddonSpec>,
    /// Grafana, with Prometheus and the tracing addon as data sources. Deployment and Service `grafana`, port 3000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grafana: Option<AddonSpec>,
    /// Kiali, which shows and does not change. Deployment and Service `kiali`, port 20001, path `/kiali`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!has(self.externalURL)")
        .message("nothing asks Kiali for anything: to use one elsewhere leave spec.addons.kiali out"))]
    #[x_kube(validation = Rule::new("!has(self.persistence)").message("Kiali keeps no data: remove persistence"))]
    pub kiali: Option<AddonSpec>,
    /// Jaeger. Deployment `jaeger`; Services `tracing` (80, path `/jaeger`), `zipkin` (9411) and `jaeger-collector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jaeger: Option<AddonSpec>,
    /// Zipkin, which keeps its traces in memory. Deployment `zipkin`; Services `tracing` (80) and `zipkin` (9411).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!has(self.persistence)")
        .message("Zipkin keeps its traces in memory: remove persistence, or use jaeger"))]
    pub zipkin: Option<AddonSpec>,
}

/// One addon: a Deployment of one pod, or the address of one that runs elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.externalURL) || !(has(self.image) || has(self.resources) || has(self.persistence) || has(self.pod) || has(self.overlays))",
).message("with externalURL nothing is deployed: remove image, resources, persistence, pod and overlays, or externalURL"))]
pub struct AddonSpec {
    /// Whether it is there. `true` by default: what stands in the spec is wanted.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// A whole image reference, instead of the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.contains('/')")
        .message("image must be a whole reference such as registry.example.org/prom/prometheus:v3.10.0; spec.hub does not apply to addons"))]
    pub image: Option<String>,
    /// Requests and limits, instead of the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// A PersistentVolumeClaim for its data; without one they go with the pod. The claim is kept when the addon is
    /// switched off and when the MeshInstall is deleted, unless `uninstall: Purge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// Address of one that runs elsewhere, `http://` or `https://`: nothing is deployed, and the other addons are
    /// configured with it.
    #[serde(rename = "externalURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != ''")
        .message("externalURL must be an address such as https://prometheus.example.org:9090"))]
    pub external_url: Option<String>,
    /// Where its pod runs and what it carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSettings>,
    /// Changes to the objects made for it, for what no field above is there. One for Service is laid over each of its
    /// Services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub overlays: Vec<Overlay>,
}

impl Default for AddonSpec {
    /// What the API server makes of an empty one.
    fn default() -> Self {
        Self {
            enabled: yes(),
            image: None,
            resources: None,
            persistence: None,
            external_url: None,
            pod: None,
            overlays: Vec::new(),
        }
    }
}

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Persistence {
    /// How much it asks for. 8Gi by default; it can grow later where the storage class allows it, and never shrink.
    #[serde(default = "size")]
    pub size: Quantity,
    /// Name of a StorageClass. The cluster's default class by default; cannot be changed once the claim is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub storage_class_name: Option<String>,
}

impl Default for Persistence {
    fn default() -> Self {
        Self { size: size(), storage_class_name: None }
    }
}

fn yes() -> bool {
    true
}

fn size() -> Quantity {
    Quantity("8Gi".to_owned())
}
