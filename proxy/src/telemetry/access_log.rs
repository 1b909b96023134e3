//! Access logs: formats, lines, and the thread that writes them.
//!
//! A format is read once. A request's line is put together when the request is over, into a buffer of its worker; a thread of its own
//! writes the buffers, because a pipe that nobody reads must not hold a worker up.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use engine::ir::access_log::{AccessLog, AccessLogFormat};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::error::Flags;

/// Istio's default line (`accessLogFormat` of its MeshConfig).
pub const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// What a line can tell of a request or a connection.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// When it began.
    pub start: Option<SystemTime>,
    /// The method; empty for a connection.
    pub method: Box<str>,
    /// The path as the client sent it.
    pub path: Box<str>,
    /// The host.
    pub authority: Box<str>,
    /// `HTTP/1.1`, `HTTP/2`.
    pub protocol: &'static str,
    /// The request's headers that the formats ask for.
    pub request: Vec<Option<HeaderValue>>,
    /// The response's headers that the formats ask for.
    pub response: Vec<Option<HeaderValue>>,
    /// The status.
    pub code: u16,
    /// Response flags.
    pub flags: Flags,
    /// Why this status.
    pub details: std::borrow::Cow<'static, str>,
    /// Why the connection ended.
    pub termination: Option<Box<str>>,
    /// Why the connection to the endpoint failed.
    pub transport_failure: Option<String>,
    /// Body bytes from the client.
    pub received: u64,
    /// Body bytes to the client.
    pub sent: u64,
    /// How long it took.
    pub duration: Duration,
    /// The endpoint.
    pub upstream_remote: Option<SocketAddr>,
    /// Our address to the endpoint.
    pub upstream_local: Option<SocketAddr>,
    /// The cluster.
    pub cluster: Option<Arc<str>>,
    /// Where the client connected to.
    pub downstream_local: Option<SocketAddr>,
    /// The client.
    pub downstream_remote: Option<SocketAddr>,
    /// The server name that the client asked for.
    pub sni: Option<Rc<str>>,
    /// The client's identity.
    pub peer: Option<Rc<str>>,
    /// The route's name.
    pub route: Option<Arc<str>>,
}

/// The logs of a chain, and the headers that they ask for.
#[derive(Debug)]
pub struct Lines {
    logs: Vec<(Arc<str>, Format)>,
    request: Vec<HeaderName>,
    response: Vec<HeaderName>,
}

#[derive(Debug)]
enum Format {
    Text(Vec<Piece>),
    Json(Vec<(Box<str>, Vec<Piece>)>),
}

#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    Command { field: Field, limit: Option<usize> },
}

#[derive(Debug)]
enum Field {
    Request(Vec<Source>),
    Response(Vec<usize>),
    StartTime,
    Protocol,
    Code,
    Flags,
    Details,
    Termination,
    TransportFailure,
    Received,
    Sent,
    Duration,
    UpstreamHost,
    UpstreamLocal,
    Cluster,
    DownstreamLocal,
    DownstreamRemote { port: bool },
    ServerName,
    PeerUri,
    Route,
    Unknown,
}

#[derive(Debug)]
enum Source {
    Method,
    Path,
    Authority,
    Header(usize),
}

impl Lines {
    /// Reads the formats of a chain's logs; `None` if it has none.
    pub fn new(logs: &[AccessLog]) -> Option<Self> {
        if logs.is_empty() {
            return None;
        }
        let mut lines = Self { logs: Vec::new(), request: Vec::new(), response: Vec::new() };
        for log in logs {
            let format = match &log.format {
                AccessLogFormat::Default => Format::Text(lines.parse(DEFAULT)),
                AccessLogFormat::Text(text) => Format::Text(lines.parse(text)),
                AccessLogFormat::Json(keys) => {
                    Format::Json(keys.iter().map(|(key, text)| (key.clone(), lines.parse(text))).collect())
                }
            };
            lines.logs.push((log.path.clone(), format));
        }
        Some(lines)
    }

    /// The request's headers that the formats ask for.
    pub fn request(&self, headers: &HeaderMap) -> Vec<Option<HeaderValue>> {
        self.request.iter().map(|name| headers.get(name).cloned()).collect()
    }

    /// The response's headers that the formats ask for.
    pub fn response(&self, headers: &HeaderMap) -> Vec<Option<HeaderValue>> {
        self.response.iter().map(|name| headers.get(name).cloned()).collect()
    }

    /// Writes an entry to all logs.
    pub fn write(&self, entry: &Entry, sink: &Sink) {
        for (path, format) in &self.logs {
            sink.with(path, |out| format.write(entry, out));
        }
    }

    fn parse(&mut self, format: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            // The argument of a command may have a percent sign itself: `%START_TIME(%s)%`.
            let end = match (after.find('('), after.find('%')) {
                (Some(open), Some(percent)) if open < percent => {
                    after.find(')').and_then(|close| after.get(close..)?.find('%').map(|percent| close + percent))
                }
                (_, percent) => percent,
            };
            let Some(end) = end else {
                text.push('%');
                rest = after;
                break;
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text).into()));
            }
            pieces.push(self.command(after.get(..end).unwrap_or_default()));
            rest = after.get(end + 1..).unwrap_or_default();
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        pieces
    }

    fn command(&mut self, command: &str) -> Piece {
        let (command, limit) = match command.rsplit_once(':') {
            Some((command, limit)) if limit.bytes().all(|byte| byte.is_ascii_digit()) && !limit.is_empty() => {
                (command, limit.parse().ok())
            }
            _ => (command, None),
        };
        let (name, argument) = match command.split_once('(') {
            Some((name, rest)) => (name, rest.trim_end_matches(')')),
            None => (command, ""),
        };
        let field = match name {
            "REQ" => Field::Request(argument.split('?').filter_map(|name| self.source(name)).collect()),
            "RESP" => {
                Field::Response(argument.split('?').filter_map(|name| position(&mut self.response, name)).collect())
            }
            "START_TIME" => Field::StartTime,
            "PROTOCOL" => Field::Protocol,
            "RESPONSE_CODE" => Field::Code,
            "RESPONSE_FLAGS" => Field::Flags,
            "RESPONSE_CODE_DETAILS" => Field::Details,
            "CONNECTION_TERMINATION_DETAILS" => Field::Termination,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Field::TransportFailure,
            "BYTES_RECEIVED" => Field::Received,
            "BYTES_SENT" => Field::Sent,
            "DURATION" => Field::Duration,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Field::UpstreamHost,
            "UPSTREAM_LOCAL_ADDRESS" => Field::UpstreamLocal,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Field::Cluster,
            "DOWNSTREAM_LOCAL_ADDRESS" => Field::DownstreamLocal,
            "DOWNSTREAM_REMOTE_ADDRESS" => Field::DownstreamRemote { port: true },
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Field::DownstreamRemote { port: false },
            "REQUESTED_SERVER_NAME" => Field::ServerName,
            "DOWNSTREAM_PEER_URI_SAN" => Field::PeerUri,
            "ROUTE_NAME" => Field::Route,
            _ => Field::Unknown,
        };
        Piece::Command { field, limit }
    }

    fn source(&mut self, name: &str) -> Option<Source> {
        Some(match name {
            ":METHOD" | ":method" => Source::Method,
            ":PATH" | ":path" => Source::Path,
            ":AUTHORITY" | ":authority" => Source::Authority,
            name => Source::Header(position(&mut self.request, name)?),
        })
    }
}

fn position(names: &mut Vec<HeaderName>, name: &str) -> Option<usize> {
    let name: HeaderName = name.to_ascii_lowercase().parse().ok()?;
    if let Some(position) = names.iter().position(|known| *known == name) {
        return Some(position);
    }
    names.push(name);
    Some(names.len() - 1)
}

impl Format {
    fn write(&self, entry: &Entry, out: &mut String) {
        match self {
            Self::Text(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.push_str(text),
                        Piece::Command { field, limit } => {
                            let start = out.len();
                            if !field.write(entry, out) {
                                out.push('-');
                            }
                            cut(out, start, *limit);
                        }
                    }
                }
                if !out.ends_with('\n') {
                    out.push('\n');
                }
            }
            Self::Json(keys) => {
                out.push('{');
                for (index, (key, pieces)) in keys.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    json_text(key, out);
                    out.push(':');
                    json_value(pieces, entry, out);
                }
                out.push_str("}\n");
            }
        }
    }
}

fn cut(out: &mut String, start: usize, limit: Option<usize>) {
    let Some(limit) = limit else { return };
    let end = out.get(start..).and_then(|text| text.char_indices().nth(limit)).map(|(offset, _)| start + offset);
    if let Some(end) = end {
        out.truncate(end);
    }
}

/// A single command keeps its type and is `null` without a value; anything else is text.
fn json_value(pieces: &[Piece], entry: &Entry, out: &mut String) {
    if let [Piece::Command { field, limit }] = pieces {
        let mut text = String::new();
        if !field.write(entry, &mut text) {
            return out.push_str("null");
        }
        cut(&mut text, 0, *limit);
        return if field.is_number() { out.push_str(&text) } else { json_text(&text, out) };
    }
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Command { field, .. } => {
                if !field.write(entry, &mut text) {
                    text.push('-');
                }
            }
        }
    }
    json_text(&text, out);
}

fn json_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

impl Field {
    fn is_number(&self) -> bool {
        matches!(self, Self::Code | Self::Received | Self::Sent | Self::Duration)
    }

    /// Writes the value; `false` if there is none.
    fn write(&self, entry: &Entry, out: &mut String) -> bool {
        let text = |out: &mut String, text: &str| {
            out.push_str(text);
            !text.is_empty()
        };
        let number = |out: &mut String, number: u128| write!(out, "{number}").is_ok();
        let address = |out: &mut String, address: Option<SocketAddr>| {
            address.is_some_and(|address| write!(out, "{address}").is_ok())
        };
        match self {
            Self::Request(sources) => sources.iter().any(|source| match source {
                Source::Method => text(out, &entry.method),
                Source::Path => text(out, &entry.path),
                Source::Authority => text(out, &entry.authority),
                Source::Header(position) => header(&entry.request, *position, out),
            }),
            Self::Response(positions) => positions.iter().any(|position| header(&entry.response, *position, out)),
            Self::StartTime => entry.start.is_some_and(|time| text(out, &timestamp(time))),
            Self::Protocol => text(out, entry.protocol),
            Self::Code => number(out, u128::from(entry.code)),
            Self::Flags => write!(out, "{}", entry.flags).is_ok(),
            Self::Details => text(out, &entry.details),
            Self::Termination => entry.termination.as_deref().is_some_and(|reason| text(out, reason)),
            Self::TransportFailure => entry.transport_failure.as_deref().is_some_and(|reason| text(out, reason)),
            Self::Received => number(out, u128::from(entry.received)),
            Self::Sent => number(out, u128::from(entry.sent)),
            Self::Duration => number(out, entry.duration.as_millis()),
            Self::UpstreamHost => address(out, entry.upstream_remote),
            Self::UpstreamLocal => address(out, entry.upstream_local),
            Self::Cluster => entry.cluster.as_deref().is_some_and(|cluster| text(out, cluster)),
            Self::DownstreamLocal => address(out, entry.downstream_local),
            Self::DownstreamRemote { port: true } => address(out, entry.downstream_remote),
            Self::DownstreamRemote { port: false } => {
                entry.downstream_remote.is_some_and(|address| write!(out, "{}", address.ip()).is_ok())
            }
            Self::ServerName => entry.sni.as_deref().is_some_and(|name| text(out, name)),
            Self::PeerUri => entry.peer.as_deref().is_some_and(|uri| text(out, uri)),
            Self::Route => entry.route.as_deref().is_some_and(|name| text(out, name)),
            Self::Unknown => false,
        }
    }
}

fn header(values: &[Option<HeaderValue>], position: usize, out: &mut String) -> bool {
    let Some(Some(value)) = values.get(position) else { return false };
    // A header's bytes must not forge a line.
    out.extend(String::from_utf8_lossy(value.as_bytes()).chars().map(|c| if c.is_control() { '?' } else { c }));
    !value.is_empty()
}

/// `2026-08-22T10:00:00.123Z`
pub fn timestamp(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or_default();
    format!("{time:.3}")
}

/// How much a worker keeps before it hands it on.
const FULL: usize = 16 * 1024;
/// How much a worker keeps when the writer does not keep up; what comes then is lost, and that is counted.
const LIMIT: usize = 1024 * 1024;

/// The way to the thread that writes: a file and lines for it.
pub type Writer = SyncSender<(Arc<str>, String)>;

/// A worker's buffers, by file.
#[derive(Debug)]
pub struct Sink {
    buffers: RefCell<HashMap<Arc<str>, String>>,
    writer: Writer,
}

impl Sink {
    /// Buffers for one worker.
    pub fn new(writer: Writer) -> Self {
        Self { buffers: RefCell::default(), writer }
    }

    fn with(&self, path: &Arc<str>, line: impl FnOnce(&mut String)) {
        let mut buffers = self.buffers.borrow_mut();
        let buffer = buffers.entry(path.clone()).or_default();
        if buffer.len() < LIMIT {
            line(buffer);
        }
        if buffer.len() >= FULL {
            self.hand_on(path, buffer);
        }
    }

    fn hand_on(&self, path: &Arc<str>, buffer: &mut String) {
        match self.writer.try_send((path.clone(), std::mem::take(buffer))) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full((_, back))) => *buffer = back,
        }
    }

    /// Hands on what there is; about once a second.
    pub fn flush(&self) {
        for (path, buffer) in self.buffers.borrow_mut().iter_mut().filter(|(_, buffer)| !buffer.is_empty()) {
            self.hand_on(path, buffer);
        }
    }
}

/// Starts the thread that writes; it ends when all senders are gone.
pub fn start_writer() -> std::io::Result<(Writer, std::thread::JoinHandle<()>)> {
    let (sender, lines) = sync_channel(64);
    let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || write_lines(&lines))?;
    Ok((sender, thread))
}

fn write_lines(lines: &Receiver<(Arc<str>, String)>) {
    let mut files: HashMap<Arc<str>, std::fs::File> = HashMap::new();
    while let Ok((path, text)) = lines.recv() {
        let outcome = match &*path {
            "/dev/stdout" => std::io::stdout().write_all(text.as_bytes()),
            "/dev/stderr" => std::io::stderr().write_all(text.as_bytes()),
            name => match files.entry(path.clone()) {
                std::collections::hash_map::Entry::Occupied(mut file) => file.get_mut().write_all(text.as_bytes()),
                std::collections::hash_map::Entry::Vacant(slot) => std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(name)
                    .and_then(|file| slot.insert(file).write_all(text.as_bytes())),
            },
        };
        if let Err(error) = outcome {
            tracing::warn!(%path, %error, "access log cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use engine::ir::access_log::{AccessLog, AccessLogFormat};
    use http::header::{HeaderMap, HeaderValue};

    use super::{Entry, Lines, Sink};
    use crate::error::{Flag, Flags};

    fn entry(lines: &Lines) -> Entry {
        let mut request = HeaderMap::new();
        request.insert("user-agent", HeaderValue::from_static("curl/8\t\"x\""));
        let mut response = HeaderMap::new();
        response.insert("x-envoy-upstream-service-time", HeaderValue::from_static("3"));
        Entry {
            start: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
            method: "GET".into(),
            path: "/productpage".into(),
            authority: "bookinfo".into(),
            protocol: "HTTP/1.1",
            request: lines.request(&request),
            response: lines.response(&response),
            code: 503,
            flags: Flags::from(Flag::UF),
            details: "via_upstream".into(),
            received: 1,
            sent: 91,
            duration: Duration::from_micros(7900),
            upstream_remote: "10.0.0.1:9080".parse().ok(),
            cluster: Some("outbound|9080||productpage.default.svc.cluster.local".into()),
            downstream_remote: "10.0.0.9:5".parse().ok(),
            route: Some("default".into()),
            ..Entry::default()
        }
    }

    fn written(format: AccessLogFormat) -> String {
        let lines = Lines::new(&[AccessLog { path: "x".into(), format }]).unwrap();
        let (sender, receiver) = std::sync::mpsc::sync_channel(4);
        let sink = Sink::new(sender);
        lines.write(&entry(&lines), &sink);
        sink.flush();
        receiver.recv().unwrap().1
    }

    #[test]
    fn istios_default_line() {
        assert_eq!(
            written(AccessLogFormat::Default),
            "[2023-11-14T22:13:20.123Z] \"GET /productpage HTTP/1.1\" 503 UF via_upstream - \"-\" 1 91 7 3 \"-\" \
             \"curl/8?\"x\"\" \"-\" \"bookinfo\" \"10.0.0.1:9080\" outbound|9080||productpage.default.svc.cluster.local \
             - - 10.0.0.9:5 - default\n"
        );
    }

    #[test]
    fn text_with_limits_and_unknown_commands() {
        let format = "%REQ(:PATH):4% 100%% %START_TIME(%s)% %NOT_THERE(x)% %REQ(X-A?USER-AGENT):4%";
        assert_eq!(written(AccessLogFormat::Text(format.into())), "/pro 100% 2023-11-14T22:13:20.123Z - curl\n");
    }

    #[test]
    fn json_keeps_types() {
        let keys =
            [("code", "%RESPONSE_CODE%"), ("ua", "%REQ(USER-AGENT)%"), ("none", "%REQ(X)%"), ("mix", "a %PROTOCOL%")];
        let keys = keys.map(|(key, format)| (key.into(), format.into()));
        assert_eq!(
            written(AccessLogFormat::Json(keys.into())),
            "{\"code\":503,\"ua\":\"curl/8?\\\"x\\\"\",\"none\":null,\"mix\":\"a HTTP/1.1\"}\n"
        );
    }
}
