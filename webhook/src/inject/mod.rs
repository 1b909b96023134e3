//! From a pod to the pod with its sidecar; pure.
//!
//! 1. [`decide`]: whether, and why
//! 2. [`settings`], `annotations`: what is asked for, checked
//! 3. what an earlier injection added is taken out, so that injecting again gives the same
//! 4. `render`: init container, proxy, volumes; `overrides`: the user's own `istio-proxy` over them
//! 5. `prometheus`, `probes`: metrics and probes of the application go through the proxy's agent
//! 6. [`patch`]: the difference between the raw documents
//!
//! The pod is changed as raw JSON; a typed view of it is only read. So fields newer than our API types survive.

mod annotations;
pub mod decide;
mod file;
mod overrides;
pub mod patch;
mod probes;
mod prometheus;
mod render;
pub mod selector;
pub mod settings;
pub mod variables;
mod workload;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use names::labels;
use serde_json::{Map, Value, json};

use self::decide::{Candidate, Decision};
pub use self::file::{FileOutcome, inject_document};
use self::render::{INIT, PROXY, Subject};
use self::settings::{Config, Settings};
use self::workload::Workload;

/// A pod to inject.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The pod as it came.
    pub pod: &'a Value,
    /// Its namespace; inside the pod the field may be empty.
    pub namespace: &'a str,
    /// Environment for the proxy, from the webhook's path.
    pub variables: &'a [(String, String)],
}

/// What became of a pod.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The pod with its sidecar; nothing when it is not to be injected.
    pub pod: Option<Value>,
    /// Why.
    pub decision: Decision,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A pod that cannot be injected and so is refused; the message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// A document that is not a pod.
    #[error("the object is not a Pod: {0}")]
    NotAPod(String),
    /// Annotations whose values cannot be used.
    #[error("{}", .0.join("; "))]
    Annotations(Vec<String>),
    /// A template that we do not have.
    #[error("requested template \"{0}\" not found; have [{TEMPLATE}]")]
    Template(String),
    /// An error, with the document of a file that it is in.
    #[error("{0}: {1}")]
    In(String, Box<InjectError>),
}

/// What a pod is injected for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose<'a> {
    /// It is about to be created.
    Admission,
    /// It is the template of a workload in a file.
    File {
        /// The policy in force there.
        config: &'a Config,
        /// The workload, where the document is no pod itself.
        workload: Option<Workload>,
    },
}

/// The one template there is: the sidecar.
const TEMPLATE: &str = "sidecar";
/// The containers that an injection may have added; nothing else is ever taken out of a pod.
const OURS: [&str; 3] = [PROXY, INIT, "istio-validation"];

/// Injects a pod, if it is to be injected.
pub fn inject(request: Request<'_>, settings: &Settings) -> Result<Outcome, InjectError> {
    inject_as(request, settings, &Purpose::Admission)
}

fn inject_as(request: Request<'_>, settings: &Settings, purpose: &Purpose<'_>) -> Result<Outcome, InjectError> {
    let typed: Pod = crds::parse(request.pod.clone()).map_err(|error| InjectError::NotAPod(error.to_string()))?;
    let meta = &typed.metadata;
    let empty = BTreeMap::new();
    let pod_labels = meta.labels.as_ref().unwrap_or(&empty);
    let pod_annotations = meta.annotations.as_ref().unwrap_or(&empty);
    let host_network = typed.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    let candidate =
        Candidate { namespace: request.namespace, labels: pod_labels, annotations: pod_annotations, host_network };
    let config = match purpose {
        Purpose::Admission => &settings.config,
        Purpose::File { config, .. } => config,
    };
    let decision = decide::decide(config, candidate);
    let mut warnings = decision.warnings.clone();
    if !decision.inject {
        return Ok(Outcome { pod: None, decision, warnings });
    }
    let problems = annotations::problems(pod_annotations);
    if !problems.is_empty() {
        return Err(InjectError::Annotations(problems));
    }
    check_templates(pod_annotations, settings)?;
    warn(pod_annotations, &mut warnings);
    let pod = build(request, settings, pod_labels, pod_annotations, purpose)?;
    Ok(Outcome { pod: Some(pod), decision, warnings })
}

/// Templates by annotation, else by the settings; an alias stands for others, one level deep.
fn check_templates(annotations: &BTreeMap<String, String>, settings: &Settings) -> Result<(), InjectError> {
    let requested: Vec<&str> = match annotations.get(annotations::TEMPLATES) {
        Some(names) => names.split(',').map(str::trim).collect(),
        None => settings.config.default_templates.iter().map(String::as_str).collect(),
    };
    let aliased = requested.iter().flat_map(|name| match settings.config.aliases.get(*name) {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => vec![*name],
    });
    match aliased.into_iter().find(|name| *name != TEMPLATE) {
        Some(other) => Err(InjectError::Template(other.to_owned())),
        None => Ok(()),
    }
}

/// What is asked for and cannot be done is said, never passed over in silence.
fn warn(annotations: &BTreeMap<String, String>, warnings: &mut Vec<String>) {
    if annotations.contains_key(annotations::BOOTSTRAP_OVERRIDE) {
        let name = annotations::BOOTSTRAP_OVERRIDE;
        warnings.push(format!("annotation {name} has no effect: the proxy has no Envoy bootstrap"));
    }
    if annotations.get(annotations::INTERCEPTION_MODE).is_some_and(|mode| mode == "TPROXY") {
        let name = annotations::INTERCEPTION_MODE;
        warnings
            .push(format!("annotation {name}: istio-init refuses TPROXY, so this pod will not start; use REDIRECT"));
    }
    if let Some(value) = annotations.get(annotations::REWRITE_PROBES)
        && annotations::boolean(value).is_err()
    {
        let name = annotations::REWRITE_PROBES;
        warnings.push(format!("annotation {name}: \"{value}\" counts as \"false\": probes are left as they are"));
    }
}

fn build(
    request: Request<'_>,
    settings: &Settings,
    pod_labels: &BTreeMap<String, String>,
    pod_annotations: &BTreeMap<String, String>,
    purpose: &Purpose<'_>,
) -> Result<Value, InjectError> {
    let mut pod = request.pod.clone();
    let earlier = Earlier::take(&mut pod, pod_annotations)?;
    let spec = object(&mut pod, "spec");
    let users = earlier.overrides.or_else(|| overrides::take(spec)).map(overrides::tidy);
    let bare: Pod = crds::parse(pod.clone()).map_err(|error| InjectError::NotAPod(error.to_string()))?;

    let annotated = |problem: String| InjectError::Annotations(vec![problem]);
    let proxy_config = match pod_annotations.get(names::annotations::PROXY_CONFIG) {
        Some(yaml) => annotations::proxy_config(&settings.mesh.default_config, yaml).map_err(annotated)?,
        None => settings.mesh.default_config.clone(),
    };
    let interception = match pod_annotations.get(annotations::INTERCEPTION_MODE) {
        Some(mode) => annotations::interception_mode(mode).map_err(annotated)?,
        None => proxy_config.interception_mode,
    };
    let native = match pod_annotations.get(names::annotations::NATIVE_SIDECAR) {
        Some(value) => annotations::boolean(value).map_err(annotated)?,
        None => settings.native_sidecars,
    };
    let workload = match purpose {
        Purpose::File { workload: Some(workload), .. } => workload.clone(),
        _ => Workload::of(&bare),
    };
    let run_as_user = users.as_ref().and_then(|users| users.pointer("/securityContext/runAsUser")?.as_i64());
    let subject = Subject {
        settings,
        pod: &bare,
        namespace: request.namespace,
        labels: pod_labels,
        annotations: pod_annotations,
        proxy_config: &proxy_config,
        interception,
        workload: &workload,
        native,
        run_as_user,
        variables: request.variables,
    };

    let mut proxy = subject.proxy_container();
    if let Some(users) = &users {
        let transparent = interception == crds::meshconfig::InterceptionMode::Tproxy;
        overrides::apply(&mut proxy, users);
        // Accepting for foreign addresses takes root, whatever the pod says.
        if let (true, Some(user)) = (transparent, proxy.pointer_mut("/securityContext/runAsUser")) {
            *user = json!(0);
        }
    }
    let spec = object(&mut pod, "spec");
    let status_port = subject.status_port().parse().unwrap_or(proxy_config.status_port);
    let probers = application_probes(spec, &subject, status_port, earlier.probers);
    let merge = application_metrics(&subject, earlier.metrics.is_some())?;
    let metrics = merge.as_ref().and_then(|merge| merge.application.clone()).or(earlier.metrics);
    if let Some(env) = proxy.get_mut("env").and_then(Value::as_array_mut) {
        if !probers.is_empty() {
            render::set_variable(env, probes::PROBERS, &Value::Object(probers).to_string());
        }
        if let Some(metrics) = metrics {
            render::set_variable(env, prometheus::VARIABLE, &metrics);
        }
    }
    let status = place(spec, &subject, proxy);
    describe(&mut pod, &subject, merge, &status, users.filter(|_| !earlier.was_injected).as_ref());
    Ok(pod)
}

/// What an earlier injection left in a pod, taken out of it.
struct Earlier {
    was_injected: bool,
    overrides: Option<Value>,
    probers: Map<String, Value>,
    metrics: Option<String>,
}

impl Earlier {
    fn take(pod: &mut Value, annotations: &BTreeMap<String, String>) -> Result<Self, InjectError> {
        let overrides = match annotations.get(names::annotations::PROXY_OVERRIDES) {
            Some(text) => overrides::read(text).map_err(|reason| {
                let name = names::annotations::PROXY_OVERRIDES;
                InjectError::Annotations(vec![format!("invalid value '{text}' for annotation '{name}': {reason}")])
            })?,
            None => None,
        };
        // Somebody may have written the annotation by hand; only our own form counts.
        let status: Option<Map<String, Value>> =
            annotations.get(names::annotations::STATUS).and_then(|text| serde_json::from_str(text).ok());
        let mut earlier = Self { was_injected: status.is_some(), overrides, probers: Map::new(), metrics: None };
        let Some(status) = status else { return Ok(earlier) };
        let spec = object(pod, "spec");
        for list in ["containers", "initContainers"] {
            let listed = |name: &Value| {
                OURS.iter().any(|own| name == own)
                    && status.get(list).and_then(Value::as_array).is_some_and(|names| names.contains(name))
            };
            let Some(items) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
            for container in items.iter().filter(|container| container.get("name").is_some_and(listed)) {
                if let Some(text) = environment(container, probes::PROBERS) {
                    earlier.probers.extend(serde_json::from_str::<Map<_, _>>(text).unwrap_or_default());
                }
                earlier.metrics = environment(container, prometheus::VARIABLE).map(str::to_owned).or(earlier.metrics);
            }
            items.retain(|container| !container.get("name").is_some_and(listed));
        }
        Ok(earlier)
    }
}

fn environment<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let env = container.get("env")?.as_array()?;
    env.iter().find(|variable| variable.get("name").is_some_and(|own| own == name))?.get("value")?.as_str()
}

/// Rewrites the application's probes; those of an earlier injection stay known.
fn application_probes(
    spec: &mut Map<String, Value>,
    subject: &Subject<'_>,
    status_port: u16,
    earlier: Map<String, Value>,
) -> Map<String, Value> {
    let rewrite = match subject.annotations.get(annotations::REWRITE_PROBES) {
        Some(value) => annotations::boolean(value).unwrap_or(false),
        None => subject.settings.values.sidecar_injector_webhook.rewrite_app_http_probe,
    };
    // The agent's port can be moved by annotation; by the values it moves for redirection only, as in Istio.
    let agent_port = match subject.annotations.get(annotations::STATUS_PORT) {
        Some(_) => status_port,
        None => subject.proxy_config.status_port,
    };
    if !rewrite || agent_port == 0 {
        return earlier;
    }
    let mut probers = probes::rewrite(spec, agent_port);
    probers.extend(earlier);
    probers.sort_keys();
    probers
}

fn application_metrics(subject: &Subject<'_>, merged_before: bool) -> Result<Option<prometheus::Merge>, InjectError> {
    let wanted = match subject.annotations.get(annotations::MERGE_METRICS) {
        Some(value) => annotations::boolean(value).unwrap_or(true),
        None => subject.settings.mesh.enable_prometheus_merge,
    };
    if !wanted || merged_before {
        return Ok(None);
    }
    prometheus::plan(subject.annotations, subject.proxy_config.status_port)
        .map_err(|problem| InjectError::Annotations(vec![problem]))
}

/// Puts containers and volumes where they belong; what comes back says what was added.
fn place(spec: &mut Map<String, Value>, subject: &Subject<'_>, proxy: Value) -> Value {
    let init = subject.init_container();
    let mut init_names = Vec::new();
    let mut names = Vec::new();
    if init.is_some() {
        init_names.push(INIT);
    }
    if subject.native {
        init_names.push(PROXY);
        let containers = list(spec, "initContainers");
        containers.splice(0..0, init.into_iter().chain([proxy]));
    } else {
        names.push(PROXY);
        // Last, so that the user's own init containers still have the plain network.
        if let Some(init) = init {
            list(spec, "initContainers").push(init);
        }
        let containers = list(spec, "containers");
        let index = if subject.holds_application() { 0 } else { containers.len() };
        containers.insert(index, proxy);
    }
    let volumes = list(spec, "volumes");
    let mut volume_names = Vec::new();
    for volume in subject.volumes() {
        volume_names.push(volume.get("name").cloned().unwrap_or_default());
        match volumes.iter_mut().find(|one| one.get("name") == volume.get("name")) {
            Some(one) => *one = volume,
            None => volumes.push(volume),
        }
    }
    let secrets = &subject.settings.values.global.image_pull_secrets;
    if !secrets.is_empty() {
        let theirs = std::mem::take(list(spec, "imagePullSecrets"));
        let mut all: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
        all.extend(
            theirs.into_iter().filter(|one| !secrets.iter().any(|name| one.get("name").is_some_and(|own| own == name))),
        );
        *list(spec, "imagePullSecrets") = all;
    }
    let or_null = |names: Vec<&str>| if names.is_empty() { Value::Null } else { json!(names) };
    json!({
        "initContainers": or_null(init_names),
        "containers": or_null(names),
        "volumes": volume_names,
        "imagePullSecrets": if secrets.is_empty() { Value::Null } else { json!(secrets) },
        "revision": subject.settings.revision,
    })
}

/// Labels and annotations of an injected pod.
fn describe(
    pod: &mut Value,
    subject: &Subject<'_>,
    merge: Option<prometheus::Merge>,
    status: &Value,
    users: Option<&Value>,
) {
    let settings = subject.settings;
    let canonical = workload::canonical_name(subject.labels, subject.workload);
    let mut new_labels = vec![
        (labels::TLS_MODE, "istio".to_owned()),
        (labels::CANONICAL_NAME, canonical),
        (labels::CANONICAL_REVISION, workload::canonical_revision(subject.labels).to_owned()),
    ];
    let of_path = subject.variables.iter().find(|(name, _)| name == variables::NETWORK).map(|(_, value)| value);
    let network = of_path.unwrap_or(&settings.values.global.network);
    if !network.is_empty() {
        new_labels.push((labels::NETWORK, network.clone()));
    }
    let meta = object(pod, "metadata");
    let pod_labels = member(meta, "labels");
    for (name, value) in new_labels {
        pod_labels.entry(name).or_insert(Value::String(value));
    }

    let annotations = member(meta, "annotations");
    let containers = subject.pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    if let Some(first) = containers.first() {
        for name in [annotations::DEFAULT_CONTAINER, annotations::DEFAULT_LOGS_CONTAINER] {
            annotations.entry(name).or_insert(json!(first.name));
        }
    }
    if let Some(merge) = merge {
        for name in &merge.remove {
            annotations.shift_remove(name);
        }
        annotations.extend(merge.set.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))));
    }
    for (name, value) in &settings.config.injected_annotations {
        annotations.insert(name.clone(), json!(value));
    }
    if let Some(users) = users {
        annotations
            .insert(names::annotations::PROXY_OVERRIDES.to_owned(), json!(overrides::write(users, subject.native)));
    }
    annotations.insert(labels::REVISION.to_owned(), json!(settings.revision));
    annotations.insert(names::annotations::PROXY_VERSION.to_owned(), json!(settings.values.global.tag.0));
    annotations.insert(names::annotations::STATUS.to_owned(), json!(status.to_string()));
}

/// A member that is an object; made when it is absent. The typed view has seen that it is nothing else.
fn object<'a>(value: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(members) => member(members, name),
        _ => unreachable!("it was just made an object"),
    }
}

fn member<'a>(members: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let place = members.entry(name).or_insert(Value::Null);
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Object(members) => members,
        _ => unreachable!("it was just made an object"),
    }
}

fn list<'a>(members: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let place = members.entry(name).or_insert(Value::Null);
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    match place {
        Value::Array(items) => items,
        _ => unreachable!("it was just made an array"),
    }
}

#[cfg(test)]
mod tests {
    use super::{annotations, warn};

    #[test]
    fn what_cannot_be_done_is_said() {
        for (annotation, value, said) in [
            (annotations::BOOTSTRAP_OVERRIDE, "mine", "has no effect"),
            (annotations::INTERCEPTION_MODE, "TPROXY", "istio-init refuses TPROXY"),
            (annotations::REWRITE_PROBES, "maybe", "counts as \"false\""),
        ] {
            let mut warnings = Vec::new();
            warn(&[(annotation.to_owned(), value.to_owned())].into(), &mut warnings);
            assert_eq!(warnings.len(), 1, "{annotation}");
            assert!(warnings[0].contains(annotation) && warnings[0].contains(said), "{warnings:?}");
        }
        let mut warnings = Vec::new();
        warn(&[(annotations::INTERCEPTION_MODE.to_owned(), "REDIRECT".to_owned())].into(), &mut warnings);
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}
