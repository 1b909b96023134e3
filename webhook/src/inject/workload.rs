//! Which workload a pod belongs to, and the canonical name and revision that telemetry knows it by.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use names::labels;

/// The workload that a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl Workload {
    /// Finds it by the pod's controller, one step further up where the name tells it: a ReplicaSet's Deployment, a
    /// Job's CronJob. The webhook never asks the API server.
    pub(crate) fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        // A pod from a template has its prefix only: the API server names it after admission.
        let own_name = meta.name.clone().or_else(|| meta.generate_name.clone()).unwrap_or_default();
        let own = Self { api_version: "v1".to_owned(), kind: "Pod".to_owned(), name: own_name };
        let Some(owner) = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)) else {
            return own;
        };
        let empty = BTreeMap::new();
        let pod_labels = meta.labels.as_ref().unwrap_or(&empty);
        let workload = |api_version: &str, kind: &str, name: &str| Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        let without_hash = |label: &str| {
            let hash = pod_labels.get(label).filter(|hash| !hash.is_empty())?;
            owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')
        };
        match owner.kind.as_str() {
            "ReplicaSet" => {
                if let Some(name) = without_hash("rollouts-pod-template-hash") {
                    return workload("argoproj.io/v1alpha1", "Rollout", name);
                }
                if let Some(name) = without_hash("pod-template-hash") {
                    return workload("apps/v1", "Deployment", name);
                }
            }
            "ReplicationController" => {
                if let Some(name) = pod_labels.get("deploymentconfig").filter(|name| !name.is_empty()) {
                    return workload("apps.openshift.io/v1", "DeploymentConfig", name);
                }
            }
            "Job" => {
                if let Some(name) = cron_job(&owner.name) {
                    return workload("batch/v1", "CronJob", name);
                }
            }
            _ => {}
        }
        workload(&owner.api_version, &owner.kind, &owner.name)
    }

    /// `ISTIO_META_OWNER`.
    pub(crate) fn owner(&self, namespace: &str) -> String {
        let kind = self.kind.to_lowercase();
        format!("kubernetes://apis/{}/namespaces/{namespace}/{kind}s/{}", self.api_version, self.name)
    }
}

/// A CronJob's Jobs are called `<its name>-<8 to 10 digits>`.
fn cron_job(job: &str) -> Option<&str> {
    let (name, time) = job.rsplit_once('-')?;
    ((8..=10).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty()).then_some(name)
}

/// Telemetry's name for a workload, fit for a label's value.
pub(crate) fn canonical_name(pod_labels: &BTreeMap<String, String>, workload: &Workload) -> String {
    let name = [labels::CANONICAL_NAME, labels::KUBERNETES_NAME, labels::APP]
        .iter()
        .find_map(|label| pod_labels.get(*label).filter(|value| !value.is_empty()))
        .unwrap_or(&workload.name);
    let cut: String = name.chars().take(63).collect();
    cut.trim_matches(['-', '_', '.']).to_owned()
}

/// Telemetry's name for a workload's version.
pub(crate) fn canonical_revision(pod_labels: &BTreeMap<String, String>) -> &str {
    [labels::CANONICAL_REVISION, labels::KUBERNETES_VERSION, labels::VERSION]
        .iter()
        .find_map(|label| pod_labels.get(*label).filter(|value| !value.is_empty()))
        .map_or("latest", String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Workload, canonical_name};

    #[test]
    fn a_pod_finds_its_workload() {
        let rows = [
            ("a bare pod", json!({"name": "a"}), ("v1", "Pod", "a")),
            (
                "a ReplicaSet's",
                json!({
                    "generateName": "reviews-7f-", "labels": {"pod-template-hash": "7f"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "reviews-7f", "uid": "1", "controller": true}],
                }),
                ("apps/v1", "Deployment", "reviews"),
            ),
            (
                "a ReplicaSet's of nobody",
                json!({
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "alone", "uid": "1", "controller": true}],
                }),
                ("apps/v1", "ReplicaSet", "alone"),
            ),
            (
                "a CronJob's",
                json!({
                    "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "night-28000000", "uid": "1", "controller": true}],
                }),
                ("batch/v1", "CronJob", "night"),
            ),
            (
                "a Job's",
                json!({
                    "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "once-2", "uid": "1", "controller": true}],
                }),
                ("batch/v1", "Job", "once-2"),
            ),
        ];
        for (name, metadata, (api_version, kind, workload)) in rows {
            let pod = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            let found = Workload::of(&pod);
            assert_eq!((&*found.api_version, &*found.kind, &*found.name), (api_version, kind, workload), "{name}");
        }
    }

    #[test]
    fn a_long_name_is_cut_to_a_label() {
        let workload =
            Workload { api_version: String::new(), kind: String::new(), name: format!("{}-b", "a".repeat(62)) };
        assert_eq!(canonical_name(&std::collections::BTreeMap::new(), &workload), "a".repeat(62));
    }
}
