//! `exportTo`: the namespaces that see a rule.

use std::collections::HashSet;

use super::{Checker, is_dns_label};

impl Checker {
    /// `exportTo` of a rule in a namespace (empty where it is not known). A ServiceEntry may be exported to nobody, `~`.
    pub(crate) fn export_to(&mut self, export_to: &[String], namespace: &str, takes_nobody: bool) {
        let own = if namespace.is_empty() { "." } else { namespace };
        let mut seen = HashSet::new();
        for (index, entry) in export_to.iter().enumerate() {
            let field = format!("exportTo[{index}]");
            if !seen.insert(if entry == "." { own } else { entry }) {
                self.error(&field, format!("\"{entry}\" names a namespace that is listed already"));
                continue;
            }
            let known = match entry.as_str() {
                "." | "*" => true,
                "~" => takes_nobody,
                name => is_dns_label(name),
            };
            if !known {
                self.error(
                    &field,
                    format!("\"{entry}\" is not a namespace: use \".\" for this one, \"*\" for all, or a name"),
                );
            }
        }
        for all in ["*", "~"] {
            if export_to.len() > 1 && export_to.iter().any(|entry| entry == all) {
                let meaning = if all == "*" { "all namespaces" } else { "none" };
                self.error(
                    "exportTo",
                    format!("has \"{all}\", which is {meaning}, and others: leave only one of them"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::Checker;

    #[test]
    fn rules() {
        let rows: &[(&[&str], bool, &[&str])] = &[
            (&[], false, &[]),
            (&["."], false, &[]),
            (&["*"], false, &[]),
            (&["a", "b", "."], false, &[]),
            (&["~"], true, &[]),
            (
                &["~"],
                false,
                &["spec.exportTo[0]: \"~\" is not a namespace: use \".\" for this one, \"*\" for all, or a name"],
            ),
            (&[".", "own"], false, &["spec.exportTo[1]: \"own\" names a namespace that is listed already"]),
            (&["a", "a"], false, &["spec.exportTo[1]: \"a\" names a namespace that is listed already"]),
            (
                &["*", "a"],
                false,
                &["spec.exportTo: has \"*\", which is all namespaces, and others: leave only one of them"],
            ),
            (&["a", "~"], true, &["spec.exportTo: has \"~\", which is none, and others: leave only one of them"]),
        ];
        for (entries, takes_nobody, expected) in rows {
            let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
            let mut c = Checker::of_spec();
            c.export_to(&entries, "own", *takes_nobody);
            let found: Vec<_> = c.finish().iter().map(ToString::to_string).collect();
            assert_eq!(found, *expected, "{entries:?}");
        }
    }
}
