//! Names and values of HTTP headers.

use super::Checker;

/// A header that Envoy makes of a request's line, or that stands for `:authority`.
fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

/// `:authority`, or its older name.
pub(crate) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// `@request.auth.claims.<name>` and `@request.auth.claims[<name>]`: not a header, but a claim of the request's token.
pub(crate) fn is_claim(name: &str) -> bool {
    let head = "@request.auth.claims";
    let named = |rest: &str| {
        let in_brackets = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        rest.strip_prefix('.').or(in_brackets).is_some_and(|name| !name.is_empty())
    };
    name.get(..head.len()).is_some_and(|start| start.eq_ignore_ascii_case(head))
        && name.get(head.len()..).is_some_and(named)
}

/// What a request's or an answer's line becomes in HTTP/2 (RFC 9113, section 8.3). Envoy has them for HTTP/1.1 too.
const PSEUDO: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];

/// A token (RFC 9110, section 5.6.2).
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl Checker {
    /// The name of a header.
    pub(crate) fn header_name(&mut self, field: &str, name: &str) {
        if !is_token(name) {
            self.error(
                field,
                format!("\"{name}\" is not the name of a header: it must be letters, digits and !#$%&'*+-.^_`|~"),
            );
        }
    }

    /// The name of a header to look at, which may also be a pseudo header.
    pub(crate) fn matched_header(&mut self, field: &str, name: &str) {
        if !PSEUDO.contains(&name) {
            self.header_name(field, name);
        }
    }

    /// The name of a header where less is allowed than HTTP does.
    pub(crate) fn plain_header_name(&mut self, field: &str, name: &str) {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            self.error(
                field,
                format!(
                    "\"{name}\" is not the name of a header here: it must be letters, digits, dashes and underscores"
                ),
            );
        }
    }

    /// The name of a header that a probe sends: what the kubelet takes.
    pub(crate) fn probe_header_name(&mut self, field: &str, name: &str) {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            self.error(
                field,
                format!("\"{name}\" is not the name of a header of a probe: it must be letters, digits and dashes"),
            );
        }
    }

    /// The name of a header to set or remove. Only a request's authority may be changed beside ordinary ones.
    pub(crate) fn changed_header(&mut self, field: &str, name: &str, takes_authority: bool) {
        if name.is_empty() {
            self.error(field, "has a header without a name");
        } else if is_internal(name) && !(takes_authority && is_authority(name)) {
            self.error(field, format!("\"{name}\" cannot be changed: it is no ordinary header"));
        }
    }

    /// The value of a header, in which `%` begins a command of Envoy's.
    pub(crate) fn header_value(&mut self, field: &str, value: &str) {
        if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            self.error(field, format!("{value:?} has control characters, which a header cannot carry"));
        } else if let Err(reason) = commands(value) {
            self.error(field, format!("\"{value}\" is not the value of a header: {reason}"));
        }
    }
}

/// Reads `%COMMAND%`, `%COMMAND(arguments)%`, `%COMMAND(arguments):10%` and `%%` as Envoy's header parser does
/// (envoyproxy.io, "Custom request/response headers"). What a command means is the proxy's business.
fn commands(value: &str) -> Result<(), &'static str> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('%') {
        rest = match after.strip_prefix('%') {
            Some(escaped) => escaped,
            None => command(after)?,
        };
    }
    Ok(())
}

const OPEN: &str = "a \"%\" is not closed: write \"%%\" for the character itself";

/// What follows a command, of which the `%` is read already.
fn command(text: &str) -> Result<&str, &'static str> {
    let end = text.find(['%', '(']).ok_or(OPEN)?;
    let (_, rest) = text.split_at(end);
    let after = match rest.strip_prefix('(') {
        None => rest,
        Some(arguments) => {
            let after = arguments_end(arguments).ok_or("a \"(\" is not closed")?;
            // `:10` cuts what the command gives.
            let after =
                after.strip_prefix(':').map_or(after, |cut| cut.trim_start_matches(|c: char| c.is_ascii_digit()));
            after.trim_start_matches(' ')
        }
    };
    after.strip_prefix('%').ok_or(OPEN)
}

/// What follows the `)` that ends the arguments: one in quotes does not, nor one behind a backslash.
fn arguments_end(text: &str) -> Option<&str> {
    let quotes = text.trim_start_matches(' ').starts_with('[');
    let (mut quoted, mut escaped) = (false, false);
    for (place, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if quotes => quoted = !quoted,
            ')' if !quoted => return text.get(place + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{commands, is_claim};
    use crate::check::Checker;

    #[test]
    fn values() {
        let rows = [
            ("", true),
            ("plain", true),
            ("100%%", true),
            ("%HOSTNAME%", true),
            ("from %DOWNSTREAM_REMOTE_ADDRESS% at %START_TIME%", true),
            ("%REQ(x-a?x-b):10%", true),
            ("%REQ(x-a):ten%", false),
            ("%REQ(x-a)%", true),
            ("%START_TIME(%Y/%m/%dT%H:%M:%S)%", true),
            (r#"%UPSTREAM_METADATA(["a", "b)"])%"#, true),
            (r"%REQ(a\)b)%", true),
            ("%", false),
            ("50% off", false),
            ("abcd%oijasodifj", false),
            ("%START_TIME%%", false),
            ("%REQ(x-a%", false),
            ("%REQ(x-a) more%", false),
        ];
        for (value, accepted) in rows {
            assert_eq!(commands(value).is_ok(), accepted, "{value}");
        }
    }

    #[test]
    fn claims() {
        for name in ["@request.auth.claims.sub", "@Request.Auth.Claims[sub]", "@request.auth.claims[a][b]"] {
            assert!(is_claim(name), "{name}");
        }
        for name in [
            "@request.auth.claims",
            "@request.auth.claims.",
            "@request.auth.claims[]",
            "@request.auth.claims[a",
            "@request.auth.principal",
            "x",
            "@request.auth.claimsé.a",
        ] {
            assert!(!is_claim(name), "{name}");
        }
    }

    #[test]
    fn names() {
        let rows = [
            ("x-a", true, true, true),
            ("X_A", true, true, true),
            ("my.header", true, true, false),
            ("!#$%&'*+-.^_`|~", true, true, false),
            (":path", false, true, false),
            (":authority", false, true, false),
            (":protocol", false, false, false),
            ("", false, false, false),
            ("a b", false, false, false),
            ("a:", false, false, false),
            ("(a)", false, false, false),
            ("ü", false, false, false),
        ];
        let accepts = |check: &dyn Fn(&mut Checker)| {
            let mut c = Checker::of_spec();
            check(&mut c);
            c.finish().is_empty()
        };
        for (name, any, matched, plain) in rows {
            assert_eq!(accepts(&|c| c.header_name("name", name)), any, "{name}");
            assert_eq!(accepts(&|c| c.matched_header("name", name)), matched, "{name} in a match");
            assert_eq!(accepts(&|c| c.plain_header_name("name", name)), plain, "{name} where less is allowed");
        }
    }
}
