//! What is wrong with a WorkloadGroup.

use super::{HttpHealthCheck, ReadinessProbe, WorkloadGroupSpec};
use crate::check::{Checker, Problem};
use crate::networking::workload_entry::{AddressOf, workload};

impl WorkloadGroupSpec {
    /// What is wrong with this group.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        match &self.template {
            Some(template) => c.field("template", |c| workload(c, template, AddressOf::Template)),
            None => c.error("template", "must be set; {} will do"),
        }
        if let Some(metadata) = &self.metadata {
            c.labels("metadata.labels", &metadata.labels);
        }
        if let Some(probe) = &self.probe {
            c.field("probe", |c| readiness(c, probe));
        }
        c.finish()
    }
}

fn readiness(c: &mut Checker, probe: &ReadinessProbe) {
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        c.not_negative(name, value);
    }
    let methods = c.at_most_one(&[
        ("httpGet", probe.http_get.is_some()),
        ("tcpSocket", probe.tcp_socket.is_some()),
        ("exec", probe.exec.is_some()),
        ("grpc", probe.grpc.is_some()),
    ]);
    if methods == 0 {
        c.error("", "needs one of httpGet, tcpSocket, exec, grpc");
    }
    if let Some(get) = &probe.http_get {
        c.field("httpGet", |c| http_get(c, get));
    }
    if let Some(socket) = &probe.tcp_socket {
        c.port("tcpSocket.port", socket.port);
    }
    if let Some(exec) = &probe.exec
        && exec.command.first().is_none_or(String::is_empty)
    {
        c.error("exec.command", "must be set: a program and its arguments");
    }
    if let Some(grpc) = &probe.grpc {
        c.port("grpc.port", grpc.port);
    }
}

fn http_get(c: &mut Checker, get: &HttpHealthCheck) {
    c.port("port", get.port);
    if !matches!(get.scheme.as_str(), "" | "HTTP" | "HTTPS") {
        c.error("scheme", format!("\"{}\" is not HTTP or HTTPS", get.scheme));
    }
    c.each("httpHeaders", &get.http_headers, |c, header| c.probe_header_name("name", &header.name));
}

#[cfg(test)]
mod tests {
    use super::WorkloadGroupSpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("the least", "{template: {}}", &[]),
            (
                "all of it",
                "{metadata: {labels: {app: a}}, template: {serviceAccount: a, ports: {http: 80}}, probe: {httpGet: {port: 80, scheme: HTTPS, httpHeaders: [{name: x-a, value: b}]}}}",
                &[],
            ),
            ("no template", "{}", &["spec.template: must be set; {} will do"]),
            (
                "a probe that asks nothing",
                "{template: {}, probe: {periodSeconds: -1}}",
                &[
                    "spec.probe.periodSeconds: -1 is negative: it must be 0 or more",
                    "spec.probe: needs one of httpGet, tcpSocket, exec, grpc",
                ],
            ),
            (
                "a probe that asks twice",
                "{template: {}, probe: {tcpSocket: {port: 1}, grpc: {port: 2}}}",
                &["spec.probe: has tcpSocket and grpc, of which only one can be"],
            ),
            (
                "probes without what they need",
                "{template: {}, probe: {exec: {}}}",
                &["spec.probe.exec.command: must be set: a program and its arguments"],
            ),
            (
                "a request that cannot be made",
                "{template: {}, probe: {httpGet: {scheme: ftp, httpHeaders: [{name: a_b}]}}}",
                &[
                    "spec.probe.httpGet.port: 0 is not a port: it must be between 1 and 65535",
                    "spec.probe.httpGet.scheme: \"ftp\" is not HTTP or HTTPS",
                    "spec.probe.httpGet.httpHeaders[0].name: \"a_b\" is not the name of a header of a probe: it must be letters, digits and dashes",
                ],
            ),
            (
                "a template that is wrong",
                "{metadata: {labels: {'a b': c}}, template: {address: 'a b'}}",
                &[
                    "spec.template.address: \"a b\" is neither an address nor the name of a host: each part of it must be 1 to 63 letters, digits and dashes, with no dash at its ends",
                    "spec.metadata.labels: \"a b\" is not the key of a label: it must be like \"app\" or \"example.com/app\"",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: WorkloadGroupSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
