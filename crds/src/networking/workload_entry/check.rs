//! What is wrong with a WorkloadEntry.

use std::net::IpAddr;

use super::WorkloadEntrySpec;
use crate::check::{Checker, Problem};

/// What a workload's address may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::networking) enum AddressOf {
    /// An address, a name or a socket: whoever selects it decides how it is found.
    Workload,
    /// As before, and absent: it is filled in when a workload joins.
    Template,
    /// An address or a socket.
    StaticEndpoint,
    /// An address or a name to look up.
    DnsEndpoint,
}

impl WorkloadEntrySpec {
    /// What is wrong with this workload.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        workload(&mut c, self, AddressOf::Workload);
        c.finish()
    }
}

/// The rules that WorkloadEntry, WorkloadGroup's template and ServiceEntry's endpoints share.
pub(in crate::networking) fn workload(c: &mut Checker, entry: &WorkloadEntrySpec, of: AddressOf) {
    let address = entry.address.as_str();
    match (address.strip_prefix("unix://"), of) {
        _ if address.is_empty() => match of {
            AddressOf::Template => {}
            AddressOf::DnsEndpoint => c.error("address", "must be set: an address, or a name to look up"),
            AddressOf::Workload | AddressOf::StaticEndpoint if entry.network.is_empty() => {
                c.error("address", "must be set, unless network is");
            }
            AddressOf::Workload | AddressOf::StaticEndpoint => {
                let network = &entry.network;
                c.warn(
                    "address",
                    format!("is not set: it can only be reached through a gateway of network \"{network}\""),
                );
            }
        },
        (Some(_), AddressOf::DnsEndpoint) => {
            c.error("address", format!("\"{address}\" is a unix socket, which needs resolution STATIC"));
        }
        (Some(path), _) => {
            c.unix_socket("address", path);
            if !entry.ports.is_empty() {
                c.error("ports", "must be left out: a unix socket has none");
            }
        }
        (None, AddressOf::StaticEndpoint) => {
            if address.parse::<IpAddr>().is_err() {
                c.error("address", format!("\"{address}\" is not an address: a name needs resolution DNS"));
            }
        }
        (None, _) => c.name_or_address("address", address),
    }
    for (name, port) in &entry.ports {
        c.key("ports", name, |c| {
            c.port_name("", name);
            c.port("", *port);
        });
    }
    c.labels("labels", &entry.labels);
}

#[cfg(test)]
mod tests {
    use super::WorkloadEntrySpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("an address", "{address: 1.2.3.4, ports: {http: 8080}, labels: {app: a}, serviceAccount: b}", &[]),
            ("a name", "{address: vm.example.com}", &[]),
            ("a socket", "{address: 'unix:///run/app.sock'}", &[]),
            ("nothing", "{}", &["spec.address: must be set, unless network is"]),
            (
                "a network alone",
                "{network: east}",
                &["spec.address: is not set: it can only be reached through a gateway of network \"east\""],
            ),
            (
                "a socket with ports",
                "{address: 'unix:///run/app.sock', ports: {http: 80}}",
                &["spec.ports: must be left out: a unix socket has none"],
            ),
            (
                "a folder",
                "{address: 'unix:///run/'}",
                &[
                    "spec.address: \"unix:///run/\" is not a socket: it must be \"unix://\" and an absolute path, or \"unix://@\" and a name",
                ],
            ),
            (
                "a name with a port",
                "{address: 'a.com:80'}",
                &[
                    "spec.address: \"a.com:80\" is neither an address nor the name of a host: each part of it must be 1 to 63 letters, digits and dashes, with no dash at its ends",
                ],
            ),
            (
                "a port and a label that are none",
                "{address: 1.2.3.4, ports: {http: 0}, labels: {app: 'a b'}}",
                &[
                    "spec.ports[http]: 0 is not a port: it must be between 1 and 65535",
                    "spec.labels: \"a b\" is not the value of label \"app\": it must be letters, digits, dashes, underscores and dots",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: WorkloadEntrySpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
