//! From a pod to the pod with its sidecar; pure.
//!
//! 1. [`decide`]: whether, and why
//! 2. [`settings`] (with `values`), [`cluster`], `annotations`: what is asked for, checked
//! 3. `earlier`: what an earlier injection added is taken out, so that injecting again gives the same
//! 4. `template`: the fragments of a pod that its templates add; ours are put together of the pieces in `render`
//! 5. `strategic`: they are merged over the pod; `overrides`: the user's own fields over them
//! 6. `prometheus`, `probes`: metrics and probes of the application go through the proxy's agent
//! 7. `order`: where our containers stand; `in_vain` (with `members`), `warnings`, `pod_security`, `resources`: what the user should know
//! 8. [`patch`]: the difference between the raw documents
//!
//! `subject` is what all of these read of a pod, `redirection` what of its traffic is captured; [`inject_document`] does
//! the same to a workload in a file.
//!
//! The pod is changed as raw JSON; a typed view of it is only read. So fields newer than our API types survive.

mod annotations;
pub mod cluster;
pub mod decide;
mod earlier;
mod file;
mod in_vain;
mod members;
mod order;
mod overrides;
pub mod patch;
mod pod_security;
mod probes;
mod prometheus;
mod redirection;
mod render;
mod resources;
pub mod selector;
pub mod settings;
pub mod strategic;
mod subject;
mod template;
pub mod values;
pub mod variables;
mod warnings;
mod workload;

use std::collections::{BTreeMap, HashSet};

use crds::meshconfig::InterceptionMode;
use k8s_openapi::api::core::v1::Pod;
use names::labels;
use serde_json::{Map, Value, json};

use self::cluster::Namespace;
use self::decide::{Candidate, Decision, Reason};
use self::earlier::Earlier;
pub use self::file::{FileOutcome, inject_document};
use self::overrides::items;
use self::settings::{Config, Settings};
use self::strategic::MergeError;
use self::subject::{Subject, set_variable};
use self::template::Chosen;
use self::workload::Workload;

/// The proxy's container.
pub(crate) const PROXY: &str = "istio-proxy";
/// The init container that redirects traffic.
pub(crate) const INIT: &str = "istio-init";
/// The init container that looks whether a CNI plugin did.
pub(crate) const VALIDATION: &str = "istio-validation";
const CONTAINERS: &str = "containers";
const INIT_CONTAINERS: &str = "initContainers";
/// The most entries of a list of a pod that injection compares.
const MOST: usize = 1000;
/// A pod's lists of containers.
const LISTS: [&str; 2] = [CONTAINERS, INIT_CONTAINERS];

/// A pod to inject.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The pod as it came.
    pub pod: &'a Value,
    /// Its namespace; inside the pod the field may be empty.
    pub namespace: &'a str,
    /// What is known of the namespace, if anything is.
    pub about: Option<&'a Namespace>,
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
    /// A volume of the pod in whose place another would be.
    #[error("volume \"{0}\" of the pod has the name of a volume that injection adds; give it another name")]
    Volume(String),
    /// A template that is not there.
    #[error("requested template \"{name}\" not found; have {have}")]
    Template {
        /// Its name.
        name: String,
        /// The names of those that are there.
        have: String,
    },
    /// A user's template that cannot be read.
    #[error("template \"{name}\" is broken: {problem}; correct it in ConfigMap istio-sidecar-injector, key config")]
    BrokenTemplate {
        /// Its name.
        name: String,
        /// Where, and what.
        problem: String,
    },
    /// A user's template that fails on this pod, or writes what is no part of a pod.
    #[error("template \"{name}\": {problem}")]
    TemplateResult {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// More than any node could run. What injection does takes each with each.
    #[error("spec.{0} has {1} entries, of which injection takes {MOST}")]
    TooMany(&'static str, usize),
    /// Lists in lists, further than anybody means.
    #[error("Lists stand in Lists more than {0} levels deep")]
    TooDeep(usize),
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

/// Every malformed annotation of a pod, as `invalid value '<v>' for annotation '<name>': <reason>`.
pub fn annotation_problems(annotations: &BTreeMap<String, String>) -> Vec<String> {
    annotations::problems(annotations)
}

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
    let candidate = Candidate {
        namespace: request.namespace,
        labels: pod_labels,
        annotations: pod_annotations,
        host_network: typed.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false),
        windows: decide::is_for_windows(request.pod),
    };
    let config = match purpose {
        Purpose::Admission => &settings.config,
        Purpose::File { config, .. } => config,
    };
    let decision = decide::decide(config, candidate);
    let mut warnings = decision.warnings.clone();
    if !decision.inject {
        not_injected(&request, &decision, &settings.revision, purpose, &mut warnings);
        return Ok(Outcome { pod: None, decision, warnings });
    }
    let mut problems = annotations::problems(pod_annotations);
    problems.extend(annotations::conflicts(pod_annotations));
    if !problems.is_empty() {
        return Err(InjectError::Annotations(problems));
    }
    for list in [CONTAINERS, INIT_CONTAINERS, "volumes", "imagePullSecrets"] {
        let count = items(request.pod, list).len();
        if count > MOST {
            return Err(InjectError::TooMany(list, count));
        }
    }
    let chosen = template::choose(pod_annotations, settings)?;
    in_vain::asked(pod_labels, pod_annotations, settings, &mut warnings);
    let pod = build(request, settings, (pod_labels, pod_annotations), purpose, &chosen, &mut warnings)?;
    Ok(Outcome { pod: Some(pod), decision, warnings })
}

/// What the user should know of a pod that is left as it is.
fn not_injected(
    request: &Request<'_>,
    decision: &Decision,
    revision: &str,
    purpose: &Purpose<'_>,
    warnings: &mut Vec<String>,
) {
    // For a file, the line that says that it is skipped says this as well.
    if matches!(purpose, Purpose::Admission) {
        match decision.reason {
            Reason::HostNetwork => warnings
                .push("the pod uses its node's network, which must not be redirected: it gets no sidecar".to_owned()),
            Reason::UnknownPolicy => warnings.push(format!(
                "no pod gets a sidecar: policy in ConfigMap {}, key config, is neither enabled nor disabled",
                names::resources::injector(revision)
            )),
            _ => {}
        }
    }
    let unfinished = |one: &Value| named(one, PROXY) && one.get("image").is_some_and(|image| image == "auto");
    if LISTS.iter().any(|list| items(request.pod, list).iter().any(unfinished)) {
        warnings.push(format!("image \"auto\" of {PROXY} is for injection to fill in, and this pod is not injected"));
    }
}

fn build(
    request: Request<'_>,
    settings: &Settings,
    (pod_labels, pod_annotations): (&BTreeMap<String, String>, &BTreeMap<String, String>),
    purpose: &Purpose<'_>,
    chosen: &[Chosen<'_>],
    warnings: &mut Vec<String>,
) -> Result<Value, InjectError> {
    let annotated = |problem: String| InjectError::Annotations(vec![problem]);
    let mut pod = request.pod.clone();
    object(&mut pod, "spec");
    let mut earlier = Earlier::take(&mut pod, pod_annotations)?;
    let users = users_proxy(&pod, request.about);
    let mut without_proxy = pod.clone();
    without(&mut without_proxy, PROXY);
    let bare: Pod = crds::parse(without_proxy).map_err(|error| InjectError::NotAPod(error.to_string()))?;

    let proxy_config = match pod_annotations.get(names::annotations::PROXY_CONFIG) {
        Some(yaml) => annotations::proxy_config(&settings.mesh.default_config, yaml).map_err(annotated)?,
        None => settings.mesh.default_config.clone(),
    };
    let interception = match pod_annotations.get(annotations::INTERCEPTION_MODE) {
        Some(mode) => annotations::interception_mode(mode).map_err(annotated)?,
        None => proxy_config.interception_mode,
    };
    let node = bare.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let native = match pod_annotations.get(names::annotations::NATIVE_SIDECAR) {
        Some(value) => annotations::boolean(value).map_err(annotated)?,
        None => settings.native_on(node),
    };
    let workload = match purpose {
        Purpose::File { workload: Some(workload), .. } => workload.clone(),
        _ => Workload::of(&bare),
    };
    let subject = Subject {
        settings,
        pod: &bare,
        raw: &pod,
        namespace: request.namespace,
        about: request.about,
        labels: pod_labels,
        annotations: pod_annotations,
        proxy_config: &proxy_config,
        interception,
        workload: &workload,
        native,
        users: users.as_ref(),
        variables: request.variables,
    };

    let mut fragments = template::render(chosen, &subject, warnings)?;
    let ours = whole(&mut fragments, chosen)?;
    let mut base = pod.clone();
    if let Some(users) = &users {
        replace(&mut base, PROXY, users);
    }
    overrides::settle(&mut base, &ours);
    let mut merged = base.clone();
    for (template, fragment) in chosen.iter().zip(&fragments) {
        strategic::merge(&mut merged, fragment).map_err(|error| failed(template, &error))?;
    }
    let found = overrides::reapply(&mut merged, &base, &ours, earlier.overrides.as_ref())
        .map_err(|error| InjectError::NotAPod(error.to_string()))?;
    earlier.put_back(&mut merged, &ours);
    if interception == InterceptionMode::Tproxy && chosen.iter().any(|template| template.is(template::SIDECAR)) {
        // Accepting for foreign addresses takes root, whatever the pod says.
        as_root(&mut merged);
    }
    still_the_same(&pod, &merged, chosen)?;
    volumes_kept(&base, &merged, &earlier)?;
    through_agent(&mut merged, &subject, &mut earlier, warnings)?;
    order::arrange(&mut merged, &subject);
    let overrides = if earlier.was { None } else { found.write() };
    mark(&mut merged, &subject, &ours, overrides);

    let typed: Pod =
        crds::parse(merged.clone()).map_err(|error| match chosen.iter().rev().find_map(Chosen::users) {
            Some(name) => {
                let problem = format!("what it makes is not a Pod: {error}");
                InjectError::TemplateResult { name: name.to_owned(), problem }
            }
            None => InjectError::NotAPod(error.to_string()),
        })?;
    if let Some(spec) = &typed.spec {
        warnings::of_pod(&subject, chosen, spec, warnings);
    }
    Ok(merged)
}

fn failed(template: &Chosen<'_>, error: &MergeError) -> InjectError {
    let name = template.name().to_owned();
    InjectError::TemplateResult { name, problem: error.to_string() }
}

/// The user's own `istio-proxy`. OpenShift gives every container of a pod the same user, which must not be the proxy's.
fn users_proxy(pod: &Value, about: Option<&Namespace>) -> Option<Value> {
    let containers = LISTS.iter().flat_map(|list| items(pod, list));
    let mut users = containers.clone().find(|one| named(one, PROXY))?.clone();
    let user = |container: &Value| container.pointer("/securityContext/runAsUser").and_then(Value::as_i64);
    let same = || containers.clone().any(|one| !named(one, PROXY) && user(one).is_some() && user(one) == user(&users));
    if about.is_some_and(Namespace::chooses_ids)
        && same()
        && let Some(Value::Object(context)) = users.get_mut("securityContext")
    {
        context.shift_remove("runAsUser");
        context.shift_remove("runAsGroup");
    }
    Some(users)
}

/// A template says what is in a pod, not which pod it is; and the network of a node must not be redirected.
fn still_the_same(users: &Value, merged: &Value, chosen: &[Chosen<'_>]) -> Result<(), InjectError> {
    let Some(name) = chosen.iter().rev().find_map(Chosen::users) else { return Ok(()) };
    let fields = ["/metadata/name", "/metadata/generateName", "/metadata/namespace", "/spec/hostNetwork"];
    let changed =
        fields.iter().find(|field| merged.pointer(field).is_some() && merged.pointer(field) != users.pointer(field));
    changed.map_or(Ok(()), |field| {
        let problem = format!("it changes {}, which no template may", field.replace('/', ".").trim_start_matches('.'));
        Err(InjectError::TemplateResult { name: name.to_owned(), problem })
    })
}

/// A pod's own volume that has the name of one of ours would be another volume after injection.
fn volumes_kept(users: &Value, merged: &Value, earlier: &Earlier) -> Result<(), InjectError> {
    let source = |volume: &Value| {
        let mut members = volume.as_object().into_iter().flat_map(Map::keys);
        members.find(|member| *member != "name").cloned()
    };
    let replaced = items(users, "volumes").iter().find(|own| {
        let name = own.get("name");
        let merged = items(merged, "volumes").iter().find(|one| one.get("name") == name);
        source(own).is_some() && merged.is_some_and(|merged| source(merged) != source(own))
    });
    let name = replaced.filter(|_| !earlier.was).and_then(|volume| volume.get("name")).and_then(Value::as_str);
    name.map_or(Ok(()), |name| Err(InjectError::Volume(name.to_owned())))
}

/// All fragments as one: what the templates add. Where the proxy is a native sidecar, a template that speaks of it as of
/// an ordinary container means the same, whichever comes first.
fn whole(fragments: &mut [Value], chosen: &[Chosen<'_>]) -> Result<Value, InjectError> {
    let native = |fragment: &Value| items(fragment, INIT_CONTAINERS).iter().any(|one| named(one, PROXY));
    let place = fragments.iter().any(native).then(|| json!({"spec": {INIT_CONTAINERS: [{"name": PROXY}]}}));
    let mut ours = json!({});
    for (fragment, template) in fragments.iter_mut().zip(chosen) {
        overrides::settle(fragment, place.as_ref().unwrap_or(&ours));
        strategic::merge(&mut ours, fragment).map_err(|error| failed(template, &error))?;
    }
    Ok(ours)
}

/// Metrics and probes of the application, as far as there is an agent that they could go through.
fn through_agent(
    pod: &mut Value,
    subject: &Subject<'_>,
    earlier: &mut Earlier,
    warnings: &mut Vec<String>,
) -> Result<(), InjectError> {
    let annotations = annotations_of(pod);
    let has_proxy = LISTS.iter().any(|list| items(pod, list).iter().any(|one| named(one, PROXY)));
    let merge = application_metrics(&annotations, subject, earlier.metrics.is_some(), has_proxy)?;
    if let Some(merge) = &merge {
        let place = member(object(pod, "metadata"), "annotations");
        let removed: HashSet<&String> = merge.remove.iter().collect();
        place.retain(|name, _| !removed.contains(name));
        warnings.extend(merge.warnings.iter().cloned());
        place.extend(merge.set.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    }
    if !has_proxy {
        return Ok(());
    }
    let probers = application_probes(pod, &annotations, subject, std::mem::take(&mut earlier.probers), warnings);
    let metrics = merge.and_then(|merge| merge.application).or(earlier.metrics.take());
    let spec = object(pod, "spec");
    let mut containers = LISTS.iter().filter_map(|list| {
        spec.get(*list)?.as_array()?.iter().position(|one| named(one, PROXY)).map(|index| (*list, index))
    });
    let Some((list, index)) = containers.next() else { return Ok(()) };
    let proxy = spec.get_mut(list).and_then(Value::as_array_mut).and_then(|containers| containers.get_mut(index));
    let Some(Value::Object(proxy)) = proxy else { return Ok(()) };
    let env = self::list(proxy, "env");
    if !probers.is_empty() {
        set_variable(env, probes::PROBERS, &Value::Object(probers).to_string());
    }
    if let Some(metrics) = metrics {
        set_variable(env, prometheus::VARIABLE, &metrics);
    }
    Ok(())
}

/// Rewrites the application's probes; those of an earlier injection stay known.
fn application_probes(
    pod: &mut Value,
    annotations: &BTreeMap<String, String>,
    subject: &Subject<'_>,
    earlier: Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Map<String, Value> {
    let rewrite = match annotations.get(annotations::REWRITE_PROBES) {
        Some(value) => annotations::boolean(value).unwrap_or(false),
        None => subject.settings.values.sidecar_injector_webhook.rewrite_app_http_probe,
    };
    // The agent's port can be moved by annotation; by the values it moves for redirection only, as in Istio.
    let agent_port = match annotations.get(annotations::STATUS_PORT) {
        Some(_) => subject.status_port().parse().unwrap_or(subject.proxy_config.status_port),
        None => subject.proxy_config.status_port,
    };
    if !rewrite || agent_port == 0 {
        return earlier;
    }
    let mut probers = probes::rewrite(object(pod, "spec"), agent_port, warnings);
    probers.extend(earlier);
    probers.sort_keys();
    probers
}

fn application_metrics(
    annotations: &BTreeMap<String, String>,
    subject: &Subject<'_>,
    merged_before: bool,
    has_proxy: bool,
) -> Result<Option<prometheus::Merge>, InjectError> {
    let wanted = match annotations.get(annotations::MERGE_METRICS) {
        Some(value) => annotations::boolean(value).unwrap_or(true),
        None => subject.settings.mesh.enable_prometheus_merge,
    };
    if !wanted || merged_before {
        return Ok(None);
    }
    let merge = prometheus::plan(annotations, subject.proxy_config.status_port)
        .map_err(|problem| InjectError::Annotations(vec![problem]))?;
    // Without an agent, the application's own settings would be lost.
    let asks_nothing = |merge: &prometheus::Merge| merge.application.is_none() && merge.warnings.is_empty();
    Ok(merge.filter(|merge| has_proxy || asks_nothing(merge)))
}

/// Annotations and labels that every injected pod has.
fn mark(pod: &mut Value, subject: &Subject<'_>, ours: &Value, overrides: Option<String>) {
    let settings = subject.settings;
    let names_in = |list: &str| {
        let names: Vec<&Value> = items(ours, list).iter().filter_map(|one| one.get("name")).collect();
        if names.is_empty() { Value::Null } else { json!(names) }
    };
    let status = json!({
        "initContainers": names_in(INIT_CONTAINERS),
        "containers": names_in(CONTAINERS),
        "volumes": names_in("volumes"),
        "imagePullSecrets": names_in("imagePullSecrets"),
        "revision": settings.revision,
    });
    let has_proxy = LISTS.iter().any(|list| items(ours, list).iter().any(|one| named(one, PROXY)));
    let meta = object(pod, "metadata");
    if let Some(network) = subject.network() {
        member(meta, "labels").entry(labels::NETWORK).or_insert(json!(network));
    }
    let annotations = member(meta, "annotations");
    for (name, value) in &settings.config.injected_annotations {
        annotations.insert(name.clone(), json!(value));
    }
    if let Some(overrides) = overrides {
        annotations.insert(names::annotations::PROXY_OVERRIDES.to_owned(), json!(overrides));
    }
    if has_proxy {
        annotations.insert(names::annotations::PROXY_VERSION.to_owned(), json!(settings.values.global.tag.0));
    }
    annotations.insert(names::annotations::STATUS.to_owned(), json!(status.to_string()));
}

fn annotations_of(pod: &Value) -> BTreeMap<String, String> {
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten();
    annotations.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn named(object: &Value, name: &str) -> bool {
    object.get("name").is_some_and(|own| own == name)
}

fn without(pod: &mut Value, name: &str) {
    for list in LISTS {
        if let Some(Value::Array(containers)) = pod.pointer_mut(&format!("/spec/{list}")) {
            containers.retain(|one| !named(one, name));
        }
    }
}

/// The first container of this name; others, which the API server refuses, stay as they are.
fn replace(pod: &mut Value, name: &str, by: &Value) {
    for list in LISTS {
        if let Some(Value::Array(containers)) = pod.pointer_mut(&format!("/spec/{list}"))
            && let Some(own) = containers.iter_mut().find(|one| named(one, name))
        {
            by.clone_into(own);
            return;
        }
    }
}

fn as_root(pod: &mut Value) {
    for list in LISTS {
        if let Some(Value::Array(containers)) = pod.pointer_mut(&format!("/spec/{list}")) {
            for container in containers.iter_mut().filter(|one| named(one, PROXY)) {
                if let Some(user) = container.pointer_mut("/securityContext/runAsUser") {
                    *user = json!(0);
                }
            }
        }
    }
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
