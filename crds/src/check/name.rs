//! Names: hosts, DNS labels, Kubernetes labels, gateways, addresses.
//!
//! The rules are Istio's (`istio.io/latest/docs/reference/config`): a host is a DNS name of RFC 1123, upper case
//! included, of at most 255 characters.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Checker;
use crate::protocol::Protocol;

/// Whose `namespace/host` it is: both have rules of their own for the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostOf {
    /// `spec.servers[].hosts`: the namespace may be left out.
    Gateway,
    /// `spec.egress[].hosts`: `~` leaves a namespace or host out of what the others import.
    Sidecar,
}

/// A label of DNS (RFC 1123), upper case included.
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && text.bytes().next().is_some_and(|byte| byte != b'-')
        && text.bytes().next_back().is_some_and(|byte| byte != b'-')
}

/// The first label of a wildcard: `*`, `*foo`, `*-foo`, or a label.
fn is_wildcard_label(text: &str) -> bool {
    let rest = text.strip_prefix("*-").or_else(|| text.strip_prefix('*')).unwrap_or(text);
    text == "*" || (text.len() <= 63 && is_dns_label(rest))
}

/// What is wrong with a host without wildcards.
fn name_problem(name: &str) -> Result<(), &'static str> {
    length(name)?;
    labels(name)
}

/// What is wrong with a host, which may be a wildcard: `*.example.com`, `*example.com`, `*`.
fn host_problem(host: &str) -> Result<(), &'static str> {
    length(host)?;
    let (first, rest) = host.split_once('.').map_or((host, None), |(first, rest)| (first, Some(rest)));
    if host.get(1..).is_some_and(|rest| rest.contains('*')) {
        return Err("a wildcard may only stand at its beginning");
    }
    if !is_wildcard_label(first) {
        return Err(LABELS);
    }
    // `reviews.` is the unambiguous form of `reviews`.
    rest.filter(|rest| !rest.is_empty()).map_or(Ok(()), labels)
}

const LABELS: &str = "each part of it must be 1 to 63 letters, digits and dashes, with no dash at its ends";

fn length(name: &str) -> Result<(), &'static str> {
    match name.len() {
        0 => Err("it is empty"),
        1..=255 => Ok(()),
        _ => Err("it is longer than 255 characters"),
    }
}

fn labels(name: &str) -> Result<(), &'static str> {
    // `example.com.` is the unambiguous form of a name.
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.split('.').all(is_dns_label) {
        return Err(LABELS);
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("its last part is a number");
    }
    Ok(())
}

/// What may stand before the `/` of a host.
fn is_namespace_of_hosts(text: &str, of: HostOf) -> bool {
    let named = match (of, text.strip_prefix('~')) {
        (HostOf::Sidecar, Some("")) => return true,
        (HostOf::Sidecar, Some(excluded)) => excluded,
        _ => text,
    };
    matches!(named, "*" | ".") || is_dns_label(named)
}

/// A name as Kubernetes wants it in label keys and values: `[A-Za-z0-9]`, with `-_.` inside.
fn is_qualified_name(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    name.len() <= 63
        && is_qualified_name(name)
        && prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_label))
}

impl Checker {
    /// A DNS name without wildcards.
    pub(crate) fn name(&mut self, field: &str, name: &str) {
        if let Err(reason) = name_problem(name) {
            self.error(field, format!("\"{name}\" is not the name of a host: {reason}"));
        }
    }

    /// A DNS name without wildcards, or an address.
    pub(crate) fn name_or_address(&mut self, field: &str, text: &str) {
        if text.parse::<IpAddr>().is_err()
            && let Err(reason) = name_problem(text)
        {
            self.error(field, format!("\"{text}\" is neither an address nor the name of a host: {reason}"));
        }
    }

    /// A host of Istio's API: a DNS name, a wildcard such as `*.example.com`, or `*`.
    pub(crate) fn host(&mut self, field: &str, host: &str) {
        if let Err(reason) = host_problem(host) {
            self.error(field, format!("\"{host}\" is not a host: {reason}"));
        }
    }

    /// A host, or an address in its place.
    pub(crate) fn host_or_address(&mut self, field: &str, host: &str) {
        if host.parse::<IpAddr>().is_err() {
            self.host(field, host);
        }
    }

    /// `namespace/host` of a Gateway or a Sidecar.
    pub(crate) fn namespaced_host(&mut self, field: &str, text: &str, of: HostOf) {
        let (namespace, host) = match (text.split_once('/'), of) {
            (Some((namespace, host)), _) => (Some(namespace), host),
            (None, HostOf::Gateway) => (None, text),
            (None, HostOf::Sidecar) => {
                let message =
                    format!("\"{text}\" has no namespace: write \"./{text}\" for this one, \"*/{text}\" for any");
                return self.error(field, message);
            }
        };
        if let Some(namespace) = namespace
            && !is_namespace_of_hosts(namespace, of)
        {
            let hint = "use \"./\" for this one, \"*/\" for any, or its name";
            self.error(field, format!("\"{text}\" names no namespace before its \"/\": {hint}"));
        }
        if of == HostOf::Gateway && host.parse::<IpAddr>().is_ok() {
            return;
        }
        if host != "*" && !host.contains('.') {
            self.error(field, format!("\"{host}\" is a short name: write it in full, such as \"{host}.example.com\""));
        } else if let Err(reason) = host_problem(host) {
            self.error(field, format!("\"{host}\" is not a host: {reason}"));
        } else if is_partial_wildcard(host) {
            self.error(
                field,
                format!("\"{host}\" is not a host here: a wildcard must end with a dot, as in \"*.example.com\""),
            );
        }
    }

    /// Hosts such as `*example.com`, of which only some are understood everywhere.
    pub(crate) fn warn_of_partial_wildcard(&mut self, field: &str, host: &str) {
        if is_partial_wildcard(host) {
            self.warn(field, format!("\"{host}\" also covers names that only end alike: write \"*.example.com\""));
        }
    }

    /// One label of DNS; `what` says of what.
    pub(crate) fn dns_label(&mut self, field: &str, label: &str, what: &str) {
        if !is_dns_label(label) {
            self.error(
                field,
                format!(
                    "\"{label}\" is not the name of a {what}: it must be 1 to 63 letters, digits and dashes, with no dash at its ends"
                ),
            );
        }
    }

    /// Gateways, as `namespace/name` or `name`; `mesh` stands for all sidecars.
    pub(crate) fn gateways(&mut self, gateways: &[String]) {
        self.each("gateways", gateways, |c, gateway| {
            if let Some((namespace, name)) = gateway.split_once('/') {
                c.dns_label("", namespace, "namespace");
                c.dns_label("", name, "Gateway");
                return;
            }
            c.name("", gateway);
            let mut parts = gateway.split('.');
            if let (Some(name), Some(namespace)) = (parts.next(), parts.next()) {
                c.warn("", format!("\"{gateway}\" is the old form of a gateway's name: write \"{namespace}/{name}\""));
            }
        });
    }

    /// Labels of workloads or endpoints.
    pub(crate) fn labels(&mut self, field: &str, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            if !is_label_key(key) {
                self.error(
                    field,
                    format!("\"{key}\" is not the key of a label: it must be like \"app\" or \"example.com/app\""),
                );
            }
            if !value.is_empty() && !is_qualified_name(value) {
                self.error(
                    field,
                    format!("\"{value}\" is not the value of label \"{key}\": it must be letters, digits, dashes, underscores and dots"),
                );
            }
        }
    }

    /// An address, or a block of them.
    pub(crate) fn subnet(&mut self, field: &str, subnet: &str) {
        if subnet.parse::<ipnet::IpNet>().is_err() && subnet.parse::<IpAddr>().is_err() {
            self.error(field, format!("\"{subnet}\" is not an address or a CIDR block"));
        }
    }

    /// An address to bind.
    pub(crate) fn address(&mut self, field: &str, address: &str) {
        if address.parse::<IpAddr>().is_err() {
            self.error(field, format!("\"{address}\" is not an address"));
        }
    }

    /// What follows `unix://`: an absolute path, or `@` and an abstract name.
    pub(crate) fn unix_socket(&mut self, field: &str, path: &str) {
        let absolute = path.starts_with('/') && !path.ends_with('/');
        if !path.starts_with('@') && !absolute {
            self.error(
                field,
                format!("\"unix://{path}\" is not a socket: it must be \"unix://\" and an absolute path, or \"unix://@\" and a name"),
            );
        }
    }

    /// The name of a port.
    pub(crate) fn port_name(&mut self, field: &str, name: &str) {
        self.dns_label(field, name, "port");
    }

    /// The protocol of a port; found out from the traffic when it is not set.
    pub(crate) fn protocol(&mut self, field: &str, protocol: &str) {
        if !protocol.is_empty() && Protocol::parse(protocol) == Protocol::Unsupported {
            self.error(field, format!("\"{protocol}\" is not a protocol: it must be one of {PROTOCOLS}"));
        }
    }
}

/// The protocols of ports, for messages.
pub(super) const PROTOCOLS: &str = "HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TCP, TLS, MONGO, MYSQL, REDIS, UDP";

fn is_partial_wildcard(host: &str) -> bool {
    host.starts_with('*') && host != "*" && !host.starts_with("*.")
}

#[cfg(test)]
mod tests {
    use super::{HostOf, host_problem, is_label_key, name_problem};
    use crate::check::Checker;

    fn problems(check: impl FnOnce(&mut Checker)) -> Vec<String> {
        let mut c = Checker::of_spec();
        check(&mut c);
        c.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn hosts() {
        let long = "a".repeat(64);
        let rows = [
            ("reviews", true, true),
            ("Reviews.default.svc.cluster.local", true, true),
            ("example.com.", true, true),
            ("reviews.", true, true),
            ("1.example.com", true, true),
            ("*", false, true),
            ("*.example.com", false, true),
            ("*example.com", false, true),
            ("*-east.example.com", false, true),
            ("", false, false),
            ("a..b", false, false),
            ("a.*.b", false, false),
            ("**.b", false, false),
            ("-a", false, false),
            ("a-.b", false, false),
            ("a b", false, false),
            ("a_b", false, false),
            ("http://a", false, false),
            ("a.com:80", false, false),
            ("10.0.0.1", false, false),
            (long.as_str(), false, false),
        ];
        for (text, name, host) in rows {
            assert_eq!(name_problem(text).is_ok(), name, "{text} as a name");
            assert_eq!(host_problem(text).is_ok(), host, "{text} as a host");
        }
    }

    #[test]
    fn hosts_with_namespaces() {
        let rows = [
            ("*/*", true, true),
            ("./*", true, true),
            ("ns/a.com", true, true),
            ("ns/*.a.com", true, true),
            ("a.com", true, false),
            ("*", true, false),
            ("ns/10.0.0.1", true, false),
            ("~/*", false, true),
            ("~ns/*", false, true),
            ("~ns/a.com", false, true),
            ("/a.com", false, false),
            ("~-/a.com", false, false),
            ("ns/", false, false),
            ("ns/a", false, false),
            ("ns/*a.com", false, false),
            ("ns/a/b.com", false, false),
        ];
        for (text, gateway, sidecar) in rows {
            for (of, accepted) in [(HostOf::Gateway, gateway), (HostOf::Sidecar, sidecar)] {
                let found = problems(|c| c.namespaced_host("hosts[0]", text, of));
                assert_eq!(found.is_empty(), accepted, "{text} of a {of:?}: {found:?}");
            }
        }
    }

    #[test]
    fn label_keys() {
        for key in ["app", "a_b.c-d", "example.com/app", "A"] {
            assert!(is_label_key(key), "{key}");
        }
        for key in ["", "-a", "a-", "/a", "a/", "a/b/c", "a b", "*", &"a".repeat(64)] {
            assert!(!is_label_key(key), "{key}");
        }
    }

    #[test]
    fn sockets() {
        for path in ["/run/app.sock", "@app", "@"] {
            assert!(problems(|c| c.unix_socket("address", path)).is_empty(), "{path}");
        }
        for path in ["", "/", "./app.sock", "app", "/run/"] {
            assert_eq!(problems(|c| c.unix_socket("address", path)).len(), 1, "{path}");
        }
    }
}
