//! The headers of a request that may have to be sent again.
//!
//! Nearly every request may (Istio's default policy retries), and nearly none is. A copy of the map would take an allocation for
//! its tables each and one more for every value that is our own; a list in one piece of memory takes one, and is read only when an
//! attempt has failed.

use bytes::{Buf, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// What attempts of a request send.
#[derive(Debug)]
pub enum Headers {
    /// Before the first attempt.
    Whole(HeaderMap),
    /// After it, where another one may come.
    Kept(Kept),
    /// After the last one.
    Spent,
}

impl Headers {
    /// The headers for an attempt; `more` keeps them for another one.
    pub fn next(&mut self, more: bool) -> HeaderMap {
        match std::mem::replace(self, Self::Spent) {
            Self::Whole(headers) => {
                if more {
                    *self = Self::Kept(Kept::new(&headers));
                }
                headers
            }
            Self::Kept(kept) => {
                let headers = kept.headers();
                if more {
                    *self = Self::Kept(kept);
                }
                headers
            }
            Self::Spent => HeaderMap::new(),
        }
    }
}

/// Headers in one piece: for each the lengths of its name and its value, whether it is sensitive, name, value.
#[derive(Debug)]
pub struct Kept {
    list: Bytes,
    count: usize,
}

/// Two lengths and a flag.
const FRONT: usize = 4 + 4 + 1;

impl Kept {
    fn new(headers: &HeaderMap) -> Self {
        let size = headers.iter().map(|(name, value)| FRONT + name.as_str().len() + value.len()).sum();
        let mut list = Vec::with_capacity(size);
        let mut count = 0;
        for (name, value) in headers {
            let (Ok(of_name), Ok(of_value)) = (u32::try_from(name.as_str().len()), u32::try_from(value.len())) else {
                continue; // no connection takes four gigabytes of headers
            };
            list.extend_from_slice(&of_name.to_ne_bytes());
            list.extend_from_slice(&of_value.to_ne_bytes());
            list.push(u8::from(value.is_sensitive()));
            list.extend_from_slice(name.as_str().as_bytes());
            list.extend_from_slice(value.as_bytes());
            count += 1;
        }
        Self { list: list.into(), count }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.count);
        let mut rest = self.list.clone();
        while let Some((name, value)) = next(&mut rest) {
            headers.append(name, value);
        }
        headers
    }
}

fn next(rest: &mut Bytes) -> Option<(HeaderName, HeaderValue)> {
    if rest.len() < FRONT {
        return None;
    }
    let (of_name, of_value) = (usize::try_from(rest.get_u32_ne()).ok()?, usize::try_from(rest.get_u32_ne()).ok()?);
    let sensitive = rest.get_u8() != 0;
    if rest.len() < of_name.checked_add(of_value)? {
        return None;
    }
    let name = HeaderName::from_bytes(&rest.split_to(of_name)).ok()?;
    let mut value = HeaderValue::from_maybe_shared(rest.split_to(of_value)).ok()?;
    value.set_sensitive(sensitive);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};

    use super::Headers;

    #[test]
    fn every_attempt_sends_the_same() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_bytes(b"b=\xff").unwrap());
        headers.append(HeaderName::from_static("x-own"), HeaderValue::from_static(""));
        let mut secret = HeaderValue::from_static("s");
        secret.set_sensitive(true);
        headers.append("authorization", secret);
        let mut attempts = Headers::Whole(headers.clone());
        for (number, more) in [true, true, false].into_iter().enumerate() {
            let sent = attempts.next(more);
            assert_eq!(sent, headers, "attempt {number}");
            assert!(sent["authorization"].is_sensitive() && !sent[COOKIE].is_sensitive());
            assert!(sent.get_all(COOKIE).iter().eq(headers.get_all(COOKIE)), "in their order");
        }
        assert!(attempts.next(true).is_empty(), "nothing is kept after the last attempt");
    }
}
