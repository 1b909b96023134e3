//! `/inject`: a review of a pod comes in, an answer with a patch or a refusal goes out.
//!
//! Whatever comes in, an answer goes out: what cannot be read, or cannot be injected, is refused with a message that
//! says why.

use crate::envelope::{Answer, describe, open, within_limits};
use crate::inject::settings::Settings;
use crate::inject::{Request, inject, patch};

/// Answers a review. Without settings nothing is injected and nothing may pass: the pod's controller tries again.
pub fn review(body: &[u8], variables: &[(String, String)], settings: Option<&Settings>) -> Answer {
    let request = match open(body) {
        Ok(request) => request,
        Err(refusal) => return refusal,
    };
    let uid = request.uid;
    if !request.kind.group.is_empty() || !matches!(request.kind.kind.as_str(), "" | "Pod") {
        let kind = request.kind.kind;
        return Answer::refuse(uid, 400, format!("expected a Pod, got {kind}: the webhook configuration is not ours"));
    }
    if !matches!(request.operation.as_str(), "" | "CREATE") || !request.sub_resource.is_empty() {
        return Answer::allow(uid, &[]);
    }
    let Some(pod) = request.object else {
        return Answer::refuse(uid, 400, "the AdmissionReview has no object");
    };
    let Some(settings) = settings else {
        return Answer::refuse(uid, 503, "the sidecar injector has not read its settings yet; try again");
    };
    // Of the object only what concerns admission: the API server's own bookkeeping has no place in a patch.
    let about = settings.cluster.namespace(&request.namespace);
    let result = inject(Request { pod: &pod, namespace: &request.namespace, about, variables }, settings);
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            let who = describe(&pod, &request.namespace);
            let answer = Answer::refuse(uid, 400, format!("cannot inject the sidecar into pod {who}: {error}"));
            // As it is answered: an annotation may be as long as a pod.
            tracing::info!(pod = %who, error = answer.message().unwrap_or_default(), "refused");
            return answer;
        }
    };
    if !outcome.warnings.is_empty() {
        // Of a pod that a controller makes nobody else reads them.
        let warnings = within_limits(&outcome.warnings);
        tracing::info!(pod = %describe(&pod, &request.namespace), ?warnings, "warned");
    }
    let Some(injected) = outcome.pod else {
        tracing::debug!(pod = %describe(&pod, &request.namespace), reason = outcome.decision.reason.as_str(), "not injected");
        return Answer::allow(uid, &outcome.warnings);
    };
    match serde_json::to_vec(&patch::between(&pod, &injected)) {
        Ok(patch) => {
            tracing::debug!(pod = %describe(&pod, &request.namespace), patch = patch.len(), "injected");
            Answer::patch_with(uid, &patch, &outcome.warnings)
        }
        Err(error) => Answer::refuse(uid, 500, format!("cannot write the patch: {error}")),
    }
}

#[cfg(test)]
mod tests;
