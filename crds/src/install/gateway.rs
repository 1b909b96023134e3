//! A gateway of a MeshInstall.

#![allow(unreachable_pub)] // the derive of KubeSchema repeats each struct, `pub` and all, inside a function

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resources::Resources;
use super::workload::{Autoscaling, DisruptionBudget, Overlay, PodSettings};

/// One gateway: a Deployment, a Service and what belongs to them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.enabled) || self.enabled || !has(self.replicas)")
        .message("a gateway with enabled: false runs no pods: remove replicas, or set enabled: true"),
    validation = Rule::new("!has(self.replicas) || !has(self.autoscaling)")
        .message("replicas and autoscaling exclude each other: the autoscaler sets the number; use autoscaling.minReplicas"),
    validation = Rule::new("!has(self.type) || self.type != 'ClusterIP' || !has(self.ports) || self.ports.all(p, !has(p.nodePort))")
        .message("ports[].nodePort needs type NodePort or LoadBalancer"),
    validation = Rule::new("!has(self.type) || self.type == 'LoadBalancer' || !has(self.service) || (!has(self.service.loadBalancerClass) && !has(self.service.loadBalancerIP) && !has(self.service.loadBalancerSourceRanges) && !has(self.service.allocateLoadBalancerNodePorts))")
        .message("service.loadBalancerClass, loadBalancerIP, loadBalancerSourceRanges and allocateLoadBalancerNodePorts need type LoadBalancer"),
    validation = Rule::new("!has(self.type) || self.type != 'ClusterIP' || !has(self.service) || !has(self.service.externalTrafficPolicy)")
        .message("service.externalTrafficPolicy needs type LoadBalancer or NodePort"),
)]
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
    /// What else its Service has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSettings>,
    /// Number of pods. 1 by default.
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
    /// Labels that a Gateway object selects it by, instead of `istio: <name without "istio-">`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where its pods run and what they carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSettings>,
    /// Changes to the objects made for it, for what no field above is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub overlays: Vec<Overlay>,
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

/// What a gateway's Service has besides its ports; the fields of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSettings {
    /// Annotations; clouds read their load balancers' settings from here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels, beside the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `Local` keeps the client's address and uses only nodes that have a pod; `Cluster` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Which implementation makes the load balancer. Kubernetes lets it be changed only together with the type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    /// An address to ask the load balancer for (deprecated by Kubernetes; many clouds have an annotation instead).
    #[serde(rename = "loadBalancerIP", skip_serializing_if = "Option::is_none")]
    pub load_balancer_ip: Option<String>,
    /// Blocks of client addresses that the load balancer lets in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub load_balancer_source_ranges: Vec<String>,
    /// `false` saves node ports where the load balancer needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// Addresses outside of Kubernetes' control that nodes also take connections for.
    #[serde(rename = "externalIPs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub external_ips: Vec<String>,
    /// `SingleStack`, `PreferDualStack` or `RequireDualStack`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// `IPv4`, `IPv6`, or both in the order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub ip_families: Vec<IpFamily>,
}

/// Which nodes take connections from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// All, passing connections on.
    Cluster,
    /// Those with a pod of the gateway.
    Local,
}

/// How many address families a Service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamilyPolicy {
    /// One.
    SingleStack,
    /// Two where the cluster has them.
    PreferDualStack,
    /// Two.
    RequireDualStack,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpFamily {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
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
