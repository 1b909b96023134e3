//! The label selectors of Istio's API.

use std::collections::BTreeMap;

use crate::check::Checker;
use crate::message::message;

message! {
    /// Chooses workloads by labels, all of which must match; used by policies and by DestinationRule.
    pub struct WorkloadSelector {
        /// Label keys and values; none selects every workload in scope.
        #[schemars(schema_with = "crate::schema::match_labels")]
        pub match_labels: BTreeMap<String, String>,
    }
}

impl WorkloadSelector {
    pub(crate) fn check(&self, c: &mut Checker) {
        if self.match_labels.is_empty() {
            c.warn("", "has no labels: every workload is selected");
        }
        for (key, value) in &self.match_labels {
            if key.is_empty() {
                c.error("matchLabels", "a label's key must not be empty");
            }
            if key.contains('*') || value.contains('*') {
                c.error(
                    "matchLabels",
                    format!("\"{key}: {value}\" has a wildcard, which a label selector cannot have"),
                );
            }
        }
    }

    /// Whether a workload with these labels is selected.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

message! {
    /// Chooses workloads by labels, all of which must match; used by Sidecar, ServiceEntry and EnvoyFilter.
    pub struct LabelSelector {
        /// Label keys and values; none selects every workload in scope.
        #[schemars(schema_with = "crate::schema::labels")]
        pub labels: BTreeMap<String, String>,
    }
}

impl LabelSelector {
    pub(crate) fn check(&self, c: &mut Checker) {
        if self.labels.is_empty() {
            c.warn("", "has no labels: every workload is selected");
        }
        for (key, value) in &self.labels {
            if key.is_empty() {
                c.error("labels", "a label's key must not be empty");
            }
            if key.contains('*') || value.contains('*') {
                c.error("labels", format!("\"{key}: {value}\" has a wildcard, which a label selector cannot have"));
            }
        }
    }
}
