//! Which requests a route is for.

use crds::networking::virtual_service::{HttpMatchRequest, StringMatch, StringMatcher as Asked};
use xds::types::boolean;
use xds::types::matcher::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use xds::types::route::header_matcher::HeaderMatchSpecifier;
use xds::types::route::query_parameter_matcher::QueryParameterMatchSpecifier;
use xds::types::route::route_match::PathSpecifier;
use xds::types::route::{HeaderMatcher, QueryParameterMatcher, RouteMatch};

/// Matches every request.
pub(crate) fn everything() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}

/// Matches what a rule's match asks for. Its port, gateways and source are asked before, of the proxy.
pub(crate) fn of(asked: &HttpMatchRequest) -> RouteMatch {
    let mut out = everything();
    if let Some(uri) = &asked.uri {
        out.path_specifier = Some(match uri.matcher() {
            Asked::Exact(path) => PathSpecifier::Path(path.to_owned()),
            Asked::Prefix(prefix) => PathSpecifier::Prefix(prefix.to_owned()),
            Asked::Regex(pattern) => PathSpecifier::SafeRegex(regex(pattern)),
            Asked::Present => PathSpecifier::Prefix("/".to_owned()),
        });
    }
    out.case_sensitive = Some(boolean(!asked.ignore_uri_case));

    let mut headers: Vec<_> = asked.headers.iter().map(|(name, value)| header(name, value)).collect();
    headers.extend(asked.without_headers.iter().map(|(name, value)| {
        let mut matcher = header(name, value);
        matcher.invert_match = true;
        // A header that is not there does not have the value. (Presence alone says so by itself.)
        matcher.treat_missing_header_as_empty = !is_presence(value);
        matcher
    }));
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    let pseudo = [(":method", &asked.method), (":authority", &asked.authority), (":scheme", &asked.scheme)];
    headers.extend(pseudo.into_iter().filter_map(|(name, value)| Some(header(name, value.as_ref()?))));
    out.headers = headers;

    out.query_parameters = asked.query_params.iter().map(|(name, value)| query_parameter(name, value)).collect();
    out
}

/// Whether no request is left for the routes behind it.
pub(crate) fn is_catch_all(of: &RouteMatch) -> bool {
    let any_path = match &of.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    any_path && of.headers.is_empty() && of.query_parameters.is_empty()
}

/// `*` is no regular expression; people write it and mean: there is one.
fn is_presence(asked: &StringMatch) -> bool {
    matches!(asked.matcher(), Asked::Present | Asked::Regex("*"))
}

/// A pattern, in the form that means the same to our proxies and to Envoy. One that is wrong stays as it is: the proxy
/// refuses it and says why.
pub(crate) fn regex(pattern: &str) -> RegexMatcher {
    let regex = crds::pattern::portable(pattern).unwrap_or_else(|_| pattern.to_owned());
    RegexMatcher { regex, ..Default::default() }
}

/// A matcher for strings; `None` where only presence is asked.
pub(crate) fn string(asked: &StringMatch) -> Option<StringMatcher> {
    let pattern = match asked.matcher() {
        Asked::Exact(text) => MatchPattern::Exact(text.to_owned()),
        Asked::Prefix(text) => MatchPattern::Prefix(text.to_owned()),
        Asked::Regex(pattern) if pattern != "*" => MatchPattern::SafeRegex(regex(pattern)),
        Asked::Regex(_) | Asked::Present => return None,
    };
    Some(StringMatcher { match_pattern: Some(pattern), ..Default::default() })
}

fn header(name: &str, asked: &StringMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(match string(asked) {
            Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
            None => HeaderMatchSpecifier::PresentMatch(true),
        }),
        ..Default::default()
    }
}

fn query_parameter(name: &str, asked: &StringMatch) -> QueryParameterMatcher {
    QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(match string(asked) {
            Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
            None => QueryParameterMatchSpecifier::PresentMatch(true),
        }),
    }
}
