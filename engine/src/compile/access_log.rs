//! Access logs.

use std::sync::Arc;

use xds::{
    any,
    types::{access_log as message, core, file_access_log, google, stream_access_log},
};

use super::{At, Checked, Invalid, absent, part};
use crate::ir::access_log::{AccessLog, AccessLogFormat};

/// `AccessLog`.
pub(crate) fn compile(log: &message::AccessLog) -> Checked<AccessLog> {
    absent(log.filter.is_none(), "filter")?;
    let Some(message::access_log::ConfigType::TypedConfig(config)) = &log.config_type else {
        return Err(Invalid::missing("typed_config"));
    };
    file_or_stream(config).at("typed_config")
}

fn file_or_stream(config: &google::Any) -> Checked<AccessLog> {
    use file_access_log::file_access_log::AccessLogFormat as Format;
    use stream_access_log::{
        stderr_access_log::AccessLogFormat as Stderr, stdout_access_log::AccessLogFormat as Stdout,
    };
    match part::type_name(Some(config)) {
        "envoy.extensions.access_loggers.file.v3.FileAccessLog" => {
            let log: file_access_log::FileAccessLog = any::unpack(config)?;
            let format = match &log.access_log_format {
                None => AccessLogFormat::Default,
                Some(Format::Format(line)) => text(line),
                Some(Format::JsonFormat(fields) | Format::TypedJsonFormat(fields)) => json(fields).at("json_format")?,
                Some(Format::LogFormat(format)) => substitution(format).at("log_format")?,
            };
            Ok(AccessLog { path: log.path.into(), format })
        }
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
            let log: stream_access_log::StdoutAccessLog = any::unpack(config)?;
            let format = match &log.access_log_format {
                None => AccessLogFormat::Default,
                Some(Stdout::LogFormat(format)) => substitution(format).at("log_format")?,
            };
            Ok(AccessLog { path: "/dev/stdout".into(), format })
        }
        "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => {
            let log: stream_access_log::StderrAccessLog = any::unpack(config)?;
            let format = match &log.access_log_format {
                None => AccessLogFormat::Default,
                Some(Stderr::LogFormat(format)) => substitution(format).at("log_format")?,
            };
            Ok(AccessLog { path: "/dev/stderr".into(), format })
        }
        other => Err(Invalid::new(format!("access logs of type {other} are not supported by this proxy"))),
    }
}

fn substitution(format: &core::SubstitutionFormatString) -> Checked<AccessLogFormat> {
    use core::substitution_format_string::Format;
    match &format.format {
        None => Ok(AccessLogFormat::Default),
        Some(Format::TextFormat(line)) => Ok(text(line)),
        Some(Format::JsonFormat(fields)) => json(fields).at("json_format"),
        Some(Format::TextFormatSource(source)) => {
            let bytes = part::inline(source).at("text_format_source")?;
            let line = std::str::from_utf8(bytes).map_err(|_| Invalid::new("is not UTF-8")).at("text_format_source")?;
            Ok(text(line))
        }
    }
}

fn text(line: &str) -> AccessLogFormat {
    if line.is_empty() { AccessLogFormat::Default } else { AccessLogFormat::Text(line.into()) }
}

fn json(fields: &google::Struct) -> Checked<AccessLogFormat> {
    let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (key, value) in &fields.fields {
        let format = match &value.kind {
            Some(google::value::Kind::StringValue(text)) => text.as_str().into(),
            _ => return Err(Invalid::new("only strings are supported as values")).at(key),
        };
        pairs.push((key.as_str().into(), format));
    }
    // Protobuf maps have no order; logs should have one.
    pairs.sort();
    Ok(AccessLogFormat::Json(Arc::from(pairs)))
}
