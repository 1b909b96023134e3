//! The annotation that lets an AuthorizationPolicy be tried out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use names::annotations::DRY_RUN;
use serde_json::Value;

use super::authorization_policy::Action;
use crate::check::{Problem, Severity};

/// What is wrong with the annotation: it is for ALLOW and DENY only, and a boolean. `action` is none for the kinds that do
/// not have one.
pub(super) fn problem(metadata: &ObjectMeta, action: Option<Action>) -> Option<Problem> {
    let value = metadata.annotations.as_ref()?.get(DRY_RUN)?;
    let message = match action {
        None => "is for AuthorizationPolicies only: remove it".to_owned(),
        Some(Action::Audit | Action::Custom) => "works with action ALLOW or DENY only".to_owned(),
        // What Go's `strconv.ParseBool` takes.
        Some(_) => match value.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" | "0" | "f" | "F" | "FALSE" | "false" | "False" => return None,
            other => format!("\"{other}\" is not a boolean: write \"true\" or \"false\""),
        },
    };
    Some(Problem { field: format!("metadata.annotations[{DRY_RUN}]"), message, severity: Severity::Error })
}

/// What is said of the annotation on an object of a kind outside this group: its author believes that nothing happens yet.
pub(crate) fn elsewhere(object: &Value) -> Option<Problem> {
    object.get("metadata")?.get("annotations")?.get(DRY_RUN)?;
    Some(Problem {
        field: format!("metadata.annotations[{DRY_RUN}]"),
        message: "is for AuthorizationPolicies only: this object would not be tried out, it would count. Remove the annotation"
            .to_owned(),
        severity: Severity::Error,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::{Action, DRY_RUN, problem};

    #[test]
    fn where_it_may_stand() {
        let rows = [
            ("true", Some(Action::Allow), None),
            ("false", Some(Action::Deny), None),
            ("maybe", Some(Action::Allow), Some("\"maybe\" is not a boolean: write \"true\" or \"false\"")),
            ("true", Some(Action::Custom), Some("works with action ALLOW or DENY only")),
            ("true", None, Some("is for AuthorizationPolicies only: remove it")),
        ];
        for (value, action, expected) in rows {
            let annotations = Some([(DRY_RUN.to_owned(), value.to_owned())].into());
            let metadata = ObjectMeta { annotations, ..ObjectMeta::default() };
            let found = problem(&metadata, action).map(|problem| problem.message);
            assert_eq!(found.as_deref(), expected, "{value} {action:?}");
        }
        assert_eq!(problem(&ObjectMeta::default(), None), None);
    }
}
