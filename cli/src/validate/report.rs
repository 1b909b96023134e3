//! How findings are told: to people in `istioctl`'s words, to machines as a list.

use std::fmt::Write as _;

use crds::check::Severity;
use serde::Serialize;

use super::check::Finding;
use crate::input::STDIN;

/// One file and what is wrong in it.
#[derive(Clone, Debug)]
pub(super) struct FileReport {
    pub(super) file: String,
    pub(super) findings: Vec<Finding>,
}

/// Why not all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An object is not valid.
    Invalid,
    /// A text is no YAML.
    Unreadable,
}

/// Nothing where all is well; warnings are well.
pub(super) fn outcome(reports: &[FileReport]) -> Option<Outcome> {
    let mut errors = reports.iter().flat_map(|report| &report.findings).filter(|one| is_error(one)).peekable();
    errors.peek()?;
    Some(if errors.any(Finding::is_unreadable) { Outcome::Unreadable } else { Outcome::Invalid })
}

fn is_error(finding: &Finding) -> bool {
    finding.problem.severity == Severity::Error
}

/// For standard output and for standard error.
pub(super) fn people(reports: &[FileReport]) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    // Writing to a String cannot fail.
    for report in reports {
        let (errors, warnings): (Vec<&Finding>, Vec<&Finding>) = report.findings.iter().partition(|one| is_error(one));
        for error in &errors {
            let _ = writeln!(err, "{}", line(&report.file, error));
        }
        if !errors.is_empty() {
            for warning in &warnings {
                let _ = writeln!(err, "{}", line(&report.file, warning));
            }
        } else if warnings.is_empty() {
            let _ = match report.file.as_str() {
                STDIN => writeln!(out, "validation succeeded"),
                file => writeln!(out, "{file:?} is valid"),
            };
        } else {
            let _ = match report.file.as_str() {
                STDIN => writeln!(out, "validation succeeded with warnings:"),
                file => writeln!(out, "{file:?} has warnings:"),
            };
            for warning in &warnings {
                let _ = writeln!(out, "  {}", line(&report.file, warning));
            }
        }
    }
    let errors = reports.iter().flat_map(|report| &report.findings).filter(|one| is_error(one)).count();
    if errors > 0 {
        let plural = if errors == 1 { "" } else { "s" };
        let _ = writeln!(err, "Error: {errors} error{plural} occurred");
    }
    (out, err)
}

/// `reviews.yaml:12 (document 2): VirtualService default/reviews: spec.hosts: must be set`
fn line(file: &str, finding: &Finding) -> String {
    let file = if file == STDIN { "standard input" } else { file };
    let level = if is_error(finding) { "" } else { "warning: " };
    let mut text = format!("{file}:{} (document {}): {level}", finding.line, finding.document);
    if let Some(object) = &finding.object {
        let _ = write!(text, "{} {}/{}: ", object.kind, object.namespace, object.name);
    }
    if !finding.problem.field.is_empty() {
        let _ = write!(text, "{}: ", finding.problem.field);
    }
    text + &finding.problem.message
}

/// A file, for machines.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct MachineReport<'a> {
    file: &'a str,
    valid: bool,
    findings: Vec<MachineFinding<'a>>,
}

#[derive(Debug, PartialEq, Serialize)]
struct MachineFinding<'a> {
    level: &'static str,
    document: usize,
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    field: &'a str,
    message: &'a str,
}

pub(super) fn machine(reports: &[FileReport]) -> Vec<MachineReport<'_>> {
    reports.iter().map(MachineReport::of).collect()
}

impl<'a> MachineReport<'a> {
    fn of(report: &'a FileReport) -> Self {
        Self {
            file: &report.file,
            valid: !report.findings.iter().any(is_error),
            findings: report.findings.iter().map(MachineFinding::of).collect(),
        }
    }
}

impl<'a> MachineFinding<'a> {
    fn of(finding: &'a Finding) -> Self {
        let object = finding.object.as_ref();
        Self {
            level: if is_error(finding) { "Error" } else { "Warning" },
            document: finding.document,
            line: finding.line,
            kind: object.map(|object| object.kind.as_str()),
            namespace: object.map(|object| object.namespace.as_str()),
            name: object.map(|object| object.name.as_str()),
            field: &finding.problem.field,
            message: &finding.problem.message,
        }
    }
}
