//! A name for a revision that can be moved.

#![allow(unreachable_pub)] // the derive of KubeSchema repeats each struct, `pub` and all, inside a function

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// A name for a revision that can be moved: namespaces and pods labelled `istio.io/rev=<name of the tag>` get the
/// sidecar of the revision that it points at. The tag `default` also serves `istio-injection=enabled`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "install.forestay.dev",
    version = "v1alpha1",
    kind = "MeshRevisionTag",
    plural = "meshrevisiontags",
    shortname = "mrt",
    category = "mesh",
    status = "MeshRevisionTagStatus",
    derive = "PartialEq",
    doc = "A name for a revision that can be moved: namespaces and pods labelled istio.io/rev=<name of the tag> get the sidecar of the revision that it points at. The tag default also serves istio-injection=enabled.",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name", description = "The MeshInstall it points at"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision", description = "The revision that pods get"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether pods get it"
    ),
    printcolumn(
        name = "In use",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"InUse\")].status",
        description = "Whether namespaces ask for it"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 40 && !self.metadata.name.contains('.')")
        .message("metadata.name is the value of the label istio.io/rev: choose one of at most 40 characters, without dots")
)]
#[serde(rename_all = "camelCase")]
pub struct MeshRevisionTagSpec {
    /// What the tag points at. Change it to move every namespace that has the tag.
    pub target_ref: TargetReference,
}

/// What a tag points at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct TargetReference {
    /// Its kind.
    #[serde(default)]
    pub kind: TargetKind,
    /// Its name, not the name of its revision.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// A kind that a tag can point at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// A revision of the mesh.
    #[default]
    MeshInstall,
}

/// What the operator found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshRevisionTagStatus {
    /// The generation of the spec that this status speaks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The revision that pods get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Ready and InUse.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
