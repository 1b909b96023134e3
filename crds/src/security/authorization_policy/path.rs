//! Path templates: `{*}` stands for one segment, `{**}` for any number of them and must be the last operator.

/// What is wrong with a path of an operation.
pub(super) fn problem(path: &str) -> Option<String> {
    let segments = || path.trim_matches('/').split('/');
    let is_template = segments().any(|segment| matches!(segment, "{*}" | "{**}"));
    let mut after_any = false;
    for segment in segments() {
        match segment {
            "{*}" | "{**}" if after_any => {
                return Some(format!("\"{path}\" has an operator after {{**}}, which must be the last"));
            }
            "{**}" => after_any = true,
            "{*}" => {}
            _ if segment.contains(['{', '}']) => {
                return Some(format!("\"{path}\" has a brace that is not part of a segment {{*}} or {{**}}"));
            }
            _ if is_template && !is_literal(segment) => {
                return Some(format!("\"{path}\" has \"{segment}\" beside a template, which must be plain characters"));
            }
            _ => {}
        }
    }
    None
}

/// Beside templates Envoy takes the characters of RFC 3986's `pchar`, and so no `*`.
fn is_literal(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn templates() {
        for good in ["/a", "/a/*", "*", "/a/{*}/b", "/a/{**}", "/{*}/{**}", "/a/{**}/b", "/a%20b/{*}", "/"] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in ["/a/{**}/{*}", "/a{*}", "/a/{name}", "/a/{*}/*", "/a/{*}/b c", "/{**}/{**}", "/{*}//b"] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }
}
