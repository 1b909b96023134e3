//! What is wrong with a Gateway.

use super::{GatewaySpec, Server, ServerTlsMode, ServerTlsSettings};
use crate::check::{Checker, Problem};

/// The protocols of a Gateway's port, as Istio names them.
const PROTOCOLS: [&str; 9] = ["HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "REDIS", "TCP", "TLS"];

impl GatewaySpec {
    /// What is wrong with these servers.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        if self.servers.is_empty() {
            c.error("servers", "needs at least one server");
        }
        if self.selector.is_empty() {
            c.warn("selector", "is empty: this applies to every gateway and sidecar");
        }
        c.each("servers", &self.servers, server);
        c.finish()
    }
}

fn server(c: &mut Checker, server: &Server) {
    let protocol = server.port.as_ref().map(|port| port.protocol.to_ascii_uppercase()).unwrap_or_default();
    match &server.port {
        None => c.error("port", "must be set"),
        Some(port) => c.field("port", |c| {
            // A unix socket has no port.
            if !server.bind.starts_with("unix://") {
                c.port("number", port.number);
            }
            c.required("name", &port.name);
            if !PROTOCOLS.contains(&protocol.as_str()) {
                c.error("protocol", format!("\"{}\" is not one of {}", port.protocol, PROTOCOLS.join(", ")));
            }
            if port.target_port != 0 {
                c.port("targetPort", port.target_port);
            }
        }),
    }
    if server.hosts.is_empty() {
        c.error("hosts", "must name at least one host");
    }
    for (index, host) in server.hosts.iter().enumerate() {
        let (namespace, name) = host.split_once('/').map_or((None, host.as_str()), |(ns, name)| (Some(ns), name));
        c.host(&format!("hosts[{index}]"), name);
        if namespace == Some("") {
            c.error(&format!("hosts[{index}]"), "has an empty namespace: use \"./\" for this one or \"*/\" for any");
        }
    }
    match &server.tls {
        None if matches!(protocol.as_str(), "HTTPS" | "TLS") => {
            c.error("tls", format!("must be set for protocol {protocol}"));
        }
        None => {}
        Some(tls) => {
            if matches!(protocol.as_str(), "HTTP" | "GRPC" | "HTTP2" | "TCP")
                && !tls.https_redirect
                && *tls != ServerTlsSettings::default()
            {
                c.warn("tls", format!("has no effect for protocol {protocol}: use HTTPS or TLS"));
            }
            c.field("tls", |c| tls_settings(c, tls, &protocol));
        }
    }
}

fn tls_settings(c: &mut Checker, tls: &ServerTlsSettings, protocol: &str) {
    let secrets = [
        (!tls.credential_name.is_empty(), "credentialName"),
        (!tls.credential_names.is_empty(), "credentialNames"),
        (!tls.tls_certificates.is_empty(), "tlsCertificates"),
    ];
    let set: Vec<_> = secrets.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if set.len() > 1 {
        c.error("", format!("has {}, of which only one can be", set.join(" and ")));
    }
    let terminates = matches!(tls.mode, ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    if terminates && set.is_empty() && (tls.server_certificate.is_empty() || tls.private_key.is_empty()) {
        c.error("", "needs credentialName, or serverCertificate and privateKey, for its mode");
    }
    if tls.https_redirect && protocol == "HTTPS" {
        c.warn("httpsRedirect", "has no effect for protocol HTTPS: it belongs to the HTTP server");
    }
    if tls.min_protocol_version as u8 > tls.max_protocol_version as u8 && tls.max_protocol_version as u8 != 0 {
        c.error("minProtocolVersion", "is above maxProtocolVersion");
    }
}

#[cfg(test)]
mod tests {
    use super::GatewaySpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            (
                "bookinfo's",
                "{selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}",
                &[],
            ),
            ("no servers", "{selector: {a: b}}", &["spec.servers: needs at least one server"]),
            (
                "an unknown protocol",
                "{selector: {a: b}, servers: [{port: {number: 80, name: x, protocol: SMTP}, hosts: ['*']}]}",
                &[
                    "spec.servers[0].port.protocol: \"SMTP\" is not one of HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, REDIS, TCP, TLS",
                ],
            ),
            (
                "HTTPS without TLS settings",
                "{selector: {a: b}, servers: [{port: {number: 443, name: x, protocol: HTTPS}, hosts: ['*']}]}",
                &["spec.servers[0].tls: must be set for protocol HTTPS"],
            ),
            (
                "TLS without a certificate",
                "{selector: {a: b}, servers: [{port: {number: 443, name: x, protocol: HTTPS}, hosts: [a], tls: {mode: SIMPLE}}]}",
                &["spec.servers[0].tls: needs credentialName, or serverCertificate and privateKey, for its mode"],
            ),
            (
                "no port and no hosts",
                "{selector: {a: b}, servers: [{}]}",
                &["spec.servers[0].port: must be set", "spec.servers[0].hosts: must name at least one host"],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: GatewaySpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
