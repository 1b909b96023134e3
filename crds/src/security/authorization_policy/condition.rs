//! The attributes of `when`, and what their values look like.
//!
//! Istio's page "Authorization Policy Conditions" lists them.

use std::net::IpAddr;

/// What is wrong with a condition's attribute or with one of its values; `values` may be of either list.
pub(super) fn problem(key: &str, values: &[String]) -> Option<String> {
    if values.iter().any(String::is_empty) {
        return Some("has an empty value".to_owned());
    }
    let name = key.split('[').next().unwrap_or_default();
    match (name, key) {
        ("request.headers" | "request.auth.claims", _) => bracketed(key),
        (_, "source.ip" | "remote.ip" | "destination.ip") => values.iter().find_map(|value| ip_block(value)),
        (_, "destination.port") => values.iter().find_map(|value| port(value)),
        (_, "source.serviceAccount") => values.iter().find_map(|value| service_account(value)),
        (_, "source.trustDomain") => values.iter().find_map(|value| trust_domain(value)),
        (
            _,
            "source.namespace"
            | "source.principal"
            | "request.auth.principal"
            | "request.auth.audiences"
            | "request.auth.presenter"
            | "connection.sni",
        ) => None,
        _ if key.starts_with("experimental.envoy.filters.") => bracketed(key),
        ("destination.labels", _) | (_, "destination.user") => {
            Some("is no attribute: choose workloads by the policy's selector".to_owned())
        }
        (_, "destination.namespace") => {
            Some("is no attribute: a policy applies to workloads of its own namespace".to_owned())
        }
        _ => Some("is no attribute that a condition can have".to_owned()),
    }
}

/// Whether an attribute is known for HTTP requests only.
pub(super) fn needs_http(key: &str) -> bool {
    key.starts_with("request.")
}

/// `name[key]`, with a key.
fn bracketed(key: &str) -> Option<String> {
    let inner = key.strip_suffix(']').and_then(|key| key.split_once('[')).map(|(_, inner)| inner);
    match inner {
        Some(inner) if !inner.is_empty() => None,
        _ => Some("needs a name in brackets, such as request.headers[x-version]".to_owned()),
    }
}

/// An address or a CIDR block.
pub(super) fn ip_block(value: &str) -> Option<String> {
    let good =
        if value.contains('/') { value.parse::<ipnet::IpNet>().is_ok() } else { value.parse::<IpAddr>().is_ok() };
    (!good).then(|| format!("\"{value}\" is not an address or a CIDR block"))
}

/// A port's number as text.
pub(super) fn port(value: &str) -> Option<String> {
    value.parse::<u16>().is_err().then(|| format!("\"{value}\" is not a port: it must be a number up to 65535"))
}

/// `<namespace>/<name>` or `<name>`.
pub(super) fn service_account(value: &str) -> Option<String> {
    let good = match value.split_once('/') {
        Some((namespace, name)) => !namespace.is_empty() && !name.is_empty() && !name.contains('/'),
        None => !value.is_empty(),
    };
    if value.contains('*') {
        return Some(format!(
            "\"{value}\" has a wildcard, which service accounts cannot have: use principals or namespaces"
        ));
    }
    (!good).then(|| format!("\"{value}\" is not a service account: write <namespace>/<name>, or <name>"))
}

/// A trust domain with at most one `*`, at its beginning or its end.
pub(super) fn trust_domain(value: &str) -> Option<String> {
    if value.contains('/') {
        return Some(format!("\"{value}\" is not a trust domain: leave out what follows the \"/\""));
    }
    let rest = value.strip_prefix('*').or_else(|| value.strip_suffix('*')).unwrap_or(value);
    rest.contains('*').then(|| format!("\"{value}\" has a wildcard that is not its first or last character"))
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn attributes_and_values() {
        let rows: &[(&str, &[&str], bool)] = &[
            ("request.headers[x-a]", &["v"], true),
            ("request.headers", &["v"], false),
            ("request.headers[]", &["v"], false),
            ("request.auth.claims[a][b]", &["v"], true),
            ("request.auth.claims", &["v"], false),
            ("request.auth.principal", &["*"], true),
            ("source.ip", &["10.0.0.0/8", "::1"], true),
            ("remote.ip", &["10.0.0.0/99"], false),
            ("destination.port", &["443"], true),
            ("destination.port", &["443", "https"], false),
            ("destination.port", &["70000"], false),
            ("source.serviceAccount", &["ns/sa", "sa"], true),
            ("source.serviceAccount", &["ns/"], false),
            ("source.serviceAccount", &["ns/*"], false),
            ("source.trustDomain", &["a/ns/b"], false),
            ("source.trustDomain", &["*"], true),
            ("source.trustDomain", &["*a*"], false),
            ("source.namespace", &["a"], true),
            ("source.namespace", &[""], false),
            ("source.namespaces", &["a"], false),
            ("connection.sni", &["a.example.com"], true),
            ("experimental.envoy.filters.a.b[c]", &["v"], true),
            ("destination.labels[app]", &["v"], false),
        ];
        for (key, values, good) in rows {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            assert_eq!(problem(key, &values).is_none(), *good, "{key} {values:?}");
        }
    }
}
