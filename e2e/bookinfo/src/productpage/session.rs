//! The user's session: a cookie with the name that they signed in with. There is no password to check and nothing to
//! protect, so the cookie is not signed; the original's key is public as well.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use serde_json::{Value, json};

/// The cookie that ends a session.
pub(super) const SIGNED_OUT: &str = "session=; Path=/; HttpOnly; Max-Age=0";

/// The cookie that begins a session.
pub(super) fn signed_in(user: &str) -> String {
    let session = BASE64_URL_SAFE_NO_PAD.encode(json!({ "user": user }).to_string());
    format!("session={session}; Path=/; HttpOnly")
}

/// Who is signed in.
pub(super) fn user(headers: &HeaderMap) -> Option<String> {
    let session = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix("session="))?;
    let session: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(session).ok()?).ok()?;
    Some(session.get("user")?.as_str()?.to_owned()).filter(|user| !user.is_empty())
}

/// The field `username` of the sign-in form (`application/x-www-form-urlencoded`).
pub(super) fn username(form: &[u8]) -> String {
    let form = String::from_utf8_lossy(form);
    let field = form.split('&').find_map(|field| field.strip_prefix("username=")).unwrap_or_default();
    decoded(field)
}

fn decoded(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => match after
                .split_at_checked(2)
                .and_then(|(hex, after)| Some((u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?, after)))
            {
                Some((byte, after)) => {
                    bytes.push(byte);
                    rest = after;
                }
                None => bytes.push(b'%'),
            },
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    fn cookies(text: &str) -> HeaderMap {
        [(header::COOKIE, HeaderValue::from_str(text).unwrap())].into_iter().collect()
    }

    #[test]
    fn a_session_comes_back() {
        let cookie = super::signed_in("jason");
        let value = cookie.split(';').next().unwrap();
        assert_eq!(super::user(&cookies(&format!("other=1; {value}"))).as_deref(), Some("jason"));
    }

    #[test]
    fn nonsense_is_nobody() {
        for text in ["", "session=", "session=%", "session=e30", "session=bnVsbA", "sessionx=1", super::SIGNED_OUT] {
            assert_eq!(super::user(&cookies(text)), None, "{text}");
        }
        assert_eq!(super::user(&HeaderMap::new()), None);
    }

    #[test]
    fn forms() {
        let table = [
            ("username=jason&passwd=", "jason"),
            ("passwd=x&username=a+b%26c%C3%A9", "a b&cé"),
            ("username=100%", "100%"),
            ("username=%zz%4", "%zz%4"),
            ("name=jason", ""),
        ];
        for (form, user) in table {
            assert_eq!(super::username(form.as_bytes()), user, "{form}");
        }
    }
}
