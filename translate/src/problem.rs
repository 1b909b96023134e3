//! What is wrong with a rule, found while translating it: the mesh goes on, the person who wrote the rule is told.

use std::fmt;

use crate::model::rule::Rule;

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// Which kind of mistake it is, for metrics.
    pub reason: Reason,
    /// The object's kind.
    pub kind: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's generation.
    pub generation: i64,
    /// The field, `spec.http[0].route[0].destination.subset`.
    pub field: String,
    /// What is wrong with it, what that means for traffic, and what to do.
    pub message: String,
}

/// Kinds of mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A route names a subset that no DestinationRule defines.
    MissingSubset,
    /// A route names a host that no service has.
    MissingHost,
    /// A route names a port that its service does not have.
    MissingPort,
    /// Two objects claim the same thing.
    Conflict,
    /// It is of Istio's API, but not translated yet.
    Unsupported,
    /// It has a value that cannot be used.
    Invalid,
}

impl Reason {
    /// The value of a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingSubset => "missing_subset",
            Self::MissingHost => "missing_host",
            Self::MissingPort => "missing_port",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
        }
    }
}

impl Problem {
    pub(crate) fn of<S>(rule: &Rule<S>, reason: Reason, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason,
            kind: rule.kind.to_owned(),
            namespace: rule.namespace.clone(),
            name: rule.name.clone(),
            generation: rule.generation,
            field: field.into(),
            message: message.into(),
        }
    }

    pub(crate) fn of_service(
        service: &crate::model::service::Service,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        use crate::model::service::Origin;
        let (kind, generation) = match service.origin {
            Origin::Kubernetes => ("Service", 0),
            Origin::ServiceEntry { generation } => ("ServiceEntry", generation),
        };
        Self {
            reason,
            kind: kind.to_owned(),
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            generation,
            field: field.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, field, message, .. } = self;
        write!(f, "{kind} {namespace}/{name}, {field}: {message}")
    }
}
