//! What people and tools ask a proxy, on 127.0.0.1:15000: Envoy's paths, in Envoy's forms.
//!
//! * `dump`: `/config_dump`, the configuration as the control plane sent it; `message` and `shape`: how a message becomes
//!   JSON
//! * `endpoints`: `/clusters`, every cluster's endpoints
//! * `/ready`, `/certs`, `/listeners`, `/stats`, `/server_info`, `/memory`, `/logging`, `/drain_listeners`: here

mod dump;
mod endpoints;
pub(crate) mod message;
mod shape;

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Instant, SystemTime},
};

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use xds::node::ProxyNode;

use crate::{
    agent::{
        app_metrics::TEXT,
        lifecycle::{Lifecycle, Phase},
        readiness::Readiness,
        serve::{self, Answer, text, with_type},
    },
    tls::identity::Identity,
    xds::{publish::Publisher, session::Session},
};

/// Gives all metrics in Prometheus' text format.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Changes the level of logs; says why it cannot.
pub type LogLevel = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The administration of a proxy.
#[derive(Clone)]
pub struct Admin {
    node: Arc<ProxyNode>,
    session: Arc<Mutex<Session>>,
    publisher: Arc<Publisher>,
    identity: watch::Receiver<Option<Arc<Identity>>>,
    readiness: Arc<Readiness>,
    lifecycle: Arc<Lifecycle>,
    metrics: Metrics,
    log_level: LogLevel,
    started: Instant,
}

impl Admin {
    /// The administration over what the proxy has.
    #[allow(clippy::too_many_arguments)] // it looks at everything and owns nothing
    pub fn new(
        node: ProxyNode,
        session: Arc<Mutex<Session>>,
        publisher: Arc<Publisher>,
        identity: watch::Receiver<Option<Arc<Identity>>>,
        readiness: Arc<Readiness>,
        lifecycle: Arc<Lifecycle>,
        metrics: Metrics,
        log_level: LogLevel,
    ) -> Self {
        let node = Arc::new(node);
        Self { node, session, publisher, identity, readiness, lifecycle, metrics, log_level, started: Instant::now() }
    }

    /// Serves until the process ends.
    pub async fn serve(self, listener: TcpListener) {
        serve::serve(listener, move |request: Request<Incoming>, _: SocketAddr| {
            let answer = self.answer(request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
            std::future::ready(answer)
        })
        .await;
    }

    fn answer(&self, method: &Method, path: &str, query: &str) -> Answer {
        let changes = |change: &dyn Fn() -> Answer| {
            // As in Envoy: a page that a browser loads must not change anything.
            if method == Method::POST { change() } else { text(StatusCode::METHOD_NOT_ALLOWED, "must be a POST\n") }
        };
        match path {
            "/ready" => self.ready(),
            "/config_dump" => match dump::Asked::read(query) {
                Ok(asked) => {
                    let (sender, pieces) = mpsc::channel(dump::PIECES);
                    let (session, node, identity) = (&self.session, &self.node, self.identity.borrow().clone());
                    tokio::spawn(dump::write(asked, session.clone(), node.clone(), identity, sender));
                    serve::json_in_pieces(pieces)
                }
                Err(reason) => text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
            },
            "/clusters" => {
                let (snapshot, sets) = (self.publisher.current(), self.publisher.current_endpoints());
                if parameter(query, "format") == Some("json") {
                    serve::json(&endpoints::json(&snapshot, &sets))
                } else {
                    text(StatusCode::OK, endpoints::text(&snapshot, &sets))
                }
            }
            "/listeners" => self.listeners(parameter(query, "format") == Some("json")),
            "/certs" => serve::json(&self.certificates()),
            "/stats" if matches!(parameter(query, "format"), None | Some("text")) => {
                text(StatusCode::OK, plain(&(self.metrics)()))
            }
            "/stats" | "/stats/prometheus" => with_type(StatusCode::OK, TEXT, (self.metrics)()),
            "/server_info" => serve::json(&self.server_info()),
            "/memory" => serve::json(&memory()),
            "/logging" => changes(&|| self.logging(query)),
            "/drain_listeners" => changes(&|| {
                self.readiness.draining();
                self.lifecycle.advance(Phase::Draining);
                text(StatusCode::OK, "OK\n")
            }),
            "/quitquitquit" => changes(&|| {
                self.readiness.draining();
                self.lifecycle.advance(Phase::Quitting);
                text(StatusCode::OK, "OK\n")
            }),
            "/" | "/help" => text(StatusCode::OK, HELP),
            _ => text(StatusCode::NOT_FOUND, format!("there is no {path}\n\n{HELP}")),
        }
    }

    fn ready(&self) -> Answer {
        match self.readiness.check() {
            Ok(()) => text(StatusCode::OK, "LIVE\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{}: {reason}\n", self.state())),
        }
    }

    fn state(&self) -> &'static str {
        match (self.lifecycle.phase(), self.readiness.check()) {
            (Phase::Draining | Phase::Quitting, _) => "DRAINING",
            (Phase::Serving, Ok(())) => "LIVE",
            (Phase::Serving, Err(_)) => "INITIALIZING",
        }
    }

    fn listeners(&self, as_json: bool) -> Answer {
        let snapshot = self.publisher.current();
        let mut listeners: Vec<_> = snapshot.listeners().collect();
        listeners.sort_by(|left, right| left.name.cmp(&right.name));
        if as_json {
            let statuses: Vec<Value> = listeners
                .iter()
                .map(|listener| json!({"name": &*listener.name, "local_address": endpoints::address(listener.address)}))
                .collect();
            return serve::json(&json!({"listener_statuses": statuses}));
        }
        let mut out = String::new();
        for listener in listeners {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{}::{}", listener.name, listener.address);
        }
        text(StatusCode::OK, out)
    }

    fn certificates(&self) -> Value {
        let identity = self.identity.borrow().clone();
        let certificates: Vec<Value> = identity.iter().map(|identity| dump::certificate(identity)).collect();
        json!({"certificates": certificates})
    }

    fn server_info(&self) -> Value {
        let uptime = format!("{}s", self.started.elapsed().as_secs());
        json!({
            "version": names::VERSION,
            "state": self.state(),
            "uptime_current_epoch": uptime,
            "uptime_all_epochs": uptime,
            "hot_restart_version": "disabled",
            "node": dump::node(&self.node),
        })
    }

    fn logging(&self, query: &str) -> Answer {
        let Some(level) = parameter(query, "level") else {
            return text(StatusCode::BAD_REQUEST, "say ?level=trace|debug|info|warning|error|off\n");
        };
        let level = if level == "warning" { "warn" } else { level };
        match (self.log_level)(level) {
            Ok(()) => text(StatusCode::OK, format!("level: {level}\n")),
            Err(reason) => text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        }
    }
}

const HELP: &str = "\
/certs              the certificate and the roots, without the key
/clusters           clusters and their endpoints (?format=json)
/config_dump        the configuration (?resource=dynamic_listeners, ?mask=..., ?include_eds)
/drain_listeners    POST: tells clients to go
/listeners          listeners (?format=json)
/logging            POST ?level=debug: changes the level of logs
/memory             memory
/quitquitquit       POST: ends the proxy
/ready              whether the proxy is ready
/server_info        version, state, node
/stats              statistics (?format=prometheus)
/stats/prometheus   statistics for Prometheus
";

/// One parameter of a query.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Prometheus' text as `name: value` lines.
fn plain(metrics: &str) -> String {
    let mut out = String::with_capacity(metrics.len());
    for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some((name, value)) = line.rsplit_once(' ') {
            let _ = writeln!(out, "{name}: {value}");
        }
    }
    out
}

/// What the kernel says of this process, in bytes.
fn memory() -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        (kilobytes.unwrap_or(0) * 1024).to_string()
    };
    json!({
        "allocated": bytes("RssAnon"),
        "heap_size": bytes("VmData"),
        "total_physical_bytes": bytes("VmRSS"),
        "peak_physical_bytes": bytes("VmHWM"),
    })
}

/// A time as protobuf's JSON writes it.
fn timestamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests;
