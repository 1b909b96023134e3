//! Of a Pod, what the operator reads: of the hundreds of fields of a whole one most would be read and kept for nothing.

use k8s_openapi::api::core::v1::{self as core, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// A Pod.
#[derive(Clone, Debug, Deserialize, kube::Resource)]
#[resource(inherit = core::Pod)]
pub(crate) struct Pod {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: Option<PodSpec>,
    pub(crate) status: Option<PodStatus>,
}

/// What it is made of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) service_account_name: Option<String>,
}
