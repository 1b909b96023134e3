//! The shell around the stages of a deletion: calls them one after the other, and takes the finalizer away at the end.

use std::time::Duration;

use crds::install::condition::Reason;
use crds::install::{MeshInstall, Uninstall};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ApiResource;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use names::resources;
use tracing::{info, warn};

use super::build;
use super::dereference;
use super::finalize::{self, Next};
use super::prune;
use super::purge::{Extent, purge};
use super::reconcile::{Context, Error, event, finalizer, publish, remove_finalizer, request, usage, write_status};
use super::status;
use crate::guard;

/// How soon a deletion is looked at again should a watch miss an event.
const DELETION_RECHECK: Duration = Duration::from_secs(5);

/// Takes the mesh away, one stage a call; the watches bring the next call.
pub(super) async fn delete(context: &Context, install: &MeshInstall) -> Result<Action, Error> {
    let name = install.name_any();
    if finalizer(install).is_none() {
        return Ok(Action::await_change());
    }
    let now = Timestamp::now();
    let (mut owned, pods) = (context.live.owned_by(&name), context.live.pods_of(&name));
    if install.spec.uninstall == Uninstall::Keep {
        owned.retain(|one| !prune::holds_data(one));
    }
    let usage = usage(context, install);
    // One for which nothing was made, for example a second one of a revision, takes nothing away from anybody.
    if let Some(wait) = finalize::grace(install, &usage, now).filter(|_| !owned.is_empty()) {
        let text = format!(
            "Revision {} is in use: {usage}. It is taken away in {} s; move the workloads to another revision before. To \
             take it away at once: kubectl annotate mi {name} {}=true",
            install.spec.revision,
            wait.as_secs(),
            names::annotations::FORCE_DELETE,
        );
        let told = install.status.as_ref().filter(|status| status.state.as_deref() == Some(Reason::Deleting.as_str()));
        if told.is_none() {
            warn!(meshinstall = %name, "{text}");
            publish(
                context,
                &event(EventType::Warning, Reason::ReferencedByWorkloads.as_str(), &text),
                &install.object_ref(&()),
            )
            .await;
        }
        // An edit of the spec comes too late, and has been seen.
        if told.is_none_or(|status| status.observed_generation != install.metadata.generation) {
            let text =
                format!("Deleting: waiting until nobody uses the revision, at most {} s: {usage}.", wait.as_secs());
            let status = status::deleting(&text, install.metadata.generation, install.status.as_ref(), now);
            write_status(context, install, status).await?;
        }
        return Ok(Action::requeue(wait));
    }
    let (progress, action) = match finalize::next(&owned, &pods, now) {
        Next::Delete { objects, progress } => {
            for object in objects {
                prune::delete(&context.client, object)
                    .await
                    .map_err(|(object, source)| Error::Delete { object, source })?;
            }
            (progress, Action::requeue(DELETION_RECHECK))
        }
        Next::Wait { progress, at_most } => (progress, Action::requeue(at_most)),
        Next::Done => return finish(context, install).await,
    };
    let status = status::deleting(&progress, install.metadata.generation, install.status.as_ref(), now);
    write_status(context, install, status).await?;
    Ok(action)
}

/// The last step: the Secret that revisions share goes with the last of them, then the finalizer.
async fn finish(context: &Context, install: &MeshInstall) -> Result<Action, Error> {
    let namespace = &install.spec.namespace;
    let others = dereference::others(install, &context.live.installs());
    let last_of_its_namespace = !others.iter().any(|other| other.namespace == *namespace);
    if last_of_its_namespace {
        delete_authority(context, namespace).await?;
    }
    let extent = Extent { last_of_its_namespace, last_of_all: others.is_empty() };
    let left = match install.spec.uninstall {
        Uninstall::Keep => None,
        Uninstall::Purge => Some(
            purge(&context.client, namespace, extent)
                .await
                .map_err(|(object, source)| Error::Delete { object, source })?,
        ),
    };
    let claims: Vec<String> = context
        .live
        .owned_by(&install.name_any())
        .iter()
        .filter(|one| prune::holds_data(one))
        .map(|(resource, object)| build::display(resource, object))
        .collect();
    let kept = finalize::kept(namespace, left.as_deref().map(|left| (extent, left)), &claims);
    let text = format!("The mesh is gone. {kept}.");
    publish(context, &event(EventType::Normal, "Deleted", &text), &install.object_ref(&())).await;
    if extent.last_of_all {
        guard::remove(&context.client).await.map_err(request("the guard cannot be taken away"))?;
    }
    remove_finalizer(context, install).await?;
    context.made.forget(&install.uid().unwrap_or_default());
    info!(meshinstall = %install.name_any(), "deleted");
    Ok(Action::await_change())
}

/// Deletes the webhook's certificate authority, if it is ours.
async fn delete_authority(context: &Context, namespace: &str) -> Result<(), Error> {
    context.authorities.forget(namespace);
    let resource = ApiResource::erase::<Secret>(&());
    let Some(secret) = context.live.get(&resource, Some(namespace), resources::WEBHOOK_CA_SECRET) else {
        return Ok(());
    };
    prune::delete(&context.client, &(resource, secret))
        .await
        .map_err(|(object, source)| Error::Delete { object, source })
}
