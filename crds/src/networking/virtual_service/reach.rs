//! Routes and matches that nothing ever reaches, since earlier ones take it all.

use std::collections::HashMap;
use std::hash::Hash;

use super::cover::covered;
use super::{HttpMatchRequest, TcpRoute, TlsRoute, VirtualServiceSpec};
use crate::check::Checker;

pub(super) fn unreachable(c: &mut Checker, spec: &VirtualServiceSpec) {
    behind_a_catch_all(c, "http", &spec.http, |route| {
        // What a delegate does not match goes on to the next route.
        route.delegate.is_none() && (route.matches.is_empty() || route.matches.iter().any(is_catch_all))
    });
    behind_a_catch_all(c, "tcp", &spec.tcp, |route: &TcpRoute| route.matches.is_empty());
    repeated(c, "tcp", &spec.tcp, |route: &TcpRoute| &route.matches);
    repeated(c, "tls", &spec.tls, |route: &TlsRoute| &route.matches);
    covered(c, &spec.http);
}

fn is_catch_all(m: &HttpMatchRequest) -> bool {
    *m == HttpMatchRequest { name: m.name.clone(), stat_prefix: m.stat_prefix.clone(), ..HttpMatchRequest::default() }
}

/// A route that matches everything ends the list: what follows it never gets anything.
fn behind_a_catch_all<T>(c: &mut Checker, name: &str, routes: &[T], catches_all: impl Fn(&T) -> bool) {
    if let Some(index) = routes.iter().position(catches_all)
        && index + 1 < routes.len()
    {
        let next = index + 1;
        c.warn(&format!("{name}[{next}]"), format!("is never reached: {name}[{index}] matches everything"));
    }
}

/// Matches of connections that an earlier route has already.
fn repeated<T, M: Eq + Hash>(c: &mut Checker, name: &str, routes: &[T], matches: impl Fn(&T) -> &Vec<M>) {
    let mut first = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        for (place, m) in matches(route).iter().enumerate() {
            let earlier = *first.entry(m).or_insert(index);
            if earlier < index {
                c.warn(
                    &format!("{name}[{index}].match[{place}]"),
                    format!("is never reached: {name}[{earlier}] has the same match"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::VirtualServiceSpec;
    use super::unreachable;
    use crate::check::Checker;

    #[test]
    fn rules() {
        let to = "route: [{destination: {host: a}}]";
        let rows: &[(&str, &str, &[&str])] = &[
            ("a catch-all at the end", "http: [{match: [{uri: {exact: /a}}], TO}, {TO}]", &[]),
            (
                "a route behind a catch-all",
                "http: [{TO}, {match: [{uri: {exact: /a}}], TO}]",
                &["spec.http[1]: is never reached: http[0] matches everything"],
            ),
            (
                "a route behind a match without conditions",
                "http: [{match: [{name: all}], TO}, {TO}]",
                &["spec.http[1]: is never reached: http[0] matches everything"],
            ),
            (
                "the same match twice for a delegate",
                "http: [{match: [{port: 80}, {port: 80}], delegate: {name: d}}, {match: [{port: 80}], delegate: {name: e}}]",
                &["spec.http[0].match[1]: is never reached: http[0].match[0] matches every request that it matches"],
            ),
            ("a route behind a delegate", "http: [{delegate: {name: d}}, {TO}]", &[]),
            (
                "the same match again",
                "http: [{match: [{name: a, headers: {x: {exact: y}}}], TO}, {match: [{name: b, headers: {x: {exact: y}}}], TO}]",
                &["spec.http[1].match[0]: is never reached: http[0].match[0] matches every request that it matches"],
            ),
            (
                "a longer prefix behind a shorter",
                "http: [{match: [{uri: {prefix: /api}}], TO}, {match: [{uri: {prefix: /api/v1}, method: {exact: GET}}], TO}]",
                &["spec.http[1].match[0]: is never reached: http[0].match[0] matches every request that it matches"],
            ),
            (
                "a longer prefix behind a shorter of one method",
                "http: [{match: [{uri: {prefix: /api}, method: {exact: GET}}], TO}, {match: [{uri: {prefix: /api/v1}}], TO}]",
                &[],
            ),
            (
                "a shorter prefix behind a longer",
                "http: [{match: [{uri: {prefix: /api/v1}}], TO}, {match: [{uri: {prefix: /api}}], TO}]",
                &[],
            ),
            (
                "prefixes for other headers",
                "http: [{match: [{uri: {prefix: /}, headers: {x: {exact: y}}}], TO}, {match: [{uri: {prefix: /a}, headers: {x: {exact: z}}}], TO}]",
                &[],
            ),
            (
                "prefixes for a narrower header",
                "http: [{match: [{uri: {prefix: /}, headers: {x: {prefix: y}}}], TO}, {match: [{uri: {prefix: /a}, headers: {x: {exact: yes}}}], TO}]",
                &["spec.http[1].match[0]: is never reached: http[0].match[0] matches every request that it matches"],
            ),
            (
                "prefixes that differ in case",
                "http: [{match: [{uri: {prefix: /A}, ignoreUriCase: true}], TO}, {match: [{uri: {prefix: /ab}}], TO}]",
                &["spec.http[1].match[0]: is never reached: http[0].match[0] matches every request that it matches"],
            ),
            (
                "prefixes of other gateways",
                "http: [{match: [{uri: {prefix: /}, gateways: [a]}], TO}, {match: [{uri: {prefix: /a}, gateways: [b]}], TO}, {match: [{uri: {prefix: /b}}], TO}]",
                &[],
            ),
            (
                "connections",
                "tcp: [{match: [{port: 80}], TO}, {match: [{port: 81}, {port: 80}], TO}, {TO}, {TO}]",
                &[
                    "spec.tcp[3]: is never reached: tcp[2] matches everything",
                    "spec.tcp[1].match[1]: is never reached: tcp[0] has the same match",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let yaml = format!("{{{}}}", yaml.replace("TO", to));
            let spec: VirtualServiceSpec = crate::parse(crate::yaml::value(&yaml).unwrap()).unwrap();
            let mut c = Checker::of_spec();
            unreachable(&mut c, &spec);
            let problems: Vec<_> = c.finish().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
