//! The reviews role: two texts, and in versions 2 and 3 the stars that ratings gives.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::{
    call::{self, Answer},
    reply::{Reply, Request, json, not_found},
    settings::Settings,
};

/// The reviews in the original's order.
const REVIEWS: [(&str, &str); 2] = [
    ("Reviewer1", "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"),
    (
        "Reviewer2",
        "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare.",
    ),
];

#[derive(Debug)]
pub(crate) struct Reviews {
    settings: Settings,
}

impl Reviews {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// How long ratings may take. That it depends on the colour is the original's bug, which the fault injection task
    /// shows: productpage gives up after 3 s, long before the black version does.
    fn patience(&self) -> Duration {
        Duration::from_millis(if self.settings.star_color == "black" { 10_000 } else { 2_500 })
    }

    async fn ask_ratings(&self, id: i32, headers: &HeaderMap) -> Option<Answer> {
        call::get(&self.settings.ratings, &format!("/ratings/{id}"), call::forwarded(headers), self.patience()).await
    }

    /// The document for a book; `ratings` is what the ratings role answered, if anything.
    fn document(&self, id: i32, ratings: Option<&Answer>) -> Value {
        let stars =
            ratings.filter(|answer| answer.status == StatusCode::OK).and_then(|answer| answer.document.as_ref());
        let reviews: Vec<Value> = REVIEWS
            .iter()
            .map(|(reviewer, text)| {
                let mut review = json!({ "reviewer": reviewer, "text": text });
                if self.settings.ratings_enabled {
                    let stars = stars.and_then(|stars| stars.pointer(&format!("/ratings/{reviewer}"))?.as_i64());
                    review["rating"] = match stars {
                        Some(stars) => json!({ "stars": stars, "color": self.settings.star_color }),
                        None => json!({ "error": "Ratings service is currently unavailable" }),
                    };
                }
                review
            })
            .collect();
        json!({
            "id": id.to_string(),
            "podname": self.settings.pod,
            "clustername": self.settings.cluster,
            "reviews": reviews,
        })
    }
}

pub(crate) async fn answer(reviews: Rc<Reviews>, request: Request) -> Reply {
    if request.path == "/health" {
        return json(StatusCode::OK, &json!({ "status": "Reviews is healthy" }));
    }
    // A path whose last part is no number is no path of the original's.
    let Some(id) = request.path.strip_prefix("/reviews/").and_then(|id| id.parse::<i32>().ok()) else {
        return not_found();
    };
    let ratings = if reviews.settings.ratings_enabled { reviews.ask_ratings(id, &request.headers).await } else { None };
    json(StatusCode::OK, &reviews.document(id, ratings.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, time::Duration};

    use http::StatusCode;
    use serde_json::{Value, json};

    use super::{Reviews, answer};
    use crate::{
        call::Answer,
        reply::testing::{get, read},
        settings::Settings,
    };

    fn reviews(enabled: &'static str, color: &'static str) -> Reviews {
        Reviews::new(Settings::read(|name| match name {
            "ENABLE_RATINGS" => Some(enabled.to_owned()),
            "STAR_COLOR" => Some(color.to_owned()),
            "HOSTNAME" => Some("reviews-pod".to_owned()),
            _ => None,
        }))
    }

    fn ratings(status: StatusCode, document: &Value) -> Answer {
        Answer { status, document: Some(document.clone()) }
    }

    #[tokio::test]
    async fn version_1_has_no_stars() {
        let (status, body) = read(answer(Rc::new(reviews("false", "black")), get("/reviews/0")).await).await;
        assert_eq!(status, 200);
        assert_eq!(
            body,
            r#"{"id":"0","podname":"reviews-pod","clustername":"null","reviews":[{"reviewer":"Reviewer1","text":"An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},{"reviewer":"Reviewer2","text":"Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."}]}"#
        );
    }

    #[test]
    fn stars_are_what_ratings_says_in_the_versions_colour() {
        let unavailable = json!({ "error": "Ratings service is currently unavailable" });
        let both = json!({ "id": 0, "ratings": { "Reviewer1": 5, "Reviewer2": 4 } });
        let red = |stars: i64| json!({ "stars": stars, "color": "red" });
        let good = |document: &Value| Some(ratings(StatusCode::OK, document));
        let table = [
            ("both", good(&both), [red(5), red(4)]),
            ("one of them", good(&json!({ "ratings": { "Reviewer2": 1 } })), [unavailable.clone(), red(1)]),
            (
                "no stars in it",
                good(&json!({ "ratings": { "Reviewer1": "x" } })),
                [unavailable.clone(), unavailable.clone()],
            ),
            (
                "an error",
                Some(ratings(StatusCode::SERVICE_UNAVAILABLE, &both)),
                [unavailable.clone(), unavailable.clone()],
            ),
            ("no answer", None, [unavailable.clone(), unavailable.clone()]),
        ];
        for (name, answer, expected) in table {
            let document = reviews("true", "red").document(0, answer.as_ref());
            assert_eq!(document["reviews"][0]["rating"], expected[0], "{name}");
            assert_eq!(document["reviews"][1]["rating"], expected[1], "{name}");
        }
    }

    #[test]
    fn the_black_version_waits_longer_than_productpage_does() {
        assert_eq!(reviews("true", "black").patience(), Duration::from_secs(10));
        assert_eq!(reviews("true", "red").patience(), Duration::from_millis(2500));
    }

    #[tokio::test]
    async fn other_paths() {
        for (path, status) in [("/health", 200), ("/reviews/x", 404), ("/reviews", 404), ("/", 404)] {
            assert_eq!(answer(Rc::new(reviews("false", "black")), get(path)).await.status(), status, "{path}");
        }
    }
}
