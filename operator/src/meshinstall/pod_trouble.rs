//! Why a Deployment's pods do not run, in the words of scheduler, kubelet and API server. Pure.

use std::sync::Arc;

use crds::install::condition::Reason;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ContainerStatus;
use kube::ResourceExt;

use crate::pod::Pod;

/// The first thing that keeps the Deployment's pods from running; None while they are merely on their way.
pub(crate) fn trouble(deployment: &Deployment, pods: &[Arc<Pod>]) -> Option<(Reason, String)> {
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    if let Some(refused) = conditions.iter().find(|c| c.type_ == "ReplicaFailure" && c.status == "True") {
        return Some((Reason::PodRefused, refused.message.clone().unwrap_or_default()));
    }
    let mut own: Vec<&Arc<Pod>> = pods.iter().filter(|pod| is_of(pod, deployment)).collect();
    // One answer, whatever order the watch has them in.
    own.sort_by_key(|pod| pod.name_any());
    own.into_iter().find_map(|pod| pod_trouble(pod))
}

fn is_of(pod: &Pod, deployment: &Deployment) -> bool {
    let selector = deployment.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
    pod.namespace() == deployment.namespace()
        && pod.metadata.deletion_timestamp.is_none()
        && selector.is_some_and(|labels| labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value)))
}

fn pod_trouble(pod: &Pod) -> Option<(Reason, String)> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let words = condition.message.as_deref().unwrap_or("no node takes it");
        return Some((Reason::Unschedulable, format!("pod {}: {words}", pod.name_any())));
    }
    let init = status.init_container_statuses.iter().flatten();
    let containers = init.chain(status.container_statuses.iter().flatten());
    let found = containers.into_iter().find_map(container_trouble);
    found.map(|(reason, words)| (reason, format!("pod {}, {words}", pod.name_any())))
}

fn container_trouble(container: &ContainerStatus) -> Option<(Reason, String)> {
    let state = container.state.as_ref()?;
    let name = &container.name;
    if let Some(waiting) = &state.waiting {
        let what = waiting.reason.as_deref().unwrap_or_default();
        let words = waiting.message.as_deref().unwrap_or_default();
        let reason = match what {
            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "RegistryUnavailable" => {
                Reason::ImagePullFailed
            }
            "CrashLoopBackOff" => Reason::CrashLoop,
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "StartError" => {
                Reason::ContainerConfigError
            }
            _ => return None,
        };
        let image = &container.image;
        let text = match reason {
            Reason::ImagePullFailed => format!("container {name}: {what} of {image}: {words}"),
            Reason::CrashLoop => {
                format!("container {name}: {what}{}", last_end(container).unwrap_or_else(|| format!(": {words}")))
            }
            _ => format!("container {name}: {what}: {words}"),
        };
        return Some((reason, text));
    }
    // Between two starts, before the kubelet calls it a back-off.
    let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
    let text = format!("container {name}: ended with exit code {}{}", ended.exit_code, words(ended.message.as_deref()));
    Some((Reason::CrashLoop, text))
}

fn last_end(container: &ContainerStatus) -> Option<String> {
    let ended = container.last_state.as_ref()?.terminated.as_ref()?;
    let why = ended.reason.as_deref().filter(|reason| *reason != "Error");
    let why = why.map(|reason| format!(" ({reason})")).unwrap_or_default();
    Some(format!(
        " after {} restarts, last exit code {}{why}{}",
        container.restart_count,
        ended.exit_code,
        words(ended.message.as_deref())
    ))
}

fn words(message: Option<&str>) -> String {
    message.map(str::trim).filter(|m| !m.is_empty()).map(|m| format!(": {m}")).unwrap_or_default()
}
