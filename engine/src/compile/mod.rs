//! Envoy's messages to [`crate::ir`].
//!
//! What comes in: one resource. What goes out: its meaning, or [`Refused`], which names resource and field and is the
//! text of the NACK. A field that would change what happens and that we do not understand is refused; one that changes
//! nothing that we do is passed over.

// Istio still sends fields that Envoy calls deprecated; whoever sends one means it.
#![allow(deprecated)]

mod access_log;
mod cluster;
mod endpoint;
mod header;
mod http_chain;
mod listener;
mod part;
mod retry;
mod route;
mod route_action;
mod shared;
mod tls;
mod virtual_host;

use std::fmt;

pub use crate::decide::host::Viewpoint;
pub(crate) use cluster::compile as cluster;
pub(crate) use endpoint::compile as endpoints;
pub(crate) use listener::compile as listener;
pub(crate) use shared::Shared;
pub(crate) use virtual_host::{Frame, compile as virtual_host, frame};

/// For whom resources are compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Whether it is a gateway.
    pub gateway: bool,
    /// From where it looks at hosts.
    pub viewpoint: Viewpoint,
}

/// Why a resource was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// Which kind of resource.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The field, as the message's own definition names it.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: ", self.kind, self.name)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

/// What is wrong with a field, before it is known in which resource.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    field: String,
    reason: String,
}

impl Invalid {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { field: String::new(), reason: reason.into() }
    }

    /// A field that would change what happens, and that is not understood.
    pub(crate) fn unsupported(field: &str) -> Self {
        Self { field: field.to_owned(), reason: "not supported by this proxy".to_owned() }
    }

    pub(crate) fn missing(field: &str) -> Self {
        Self { field: field.to_owned(), reason: "is missing".to_owned() }
    }

    /// The same, one field further out.
    pub(crate) fn within(self, field: &str) -> Self {
        let field = match self.field.as_str() {
            "" => field.to_owned(),
            inner if inner.starts_with('[') => format!("{field}{inner}"),
            inner => format!("{field}.{inner}"),
        };
        Self { field, ..self }
    }

    fn of(self, kind: &'static str, name: &str) -> Refused {
        Refused { kind, name: name.to_owned(), field: self.field, reason: self.reason }
    }
}

impl From<xds::any::UnpackError> for Invalid {
    fn from(error: xds::any::UnpackError) -> Self {
        Self::new(error.to_string())
    }
}

pub(crate) type Checked<T> = Result<T, Invalid>;

/// Says in which field something went wrong.
pub(crate) trait At<T> {
    fn at(self, field: &str) -> Checked<T>;
    fn at_index(self, field: &str, index: usize) -> Checked<T>;
}

impl<T> At<T> for Checked<T> {
    fn at(self, field: &str) -> Self {
        self.map_err(|invalid| invalid.within(field))
    }

    fn at_index(self, field: &str, index: usize) -> Self {
        // Formatted only when there is something to say.
        match self {
            Ok(value) => Ok(value),
            Err(invalid) => Err(invalid.within(&format!("{field}[{index}]"))),
        }
    }
}

/// Compiles each element of a repeated field.
pub(crate) fn each<T, U>(field: &str, list: &[T], compile: impl Fn(&T) -> Checked<U>) -> Checked<Vec<U>> {
    list.iter().enumerate().map(|(index, element)| compile(element).at_index(field, index)).collect()
}

/// Refuses a field unless it is as if it were absent.
pub(crate) fn absent(is_absent: bool, field: &str) -> Checked<()> {
    if is_absent { Ok(()) } else { Err(Invalid::unsupported(field)) }
}
