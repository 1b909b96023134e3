//! One scrape for all: the proxy's metrics, then the application's.
//!
//! The application comes last because it may speak OpenMetrics, whose end is marked. A part that fails is left out and
//! counted; the answer is still 200.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

/// Prometheus' text format.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// OpenMetrics' last line.
const END: &[u8] = b"# EOF";
/// The most that one target may give.
const LARGEST: usize = 10 << 20;
/// The time for one target; Prometheus itself waits ten seconds.
const TIMEOUT: Duration = Duration::from_secs(9);

/// Where an application's metrics are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    targets: Vec<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    port: u16,
    path: String,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    scrape: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    port: String,
    #[serde(default)]
    targets: Vec<WrittenTarget>,
}

#[derive(Deserialize)]
struct WrittenTarget {
    #[serde(default)]
    path: String,
    port: String,
}

/// Parts that failed, for the statistics.
#[derive(Debug, Default)]
pub struct Failures(AtomicU64);

impl Failures {
    /// How many.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reads `ISTIO_PROMETHEUS_ANNOTATIONS`; `None` when the application has no metrics.
pub fn parse(text: &str) -> Result<Option<Application>, String> {
    let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if written.scrape != "true" {
        return Ok(None);
    }
    let mut targets = Vec::new();
    for target in written.targets {
        targets.push(Target { port: port(&target.port)?, path: path(&target.path) });
    }
    if targets.is_empty() {
        let number = if written.port.is_empty() { 80 } else { port(&written.port)? };
        targets.push(Target { port: number, path: path(&written.path) });
    }
    Ok(Some(Application { targets }))
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("{text:?} is no port"))
}

fn path(text: &str) -> String {
    match text {
        "" => "/metrics".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    }
}

/// The merged answer: `own` metrics, then the application's, asked with the scraper's own `accept`.
pub async fn merge(
    own: String,
    application: Option<&Application>,
    asked: &HeaderMap,
    failures: &Failures,
) -> Response<Full<Bytes>> {
    let mut text = BytesMut::from(own.as_bytes());
    let mut content_type = HeaderValue::from_static(TEXT);
    let mut ends = false;
    for target in application.map_or(&[][..], |application| &application.targets) {
        match tokio::time::timeout(TIMEOUT, scrape(target, asked)).await {
            Ok(Ok((its_type, body))) => {
                let body = body.trim_ascii_end();
                // Only one end may be left, at the very end.
                let (body, ended) = body.strip_suffix(END).map_or((body, false), |body| (body, true));
                ends |= ended;
                text.extend_from_slice(body);
                if !body.is_empty() && !body.ends_with(b"\n") {
                    text.extend_from_slice(b"\n");
                }
                if let Some(its_type) = its_type {
                    content_type = its_type;
                }
            }
            failed => {
                failures.0.fetch_add(1, Ordering::Relaxed);
                let reason = match failed {
                    Ok(Err(reason)) => reason,
                    _ => format!("no answer in {TIMEOUT:?}"),
                };
                tracing::debug!(port = target.port, path = target.path, "the application's metrics: {reason}");
            }
        }
    }
    if ends {
        text.extend_from_slice(END);
        text.extend_from_slice(b"\n");
    }
    let mut response = Response::new(Full::new(text.freeze()));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

async fn scrape(target: &Target, asked: &HeaderMap) -> Result<(Option<HeaderValue>, Bytes), String> {
    let address = format!("localhost:{}", target.port);
    let tcp = TcpStream::connect(&address).await.map_err(|error| format!("no connection: {error}"))?;
    let handshake = hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(tcp));
    let (mut sender, connection) = handshake.await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let mut request = Request::get(&target.path).body(Full::default()).map_err(|error| error.to_string())?;
    for name in
        [header::ACCEPT, header::USER_AGENT, header::HeaderName::from_static("x-prometheus-scrape-timeout-seconds")]
    {
        if let Some(value) = asked.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let host = HeaderValue::from_str(&address).map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::HOST, host);
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("status {}", response.status()));
    }
    let content_type = response.headers().get(header::CONTENT_TYPE).cloned();
    let body = http_body_util::Limited::new(response.into_body(), LARGEST).collect().await;
    Ok((content_type, body.map_err(|error| error.to_string())?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::{HeaderMap, HeaderValue, StatusCode, header};
    use http_body_util::BodyExt;
    use tokio::net::TcpListener;

    use super::{Application, Failures, Target, merge, parse};
    use crate::agent::serve::{self, with_type};

    fn target(port: u16, path: &str) -> Target {
        Target { port, path: path.to_owned() }
    }

    #[test]
    fn annotations_say_where_the_metrics_are() {
        for (text, expected) in [
            (r#"{"scrape":"true","path":"","port":""}"#, Some(vec![target(80, "/metrics")])),
            (r#"{"scrape":"true","path":"stats","port":"9090"}"#, Some(vec![target(9090, "/stats")])),
            (
                r#"{"scrape":"true","port":"1","path":"/x","targets":[{"port":"1","path":"/x"},{"port":"2","path":""}]}"#,
                Some(vec![target(1, "/x"), target(2, "/metrics")]),
            ),
            (r#"{"scrape":"","path":"","port":"9090"}"#, None),
        ] {
            let parsed = parse(text).expect("valid").map(|application| application.targets);
            assert_eq!(parsed, expected, "{text}");
        }
        assert!(parse(r#"{"scrape":"true","port":"http"}"#).is_err());
    }

    #[tokio::test]
    async fn one_answer_has_all_metrics_one_end_and_the_applications_type() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(serve::serve(listener, |request, _| {
            let open =
                request.headers().get(header::ACCEPT).is_some_and(|accept| accept == "application/openmetrics-text");
            std::future::ready(match request.uri().path() {
                "/a" if open => with_type(StatusCode::OK, "application/openmetrics-text", "a 1\n# EOF\n"),
                "/b" => with_type(StatusCode::OK, "application/openmetrics-text", "b 2\n# EOF"),
                _ => with_type(StatusCode::NOT_FOUND, "text/plain", "no"),
            })
        }));
        let application =
            Application { targets: vec![target(port, "/a"), target(port, "/missing"), target(port, "/b")] };
        let mut asked = HeaderMap::new();
        asked.insert(header::ACCEPT, HeaderValue::from_static("application/openmetrics-text"));
        let failures = Failures::default();
        let answer = merge("own 3\n".to_owned(), Some(&application), &asked, &failures).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/openmetrics-text");
        let body = answer.into_body().collect().await.expect("whole").to_bytes();
        assert_eq!(body, "own 3\na 1\nb 2\n# EOF\n");
        assert_eq!(failures.count(), 1);

        let alone = merge("own 3\n".to_owned(), None, &asked, &failures).await;
        assert_eq!(alone.headers()[header::CONTENT_TYPE], super::TEXT);
    }
}
