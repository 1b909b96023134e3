//! The HTML. Texts, headings and the title are the original's, since people, scripts and walkthroughs look for them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Part;
use crate::settings::Settings;

/// Where the pages' style is.
pub(super) const STYLE_PATH: &str = "/static/bookinfo.css";

/// The pages' style.
pub(super) const STYLE: &str = "\
body { font-family: sans-serif; margin: 0; color: #1f2937 }
nav { background: #1f2937; color: #fff; padding: 1em 2em; display: flex; justify-content: space-between }
nav a { color: #d1d5db; margin-left: 1em } nav form { display: inline }
main { padding: 1em 2em; max-width: 60em }
h1 { color: #1e3a8a } table { border-collapse: collapse } th, td { text-align: left; padding: .3em 1em .3em 0 }
.reviews { display: flex; gap: 2em } blockquote { margin: 1em 0; font-weight: bold }
.stars { font-size: 1.5em } .text-red-500 { color: #ef4444 } .text-black-500 { color: #000 }
.error { color: #ef4444 } .served { font-family: monospace; color: #4b5563 }
";

/// The one product.
pub(super) fn product() -> Value {
    json!({
        "id": 0,
        "title": "The Comedy of Errors",
        "descriptionHtml": "<a href=\"https://en.wikipedia.org/wiki/The_Comedy_of_Errors\">Wikipedia Summary</a>: The Comedy of Errors is one of <b>William Shakespeare's</b> early plays. It is his shortest and one of his most farcical comedies, with a major part of the humour coming from slapstick and mistaken identity, in addition to puns and word play.",
    })
}

/// The page of the book. `user` is who is signed in.
pub(super) fn book(user: Option<&str>, details: &Part, reviews: &Part) -> String {
    let sign_in = match user {
        Some(user) => format!("<span class=\"user\">{}</span> <a href=\"logout\">Sign out</a>", escaped(user)),
        None => "<form method=\"post\" action=\"login\" name=\"login_form\">\
                 <input id=\"username\" name=\"username\" placeholder=\"Username\" required> \
                 <input id=\"password\" name=\"passwd\" type=\"password\" placeholder=\"Password\"> \
                 <button type=\"submit\" id=\"sign-in-button\">Sign in</button></form>"
            .to_owned(),
    };
    let product = product();
    let body = format!(
        "<nav><span>BookInfo Sample</span><span>{sign_in}</span></nav>\n<main>\n<h1>{title}</h1>\n<p>{description}</p>\n{details}{reviews}</main>\n",
        title = escaped(field(&product, "title")),
        description = field(&product, "descriptionHtml"), // ours, not a user's
        details = details_table(details),
        reviews = reviews_list(reviews),
    );
    document(&body)
}

/// The front page: which services there are, and where to go on.
pub(super) fn index(settings: &Settings) -> String {
    let mut services = String::new();
    for (name, authority) in
        [("details", &settings.details), ("reviews", &settings.reviews), ("ratings", &settings.ratings)]
    {
        let _ = writeln!(services, "<tr><td>{name}</td><td>http://{}</td></tr>", escaped(authority));
    }
    document(&format!(
        "<main>\n<h3>Hello! This is a simple bookstore application consisting of three services as shown below</h3>\n\
         <table>\n<tr><th>endpoint</th><th>name</th></tr>\n{services}</table>\n\
         <h4>Click on one of the links below to auto generate a request to the backend as a real user or a tester</h4>\n\
         <p><a href=\"/productpage?u=normal\">Normal user</a></p>\n<p><a href=\"/productpage?u=test\">Test user</a></p>\n</main>\n"
    ))
}

fn document(body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1.0\">\n\
         <title>Simple Bookstore App</title>\n<link rel=\"stylesheet\" href=\"{STYLE_PATH}\">\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn details_table(details: &Part) -> String {
    if !details.status.is_success() {
        return apology("Error fetching product details", details);
    }
    let cell = |name: &str| format!("<td>{}</td>", escaped(&text(details.document.get(name))));
    format!(
        "<h4>Book Details</h4>\n<table>\n<tr><th>ISBN-10</th><th>Publisher</th><th>Pages</th><th>Type</th><th>Language</th></tr>\n<tr>{}{}{}{}{}</tr>\n</table>\n",
        cell("ISBN-10"),
        cell("publisher"),
        cell("pages"),
        cell("type"),
        cell("language"),
    )
}

fn reviews_list(reviews: &Part) -> String {
    if !reviews.status.is_success() {
        return apology("Error fetching product reviews", reviews);
    }
    let mut html = "<h4>Book Reviews</h4>\n<div class=\"reviews\">\n".to_owned();
    let served_by = escaped(field(&reviews.document, "podname"));
    let cluster = match field(&reviews.document, "clustername") {
        "null" | "" => String::new(),
        cluster => format!(" on cluster {}", escaped(cluster)),
    };
    for review in reviews.document.get("reviews").and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(
            html,
            "<section>\n{}<blockquote><p>\"{}\"</p></blockquote>\n<div>{}</div>\n<div class=\"served\">Reviews served by: {served_by}{cluster}</div>\n</section>",
            review.get("rating").map(rating).unwrap_or_default(),
            escaped(field(review, "text")),
            escaped(field(review, "reviewer")),
        );
    }
    html.push_str("</div>\n");
    html
}

/// Stars in their colour, full ones first, five in all.
fn rating(rating: &Value) -> String {
    const FULL: &str = "<span class=\"glyphicon glyphicon-star\">★</span>";
    const EMPTY: &str = "<span class=\"glyphicon glyphicon-star-empty\">☆</span>";
    match rating.get("stars").and_then(Value::as_u64).and_then(|stars| usize::try_from(stars.min(5)).ok()) {
        Some(stars) => format!(
            "<div class=\"stars text-{color}-500\"><font color=\"{color}\">{}{}</font></div>\n",
            FULL.repeat(stars),
            EMPTY.repeat(5 - stars),
            color = escaped(field(rating, "color")),
        ),
        None => format!("<p class=\"error\">{}</p>\n", escaped(field(rating, "error"))),
    }
}

fn apology(heading: &str, part: &Part) -> String {
    format!("<h4 class=\"error\">{heading}</h4>\n<p>{}</p>\n", escaped(field(&part.document, "error")))
}

fn field<'a>(document: &'a Value, name: &str) -> &'a str {
    document.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
