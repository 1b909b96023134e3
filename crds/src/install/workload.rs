//! One Deployment of ours: how many pods, how big, where, and what else about them.

#![allow(unreachable_pub)] // the derive of KubeSchema repeats each struct, `pub` and all, inside a function

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::resources::Resources;
use super::schema;

/// One Deployment of ours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.replicas) || !has(self.autoscaling)")
    .message("replicas and autoscaling exclude each other: the autoscaler sets the number; use autoscaling.minReplicas"))]
pub struct WorkloadSpec {
    /// Whether it is there at all. `true` by default, `false` in the profile `empty`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Number of pods. 1 by default, and 2 of the webhook in profiles with more than the least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: Option<i32>,
    /// A HorizontalPodAutoscaler for it, instead of a fixed number of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Its PodDisruptionBudget. By default one pod at a time may be evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<DisruptionBudget>,
    /// Requests and limits, instead of the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// A whole image reference, instead of the one made of `hub` and `version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.contains('/')")
        .message("image must be a whole reference such as registry.example.org/mesh/forestay:1.0.0; to change only the registry set spec.hub"))]
    pub image: Option<String>,
    /// Where its pods run and what they carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSettings>,
    /// Changes to the objects made for it, for what no field above is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub overlays: Vec<Overlay>,
}

/// A HorizontalPodAutoscaler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minReplicas) || self.minReplicas <= self.maxReplicas")
    .message("minReplicas is above maxReplicas"))]
pub struct Autoscaling {
    /// At least so many pods. 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: Option<i32>,
    /// At most so many pods.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: i32,
    /// Pods are added above this use of the requested CPU, in percent. 80 by default, unless memory is given alone.
    #[serde(rename = "targetCPUUtilizationPercentage", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_utilization_percentage: Option<i32>,
    /// Pods are added above this use of the requested memory, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_memory_utilization_percentage: Option<i32>,
}

/// A PodDisruptionBudget: what draining nodes has to leave running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minAvailable) || !has(self.maxUnavailable)")
    .message("minAvailable and maxUnavailable exclude each other, as in a PodDisruptionBudget"))]
pub struct DisruptionBudget {
    /// `false`: no budget. `true` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// So many pods, or so many percent of them, have to stay. With one replica, 1 keeps a node from ever being drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_percent")]
    pub min_available: Option<IntOrString>,
    /// So many pods, or so many percent of them, may be gone. 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_percent")]
    pub max_unavailable: Option<IntOrString>,
}

/// Where pods run and what they carry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Annotations, beside the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels, beside the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Kubernetes' `affinity`, as in a pod. Instead of the operator's, which spreads the pods over nodes.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "schema::open_object")]
    pub affinity: Map<String, Value>,
    /// Taints of nodes that the pods put up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Kubernetes' `topologySpreadConstraints`, as in a pod; without `labelSelector` it is the Deployment's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), schema_with = "schema::open_objects")]
    pub topology_spread_constraints: Vec<Map<String, Value>>,
    /// Name of a PriorityClass.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Environment variables of the first container, beside the operator's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvironmentVariable>,
}

/// A taint that pods put up with, as in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.operator) || self.operator != 'Exists' || !has(self.value)")
    .message("a toleration with operator Exists has no value"))]
pub struct Toleration {
    /// The taint's key; without one every taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// The taint's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The taint's effect; without one every effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long the pod stays on the node once it has the taint (`NoExecute`), in seconds; for ever by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// With any value.
    Exists,
    /// With this value.
    Equal,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// No new pods.
    NoSchedule,
    /// Rather no new pods.
    PreferNoSchedule,
    /// No pods.
    NoExecute,
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct EnvironmentVariable {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z][-._a-zA-Z0-9]*$"))]
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// A change to an object that the operator makes: a strategic merge patch over what it renders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overlay {
    /// The object's kind: Deployment, Service, ServiceAccount, HorizontalPodAutoscaler or PodDisruptionBudget.
    pub kind: OverlayKind,
    /// The patch, for example `spec: {template: {spec: {containers: [{name: discovery, args: [...]}]}}}`. Lists merge by
    /// the keys that `kubectl patch` merges them by. Name, namespace, selectors and the operator's labels cannot be changed.
    #[schemars(schema_with = "schema::open_object")]
    pub patch: Map<String, Value>,
}

/// A kind that an overlay can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OverlayKind {
    /// The Deployment.
    Deployment,
    /// Its Service.
    Service,
    /// The service account of its pods.
    ServiceAccount,
    /// Its autoscaler.
    HorizontalPodAutoscaler,
    /// Its disruption budget.
    PodDisruptionBudget,
}

impl OverlayKind {
    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::Service => "Service",
            Self::ServiceAccount => "ServiceAccount",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
        }
    }
}
