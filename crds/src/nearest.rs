//! "Did you mean": the known name that a word is a slip of.

/// The nearest of some names, if it is near enough to be what was meant: one slip in three letters, or other capitals.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let length = lower.chars().count();
    let allowed = (length / 3).max(1);
    let slips = |name: &str| strsim::osa_distance(&lower, &name.to_lowercase());
    // Each slip makes a word at most one letter longer or shorter, and the distance of long words takes its time.
    let near = known.into_iter().filter(|name| name.chars().count().abs_diff(length) <= allowed);
    let near = near.map(|name| (slips(name), name));
    let near = near.filter(|(slips, name)| *slips <= allowed && *slips < name.chars().count());
    near.min_by_key(|(slips, _)| *slips).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["hosts", "http", "tcp", "tls", "gateways", "exportTo", "corsPolicy"];
        let rows = [
            ("host", Some("hosts")),
            ("Hosts", Some("hosts")),
            ("htpp", Some("http")),
            ("exportsTo", Some("exportTo")),
            ("cors_policy", Some("corsPolicy")),
            ("quality", None),
            ("x", None),
            ("", None),
        ];
        for (word, expected) in rows {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
