//! The shell around the stages of a deletion: calls them one after the other, and takes the finalizer away at the end.

use std::sync::Arc;
use std::time::Duration;

use crds::install::condition::Reason;
use crds::install::{MeshInstall, Uninstall};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use names::{labels, resources};
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
    // Asked, not looked up: a MeshInstall of which the watch has not told yet is there all the same, and what goes with the
    // last of them, with a purge all of Istio's rules, does not come back.
    let api: Api<DeserializeGuard<MeshInstall>> = Api::all(context.client.clone());
    let all = api.list(&ListParams::default()).await.map_err(request("the MeshInstalls cannot be listed"))?;
    let extent = extent(install, &all.items);
    if extent.last_of_its_namespace {
        delete_authority(context, namespace).await?;
    }
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
    context.written.forget(&install.name_any());
    info!(meshinstall = %install.name_any(), "deleted");
    Ok(Action::await_change())
}

/// What goes with a MeshInstall, of all that are there. One that cannot be read may be of any namespace.
fn extent(install: &MeshInstall, all: &[DeserializeGuard<MeshInstall>]) -> Extent {
    let readable: Vec<MeshInstall> = all.iter().filter_map(|one| one.0.clone().ok()).collect();
    let others = dereference::others(install, &readable);
    let unreadable = readable.len() < all.len();
    Extent {
        last_of_its_namespace: !unreadable && !others.iter().any(|other| other.namespace == install.spec.namespace),
        last_of_all: !unreadable && others.is_empty(),
    }
}

/// Deletes the webhook's certificate authority, if it is ours. It may have been made a moment ago, before the watch could tell.
async fn delete_authority(context: &Context, namespace: &str) -> Result<(), Error> {
    context.authorities.forget(namespace);
    let resource = ApiResource::erase::<Secret>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let found = api.get_opt(resources::WEBHOOK_CA_SECRET).await;
    let found = found.map_err(request("the webhook's certificate authority cannot be read"))?;
    let ours = |secret: &DynamicObject| {
        secret.labels().get(labels::KUBERNETES_MANAGED_BY).is_some_and(|manager| manager == resources::OPERATOR)
    };
    let Some(secret) = found.filter(ours) else { return Ok(()) };
    prune::delete(&context.client, &(resource, Arc::new(secret)))
        .await
        .map_err(|(object, source)| Error::Delete { object, source })
}

#[cfg(test)]
mod tests {
    use crds::install::MeshInstall;
    use kube::core::DeserializeGuard;
    use serde_json::{Value, json};

    use super::{Extent, extent};

    fn install(name: &str, namespace: &str) -> Value {
        json!({
            "apiVersion": "install.forestay.dev/v1alpha1", "kind": "MeshInstall",
            "metadata": {"name": name, "uid": name}, "spec": {"namespace": namespace},
        })
    }

    #[test]
    fn what_goes_with_the_last_stays_while_there_is_another() {
        let mut leaving = install("leaving", "mesh");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let mut unreadable = install("unreadable", "elsewhere");
        unreadable["spec"] = json!({"namespace": 7});
        for (name, others, last_of_its_namespace, last_of_all) in [
            ("alone", vec![], true, true),
            ("another beside it", vec![install("other", "mesh")], false, false),
            ("another elsewhere", vec![install("other", "elsewhere")], true, false),
            ("another that goes, too", vec![leaving], true, true),
            ("one that cannot be read", vec![unreadable], false, false),
        ] {
            let own: MeshInstall = serde_json::from_value(install("own", "mesh")).expect("a MeshInstall");
            let all = others.into_iter().chain([install("own", "mesh")]);
            let all: Vec<DeserializeGuard<MeshInstall>> =
                all.map(|one| serde_json::from_value(one).expect("guarded")).collect();
            assert_eq!(extent(&own, &all), Extent { last_of_its_namespace, last_of_all }, "{name}");
        }
    }
}
