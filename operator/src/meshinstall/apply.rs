//! Brings rendered objects into the cluster: server-side apply under one field manager.
//!
//! [`decide`] is pure. What is already as it should be costs no request; what belongs to someone else is found before
//! the first write, and never taken over.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use names::{annotations, labels, resources};
use serde_json::{Value, json};

use super::basis::Basis;
use super::build::{self, Rendered};
use super::mesh::Mesh;
use super::status;
use super::upgrade::{self, Turn};
use crate::answer::words;
use crate::live::Live;

/// Why objects could not be brought in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Somebody else's; nothing has been written.
    #[error(
        "{object} exists and was not made for this MeshInstall ({owner}); remove it, hand it over by the label {}=<name of this MeshInstall>, or \
         choose another spec.namespace or spec.revision",
        labels::OWNED_BY
    )]
    Foreign {
        /// `Deployment istio-system/istiod`.
        object: String,
        /// Who seems to own it.
        owner: String,
        /// The MeshInstall that it was made for, if it was made for one.
        installed_by: Option<String>,
    },
    /// It is not what the new one was made from any more; nothing has been written over it.
    #[error("{object} has changed meanwhile")]
    Overtaken {
        /// `Secret istio-system/istio-sidecar-injector-ca`.
        object: String,
    },
    /// The API server's words.
    #[error("{object}: {}", words(source))]
    Request {
        /// `Deployment istio-system/istiod`.
        object: String,
        /// What it answered.
        source: kube::Error,
    },
}

/// One rendered object and what is in the cluster for it now.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) rendered: Rendered,
    /// The object in the cluster; None while it waits for the control plane and has never been there.
    pub(crate) current: Option<Arc<DynamicObject>>,
    pub(crate) done: Done,
    /// It is in the version before, or waits to leave it: its turn in an upgrade has not come.
    pub(crate) later: bool,
}

/// What was done about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was as it should be.
    Nothing,
    /// It carries the ignore annotation.
    Ignored,
    /// It was not there.
    Created,
    /// What is rendered has changed.
    Changed,
    /// It had been edited, and was put back.
    Restored,
    /// It waits for the control plane, or for its turn in an upgrade.
    Waiting,
}

/// What is to be done about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    Ignore,
    Apply,
    Wait,
}

/// Decides about one object. `settled` says that this very spec was applied before.
pub(crate) fn decide(rendered: &Rendered, live: Option<&DynamicObject>, control_plane_ready: bool) -> Step {
    if live.is_some_and(is_ignored) {
        return Step::Ignore;
    }
    if live.is_some_and(|live| holds(live, &rendered.object)) {
        return Step::Nothing;
    }
    let same_spec = live
        .and_then(|live| live.annotations().get(annotations::RENDERED))
        .is_some_and(|hash| Some(hash.as_str()) == rendered.hash());
    // Drift is put back at once; only something new has to wait.
    if rendered.after_control_plane && !control_plane_ready && !same_spec { Step::Wait } else { Step::Apply }
}

/// `install.forestay.dev/ignore: "true"`.
pub(crate) fn is_ignored(object: &DynamicObject) -> bool {
    object.annotations().get(annotations::IGNORE).is_some_and(|value| value == "true")
}

/// Whether `live` already says everything that `wanted` says. A `false` that is wrong (the API server writes some
/// values in another form) costs a request that changes nothing.
fn holds(live: &DynamicObject, wanted: &DynamicObject) -> bool {
    let within = |wanted: Option<Value>, live: Option<Value>| match (wanted, live) {
        (Some(wanted), Some(live)) => contains(&live, &wanted),
        (wanted, _) => wanted.is_none(),
    };
    contains(&live.data, &wanted.data)
        && within(serde_json::to_value(&wanted.metadata).ok(), serde_json::to_value(&live.metadata).ok())
}

fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| live.get(key).is_some_and(|live| contains(live, wanted)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

/// Brings everything in, in order. `installs` are the names of all MeshInstalls: what was made for one that is gone is
/// nobody's any more. `before` is what the version in force consists of, while an upgrade is under way.
pub(crate) async fn apply(
    client: &Client,
    live: &Live,
    mesh: &Mesh,
    objects: Vec<Rendered>,
    before: Option<&[Rendered]>,
    installs: &[String],
) -> Result<Vec<Outcome>, ApplyError> {
    create_namespace(client, live, &mesh.namespace).await?;
    let mut present = Vec::with_capacity(objects.len());
    for rendered in &objects {
        present.push(find(client, live, mesh, rendered, installs).await?);
    }

    let mut outcomes: Vec<Outcome> = Vec::with_capacity(objects.len());
    for (turn, current) in upgrade::turns(objects, before, &present).into_iter().zip(present) {
        let ready = status::control_plane_available(&outcomes);
        outcomes.push(match turn {
            Turn::Now(rendered) => bring_in(client, rendered, current, ready).await?,
            Turn::Before(rendered) => Outcome { later: true, ..bring_in(client, rendered, current, ready).await? },
            Turn::Wait(rendered) => Outcome { rendered, current, done: Done::Waiting, later: true },
        });
    }
    Ok(outcomes)
}

/// Brings one object in. `current` is what is in the cluster for it.
pub(crate) async fn bring_in(
    client: &Client,
    rendered: Rendered,
    current: Option<Arc<DynamicObject>>,
    control_plane_ready: bool,
) -> Result<Outcome, ApplyError> {
    let (current, done) = match decide(&rendered, current.as_deref(), control_plane_ready) {
        Step::Nothing => (current, Done::Nothing),
        Step::Ignore => (current, Done::Ignored),
        Step::Wait => (current, Done::Waiting),
        Step::Apply => {
            if current.is_some() {
                hand_over_replicas(client, &rendered).await?;
            }
            let written = write(client, &rendered).await?;
            let same_spec = |old: &Arc<DynamicObject>| {
                old.annotations().get(annotations::RENDERED).map(String::as_str) == rendered.hash()
            };
            let done = match &current {
                Some(old) if old.resource_version() == written.resource_version() => Done::Nothing,
                Some(old) if same_spec(old) => Done::Restored,
                Some(_) => Done::Changed,
                None => Done::Created,
            };
            (Some(Arc::new(written)), done)
        }
    };
    Ok(Outcome { rendered, current, done, later: false })
}

/// The object as it is in the cluster, from the watch or, when that does not know it, by asking: it may be there
/// without our labels.
pub(crate) async fn find(
    client: &Client,
    live: &Live,
    mesh: &Mesh,
    rendered: &Rendered,
    installs: &[String],
) -> Result<Option<Arc<DynamicObject>>, ApplyError> {
    let (namespace, name) = (rendered.object.namespace(), rendered.object.name_any());
    let found = match live.get(&rendered.resource, namespace.as_deref(), &name) {
        Some(object) => Some(object),
        None => api(client, rendered)
            .get_opt(&name)
            .await
            .map_err(|source| ApplyError::Request { object: rendered.display(), source })?
            .map(Arc::new),
    };
    match found.as_deref().and_then(|object| stranger(mesh, rendered, object, installs)) {
        Some(stranger) => {
            let (owner, installed_by) = match stranger {
                Stranger::Install(name) => (format!("it belongs to MeshInstall {name}"), Some(name)),
                Stranger::Manager(Some(manager)) => (format!("it is managed by {manager}"), None),
                Stranger::Manager(None) => ("nothing says who manages it".to_owned(), None),
            };
            Err(ApplyError::Foreign { object: rendered.display(), owner, installed_by })
        }
        None => Ok(found),
    }
}

/// Somebody whose object is not to be touched.
enum Stranger {
    /// Another MeshInstall.
    Install(String),
    /// Whoever the object says manages it.
    Manager(Option<String>),
}

/// Who else an object belongs to. An owner reference of ours outlives an edit of the labels, and the other way round.
fn stranger(mesh: &Mesh, rendered: &Rendered, object: &DynamicObject, installs: &[String]) -> Option<Stranger> {
    if object.owner_references().iter().any(|owner| owner.uid == mesh.uid) {
        return None;
    }
    // A tag that has moved takes its configuration with it.
    if rendered.object.labels().contains_key(labels::TAG) && object.labels().contains_key(labels::TAG) {
        return None;
    }
    let shared = !rendered.object.labels().contains_key(labels::OWNED_BY);
    let managed_by = object.labels().get(labels::KUBERNETES_MANAGED_BY);
    match object.labels().get(labels::OWNED_BY) {
        Some(owner) if *owner == mesh.name => None,
        Some(owner) if installs.contains(owner) => Some(Stranger::Install(owner.clone())),
        Some(_) => None,
        None if shared && managed_by.is_some_and(|manager| manager == resources::OPERATOR) => None,
        // Somebody has edited the label. What revisions share has no owner to be known by.
        None if shared && object.annotations().contains_key(annotations::RENDERED) => None,
        None => Some(Stranger::Manager(managed_by.cloned())),
    }
}

pub(crate) async fn write(client: &Client, rendered: &Rendered) -> Result<DynamicObject, ApplyError> {
    // Forced, because drift in a field of ours is to be put back whoever wrote it; fields that we do not render stay
    // with their managers.
    // Strict, so that a field that the API server does not know is told, and not dropped in silence.
    let params = PatchParams::apply(resources::OPERATOR).force().validation_strict();
    let (api, name) = (api(client, rendered), rendered.object.name_any());
    let written = match &rendered.basis {
        None => api.patch(&name, &params, &Patch::Apply(&rendered.object)).await,
        Some(basis) => {
            let there = match basis {
                Basis::Absent => Basis::of(Some(&claim(&api, rendered).await?)),
                present @ Basis::Present { .. } => present.clone(),
            };
            api.patch(&name, &params, &Patch::Apply(over(&rendered.object, there))).await
        }
    };
    written.map_err(|source| failed(rendered, source))
}

/// Takes the name of an object that was not there; who comes second is refused. Server-side apply has no word for "only if
/// it is absent". What it is to hold is applied afterwards, so that it has one manager and can be taken out again.
async fn claim(api: &Api<DynamicObject>, rendered: &Rendered) -> Result<DynamicObject, ApplyError> {
    let mut empty = rendered.object.clone();
    empty.data.as_object_mut().into_iter().for_each(|fields| fields.retain(|name, _| name == "type"));
    let params = PostParams { field_manager: Some(resources::OPERATOR.into()), ..PostParams::default() };
    api.create(&params, &empty).await.map_err(|source| failed(rendered, source))
}

/// The object with what the API server is to find in its place.
fn over(object: &DynamicObject, there: Basis) -> DynamicObject {
    let mut object = object.clone();
    if let Basis::Present { uid, resource_version } = there {
        object.metadata.uid = uid;
        object.metadata.resource_version = resource_version;
    }
    object
}

fn failed(rendered: &Rendered, source: kube::Error) -> ApplyError {
    match source {
        kube::Error::Api(answer) if answer.code == 409 && rendered.basis.is_some() => {
            ApplyError::Overtaken { object: rendered.display() }
        }
        source => ApplyError::Request { object: rendered.display(), source },
    }
}

/// A Deployment whose number of pods the spec leaves to an autoscaler, or to whoever scales it. Server-side apply takes a
/// field away with its last manager, and then the API server's default, 1, stands there; so before the operator lets go
/// another manager keeps the number (Kubernetes' documentation on server-side apply, "Transferring ownership").
async fn hand_over_replicas(client: &Client, rendered: &Rendered) -> Result<(), ApplyError> {
    if rendered.resource.kind != "Deployment" || rendered.object.data.pointer("/spec/replicas").is_some() {
        return Ok(());
    }
    let failed = |source| ApplyError::Request { object: rendered.display(), source };
    let (api, name) = (api(client, rendered), rendered.object.name_any());
    // The watches do not keep managers.
    let Some(live) = api.get_opt(&name).await.map_err(failed)? else { return Ok(()) };
    let Some(replicas) = live.data.pointer("/spec/replicas").filter(|_| says_replicas(&live)) else { return Ok(()) };
    let patch = json!({
        "apiVersion": rendered.resource.api_version,
        "kind": rendered.resource.kind,
        "metadata": {"name": name, "uid": live.uid()},
        "spec": {"replicas": replicas},
    });
    let params = PatchParams::apply(resources::REPLICAS_MANAGER).force();
    api.patch(&name, &params, &Patch::Apply(&patch)).await.map(drop).map_err(failed)
}

/// Whether the number of pods is the operator's.
pub(crate) fn says_replicas(deployment: &DynamicObject) -> bool {
    deployment.managed_fields().iter().any(|entry| {
        entry.manager.as_deref() == Some(resources::OPERATOR)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
            && entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    })
}

/// Creates the mesh's namespace if it is absent; one that is there is left as it is.
async fn create_namespace(client: &Client, live: &Live, name: &str) -> Result<(), ApplyError> {
    if live.namespace(name).is_some() {
        return Ok(());
    }
    let api: Api<Namespace> = Api::all(client.clone());
    let failed = |source| ApplyError::Request { object: format!("Namespace {name}"), source };
    if api.get_opt(name).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    match api.create(&PostParams::default(), &build::namespace(name)).await {
        Ok(_) => Ok(()),
        // Somebody was faster.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

fn api(client: &Client, rendered: &Rendered) -> Api<DynamicObject> {
    match rendered.object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &rendered.resource),
        None => Api::all_with(client.clone(), &rendered.resource),
    }
}
