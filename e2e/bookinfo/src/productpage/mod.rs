//! The productpage role: what a person sees.
//!
//! `page` writes the HTML, `session` keeps the user's name in a cookie, `metrics` counts the calls to the other roles.

mod metrics;
mod page;
mod session;

use std::{rc::Rc, time::Duration};

use futures::future::join_all;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    call::{self, Answer},
    reply::{Reply, Request, html, json, not_found, text, with_type},
    settings::Settings,
};

/// How long each call to another role may take.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Productpage {
    settings: Settings,
    results: metrics::Results,
}

/// What another role gave: the status that productpage passes on, and the document or an apology.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    status: StatusCode,
    document: Value,
}

impl Productpage {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, results: metrics::Results::default() }
    }

    async fn details(&self, id: &str, headers: &HeaderMap) -> Part {
        let answer = call::get(&self.settings.details, &format!("/details/{id}"), headers.clone(), PATIENCE).await;
        self.part(answer, "details", "Sorry, product details are currently unavailable for this book.")
    }

    /// Two tries of three seconds each: the bug that the original keeps for the fault injection task, where a delay of
    /// seven seconds makes the page fail after six.
    async fn reviews(&self, id: &str, headers: &HeaderMap) -> Part {
        let path = format!("/reviews/{id}");
        let mut answer = None;
        for _ in 0..2 {
            answer = call::get(&self.settings.reviews, &path, headers.clone(), PATIENCE).await;
            if answer.as_ref().is_some_and(good) {
                break;
            }
        }
        self.part(answer, "reviews", "Sorry, product reviews are currently unavailable for this book.")
    }

    async fn ratings(&self, id: &str, headers: &HeaderMap) -> Part {
        let answer = call::get(&self.settings.ratings, &format!("/ratings/{id}"), headers.clone(), PATIENCE).await;
        self.part(answer, "ratings", "Sorry, product ratings are currently unavailable for this book.")
    }

    fn part(&self, answer: Option<Answer>, role: &'static str, apology: &str) -> Part {
        let status = answer.as_ref().map_or(StatusCode::INTERNAL_SERVER_ERROR, |answer| answer.status);
        let part = match answer {
            Some(Answer { status: StatusCode::OK, document: Some(document) }) => Part { status, document },
            // A 200 that is not JSON is no answer either.
            Some(Answer { status: StatusCode::OK, document: None }) => {
                Part { status: StatusCode::INTERNAL_SERVER_ERROR, document: json!({ "error": apology }) }
            }
            _ => Part { status, document: json!({ "error": apology }) },
        };
        self.results.count(role, part.status);
        part
    }
}

fn good(answer: &Answer) -> bool {
    answer.status == StatusCode::OK && answer.document.is_some()
}

/// The headers for calls on behalf of a request: those that are forwarded, and the signed-in user as `end-user`.
fn onward(request: &Request) -> HeaderMap {
    let mut headers = call::forwarded(&request.headers);
    // As in the original only a session says who the user is, not a header from outside.
    headers.remove("end-user");
    if let Some(user) = session::user(&request.headers).and_then(|user| HeaderValue::from_str(&user).ok()) {
        headers.insert("end-user", user);
    }
    headers
}

pub(crate) async fn answer(page: Rc<Productpage>, request: Request) -> Reply {
    let allowed = if request.path == "/login" { Method::POST } else { Method::GET };
    if request.method != allowed && !(request.method == Method::HEAD && allowed == Method::GET) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    }
    match request.path.as_str() {
        "/" | "/index.html" => html(StatusCode::OK, page::index(&page.settings)),
        "/productpage" => {
            let headers = onward(&request);
            let details = page.details("0", &headers).await;
            join_all((0..page.settings.flood_factor).map(|_| page.reviews("0", &headers))).await;
            let reviews = page.reviews("0", &headers).await;
            html(StatusCode::OK, page::book(session::user(&request.headers).as_deref(), &details, &reviews))
        }
        "/login" => {
            let user = session::username(&request.body);
            redirect(&request, &session::signed_in(&user))
        }
        "/logout" => redirect(&request, session::SIGNED_OUT),
        "/health" => text(StatusCode::OK, "Product page is healthy"),
        "/metrics" => {
            with_type(StatusCode::OK, HeaderValue::from_static(metrics::CONTENT_TYPE), page.results.exposition())
        }
        page::STYLE_PATH => with_type(StatusCode::OK, HeaderValue::from_static("text/css"), page::STYLE),
        "/api/v1/products" => json(StatusCode::OK, &json!([page::product()])),
        path => match path.strip_prefix("/api/v1/products/") {
            Some(rest) => {
                let headers = onward(&request);
                let part = match rest.split_once('/') {
                    None => page.details(rest, &headers).await,
                    Some((id, "reviews")) => page.reviews(id, &headers).await,
                    Some((id, "ratings")) => page.ratings(id, &headers).await,
                    Some(_) => return not_found(),
                };
                json(part.status, &part.document)
            }
            None => not_found(),
        },
    }
}

/// Back to the page that the user came from, with a changed session.
fn redirect(request: &Request, cookie: &str) -> Reply {
    let back = request.header(header::REFERER).unwrap_or("/productpage");
    let mut reply = text(StatusCode::FOUND, "");
    if let (Ok(back), Ok(cookie)) = (HeaderValue::from_str(back), HeaderValue::from_str(cookie)) {
        reply.headers_mut().insert(header::LOCATION, back);
        reply.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    reply
}

#[cfg(test)]
mod tests;
