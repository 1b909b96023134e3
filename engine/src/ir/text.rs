//! Matching of strings: what Envoy's `StringMatcher` and `RegexMatcher` mean.

use std::fmt;

use regex::bytes::Regex;

/// A regular expression that must match the whole text, as RE2's full match does in Envoy.
#[derive(Clone)]
pub struct Pattern {
    /// As the user wrote it.
    source: Box<str>,
    /// `^(?:source)$` with ASCII classes.
    whole: Regex,
}

/// The most memory one compiled pattern may take, in bytes.
const PATTERN_SIZE_LIMIT: usize = 512 * 1024;

impl Pattern {
    /// Compiles `source`. The classes `\w`, `\d`, `\s` and `\b` are ASCII, as RE2's are.
    pub fn new(source: &str) -> Result<Self, String> {
        // Each kind of mistake is reported on the pattern as it was written, before it is wrapped.
        build(source)?;
        Ok(Self { source: source.into(), whole: build(&format!("^(?:{source})$"))? })
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.whole.is_match(text)
    }

    /// The pattern as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Compiles a pattern that may match anywhere, with the limits and the classes of [`Pattern`].
pub(crate) fn build(source: &str) -> Result<Regex, String> {
    regex::bytes::RegexBuilder::new(source)
        .unicode(false)
        .dot_matches_new_line(false)
        .size_limit(PATTERN_SIZE_LIMIT)
        .dfa_size_limit(PATTERN_SIZE_LIMIT)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => format!("pattern {source:?} needs more than {limit} bytes"),
            other => format!("pattern {source:?}: {}", last_line(&other.to_string())),
        })
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl std::hash::Hash for Pattern {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

/// How one string is compared with a configured one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TextMatch {
    /// The whole text.
    Exact {
        /// What to compare with; lower case when `ignore_case`.
        value: Box<str>,
        /// Whether ASCII case counts.
        ignore_case: bool,
    },
    /// The beginning.
    Prefix {
        /// What to compare with; lower case when `ignore_case`.
        value: Box<str>,
        /// Whether ASCII case counts.
        ignore_case: bool,
    },
    /// The end.
    Suffix {
        /// What to compare with; lower case when `ignore_case`.
        value: Box<str>,
        /// Whether ASCII case counts.
        ignore_case: bool,
    },
    /// Anywhere.
    Contains {
        /// What to compare with; lower case when `ignore_case`.
        value: Box<str>,
        /// Whether ASCII case counts.
        ignore_case: bool,
    },
    /// The whole text, by a pattern.
    Regex(Pattern),
}

impl TextMatch {
    /// Whether `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact { value, ignore_case } => equal(text, value.as_bytes(), *ignore_case),
            Self::Prefix { value, ignore_case } => {
                text.get(..value.len()).is_some_and(|head| equal(head, value.as_bytes(), *ignore_case))
            }
            Self::Suffix { value, ignore_case } => text
                .len()
                .checked_sub(value.len())
                .and_then(|start| text.get(start..))
                .is_some_and(|tail| equal(tail, value.as_bytes(), *ignore_case)),
            Self::Contains { value, ignore_case } => {
                value.is_empty()
                    || text.windows(value.len()).any(|window| equal(window, value.as_bytes(), *ignore_case))
            }
            Self::Regex(pattern) => pattern.is_match(text),
        }
    }
}

fn equal(left: &[u8], right: &[u8], ignore_case: bool) -> bool {
    if ignore_case { left.eq_ignore_ascii_case(right) } else { left == right }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    /// What a check takes and a control plane sends, a proxy compiles.
    #[test]
    fn a_portable_pattern_compiles() {
        let rows = [
            (r"[\w-.]+@[\w-]+", "a.b@c-d", "a b"),
            ("[[(]x", "(x", "x"),
            ("/users/{id}", "/users/{id}", "/users/1"),
            ("[a&&b]", "&", "c"),
            (r"\Q[a]\E\<", "[a]<", "a"),
            (r"(\w{1,255}\.){1,10}com", "a.b.com", "com"),
        ];
        for (source, good, bad) in rows {
            let pattern = Pattern::new(&crds::pattern::portable(source).expect(source)).expect(source);
            assert!(pattern.is_match(good.as_bytes()) && !pattern.is_match(bad.as_bytes()), "{source}");
        }
    }
}
