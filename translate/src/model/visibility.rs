//! In which namespaces a service or a rule counts: `exportTo`.

use std::collections::BTreeSet;

/// In which namespaces something counts.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Visibility {
    /// In all.
    #[default]
    Public,
    /// In these only.
    Namespaces(BTreeSet<String>),
}

impl Visibility {
    /// Reads `exportTo`: `*` is everywhere, `.` the own namespace, `~` nowhere, anything else a namespace. An empty
    /// list says nothing, and `default` speaks instead.
    pub fn parse(export_to: &[String], default: &[String], own_namespace: &str) -> Self {
        let export_to = if export_to.is_empty() { default } else { export_to };
        if export_to.is_empty() || export_to.iter().any(|to| to == "*") {
            return Self::Public;
        }
        let namespace = |to: &String| match to.as_str() {
            "~" => None,
            "." => Some(own_namespace.to_owned()),
            other => Some(other.to_owned()),
        };
        Self::Namespaces(export_to.iter().filter_map(namespace).collect())
    }

    /// Whether it counts in this namespace.
    pub fn allows(&self, namespace: &str) -> bool {
        match self {
            Self::Public => true,
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }
}
