//! What is wrong with a Gateway.

use std::collections::HashSet;

use super::{Gateway, GatewaySpec, Server, ServerTlsMode, ServerTlsSettings, server_tls};
use crate::check::{Checker, HostOf, Problem, Severity, is_dns_label};
use crate::protocol::Protocol;

impl Gateway {
    /// What is wrong with this object: its spec and its name.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = self.spec.check();
        let name = self.metadata.name.as_deref().unwrap_or_default();
        // VirtualServices name it as `namespace/name`; a dot would make that a host.
        if !name.is_empty() && !is_dns_label(name) {
            problems.push(Problem {
                field: "metadata.name".to_owned(),
                message: format!("\"{name}\" cannot be a Gateway's name: use letters, digits and dashes, at most 63"),
                severity: Severity::Error,
            });
        }
        problems
    }
}

impl GatewaySpec {
    /// What is wrong with these servers.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        if self.servers.is_empty() {
            c.error("servers", "needs at least one server");
        }
        c.each("servers", &self.servers, server);
        let mut names = HashSet::new();
        for (index, server) in self.servers.iter().enumerate() {
            let own = server.port.as_ref().map_or("", |port| &port.name);
            if !own.is_empty() && !names.insert(own) {
                c.error(
                    &format!("servers[{index}].port.name"),
                    format!("\"{own}\" is the name of an earlier server's port"),
                );
            }
        }
        c.finish()
    }
}

fn server(c: &mut Checker, server: &Server) {
    let socket = server.bind.strip_prefix("unix://");
    match &server.port {
        None => c.error("port", "must be set"),
        Some(port) => c.field("port", |c| {
            match (port.number, socket) {
                (0, Some(_)) => {}
                (number, Some(_)) => c.error("number", format!("must be 0, not {number}: bind is a unix socket")),
                (number, None) => c.port("number", number),
            }
            c.required("name", &port.name);
            if port.protocol.is_empty() {
                c.error("protocol", "must be set");
            } else {
                c.protocol("protocol", &port.protocol);
            }
            if port.target_port != 0 {
                c.error("targetPort", "has no effect on a Gateway: leave it out");
            }
        }),
    }
    match socket {
        Some(path) => c.unix_socket("bind", path),
        None if !server.bind.is_empty() => c.address("bind", &server.bind),
        None => {}
    }
    if server.hosts.is_empty() {
        c.error("hosts", "must name at least one host");
    }
    for (index, host) in server.hosts.iter().enumerate() {
        c.namespaced_host(&format!("hosts[{index}]"), host, HostOf::Gateway);
    }
    let protocol = server.port.as_ref().map_or("", |port| port.protocol.as_str());
    match &server.tls {
        None if Protocol::parse(protocol).is_tls() => c.error("tls", format!("must be set for protocol {protocol}")),
        None => {}
        Some(tls) => c.field("tls", |c| {
            server_tls(c, tls);
            tls_for_protocol(c, tls, protocol);
        }),
    }
}

/// Only HTTPS and TLS terminate TLS or look into it; HTTP may redirect to it.
fn tls_for_protocol(c: &mut Checker, tls: &ServerTlsSettings, protocol: &str) {
    let parsed = Protocol::parse(protocol);
    let only_redirects = matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
        && tls.server_certificate.is_empty()
        && tls.private_key.is_empty()
        && tls.ca_certificates.is_empty();
    // An unknown protocol is named already.
    if parsed != Protocol::Unsupported && !parsed.is_tls() && !(parsed.is_http() && only_redirects) {
        let allowed = if parsed.is_http() { "but for httpsRedirect: use HTTPS" } else { "at all: use TLS" };
        c.error("", format!("cannot be set for protocol {protocol} {allowed}"));
    }
    if tls.https_redirect && !parsed.is_http() {
        c.warn("httpsRedirect", format!("has no effect for protocol {protocol}: it belongs to the HTTP server"));
    }
}

#[cfg(test)]
mod tests {
    use super::{Gateway, GatewaySpec};

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            (
                "bookinfo's",
                "{selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}",
                &[],
            ),
            (
                "HTTPS, and a redirect to it",
                "{servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*/a.com'], tls: {mode: SIMPLE, credentialName: a}}, {port: {number: 80, name: http, protocol: http}, hosts: [./a.com], tls: {httpsRedirect: true}}]}",
                &[],
            ),
            ("no servers", "{selector: {a: b}}", &["spec.servers: needs at least one server"]),
            (
                "an unknown protocol",
                "{servers: [{port: {number: 80, name: x, protocol: SMTP}, hosts: ['*']}]}",
                &[
                    "spec.servers[0].port.protocol: \"SMTP\" is not a protocol: it must be one of HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TCP, TLS, MONGO, MYSQL, REDIS, UDP",
                ],
            ),
            (
                "HTTPS without TLS settings",
                "{servers: [{port: {number: 443, name: x, protocol: HTTPS}, hosts: ['*']}]}",
                &["spec.servers[0].tls: must be set for protocol HTTPS"],
            ),
            (
                "TLS on plain ports",
                "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: a}}, {port: {number: 90, name: b, protocol: TCP}, hosts: ['*'], tls: {}}]}",
                &[
                    "spec.servers[0].tls: cannot be set for protocol HTTP but for httpsRedirect: use HTTPS",
                    "spec.servers[1].tls: cannot be set for protocol TCP at all: use TLS",
                ],
            ),
            (
                "no port and no hosts",
                "{servers: [{}]}",
                &["spec.servers[0].port: must be set", "spec.servers[0].hosts: must name at least one host"],
            ),
            (
                "hosts",
                "{servers: [{port: {number: 80, name: x, protocol: HTTP}, hosts: [10.0.0.1, a, '~/a.com', '*a.com']}]}",
                &[
                    "spec.servers[0].hosts[1]: \"a\" is a short name: write it in full, such as \"a.example.com\"",
                    "spec.servers[0].hosts[2]: \"~/a.com\" names no namespace before its \"/\": use \"./\" for this one, \"*/\" for any, or its name",
                    "spec.servers[0].hosts[3]: \"*a.com\" is not a host here: a wildcard must end with a dot, as in \"*.example.com\"",
                ],
            ),
            (
                "a name twice, and a port of the pod",
                "{servers: [{port: {number: 80, name: x, protocol: HTTP}, hosts: ['*']}, {port: {number: 81, name: x, protocol: HTTP, targetPort: 8081}, hosts: ['*']}]}",
                &[
                    "spec.servers[1].port.targetPort: has no effect on a Gateway: leave it out",
                    "spec.servers[1].port.name: \"x\" is the name of an earlier server's port",
                ],
            ),
            (
                "a socket with a port",
                "{servers: [{port: {number: 80, name: x, protocol: HTTP}, bind: 'unix://run', hosts: ['*']}]}",
                &[
                    "spec.servers[0].port.number: must be 0, not 80: bind is a unix socket",
                    "spec.servers[0].bind: \"unix://run\" is not a socket: it must be \"unix://\" and an absolute path, or \"unix://@\" and a name",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: GatewaySpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }

    #[test]
    fn a_name_has_no_dots() {
        let servers = "spec: {servers: [{port: {number: 80, name: x, protocol: HTTP}, hosts: ['*']}]}";
        for (name, accepted) in [("public", true), ("public.web", false)] {
            let yaml = format!("{{metadata: {{name: {name}}}, {servers}}}");
            let object: Gateway = crate::parse(crate::yaml::value(&yaml).unwrap()).unwrap();
            assert_eq!(object.check().is_empty(), accepted, "{name}");
        }
    }
}
