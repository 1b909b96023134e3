//! Workloads in files: the same injection over the pod template of a workload, for `forestay kube-inject`.
//!
//! In comes a document, out comes the document with its template injected, or unchanged and with the reason. As in
//! Istio, a file is injected unless its template says no: neither the namespace's labels nor the policy count.

use serde_json::{Map, Value};

use super::decide::{Decision, Reason};
use super::in_vain;
use super::settings::{Config, Settings};
use super::workload::Workload;
use super::{InjectError, Outcome, Purpose, Request, inject_as};

/// What became of a document.
#[derive(Clone, Debug)]
pub struct FileOutcome {
    /// The document, injected or as it was.
    pub document: Value,
    /// What the user should know: why something was left out, what has no effect.
    pub warnings: Vec<String>,
    /// Whether anything in it was injected.
    pub injected: bool,
}

/// Kinds with a pod in them: group, kind, and where the pod's template stands.
const WORKLOADS: [(&str, &str, &str); 10] = [
    // OpenShift's, as it was called first.
    ("", "DeploymentConfig", "/spec/template"),
    ("", "Pod", ""),
    ("", "ReplicationController", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("apps.openshift.io", "DeploymentConfig", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
    ("batch", "Job", "/spec/template"),
];

/// How deep lists may hold lists.
const DEEPEST: usize = 8;

/// Injects a document of a file: a workload, or a `List` of them. Other kinds come back as they are.
pub fn inject_document(
    document: &Value,
    settings: &Settings,
    default_namespace: &str,
) -> Result<FileOutcome, InjectError> {
    let mut outcome = FileOutcome { document: document.clone(), warnings: Vec::new(), injected: false };
    let config = Config { policy: "enabled".to_owned(), ..settings.config.without_selectors() };
    let file = File { settings, config, default_namespace };
    file.walk(&mut outcome.document, &mut outcome.warnings, &mut outcome.injected, 0)?;
    Ok(outcome)
}

struct File<'a> {
    settings: &'a Settings,
    config: Config,
    default_namespace: &'a str,
}

impl File<'_> {
    fn walk(
        &self,
        document: &mut Value,
        warnings: &mut Vec<String>,
        injected: &mut bool,
        depth: usize,
    ) -> Result<(), InjectError> {
        let (group, kind) = group_and_kind(document);
        if (group.as_str(), kind.as_str()) == ("", "List") {
            if depth == DEEPEST {
                return Err(InjectError::TooDeep(DEEPEST));
            }
            let items = document.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten();
            for item in items {
                self.walk(item, warnings, injected, depth + 1)?;
            }
            return Ok(());
        }
        let Some((_, _, pointer)) = WORKLOADS.iter().find(|(g, k, _)| *g == group && *k == kind) else {
            warnings.extend(has_pods(document).then(|| {
                let of = if group.is_empty() { String::new() } else { format!(" of {group}") };
                format!("===> Skipping injection because of {kind} \"{}\": the pods of kind {kind}{of} get their sidecar at admission only", full_name(document, ""))
            }));
            return Ok(());
        };
        let named = format!("{kind} \"{}\"", full_name(document, pointer));
        let within = |error| InjectError::In(named.clone(), Box::new(error));
        let outcome = self.workload(document, pointer).map_err(within)?;
        let about = |warning: String| format!("{named}: {warning}");
        warnings.extend(beside_the_template(document, pointer).map(about));
        if let Some(pod) = outcome.pod {
            warnings.extend(outcome.warnings.into_iter().map(about));
            if let Some(place) = document.pointer_mut(pointer) {
                *place = pod;
                *injected = true;
            }
        } else {
            // A skipped document always says so, in Istio's words.
            warnings.push(skipped(&named, &outcome.decision));
            warnings.extend(outcome.warnings.into_iter().map(about));
        }
        Ok(())
    }

    fn workload(&self, document: &Value, pointer: &str) -> Result<Outcome, InjectError> {
        let pod = document.pointer(pointer).filter(|pod| !pod.is_null()).ok_or_else(|| {
            InjectError::NotAPod(format!("{} is missing", pointer.replace('/', ".").trim_matches('.')))
        })?;
        let text = |path: &str| document.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        let of_pod = pod.pointer("/metadata/namespace").and_then(Value::as_str).filter(|text| !text.is_empty());
        let namespace = of_pod.or(text("/metadata/namespace")).unwrap_or(self.default_namespace);
        // The workload of a template is the document itself; a pod's is found by its owner.
        let workload = (!pointer.is_empty()).then(|| Workload {
            api_version: text("/apiVersion").unwrap_or_default().to_owned(),
            kind: text("/kind").unwrap_or_default().to_owned(),
            name: text("/metadata/name").or(text("/metadata/generateName")).unwrap_or_default().to_owned(),
        });
        let about = self.settings.cluster.namespace(namespace);
        let request = Request { pod, namespace, about, variables: &[] };
        inject_as(request, self.settings, &Purpose::File { config: &self.config, workload })
    }
}

fn group_and_kind(document: &Value) -> (String, String) {
    let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    (group.to_owned(), text("kind").to_owned())
}

fn full_name(document: &Value, pointer: &str) -> String {
    let empty = Map::new();
    let meta = document.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let text = |name: &str| meta.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let of_pod = document.pointer(pointer).and_then(|pod| pod.pointer("/metadata/name")).and_then(Value::as_str);
    let name = of_pod.filter(|name| !name.is_empty()).or(text("name")).or(text("generateName")).unwrap_or_default();
    text("namespace").map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

/// Whether a document that is no workload of Kubernetes' has what looks like pods in it.
fn has_pods(document: &Value) -> bool {
    let templates = ["/spec/template/spec/containers", "/template/spec/containers"];
    let pods = |document: &Value| templates.iter().any(|place| document.pointer(place).is_some_and(Value::is_array));
    let items = document.get("items").and_then(Value::as_array).into_iter().flatten();
    let pod = |item: &Value| item.pointer("/spec/containers").is_some_and(Value::is_array);
    pods(document) || items.into_iter().any(|item| pods(item) || pod(item))
}

/// Annotations that were meant for the pods and stand on their workload. (Istio's tool takes those of a CronJob's Job for the
/// pods'; its pods do not have them.)
fn beside_the_template<'a>(document: &'a Value, pointer: &'a str) -> impl Iterator<Item = String> + 'a {
    let places = ["/metadata/annotations", "/spec/jobTemplate/metadata/annotations"];
    places.into_iter().filter(move |_| !pointer.is_empty()).filter_map(move |place| {
        let annotations = document.pointer(place)?.as_object()?;
        in_vain::misplaced(annotations.keys().cloned(), place.replace('/', ".").trim_start_matches('.'))
    })
}

fn skipped(named: &str, decision: &Decision) -> String {
    match decision.reason {
        Reason::HostNetwork => format!("===> Skipping injection because {named} has host networking enabled"),
        Reason::Label | Reason::Annotation => {
            format!("===> Skipping injection because {named} has sidecar injection disabled")
        }
        other => format!("===> Skipping injection because of {named}: {}", other.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::inject_document;
    use crate::inject::settings::Settings;

    fn settings() -> Settings {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        // A file is injected whatever the policy says.
        let injector = map(&[("config", "policy: disabled"), ("values", "{}")]);
        Settings::read("default", &map(&[("mesh", "")]), &injector, true).unwrap()
    }

    fn workload(api_version: &str, kind: &str, pod: &Value) -> Value {
        let template = match kind {
            "Pod" => {
                return json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": pod["spec"]});
            }
            "CronJob" => json!({"jobTemplate": {"spec": {"template": pod}}}),
            _ => json!({"template": pod}),
        };
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": template})
    }

    fn pod() -> Value {
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "app", "image": "x"}]}})
    }

    #[test]
    fn every_kind_of_workload_is_injected() {
        let rows = [
            ("v1", "Pod", ""),
            ("v1", "ReplicationController", "/spec/template"),
            ("apps/v1", "DaemonSet", "/spec/template"),
            ("apps/v1", "Deployment", "/spec/template"),
            ("apps/v1", "ReplicaSet", "/spec/template"),
            ("apps/v1", "StatefulSet", "/spec/template"),
            ("apps.openshift.io/v1", "DeploymentConfig", "/spec/template"),
            ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
            ("batch/v1", "Job", "/spec/template"),
        ];
        for (api_version, kind, pointer) in rows {
            let outcome = inject_document(&workload(api_version, kind, &pod()), &settings(), "default").unwrap();
            assert!(outcome.injected, "{kind}");
            let template = outcome.document.pointer(pointer).unwrap();
            let owner = template["spec"]["initContainers"][1]["env"].as_array().unwrap();
            let owner = owner.iter().find(|one| one["name"] == "ISTIO_META_OWNER").unwrap();
            let expected = format!("kubernetes://apis/{api_version}/namespaces/default/{}s/a", kind.to_lowercase());
            assert_eq!(owner["value"], expected, "{kind}");
        }
    }

    #[test]
    fn lists_are_gone_through_and_other_kinds_stay() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}});
        let other = json!({"apiVersion": "batch.volcano.sh/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {}});
        let items = json!([service, workload("apps/v1", "Deployment", &pod()), other]);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let outcome = inject_document(&list, &settings(), "default").unwrap();
        assert!(outcome.injected);
        let items = outcome.document["items"].as_array().unwrap();
        assert_eq!((&items[0], &items[2]), (&service, &other));
        assert_eq!(items[1]["spec"]["template"]["spec"]["initContainers"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_is_skipped_is_said_in_istios_words() {
        let mut host = pod();
        host["spec"]["hostNetwork"] = json!(true);
        let mut off = pod();
        off["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("false");
        let rows = [
            (host, "===> Skipping injection because Deployment \"a\" has host networking enabled"),
            (off, "===> Skipping injection because Deployment \"a\" has sidecar injection disabled"),
        ];
        for (pod, expected) in rows {
            let document = workload("apps/v1", "Deployment", &pod);
            let outcome = inject_document(&document, &settings(), "default").unwrap();
            assert_eq!((outcome.injected, &outcome.document), (false, &document), "{expected}");
            assert_eq!(outcome.warnings, [expected]);
        }
    }

    #[test]
    fn what_stands_beside_the_template_is_named() {
        let mut document = workload("batch/v1", "CronJob", &pod());
        document["metadata"]["annotations"] = json!({"sidecar.istio.io/proxyCPU": "1"});
        document["spec"]["jobTemplate"]["metadata"] =
            json!({"annotations": {"proxy.istio.io/config": "concurrency: 2"}});
        let outcome = inject_document(&document, &settings(), "default").unwrap();
        let expected = [
            "CronJob \"a\": metadata.annotations has no effect on pods: sidecar.istio.io/proxyCPU; write it into the template's metadata",
            "CronJob \"a\": spec.jobTemplate.metadata.annotations has no effect on pods: proxy.istio.io/config; write it into the template's metadata",
        ];
        assert_eq!(outcome.warnings, expected);
    }

    #[test]
    fn kinds_that_only_look_like_workloads_are_named() {
        let rollout = workload("argoproj.io/v1alpha1", "Rollout", &pod());
        let items = json!([{"metadata": {"name": "p"}, "spec": pod()["spec"]}]);
        let rows = [
            (rollout, Some("Rollout \"a\": the pods of kind Rollout of argoproj.io get")),
            (
                json!({"apiVersion": "v1", "kind": "PodList", "items": items}),
                Some("PodList \"\": the pods of kind PodList get"),
            ),
            (json!({"apiVersion": "v1", "kind": "PodTemplate", "template": pod()}), Some("PodTemplate")),
            (json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": [{"data": {"a": "b"}}]}), None),
            (json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": []}}), None),
        ];
        for (document, expected) in rows {
            let outcome = inject_document(&document, &settings(), "default").unwrap();
            assert_eq!((outcome.injected, &outcome.document), (false, &document));
            assert_eq!(outcome.warnings.len(), usize::from(expected.is_some()), "{:?}", outcome.warnings);
            assert!(expected.is_none_or(|part| outcome.warnings[0].contains(part)), "{:?}", outcome.warnings);
        }
    }

    #[test]
    fn lists_in_lists_have_an_end() {
        let nested = |depth: usize| {
            let list = |inner: Value| json!({"apiVersion": "v1", "kind": "List", "items": [inner]});
            (0..depth).fold(workload("apps/v1", "Deployment", &pod()), |inner, _| list(inner))
        };
        assert!(inject_document(&nested(8), &settings(), "default").unwrap().injected);
        let error = inject_document(&nested(9), &settings(), "default").unwrap_err();
        assert_eq!(error.to_string(), "Lists stand in Lists more than 8 levels deep");
    }

    #[test]
    fn an_error_names_the_workload() {
        let mut bad = pod();
        bad["metadata"]["annotations"] = json!({"status.sidecar.istio.io/port": "x"});
        let error = inject_document(&workload("apps/v1", "Deployment", &bad), &settings(), "default").unwrap_err();
        let expected = "Deployment \"a\": invalid value 'x' for annotation 'status.sidecar.istio.io/port'";
        assert!(error.to_string().starts_with(expected), "{error}");
        let error = inject_document(
            &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "b"}}),
            &settings(),
            "default",
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "Deployment \"b\": the object is not a Pod: spec.template is missing"
        );
    }
}
