//! Paths in normal form, so that rules and destination mean the same path (Istio's `pathNormalization`).

use std::borrow::Cow;

use crate::ir::listener::{EscapedSlashes, PathNormalization};

/// What normalization makes of a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Normalized<'a> {
    /// Go on with this path.
    Path(Cow<'a, str>),
    /// Send the client to this path (307).
    Redirect(String),
    /// Refuse the request (400).
    Reject,
}

/// Puts `path`, which may carry a query, into normal form.
pub fn path(rules: PathNormalization, path: &str) -> Normalized<'_> {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (only, rest) = path.split_at_checked(end).unwrap_or((path, ""));
    if !only.starts_with('/') {
        // `*` of OPTIONS, or the authority form of CONNECT.
        return Normalized::Path(Cow::Borrowed(path));
    }
    let mut current = Cow::Borrowed(only);
    let mut redirect = false;
    if has_escaped_slash(&current) {
        match rules.escaped_slashes {
            EscapedSlashes::Keep => {}
            EscapedSlashes::Reject => return Normalized::Reject,
            EscapedSlashes::UnescapeAndRedirect => {
                redirect = true;
                current = Cow::Owned(unescape_slashes(&current));
            }
            EscapedSlashes::UnescapeAndForward => current = Cow::Owned(unescape_slashes(&current)),
        }
    }
    if rules.normalize {
        match canonical(&current) {
            Some(Cow::Borrowed(_)) => {}
            Some(Cow::Owned(new)) => current = Cow::Owned(new),
            None => return Normalized::Reject,
        }
    }
    if rules.merge_slashes && current.contains("//") {
        let mut merged = String::with_capacity(current.len());
        for character in current.chars() {
            if character != '/' || !merged.ends_with('/') {
                merged.push(character);
            }
        }
        current = Cow::Owned(merged);
    }
    match current {
        Cow::Borrowed(_) => Normalized::Path(Cow::Borrowed(path)),
        Cow::Owned(new) if redirect => Normalized::Redirect(format!("{new}{rest}")),
        Cow::Owned(new) => Normalized::Path(Cow::Owned(format!("{new}{rest}"))),
    }
}

/// RFC 3986 normal form as Envoy has it: `\` is `/`, escaped unreserved characters are themselves, dot segments go.
/// `None` when dot segments lead above the root or an escape is broken.
fn canonical(path: &str) -> Option<Cow<'_, str>> {
    let suspicious = path.contains('\\') || path.contains('%') || path.contains("/.");
    if !suspicious {
        return Some(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(&path.replace('\\', "/"));
    let mut segments: Vec<&str> = Vec::new();
    let mut directory = false;
    for segment in decoded.split('/').skip(1) {
        directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop()?;
            }
            other => segments.push(other),
        }
    }
    let mut out = String::with_capacity(decoded.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if directory || out.is_empty() {
        out.push('/');
    }
    Some(if out == path { Cow::Borrowed(path) } else { Cow::Owned(out) })
}

/// Decodes escapes of letters, digits, `-`, `.`, `_` and `~`, and nothing else.
fn decode_unreserved(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let byte = escape.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') => {
                out.push(char::from(byte));
                rest = escape.get(3..).unwrap_or_default();
            }
            _ => {
                out.push('%');
                rest = escape.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

fn has_escaped_slash(path: &str) -> bool {
    path.as_bytes().windows(3).any(|window| window.eq_ignore_ascii_case(b"%2f") || window.eq_ignore_ascii_case(b"%5c"))
}

fn unescape_slashes(path: &str) -> String {
    path.replace("%2F", "/").replace("%2f", "/").replace("%5C", "\\").replace("%5c", "\\")
}
