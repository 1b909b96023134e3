//! What is wrong with a Sidecar.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    CaptureMode, EgressListener, IngressListener, OutboundTrafficMode, OutboundTrafficPolicy, Sidecar, SidecarPort,
    SidecarSpec,
};
use crate::check::{Checker, HostOf, Problem};
use crate::networking::destination_rule::connection_pool;
use crate::networking::gateway::{ServerTlsMode, ServerTlsSettings, server_tls};
use crate::networking::virtual_service::destination;
use crate::protocol::Protocol;

impl Sidecar {
    /// What is wrong with this object: its spec, by itself and in its namespace.
    pub fn check(&self) -> Vec<Problem> {
        self.spec.check_with(&self.metadata)
    }
}

impl SidecarSpec {
    /// What is wrong with this sidecar.
    pub fn check(&self) -> Vec<Problem> {
        self.check_with(&ObjectMeta::default())
    }

    fn check_with(&self, metadata: &ObjectMeta) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        if let Some(selector) = &self.workload_selector {
            c.field("workloadSelector", |c| selector.check(c));
        }
        let says_nothing = self.ingress.is_empty()
            && self.egress.is_empty()
            && self.inbound_connection_pool.is_none()
            && self.outbound_traffic_policy.is_none();
        if says_nothing {
            c.error("", "needs one of ingress, egress, inboundConnectionPool, outboundTrafficPolicy");
        }
        let mut numbers = HashSet::new();
        for (index, listener) in self.ingress.iter().enumerate() {
            c.field(&format!("ingress[{index}]"), |c| ingress(c, listener));
            if let Some(port) = listener.port.as_ref().map(|port| port.number)
                && !numbers.insert(port)
            {
                c.error(&format!("ingress[{index}].port.number"), format!("{port} is listed twice"));
            }
        }
        if let Some(pool) = &self.inbound_connection_pool {
            c.field("inboundConnectionPool", |c| connection_pool(c, pool));
        }
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        c.each("egress", &self.egress, |c, listener| egress(c, listener, namespace));
        self.egress_places(&mut c);
        if let Some(policy) = &self.outbound_traffic_policy {
            c.field("outboundTrafficPolicy", |c| outbound(c, policy));
        }
        c.finish()
    }

    /// No two listeners in one place, and the one for all other ports last.
    fn egress_places(&self, c: &mut Checker) {
        let mut places = HashSet::new();
        for (index, listener) in self.egress.iter().enumerate() {
            let name = format!("egress[{index}]");
            let Some(port) = &listener.port else {
                if index + 1 < self.egress.len() {
                    c.error(&name, "has no port, so it is for all ports that have no listener: it must be the last");
                }
                continue;
            };
            // Sockets have number 0, and are told apart by their path.
            if !places.insert((port.number, if port.number == 0 { listener.bind.as_str() } else { "" })) {
                match port.number {
                    0 => c.error(&format!("{name}.bind"), format!("\"{}\" is bound twice", listener.bind)),
                    number => c.error(&format!("{name}.port.number"), format!("{number} is listed twice")),
                }
            }
        }
    }
}

/// What all ports have in common; a number of 0 is the caller's to judge.
fn port_rules(c: &mut Checker, port: &SidecarPort) {
    if !port.name.is_empty() {
        c.port_name("name", &port.name);
    }
    c.protocol("protocol", &port.protocol);
    if port.target_port != 0 {
        c.error("targetPort", "has no effect on a Sidecar: leave it out");
    }
}

fn ingress(c: &mut Checker, listener: &IngressListener) {
    let protocol = listener.port.as_ref().map_or("", |port| port.protocol.as_str());
    match &listener.port {
        None => c.error("port", "must be set"),
        Some(port) => c.field("port", |c| {
            port_rules(c, port);
            c.port("number", port.number);
        }),
    }
    if !listener.bind.is_empty() {
        c.address("bind", &listener.bind);
    }
    if !listener.default_endpoint.is_empty() {
        endpoint(c, &listener.default_endpoint);
    }
    if let Some(tls) = &listener.tls {
        c.field("tls", |c| ingress_tls(c, tls));
        if !Protocol::parse(protocol).is_tls() {
            c.error("port.protocol", "must be HTTPS or TLS, since tls is set");
        }
    }
    if let Some(pool) = &listener.connection_pool {
        c.field("connectionPool", |c| {
            connection_pool(c, pool);
            if pool.http.is_some() && !protocol.is_empty() && !Protocol::parse(protocol).is_http() {
                c.warn("http", format!("has no effect for protocol {protocol}, which is not HTTP"));
            }
        });
    }
}

/// Where the application is.
fn endpoint(c: &mut Checker, endpoint: &str) {
    if let Some(path) = endpoint.strip_prefix("unix://") {
        return c.unix_socket("defaultEndpoint", path);
    }
    let parts = match endpoint.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => endpoint.rsplit_once(':').filter(|(host, _)| !host.contains(':')),
    };
    match parts {
        // No address is the loopback address.
        Some(("" | "127.0.0.1" | "0.0.0.0" | "::1" | "::", port)) => match port.parse::<u32>() {
            Ok(number) => c.port("defaultEndpoint", number),
            Err(_) => c.error("defaultEndpoint", format!("\"{endpoint}\" ends in \"{port}\", which is not a port")),
        },
        _ => c.error(
            "defaultEndpoint",
            format!(
                "\"{endpoint}\" is not the workload itself: it must be 127.0.0.1:<port>, 0.0.0.0:<port>, [::1]:<port>, [::]:<port> or unix://<path>"
            ),
        ),
    }
}

fn ingress_tls(c: &mut Checker, tls: &ServerTlsSettings) {
    let refused = [
        (!tls.subject_alt_names.is_empty(), "subjectAltNames"),
        (tls.https_redirect, "httpsRedirect"),
        (!tls.credential_name.is_empty(), "credentialName"),
        (!tls.credential_names.is_empty(), "credentialNames"),
        (!tls.tls_certificates.is_empty(), "tlsCertificates"),
    ];
    for (_, name) in refused.iter().filter(|(set, _)| *set) {
        c.error(name, "is for Gateways only: a sidecar reads serverCertificate and privateKey from files");
    }
    if matches!(tls.mode, ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough) {
        c.error("mode", "must be SIMPLE, MUTUAL, OPTIONAL_MUTUAL or PASSTHROUGH in a sidecar");
    }
    server_tls(c, tls);
}

fn egress(c: &mut Checker, listener: &EgressListener, namespace: &str) {
    if let Some(port) = &listener.port {
        c.field("port", |c| port_rules(c, port));
        let socket = listener.bind.strip_prefix("unix://");
        match (port.number, socket) {
            (0, None) => c.error("port.number", "must be set, unless bind is a unix socket"),
            (0, Some(path)) => {
                c.unix_socket("bind", path);
                if listener.capture_mode == CaptureMode::Iptables {
                    c.error(
                        "captureMode",
                        "must be DEFAULT or NONE: connections to a unix socket cannot be redirected",
                    );
                }
            }
            (number, _) => {
                c.port("port.number", number);
                if !listener.bind.is_empty() {
                    c.address("bind", &listener.bind);
                }
            }
        }
    }
    if listener.hosts.is_empty() {
        c.error("hosts", "must name at least one host, such as \"./*\"");
    }
    for (index, host) in listener.hosts.iter().enumerate() {
        c.namespaced_host(&format!("hosts[{index}]"), host, HostOf::Sidecar);
    }
    repeated_hosts(c, &listener.hosts, namespace);
}

/// Hosts that others in the list cover.
fn repeated_hosts(c: &mut Checker, hosts: &[String], namespace: &str) {
    let everything = hosts.iter().any(|host| host == "*/*");
    let mut seen: HashMap<&str, HashSet<&str>> = HashMap::new();
    for (index, text) in hosts.iter().enumerate() {
        // What is left out is not repeated by what is taken in.
        let Some((of, host)) = text.split_once('/').filter(|_| !text.starts_with('~')) else { continue };
        let of = if of == "." && !namespace.is_empty() { namespace } else { of };
        let earlier = seen.entry(of).or_default();
        let repeated = earlier.contains(host) || earlier.contains("*") || (host == "*" && !earlier.is_empty());
        earlier.insert(host);
        let name = format!("hosts[{index}]");
        if everything && of != "*" {
            c.warn(&name, format!("\"{text}\" is covered by \"*/*\": leave one of them out"));
        } else if repeated {
            c.warn(&name, format!("\"{text}\" and an earlier entry cover the same hosts: leave one of them out"));
        }
    }
}

fn outbound(c: &mut Checker, policy: &OutboundTrafficPolicy) {
    let Some(proxy) = &policy.egress_proxy else { return };
    if policy.mode != OutboundTrafficMode::AllowAny {
        c.error("egressProxy", "needs mode ALLOW_ANY: otherwise nothing goes through it");
        return;
    }
    c.field("egressProxy", |c| {
        if proxy.host.starts_with('*') {
            c.name("host", &proxy.host);
        }
        destination(c, proxy);
        if proxy.port.is_none() {
            c.error("port", "must be set");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{Sidecar, SidecarSpec};

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("what most want", "{egress: [{hosts: ['./*', 'istio-system/*']}]}", &[]),
            (
                "ingress in all forms",
                "{ingress: [{port: {number: 80, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8080'}, {port: {number: 81}, defaultEndpoint: '[::1]:8081'}, {port: {number: 82}, defaultEndpoint: ':8082'}, {port: {number: 83}, defaultEndpoint: 'unix:///run/app.sock'}]}",
                &[],
            ),
            ("nothing", "{}", &["spec: needs one of ingress, egress, inboundConnectionPool, outboundTrafficPolicy"]),
            (
                "a host without a namespace",
                "{egress: [{hosts: [a.com]}]}",
                &[
                    "spec.egress[0].hosts[0]: \"a.com\" has no namespace: write \"./a.com\" for this one, \"*/a.com\" for any",
                ],
            ),
            (
                "another workload as the endpoint",
                "{ingress: [{port: {number: 80}, defaultEndpoint: '10.0.0.1:80'}]}",
                &[
                    "spec.ingress[0].defaultEndpoint: \"10.0.0.1:80\" is not the workload itself: it must be 127.0.0.1:<port>, 0.0.0.0:<port>, [::1]:<port>, [::]:<port> or unix://<path>",
                ],
            ),
            (
                "an endpoint without a port",
                "{ingress: [{port: {number: 80}, defaultEndpoint: '127.0.0.1:http'}]}",
                &["spec.ingress[0].defaultEndpoint: \"127.0.0.1:http\" ends in \"http\", which is not a port"],
            ),
            (
                "a port twice",
                "{ingress: [{port: {number: 80}}, {port: {number: 80}}], egress: [{port: {number: 90}, hosts: ['*/*']}, {port: {number: 90}, hosts: ['*/*']}]}",
                &["spec.ingress[1].port.number: 80 is listed twice", "spec.egress[1].port.number: 90 is listed twice"],
            ),
            (
                "all ports before one port",
                "{egress: [{hosts: ['*/*']}, {port: {number: 80}, hosts: ['*/*']}]}",
                &["spec.egress[0]: has no port, so it is for all ports that have no listener: it must be the last"],
            ),
            (
                "a socket that would be redirected",
                "{egress: [{port: {number: 0}, bind: 'unix:///run/out.sock', captureMode: IPTABLES, hosts: ['*/*']}]}",
                &[
                    "spec.egress[0].captureMode: must be DEFAULT or NONE: connections to a unix socket cannot be redirected",
                ],
            ),
            (
                "TLS as of a Gateway",
                "{ingress: [{port: {number: 443, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: a}}]}",
                &[
                    "spec.ingress[0].tls.credentialName: is for Gateways only: a sidecar reads serverCertificate and privateKey from files",
                ],
            ),
            (
                "TLS that is terminated",
                "{ingress: [{port: {number: 443, protocol: https, name: https}, tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}}]}",
                &[],
            ),
            (
                "TLS of a plain port",
                "{ingress: [{port: {number: 80, protocol: HTTP}, tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}}]}",
                &["spec.ingress[0].port.protocol: must be HTTPS or TLS, since tls is set"],
            ),
            (
                "HTTP settings of a TCP port",
                "{ingress: [{port: {number: 80, protocol: TCP}, connectionPool: {http: {maxRetries: 1}}}]}",
                &["spec.ingress[0].connectionPool.http: has no effect for protocol TCP, which is not HTTP"],
            ),
            (
                "a proxy for what is refused",
                "{outboundTrafficPolicy: {egressProxy: {host: a.com, port: {number: 80}}}}",
                &["spec.outboundTrafficPolicy.egressProxy: needs mode ALLOW_ANY: otherwise nothing goes through it"],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: SidecarSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }

    #[test]
    fn hosts_that_others_cover() {
        let again = "and an earlier entry cover the same hosts: leave one of them out";
        let rows: &[(&str, Option<(usize, String)>)] = &[
            ("[a/b.com, a/c.com, b/b.com]", None),
            ("['*/*', '~a/*', '~/c.com']", None),
            ("['*/*', a/b.com]", Some((1, "\"a/b.com\" is covered by \"*/*\": leave one of them out".to_owned()))),
            ("[a/b.com, 'a/*']", Some((1, format!("\"a/*\" {again}")))),
            ("['./*', own/b.com]", Some((1, format!("\"own/b.com\" {again}")))),
        ];
        for (hosts, expected) in rows {
            let yaml = format!("{{metadata: {{name: x, namespace: own}}, spec: {{egress: [{{hosts: {hosts}}}]}}}}");
            let object: Sidecar = crate::parse(crate::yaml::value(&yaml).unwrap()).unwrap();
            let found: Vec<_> = object.check().iter().map(ToString::to_string).collect();
            let expected: Vec<_> =
                expected.iter().map(|(index, message)| format!("spec.egress[0].hosts[{index}]: {message}")).collect();
            assert_eq!(found, expected, "{hosts}");
        }
    }
}
