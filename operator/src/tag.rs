//! MeshRevisionTags. A tag is rendered with the MeshInstall that it points at, as a webhook configuration of its own
//! ([`crate::meshinstall::build`]); here is which tags those are, and the status of each tag.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crds::install::condition::{ConditionType, Reason};
use crds::install::{MeshInstall, MeshRevisionTag, MeshRevisionTagStatus};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Api, ApiResource, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use names::{labels, resources};
use serde_json::json;
use tracing::warn;

use crate::answer::words;
use crate::meshinstall::reconcile::{Context, sidecar_version};
use crate::meshinstall::status::{Truth, Verdict, condition};
use crate::usage::Usage;

/// After a status could not be written.
const RETRY: Duration = Duration::from_secs(5);

/// The names of the tags that point at a MeshInstall and that can be had, sorted.
pub(crate) fn pointing_at(
    install: &MeshInstall,
    installs: &[MeshInstall],
    tags: &[MeshRevisionTag],
) -> BTreeSet<String> {
    let mine = |tag: &&MeshRevisionTag| tag.spec.target_ref.name == install.name_any();
    let free = |tag: &&MeshRevisionTag| tag.metadata.deletion_timestamp.is_none() && taken(tag, installs).is_none();
    tags.iter().filter(mine).filter(free).map(ResourceExt::name_any).collect()
}

/// The MeshInstall whose revision has the tag's name: two webhooks would take the same pods.
fn taken<'a>(tag: &MeshRevisionTag, installs: &'a [MeshInstall]) -> Option<&'a MeshInstall> {
    installs.iter().find(|install| install.spec.revision == tag.name_any())
}

/// What is known about a tag besides itself.
#[derive(Clone, Debug, Default)]
struct Observed<'a> {
    installs: &'a [MeshInstall],
    /// The MeshInstall that its webhook configuration was made for.
    made_for: Option<String>,
    usage: Usage,
}

/// The status of a tag. Pure.
fn status(tag: &MeshRevisionTag, observed: &Observed<'_>, now: Timestamp) -> MeshRevisionTagStatus {
    let (name, target) = (tag.name_any(), &tag.spec.target_ref.name);
    let install = observed.installs.iter().find(|install| install.name_any() == *target);
    let ready = if let Some(other) = taken(tag, observed.installs) {
        let message = format!(
            "MeshInstall {} has the revision {name:?}, so namespaces with istio.io/rev={name} belong to it; choose another \
             name for the tag",
            other.name_any()
        );
        Verdict::failed(Reason::NameAlreadyExists, message)
    } else if let Some(install) = install {
        if observed.made_for.as_ref() == Some(target) {
            let message =
                format!("Pods of namespaces with istio.io/rev={name} get revision {:?}.", install.spec.revision);
            Verdict { truth: Truth::True, reason: Reason::Healthy, message }
        } else {
            let message = format!("waits until the webhook of MeshInstall {target} answers");
            Verdict::failed(Reason::WaitingForRevision, message)
        }
    } else {
        let message =
            format!("spec.targetRef.name: there is no MeshInstall {target:?}; create it, or point the tag at another");
        Verdict::failed(Reason::RefNotFound, message)
    };
    let served = ready.truth == Truth::True;
    let previous = tag.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let in_use = crate::meshinstall::status::in_use(&observed.usage);
    MeshRevisionTagStatus {
        observed_generation: tag.metadata.generation,
        revision: install.filter(|_| served).map(|install| install.spec.revision.clone()),
        conditions: [(ConditionType::Ready, ready), (ConditionType::InUse, in_use)]
            .iter()
            .map(|(of, verdict)| condition(*of, verdict, tag.metadata.generation, previous, now))
            .collect(),
    }
}

/// Keeps the status of every tag, until `stop` resolves. `changes` bring all of them up again.
pub(crate) async fn run(
    client: Client,
    context: Arc<Context>,
    changes: impl futures::Stream<Item = ()> + Send + Sync + 'static,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let tags: Api<DeserializeGuard<MeshRevisionTag>> = Api::all(client);
    Controller::new(tags, watcher::Config::default())
        .reconcile_all_on(changes)
        .graceful_shutdown_on(stop)
        .run(
            reconcile,
            |tag, error, _| {
                warn!(tag = %tag.name_any(), "the status cannot be written: {}", words(error));
                Action::requeue(RETRY)
            },
            context,
        )
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn reconcile(tag: Arc<DeserializeGuard<MeshRevisionTag>>, context: Arc<Context>) -> Result<Action, kube::Error> {
    context.live.ready().await;
    // One that cannot be read has been refused by its schema, or is of a newer operator's; there is no status to give.
    let Ok(tag) = &tag.0 else { return Ok(Action::await_change()) };
    if tag.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let (installs, name) = (context.live.installs(), tag.name_any());
    let kind = ApiResource::erase::<MutatingWebhookConfiguration>(&());
    let configuration = context.live.get(&kind, None, &webhook::configuration::tag_name(&name));
    let made_for = configuration.and_then(|object| object.labels().get(labels::OWNED_BY).cloned());
    let version = installs
        .iter()
        .find(|install| install.name_any() == tag.spec.target_ref.name)
        .map(|install| sidecar_version(&context, install))
        .unwrap_or_default();
    let usage = context.live.usage(&BTreeSet::from([name.clone()]), &version);
    let status = status(tag, &Observed { installs: &installs, made_for, usage }, Timestamp::now());
    if tag.status.as_ref() == Some(&status) {
        return Ok(Action::await_change());
    }
    let patch = json!({
        "apiVersion": MeshRevisionTag::api_version(&()),
        "kind": MeshRevisionTag::kind(&()),
        "metadata": {"name": name},
        "status": status,
    });
    let api: Api<DeserializeGuard<MeshRevisionTag>> = Api::all(context.client.clone());
    match api.patch_status(&name, &PatchParams::apply(resources::OPERATOR).force(), &Patch::Apply(patch)).await {
        Ok(_) => Ok(Action::await_change()),
        // It has gone meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(Action::await_change()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crds::install::{MeshInstall, MeshRevisionTag};
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{Observed, pointing_at, status};
    use crate::usage::Usage;

    fn install(name: &str, revision: &str) -> MeshInstall {
        serde_json::from_value(json!({
            "apiVersion": "install.forestay.dev/v1alpha1", "kind": "MeshInstall",
            "metadata": {"name": name}, "spec": {"revision": revision},
        }))
        .expect("a MeshInstall")
    }

    fn tag(name: &str, target: &str) -> MeshRevisionTag {
        let mut object: Value = json!({
            "apiVersion": "install.forestay.dev/v1alpha1", "kind": "MeshRevisionTag",
            "metadata": {"name": name, "generation": 2}, "spec": {"targetRef": {"name": target}},
        });
        object["spec"]["targetRef"]["kind"] = json!("MeshInstall");
        serde_json::from_value(object).expect("a MeshRevisionTag")
    }

    #[test]
    fn a_tag_says_what_it_leads_to_or_why_not() {
        let installs = [install("stable", "default"), install("next", "canary")];
        for (name, tag, made_for, truth, reason, revision) in [
            ("serves", tag("prod", "next"), Some("next"), "True", "Healthy", Some("canary")),
            ("moved, and not yet made anew", tag("prod", "stable"), Some("next"), "False", "WaitingForRevision", None),
            ("not yet made", tag("prod", "next"), None, "False", "WaitingForRevision", None),
            ("points at nothing", tag("prod", "gone"), None, "False", "RefNotFound", None),
            ("has a revision's name", tag("canary", "stable"), None, "False", "NameAlreadyExists", None),
        ] {
            let observed =
                Observed { installs: &installs, made_for: made_for.map(str::to_owned), usage: Usage::default() };
            let status = status(&tag, &observed, Timestamp::UNIX_EPOCH);
            let ready = &status.conditions[0];
            assert_eq!((ready.status.as_str(), ready.reason.as_str()), (truth, reason), "{name}: {}", ready.message);
            assert_eq!(status.revision.as_deref(), revision, "{name}");
            assert_eq!(status.observed_generation, Some(2), "{name}");
        }
    }

    #[test]
    fn which_tags_a_mesh_install_renders() {
        let installs = [install("stable", "default"), install("next", "canary")];
        let tags = [tag("prod", "next"), tag("beta", "next"), tag("canary", "next"), tag("old", "stable")];
        let of = |index: usize| pointing_at(&installs[index], &installs, &tags);
        assert_eq!(of(0), BTreeSet::from(["old".to_owned()]));
        assert_eq!(of(1), BTreeSet::from(["beta".to_owned(), "prod".to_owned()]), "canary is a revision's name");
    }
}
