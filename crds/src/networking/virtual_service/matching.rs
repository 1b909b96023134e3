//! What is wrong with the conditions of an HTTP route.

use std::collections::BTreeMap;

use super::{HttpMatchRequest, StringMatch, StringMatcher};
use crate::check::{Checker, is_claim};

pub(super) fn http_match(c: &mut Checker, m: &HttpMatchRequest) {
    if let Some(uri) = &m.uri {
        c.field("uri", |c| match uri.matcher() {
            // Every path has the empty prefix, and Envoy takes it.
            StringMatcher::Prefix("") => one_matcher(c, uri),
            _ => string_match(c, uri),
        });
    }
    for (name, value) in [("uri", &m.uri), ("scheme", &m.scheme), ("method", &m.method), ("authority", &m.authority)] {
        let Some(value) = value else { continue };
        if name != "uri" {
            c.field(name, |c| string_match(c, value));
        }
        if value.matcher() == StringMatcher::Present {
            c.warn(name, "asks for nothing, and so matches everything: set one of exact, prefix, regex");
        }
    }
    headers(c, "headers", &m.headers);
    headers(c, "withoutHeaders", &m.without_headers);
    for (name, value) in &m.query_params {
        c.required("queryParams", name);
        c.key("queryParams", name, |c| string_match(c, value));
    }
    if m.port != 0 {
        c.port("port", m.port);
    }
    c.labels("sourceLabels", &m.source_labels);
    if !m.source_namespace.is_empty() {
        c.dns_label("sourceNamespace", &m.source_namespace, "namespace");
    }
    c.gateways(&m.gateways);
}

fn headers(c: &mut Checker, field: &str, headers: &BTreeMap<String, StringMatch>) {
    for (name, value) in headers {
        if !is_claim(name) {
            c.matched_header(field, name);
        }
        // Istio takes `withoutHeaders: {x: {regex: "*"}}` for "x must be absent".
        if field == "withoutHeaders" && value.matcher() == StringMatcher::Regex("*") {
            continue;
        }
        c.key(field, name, |c| string_match(c, value));
    }
}

/// A condition on a text. None at all asks for presence.
pub(super) fn string_match(c: &mut Checker, value: &StringMatch) {
    one_matcher(c, value);
    match value.matcher() {
        StringMatcher::Regex("") => c.error("regex", "must not be empty"),
        StringMatcher::Regex(pattern) => c.regex("regex", pattern),
        StringMatcher::Prefix("") => c.error("prefix", "must not be empty"),
        StringMatcher::Prefix(_) | StringMatcher::Exact(_) | StringMatcher::Present => {}
    }
}

fn one_matcher(c: &mut Checker, value: &StringMatch) {
    c.at_most_one(&[
        ("exact", value.exact.is_some()),
        ("prefix", value.prefix.is_some()),
        ("regex", value.regex.is_some()),
    ]);
}

#[cfg(test)]
mod tests {
    use super::{HttpMatchRequest, http_match};
    use crate::check::Checker;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            (
                "all of it",
                "{uri: {prefix: /}, method: {exact: GET}, headers: {a: {}, '@request.auth.claims.sub': {exact: b}}, withoutHeaders: {b: {regex: '*'}}, queryParams: {q: {regex: 'a.*'}}, port: 80, sourceLabels: {app: a}, sourceNamespace: b, gateways: [c]}",
                &[],
            ),
            ("an empty prefix of the path", "{uri: {prefix: ''}}", &[]),
            (
                "empty texts",
                "{uri: {regex: ''}, method: {prefix: ''}, queryParams: {'': {prefix: ''}}}",
                &[
                    "spec.uri.regex: must not be empty",
                    "spec.method.prefix: must not be empty",
                    "spec.queryParams: must be set",
                    "spec.queryParams[].prefix: must not be empty",
                ],
            ),
            (
                "a condition that asks for nothing",
                "{uri: {}}",
                &["spec.uri: asks for nothing, and so matches everything: set one of exact, prefix, regex"],
            ),
            (
                "two conditions in one",
                "{uri: {exact: a, prefix: b}}",
                &["spec.uri: has exact and prefix, of which only one can be"],
            ),
            (
                "a bad regular expression",
                "{uri: {regex: '(a'}}",
                &["spec.uri.regex: \"(a\" is not a regular expression: unclosed group"],
            ),
            (
                "names that are none",
                "{headers: {':path': {exact: a}, x.y: {exact: a}, 'x y': {exact: a}}, sourceNamespace: a.b}",
                &[
                    "spec.headers: \"x y\" is not the name of a header: it must be letters, digits and !#$%&'*+-.^_`|~",
                    "spec.sourceNamespace: \"a.b\" is not the name of a namespace: it must be 1 to 63 letters, digits and dashes, with no dash at its ends",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let m: HttpMatchRequest = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let mut c = Checker::of_spec();
            http_match(&mut c, &m);
            let problems: Vec<_> = c.finish().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
