//! The shell around the steps: calls them in order, writes status and events, says when to look again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::install::condition::{ConditionType, Reason};
use crds::install::{ImagesStatus, MeshInstall, MeshInstallSpec, MeshInstallStatus};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::{DeserializeGuard, error_boundary::InvalidObject};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource, ResourceExt};
use names::resources;
use serde_json::{Value, from_value, json};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::apply::{self, ApplyError, Done, Outcome};
use super::applyset::Record;
use super::authority;
use super::build::{self, Admission, RenderError, Rendered};
use super::deletion;
use super::dereference::{self, Dereferenced, dereference};
use super::mesh::{Component, Images, Mesh};
use super::prune::{self, Owned};
use super::status::{self, Observed, Verdict};
use super::tokens;
use super::trust::WebhookCa;
use super::upgrade::{self, Versions};
use super::validate::{Invalid, RelatedImages, validate};
use super::written::Written;
use crate::addons;
use crate::addons::apply::Trouble;
use crate::answer::words;
use crate::definitions::Definitions;
use crate::guard;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::tag;
use crate::usage::Usage;

/// How soon a MeshInstall that does not fit beside something else is looked at again: what it collides with is not watched.
const RECHECK: Duration = Duration::from_secs(10);

/// How soon a reconciliation begins again that somebody else was faster than: the watch is about to tell what they wrote.
const OVERTAKEN: Duration = Duration::from_millis(200);

/// What a reconciliation works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    /// The operator's own namespace.
    pub(crate) namespace: String,
    pub(crate) live: Live,
    pub(crate) recorder: Recorder,
    pub(crate) related_images: RelatedImages,
    pub(crate) metrics: Metrics,
    pub(crate) made: Made,
    pub(crate) authorities: Authorities,
    pub(crate) written: Written,
    pub(crate) definitions: Definitions,
    /// Told when a reconciliation has ended: tags look at what has become of them.
    pub(crate) reconciled: watch::Sender<()>,
}

/// The webhooks' certificate authorities that this process has put in force, by namespace: a Secret that is gone or
/// damaged must not take away what the replicas serve with.
#[derive(Default)]
pub(crate) struct Authorities(Mutex<HashMap<String, WebhookCa>>);

impl Authorities {
    fn of(&self, namespace: &str) -> Option<WebhookCa> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(namespace).cloned()
    }

    fn note(&self, namespace: &str, authority: WebhookCa) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.to_owned(), authority);
    }

    pub(super) fn forget(&self, namespace: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
    }
}

/// What this process has seen in the cluster, so that an object that is missing now is known to have been deleted.
#[derive(Default)]
pub(crate) struct Made(Mutex<HashSet<(String, String)>>);

impl Made {
    /// Notes an object of a MeshInstall (by uid); says whether it was known.
    fn note(&self, install: &str, object: String) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((install.to_owned(), object))
    }

    /// The operator has deleted it itself.
    fn forget_one(&self, install: &str, object: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(install.to_owned(), object));
    }

    pub(super) fn forget(&self, install: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _)| of != install);
    }
}

/// Why a reconciliation did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Apply(#[from] ApplyError),
    #[error("{object}: {}", words(source))]
    Delete { object: String, source: kube::Error },
    #[error("{doing}: {}", words(source))]
    Request { doing: &'static str, source: kube::Error },
    #[error("Deployment {name}: the pods cannot be started anew: {}", words(source))]
    Renew { name: String, source: kube::Error },
    #[error("a rendered object {0}")]
    Render(#[from] RenderError),
    #[error("the webhook's certificate authority cannot be made: {0}")]
    Authority(#[from] rcgen::Error),
}

pub(super) fn request(doing: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Request { doing, source }
}

/// One reconciliation.
pub(crate) async fn reconcile(
    guarded: Arc<DeserializeGuard<MeshInstall>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let timer = context.metrics.reconciliation();
    context.live.ready().await;
    let result = match &guarded.0 {
        Ok(install) if install.metadata.deletion_timestamp.is_some() => {
            deletion::delete(&context, &context.written.over(install)).await
        }
        Ok(install) => bring_about(&context, &context.written.over(install)).await,
        Err(invalid) => report_unreadable(&context, invalid).await,
    };
    timer.done(result.is_ok());
    context.reconciled.send_replace(());
    result
}

/// Makes the cluster what the spec says.
async fn bring_about(context: &Context, install: &MeshInstall) -> Result<Action, Error> {
    let now = Timestamp::now();
    // Before the finalizer, which would wait for ever without an operator.
    if let Err(error) = guard::keep(&context.client, &context.live, &context.namespace).await {
        // No reason to leave the cluster without its mesh.
        warn!(meshinstall = %install.name_any(), "the operator is not guarded against being deleted first: {error}");
    }
    add_finalizer(context, install).await?;
    if install.status.is_none() {
        write_status(context, install, status::first_sight(install.metadata.generation, now)).await?;
    }

    match steps(context, install, now).await {
        Ok(Applied { outcomes, addon_troubles, mesh, action }) => {
            report(context, install, &outcomes).await;
            let pods = context.live.pods_of(&install.name_any());
            let definitions = context.definitions.look(&context.client, &context.live).await;
            let in_force = install.status.as_ref().and_then(|status| status.version.as_deref());
            let versions = Versions::new(in_force, &mesh.version, upgrade::reached(&outcomes));
            let Images { forestay, proxy, .. } = mesh.images;
            let images = ImagesStatus { forestay, proxy };
            let usage = usage(context, install);
            let authority = authority_trouble(context, &mesh.namespace, &outcomes, now).await?;
            let observed = Observed::after_apply(&outcomes, pods, usage, mesh.without_effect, versions, images);
            let observed = Observed { authority, addon_troubles, definitions, ..observed };
            let verdict = match mesh.refused.map(Invalid::version) {
                // What is in force is kept all the same.
                Some(invalid) => Verdict::failed(invalid.reason, invalid.to_string()),
                None => Verdict::applied(outcomes.len()),
            };
            settle(context, install, &observed, verdict, now).await?;
            Ok(action)
        }
        Err(Stop::Invalid(invalid)) => {
            let verdict = Verdict::failed(invalid.reason, invalid.to_string());
            settle(context, install, &as_watched(context, install).await, verdict, now).await?;
            let fixable_by_the_spec_alone =
                matches!(invalid.reason, Reason::InvalidSpec | Reason::UnknownVersion | Reason::VersionSkipped);
            Ok(if fixable_by_the_spec_alone { Action::await_change() } else { Action::requeue(RECHECK) })
        }
        Err(Stop::Failed(Error::Apply(error @ ApplyError::Overtaken { .. }))) => {
            debug!(meshinstall = %install.name_any(), "{error}");
            Ok(Action::requeue(OVERTAKEN))
        }
        Err(Stop::Failed(error)) => {
            let reason = match &error {
                Error::Apply(ApplyError::Foreign { .. }) => Reason::ForeignObject,
                _ => Reason::ApplyFailed,
            };
            let verdict = Verdict::failed(reason, error.to_string());
            settle(context, install, &as_watched(context, install).await, verdict, now).await?;
            Err(error)
        }
    }
}

/// Why the steps stopped.
enum Stop {
    Invalid(Invalid),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What the steps came to.
struct Applied {
    outcomes: Vec<Outcome>,
    /// Addons that could not be brought in.
    addon_troubles: Vec<Trouble>,
    /// What was rendered.
    mesh: Mesh,
    /// When to look again.
    action: Action,
}

/// The steps from reading to pruning.
async fn steps(context: &Context, install: &MeshInstall, now: Timestamp) -> Result<Applied, Stop> {
    let Context { client, live, .. } = context;
    let installs = live.installs();
    let read = dereference(client, live, install, &installs, &live.tags())
        .await
        .map_err(request("what the spec names cannot be read"))?;
    let mesh = validate(&read, &context.related_images).map_err(Stop::Invalid)?;

    let authority = authority(context, read.webhook_ca.as_ref(), &mesh.namespace, now).await?;
    let serves = live.serves(&mesh.namespace, &mesh.injector());
    let is_there = |resource: ApiResource, name: String| live.get(&resource, None, &name).is_some();
    let admission = Admission {
        injection: serves
            || is_there(ApiResource::erase::<MutatingWebhookConfiguration>(&()), mesh.mutating_configuration()),
        validation: serves
            || is_there(ApiResource::erase::<ValidatingWebhookConfiguration>(&()), mesh.validating_configuration()),
    };
    let objects = build::build(&mesh, &authority, admission).map_err(Error::from)?;
    let before = match before(&read, &mesh, &context.related_images) {
        Some(before) => Some(build::build(&before, &authority, admission).map_err(Error::from)?),
        None => None,
    };

    let grown = Record::of(objects.iter().chain(before.iter().flatten())).grown(install);
    write_record(context, install, &grown).await?;

    let names: Vec<String> = installs.iter().map(ResourceExt::name_any).collect();
    let (objects, of_addons) = addons::apply::split(objects);
    let mut outcomes = apply::apply(client, live, &mesh, objects, before.as_deref(), &names).await?;
    context.authorities.note(&mesh.namespace, authority.clone());
    let pods = live.pods_of(&mesh.name);
    let renewed = tokens::renew(client, &outcomes, &pods);
    for deployment in renewed.await.map_err(|(name, source)| Error::Renew { name, source })? {
        let text = format!(
            "Starting the pods of Deployment {deployment} anew: their ServiceAccount was deleted, and its tokens with it."
        );
        publish(context, &event(EventType::Warning, "Restored", &text), &install.object_ref(&())).await;
    }
    let (more, addon_troubles) = addons::apply::apply(client, live, &mesh, of_addons, &names).await;
    outcomes.extend(more);

    let owned = live.owned_by(&mesh.name);
    // What the version before needs stays until it has gone.
    let still = before.iter().flatten().filter(|_| outcomes.iter().any(|outcome| outcome.later));
    let kept: Vec<&Rendered> = outcomes.iter().map(|outcome| &outcome.rendered).chain(still).collect();
    let superfluous = prune::superfluous(&owned, kept.iter().copied());
    keep_data(context, install, &owned, &superfluous).await;
    for gone in superfluous {
        prune::delete(client, gone).await.map_err(|(object, source)| Error::Delete { object, source })?;
        let name = build::display(&gone.0, &gone.1);
        let text = format!("Deleted {name}: the spec does not ask for it any more.");
        context.made.forget_one(&mesh.uid, name);
        let secondary = Some(reference(&gone.0, &gone.1));
        let event = Event { secondary, ..event(EventType::Normal, "Pruned", &text) };
        publish(context, &event, &install.object_ref(&())).await;
    }
    let record = Record::of(kept).keeping(owned.iter().filter(|one| prune::holds_data(one)));
    if grown != record {
        write_record(context, install, &record).await?;
    }
    let again = authority.next_change(now).max(Duration::from_secs(1));
    // What an addon collides with is not watched.
    let action = Action::requeue(if addon_troubles.is_empty() { again } else { again.min(RECHECK) });
    Ok(Applied { outcomes, addon_troubles, mesh, action })
}

/// Tells of the claims that stay where an addon is switched off.
async fn keep_data(context: &Context, install: &MeshInstall, owned: &[Owned], superfluous: &[&Owned]) {
    for (resource, object) in prune::outliving(owned, superfluous) {
        let name = build::display(resource, object);
        let text = format!("Kept {name}: it holds data. Delete it when nobody needs them any more.");
        let secondary = Some(reference(resource, object));
        publish(context, &Event { secondary, ..event(EventType::Normal, "Kept", &text) }, &install.object_ref(&()))
            .await;
    }
}

/// The webhook's certificate authority as it should be now. The watch may be behind what this process has written, so
/// before anything about it changes the Secret itself is read; and it is written over what was read only.
async fn authority(
    context: &Context,
    watched: Option<&Secret>,
    namespace: &str,
    now: Timestamp,
) -> Result<WebhookCa, Error> {
    let last = || context.authorities.of(namespace);
    if watched.is_some() {
        let settled = WebhookCa::settle(watched, last(), now)?;
        if watched.and_then(|secret| secret.data.as_ref()) == Some(&settled.data()) {
            return Ok(settled);
        }
    }
    let secret = dereference::authority(&context.client, namespace)
        .await
        .map_err(request("the webhook's certificate authority cannot be read"))?;
    Ok(WebhookCa::settle(secret.as_ref(), last(), now)?)
}

/// What keeps the control plane from its certificate authority, looked at only while it is not ready.
async fn authority_trouble(
    context: &Context,
    namespace: &str,
    outcomes: &[Outcome],
    now: Timestamp,
) -> Result<Option<String>, Error> {
    if status::control_plane_available(outcomes) {
        return Ok(None);
    }
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let unread = || request("the mesh's certificate authority cannot be read");
    let plugged = secrets.get_opt(resources::PLUGGED_CA_SECRET).await.map_err(unread())?;
    let own = secrets.get_opt(resources::CA_SECRET).await.map_err(unread())?;
    Ok(authority::trouble(namespace, plugged.as_ref(), own.as_ref(), now))
}

/// The same mesh in the version in force, while it goes to another.
fn before(read: &Dereferenced, mesh: &Mesh, related: &RelatedImages) -> Option<Mesh> {
    let in_force = read.in_force.clone().filter(|version| *version != mesh.version)?;
    let spec = MeshInstallSpec { version: in_force, ..read.spec.clone() };
    validate(&Dereferenced { spec, ..read.clone() }, related).ok()
}

async fn as_watched(context: &Context, install: &MeshInstall) -> Observed {
    let name = install.name_any();
    let in_force = install.status.as_ref().and_then(|status| status.version.as_deref());
    let (owned, pods) = (context.live.owned_by(&name), context.live.pods_of(&name));
    let versions = Versions::unsettled(in_force);
    let mut observed = Observed::from_watches(&owned, pods, usage(context, install), versions);
    observed.definitions = context.definitions.look(&context.client, &context.live).await;
    observed
}

/// Who uses the revision of this MeshInstall.
pub(super) fn usage(context: &Context, install: &MeshInstall) -> Usage {
    let mut names = tag::pointing_at(install, &context.live.installs(), &context.live.tags());
    names.insert(install.spec.revision.clone());
    context.live.usage(&names, &sidecar_version(context, install))
}

/// What sidecars of new pods call their version: what the webhook is told, which in an upgrade comes after the webhook.
pub(crate) fn sidecar_version(context: &Context, install: &MeshInstall) -> String {
    let (kind, name) = (ApiResource::erase::<ConfigMap>(&()), resources::injector(&install.spec.revision));
    let settings = context.live.get(&kind, Some(&install.spec.namespace), &name);
    let injected = settings.and_then(|settings| upgrade::injected_version(&settings));
    injected.unwrap_or_else(|| install.spec.image_tag().to_owned())
}

/// Tells of what was put back: somebody has edited or deleted it and should know what to do instead.
async fn report(context: &Context, install: &MeshInstall, outcomes: &[Outcome]) {
    context
        .metrics
        .written(outcomes.iter().filter(|o| matches!(o.done, Done::Created | Done::Changed | Done::Restored)).count());
    let uid = install.uid().unwrap_or_default();
    for outcome in outcomes.iter().filter(|outcome| outcome.current.is_some()) {
        let Rendered { resource, object, .. } = &outcome.rendered;
        let known = context.made.note(&uid, outcome.rendered.display());
        if outcome.done != Done::Restored && !(outcome.done == Done::Created && known) {
            continue;
        }
        let advice = match resource.kind.as_str() {
            "ConfigMap" if matches!(outcome.rendered.component, Component::Configuration) => {
                "change spec.meshConfig or spec.proxy of the MeshInstall instead"
            }
            _ => "change the MeshInstall instead, or annotate the object with install.forestay.dev/ignore: \"true\"",
        };
        let note = format!("Put {} back: {advice}.", outcome.rendered.display());
        let secondary = Some(reference(resource, object));
        let event = Event { secondary, ..event(EventType::Warning, "Restored", &note) };
        publish(context, &event, &install.object_ref(&())).await;
    }
}

/// Writes the status, and an event when Ready or the state of the addons has changed.
async fn settle(
    context: &Context,
    install: &MeshInstall,
    observed: &Observed,
    reconciled: Verdict,
    now: Timestamp,
) -> Result<(), Error> {
    let previous = install.status.as_ref();
    let status = status::status(observed, reconciled, install.metadata.generation, previous, &install.name_any(), now);
    if let Some((kind, reason, note)) = upgrade_news(previous, &status) {
        info!(meshinstall = %install.name_any(), reason, "{note}");
        publish(context, &event(kind, reason, &note), &install.object_ref(&())).await;
    }
    for of in [ConditionType::Ready, ConditionType::AddonsReady] {
        let before = previous.and_then(|previous| status::find(previous, of));
        let condition = status::find(&status, of);
        let changed = condition.map(|c| (&c.status, &c.reason)) != before.map(|c| (&c.status, &c.reason));
        // Most meshes have none, and a first look at them is no news.
        let news = |c: &&Condition| of == ConditionType::Ready || !quiet_about_addons(&c.reason);
        if let Some(condition) = condition.filter(|_| changed).filter(news) {
            tell(context, install, condition).await;
        }
    }
    write_status(context, install, status).await
}

/// Whether what is said of addons is not worth an event.
fn quiet_about_addons(reason: &str) -> bool {
    [Reason::NoAddons, Reason::Reconciling].iter().any(|quiet| quiet.as_str() == reason)
}

/// A condition that has changed, in the log and as an event.
async fn tell(context: &Context, install: &MeshInstall, condition: &Condition) {
    let Condition { type_, status, reason, message, .. } = condition;
    info!(meshinstall = %install.name_any(), generation = install.metadata.generation, condition = %type_, %reason, "{message}");
    let waiting = [
        Reason::Progressing,
        Reason::WaitingForControlPlane,
        Reason::WaitingForEndpoints,
        Reason::NotFound,
        Reason::Upgrading,
    ];
    let normal = status != "False" || waiting.iter().any(|waiting| waiting.as_str() == reason);
    let kind = if normal { EventType::Normal } else { EventType::Warning };
    publish(context, &event(kind, reason, message), &install.object_ref(&())).await;
}

/// What there is to tell of an upgrade: its beginning, its end, and what keeps it from its end.
fn upgrade_news(
    before: Option<&MeshInstallStatus>,
    now: &MeshInstallStatus,
) -> Option<(EventType, &'static str, String)> {
    let upgrade = |status: &MeshInstallStatus| status::find(status, ConditionType::UpToDate).cloned();
    let (was, is) = (before.and_then(upgrade).map(|was| was.reason).unwrap_or_default(), upgrade(now)?);
    let under_way = |reason: &str| [Reason::Upgrading, Reason::UpgradeStopped].iter().any(|one| one.as_str() == reason);
    let from = before.and_then(|before| before.version.as_deref());
    if let (Some(from), Some(to)) = (from, now.version.as_deref())
        && from != to
    {
        return Some((EventType::Normal, "Upgraded", format!("Upgraded from {from} to {to}.")));
    }
    if is.reason == Reason::UpgradeStopped.as_str() && was != is.reason {
        return Some((EventType::Warning, Reason::UpgradeStopped.as_str(), is.message));
    }
    if under_way(&is.reason) && !under_way(&was) {
        return Some((EventType::Normal, "UpgradeStarted", is.message));
    }
    if under_way(&was) && !under_way(&is.reason) && is.reason != Reason::Reconciling.as_str() {
        let from = from.unwrap_or_default();
        return Some((
            EventType::Normal,
            "UpgradeEnded",
            format!("The mesh stays at version {from}, or goes back to it."),
        ));
    }
    None
}

/// Writes the status if it says anything new.
pub(super) async fn write_status(
    context: &Context,
    install: &MeshInstall,
    status: MeshInstallStatus,
) -> Result<(), Error> {
    if install.status.as_ref() == Some(&status) {
        return Ok(());
    }
    patch_status(context, &install.name_any(), &status).await
}

pub(crate) async fn patch_status(context: &Context, name: &str, status: &MeshInstallStatus) -> Result<(), Error> {
    let api: Api<DeserializeGuard<MeshInstall>> = Api::all(context.client.clone());
    let patch = json!({
        "apiVersion": MeshInstall::api_version(&()),
        "kind": MeshInstall::kind(&()),
        "metadata": {"name": name},
        "status": status,
    });
    let params = PatchParams::apply(resources::OPERATOR).force();
    match api.patch_status(name, &params, &Patch::Apply(patch)).await {
        Ok(DeserializeGuard(written)) => {
            if let Ok(written) = written {
                context.written.note(&written);
            }
            Ok(())
        }
        // It has gone meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(source) => Err(request("the status cannot be written")(source)),
    }
}

/// Writes the record of what the mesh consists of, if it says anything new.
async fn write_record(context: &Context, install: &MeshInstall, record: &Record) -> Result<(), Error> {
    let Some(patch) = record.patch(install) else { return Ok(()) };
    let api: Api<DeserializeGuard<MeshInstall>> = Api::all(context.client.clone());
    match api.patch_metadata(&install.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        // It has gone meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(source) => Err(request("the record of what is installed cannot be written")(source)),
    }
}

async fn add_finalizer(context: &Context, install: &MeshInstall) -> Result<(), Error> {
    if finalizer(install).is_some() {
        return Ok(());
    }
    let mut all = install.finalizers().to_vec();
    all.push(resources::FINALIZER.to_owned());
    // Not over somebody else's that has come since: then this is refused, and tried again with what is there.
    let patch = json!({"metadata": {"finalizers": all, "resourceVersion": install.resource_version()}});
    patch_finalizers(context, install, Patch::Merge(patch)).await
}

pub(crate) async fn remove_finalizer(context: &Context, install: &MeshInstall) -> Result<(), Error> {
    let Some(index) = finalizer(install) else { return Ok(()) };
    let path = format!("/metadata/finalizers/{index}");
    let patch = json!([{"op": "test", "path": path, "value": resources::FINALIZER}, {"op": "remove", "path": path}]);
    let patch = serde_json::from_value(patch).map_err(RenderError::from)?;
    patch_finalizers(context, install, Patch::Json(patch)).await
}

/// Where ours is.
pub(super) fn finalizer(install: &MeshInstall) -> Option<usize> {
    install.finalizers().iter().position(|finalizer| finalizer == resources::FINALIZER)
}

async fn patch_finalizers(context: &Context, install: &MeshInstall, patch: Patch<Value>) -> Result<(), Error> {
    let api: Api<DeserializeGuard<MeshInstall>> = Api::all(context.client.clone());
    match api.patch(&install.name_any(), &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(source) => Err(request("the finalizers cannot be changed")(source)),
    }
}

/// An object that does not fit its own type; the schema keeps such out, unless the CRD is of another version.
async fn report_unreadable(context: &Context, invalid: &InvalidObject) -> Result<Action, Error> {
    let name = invalid.metadata.name.clone().unwrap_or_default();
    warn!(meshinstall = %name, error = %invalid.error, "cannot be read");
    let message =
        format!("spec: {}; are the CustomResourceDefinitions those of operator {}?", invalid.error, names::VERSION);
    let raw: Api<DynamicObject> = Api::all_with(context.client.clone(), &ApiResource::erase::<MeshInstall>(&()));
    let Some(found) = raw.get_opt(&name).await.map_err(request("the MeshInstall cannot be read"))? else {
        return Ok(Action::await_change());
    };
    let status = found.data.get("status").cloned().unwrap_or_default();
    let part = |key: &str| status.get(key).cloned().unwrap_or_default();
    let in_force = (from_value(part("version")).ok(), from_value(part("images")).ok());
    let status = status::unreadable(&message, invalid.metadata.generation, in_force, Timestamp::now());
    patch_status(context, &name, &status).await?;
    Ok(Action::await_change())
}

/// The object that an event is about besides the MeshInstall. Events that differ in nothing else are counted as one.
fn reference(resource: &ApiResource, object: &DynamicObject) -> ObjectReference {
    ObjectReference {
        api_version: Some(resource.api_version.clone()),
        kind: Some(resource.kind.clone()),
        namespace: object.namespace(),
        name: Some(object.name_any()),
        ..ObjectReference::default()
    }
}

pub(crate) fn event(type_: EventType, reason: &str, note: &str) -> Event {
    // The API takes at most 1 kB.
    let end = (0..=1000.min(note.len())).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
    Event {
        type_,
        reason: reason.to_owned(),
        note: note.get(..end).map(str::to_owned),
        action: "Reconcile".into(),
        secondary: None,
    }
}

/// Tells a person who asks `kubectl describe`. An event that cannot be written is not worth failing for.
pub(crate) async fn publish(context: &Context, event: &Event, about: &ObjectReference) {
    if let Err(error) = context.recorder.publish(event, about).await {
        warn!(%error, reason = event.reason, "event cannot be written");
    }
}
