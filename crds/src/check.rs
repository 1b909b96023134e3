//! What a check finds: a field, what is wrong with it, and how bad that is.
//!
//! The checks themselves stand beside each type (`VirtualServiceSpec::check` and so on). They are pure, so that
//! admission, control plane and command line all say the same about an object. An error is what Istio's own validation
//! refuses, or what could never work; what is legal and cannot be meant is a warning.
//!
//! * `Checker`: walks down an object; the rules for numbers and durations
//! * `name`: hosts, namespaces, labels, addresses; `visibility`: `exportTo`; `header`: names and values of headers

use std::fmt;

use crate::Duration;

mod header;
mod name;
mod visibility;

pub(crate) use header::{is_authority, is_claim};
pub(crate) use name::HostOf;
pub use name::is_dns_label;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Legal, but not what its author can have meant.
    Warning,
    /// The object cannot work as it is written.
    Error,
}

/// Something wrong with one field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path of the field, such as `spec.http[0].route[1].weight`.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// How bad it is.
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The most problems of one severity that are kept; more than anyone will mend before trying again. An object of one
/// empty name after the other would otherwise be answered with a hundred times its size.
const MOST: usize = 500;

/// What all regular expressions of one object may take when compiled, in bytes: 128 of the largest, and 8,192 of the usual
/// ones. To compile as many takes some tenths of a second.
const MOST_COMPILED: usize = 128 * crate::pattern::SIZE_LIMIT;

/// Collects problems while a check walks down an object; knows the path it is at.
pub(crate) struct Checker {
    path: String,
    problems: Vec<Problem>,
    errors: usize,
    warnings: usize,
    /// What the regular expressions so far take.
    compiled: usize,
}

impl Checker {
    /// Starts at `spec`.
    pub(crate) fn of_spec() -> Self {
        Self { path: "spec".to_owned(), problems: Vec::new(), errors: 0, warnings: 0, compiled: 0 }
    }

    /// All problems, in the order in which they were found; of too many, the first ones and how many more there are.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        for (found, what, severity) in
            [(self.errors, "mistakes", Severity::Error), (self.warnings, "warnings", Severity::Warning)]
        {
            if let Some(more @ 1..) = found.checked_sub(MOST) {
                let (field, message) = ("spec".to_owned(), format!("has {more} more {what}, which are not listed"));
                self.problems.push(Problem { field, message, severity });
            }
        }
        self.problems
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Checks what is under `.name`.
    pub(crate) fn field(&mut self, name: &str, check: impl FnOnce(&mut Self)) {
        self.under(&format!(".{name}"), check);
    }

    /// Checks every item of a list.
    pub(crate) fn each<T>(&mut self, name: &str, items: &[T], mut check: impl FnMut(&mut Self, &T)) {
        for (index, item) in items.iter().enumerate() {
            self.under(&format!(".{name}[{index}]"), |c| check(c, item));
        }
    }

    /// Checks what is under the key of a map.
    pub(crate) fn key(&mut self, name: &str, key: &str, check: impl FnOnce(&mut Self)) {
        self.under(&format!(".{name}[{key}]"), check);
    }

    fn under(&mut self, step: &str, check: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        check(self);
        self.path.truncate(length);
    }

    /// An error at `.name` of where the check stands; an empty name means right here.
    pub(crate) fn error(&mut self, name: &str, message: impl Into<String>) {
        self.report(name, message.into(), Severity::Error);
    }

    /// A warning at `.name` of where the check stands.
    pub(crate) fn warn(&mut self, name: &str, message: impl Into<String>) {
        self.report(name, message.into(), Severity::Warning);
    }

    fn report(&mut self, name: &str, message: String, severity: Severity) {
        let found = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *found += 1;
        if *found > MOST {
            return;
        }
        let field = if name.is_empty() { self.path.clone() } else { format!("{}.{name}", self.path) };
        self.problems.push(Problem { field, message, severity });
    }

    // The rules that many kinds share.

    pub(crate) fn required(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.error(name, "must be set");
        }
    }

    /// Fields that exclude each other. Gives how many are set.
    pub(crate) fn at_most_one(&mut self, members: &[(&str, bool)]) -> usize {
        let set: Vec<_> = members.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
        if set.len() > 1 {
            self.error("", format!("has {}, of which only one can be", set.join(" and ")));
        }
        set.len()
    }

    pub(crate) fn port(&mut self, name: &str, port: u32) {
        if !(1..=65535).contains(&port) {
            self.error(name, format!("{port} is not a port: it must be between 1 and 65535"));
        }
    }

    pub(crate) fn not_negative(&mut self, name: &str, value: i32) {
        if value < 0 {
            self.error(name, format!("{value} is negative: it must be 0 or more"));
        }
    }

    pub(crate) fn percent(&mut self, name: &str, percent: f64) {
        if !(0.0..=100.0).contains(&percent) {
            self.error(name, format!("{percent} is not a percentage: it must be between 0 and 100"));
        }
    }

    /// A share of requests: Envoy counts in millionths.
    pub(crate) fn fraction(&mut self, name: &str, percent: f64) {
        if percent > 0.0 && percent < 0.0001 {
            self.error(name, format!("{percent} is too small a percentage: the smallest is 0.0001"));
        }
        self.percent(name, percent);
    }

    pub(crate) fn regex(&mut self, name: &str, pattern: &str) {
        // Istio's limit.
        if pattern.len() > 1024 {
            let length = pattern.len();
            return self.error(name, format!("is a regular expression of {length} bytes: it may have at most 1024"));
        }
        if self.compiled > MOST_COMPILED {
            return self.error(name, "is one regular expression too many: all of one object may take 64 MiB when compiled. Use exact or prefix, or several objects");
        }
        match crate::pattern::compiled_size(pattern) {
            Ok(size) => self.compiled += size,
            Err(reason) => {
                // To find out that it takes too much is as much work.
                self.compiled += crate::pattern::SIZE_LIMIT;
                self.error(name, format!("\"{pattern}\" is not a regular expression: {reason}"));
            }
        }
    }

    /// A duration, of which Istio wants whole milliseconds, and at least one.
    pub(crate) fn duration(&mut self, name: &str, duration: Option<Duration>) {
        let Some(duration) = duration else { return };
        if duration < Duration::from_millis(1) {
            self.error(name, format!("{duration} is too short: it must be at least 1ms"));
        } else if !duration.get().subsec_nanos().is_multiple_of(1_000_000) {
            self.error(name, format!("{duration} is too precise: it must be whole milliseconds"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Checker;

    fn problems(check: impl FnOnce(&mut Checker)) -> Vec<String> {
        let mut c = Checker::of_spec();
        check(&mut c);
        c.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn durations() {
        let rows = [
            ("1ms", None),
            ("1h", None),
            ("2.001s", None),
            ("0s", Some("0s is too short: it must be at least 1ms")),
            ("999us", Some("0.000999s is too short: it must be at least 1ms")),
            ("2.0000005s", Some("2.0000005s is too precise: it must be whole milliseconds")),
        ];
        for (text, expected) in rows {
            let found = problems(|c| c.duration("timeout", text.parse().ok()));
            let expected: Vec<_> = expected.map(|message| format!("spec.timeout: {message}")).into_iter().collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn too_many_problems_are_counted() {
        let found = problems(|c| {
            for index in 0..600 {
                c.error(&format!("a[{index}]"), "is wrong");
            }
            c.warn("b", "is odd");
            assert!(c.has_errors());
        });
        assert_eq!(found.len(), 502);
        assert_eq!(
            found[499..],
            ["spec.a[499]: is wrong", "spec.b: is odd", "spec: has 100 more mistakes, which are not listed"]
        );
    }

    /// Refused before they are compiled.
    #[test]
    fn regular_expressions_have_a_limit_together() {
        let found = problems(|c| {
            for index in 0..700 {
                c.regex(&format!("a[{index}]"), r"\w{200}\w{200}\w{200}\w{200}");
            }
        });
        assert_eq!(found.len(), 501);
        assert_eq!(found[500], "spec: has 71 more mistakes, which are not listed");
        assert_eq!(
            found[0],
            "spec.a[129]: is one regular expression too many: all of one object may take 64 MiB when compiled. Use exact or prefix, or several objects"
        );
    }

    #[test]
    fn numbers() {
        assert!(problems(|c| c.fraction("value", 0.0001)).is_empty());
        assert!(problems(|c| c.fraction("value", 0.0)).is_empty());
        assert_eq!(problems(|c| c.fraction("value", 0.000_01)).len(), 1);
        assert_eq!(problems(|c| c.percent("value", f64::NAN)).len(), 1);
        assert_eq!(problems(|c| c.not_negative("weight", -1)), ["spec.weight: -1 is negative: it must be 0 or more"]);
        assert_eq!(
            problems(|c| assert_eq!(c.at_most_one(&[("a", true), ("b", false), ("c", true)]), 2)),
            ["spec: has a and c, of which only one can be"],
        );
    }

    #[test]
    fn a_regular_expression_is_short_and_compiles() {
        assert!(problems(|c| c.regex("regex", &"a".repeat(1024))).is_empty());
        for pattern in ["a".repeat(1025), "(".to_owned(), "(?=a)".to_owned(), "[[:word:]]{1000}{1000}".to_owned()] {
            assert_eq!(problems(|c| c.regex("regex", &pattern)).len(), 1, "{pattern}");
        }
    }
}
