//! The compiled router against the definition: go through the routes in order, take the first that matches.

use std::sync::Arc;

use forestay_engine::{
    decide::{matching, router::Router},
    ir::{
        Fraction,
        header::HeaderOps,
        route::{
            DirectResponse, HeaderKey, HeaderMatch, HeaderRule, PathMatch, QueryMatch, Request, Route, RouteAction,
            RouteMatch,
        },
        text::{Pattern, TextMatch},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

/// Paths out of few segments, so that exact paths, prefixes and requests meet.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof!["a", "b", "ab", "ä"], 0..4)
        .prop_flat_map(|segments| any::<bool>().prop_map(move |slash| (segments.clone(), slash)))
        .prop_map(|(segments, slash)| format!("/{}{}", segments.join("/"), if slash { "/" } else { "" }))
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let with_case = || (path(), any::<bool>()).prop_map(|(path, ignore_case)| (Box::<str>::from(path), ignore_case));
    prop_oneof![
        4 => with_case().prop_map(|(path, ignore_case)| PathMatch::Exact { path, ignore_case }),
        4 => with_case().prop_map(|(path, ignore_case)| PathMatch::Prefix { path, ignore_case }),
        2 => with_case().prop_map(|(path, ignore_case)| PathMatch::Segments {
            path: path.trim_end_matches('/').into(),
            ignore_case,
        }),
        2 => prop::sample::select(&["/a.*", "/[ab]/?", ".*b", "/"][..])
            .prop_map(|pattern| PathMatch::Regex(Box::new(Pattern::new(pattern).expect("valid")))),
        1 => Just(PathMatch::Connect),
    ]
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let header = (prop_oneof!["1", "2"], any::<bool>()).prop_map(|(value, invert)| HeaderMatch {
        name: HeaderKey::Name(HeaderName::from_static("x")),
        rule: HeaderRule::Text(TextMatch::Exact { value: value.into(), ignore_case: false }),
        invert,
        missing_is_empty: false,
    });
    let query = prop::option::of(Just("1")).prop_map(|value| QueryMatch {
        name: "q".into(),
        value: value.map(|value| TextMatch::Exact { value: value.into(), ignore_case: false }),
    });
    let share = (0..=100u32).prop_map(|numerator| Fraction { numerator, denominator: 100 });
    (
        path_match(),
        prop::collection::vec(header, 0..2),
        prop::collection::vec(query, 0..2),
        prop::option::weighted(0.2, share),
    )
        .prop_map(|(path, headers, query, share)| RouteMatch {
            path,
            headers: headers.into(),
            query: query.into(),
            grpc: false,
            share,
        })
}

fn route(number: usize, matches: RouteMatch) -> Arc<Route> {
    Arc::new(Route {
        name: number.to_string().into(),
        matches,
        action: RouteAction::Direct(Box::new(DirectResponse { status: 200, body: bytes::Bytes::new() })),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        fault: None,
        cors: None,
        provenance: None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_router_finds_what_a_linear_search_finds(
        matches in prop::collection::vec(route_match(), 0..24),
        asked in prop::collection::vec((path(), prop::option::of("[12]"), prop::option::of("[12]"), any::<u64>(), any::<bool>()), 1..12),
    ) {
        let routes: Vec<_> = matches.into_iter().enumerate().map(|(number, matches)| route(number, matches)).collect();
        let router = Router::new(routes.clone());
        for (path, header, query, seed, connect) in asked {
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert("x", HeaderValue::from_str(&value).expect("a digit"));
            }
            let path = query.map_or(path.clone(), |value| format!("{path}?q={value}"));
            let method = if connect { Method::CONNECT } else { Method::GET };
            let request = Request {
                method: &method,
                scheme: "http",
                authority: "a",
                path: &path,
                headers: &headers,
                source: None,
            };
            let expected = routes.iter().find(|route| matching::route(&route.matches, &request, seed));
            let found = router.find(&request, seed);
            prop_assert_eq!(found.map(|route| &route.name), expected.map(|route| &route.name), "{}", path);
        }
    }
}
