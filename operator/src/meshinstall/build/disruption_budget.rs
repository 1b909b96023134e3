//! PodDisruptionBudgets.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::meshinstall::mesh::{Budget, Component, Mesh};

/// One pod at a time may be evicted unless the spec says otherwise. `minAvailable: 1` would keep a node with the only
/// replica from ever being drained.
pub(super) fn build(
    mesh: &Mesh,
    component: Component,
    namespace: &str,
    name: &str,
    selector: BTreeMap<String, String>,
    budget: &Budget,
) -> PodDisruptionBudget {
    let (min_available, max_unavailable) = match budget {
        Budget::MinAvailable(least) => (Some(least.clone()), None),
        Budget::MaxUnavailable(most) => (None, Some(most.clone())),
    };
    PodDisruptionBudget {
        metadata: mesh.object(component, namespace, name),
        spec: Some(PodDisruptionBudgetSpec {
            min_available,
            max_unavailable,
            selector: Some(LabelSelector { match_labels: Some(selector), match_expressions: None }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
