//! Requests as the roles see them, and the responses that they give.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

/// A response with its body in memory.
pub(crate) type Reply = Response<Full<Bytes>>;

/// A request with its body in memory.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Request {
    /// The path's last segment, where every role has the number of the product.
    pub(crate) fn last_segment(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Reply {
    let body = serde_json::to_vec(document).unwrap_or_default();
    with_type(status, HeaderValue::from_static("application/json"), body)
}

pub(crate) fn html(status: StatusCode, page: String) -> Reply {
    with_type(status, HeaderValue::from_static("text/html; charset=utf-8"), page)
}

pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    with_type(status, HeaderValue::from_static("text/plain; charset=utf-8"), text)
}

pub(crate) fn with_type(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
    reply
}

pub(crate) fn not_found() -> Reply {
    text(StatusCode::NOT_FOUND, "Not Found\n")
}

#[cfg(test)]
pub(crate) mod testing {
    use http_body_util::BodyExt as _;

    use super::{Bytes, HeaderMap, Method, Reply, Request};

    pub(crate) fn request(method: Method, path: &str, headers: HeaderMap, body: &str) -> Request {
        Request { method, path: path.to_owned(), headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    pub(crate) fn get(path: &str) -> Request {
        request(Method::GET, path, HeaderMap::new(), "")
    }

    /// Status and body of a reply.
    pub(crate) async fn read(reply: Reply) -> (u16, String) {
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}
