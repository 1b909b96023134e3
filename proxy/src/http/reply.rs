//! Answers of our own.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};

use super::body::ResponseBody;
use super::record::Record;
use crate::error::{Answer, ProxyError, grpc_status};
use crate::telemetry::istio::RequestProtocol;

/// The answer to a request that failed.
pub fn failure(error: &ProxyError, mut record: Box<Record>) -> Response<ResponseBody> {
    let answer = error.answer();
    record.failed(&answer);
    let overloaded = matches!(error, ProxyError::Overflow { .. });
    let mut response = from_answer(answer, record);
    if overloaded {
        response.headers_mut().insert("x-envoy-overloaded", HeaderValue::from_static("true"));
    }
    response
}

/// A request aborted with a gRPC status, which plain HTTP clients see as the status that maps to it.
pub fn grpc_abort(status: u32, mut record: Box<Record>) -> Response<ResponseBody> {
    let fault = ProxyError::FaultAbort(StatusCode::OK).answer();
    let http = match status {
        0 => 200,
        3 | 9 | 11 => 400,
        16 => 401,
        7 => 403,
        5 => 404,
        6 | 10 => 409,
        8 => 429,
        1 => 499,
        12 => 501,
        14 => 503,
        4 => 504,
        _ => 500,
    };
    let answer = Answer { status: http, grpc: u8::try_from(status).unwrap_or(2), ..fault };
    record.failed(&answer);
    from_answer(answer, record)
}

fn from_answer(answer: Answer, record: Box<Record>) -> Response<ResponseBody> {
    if record.protocol == RequestProtocol::Grpc {
        return grpc(answer.grpc, &answer.body, record);
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    text(status, answer.body, record)
}

/// A route's fixed answer.
pub fn direct(status: u16, body: Bytes, mut record: Box<Record>) -> Response<ResponseBody> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    record.code = status.as_u16();
    record.details = "direct_response".into();
    if record.protocol == RequestProtocol::Grpc {
        let grpc_code = grpc_status(status.as_u16());
        record.code = 200;
        record.grpc = Some(u32::from(grpc_code));
        return grpc(grpc_code, &String::from_utf8_lossy(&body), record);
    }
    text(status, body, record)
}

/// Sends the client elsewhere.
pub fn redirect(status: u16, location: &str, mut record: Box<Record>) -> Response<ResponseBody> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
    record.code = status.as_u16();
    record.details = "direct_response".into();
    let mut response = text(status, Bytes::new(), record);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// An answer without a body.
pub fn empty(status: StatusCode, mut record: Box<Record>) -> Response<ResponseBody> {
    record.code = status.as_u16();
    text(status, Bytes::new(), record)
}

fn text(status: StatusCode, body: impl Into<Bytes>, mut record: Box<Record>) -> Response<ResponseBody> {
    let body = body.into();
    record.sent = body.len() as u64;
    let has_body = !body.is_empty();
    let mut response = Response::new(ResponseBody::own(body, Some(record)));
    *response.status_mut() = status;
    if has_body {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

/// gRPC says in headers alone how a call went ("Trailers-Only").
fn grpc(status: u8, message: &str, record: Box<Record>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(Bytes::new(), Some(record)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    if let Ok(message) = HeaderValue::from_str(&percent(message))
        && !message.is_empty()
    {
        headers.insert("grpc-message", message);
    }
    response
}

/// What is not printable ASCII, and `%`, as gRPC writes it.
fn percent(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
