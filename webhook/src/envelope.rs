//! The envelope of both endpoints: an AdmissionReview of `admission.k8s.io/v1` comes in and one goes out.
//!
//! [`open`] takes out what was asked; an [`Answer`] carries the request's uid, and is within the API's limits however
//! much there is to say. (Our own types, because kube's write the patch as a list of numbers.)

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// The API server may cut a warning that is longer.
const LONGEST_WARNING: usize = 256;
/// The API server drops what is beyond, of all warnings of a request.
const MOST_WARNINGS: usize = 4096;
/// As many fields as a person will mend before trying again.
const MOST_CAUSES: usize = 32;
/// A message is read in a terminal, and stored in the events of a controller.
const LONGEST_MESSAGE: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<AdmissionRequest>,
}

/// What the API server asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AdmissionRequest {
    pub(crate) uid: String,
    #[serde(default)]
    pub(crate) kind: GroupVersionKind,
    #[serde(default)]
    pub(crate) sub_resource: String,
    #[serde(default)]
    pub(crate) operation: String,
    #[serde(default)]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) dry_run: bool,
    pub(crate) object: Option<Value>,
    pub(crate) old_object: Option<Value>,
}

/// The kind that a request is about.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct GroupVersionKind {
    #[serde(default)]
    pub(crate) group: String,
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) kind: String,
}

/// Reads a review; what is none is answered with what is wrong with it.
pub(crate) fn open(body: &[u8]) -> Result<AdmissionRequest, Answer> {
    let incoming: Incoming = serde_json::from_slice(body)
        .map_err(|error| Answer::refuse_body(body, 400, format!("the body is not an AdmissionReview: {error}")))?;
    let Some(request) = incoming.request else {
        return Err(Answer::refuse("", 400, "the AdmissionReview has no request"));
    };
    if incoming.api_version != API_VERSION || incoming.kind != KIND {
        let (version, kind) = (incoming.api_version, incoming.kind);
        let message = format!("expected {KIND} of {API_VERSION}, got {kind} of {version}");
        return Err(Answer::refuse(request.uid, 400, message));
    }
    Ok(request)
}

/// `<namespace>/<name>` of an object, for people.
pub(crate) fn describe(object: &Value, namespace: &str) -> String {
    let name = |field: &str| object.pointer(field).and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name("/metadata/name").or_else(|| name("/metadata/generateName")).unwrap_or("(unnamed)");
    // It stands in every message; the API server allows 253, whoever else asks may write a million.
    let short = |text: &str| text.chars().take(253).collect::<String>();
    format!("{}/{}", short(namespace), short(name))
}

/// An answer, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Box<Response>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// `metav1.Status`, in the form in which the API server itself refuses: `kubectl` prints the causes one a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the API's names")]
struct Status {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

/// Which object is refused, and what is wrong with each field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) causes: Vec<Cause>,
}

/// One field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}

impl Cause {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: "FieldValueInvalid", message: message.into(), field: field.into() }
    }
}

impl Answer {
    /// Lets the object pass.
    pub(crate) fn allow(uid: impl Into<String>, warnings: &[String]) -> Self {
        let (patch_type, patch, status) = (None, None, None);
        let response =
            Response { uid: uid.into(), allowed: true, patch_type, patch, status, warnings: within_limits(warnings) };
        let response = Box::new(response);
        Self { api_version: API_VERSION, kind: KIND, response }
    }

    /// Lets the object pass with a JSON Patch.
    pub(crate) fn patch_with(uid: impl Into<String>, patch: &[u8], warnings: &[String]) -> Self {
        let mut answer = Self::allow(uid, warnings);
        answer.response.patch_type = Some("JSONPatch");
        answer.response.patch = Some(BASE64.encode(patch));
        answer
    }

    /// Refuses, with an HTTP status and a message for the user.
    pub(crate) fn refuse(uid: impl Into<String>, code: u16, message: impl Into<String>) -> Self {
        let mut answer = Self::allow(uid, &[]);
        answer.response.allowed = false;
        let message = cut(&message.into(), LONGEST_MESSAGE);
        answer.response.status = Some(Status { status: "Failure", code, reason: reason(code), message, details: None });
        answer
    }

    /// Refuses an object for what its fields say.
    pub(crate) fn refuse_fields(
        uid: impl Into<String>,
        message: impl Into<String>,
        mut details: Details,
        warnings: &[String],
    ) -> Self {
        let mut answer = Self::refuse(uid, 422, message);
        let all = details.causes.len();
        details.causes.truncate(MOST_CAUSES);
        if let Some(more) = all.checked_sub(MOST_CAUSES).filter(|more| *more > 0) {
            details.causes.push(Cause::new("spec", format!("and {more} more")));
        }
        if let Some(status) = &mut answer.response.status {
            status.details = Some(details);
        }
        answer.response.warnings = within_limits(warnings);
        answer
    }

    /// Refuses a body that was not read to its end.
    pub(crate) fn refuse_body(begin: &[u8], code: u16, message: impl Into<String>) -> Self {
        Self::refuse(uid_in(begin), code, message)
    }

    /// The uid of the request that is answered; empty when the question had none.
    pub fn uid(&self) -> &str {
        &self.response.uid
    }

    /// Whether the object passes.
    pub fn allowed(&self) -> bool {
        self.response.allowed
    }

    /// The JSON Patch, in base64 as it is sent.
    pub fn patch(&self) -> Option<&str> {
        self.response.patch.as_deref()
    }

    /// What the user is told while the object passes, or beside its refusal.
    pub fn warnings(&self) -> &[String] {
        &self.response.warnings
    }

    /// Why the object is refused.
    pub fn message(&self) -> Option<&str> {
        self.response.status.as_ref().map(|status| status.message.as_str())
    }

    /// The HTTP status that the API server gives its client for a refusal.
    pub fn code(&self) -> Option<u16> {
        self.response.status.as_ref().map(|status| status.code)
    }

    /// The AdmissionReview, as it is sent.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and booleans only: there is nothing in it that JSON could not say.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The API's word for an HTTP status; clients such as `kubectl` go by it.
fn reason(code: u16) -> &'static str {
    match code {
        400 => "BadRequest",
        403 => "Forbidden",
        408 => "Timeout",
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    }
}

/// Warnings as the API server passes them on: printable, none too long, not too many; the last says how many are left.
pub(crate) fn within_limits(warnings: &[String]) -> Vec<String> {
    /// "and 123456 more warnings"
    const LAST: usize = 32;
    let mut kept: Vec<String> = Vec::with_capacity(warnings.len());
    let mut characters = 0;
    for (index, warning) in warnings.iter().enumerate() {
        let warning = cut(warning, LONGEST_WARNING);
        characters += warning.chars().count();
        if characters > MOST_WARNINGS - LAST {
            kept.push(format!("and {} more warnings", warnings.len() - index));
            break;
        }
        kept.push(warning);
    }
    kept
}

/// At most so many characters, on one line: a header of HTTP carries them.
fn cut(text: &str, most: usize) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().nth(most).is_none() {
        return text.chars().map(printable).collect();
    }
    text.chars().take(most - 1).map(printable).chain(['…']).collect()
}

/// The request's uid in a body that is no review, so that the answer is still one to the question. In one that is not even
/// JSON it is looked for near the beginning, where the API server writes it.
fn uid_in(body: &[u8]) -> String {
    let review = serde_json::from_slice::<Value>(body).ok();
    if let Some(uid) = review.as_ref().and_then(|review| review.pointer("/request/uid")?.as_str()) {
        return uid.to_owned();
    }
    let begin = String::from_utf8_lossy(body.get(..body.len().min(1024)).unwrap_or_default());
    let uid = begin.split_once("\"uid\"").and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
    let uid = uid.and_then(|rest| rest.trim_start().strip_prefix('"')).and_then(|rest| rest.split_once('"'));
    uid.map(|(uid, _)| uid.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Answer, Cause, Details, cut, within_limits};

    #[test]
    fn warnings_stay_within_the_limits_of_the_api() {
        let long = "ä".repeat(300);
        let rows: [(&str, Vec<String>, usize, &str); 5] = [
            ("none", vec![], 0, ""),
            ("as they are", vec!["a".into(), "b".into()], 2, "b"),
            ("one that is too long", vec![long.clone()], 1, "ä…"),
            ("too many", vec![long; 40], 16, "and 25 more warnings"),
            ("two lines", vec!["a\nb\u{7}".into()], 1, "a b "),
        ];
        for (name, warnings, count, last) in rows {
            let kept = within_limits(&warnings);
            assert_eq!(kept.len(), count, "{name}");
            assert!(kept.last().is_none_or(|warning| warning.ends_with(last)), "{name}: {kept:?}");
            assert!(kept.iter().all(|warning| warning.chars().count() <= 256), "{name}");
            assert!(kept.iter().map(|warning| warning.chars().count()).sum::<usize>() <= 4096, "{name}");
        }
    }

    #[test]
    fn a_cut_text_says_so() {
        for (text, most, expected) in [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("", 3, ""), ("äöü€", 3, "äö…")]
        {
            assert_eq!(cut(text, most), expected, "{text}");
        }
    }

    #[test]
    fn a_thousand_mistakes_are_not_all_told_at_once() {
        let causes = (0..1000).map(|n| Cause::new(format!("spec.http[{n}]"), "no")).collect();
        let answer = Answer::refuse_fields("u", "x".repeat(9999), Details { causes, ..Details::default() }, &[]);
        let text = String::from_utf8(answer.to_json()).unwrap();
        assert!(text.contains("and 968 more"), "{text}");
        assert!(text.len() < 8192);
    }
}
