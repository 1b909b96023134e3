//! How one role asks another.
//!
//! Connections are not kept, as in the originals: each call can land on another version, which is what people watch.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// An answer larger than this is not one of ours.
const MAX_ANSWER: usize = 1024 * 1024;

/// The headers that carry a trace through an application, and those of the user's session. A mesh can send spans by
/// itself, but only the application knows which outgoing request belongs to which incoming one.
const FORWARDED: [&str; 21] = [
    "x-request-id",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "traceparent",
    "tracestate",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "sw8",
    "end-user",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
];

/// The part of a request's headers that goes on to the next role.
pub(crate) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    FORWARDED.iter().filter_map(|name| Some((HeaderName::from_static(name), headers.get(*name)?.clone()))).collect()
}

/// What came of a call: the answer's status and its JSON, or nothing when there was no answer in time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) document: Option<Value>,
}

/// `GET http://<authority><path>`, with a limit for the whole call.
pub(crate) async fn get(authority: &str, path: &str, headers: HeaderMap, limit: Duration) -> Option<Answer> {
    match tokio::time::timeout(limit, exchange(authority, path, headers)).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            eprintln!("http://{authority}{path}: {error:#}");
            None
        }
        Err(_) => {
            eprintln!("http://{authority}{path}: no answer within {limit:?}");
            None
        }
    }
}

async fn exchange(authority: &str, path: &str, headers: HeaderMap) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect(authority).await?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        // Its error reaches us through the sender as well.
        let _ = connection.await;
    });
    let mut request = Request::get(path).body(Empty::<Bytes>::new())?;
    *request.headers_mut() = headers;
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority)?);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
    Ok(Answer { status, document: serde_json::from_slice(&body.to_bytes()).ok() })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn a_trace_and_a_session_go_on_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for name in ["x-request-id", "x-b3-traceid", "traceparent", "end-user", "cookie", "host", "accept", "x-other"] {
            headers.insert(name, HeaderValue::from_static("v"));
        }
        let mut names: Vec<String> = super::forwarded(&headers).keys().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["cookie", "end-user", "traceparent", "x-b3-traceid", "x-request-id"]);
    }
}
