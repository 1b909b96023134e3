//! Host names, with wildcards at their head: `reviews.default.svc.cluster.local`, `*.example.com`, `*`.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::beginnings::{first_related, work};

/// Whether a host stands for many.
pub fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// What follows the `*` of a wildcard.
fn suffix(wildcard: &str) -> &str {
    wildcard.strip_prefix('*').unwrap_or(wildcard)
}

/// Whether there is a name that both cover.
pub fn matches(a: &str, b: &str) -> bool {
    match (is_wildcard(a), is_wildcard(b)) {
        (true, true) => suffix(a).ends_with(suffix(b)) || suffix(b).ends_with(suffix(a)),
        (true, false) => b.ends_with(suffix(a)),
        (false, true) => a.ends_with(suffix(b)),
        (false, false) => a == b,
    }
}

/// Whether `b` covers every name that `a` covers.
pub fn subset_of(a: &str, b: &str) -> bool {
    match (is_wildcard(a), is_wildcard(b)) {
        (true, true) => suffix(a).ends_with(suffix(b)),
        (false, true) => a.ends_with(suffix(b)),
        (true, false) => false,
        (false, false) => a == b,
    }
}

/// For each host of a list the first one before it that covers a name which it covers too.
pub(crate) fn overlaps(hosts: &[String]) -> Vec<Option<usize>> {
    let endings: Vec<_> = hosts.iter().map(|host| backwards(suffix(host))).collect();
    let first = first_related(&endings, |host| hosts.get(host).is_some_and(|host| is_wildcard(host)));
    first.into_iter().enumerate().map(|(host, earlier)| (earlier < host).then_some(earlier)).collect()
}

/// A host from its last letter on: what ends alike begins alike then.
fn backwards(text: &str) -> Vec<u8> {
    text.bytes().rev().collect()
}

/// All that some hosts cover.
pub(crate) struct Covered<'a> {
    names: HashSet<&'a str>,
    /// What follows the `*` of wildcards, backwards; sorted, and none begins with another.
    endings: Vec<Vec<u8>>,
}

impl<'a> Covered<'a> {
    pub(crate) fn by(hosts: &'a [String]) -> Self {
        let mut endings: Vec<_> =
            hosts.iter().filter(|host| is_wildcard(host)).map(|host| backwards(suffix(host))).collect();
        endings.sort_unstable();
        endings.dedup_by(|longer, kept| longer.starts_with(kept));
        let names = hosts.iter().map(String::as_str).filter(|host| !is_wildcard(host)).collect();
        Self { names, endings }
    }

    /// Whether one of the hosts covers every name that this one covers.
    pub(crate) fn has(&self, host: &str) -> bool {
        let ending = backwards(suffix(host));
        let after = self.endings.partition_point(|other| {
            work::done(1);
            *other <= ending
        });
        let nearest = after.checked_sub(1).and_then(|before| self.endings.get(before));
        nearest.is_some_and(|other| ending.starts_with(other)) || (!is_wildcard(host) && self.names.contains(host))
    }
}

/// The most specific first: exact names before wildcards, longer before shorter, then by the alphabet.
pub fn by_specificity(a: &str, b: &str) -> Ordering {
    is_wildcard(a).cmp(&is_wildcard(b)).then(b.len().cmp(&a.len())).then(a.cmp(b))
}

/// The names that both lists cover, in the order of the first.
pub fn intersection<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<&'a str> {
    let mut both = Vec::new();
    for &mine in a {
        for &theirs in b {
            let narrower = match () {
                () if subset_of(mine, theirs) => mine,
                () if subset_of(theirs, mine) => theirs,
                () => continue,
            };
            if !both.contains(&narrower) {
                both.push(narrower);
            }
        }
    }
    both
}

/// The full name of a host in a rule: a name without dots is a Service of the rule's own namespace.
pub fn resolve(host: &str, namespace: &str, cluster_domain: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host.is_empty() || is_wildcard(&host) || host.contains('.') {
        host
    } else {
        of_service(&host, namespace, cluster_domain)
    }
}

/// `<name>.<namespace>.svc.<cluster domain>`.
pub fn of_service(name: &str, namespace: &str, cluster_domain: &str) -> String {
    format!("{name}.{namespace}.svc.{cluster_domain}")
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

    use super::{Covered, matches, overlaps, subset_of};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        /// As by comparing each with each.
        #[test]
        fn lists(hosts in vec(r"\*?[ab.]{0,4}", 0..12), other in r"\*?[ab.]{0,4}") {
            let expected: Vec<_> = hosts
                .iter()
                .enumerate()
                .map(|(index, host)| hosts.iter().take(index).position(|earlier| matches(earlier, host)))
                .collect();
            prop_assert_eq!(overlaps(&hosts), expected);
            prop_assert_eq!(Covered::by(&hosts).has(&other), hosts.iter().any(|host| subset_of(&other, host)));
        }
    }
}
