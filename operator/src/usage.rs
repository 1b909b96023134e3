//! Who uses a revision: namespaces whose labels ask for it, and pods that carry its sidecar. Pure.
//!
//! The labels mean what the webhook configurations make of them: `istio-injection` beats `istio.io/rev`
//! (`webhook::configuration`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crds::install::DataPlaneStatus;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use names::{DEFAULT_REVISION, annotations, labels};

/// Who uses one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Namespaces that ask for it, sorted.
    pub(crate) namespaces: Vec<String>,
    /// Pods with its sidecar, by the version of that sidecar.
    pub(crate) versions: BTreeMap<String, usize>,
    /// The version that new pods get.
    pub(crate) current: String,
}

impl Usage {
    /// Counts. `names` are the values of `istio.io/rev` that lead to the revision: its own name, and its tags.
    pub(crate) fn of<'a>(
        names: &BTreeSet<String>,
        current: &str,
        namespaces: impl IntoIterator<Item = &'a PartialObjectMeta<Namespace>>,
        pods: impl IntoIterator<Item = &'a PartialObjectMeta<Pod>>,
    ) -> Self {
        let mut asking: Vec<String> = namespaces
            .into_iter()
            .filter(|namespace| asked_for(namespace.labels()).is_some_and(|name| names.contains(name)))
            .map(ResourceExt::name_any)
            .collect();
        asking.sort();
        let mut versions = BTreeMap::new();
        for pod in pods {
            if pod.annotations().get(labels::REVISION).is_some_and(|revision| names.contains(revision)) {
                let version = pod.annotations().get(annotations::PROXY_VERSION);
                *versions.entry(version.cloned().unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
            }
        }
        Self { namespaces: asking, versions, current: current.to_owned() }
    }

    /// Whether anybody uses it.
    pub(crate) fn is_used(&self) -> bool {
        !self.namespaces.is_empty() || !self.versions.is_empty()
    }

    fn pods(&self) -> usize {
        self.versions.values().sum()
    }

    /// How many of its pods have a sidecar of another version than new ones get.
    pub(crate) fn outdated(&self) -> usize {
        self.versions.iter().filter(|(version, _)| **version != self.current).map(|(_, pods)| pods).sum()
    }

    /// As the status has it.
    pub(crate) fn status(&self) -> DataPlaneStatus {
        let number = |of: usize| i32::try_from(of).unwrap_or(i32::MAX);
        DataPlaneStatus {
            namespaces: number(self.namespaces.len()),
            pods: number(self.pods()),
            outdated: number(self.outdated()),
        }
    }
}

/// `2 namespaces ask for it (a, b); 12 pods carry its sidecar, 3 of them of another version (0.0.9); a restart ....
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 5;
        let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        match self.namespaces.len() {
            0 => f.write_str("no namespace asks for it")?,
            number => {
                let shown = self.namespaces.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
                let more = number.checked_sub(MOST).filter(|more| *more > 0).map(|more| format!(" and {more} more"));
                write!(
                    f,
                    "{} ({shown}{})",
                    count(number, "namespace asks for it", "namespaces ask for it"),
                    more.unwrap_or_default()
                )?;
            }
        }
        write!(f, "; {}", count(self.pods(), "pod carries its sidecar", "pods carry its sidecar"))?;
        if self.outdated() > 0 {
            let old: Vec<&str> = self.versions.keys().filter(|v| **v != self.current).map(String::as_str).collect();
            write!(f, ", {} of them of another version ({})", self.outdated(), old.join(", "))?;
        }
        Ok(())
    }
}

/// The value of `istio.io/rev` that a namespace's labels come to.
fn asked_for(of: &BTreeMap<String, String>) -> Option<&str> {
    match of.get(labels::INJECTION).map(String::as_str) {
        Some("enabled") => Some(DEFAULT_REVISION),
        // Any other value, `disabled` for one, is an answer too.
        Some(_) => None,
        None => of.get(labels::REVISION).map(String::as_str),
    }
}

/// What is kept of a namespace: its labels.
pub(crate) fn trim_namespace(namespace: &mut PartialObjectMeta<Namespace>) {
    namespace.metadata.annotations = None;
    namespace.metadata.managed_fields = None;
}

/// What is kept of a pod: revision and version of its sidecar.
pub(crate) fn trim_pod(pod: &mut PartialObjectMeta<Pod>) {
    let metadata = &mut pod.metadata;
    metadata.managed_fields = None;
    metadata.labels = None;
    metadata.owner_references = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| name == labels::REVISION || name == annotations::PROXY_VERSION);
    }
}

/// Pods with a sidecar, as a label selector: the mark that an injection leaves.
pub(crate) fn injected_pods() -> String {
    format!("{}=istio", labels::TLS_MODE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::core::v1::{Namespace, Pod};
    use kube::api::PartialObjectMeta;
    use serde_json::{Value, json};

    use super::{Usage, trim_pod};

    fn namespace(name: &str, labels: &Value) -> PartialObjectMeta<Namespace> {
        serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        )
        .expect("metadata of a namespace")
    }

    fn pod(revision: &str, version: &str) -> PartialObjectMeta<Pod> {
        let annotations =
            json!({"istio.io/rev": revision, "install.forestay.dev/proxy-version": version, "other": "x"});
        let mut pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "b", "labels": {"app": "a"}, "annotations": annotations},
        }))
        .expect("metadata of a pod");
        trim_pod(&mut pod);
        pod
    }

    #[test]
    fn namespaces_by_their_labels_and_pods_by_what_they_carry() {
        let namespaces = [
            namespace("enabled", &json!({"istio-injection": "enabled"})),
            namespace("disabled", &json!({"istio-injection": "disabled", "istio.io/rev": "canary"})),
            namespace("by-revision", &json!({"istio.io/rev": "canary"})),
            namespace("by-tag", &json!({"istio.io/rev": "prod"})),
            namespace("both", &json!({"istio-injection": "enabled", "istio.io/rev": "canary"})),
            namespace("none", &json!({})),
        ];
        let pods = [pod("default", "1"), pod("canary", "1"), pod("canary", "0"), pod("prod", "1")];
        let of = |names: &[&str]| {
            let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Usage::of(&names, "1", &namespaces, &pods)
        };
        let rows = [
            (vec!["default"], "2 namespaces ask for it (both, enabled); 1 pod carries its sidecar", (2, 1, 0)),
            (
                vec!["canary"],
                "1 namespace asks for it (by-revision); 2 pods carry its sidecar, 1 of them of another version (0)",
                (1, 2, 1),
            ),
            (
                vec!["canary", "prod"],
                "2 namespaces ask for it (by-revision, by-tag); 3 pods carry its sidecar, 1 of them of another version (0)",
                (2, 3, 1),
            ),
            (vec!["old"], "no namespace asks for it; 0 pods carry its sidecar", (0, 0, 0)),
        ];
        for (names, text, (namespaces, pods, outdated)) in rows {
            let usage = of(&names);
            assert_eq!(usage.to_string(), text, "{names:?}");
            let status = usage.status();
            assert_eq!((status.namespaces, status.pods, status.outdated), (namespaces, pods, outdated), "{names:?}");
            assert_eq!(usage.is_used(), pods > 0, "{names:?}");
        }
    }

    #[test]
    fn of_a_pod_only_what_is_counted_is_kept() {
        let pod = pod("default", "1");
        assert_eq!(pod.metadata.labels, None);
        assert_eq!(pod.metadata.annotations.map(|kept| kept.len()), Some(2));
    }
}
