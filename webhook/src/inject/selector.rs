//! Kubernetes' label selectors, evaluated.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A selector that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// An operator that Kubernetes does not have.
    #[error("\"{0}\" is not an operator of a label selector: use In, NotIn, Exists or DoesNotExist")]
    Operator(String),
    /// In and NotIn need values, the others must have none.
    #[error("{0} of label \"{1}\" has the wrong number of values")]
    Values(String, String),
}

/// Whether labels match a selector; an empty selector matches everything.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> Result<bool, SelectorError> {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    // Every requirement is looked at, so that a broken one is found whatever the labels are.
    let mut all = equal;
    for requirement in selector.match_expressions.iter().flatten() {
        let values = requirement.values.as_deref().unwrap_or_default();
        let value = labels.get(&requirement.key);
        let wants_values = matches!(requirement.operator.as_str(), "In" | "NotIn");
        if wants_values == values.is_empty() {
            return Err(SelectorError::Values(requirement.operator.clone(), requirement.key.clone()));
        }
        all &= match requirement.operator.as_str() {
            "In" => value.is_some_and(|value| values.contains(value)),
            "NotIn" => value.is_none_or(|value| !values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            other => return Err(SelectorError::Operator(other.to_owned())),
        };
    }
    Ok(all)
}

/// Whether a selector says nothing.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
