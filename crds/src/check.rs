//! What a check finds: a field, what is wrong with it, and how bad that is.
//!
//! The checks themselves stand beside each type (`VirtualServiceSpec::check` and so on). They are pure, so that
//! admission, control plane and command line all say the same about an object.

use std::fmt;

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

/// Collects problems while a check walks down an object; knows the path it is at.
pub(crate) struct Checker {
    path: String,
    problems: Vec<Problem>,
}

impl Checker {
    /// Starts at `spec`.
    pub(crate) fn of_spec() -> Self {
        Self { path: "spec".to_owned(), problems: Vec::new() }
    }

    pub(crate) fn finish(self) -> Vec<Problem> {
        self.problems
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
        let field = if name.is_empty() { self.path.clone() } else { format!("{}.{name}", self.path) };
        self.problems.push(Problem { field, message, severity });
    }

    // The rules that many kinds share.

    pub(crate) fn required(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.error(name, "must be set");
        }
    }

    pub(crate) fn port(&mut self, name: &str, port: u32) {
        if !(1..=65535).contains(&port) {
            self.error(name, format!("{port} is not a port: it must be between 1 and 65535"));
        }
    }

    pub(crate) fn percent(&mut self, name: &str, percent: f64) {
        if !(0.0..=100.0).contains(&percent) {
            self.error(name, format!("{percent} is not a percentage: it must be between 0 and 100"));
        }
    }

    pub(crate) fn regex(&mut self, name: &str, pattern: &str) {
        if let Err(error) = regex::Regex::new(pattern) {
            let reason = match error {
                regex::Error::CompiledTooBig(limit) => format!("it needs more than {limit} bytes when compiled"),
                // The whole message draws the pattern over several lines; its last line is the reason.
                other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
            };
            self.error(name, format!("\"{pattern}\" is not a regular expression: {reason}"));
        }
    }

    /// A duration that the schema bounds by one millisecond.
    pub(crate) fn at_least_a_millisecond(&mut self, name: &str, duration: Option<crate::Duration>) {
        if duration.is_some_and(|d| d < crate::Duration::from_millis(1)) {
            self.error(name, "must be at least 1ms");
        }
    }

    /// A host of Istio's API: a DNS name, a wildcard such as `*.example.com`, or `*`.
    pub(crate) fn host(&mut self, name: &str, host: &str) {
        if let Err(reason) = host_problem(host) {
            self.error(name, format!("\"{host}\" is not a host: {reason}"));
        }
    }
}

fn host_problem(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("it is empty");
    }
    if host == "*" || host.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    if host.len() > 255 {
        return Err("it is longer than 255 characters");
    }
    // "*.example.com" and "*example.com" are both wildcards to Istio.
    let name = host.strip_prefix("*.").or_else(|| host.strip_prefix('*')).unwrap_or(host);
    if name.contains('*') {
        return Err("a wildcard may only stand at its beginning");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.split('.').all(label) { Ok(()) } else { Err("each part of it must be letters, digits and dashes") }
}

#[cfg(test)]
mod tests {
    use super::host_problem;

    #[test]
    fn hosts() {
        for host in ["*", "reviews", "reviews.default.svc.cluster.local", "*.example.com", "*example.com", "10.0.0.1"] {
            assert_eq!(host_problem(host), Ok(()), "{host}");
        }
        for host in ["", "a..b", "a.*.b", "-a", "a b", "http://a", &"a".repeat(64)] {
            assert!(host_problem(host).is_err(), "{host}");
        }
    }
}
