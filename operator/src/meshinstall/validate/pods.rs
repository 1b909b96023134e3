//! What the parts of a mesh have in common: how many pods, where they run, what they carry.

use std::collections::{BTreeMap, BTreeSet};

use crds::install::{Autoscaling, DisruptionBudget, PodSettings, TaintEffect, TolerationOperator};
use k8s_openapi::api::core::v1::{Affinity, EnvVar, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Invalid, syntax};
use crate::meshinstall::mesh::{Budget, Pods, Scale};

/// Labels that the operator finds its own objects by.
const OWN_LABELS: [&str; 4] =
    ["install.forestay.dev/", "app.kubernetes.io/", "applyset.kubernetes.io/", "istio.io/rev"];

/// Refuses labels that the operator writes itself, and what is no label.
pub(super) fn own_labels(field: &str, labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    match labels.keys().find(|key| OWN_LABELS.iter().any(|prefix| key.starts_with(prefix))) {
        Some(key) => {
            let message = format!("label {key:?} is the operator's own; use another one, for example istio");
            Err(Invalid::spec(field, message))
        }
        None => syntax::labels(field, labels),
    }
}

/// How many pods a part has, and how many of them may be gone.
pub(super) fn scale(
    part: &str,
    replicas: Option<i32>,
    autoscaling: Option<&Autoscaling>,
    budget: Option<&DisruptionBudget>,
) -> Result<Scale, Invalid> {
    let standard = DisruptionBudget::default();
    let own = budget.unwrap_or(&standard);
    let budget = own;
    let budget = if !budget.enabled.unwrap_or(true) {
        None
    } else if let Some(least) = &budget.min_available {
        let least_pods = autoscaling.map_or(replicas.unwrap_or(1), |scaling| scaling.min_replicas.unwrap_or(1));
        if matches!(least, IntOrString::Int(least) if *least >= least_pods) {
            return Err(Invalid::spec(
                format!("{part}.disruptionBudget.minAvailable"),
                format!(
                    "no node could be drained: there may be no more than {least_pods} pods; use maxUnavailable, or more replicas"
                ),
            ));
        }
        Some(Budget::MinAvailable(least.clone()))
    } else {
        Some(Budget::MaxUnavailable(budget.max_unavailable.clone().unwrap_or(IntOrString::Int(1))))
    };
    for (name, number) in [("minAvailable", &own.min_available), ("maxUnavailable", &own.max_unavailable)] {
        if let Some(IntOrString::Int(number)) = number.as_ref().filter(|number| matches!(number, IntOrString::Int(..0)))
        {
            let message = format!("{number} is neither a number of pods nor a percentage; write 1 or 25%");
            return Err(Invalid::spec(format!("{part}.disruptionBudget.{name}"), message));
        }
    }
    if matches!(&budget, Some(Budget::MaxUnavailable(IntOrString::Int(0)))) {
        let message = "no node could be drained with 0; use at least 1, or more replicas and minAvailable";
        return Err(Invalid::spec(format!("{part}.disruptionBudget.maxUnavailable"), message));
    }
    Ok(Scale { replicas, autoscaling: autoscaling.cloned(), budget })
}

/// Where the pods of a part run and what they carry.
pub(super) fn settings(part: &str, own: Option<&PodSettings>) -> Result<Pods, Invalid> {
    let Some(own) = own else { return Ok(Pods::default()) };
    let field = |name: &str| format!("{part}.pod.{name}");
    own_labels(&field("labels"), &own.labels)?;
    syntax::annotations(&field("annotations"), &own.annotations)?;
    syntax::labels(&field("nodeSelector"), &own.node_selector)?;
    if let Some(class) = &own.priority_class_name {
        syntax::object_name(&field("priorityClassName"), class)?;
    }
    for (index, toleration) in own.tolerations.iter().enumerate() {
        let field = |name: &str| format!("{part}.pod.tolerations[{index}].{name}");
        if let Some(key) = &toleration.key {
            syntax::key(&field("key"), key)?;
        }
        if let Some(value) = &toleration.value {
            syntax::value(&field("value"), value)?;
        }
        if toleration.toleration_seconds.is_some() && toleration.effect != Some(TaintEffect::NoExecute) {
            return Err(Invalid::spec(field("tolerationSeconds"), "needs effect NoExecute, which alone evicts pods"));
        }
    }
    let affinity: Option<Affinity> = if own.affinity.is_empty() {
        None
    } else {
        Some(typed(&field("affinity"), &Value::Object(own.affinity.clone()))?)
    };
    let mut spread = Vec::new();
    for (index, constraint) in own.topology_spread_constraints.iter().enumerate() {
        let field = format!("{}[{index}]", field("topologySpreadConstraints"));
        let constraint: TopologySpreadConstraint = typed(&field, &Value::Object(constraint.clone()))?;
        let known = ["DoNotSchedule", "ScheduleAnyway"].contains(&constraint.when_unsatisfiable.as_str());
        if constraint.topology_key.is_empty() || !known || constraint.max_skew < 1 {
            let message =
                "needs topologyKey, maxSkew of at least 1, and whenUnsatisfiable DoNotSchedule or ScheduleAnyway";
            return Err(Invalid::spec(field, message));
        }
        spread.push(constraint);
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = own.env.iter().find(|variable| !seen.insert(&variable.name)) {
        return Err(Invalid::spec(field("env"), format!("{} stands there twice", twice.name)));
    }
    Ok(Pods {
        annotations: own.annotations.clone(),
        labels: own.labels.clone(),
        node_selector: own.node_selector.clone(),
        affinity,
        tolerations: own.tolerations.iter().map(toleration).collect(),
        topology_spread: spread,
        priority_class: own.priority_class_name.clone(),
        env: own
            .env
            .iter()
            .map(|variable| EnvVar {
                name: variable.name.clone(),
                value: Some(variable.value.clone()),
                value_from: None,
            })
            .collect(),
    })
}

fn toleration(own: &crds::install::Toleration) -> Toleration {
    let operator = own.operator.map(|operator| match operator {
        TolerationOperator::Exists => "Exists",
        TolerationOperator::Equal => "Equal",
    });
    let effect = own.effect.map(|effect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    });
    Toleration {
        key: own.key.clone(),
        operator: operator.map(str::to_owned),
        value: own.value.clone(),
        effect: effect.map(str::to_owned),
        toleration_seconds: own.toleration_seconds,
    }
}

/// A value of a type of Kubernetes' own, which the schema lets through as it is written. A field that the type does not
/// have would be dropped in silence, so it is named instead.
pub(super) fn typed<T: DeserializeOwned + Serialize>(field: &str, value: &Value) -> Result<T, Invalid> {
    let read: T = crds::parse(value.clone()).map_err(|error| Invalid::spec(join(field, &error.path), error.message))?;
    let written = serde_json::to_value(&read).map_err(|error| Invalid::spec(field, error.to_string()))?;
    match lost(value, &written) {
        Some(path) => Err(Invalid::spec(format!("{field}{path}"), "Kubernetes has no such field")),
        None => Ok(read),
    }
}

fn join(field: &str, path: &str) -> String {
    if path.is_empty() || path == "." { field.to_owned() } else { format!("{field}.{path}") }
}

/// The first member of `before` that `after` does not have.
fn lost(before: &Value, after: &Value) -> Option<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            before.iter().filter(|(_, value)| !value.is_null()).find_map(|(name, value)| match after.get(name) {
                Some(kept) => lost(value, kept).map(|path| format!(".{name}{path}")),
                None => Some(format!(".{name}")),
            })
        }
        (Value::Array(before), Value::Array(after)) => {
            let pairs = before.iter().zip(after).enumerate();
            pairs
                .into_iter()
                .find_map(|(index, (before, after))| lost(before, after).map(|path| format!("[{index}]{path}")))
        }
        _ => None,
    }
}
