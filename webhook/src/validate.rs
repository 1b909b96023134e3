//! `/validate`: a review of one of Istio's objects comes in, an answer with warnings or a refusal goes out.
//!
//! The checks are those of `crds`, which the control plane and the command line use too. Mistakes refuse the object, all
//! of them in one answer, in the form in which the API server refuses by schema; what is legal but cannot be meant
//! passes with a warning. An object that is stored already can always be deleted, and its metadata changed: an old
//! mistake in its spec holds nothing up.

use crds::check::{Problem, Severity};
use crds::kinds::Kind;
use serde_json::Value;

use crate::configuration::VALIDATED_GROUPS;
use crate::envelope::{AdmissionRequest, Answer, Cause, Details, describe, open};

/// Answers a review of one of Istio's objects.
pub fn validate(body: &[u8]) -> Answer {
    check(body).answer
}

/// An answer, and what it counts as.
pub(crate) struct Checked {
    pub(crate) answer: Answer,
    /// Nothing for a dry run, which leaves no trace, and where no object was looked at.
    pub(crate) count: Option<Count>,
}

/// What is counted of an object; Istio's labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) outcome: Result<(), Failure>,
}

/// Why an object was not found good; Istio's reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    UnsupportedOperation,
    Unreadable,
    UnknownType,
    WrongType,
    Invalid,
}

impl Failure {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::UnsupportedOperation => "unsupported_operation",
            Self::Unreadable => "yaml_decode_error",
            Self::UnknownType => "unknown_type",
            Self::WrongType => "crd_conversion_error",
            Self::Invalid => "invalid_resource",
        }
    }
}

/// The versions in which Istio's kinds are served. Labels of metrics come from here, never from a request: whoever
/// reaches the port could otherwise make as many series as he likes.
const VERSIONS: [&str; 4] = ["v1", "v1beta1", "v1alpha3", "v1alpha1"];
const OTHER: &str = "other";

/// Answers a review and says what it counts as.
pub(crate) fn check(body: &[u8]) -> Checked {
    let request = match open(body) {
        Ok(request) => request,
        Err(answer) => return Checked { answer, count: None },
    };
    let kind = Kind::of(&request.kind.group, &request.kind.kind);
    let (answer, outcome) = decide(&request, kind);
    let version = VERSIONS.into_iter().find(|version| *version == request.kind.version).unwrap_or(OTHER);
    let (group, resource) = kind.map_or((OTHER, OTHER), |kind| (kind.group(), kind.plural()));
    let count = Count { group, version, resource, outcome };
    Checked { answer, count: (!request.dry_run).then_some(count) }
}

fn decide(request: &AdmissionRequest, kind: Option<Kind>) -> (Answer, Result<(), Failure>) {
    let uid = request.uid.as_str();
    match request.operation.as_str() {
        "CREATE" | "UPDATE" => {}
        _ => return (Answer::allow(uid, &[]), Err(Failure::UnsupportedOperation)),
    }
    // The status is the control plane's: a rule that cannot work must be able to say so.
    if !request.sub_resource.is_empty() {
        return (Answer::allow(uid, &[]), Ok(()));
    }
    // Our configuration sends the four groups and no other; what came here all the same is not ours to refuse.
    if !VALIDATED_GROUPS.contains(&request.kind.group.as_str()) {
        return (Answer::allow(uid, &[]), Err(Failure::UnknownType));
    }
    let Some(kind) = kind else {
        let (group, version, name) = (&request.kind.group, &request.kind.version, &request.kind.kind);
        let message = format!(
            "{name} of {group}/{version} is not a kind that this version of Forestay knows: nothing would read the object"
        );
        return (Answer::refuse(uid, 400, message), Err(Failure::UnknownType));
    };
    let Some(object) = &request.object else {
        return (Answer::refuse(uid, 400, "the AdmissionReview has no object"), Err(Failure::Unreadable));
    };
    if !object.is_object() {
        let message =
            format!("the object of the AdmissionReview is not a {}: it is not even a JSON object", kind.name());
        return (Answer::refuse(uid, 400, message), Err(Failure::Unreadable));
    }
    if request.operation == "UPDATE" && is_bound_to_pass(object, request.old_object.as_ref()) {
        return (Answer::allow(uid, &[]), Ok(()));
    }
    let who = format!("{} {}", kind.name(), describe(object, &request.namespace));
    if annotated(object, names::annotations::ALWAYS_REJECT) {
        let message = format!("{who}: annotation {} refuses it always", names::annotations::ALWAYS_REJECT);
        return (Answer::refuse(uid, 403, message), Err(Failure::Invalid));
    }

    let (problems, failure) = match kind.check(object.clone()) {
        Ok(problems) => (problems, Failure::Invalid),
        Err(error) => {
            let problem = Problem { field: error.path, message: error.message, severity: Severity::Error };
            (vec![problem], Failure::WrongType)
        }
    };
    let (errors, legal): (Vec<_>, Vec<_>) = problems.into_iter().partition(|one| one.severity == Severity::Error);
    let mut warnings: Vec<String> = legal.iter().map(|problem| format!("{who}: {problem}")).collect();
    let unknown = |field| format!("{who}: {field}: unknown field, which has no effect");
    warnings.extend(kind.unknown_fields(object).into_iter().map(unknown));
    warnings.extend(kind.not_in_force().map(str::to_owned));
    if errors.is_empty() {
        return (Answer::allow(uid, &warnings), Ok(()));
    }
    let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let message = format!("{who}: {}", all.join("; "));
    let name = ["/metadata/name", "/metadata/generateName"].into_iter().find_map(|name| object.pointer(name)?.as_str());
    let details = Details {
        name: name.unwrap_or_default().to_owned(),
        group: kind.group().to_owned(),
        kind: kind.name().to_owned(),
        causes: errors.into_iter().map(|error| Cause::new(error.field, error.message)).collect(),
    };
    let answer = Answer::refuse_fields(uid, message, details, &warnings);
    // As it is answered: a field may be as long as an object.
    tracing::info!(error = answer.message().unwrap_or_default(), "refused");
    (answer, Err(failure))
}

/// An update that no mistake in the spec may block: of an object that is on its way out, so that its finalizers can
/// be taken off, and one that leaves the spec as it was stored and with the revision that has checked it. The webhook's
/// match conditions keep these away from here; who calls without them is answered the same.
fn is_bound_to_pass(object: &Value, old: Option<&Value>) -> bool {
    let member = |object: &Value, pointer| object.pointer(pointer).filter(|member| !member.is_null()).cloned();
    let revision = |object: &Value| {
        object.pointer("/metadata/labels").and_then(|labels| labels.get(names::labels::REVISION)).cloned()
    };
    member(object, "/metadata/deletionTimestamp").is_some()
        || old.is_some_and(|old| member(old, "/spec") == member(object, "/spec") && revision(old) == revision(object))
}

fn annotated(object: &Value, name: &str) -> bool {
    object.pointer("/metadata/annotations").and_then(|annotations| annotations.get(name)).is_some()
}

#[cfg(test)]
mod tests;
