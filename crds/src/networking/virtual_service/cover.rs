//! Matches of HTTP requests that nothing ever reaches, since an earlier one covers all that they match.
//!
//! Each match is compared with those earlier ones only whose path is a beginning of its own, and whose rarest condition is
//! one of its own.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use super::{HttpMatchRequest, HttpRoute, StringMatch, StringMatcher};
use crate::beginnings::{Forest, work};
use crate::check::Checker;

/// The most conditions that are compared of one object: tens of milliseconds. What begins alike and differs in nothing but
/// the beginnings of headers could be as many as the square of its size.
const MOST: usize = 4_000_000;

/// Warns of matches of requests that an earlier one covers.
pub(super) fn covered(c: &mut Checker, routes: &[HttpRoute]) {
    let places: Vec<(usize, usize)> = routes
        .iter()
        .enumerate()
        .flat_map(|(route, of)| (0..of.matches.len()).map(move |place| (route, place)))
        .collect();
    let mut matches = Matches::of(routes.iter().flat_map(|route| &route.matches).collect());
    let name = |index: usize| {
        let (route, place) = places.get(index).copied().unwrap_or_default();
        format!("http[{route}].match[{place}]")
    };
    let mut earlier = Earlier::default();
    let mut next = 0;
    for route in routes {
        // What a delegate does not match goes on to the next route: its matches cover each other and no more.
        let mut of_delegate = route.delegate.is_some().then(Earlier::default);
        for _ in &route.matches {
            let covering = [Some(&earlier), of_delegate.as_ref()].into_iter().flatten();
            let covering = covering.filter_map(|earlier| matches.first(earlier, next)).min();
            if matches.work > MOST {
                return c.warn(&name(next), "and all that follow: not looked at whether earlier ones match all of their requests, as there are too many with paths that begin alike");
            }
            if let Some(other) = covering {
                let other = name(other);
                c.warn(&name(next), format!("is never reached: {other} matches every request that it matches"));
            }
            matches.insert(of_delegate.as_mut().unwrap_or(&mut earlier), next);
            next += 1;
        }
    }
}

/// A condition that whatever is covered has as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Condition<'a> {
    Text(&'static str, &'a str, StringMatcher<'a>),
    Label(&'a str, &'a str),
    Namespace(&'a str),
    Port(u32),
}

/// A match, whatever it is called: that makes no difference to what it matches.
#[derive(Clone, Copy)]
struct Alike<'a>(&'a HttpMatchRequest);

impl Alike<'_> {
    fn parts(&self) -> impl Eq + Hash {
        let HttpMatchRequest {
            name: _,
            uri,
            scheme,
            method,
            authority,
            headers,
            without_headers,
            query_params,
            port,
            source_labels,
            source_namespace,
            gateways,
            ignore_uri_case,
            stat_prefix: _,
        } = self.0;
        let texts = (uri, scheme, method, authority, headers, without_headers, query_params);
        (texts, port, source_labels, source_namespace, gateways, ignore_uri_case)
    }
}

impl PartialEq for Alike<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Alike<'_> {}

impl Hash for Alike<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// All matches of an object, in order.
struct Matches<'a> {
    all: Vec<&'a HttpMatchRequest>,
    /// Their prefixes, and the same in small letters.
    prefixes: [Forest; 2],
    /// How many matches have a condition.
    having: HashMap<Condition<'a>, usize>,
    /// How many conditions were compared.
    work: usize,
}

/// Matches that what follows is compared with.
#[derive(Default)]
struct Earlier<'a> {
    /// The first of those that are alike.
    alike: HashMap<Alike<'a>, usize>,
    /// Those with a prefix, in order: by whether its case counts, its node, and their rarest condition.
    by_prefix: HashMap<(bool, usize, Option<Condition<'a>>), Vec<usize>>,
}

impl<'a> Matches<'a> {
    fn of(all: Vec<&'a HttpMatchRequest>) -> Self {
        let texts: Vec<Vec<u8>> = all.iter().map(|m| prefix(m).unwrap_or_default().as_bytes().to_vec()).collect();
        let small: Vec<Vec<u8>> = texts.iter().map(|text| text.to_ascii_lowercase()).collect();
        let prefixes = [Forest::of(&texts), Forest::of(&small)];
        let mut having = HashMap::new();
        for condition in all.iter().flat_map(|m| conditions(m)) {
            *having.entry(condition).or_insert(0) += 1;
        }
        Self { all, prefixes, having, work: 0 }
    }

    /// The first of the earlier matches that covers this one.
    fn first(&mut self, earlier: &Earlier<'a>, index: usize) -> Option<usize> {
        let m = *self.all.get(index)?;
        let mut first = earlier.alike.get(&Alike(m)).copied();
        if prefix(m).is_none() {
            return first;
        }
        let keys: Vec<_> = std::iter::once(None).chain(conditions(m).map(Some)).collect();
        for (any_case, prefixes) in [false, true].into_iter().zip(&self.prefixes) {
            for node in prefixes.beginnings(index) {
                for key in &keys {
                    self.work += 1;
                    work::done(1);
                    let candidates = earlier.by_prefix.get(&(any_case, node, *key)).map_or(&[][..], Vec::as_slice);
                    for candidate in candidates.iter().take_while(|one| first.is_none_or(|first| **one < first)) {
                        let Some(other) = self.all.get(*candidate) else { continue };
                        let cost = conditions(other).count() + other.gateways.len() + m.gateways.len() + 1;
                        self.work += cost;
                        work::done(cost as u64);
                        if self.work > MOST {
                            return None;
                        }
                        if covers(other, m) {
                            first = Some(*candidate);
                            break;
                        }
                    }
                }
            }
        }
        first
    }

    fn insert(&self, earlier: &mut Earlier<'a>, index: usize) {
        let Some(m) = self.all.get(index).copied() else { return };
        earlier.alike.entry(Alike(m)).or_insert(index);
        let [exactly, in_small] = &self.prefixes;
        let prefixes = if m.ignore_uri_case { in_small } else { exactly };
        if prefix(m).is_some()
            && let Some(node) = prefixes.beginnings(index).next()
        {
            let rarest = conditions(m).min_by_key(|condition| self.having.get(condition).copied());
            earlier.by_prefix.entry((m.ignore_uri_case, node, rarest)).or_default().push(index);
        }
    }
}

fn prefix(m: &HttpMatchRequest) -> Option<&str> {
    match m.uri.as_ref()?.matcher() {
        StringMatcher::Prefix(prefix) => Some(prefix),
        _ => None,
    }
}

/// What a match that this one covers must have as well, word for word.
fn conditions(m: &HttpMatchRequest) -> impl Iterator<Item = Condition<'_>> {
    let whole = |matcher: &StringMatcher<'_>| matches!(matcher, StringMatcher::Exact(_) | StringMatcher::Regex(_));
    let fields = [("scheme", &m.scheme), ("method", &m.method), ("authority", &m.authority)];
    let fields = fields.into_iter().filter_map(|(field, text)| Some((field, "", text.as_ref()?)));
    let headers = m.headers.iter().map(|(name, text)| ("headers", name.as_str(), text));
    let parameters = m.query_params.iter().map(|(name, text)| ("queryParams", name.as_str(), text));
    let texts = fields.chain(headers).chain(parameters).map(|(field, name, text)| (field, name, text.matcher()));
    let without = m.without_headers.iter().map(|(name, text)| ("withoutHeaders", name.as_str(), text.matcher()));
    let texts = texts.filter(move |(_, _, matcher)| whole(matcher)).chain(without);
    let texts = texts.map(|(field, name, matcher)| Condition::Text(field, name, matcher));
    let labels = m.source_labels.iter().map(|(name, value)| Condition::Label(name, value));
    let namespace = Some(m.source_namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let port = Some(m.port).filter(|port| *port != 0);
    texts.chain(labels).chain(namespace.map(Condition::Namespace)).chain(port.map(Condition::Port))
}

/// Whether `a` matches every request that `b` matches. Of paths only prefixes are compared: an exact path behind a prefix is
/// how people write down what they mean.
fn covers(a: &HttpMatchRequest, b: &HttpMatchRequest) -> bool {
    let (Some(of_a), Some(of_b)) = (&a.uri, &b.uri) else { return false };
    let (StringMatcher::Prefix(of_a), StringMatcher::Prefix(of_b)) = (of_a.matcher(), of_b.matcher()) else {
        return false;
    };
    let prefix = if a.ignore_uri_case {
        of_b.get(..of_a.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(of_a))
    } else {
        of_b.starts_with(of_a) && (!b.ignore_uri_case || of_a.is_empty())
    };
    // An absent condition is a condition on nothing.
    let text = |a: &Option<StringMatch>, b: &Option<StringMatch>| match (a, b) {
        (None, _) => true,
        (Some(a), Some(b)) => implies(b, a),
        (Some(_), None) => false,
    };
    prefix
        && (a.port == 0 || a.port == b.port)
        && text(&a.scheme, &b.scheme)
        && text(&a.method, &b.method)
        && text(&a.authority, &b.authority)
        && a.headers.iter().all(|(name, of_a)| b.headers.get(name).is_some_and(|of_b| implies(of_b, of_a)))
        && a.query_params.iter().all(|(name, of_a)| b.query_params.get(name).is_some_and(|of_b| implies(of_b, of_a)))
        && a.without_headers.iter().all(|(name, of_a)| b.without_headers.get(name) == Some(of_a))
        && a.source_labels.iter().all(|(name, value)| b.source_labels.get(name) == Some(value))
        && (a.source_namespace.is_empty() || a.source_namespace == b.source_namespace)
        && (a.gateways.is_empty() && b.gateways.is_empty()
            || !b.gateways.is_empty() && all_in(&b.gateways, &a.gateways))
}

/// Whether a text that matches `b` also matches `a`.
fn implies(b: &StringMatch, a: &StringMatch) -> bool {
    match (b.matcher(), a.matcher()) {
        (_, StringMatcher::Present) => true,
        (StringMatcher::Exact(text) | StringMatcher::Prefix(text), StringMatcher::Prefix(prefix)) => {
            text.starts_with(prefix)
        }
        (b, a) => a == b,
    }
}

fn all_in(some: &[String], all: &[String]) -> bool {
    if some.len() < 8 {
        return some.iter().all(|one| all.contains(one));
    }
    let all: HashSet<&String> = all.iter().collect();
    some.iter().all(|one| all.contains(one))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, proptest};
    use proptest::sample::select;
    use serde_json::{Map, Value, json};

    use super::super::{HttpMatchRequest, HttpRoute};
    use super::{covered, covers};
    use crate::beginnings::work;
    use crate::check::Checker;

    /// Each with each, as it is meant.
    fn plainly(c: &mut Checker, routes: &[HttpRoute]) {
        let mut earlier: Vec<(String, HttpMatchRequest)> = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let of_others = earlier.len();
            for (place, m) in route.matches.iter().enumerate() {
                let own = format!("http[{index}].match[{place}]");
                // What it is called makes no difference to what it matches.
                let m = HttpMatchRequest { name: String::new(), stat_prefix: String::new(), ..m.clone() };
                if let Some((other, _)) = earlier.iter().find(|(_, other)| *other == m || covers(other, &m)) {
                    c.warn(&own, format!("is never reached: {other} matches every request that it matches"));
                }
                earlier.push((own, m));
            }
            // What a delegate does not match goes on to the next route.
            if route.delegate.is_some() {
                earlier.truncate(of_others);
            }
        }
    }

    fn said(check: impl Fn(&mut Checker, &[HttpRoute]), routes: &[HttpRoute]) -> Vec<String> {
        let mut c = Checker::of_spec();
        check(&mut c, routes);
        c.finish().iter().map(ToString::to_string).collect()
    }

    /// Matches that have much in common with each other.
    fn any_match() -> impl Strategy<Value = Value> {
        let text = || {
            let of = |how: &'static str| move |text: String| json!({how: text});
            proptest::prop_oneof![
                "[aA]{0,2}".prop_map(of("exact")),
                "[aA]{0,2}".prop_map(of("prefix")),
                "[a]{1,2}".prop_map(of("regex")),
                proptest::strategy::Just(json!({})),
            ]
        };
        let texts =
            ["uri", "uri", "uri", "scheme", "method", "headers.x", "headers.y", "queryParams.q", "withoutHeaders.x"];
        let path = "/?[aA]{0,2}".prop_map(|text| json!({"prefix": text}));
        let fields = vec((select(texts.to_vec()), text()), 0..3);
        let more = select(vec![
            json!({}),
            json!({"port": 80}),
            json!({"port": 81}),
            json!({"gateways": ["g"]}),
            json!({"gateways": ["g", "h"]}),
            json!({"sourceLabels": {"l": "v"}}),
            json!({"sourceNamespace": "n"}),
            json!({"name": "a"}),
        ]);
        (path, fields, more, any::<bool>(), any::<bool>()).prop_map(|(path, fields, more, has_path, any_case)| {
            let mut m: Map<String, Value> = more.as_object().unwrap().clone();
            for (field, text) in fields {
                match field.split_once('.') {
                    None => drop(m.insert(field.to_owned(), text)),
                    Some((field, name)) => {
                        m.entry(field).or_insert(json!({})).as_object_mut().unwrap().insert(name.to_owned(), text);
                    }
                }
            }
            if has_path {
                m.insert("uri".to_owned(), path);
            }
            m.insert("ignoreUriCase".to_owned(), json!(any_case));
            Value::Object(m)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn as_each_with_each(routes in vec((vec(any_match(), 0..5), any::<bool>()), 0..5)) {
            let routes: Vec<HttpRoute> = routes
                .into_iter()
                .map(|(matches, delegates)| {
                    let delegate = if delegates { json!({"name": "d"}) } else { Value::Null };
                    crate::parse(json!({"match": matches, "delegate": delegate})).unwrap()
                })
                .collect();
            prop_assert_eq!(said(covered, &routes), said(plainly, &routes));
        }
    }

    /// Four times as many matches are at most some five times the work, whatever they have in common.
    #[test]
    fn the_work_grows_with_the_size() {
        type Shape = (&'static str, fn(usize) -> Value);
        let shapes: [Shape; 8] = [
            ("paths that differ", |i| json!({"uri": {"prefix": format!("/a{i:07}")}})),
            ("the same path", |_| json!({"uri": {"prefix": "/"}})),
            ("a header that differs", |i| json!({"uri": {"prefix": "/"}, "headers": {"x": {"exact": i.to_string()}}})),
            (
                "a header in common",
                |i| json!({"uri": {"prefix": "/"}, "headers": {"x": {"exact": "v"}, "y": {"regex": i.to_string()}}}),
            ),
            (
                "ports and methods",
                |i| json!({"uri": {"prefix": "/"}, "ignoreUriCase": true, "port": i % 60000 + 1, "method": {"exact": "GET"}}),
            ),
            ("labels", |i| json!({"uri": {"prefix": ""}, "sourceLabels": {"a": i.to_string(), "b": "c"}})),
            ("absent headers", |i| json!({"uri": {"prefix": "/"}, "withoutHeaders": {i.to_string(): {}}})),
            ("no path", |i| json!({"headers": {"x": {"prefix": i.to_string()}}})),
        ];
        for (name, shape) in shapes {
            let of = |size: usize| {
                let matches: Vec<HttpMatchRequest> = (0..size).map(|i| crate::parse(shape(i)).unwrap()).collect();
                let routes: Vec<HttpRoute> =
                    matches.into_iter().map(|m| HttpRoute { matches: vec![m], ..HttpRoute::default() }).collect();
                work::of(|| covered(&mut Checker::of_spec(), &routes))
            };
            let (small, large) = (of(400), of(1600));
            assert!(large <= small * 5 + 100, "{name}: {small} for 400, {large} for 1600");
        }
    }

    /// What cannot be told apart quickly is given up, and that is said.
    #[test]
    fn there_is_an_end() {
        let matches = |i: usize| json!({"uri": {"prefix": "/"}, "headers": {"x": {"prefix": format!("{i:05}")}}});
        let routes: Vec<HttpRoute> = (0..2900).map(|i| crate::parse(json!({"match": [matches(i)]})).unwrap()).collect();
        let mut found = Vec::new();
        let work = work::of(|| found = said(covered, &routes));
        assert!(work < 4_100_000, "{work}");
        assert_eq!(
            found,
            [
                "spec.http[2826].match[0]: and all that follow: not looked at whether earlier ones match all of their requests, as there are too many with paths that begin alike"
            ]
        );
    }
}
