//! What a person sees, with real servers for the other roles on loopback.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::LocalSet,
};

use super::{Part, Productpage, answer, page, session};
use crate::{
    reply::testing::{get, read, request},
    settings::Settings,
};

/// A role that gives the same answer to everyone, and remembers what it was asked.
struct Stand {
    address: String,
    asked: Rc<RefCell<Vec<String>>>,
}

async fn stand(status: u16, body: &'static str) -> Stand {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Rc::new(RefCell::new(Vec::new()));
    let remember = asked.clone();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            remember.borrow_mut().push(String::from_utf8(head).unwrap());
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    Stand { address, asked }
}

const DETAILS: &str =
    r#"{"id":0,"ISBN-10":"1234567890","publisher":"PublisherA","pages":200,"type":"paperback","language":"English"}"#;
const REVIEWS: &str = r#"{"id":"0","podname":"reviews-v3-x","clustername":"null","reviews":[{"reviewer":"Reviewer1","text":"Good <b>","rating":{"stars":4,"color":"red"}},{"reviewer":"Reviewer2","text":"Fun","rating":{"error":"Ratings service is currently unavailable"}}]}"#;

async fn productpage(details: &Stand, reviews: &Stand) -> Rc<Productpage> {
    let mut settings = Settings::read(|_| None);
    settings.details.clone_from(&details.address);
    settings.reviews.clone_from(&reviews.address);
    // Nobody listens there.
    settings.ratings = {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        free.local_addr().unwrap().to_string()
    };
    Rc::new(Productpage::new(settings))
}

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn the_page_shows_details_reviews_and_stars() {
    local(async {
        let (details, reviews) = (stand(200, DETAILS).await, stand(200, REVIEWS).await);
        let (status, body) = read(answer(productpage(&details, &reviews).await, get("/productpage")).await).await;
        assert_eq!(status, 200);
        for expected in [
            "<title>Simple Bookstore App</title>",
            "<h1>The Comedy of Errors</h1>",
            "Book Details",
            "<td>1234567890</td><td>PublisherA</td><td>200</td><td>paperback</td><td>English</td>",
            "Book Reviews",
            "\"Good &lt;b&gt;\"",
            "<font color=\"red\">",
            "Ratings service is currently unavailable",
            "Reviews served by: reviews-v3-x</div>",
            "Sign in",
        ] {
            assert!(body.contains(expected), "{expected} is missing in {body}");
        }
        assert_eq!(body.matches("glyphicon-star\"").count(), 4);
        assert_eq!(body.matches("glyphicon-star-empty\"").count(), 1);
        assert!(details.asked.borrow()[0].starts_with("GET /details/0 HTTP/1.1\r\n"));
    });
}

#[test]
fn the_signed_in_user_goes_along_and_a_header_from_outside_does_not() {
    local(async {
        let (details, reviews) = (stand(200, DETAILS).await, stand(200, REVIEWS).await);
        let page = productpage(&details, &reviews).await;
        let cookie = session::signed_in("jason");
        let headers: HeaderMap = [
            (header::COOKIE, HeaderValue::from_str(cookie.split(';').next().unwrap()).unwrap()),
            ("x-request-id".parse().unwrap(), HeaderValue::from_static("r1")),
        ]
        .into_iter()
        .collect();
        let (_, body) = read(answer(page.clone(), request(Method::GET, "/productpage", headers, "")).await).await;
        assert!(body.contains("jason</span> <a href=\"logout\">Sign out</a>"), "{body}");
        let stranger: HeaderMap =
            [("end-user".parse().unwrap(), HeaderValue::from_static("jason"))].into_iter().collect();
        answer(page, request(Method::GET, "/productpage", stranger, "")).await;

        let asked = reviews.asked.borrow();
        assert!(asked[0].contains("end-user: jason\r\n") && asked[0].contains("x-request-id: r1\r\n"), "{}", asked[0]);
        assert!(!asked[1].contains("end-user"), "{}", asked[1]);
    });
}

#[test]
fn reviews_are_asked_twice_and_then_the_page_says_sorry() {
    local(async {
        let (details, reviews) = (stand(500, "{}").await, stand(503, "no").await);
        let page = productpage(&details, &reviews).await;
        let (status, body) = read(answer(page.clone(), get("/productpage")).await).await;
        assert_eq!(status, 200);
        for expected in [
            "Error fetching product details",
            "Sorry, product details are currently unavailable for this book.",
            "Error fetching product reviews",
            "Sorry, product reviews are currently unavailable for this book.",
        ] {
            assert!(body.contains(expected), "{expected} is missing in {body}");
        }
        assert_eq!((details.asked.borrow().len(), reviews.asked.borrow().len()), (1, 2));
        let (_, metrics) = read(answer(page, get("/metrics")).await).await;
        assert!(
            metrics.contains("request_result_total{destination_app=\"reviews\",response_code=\"503\"} 1.0\n"),
            "{metrics}"
        );
    });
}

#[test]
fn the_flood_asks_reviews_more_often() {
    local(async {
        let (details, reviews) = (stand(200, DETAILS).await, stand(200, REVIEWS).await);
        let mut page = Rc::into_inner(productpage(&details, &reviews).await).unwrap();
        page.settings.flood_factor = 10;
        answer(Rc::new(page), get("/productpage")).await;
        assert_eq!(reviews.asked.borrow().len(), 11);
    });
}

#[test]
fn the_api_passes_status_and_document_on() {
    local(async {
        let (details, reviews) = (stand(200, DETAILS).await, stand(404, "{}").await);
        let page = productpage(&details, &reviews).await;
        let table = [
            ("/api/v1/products/0", 200, DETAILS.to_owned()),
            (
                "/api/v1/products/0/reviews",
                404,
                json!({"error": "Sorry, product reviews are currently unavailable for this book."}).to_string(),
            ),
            (
                "/api/v1/products/0/ratings",
                500,
                json!({"error": "Sorry, product ratings are currently unavailable for this book."}).to_string(),
            ),
            ("/api/v1/products", 200, json!([page::product()]).to_string()),
            ("/api/v1/products/0/other", 404, "Not Found\n".to_owned()),
            ("/health", 200, "Product page is healthy".to_owned()),
            ("/favicon.ico", 404, "Not Found\n".to_owned()),
        ];
        for (path, status, body) in table {
            assert_eq!(read(answer(page.clone(), get(path)).await).await, (status, body), "{path}");
        }
        assert_eq!(answer(page, get("/login")).await.status(), 405);
    });
}

#[test]
fn signing_in_and_out_goes_back_with_a_cookie() {
    local(async {
        let (details, reviews) = (stand(200, DETAILS).await, stand(200, REVIEWS).await);
        let page = productpage(&details, &reviews).await;
        let back: HeaderMap =
            [(header::REFERER, HeaderValue::from_static("http://shop/productpage"))].into_iter().collect();
        let count = Cell::new(0);
        for (method, path, body, expected) in [
            (Method::POST, "/login", "username=jason&passwd=", session::signed_in("jason")),
            (Method::GET, "/logout", "", session::SIGNED_OUT.to_owned()),
        ] {
            let reply = answer(page.clone(), request(method, path, back.clone(), body)).await;
            assert_eq!(reply.status(), StatusCode::FOUND);
            assert_eq!(reply.headers()[header::LOCATION], "http://shop/productpage");
            assert_eq!(reply.headers()[header::SET_COOKIE], expected.as_str());
            count.set(count.get() + 1);
        }
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn what_another_role_says_cannot_break_the_page() {
    let part = |document| Part { status: StatusCode::OK, document };
    let odd = page::book(
        Some("<script>"),
        &part(json!("no object")),
        &part(json!({ "podname": "<i>", "reviews": [{}, { "rating": { "stars": 99, "color": "\"><x" } }, 7] })),
    );
    assert!(!odd.contains("<script>") && !odd.contains("<i>") && !odd.contains("<x"), "{odd}");
    assert_eq!(odd.matches('★').count(), 5);
}
