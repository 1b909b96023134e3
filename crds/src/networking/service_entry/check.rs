//! What is wrong with a ServiceEntry.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Location, Resolution, ServiceEntry, ServiceEntrySpec, ServicePort};
use crate::check::{Checker, Problem};
use crate::networking::workload_entry::{AddressOf, workload};
use crate::protocol::Protocol;

impl ServiceEntry {
    /// What is wrong with this object: its spec, by itself and with its namespace and labels.
    pub fn check(&self) -> Vec<Problem> {
        self.spec.check_with(&self.metadata)
    }
}

impl ServiceEntrySpec {
    /// What is wrong with this entry.
    pub fn check(&self) -> Vec<Problem> {
        self.check_with(&ObjectMeta::default())
    }

    fn check_with(&self, metadata: &ObjectMeta) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        if let Some(selector) = &self.workload_selector {
            c.field("workloadSelector", |c| selector.check(c));
        }
        let selects = self.workload_selector.is_some() && !c.has_errors();
        self.check_hosts(&mut c);
        self.check_addresses(&mut c);
        let (mut numbers, mut names) = (HashSet::new(), HashSet::new());
        for (index, port) in self.ports.iter().enumerate() {
            let is_new = (numbers.insert(port.number), names.insert(&port.name));
            c.field(&format!("ports[{index}]"), |c| self.check_port(c, port, is_new));
        }
        if self.workload_selector.is_some() && !self.endpoints.is_empty() {
            c.error("", "has workloadSelector and endpoints, of which only one can be");
        }
        self.check_resolution(&mut c, selects);
        self.check_endpoints(&mut c);
        self.check_hosts_on_ports(&mut c);
        let waypoint = metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(names::labels::USE_WAYPOINT));
        if waypoint && self.resolution == Resolution::DynamicDns && self.location == Location::MeshInternal {
            c.error("resolution", "DYNAMIC_DNS of hosts in the mesh cannot go through a waypoint");
        }
        c.export_to(&self.export_to, metadata.namespace.as_deref().unwrap_or_default(), true);
        c.finish()
    }

    fn check_hosts(&self, c: &mut Checker) {
        if self.hosts.is_empty() {
            c.error("hosts", "must name at least one host");
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let name = format!("hosts[{index}]");
            if host == "*" {
                c.error(&name, "\"*\" is not a service: name a domain, such as \"*.example.com\"");
            } else {
                c.host(&name, host);
                c.warn_of_partial_wildcard(&name, host);
                if self.resolution == Resolution::DynamicDns && !host.starts_with('*') {
                    c.error(
                        &name,
                        format!("\"{host}\" is no wildcard, which resolution DYNAMIC_DNS needs: use DNS for it"),
                    );
                }
            }
        }
    }

    fn check_addresses(&self, c: &mut Checker) {
        let takes_blocks = matches!(self.resolution, Resolution::None | Resolution::Static);
        for (index, address) in self.addresses.iter().enumerate() {
            let name = format!("addresses[{index}]");
            c.subnet(&name, address);
            if address.contains('/') && !takes_blocks {
                c.error(&name, format!("\"{address}\" is a CIDR block, which needs resolution NONE or STATIC"));
            }
        }
        if self.resolution == Resolution::DynamicDns && !self.addresses.is_empty() {
            c.error("addresses", "resolution DYNAMIC_DNS takes none: hosts are looked up as they are called");
        }
    }

    /// Number and name are new, or an earlier port's.
    fn check_port(&self, c: &mut Checker, port: &ServicePort, (new_number, new_name): (bool, bool)) {
        c.port_name("name", &port.name);
        c.port("number", port.number);
        c.protocol("protocol", &port.protocol);
        if !new_number {
            c.error("number", format!("{} is listed twice", port.number));
        }
        if !new_name {
            c.error("name", format!("\"{}\" is listed twice", port.name));
        }
        if port.target_port != 0 {
            c.port("targetPort", port.target_port);
            if self.resolution == Resolution::None {
                c.warn(
                    "targetPort",
                    "has no effect with resolution NONE: connections go on to where they were made to",
                );
            }
        }
        let protocol = Protocol::parse(&port.protocol);
        if self.resolution == Resolution::DynamicDns {
            if !matches!(protocol, Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls) {
                c.error(
                    "protocol",
                    "resolution DYNAMIC_DNS needs HTTP, HTTP2, GRPC or TLS, which name the host that is called",
                );
            }
        } else if self.addresses.is_empty() && matches!(protocol, Protocol::Tcp | Protocol::Unsupported) {
            c.warn(
                "protocol",
                "is TCP or not set, and the entry has no addresses: its connections cannot be told from others to this port",
            );
        }
    }

    fn check_resolution(&self, c: &mut Checker, selects: bool) {
        let wildcard = self.hosts.iter().any(|host| host.starts_with('*'));
        match self.resolution {
            Resolution::None => {
                if !self.endpoints.is_empty() {
                    c.error(
                        "endpoints",
                        "resolution NONE takes no endpoints: callers connect to the address they looked up",
                    );
                }
                if selects {
                    c.warn(
                        "workloadSelector",
                        "has no effect with resolution NONE: callers connect to the address they looked up",
                    );
                }
            }
            Resolution::Dns | Resolution::DnsRoundRobin if wildcard && self.endpoints.is_empty() => {
                c.error(
                    "hosts",
                    "a wildcard cannot be looked up: list endpoints, or use resolution NONE or DYNAMIC_DNS",
                );
            }
            Resolution::Dns | Resolution::DnsRoundRobin if self.endpoints.is_empty() => {
                for (index, host) in self.hosts.iter().enumerate() {
                    // What is no host at all is named already.
                    if host.bytes().all(|byte| byte.is_ascii_digit()) {
                        c.name(&format!("hosts[{index}]"), host);
                    }
                }
            }
            Resolution::DnsRoundRobin if self.endpoints.len() > 1 => {
                c.error("endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint");
            }
            Resolution::DynamicDns if !self.endpoints.is_empty() => {
                c.error(
                    "endpoints",
                    "resolution DYNAMIC_DNS takes no endpoints: hosts are looked up as they are called",
                );
            }
            Resolution::Static | Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns => {}
        }
    }

    fn check_endpoints(&self, c: &mut Checker) {
        let of = match self.resolution {
            Resolution::Static => AddressOf::StaticEndpoint,
            Resolution::Dns | Resolution::DnsRoundRobin => AddressOf::DnsEndpoint,
            // They are refused as a whole; what else is wrong with one is said as well.
            Resolution::None | Resolution::DynamicDns => AddressOf::Workload,
        };
        let names: HashSet<&str> = self.ports.iter().map(|port| port.name.as_str()).collect();
        c.each("endpoints", &self.endpoints, |c, endpoint| {
            workload(c, endpoint, of);
            for name in endpoint.ports.keys() {
                if !names.contains(name.as_str()) {
                    c.key("ports", name, |c| c.error("", "is the name of no port in spec.ports"));
                }
            }
            if endpoint.address.starts_with("unix://") && self.ports.len() != 1 {
                c.error("address", "a unix socket needs exactly one port in spec.ports");
            }
        });
    }

    /// Several hosts share their ports: what is called must say which of them is meant.
    fn check_hosts_on_ports(&self, c: &mut Checker) {
        if self.hosts.len() < 2 || self.resolution == Resolution::None {
            return;
        }
        let protocol = |port: &ServicePort| Protocol::parse(&port.protocol);
        let names_its_host = |port: &ServicePort| protocol(port).is_http() || protocol(port).is_tls();
        if let Some(index) = self.ports.iter().position(|port| !names_its_host(port)) {
            c.error(
                &format!("ports[{index}].protocol"),
                "needs HTTP or TLS, which name the host that is called, since there are several: use one entry for each",
            );
        }
        let looked_up = matches!(self.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        if looked_up && !self.addresses.is_empty() && self.ports.iter().any(|port| protocol(port).is_tcp()) {
            c.warn("addresses", "are shared by several hosts: connections that do not name one go to the first");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ServiceEntry, ServiceEntrySpec};

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            (
                "a DNS entry",
                "{hosts: [example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}",
                &[],
            ),
            ("no hosts", "{}", &["spec.hosts: must name at least one host"]),
            (
                "a name under STATIC",
                "{hosts: [a.com], resolution: STATIC, endpoints: [{address: b.com}]}",
                &["spec.endpoints[0].address: \"b.com\" is not an address: a name needs resolution DNS"],
            ),
            (
                "endpoints under NONE",
                "{hosts: [a.com], endpoints: [{address: 10.0.0.1}]}",
                &["spec.endpoints: resolution NONE takes no endpoints: callers connect to the address they looked up"],
            ),
            (
                "a port twice",
                "{hosts: [a.com], ports: [{number: 80, name: a, protocol: HTTP}, {number: 80, name: b, protocol: HTTP}]}",
                &["spec.ports[1].number: 80 is listed twice"],
            ),
            (
                "a wildcard to look up",
                "{hosts: ['*.a.com'], resolution: DNS}",
                &["spec.hosts: a wildcard cannot be looked up: list endpoints, or use resolution NONE or DYNAMIC_DNS"],
            ),
            (
                "a number to look up",
                "{hosts: ['1'], resolution: DNS}",
                &["spec.hosts[0]: \"1\" is not the name of a host: its last part is a number"],
            ),
            (
                "a wildcard without a dot",
                "{hosts: ['*a.com']}",
                &["spec.hosts[0]: \"*a.com\" also covers names that only end alike: write \"*.example.com\""],
            ),
            (
                "a block to look up",
                "{hosts: [a.com], addresses: [10.0.0.0/8, 10.0.0.300], resolution: DNS}",
                &[
                    "spec.addresses[0]: \"10.0.0.0/8\" is a CIDR block, which needs resolution NONE or STATIC",
                    "spec.addresses[1]: \"10.0.0.300\" is not an address or a CIDR block",
                ],
            ),
            (
                "a port of an endpoint that is no port of the entry",
                "{hosts: [a.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 1.1.1.1, ports: {https: 8443}}]}",
                &["spec.endpoints[0].ports[https]: is the name of no port in spec.ports"],
            ),
            (
                "a socket and two ports",
                "{hosts: [a.com], ports: [{number: 80, name: a, protocol: HTTP}, {number: 81, name: b, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 'unix:///run/a.sock'}]}",
                &["spec.endpoints[0].address: a unix socket needs exactly one port in spec.ports"],
            ),
            (
                "TCP without an address",
                "{hosts: [a.com], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: DNS}",
                &[
                    "spec.ports[0].protocol: is TCP or not set, and the entry has no addresses: its connections cannot be told from others to this port",
                ],
            ),
            (
                "two hosts of TCP",
                "{hosts: [a.com, b.com], addresses: [1.1.1.1], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: STATIC}",
                &[
                    "spec.ports[0].protocol: needs HTTP or TLS, which name the host that is called, since there are several: use one entry for each",
                ],
            ),
            (
                "looked up as it is called, and not",
                "{hosts: ['*.a.com', c.com], addresses: [1.1.1.1], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: DYNAMIC_DNS, endpoints: [{address: b.com}]}",
                &[
                    "spec.hosts[1]: \"c.com\" is no wildcard, which resolution DYNAMIC_DNS needs: use DNS for it",
                    "spec.addresses: resolution DYNAMIC_DNS takes none: hosts are looked up as they are called",
                    "spec.ports[0].protocol: resolution DYNAMIC_DNS needs HTTP, HTTP2, GRPC or TLS, which name the host that is called",
                    "spec.endpoints: resolution DYNAMIC_DNS takes no endpoints: hosts are looked up as they are called",
                    "spec.ports[0].protocol: needs HTTP or TLS, which name the host that is called, since there are several: use one entry for each",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: ServiceEntrySpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }

    #[test]
    fn rules_about_namespace_and_labels() {
        let rows: &[(&str, &str, &[&str])] = &[
            (
                "its own namespace twice",
                "{metadata: {name: x, namespace: a}, spec: {hosts: [a.com], exportTo: [., a]}}",
                &["spec.exportTo[1]: \"a\" names a namespace that is listed already"],
            ),
            (
                "a waypoint",
                "{metadata: {name: x, labels: {istio.io/use-waypoint: w}}, spec: {hosts: ['*.a.com'], location: MESH_INTERNAL, resolution: DYNAMIC_DNS}}",
                &["spec.resolution: DYNAMIC_DNS of hosts in the mesh cannot go through a waypoint"],
            ),
        ];
        for (name, yaml, expected) in rows {
            let object: ServiceEntry = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = object.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
