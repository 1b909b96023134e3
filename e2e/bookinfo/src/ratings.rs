//! The ratings role: stars, from memory.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    reply::{Reply, Request, json, not_found},
    settings::Settings,
};

/// What the original's faulty (`v-faulty`) and slow (`v-delayed`) versions do every second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Answer,
    Fail,
    AnswerAfter(Duration),
}

/// The delay of `v-delayed`.
const DELAY: Duration = Duration::from_secs(7);

#[derive(Debug)]
pub(crate) struct Ratings {
    second: Turn,
    is_second: Cell<bool>,
    posted: RefCell<HashMap<i64, Value>>,
}

impl Ratings {
    pub(crate) fn new(settings: &Settings) -> Self {
        let second = match settings.version.as_str() {
            "v-faulty" => Turn::Fail,
            "v-delayed" => Turn::AnswerAfter(DELAY),
            _ => Turn::Answer,
        };
        Self { second, is_second: Cell::new(false), posted: RefCell::default() }
    }

    /// The original throws dice; taking turns is the same on average and can be counted.
    fn turn(&self) -> Turn {
        let is_second = self.is_second.replace(!self.is_second.get());
        if is_second { self.second } else { Turn::Answer }
    }

    fn stars(&self, id: i64) -> Value {
        let stars = self.posted.borrow().get(&id).cloned();
        json!({ "id": id, "ratings": stars.unwrap_or_else(|| json!({ "Reviewer1": 5, "Reviewer2": 4 })) })
    }
}

pub(crate) async fn answer(ratings: Rc<Ratings>, request: Request) -> Reply {
    if request.path == "/health" {
        return json(StatusCode::OK, &json!({ "status": "Ratings is healthy" }));
    }
    if !request.path.starts_with("/ratings/") || !matches!(request.method, Method::GET | Method::POST) {
        return not_found();
    }
    let Ok(id) = request.last_segment().parse::<i64>() else {
        return json(StatusCode::BAD_REQUEST, &json!({ "error": "please provide numeric product ID" }));
    };
    if request.method == Method::POST {
        let Ok(stars) = serde_json::from_slice::<Value>(&request.body) else {
            return json(StatusCode::BAD_REQUEST, &json!({ "error": "please provide valid ratings JSON" }));
        };
        ratings.posted.borrow_mut().insert(id, stars);
        return json(StatusCode::OK, &ratings.stars(id));
    }
    match ratings.turn() {
        Turn::Answer => {}
        Turn::AnswerAfter(delay) => tokio::time::sleep(delay).await,
        Turn::Fail => {
            return json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": "Service unavailable" }));
        }
    }
    json(StatusCode::OK, &ratings.stars(id))
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, time::Duration};

    use http::{HeaderMap, Method};

    use super::{Ratings, Turn, answer};
    use crate::{
        reply::testing::{get, read, request},
        settings::Settings,
    };

    fn ratings(version: &str) -> Rc<Ratings> {
        Rc::new(Ratings::new(&Settings::read(|name| (name == "SERVICE_VERSION").then(|| version.to_owned()))))
    }

    #[tokio::test]
    async fn answers_as_the_original() {
        let ratings = ratings("v1");
        let post = |path: &str, body: &str| request(Method::POST, path, HeaderMap::new(), body);
        let numeric = r#"{"error":"please provide numeric product ID"}"#;
        let table = [
            ("stars", get("/ratings/0"), 200, r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#),
            ("not a number", get("/ratings/x"), 400, numeric),
            ("posted", post("/ratings/0", r#"{"Reviewer1":1}"#), 200, r#"{"id":0,"ratings":{"Reviewer1":1}}"#),
            ("and kept", get("/ratings/0"), 200, r#"{"id":0,"ratings":{"Reviewer1":1}}"#),
            ("for that book only", get("/ratings/1"), 200, r#"{"id":1,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#),
            ("no JSON", post("/ratings/0", "{"), 400, r#"{"error":"please provide valid ratings JSON"}"#),
            ("health", get("/health"), 200, r#"{"status":"Ratings is healthy"}"#),
            ("something else", get("/"), 404, "Not Found\n"),
        ];
        for (name, request, status, body) in table {
            assert_eq!(read(answer(ratings.clone(), request).await).await, (status, body.to_owned()), "{name}");
        }
    }

    #[tokio::test]
    async fn the_faulty_version_fails_every_second_time() {
        let ratings = ratings("v-faulty");
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(answer(ratings.clone(), get("/ratings/0")).await.status().as_u16());
        }
        assert_eq!(statuses, [200, 503, 200, 503]);
    }

    #[test]
    fn the_delayed_version_waits_every_second_time() {
        let ratings = ratings("v-delayed");
        let wait = Turn::AnswerAfter(Duration::from_secs(7));
        assert_eq!([(); 4].map(|()| ratings.turn()), [Turn::Answer, wait, Turn::Answer, wait]);
    }
}
