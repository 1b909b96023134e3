//! Access logs.

use std::sync::Arc;

/// One access log (`envoy.access_loggers.file` or `stdout`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// A file, or `/dev/stdout`.
    pub path: Arc<str>,
    /// What a line looks like.
    pub format: AccessLogFormat,
}

/// What a line of an access log looks like, in Envoy's substitution format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Envoy's default line.
    Default,
    /// One line of text.
    Text(Arc<str>),
    /// One JSON object: keys and the format of each value, in order.
    Json(Arc<[(Box<str>, Box<str>)]>),
}
