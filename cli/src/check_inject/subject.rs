//! What `check-inject` is asked about: the words of the command line, and the object that they name.

use kube::api::ApiResource;
use names::{annotations, labels};
use serde_json::Value;

use super::hooks::Labels;
use super::report::{Running, Subject};

/// A kind of object that makes pods, or is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Kubernetes' name for it.
    pub(super) name: &'static str,
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    /// What people call it beside the kind and its plural.
    short: &'static [&'static str],
    /// Where the pod is in it.
    template: &'static str,
}

const fn kind(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
) -> Kind {
    Kind { name, group, version, plural, short, template: "/spec/template" }
}

const POD: Kind = Kind { template: "", ..kind("Pod", "", "v1", "pods", &["po"]) };

const KINDS: [Kind; 10] = [
    POD,
    kind("Deployment", "apps", "v1", "deployments", &["deploy"]),
    kind("StatefulSet", "apps", "v1", "statefulsets", &["sts"]),
    kind("DaemonSet", "apps", "v1", "daemonsets", &["ds"]),
    kind("ReplicaSet", "apps", "v1", "replicasets", &["rs"]),
    kind("ReplicationController", "", "v1", "replicationcontrollers", &["rc"]),
    kind("Job", "batch", "v1", "jobs", &[]),
    Kind { template: "/spec/jobTemplate/spec/template", ..kind("CronJob", "batch", "v1", "cronjobs", &["cj"]) },
    kind("DeploymentConfig", "apps.openshift.io", "v1", "deploymentconfigs", &["dc"]),
    kind("Rollout", "argoproj.io", "v1alpha1", "rollouts", &["ro"]),
];

/// What the command line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A namespace: pods in it that carry no label of their own, or these.
    Namespace { name: String, labels: Labels },
    /// An object.
    Object { kind: Kind, namespace: String, name: String },
}

/// Words that name nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetError {
    #[error("{0:?} is not a kind that has pods: use namespace, {known}", known = known())]
    Kind(String),
    #[error("{0:?} names nothing: write <pod>, <kind>/<name> or namespace/<name>")]
    Name(String),
    #[error("-l {0:?}: write labels as key=value, separated by commas")]
    Labels(String),
}

fn known() -> String {
    KINDS.map(|kind| kind.name.to_lowercase()).join(", ")
}

impl Target {
    /// Reads `[<kind>/]<name>[.<namespace>]`. A namespace in it beats `namespace`.
    pub(super) fn of(words: Option<&str>, selector: Option<&str>, namespace: &str) -> Result<Self, TargetError> {
        let labels = selector.map(read_labels).transpose()?.unwrap_or_default();
        let Some(words) = words else { return Ok(Self::Namespace { name: namespace.to_owned(), labels }) };
        let (kind, name) = words.split_once('/').unwrap_or((POD.name, words));
        if name.is_empty() || name.contains('/') {
            return Err(TargetError::Name(words.to_owned()));
        }
        let lower = kind.to_lowercase();
        if matches!(lower.as_str(), "namespace" | "namespaces" | "ns") {
            return Ok(Self::Namespace { name: name.to_owned(), labels });
        }
        let known = KINDS.into_iter().find(|kind| {
            kind.name.to_lowercase() == lower || kind.plural == lower || kind.short.contains(&lower.as_str())
        });
        let kind = known.ok_or_else(|| TargetError::Kind(kind.to_owned()))?;
        let (name, namespace) = name.split_once('.').unwrap_or((name, namespace));
        if name.is_empty() || namespace.is_empty() {
            return Err(TargetError::Name(words.to_owned()));
        }
        Ok(Self::Object { kind, namespace: namespace.to_owned(), name: name.to_owned() })
    }

    pub(super) fn namespace(&self) -> &str {
        match self {
            Self::Namespace { name, .. } => name,
            Self::Object { namespace, .. } => namespace,
        }
    }
}

fn read_labels(text: &str) -> Result<Labels, TargetError> {
    let pairs = text.split(',').map(|pair| pair.trim().split_once('=').filter(|(key, _)| !key.is_empty()));
    let pairs = pairs.map(|pair| pair.map(|(key, value)| (key.to_owned(), value.to_owned())));
    pairs.collect::<Option<Labels>>().ok_or_else(|| TargetError::Labels(text.to_owned()))
}

impl Kind {
    pub(super) fn resource(self) -> ApiResource {
        let api_version =
            if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) };
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version,
            kind: self.name.to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}

impl Subject {
    /// A pod of a namespace that carries these labels, and nothing else that matters.
    pub(super) fn of_namespace(namespace: &str, namespace_labels: Labels, labels: &Labels) -> Self {
        let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let what = if pairs.is_empty() {
            format!("A pod in namespace {namespace}")
        } else {
            format!("A pod in namespace {namespace} with {}", pairs.join(","))
        };
        Self { what, namespace: namespace.to_owned(), namespace_labels, labels: labels.clone(), ..Self::default() }
    }

    /// An object of the cluster.
    pub(super) fn of_object(kind: Kind, namespace: &str, namespace_labels: Labels, name: &str, object: &Value) -> Self {
        let empty = Value::Null;
        let pod = object.pointer(kind.template).unwrap_or(&empty);
        let (own_labels, own_annotations) = (strings(pod, "/metadata/labels"), strings(pod, "/metadata/annotations"));
        let running = (kind == POD).then(|| Running {
            proxy: has_proxy(pod),
            revision: own_annotations.get(labels::REVISION).cloned().or_else(|| noted_revision(&own_annotations)),
        });
        Self {
            what: format!("{} {namespace}/{name}", kind.name),
            namespace: namespace.to_owned(),
            namespace_labels,
            labels: own_labels,
            annotations: own_annotations,
            host_network: pod.pointer("/spec/hostNetwork").and_then(Value::as_bool).unwrap_or(false),
            windows: webhook::inject::decide::is_for_windows(pod),
            running,
        }
    }
}

fn strings(value: &Value, pointer: &str) -> Labels {
    let members = value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    members.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn has_proxy(pod: &Value) -> bool {
    ["/spec/containers", "/spec/initContainers"]
        .iter()
        .filter_map(|list| pod.pointer(list)?.as_array())
        .flatten()
        .any(|container| container.get("name").is_some_and(|name| name == "istio-proxy"))
}

/// The revision that an injection noted in its status.
fn noted_revision(pod_annotations: &Labels) -> Option<String> {
    let status: Value = serde_json::from_str(pod_annotations.get(annotations::STATUS)?).ok()?;
    Some(status.get("revision")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_name_an_object() {
        let object = |kind: &str, namespace: &str, name: &str| {
            let kind = KINDS.into_iter().find(|known| known.name == kind).unwrap();
            Ok(Target::Object { kind, namespace: namespace.to_owned(), name: name.to_owned() })
        };
        let namespace = |name: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            Ok(Target::Namespace { name: name.to_owned(), labels })
        };
        let rows = [
            ("a pod", Some("reviews-1"), None, object("Pod", "default", "reviews-1")),
            ("a pod elsewhere", Some("reviews-1.test"), None, object("Pod", "test", "reviews-1")),
            ("a workload", Some("deployment/reviews"), None, object("Deployment", "default", "reviews")),
            ("a workload elsewhere", Some("deploy/reviews.test"), None, object("Deployment", "test", "reviews")),
            ("by its plural", Some("CronJobs/night"), None, object("CronJob", "default", "night")),
            ("a namespace", Some("ns/test"), None, namespace("test", &[])),
            ("nothing", None, None, namespace("default", &[])),
            ("labels", None, Some("app=a, version=v1"), namespace("default", &[("app", "a"), ("version", "v1")])),
            ("an empty value", None, Some("app="), namespace("default", &[("app", "")])),
            ("no kind", Some("svc/a"), None, Err(TargetError::Kind("svc".to_owned()))),
            ("no name", Some("deploy/"), None, Err(TargetError::Name("deploy/".to_owned()))),
            ("no namespace", Some("a."), None, Err(TargetError::Name("a.".to_owned()))),
            ("too many", Some("a/b/c"), None, Err(TargetError::Name("a/b/c".to_owned()))),
            ("no labels", None, Some("app"), Err(TargetError::Labels("app".to_owned()))),
        ];
        for (name, words, labels, expected) in rows {
            assert_eq!(Target::of(words, labels, "default"), expected, "{name}");
        }
    }

    #[test]
    fn the_pod_is_found_in_each_kind() {
        let pod = json!({
            "metadata": {"labels": {"app": "a"}, "annotations": {"sidecar.istio.io/inject": "true"}},
            "spec": {"hostNetwork": true, "containers": [{"name": "istio-proxy"}]},
        });
        for kind in KINDS {
            let object = match kind.template {
                "" => pod.clone(),
                "/spec/template" => json!({"spec": {"template": pod}}),
                _ => json!({"spec": {"jobTemplate": {"spec": {"template": pod}}}}),
            };
            let subject = Subject::of_object(kind, "default", Labels::new(), "x", &object);
            assert_eq!(subject.labels.get("app").map(String::as_str), Some("a"), "{}", kind.name);
            assert!(
                subject.host_network && subject.annotations.contains_key("sidecar.istio.io/inject"),
                "{}",
                kind.name
            );
            assert_eq!(subject.running.is_some_and(|running| running.proxy), kind == POD, "{}", kind.name);
        }
    }

    #[test]
    fn an_injected_pod_tells_its_revision() {
        let rows = [
            ("by annotation", json!({"istio.io/rev": "canary"}), Some("canary")),
            ("by its status", json!({"sidecar.istio.io/status": "{\"revision\":\"old\"}"}), Some("old")),
            ("not at all", json!({"sidecar.istio.io/status": "x"}), None),
        ];
        for (name, annotations, expected) in rows {
            let object = json!({"metadata": {"annotations": annotations}, "spec": {"containers": []}});
            let subject = Subject::of_object(POD, "default", Labels::new(), "x", &object);
            assert_eq!(subject.running.unwrap().revision.as_deref(), expected, "{name}");
        }
    }
}
