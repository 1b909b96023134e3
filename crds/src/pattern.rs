//! Regular expressions of Istio's API: RE2's syntax, as Istio checks it by Go's `regexp/syntax`.
//!
//! Our proxy compiles patterns with the crate `regex`, which has the same ancestor and differs in details: `[\w-.]`, a `[` in
//! a class, `/{id}`, `\Q...\E` and octal numbers mean something to RE2 and are mistakes there, while `[a&&b]` and `\<` are
//! characters to RE2 and operators there. So a pattern is brought into the part of the syntax that means the same to both
//! ([`portable`]): with it checks, and it goes to proxies, of which Envoy may be one.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::CharIndices;

/// What one compiled pattern may take, in bytes: as much as a proxy gives it.
pub(crate) const SIZE_LIMIT: usize = 512 * 1024;

/// The most repetitions that RE2 takes.
const MOST_REPETITIONS: u32 = 1000;

/// What a pattern takes when compiled, at most, or what is wrong with it. The smallest limit that will do is found first, so
/// that the effort is near the answer.
pub(crate) fn compiled_size(pattern: &str) -> Result<usize, String> {
    let portable = portable(pattern)?;
    let whole = format!("^(?:{portable})$");
    let mut limit = SIZE_LIMIT / 64;
    loop {
        match compile(&portable, limit).and_then(|_| compile(&whole, limit)) {
            Ok(_) => return Ok(limit),
            Err(regex::Error::CompiledTooBig(_)) if limit < SIZE_LIMIT => limit *= 8,
            Err(error) => return Err(reason(&error)),
        }
    }
}

/// Classes are ASCII, as RE2's are; the whole text must match.
fn compile(pattern: &str, limit: usize) -> Result<regex::bytes::Regex, regex::Error> {
    regex::bytes::RegexBuilder::new(pattern).unicode(false).size_limit(limit).dfa_size_limit(limit).build()
}

fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("it needs more than {limit} bytes when compiled"),
        // The whole message draws the pattern over several lines; its last line is the reason.
        other => {
            let reason = other.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            match reason {
                "Unicode not allowed here" => {
                    "classes of characters beyond ASCII, such as \\p{Greek} and [é], are not supported".to_owned()
                }
                reason => reason.to_owned(),
            }
        }
    }
}

/// What is wrong with the replacement of what a pattern matches: `\1` is its first group, `\0` all of it, `\\` a backslash.
pub(crate) fn rewrite_problem(pattern: &str, rewrite: &str) -> Option<String> {
    let groups = compile(&portable(pattern).ok()?, SIZE_LIMIT).ok()?.captures_len();
    let mut rest = rewrite.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            continue;
        }
        match rest.next().map(|next| (next, next.to_digit(10).and_then(|digit| usize::try_from(digit).ok()))) {
            Some((_, Some(group))) if group < groups => {}
            Some((_, Some(group))) => return Some(format!("has \\{group}, and the pattern has {} groups", groups - 1)),
            Some(('\\', None)) => {}
            _ => {
                return Some(
                    "has a \"\\\" that is followed by no digit: write \"\\\\\" for the character itself".to_owned(),
                );
            }
        }
    }
    None
}

/// The pattern in a form that means to the crate `regex` what it means to RE2, and is valid in both. What is wrong in both
/// is left for the compiler to find.
pub fn portable(pattern: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.char_indices().peekable();
    // Whether a repetition stands right before.
    let mut repeated = false;
    while let Some((place, character)) = rest.next() {
        let after = pattern.get(place..).unwrap_or_default();
        let repeats = match character {
            '*' | '+' | '?' => Some(character.len_utf8()),
            '{' => repetition(after)?,
            _ => None,
        };
        if let Some(length) = repeats {
            // `*?` is one operator; that of a group, `(?i)`, is read with the group.
            if repeated {
                return Err("a repetition is itself repeated");
            }
            let lazy = usize::from(after.get(length..).is_some_and(|after| after.starts_with('?')));
            out.push_str(after.get(..length + lazy).unwrap_or_default());
            skip(&mut rest, length + lazy - character.len_utf8());
            repeated = true;
            continue;
        }
        repeated = false;
        match character {
            '\\' => escape(pattern, &mut rest, &mut out)?,
            '[' => class(pattern, &mut rest, &mut out)?,
            '{' => out.push_str("\\{"),
            '(' => {
                out.push('(');
                if rest.next_if(|(_, next)| *next == '?').is_some() {
                    out.push('?');
                }
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

type Rest<'a> = Peekable<CharIndices<'a>>;

/// Skips ASCII characters.
fn skip(rest: &mut Rest<'_>, count: usize) {
    rest.by_ref().take(count).for_each(drop);
}

/// The length of `{n}`, `{n,}` or `{n,m}` at the beginning; any other `{` is a character.
fn repetition(text: &str) -> Result<Option<usize>, &'static str> {
    let Some((inner, _)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) else { return Ok(None) };
    let (least, most) = inner.split_once(',').map_or((inner, None), |(least, most)| (least, Some(most)));
    let is_number = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
    };
    if !is_number(least) || most.is_some_and(|most| !most.is_empty() && !is_number(most)) {
        return Ok(None);
    }
    let too_many = |text: &str| text.parse::<u32>().map_or(true, |count| count > MOST_REPETITIONS);
    if too_many(least) || most.is_some_and(|most| !most.is_empty() && too_many(most)) {
        return Err("it repeats something more than 1000 times");
    }
    Ok(Some(inner.len() + 2))
}

/// What follows a `\` outside of a class.
fn escape(pattern: &str, rest: &mut Rest<'_>, out: &mut String) -> Result<(), &'static str> {
    let Some((place, character)) = rest.next() else { return Err("it ends in a \"\\\"") };
    match character {
        'Q' => {
            let text = pattern.get(place + 1..).unwrap_or_default();
            let (literal, end) = text.split_once("\\E").map_or((text, 0), |(literal, _)| (literal, 2));
            out.push_str(&regex::escape(literal));
            skip(rest, literal.chars().count() + end);
        }
        other => escaped(other, rest, out),
    }
    Ok(())
}

/// What follows a `\` anywhere, from its first character on.
fn escaped(first: char, rest: &mut Rest<'_>, out: &mut String) {
    let octal = |character: &(usize, char)| character.1.is_digit(8);
    match first {
        '0'..='7' if first == '0' || rest.peek().is_some_and(octal) => {
            let mut value = first.to_digit(8).unwrap_or_default();
            for _ in 0..2 {
                let Some((_, digit)) = rest.next_if(octal) else { break };
                value = value * 8 + digit.to_digit(8).unwrap_or_default();
            }
            // Writing to a String does not fail.
            let _ = write!(out, "\\x{{{value:X}}}");
        }
        // Beginnings and ends of words to `regex`.
        '<' | '>' => out.push(first),
        // `\x{1F600}` and `\p{Greek}`, whose braces are no repetition.
        'x' | 'p' | 'P' => {
            out.push('\\');
            out.push(first);
            if rest.next_if(|(_, next)| *next == '{').is_some() {
                out.push('{');
                for (_, inner) in rest.by_ref() {
                    out.push(inner);
                    if inner == '}' {
                        break;
                    }
                }
            }
        }
        _ => {
            out.push('\\');
            out.push(first);
        }
    }
}

/// What follows the `[` of a class, up to its `]`.
fn class(pattern: &str, rest: &mut Rest<'_>, out: &mut String) -> Result<(), &'static str> {
    out.push('[');
    if rest.next_if(|(_, next)| *next == '^').is_some() {
        out.push('^');
    }
    let mut first = true;
    loop {
        let Some((place, character)) = rest.next() else { return Err("a \"[\" is not closed") };
        match character {
            // Right at the beginning it is a character.
            ']' if !first => {
                out.push(']');
                return Ok(());
            }
            '[' if named(pattern.get(place..).unwrap_or_default()).is_some() => {
                let name = named(pattern.get(place..).unwrap_or_default()).unwrap_or_default();
                out.push_str(name);
                skip(rest, name.chars().count() - 1);
            }
            '\\' if rest.peek().is_some_and(|(_, next)| "dDsSwWpP".contains(*next)) => {
                if let Some((_, next)) = rest.next() {
                    escaped(next, rest, out);
                    // `\pL` has one letter more.
                    if matches!(next, 'p' | 'P') && !out.ends_with('}') {
                        out.extend(rest.next().map(|(_, letter)| letter));
                    }
                }
            }
            _ => {
                member(character, rest, out)?;
                // A range, unless the dash is the last.
                let mut ahead = rest.clone();
                let is_range = ahead.next().is_some_and(|(_, next)| next == '-')
                    && ahead.next().is_some_and(|(_, next)| next != ']');
                if is_range {
                    rest.next();
                    out.push('-');
                    if let Some((_, last)) = rest.next() {
                        member(last, rest, out)?;
                    }
                }
            }
        }
        first = false;
    }
}

/// One character of a class, of which `character` is the beginning.
fn member(character: char, rest: &mut Rest<'_>, out: &mut String) -> Result<(), &'static str> {
    match character {
        '\\' => {
            let Some((_, next)) = rest.next() else { return Err("it ends in a \"\\\"") };
            escaped(next, rest, out);
        }
        // What could be an operator of classes.
        '[' | ']' | '^' | '-' | '&' | '~' => {
            out.push('\\');
            out.push(character);
        }
        other => out.push(other),
    }
    Ok(())
}

/// `[:alpha:]` at the beginning.
fn named(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("[:")?;
    let end = inner.find(":]")?;
    let name = inner.get(..end)?;
    let letters = name.strip_prefix('^').unwrap_or(name);
    let is_name = !letters.is_empty() && letters.bytes().all(|byte| byte.is_ascii_lowercase());
    is_name.then(|| text.get(..end + 4)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::{compiled_size, portable};

    fn problem(pattern: &str) -> Option<String> {
        compiled_size(pattern).err()
    }

    fn matches(pattern: &str, text: &str) -> bool {
        let pattern = format!("^(?:{})$", portable(pattern).unwrap());
        regex::bytes::RegexBuilder::new(&pattern).unicode(false).build().unwrap().is_match(text.as_bytes())
    }

    #[test]
    fn what_re2_takes_is_taken_and_means_the_same() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("/api/v[0-9]+/.*", &["/api/v2/x"], &["/api/v/x"]),
            // A dash behind a class of letters.
            (r"[\w-.]+@[\w-]+\.com", &["a.b-c@d-e.com"], &["a b@c.com"]),
            (r"[\d-z]", &["1", "-", "z"], &["y"]),
            (r"[[:alpha:]-_]", &["a", "-", "_"], &["1"]),
            // Brackets in classes.
            ("[[(]a", &["[a", "(a"], &["a"]),
            ("[^/[]+", &["a]b"], &["a[b", "a/b"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[^]a]", &["b"], &["]", "a"]),
            ("[[:digit:][:^alpha:]]", &["1", "-"], &["a"]),
            ("[[:]", &["[", ":"], &["a"]),
            // Operators of classes that are none to RE2.
            ("[a&&b]", &["a", "&", "b"], &["c"]),
            ("[a~~b]", &["~"], &["c"]),
            ("[+--]", &["+", ",", "-"], &[".", "*"]),
            ("[--/]", &["-", ".", "/"], &["0", ","]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[-a]", &["a", "-"], &["b"]),
            ("[a^]", &["^"], &["b"]),
            (r"[\]\-\\]", &["]", "-", "\\"], &["a"]),
            (r"[\x41-\x{43}]", &["A", "C"], &["D"]),
            // Braces that repeat nothing.
            ("/users/{id}", &["/users/{id}"], &["/users/1"]),
            ("a{,2}", &["a{,2}"], &["a"]),
            ("a{01}", &["a{01}"], &["a"]),
            ("a{2}b{1,}c{0,3}?", &["aabbcc"], &["abc"]),
            ("{", &["{"], &[]),
            // Text as it stands, numbers, and characters behind a backslash.
            (r"\Qa.b[\E+", &["a.b[", "a.b[["], &["axb["]),
            (r"\Qa.b", &["a.b"], &["axb"]),
            (r"\101\0", &["A\0"], &["101"]),
            (r"\<a\>\/\_\-", &["<a>/_-"], &["a"]),
            (r"\x{41}{2}", &["AA"], &["A"]),
            // Groups and flags.
            ("(?i)abc", &["ABC"], &["ab"]),
            ("(?i:a)b|(?P<n>c)|(?:d)?", &["Ab", "c", "d", ""], &["AB"]),
            ("a*?b+?", &["aab"], &["a"]),
            // ASCII classes, however often.
            (r"(\w{1,255}\.){1,10}com", &["a.b.com"], &["com"]),
            (r"\d", &["1"], &["١"]),
        ];
        for (pattern, good, bad) in rows {
            assert_eq!(problem(pattern), None, "{pattern}");
            for text in *good {
                assert!(matches(pattern, text), "{pattern} matches {text}: {:?}", portable(pattern));
            }
            for text in *bad {
                assert!(!matches(pattern, text), "{pattern} does not match {text}: {:?}", portable(pattern));
            }
        }
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        let rows = [
            ("(a", "unclosed group"),
            ("[a", "a \"[\" is not closed"),
            ("[]", "a \"[\" is not closed"),
            ("[z-a]", "invalid character class range, the start must be <= the end"),
            ("*", "repetition operator missing expression"),
            ("?", "repetition operator missing expression"),
            ("a**", "a repetition is itself repeated"),
            ("a{2}{3}", "a repetition is itself repeated"),
            ("a*+", "a repetition is itself repeated"),
            ("a{1001}", "it repeats something more than 1000 times"),
            ("a{1,99999999999}", "it repeats something more than 1000 times"),
            (r"a\E", "unrecognized escape sequence"),
            ("a\\", "it ends in a \"\\\""),
            ("(?=a)", "look-around, including look-ahead and look-behind, is not supported"),
            (r"(a)\1", "backreferences are not supported"),
            (r"\p{Greek}", "classes of characters beyond ASCII, such as \\p{Greek} and [é], are not supported"),
            ("(a{1000}){1000}", "it needs more than 524288 bytes when compiled"),
        ];
        for (pattern, expected) in rows {
            assert_eq!(problem(pattern).as_deref(), Some(expected), "{pattern}");
        }
    }

    #[test]
    fn replacements() {
        let rows = [
            ("^/a/([^/]+)(/.*)$", r"\2/b/\1", None),
            ("a", r"\0\\", None),
            ("(", r"\9", None),
            ("(?:a)", r"\1", Some("has \\1, and the pattern has 0 groups")),
            ("(a)", r"\g", Some("has a \"\\\" that is followed by no digit: write \"\\\\\" for the character itself")),
            ("(a)", r"a\", Some("has a \"\\\" that is followed by no digit: write \"\\\\\" for the character itself")),
        ];
        for (pattern, rewrite, expected) in rows {
            assert_eq!(super::rewrite_problem(pattern, rewrite).as_deref(), expected, "{pattern} {rewrite}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is asked, an answer comes; what is portable stays as it is.
        #[test]
        fn what_is_portable_stays(pattern in r"([a-c\[\]\\(){}*+?|^$.,:&~Qdwx0-3-]|\[:alpha:\]|\\Q|\\E|é){0,24}") {
            let _ = problem(&pattern);
            if let Ok(once) = portable(&pattern) {
                let twice = portable(&once);
                prop_assert!(problem(&pattern).is_some() || twice.is_ok(), "{once}");
                if problem(&pattern).is_none() {
                    prop_assert_eq!(twice.unwrap(), once);
                }
            }
        }

        /// A text that is quoted matches itself and nothing else.
        #[test]
        fn a_quoted_text_is_itself(text in "[ -~]{0,12}", other in "[ -~]{0,12}") {
            if !text.contains("\\E") {
                let pattern = format!("\\Q{text}\\E");
                prop_assert!(matches(&pattern, &text));
                prop_assert_eq!(matches(&pattern, &other), text == other);
            }
        }
    }
}
