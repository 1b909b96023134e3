//! What a MeshInstall means: profile, spec and environment resolved into one value that cannot be wrong any more.
//!
//! [`super::validate`] makes it, [`super::build`] renders it.

use std::collections::{BTreeMap, BTreeSet};

use crds::install::{Autoscaling, Overlay, Resources, ServiceSettings, ServiceType};
use k8s_openapi::api::core::v1::{Affinity, EnvVar, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use names::{labels, resources};
use serde_json::{Map, Value};

use super::applyset;
use crate::addons::{AddonKind, Addons};
use crate::version::Refused;

/// One part of the mesh, as the label `install.forestay.dev/component` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Component {
    /// What all parts read: ConfigMaps, and the Secret that revisions share.
    Configuration,
    /// `istiod`.
    ControlPlane,
    /// `istio-sidecar-injector`.
    Webhook,
    /// One of the gateways.
    Gateway,
    /// One of the addons.
    Addon(AddonKind),
}

impl Component {
    /// The label's value.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::ControlPlane => "control-plane",
            Self::Webhook => "webhook",
            Self::Gateway => "gateway",
            Self::Addon(addon) => addon.as_str(),
        }
    }

    /// The component of a label's value.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        [Self::Configuration, Self::ControlPlane, Self::Webhook, Self::Gateway]
            .into_iter()
            .chain(AddonKind::ALL.map(Self::Addon))
            .find(|component| component.as_str() == value)
    }
}

/// One revision of the mesh.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_field_names)] // MeshConfig is a name of Istio's
pub(crate) struct Mesh {
    /// The MeshInstall's name.
    pub(crate) name: String,
    /// The MeshInstall's uid.
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) revision: String,
    /// Tags that lead to it, too.
    pub(crate) tags: BTreeSet<String>,
    /// The version that is rendered: the spec's, or the one in force where the spec's is refused.
    pub(crate) version: String,
    /// Why it is not the version that the spec asks for.
    pub(crate) refused: Option<Refused>,
    pub(crate) images: Images,
    /// None where the spec has switched it off.
    pub(crate) control_plane: Option<Workload>,
    /// None where the spec has switched it off.
    pub(crate) webhook: Option<Workload>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) addons: Addons,
    pub(crate) proxy: Proxy,
    /// MeshConfig as the ConfigMap carries it.
    pub(crate) mesh_config: Map<String, Value>,
    /// Fields of the spec that change nothing, for a condition.
    pub(crate) without_effect: Vec<String>,
    /// Istio's Helm values for injection, as the user wrote them.
    pub(crate) values: Map<String, Value>,
    /// Of 100 requests, how many are traced.
    pub(crate) trace_sampling: u8,
    /// The namespace gives users and groups their ids.
    pub(crate) openshift: bool,
}

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    pub(crate) hub: String,
    pub(crate) tag: String,
    pub(crate) pull_policy: &'static str,
    /// Of the parts that name none: control plane and webhook, and the proxies.
    pub(crate) forestay: String,
    pub(crate) proxy: String,
    /// Names of Secrets, in each pod's own namespace.
    pub(crate) pull_secrets: Vec<String>,
}

/// One Deployment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    pub(crate) image: String,
    pub(crate) resources: Resources,
    pub(crate) scale: Scale,
    pub(crate) pods: Pods,
    pub(crate) overlays: Vec<Overlay>,
}

/// How many pods there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    /// None leaves the number to whoever scales the Deployment.
    pub(crate) replicas: Option<i32>,
    pub(crate) autoscaling: Option<Autoscaling>,
    /// None: no disruption budget.
    pub(crate) budget: Option<Budget>,
}

/// How many pods may be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    MinAvailable(IntOrString),
    MaxUnavailable(IntOrString),
}

/// Where pods run and what they carry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pods {
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) topology_spread: Vec<TopologySpreadConstraint>,
    pub(crate) priority_class: Option<String>,
    pub(crate) env: Vec<EnvVar>,
}

/// One gateway.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gateway {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) service_type: ServiceType,
    pub(crate) service: ServiceSettings,
    pub(crate) ports: Vec<GatewayPort>,
    pub(crate) resources: Resources,
    pub(crate) scale: Scale,
    pub(crate) pods: Pods,
    pub(crate) overlays: Vec<Overlay>,
    /// What a Gateway object selects the pods by.
    pub(crate) labels: BTreeMap<String, String>,
}

/// One port of a gateway's Service, with the pod's port settled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GatewayPort {
    pub(crate) name: String,
    pub(crate) port: i32,
    pub(crate) target_port: i32,
    pub(crate) node_port: Option<i32>,
    pub(crate) protocol: &'static str,
}

/// What sidecars and gateways start from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Proxy {
    /// The whole reference.
    pub(crate) image: String,
    /// What Istio's values call it: a whole reference, or a name that `hub` and `tag` complete.
    pub(crate) image_value: String,
    /// A sidecar's; gateways have their own.
    pub(crate) resources: Resources,
    pub(crate) log_level: &'static str,
}

impl Mesh {
    /// `istiod[-<revision>]`.
    pub(crate) fn istiod(&self) -> String {
        resources::istiod(&self.revision)
    }

    /// `istio-sidecar-injector[-<revision>]`.
    pub(crate) fn injector(&self) -> String {
        resources::injector(&self.revision)
    }

    /// The MutatingWebhookConfiguration's name.
    pub(crate) fn mutating_configuration(&self) -> String {
        webhook::configuration::mutating_name(&self.revision, &self.namespace)
    }

    /// The ValidatingWebhookConfiguration's name.
    pub(crate) fn validating_configuration(&self) -> String {
        resources::validator(&self.revision, &self.namespace)
    }

    /// The name of a cluster-scoped object: revision and namespace keep it apart from other installs'.
    pub(crate) fn cluster_scoped(&self, base: &str) -> String {
        format!("{}-{}", resources::revisioned(base, &self.revision), self.namespace)
    }

    /// `istiod[-<revision>].<namespace>.svc:15012`, where proxies find their control plane.
    pub(crate) fn discovery_address(&self) -> String {
        discovery_address(&self.namespace, &self.revision)
    }

    /// `trustDomain` of the MeshConfig.
    pub(crate) fn trust_domain(&self) -> &str {
        self.mesh_config.get("trustDomain").and_then(Value::as_str).unwrap_or(names::identity::TRUST_DOMAIN)
    }

    /// Metadata of a namespaced object of ours.
    pub(crate) fn object(&self, component: Component, namespace: &str, name: &str) -> ObjectMeta {
        ObjectMeta { namespace: Some(namespace.to_owned()), ..self.cluster_object(component, name) }
    }

    /// Metadata of a cluster-scoped object of ours.
    pub(crate) fn cluster_object(&self, component: Component, name: &str) -> ObjectMeta {
        let mut all = self.labels(component);
        all.insert(labels::PART_OF_SET.to_owned(), applyset::id(&self.name));
        ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(all),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }

    /// The labels that every object of ours carries.
    pub(crate) fn labels(&self, component: Component) -> BTreeMap<String, String> {
        BTreeMap::from([
            (labels::KUBERNETES_MANAGED_BY.to_owned(), resources::OPERATOR.to_owned()),
            (labels::OWNED_BY.to_owned(), self.name.clone()),
            (labels::COMPONENT.to_owned(), component.as_str().to_owned()),
            (labels::REVISION.to_owned(), self.revision.clone()),
        ])
    }

    /// A MeshInstall is cluster-scoped, so it can own objects of every scope: what it owns goes with it, even when
    /// the operator is not there to delete it.
    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: "install.forestay.dev/v1alpha1".to_owned(),
            kind: "MeshInstall".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// `istiod[-<revision>].<namespace>.svc:15012`.
pub(crate) fn discovery_address(namespace: &str, revision: &str) -> String {
    format!("{}.{namespace}.svc:{}", resources::istiod(revision), names::ports::XDS_TLS)
}
