//! Mistakes in rules that translation found: each is logged once, and counted for as long as it is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use translate::Problem;

use crate::metrics::Metrics;

/// The problems that there are.
pub(crate) struct Problems {
    /// Each with the last generation that had it.
    seen: Mutex<HashMap<Problem, u64>>,
    metrics: Arc<Metrics>,
}

impl Problems {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { seen: Mutex::default(), metrics }
    }

    /// A translation of generation `number` met these.
    pub(crate) fn note<'a>(&self, number: u64, problems: impl Iterator<Item = &'a Problem>) {
        let mut problems = problems.peekable();
        if problems.peek().is_none() {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems {
            if let Some(last) = seen.get_mut(problem) {
                *last = number;
                continue;
            }
            seen.insert(problem.clone(), number);
            tracing::warn!(reason = problem.reason.as_str(), "{problem}");
            self.gauge(problem).inc();
        }
    }

    /// Generation `number` begins: what the one before did not have any more is settled.
    pub(crate) fn turn_to(&self, number: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|problem, last| {
            let current = *last + 1 >= number;
            if !current {
                tracing::debug!("settled: {problem}");
                self.gauge(problem).dec();
            }
            current
        });
    }

    fn gauge(&self, problem: &Problem) -> Arc<crate::metrics::Gauge> {
        let object = format!("{}/{}", problem.namespace, problem.name);
        self.metrics.problems.with([&problem.kind, &object, problem.reason.as_str()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use translate::Reason;

    #[test]
    fn a_problem_counts_for_as_long_as_it_is_there() {
        let metrics = Arc::new(Metrics::new());
        let problems = Problems::new(Arc::clone(&metrics));
        let problem = Problem {
            reason: Reason::MissingSubset,
            kind: "VirtualService".to_owned(),
            namespace: "default".to_owned(),
            name: "reviews".to_owned(),
            generation: 1,
            field: "spec.http[0].route[0].destination.subset".to_owned(),
            message: "subset v9 does not exist".to_owned(),
        };
        let counted = || {
            let line =
                "pilot_config_problems{type=\"VirtualService\",name=\"default/reviews\",reason=\"missing_subset\"}";
            metrics.text().lines().find_map(|found| found.strip_prefix(line)).map(|count| count.trim().to_owned())
        };
        problems.turn_to(1);
        problems.note(1, [&problem, &problem].into_iter());
        assert_eq!(counted().as_deref(), Some("1"), "once, however many proxies meet it");
        problems.turn_to(2);
        problems.note(2, std::iter::once(&problem));
        problems.turn_to(3);
        assert_eq!(counted().as_deref(), Some("1"), "still there in 2");
        problems.turn_to(4);
        assert_eq!(counted().as_deref(), Some("0"), "3 did not have it");
    }
}
