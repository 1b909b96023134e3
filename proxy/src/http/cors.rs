//! Cross-origin policies (the Fetch standard, as Envoy's CORS filter reads it).

use engine::ir::route::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderName, HeaderValue, ORIGIN,
};
use http::request::Parts;
use http::{Method, StatusCode};

/// What a policy says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on; the response gets these headers.
    Forward(Option<HeaderValue>),
    /// It is a preflight request, answered here.
    Preflight(HeaderMap),
}

/// Judges a request.
pub fn judge(policy: &Cors, request: &Parts) -> Verdict {
    let Some(origin) = request.headers.get(ORIGIN) else { return Verdict::Forward(None) };
    let allowed = policy.allow_origins.iter().any(|allowed| allowed.matches(origin.as_bytes()));
    let preflight = request.method == Method::OPTIONS && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    match (allowed, preflight) {
        (true, false) => Verdict::Forward(Some(origin.clone())),
        (true, true) => {
            let mut headers = HeaderMap::new();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            put(&mut headers, ACCESS_CONTROL_ALLOW_METHODS, &policy.allow_methods);
            put(&mut headers, ACCESS_CONTROL_ALLOW_HEADERS, &policy.allow_headers);
            put(&mut headers, ACCESS_CONTROL_MAX_AGE, &policy.max_age);
            credentials(&mut headers, policy);
            Verdict::Preflight(headers)
        }
        (false, true) if !policy.forward_not_matching_preflights => Verdict::Preflight(HeaderMap::new()),
        (false, _) => Verdict::Forward(None),
    }
}

/// The status of a preflight's answer.
pub const PREFLIGHT: StatusCode = StatusCode::OK;

/// Adds what a response to an allowed origin carries.
pub fn respond(policy: &Cors, origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    put(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &policy.expose_headers);
    credentials(headers, policy);
}

fn credentials(headers: &mut HeaderMap, policy: &Cors) {
    if policy.allow_credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value)
        && !value.is_empty()
    {
        headers.insert(name, value);
    }
}
