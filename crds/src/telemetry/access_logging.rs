//! Which requests are logged, and by whom.

use super::{ProviderRef, WorkloadMode, check_providers, expression};
use crate::check::Checker;
use crate::message::message;

message! {
    /// Access logs of some requests.
    pub struct AccessLogging {
        /// At which end.
        #[serde(rename = "match")]
        pub matches: Option<LogMatch>,
        /// Who takes them; the mesh's default providers when empty.
        pub providers: Vec<ProviderRef>,
        /// Switches them off.
        pub disabled: Option<bool>,
        /// Which requests; all when absent.
        pub filter: Option<Filter>,
    }
}

message! {
    /// At which end of a request a log is written.
    pub struct LogMatch {
        /// The end.
        pub mode: WorkloadMode,
    }
}

message! {
    /// Requests by an expression.
    pub struct Filter {
        /// A CEL expression on Envoy's attributes, such as `response.code >= 400`.
        pub expression: String,
    }
}

pub(super) fn check(c: &mut Checker, logging: &AccessLogging) {
    check_providers(c, &logging.providers);
    if let Some(problem) = logging.filter.as_ref().and_then(|filter| expression::problem(&filter.expression)) {
        c.error("filter.expression", format!("is not an expression of CEL: {problem}"));
    }
}
