//! The application's own metric, which a mesh merges with the proxy's.

use std::{cell::RefCell, collections::BTreeMap, fmt::Write as _};

use http::StatusCode;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Results of calls by role and status.
#[derive(Debug, Default)]
pub(super) struct Results {
    counts: RefCell<BTreeMap<(&'static str, u16), u64>>,
}

impl Results {
    pub(super) fn count(&self, role: &'static str, status: StatusCode) {
        *self.counts.borrow_mut().entry((role, status.as_u16())).or_default() += 1;
    }

    /// The counter in Prometheus' text format, under the original's name.
    pub(super) fn exposition(&self) -> String {
        let mut text =
            "# HELP request_result_total Results of requests\n# TYPE request_result_total counter\n".to_owned();
        for ((role, status), count) in &*self.counts.borrow() {
            let _ = writeln!(
                text,
                "request_result_total{{destination_app=\"{role}\",response_code=\"{status}\"}} {count}.0"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    #[test]
    fn results_are_counted_by_role_and_status() {
        let results = super::Results::default();
        results.count("reviews", StatusCode::OK);
        results.count("reviews", StatusCode::OK);
        results.count("details", StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            results.exposition(),
            "# HELP request_result_total Results of requests\n# TYPE request_result_total counter\n\
             request_result_total{destination_app=\"details\",response_code=\"500\"} 1.0\n\
             request_result_total{destination_app=\"reviews\",response_code=\"200\"} 2.0\n"
        );
    }
}
