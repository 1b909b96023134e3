//! The envelope: AdmissionReview in, AdmissionReview out.
//!
//! Whatever comes in, an answer goes out: what cannot be read, or cannot be injected, is refused with a message that
//! says why. (Our own types, because kube's write the patch as a list of numbers.)

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inject::settings::Settings;
use crate::inject::{Request, inject, patch};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// The API server cuts a warning that is longer, and drops what is beyond 4096 in all.
const LONGEST_WARNING: usize = 256;
const MOST_WARNINGS: usize = 16;

/// What an answer was, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Allowed with a patch.
    Injected,
    /// Allowed as it is.
    Skipped,
    /// Refused.
    Refused,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<AdmissionRequest>,
}

#[derive(Deserialize)]
struct AdmissionRequest {
    uid: String,
    #[serde(default)]
    kind: GroupVersionKind,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    namespace: String,
    object: Option<Value>,
}

#[derive(Default, Deserialize)]
struct GroupVersionKind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    kind: String,
}

/// An answer, ready to be written.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
    #[serde(skip)]
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Status {
    code: u16,
    message: String,
}

impl Answer {
    fn of(uid: String, verdict: Verdict, warnings: &[String]) -> Self {
        let response = Response {
            uid,
            allowed: verdict != Verdict::Refused,
            patch_type: None,
            patch: None,
            status: None,
            warnings: warnings.iter().take(MOST_WARNINGS).map(|warning| cut(warning)).collect(),
        };
        Self { api_version: API_VERSION, kind: KIND, response, verdict }
    }

    /// Refuses, with an HTTP status and a message for the user.
    pub(crate) fn refuse(uid: impl Into<String>, code: u16, message: impl Into<String>) -> Self {
        let mut answer = Self::of(uid.into(), Verdict::Refused, &[]);
        answer.response.status = Some(Status { code, message: message.into() });
        answer
    }

    /// Refuses a body that was not read to its end.
    pub(crate) fn refuse_body(begin: &[u8], code: u16, message: impl Into<String>) -> Self {
        Self::refuse(uid_in(begin), code, message)
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Strings and booleans only: there is nothing in it that JSON could not say.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn cut(warning: &str) -> String {
    let mut end = warning.len().min(LONGEST_WARNING);
    while !warning.is_char_boundary(end) {
        end -= 1;
    }
    warning.get(..end).unwrap_or_default().to_owned()
}

/// Answers a review. Without settings nothing is injected and nothing may pass: the pod's controller tries again.
pub(crate) fn review(body: &[u8], variables: &[(String, String)], settings: Option<&Settings>) -> Answer {
    let incoming: Incoming = match serde_json::from_slice(body) {
        Ok(incoming) => incoming,
        Err(error) => return Answer::refuse_body(body, 400, format!("the body is not an AdmissionReview: {error}")),
    };
    let Some(request) = incoming.request else {
        return Answer::refuse("", 400, "the AdmissionReview has no request");
    };
    let uid = request.uid.clone();
    if incoming.api_version != API_VERSION || incoming.kind != KIND {
        let (version, kind) = (incoming.api_version, incoming.kind);
        return Answer::refuse(uid, 400, format!("expected {KIND} of {API_VERSION}, got {kind} of {version}"));
    }
    if !request.kind.group.is_empty() || !matches!(request.kind.kind.as_str(), "" | "Pod") {
        let kind = request.kind.kind;
        return Answer::refuse(uid, 400, format!("expected a Pod, got {kind}: the webhook configuration is not ours"));
    }
    if !matches!(request.operation.as_str(), "" | "CREATE") {
        return Answer::of(uid, Verdict::Skipped, &[]);
    }
    let Some(pod) = request.object else {
        return Answer::refuse(uid, 400, "the AdmissionReview has no object");
    };
    let Some(settings) = settings else {
        return Answer::refuse(uid, 503, "the sidecar injector has not read its settings yet; try again");
    };
    // Of the object only what concerns admission: the API server's own bookkeeping has no place in a patch.
    let result = inject(Request { pod: &pod, namespace: &request.namespace, variables }, settings);
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            let who = describe(&pod, &request.namespace);
            tracing::info!(pod = %who, %error, "refused");
            return Answer::refuse(uid, 400, format!("cannot inject the sidecar into pod {who}: {error}"));
        }
    };
    let Some(injected) = outcome.pod else {
        tracing::debug!(pod = %describe(&pod, &request.namespace), reason = outcome.decision.reason.as_str(), "not injected");
        return Answer::of(uid, Verdict::Skipped, &outcome.warnings);
    };
    match serde_json::to_vec(&patch::between(&pod, &injected)) {
        Ok(patch) => {
            let mut answer = Answer::of(uid, Verdict::Injected, &outcome.warnings);
            answer.response.patch_type = Some("JSONPatch");
            answer.response.patch = Some(BASE64.encode(patch));
            answer
        }
        Err(error) => Answer::refuse(uid, 500, format!("cannot write the patch: {error}")),
    }
}

fn describe(pod: &Value, namespace: &str) -> String {
    let name = |field: &str| pod.pointer(field).and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name("/metadata/name").or_else(|| name("/metadata/generateName")).unwrap_or("(unnamed)");
    format!("{namespace}/{name}")
}

/// The request's uid in a body that cannot be parsed, so that the answer is still one to the question: the API server
/// writes it near the beginning.
fn uid_in(body: &[u8]) -> String {
    let begin = String::from_utf8_lossy(body.get(..body.len().min(1024)).unwrap_or_default());
    let uid = begin.split_once("\"uid\"").and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
    let uid = uid.and_then(|rest| rest.trim_start().strip_prefix('"')).and_then(|rest| rest.split_once('"'));
    uid.map(|(uid, _)| uid.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
