//! Labels, and selectors over them.

use std::collections::BTreeMap;

/// Labels of a workload, or the labels that a selector asks for.
pub type Labels = BTreeMap<String, String>;

/// Whether all labels that a selector asks for are there; an empty selector asks for nothing.
pub fn subset_of(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a Service's selector chooses a workload; an empty selector chooses none.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && subset_of(selector, labels)
}
