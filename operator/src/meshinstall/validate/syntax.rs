//! What Kubernetes and registries take for a name: what breaks it would be refused only when the objects are applied, in
//! words about a Deployment that the reader has never written.

use std::collections::BTreeMap;

use crds::install::Resources;
use crds::quantity::amount;
use names::images;

use super::Invalid;

/// Letters, digits, and within them `-`, `_` and `.`; not more than 63.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && bytes.iter().copied().all(inner) && outer(bytes.first()) && outer(bytes.last())
}

/// A DNS name in lower case.
fn is_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        is_name(label) && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// The key of a label, annotation or taint: a name, perhaps after a DNS name and a slash.
pub(super) fn key(field: &str, text: &str) -> Result<(), Invalid> {
    let good = match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(text),
    };
    if good {
        return Ok(());
    }
    let message = format!(
        "{text:?} is not a key: write letters, digits, '-', '_' and '.', at most 63, perhaps after a DNS name and a slash"
    );
    Err(Invalid::spec(field, message))
}

/// The value of a label.
pub(super) fn value(field: &str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() || is_name(text) {
        return Ok(());
    }
    let message = format!(
        "{text:?} is not the value of a label: write letters, digits, '-', '_' and '.', at most 63, or nothing"
    );
    Err(Invalid::spec(field, message))
}

/// Labels, or a selector of labels.
pub(super) fn labels(field: &str, labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    labels.iter().try_for_each(|(name, text)| key(field, name).and_then(|()| value(field, text)))
}

/// Annotations, whose values may be anything. The API server takes their keys in any case.
pub(super) fn annotations(field: &str, annotations: &BTreeMap<String, String>) -> Result<(), Invalid> {
    annotations.keys().try_for_each(|name| key(field, &name.to_ascii_lowercase()))
}

/// The name of an object.
pub(super) fn object_name(field: &str, text: &str) -> Result<(), Invalid> {
    if is_subdomain(text) {
        return Ok(());
    }
    let message = format!("{text:?} is not the name of an object: write lower case letters, digits, '-' and '.'");
    Err(Invalid::spec(field, message))
}

/// A whole image: `registry.example.org:5000/mesh/forestay:1.0.0@sha256:...`.
pub(super) fn image(field: &str, text: &str) -> Result<(), Invalid> {
    if is_image(text) {
        return Ok(());
    }
    let message =
        format!("{text:?} is not an image: write one such as registry.example.org/mesh/{}:1.0.0", images::FORESTAY);
    Err(Invalid::spec(field, message))
}

/// What an image begins with.
pub(super) fn hub(field: &str, text: &str) -> Result<(), Invalid> {
    if is_image(&images::reference(text, images::FORESTAY, "1")) {
        return Ok(());
    }
    let message =
        format!("{text:?} is not the beginning of an image: write registry and organisation, such as {}", images::HUB);
    Err(Invalid::spec(field, message))
}

/// The grammar of github.com/distribution/reference.
fn is_image(text: &str) -> bool {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let digest_fits = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            is_name(algorithm) && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    });
    // A colon before the last slash is a registry's port.
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let tag_fits = tag.is_none_or(|tag| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(inner) && !tag.starts_with(['.', '-'])
    });
    let mut parts = path.split('/');
    let host = parts.next().unwrap_or_default();
    let host_fits = match host.split_once(':') {
        Some((host, port)) => is_host(host) && port.parse::<u16>().is_ok(),
        None => is_host(host),
    };
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        is_name(part) && part.bytes().all(inner)
    };
    host_fits && parts.all(part) && tag_fits && digest_fits
}

/// A registry, or the first part of a path.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.split('.').all(|label| is_name(label) || (label.starts_with('[') && label.ends_with(']')))
}

/// Requests and limits: none negative, and no limit below its request.
pub(super) fn resources(field: &str, resources: Option<&Resources>) -> Result<(), Invalid> {
    let Some(resources) = resources else { return Ok(()) };
    for (which, quantities) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, quantity) in quantities {
            if amount(&quantity.0).is_some_and(|amount| amount < 0.0) {
                return Err(Invalid::spec(format!("{field}.{which}.{name}"), "is negative; write 0 or more"));
            }
        }
    }
    for (name, limit) in &resources.limits {
        let Some(request) = resources.requests.get(name) else { continue };
        if amount(&limit.0).zip(amount(&request.0)).is_some_and(|(limit, request)| limit < request) {
            let message = format!(
                "is below requests.{name} ({} < {}); raise the limit, or lower the request",
                limit.0, request.0
            );
            return Err(Invalid::spec(format!("{field}.limits.{name}"), message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{hub, image, key, object_name, value};

    #[test]
    fn names_as_kubernetes_and_registries_take_them() {
        for (text, good) in [
            ("app", true),
            ("example.org/app", true),
            ("Example.org/app", false),
            ("a_b.C-d", true),
            ("-a", false),
            ("a/b/c", false),
            ("", false),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(key("f", text).is_ok(), good, "key {text:?}");
        }
        for (text, good) in [("", true), ("v1.0_x", true), ("a b", false), ("x-", false)] {
            assert_eq!(value("f", text).is_ok(), good, "value {text:?}");
        }
        for (text, good) in [("system-node-critical", true), ("a.b", true), ("A", false), ("a..b", false)] {
            assert_eq!(object_name("f", text).is_ok(), good, "object {text:?}");
        }
        let digest = format!("example.org/a@sha256:{}", "0a".repeat(32));
        for (text, good) in [
            ("example.org/mesh/forestay:1.0.0", true),
            ("localhost:5000/forestay", true),
            ("mesh/forestay:x", true),
            (digest.as_str(), true),
            ("example.org/Mesh/forestay:1", false),
            ("example.org/forestay:", false),
            ("example.org/forestay@sha256:12", false),
            ("https://example.org/forestay", false),
            ("example.org//forestay", false),
        ] {
            assert_eq!(image("f", text).is_ok(), good, "image {text:?}");
        }
        for (text, good) in
            [("docker.io/forestay", true), ("localhost:5000", true), ("registry example", false), ("a/", true)]
        {
            assert_eq!(hub("f", text).is_ok(), good, "hub {text:?}");
        }
    }
}
