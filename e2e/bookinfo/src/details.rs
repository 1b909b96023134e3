//! The details role: one book.

use http::StatusCode;
use serde_json::json;

use crate::reply::{Reply, Request, json, not_found};

pub(crate) fn answer(request: &Request) -> Reply {
    if request.path == "/health" {
        return json(StatusCode::OK, &json!({ "status": "Details is healthy" }));
    }
    if request.path != "/details" && !request.path.starts_with("/details/") {
        return not_found();
    }
    let Ok(id) = request.last_segment().parse::<i64>() else {
        return json(StatusCode::BAD_REQUEST, &json!({ "error": "please provide numeric product id" }));
    };
    json(
        StatusCode::OK,
        &json!({
            "id": id,
            "author": "William Shakespeare",
            "year": 1595,
            "type": "paperback",
            "pages": 200,
            "publisher": "PublisherA",
            "language": "English",
            "ISBN-10": "1234567890",
            "ISBN-13": "123-1234567890",
        }),
    )
}

#[cfg(test)]
mod tests {
    use crate::reply::testing::{get, read};

    #[tokio::test]
    async fn answers_as_the_original() {
        let book = r#"{"id":0,"author":"William Shakespeare","year":1595,"type":"paperback","pages":200,"publisher":"PublisherA","language":"English","ISBN-10":"1234567890","ISBN-13":"123-1234567890"}"#;
        let table = [
            ("a book", "/details/0", 200, book),
            ("not a number", "/details/zero", 400, r#"{"error":"please provide numeric product id"}"#),
            ("no number", "/details", 400, r#"{"error":"please provide numeric product id"}"#),
            ("health", "/health", 200, r#"{"status":"Details is healthy"}"#),
            ("something else", "/other", 404, "Not Found\n"),
        ];
        for (name, path, status, body) in table {
            assert_eq!(read(super::answer(&get(path))).await, (status, body.to_owned()), "{name}");
        }
    }
}
