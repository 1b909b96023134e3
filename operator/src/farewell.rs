//! What the operator says when it ends for good: its Deployment is gone, or scaled to nothing. Nobody would speak about the
//! MeshInstalls any more, and what their status says would stand there for ever.
//!
//! When the Deployment is gone the operator takes its finalizers with it: a MeshInstall that is deleted then goes at once,
//! and what was made for it follows by its owner references, in no order. Otherwise the deletion would wait for somebody
//! who does not come.

use crds::install::condition::{ConditionType, Reason};
use crds::install::{MeshInstall, MeshInstallStatus};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};
use names::resources;
use tracing::{info, warn};

use crate::answer::words;
use crate::meshinstall::reconcile::{Context, event, patch_status, publish, remove_finalizer};
use crate::meshinstall::status::{Truth, Verdict, condition};

/// How the operator ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its Deployment is gone, or on its way out.
    Removed,
    /// Its Deployment is there and wants no pods.
    SwitchedOff,
    /// Another pod takes over: a roll-out, a drained node.
    Replaced,
}

impl End {
    fn of(deployment: Option<&DynamicObject>) -> Self {
        match deployment {
            None => Self::Removed,
            Some(deployment) if deployment.metadata.deletion_timestamp.is_some() => Self::Removed,
            Some(deployment) if deployment.data["spec"]["replicas"] == 0 => Self::SwitchedOff,
            Some(_) => Self::Replaced,
        }
    }

    /// What a person is told about one MeshInstall; nothing when somebody else goes on.
    fn words(self, install: &MeshInstall) -> Option<String> {
        let name = install.name_any();
        let deleted = install.metadata.deletion_timestamp.is_some();
        let text = match self {
            Self::Replaced => return None,
            Self::Removed if deleted => {
                "The operator was removed while the mesh was being deleted: what is left of it goes by \
                 its owner references, in no order."
                    .to_owned()
            }
            Self::Removed => format!(
                "The operator was removed. What runs goes on, and nothing keeps it as the spec says. Install the operator \
                 again; or kubectl delete mi {name}: the mesh then goes by its owner references, in no order."
            ),
            Self::SwitchedOff if deleted => format!(
                "The operator was scaled to nothing, and the deletion waits for it. Scale it up; or let the mesh go in no \
                 order: kubectl patch mi {name} --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'"
            ),
            Self::SwitchedOff => {
                "The operator was scaled to nothing. What runs goes on, and nothing keeps it as the spec \
                 says; a deletion would wait. Scale it up."
                    .to_owned()
            }
        };
        Some(text)
    }
}

/// The status as it was, but for the two conditions that nobody answers for any more.
fn parting(status: MeshInstallStatus, text: &str, generation: Option<i64>, now: Timestamp) -> MeshInstallStatus {
    let verdict = Verdict { truth: Truth::Unknown, reason: Reason::OperatorGone, message: text.to_owned() };
    let before = status.conditions.clone();
    let mut status = MeshInstallStatus { state: Some(Reason::OperatorGone.as_str().to_owned()), ..status };
    for of in [ConditionType::Reconciled, ConditionType::Ready] {
        let said = condition(of, &verdict, generation, &before, now);
        match status.conditions.iter_mut().find(|condition| condition.type_ == of.as_str()) {
            Some(condition) => *condition = said,
            None => status.conditions.push(said),
        }
    }
    status
}

/// Says farewell, if this is one. What cannot be said any more, for want of rights, is left unsaid.
pub(crate) async fn say(context: &Context, namespace: &str, pod: &str) {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let kind = ApiResource::erase::<Deployment>(&());
    let deployments: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let end = async {
        // On somebody's desk there is no Deployment, and nothing follows from that.
        let in_a_pod = pods.get_metadata_opt(pod).await?.is_some();
        let deployment = deployments.get_opt(resources::OPERATOR).await?;
        Ok::<End, kube::Error>(if in_a_pod { End::of(deployment.as_ref()) } else { End::Replaced })
    };
    let end = match end.await {
        Ok(end) => end,
        Err(error) => {
            warn!("whether another operator follows cannot be told: {}", words(&error));
            return;
        }
    };
    for install in context.live.installs() {
        let (Some(text), name) = (end.words(&install), install.name_any()) else { continue };
        info!(meshinstall = %name, "{text}");
        let said = event(EventType::Warning, Reason::OperatorGone.as_str(), &text);
        publish(context, &said, &install.object_ref(&())).await;
        let status = context.written.over(&install).status.clone().unwrap_or_default();
        let status = parting(status, &text, install.metadata.generation, Timestamp::now());
        let mut result = patch_status(context, &name, &status).await;
        if result.is_ok() && end == End::Removed {
            result = remove_finalizer(context, &install).await;
        }
        if let Err(error) = result {
            warn!(meshinstall = %name, "farewell: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::install::MeshInstall;
    use jiff::Timestamp;
    use kube::api::DynamicObject;
    use serde_json::json;

    use super::{End, parting};
    use crate::meshinstall::status::first_sight;

    fn deployment(value: serde_json::Value) -> DynamicObject {
        serde_json::from_value(value).expect("a Deployment")
    }

    #[test]
    fn how_it_ends_is_told_by_its_deployment() {
        let rows = [
            ("gone", None, End::Removed),
            (
                "on its way out",
                Some(
                    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 1, "selector": {}, "template": {}}}),
                ),
                End::Removed,
            ),
            (
                "scaled to nothing",
                Some(json!({"spec": {"replicas": 0, "selector": {}, "template": {}}})),
                End::SwitchedOff,
            ),
            ("rolled out", Some(json!({"spec": {"replicas": 1, "selector": {}, "template": {}}})), End::Replaced),
        ];
        for (name, value, end) in rows {
            assert_eq!(End::of(value.map(deployment).as_ref()), end, "{name}");
        }
    }

    #[test]
    fn each_end_says_what_to_do_and_a_roll_out_says_nothing() {
        let install = |deleted: bool| -> MeshInstall {
            let mut object = json!({
                "apiVersion": "install.forestay.dev/v1alpha1", "kind": "MeshInstall",
                "metadata": {"name": "one"}, "spec": {},
            });
            if deleted {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            serde_json::from_value(object).expect("a MeshInstall")
        };
        for (end, deleted, says) in [
            (End::Removed, false, "kubectl delete mi one"),
            (End::Removed, true, "owner references"),
            (End::SwitchedOff, false, "Scale it up"),
            (End::SwitchedOff, true, "kubectl patch mi one --type=merge -p '{\"metadata\":{\"finalizers\":null}}'"),
        ] {
            let text = end.words(&install(deleted)).expect("words");
            assert!(text.contains(says), "{end:?}: {text}");
        }
        assert_eq!(End::Replaced.words(&install(true)), None);
    }

    #[test]
    fn nobody_answers_for_ready_any_more() {
        let now = Timestamp::UNIX_EPOCH;
        let status = parting(first_sight(Some(1), now), "gone", Some(1), now);
        let said: Vec<&str> =
            status.conditions.iter().filter(|c| c.reason == "OperatorGone").map(|c| c.type_.as_str()).collect();
        assert_eq!(said, ["Reconciled", "Ready"]);
        assert_eq!(status.conditions.len(), first_sight(Some(1), now).conditions.len());
        assert_eq!(status.state.as_deref(), Some("OperatorGone"));
    }
}
