//! Host names, with wildcards at their head: `reviews.default.svc.cluster.local`, `*.example.com`, `*`.

use std::cmp::Ordering;

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
