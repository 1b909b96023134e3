//! `overlays`: patches of the spec over what is rendered. What they may not touch is refused here, by field; so is what
//! Kubernetes' types do not have, which would be dropped in silence.

use crds::install::{Overlay, OverlayKind};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Map, Value};

use super::Invalid;
use super::pods::{own_labels, typed};

/// Members that are the operator's alone: an object is found by them.
const OWN: [&str; 9] = [
    "apiVersion",
    "kind",
    "status",
    "metadata.name",
    "metadata.namespace",
    "metadata.ownerReferences",
    "metadata.finalizers",
    "spec.selector",
    "spec.scaleTargetRef",
];

/// Checks the overlays of one part of the spec.
pub(super) fn check(part: &str, overlays: &[Overlay]) -> Result<(), Invalid> {
    for (index, overlay) in overlays.iter().enumerate() {
        let field = format!("{part}.overlays[{index}].patch");
        let patch = Value::Object(overlay.patch.clone());
        for member in OWN {
            if patch.pointer(&format!("/{}", member.replace('.', "/"))).is_some() {
                return Err(Invalid::spec(format!("{field}.{member}"), "is the operator's own and cannot be patched"));
            }
        }
        // A list that the spec has a field for; its merge key differs from that of a container's ports.
        if overlay.kind == OverlayKind::Service && patch.pointer("/spec/ports").is_some() {
            return Err(Invalid::spec(format!("{field}.spec.ports"), "cannot be patched; use ports of the gateway"));
        }
        for path in ["/metadata/labels", "/spec/template/metadata/labels"] {
            if let Some(Value::Object(labels)) = patch.pointer(path) {
                let labels = labels.keys().map(|key| (key.clone(), String::new())).collect();
                own_labels(&format!("{field}{}", path.replace('/', ".")), &labels)?;
            }
        }
        let plain = without_directives(&patch);
        match overlay.kind {
            OverlayKind::Deployment => typed::<Deployment>(&field, &plain).map(drop),
            OverlayKind::Service => typed::<Service>(&field, &plain).map(drop),
            OverlayKind::ServiceAccount => typed::<ServiceAccount>(&field, &plain).map(drop),
            OverlayKind::HorizontalPodAutoscaler => typed::<HorizontalPodAutoscaler>(&field, &plain).map(drop),
            OverlayKind::PodDisruptionBudget => typed::<PodDisruptionBudget>(&field, &plain).map(drop),
        }?;
        // Whether its directives and merge keys are in order does not depend on what it is laid over.
        webhook::inject::strategic::merge(&mut Value::Object(Map::new()), &patch)
            .map_err(|error| Invalid::spec(&field, error.to_string()))?;
    }
    Ok(())
}

/// The patch as a value of its type: without `$patch` and its like.
fn without_directives(patch: &Value) -> Value {
    match patch {
        Value::Object(members) => {
            let plain = members.iter().filter(|(name, _)| !name.starts_with('$'));
            Value::Object(plain.map(|(name, value)| (name.clone(), without_directives(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_directives).collect()),
        other => other.clone(),
    }
}
