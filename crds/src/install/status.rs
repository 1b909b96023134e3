//! What the operator answers.

#![allow(unreachable_pub)] // the derive of KubeSchema repeats each struct, `pub` and all, inside a function

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What the operator found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshInstallStatus {
    /// The generation of the spec that this status speaks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Healthy`, or the reason of the first condition that is not True.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The version in force: what the last installation or upgrade that was finished came to. It is not taken back below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The images of the version in force, where no part names its own. A newer operator keeps the version with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ImagesStatus>,
    /// Reconciled, ControlPlaneReady, WebhookReady, GatewaysReady, and Ready, which sums them up; AddonsReady, SettingsEffective, UpToDate, InUse; Stalled when it is.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The Deployments that the mesh consists of.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["component".into(), "namespace".into(), "name".into()]))]
    pub components: Vec<ComponentStatus>,
    /// Who uses this revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_plane: Option<DataPlaneStatus>,
}

/// Images of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagesStatus {
    /// Of control plane and webhook.
    pub forestay: String,
    /// Of sidecars and gateways.
    pub proxy: String,
}

/// Who uses a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneStatus {
    /// Namespaces whose labels ask for it.
    pub namespaces: i32,
    /// Pods that carry its sidecar.
    pub pods: i32,
    /// Those of them whose sidecar is of another version than new pods get: restart their workloads.
    pub outdated: i32,
}

/// One Deployment of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// `control-plane`, `webhook` or `gateway`; of an addon its name.
    pub component: String,
    /// The Deployment's namespace.
    pub namespace: String,
    /// The Deployment's name.
    pub name: String,
    /// Ready pods of the newest template out of wanted pods, for example `1/1`.
    pub ready: String,
    /// The image that it runs.
    pub image: String,
}
