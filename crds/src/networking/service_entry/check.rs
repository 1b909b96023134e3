//! What is wrong with a ServiceEntry.

use std::net::IpAddr;

use super::{Resolution, ServiceEntrySpec, WorkloadEntrySpec};
use crate::check::{Checker, Problem};

impl ServiceEntrySpec {
    /// What is wrong with this entry.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        if self.hosts.is_empty() {
            c.error("hosts", "must name at least one host");
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let name = format!("hosts[{index}]");
            if host == "*" {
                c.error(&name, "\"*\" is not a service: name a domain, such as \"*.example.com\"");
            } else {
                c.host(&name, host);
            }
        }
        let takes_blocks = matches!(self.resolution, Resolution::None | Resolution::Static);
        for (index, address) in self.addresses.iter().enumerate() {
            let name = format!("addresses[{index}]");
            if address.parse::<ipnet::IpNet>().is_err() && address.parse::<IpAddr>().is_err() {
                c.error(&name, format!("\"{address}\" is not an address or a CIDR block"));
            } else if address.contains('/') && !takes_blocks {
                c.error(&name, "a CIDR block needs resolution NONE or STATIC");
            }
        }
        for (index, port) in self.ports.iter().enumerate() {
            let name = format!("ports[{index}]");
            c.required(&format!("{name}.name"), &port.name);
            c.port(&format!("{name}.number"), port.number);
            if port.target_port != 0 {
                c.port(&format!("{name}.targetPort"), port.target_port);
            }
            let earlier = || self.ports.iter().take(index);
            if earlier().any(|other| other.number == port.number) {
                c.error(&format!("{name}.number"), format!("{} is listed twice", port.number));
            }
            if !port.name.is_empty() && earlier().any(|other| other.name == port.name) {
                c.error(&format!("{name}.name"), format!("\"{}\" is listed twice", port.name));
            }
        }
        if self.workload_selector.is_some() && !self.endpoints.is_empty() {
            c.error("", "has workloadSelector and endpoints, of which only one can be");
        }
        self.check_resolution(&mut c);
        c.each("endpoints", &self.endpoints, |c, endpoint| endpoint_rules(c, endpoint, self.resolution));
        c.finish()
    }

    fn check_resolution(&self, c: &mut Checker) {
        let wildcard = self.hosts.iter().any(|host| host.starts_with('*'));
        match self.resolution {
            Resolution::None if !self.endpoints.is_empty() => {
                c.error(
                    "endpoints",
                    "resolution NONE takes no endpoints: callers connect to the address they looked up",
                );
            }
            Resolution::Static if self.endpoints.is_empty() && self.workload_selector.is_none() => {
                c.warn("endpoints", "resolution STATIC without endpoints or workloadSelector: nothing can answer");
            }
            Resolution::Dns | Resolution::DnsRoundRobin if wildcard && self.endpoints.is_empty() => {
                c.error(
                    "hosts",
                    "a wildcard cannot be looked up: list endpoints, or use resolution NONE or DYNAMIC_DNS",
                );
            }
            Resolution::DnsRoundRobin if self.endpoints.len() > 1 => {
                c.error("endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint");
            }
            _ => {}
        }
    }
}

fn endpoint_rules(c: &mut Checker, endpoint: &WorkloadEntrySpec, resolution: Resolution) {
    if endpoint.address.is_empty() && endpoint.network.is_empty() {
        c.error("address", "must be set");
    }
    if endpoint.address.starts_with("unix://") {
        if !endpoint.ports.is_empty() {
            c.error("ports", "a unix socket has none");
        }
    } else if resolution == Resolution::Static
        && !endpoint.address.is_empty()
        && endpoint.address.parse::<IpAddr>().is_err()
    {
        c.error("address", format!("\"{}\" is not an address: a name needs resolution DNS", endpoint.address));
    }
    for (name, port) in &endpoint.ports {
        c.key("ports", name, |c| c.port("", *port));
    }
}

#[cfg(test)]
mod tests {
    use super::ServiceEntrySpec;

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
                "{hosts: [a.com], ports: [{number: 80, name: a}, {number: 80, name: b}]}",
                &["spec.ports[1].number: 80 is listed twice"],
            ),
            (
                "a wildcard to look up",
                "{hosts: ['*.a.com'], resolution: DNS}",
                &["spec.hosts: a wildcard cannot be looked up: list endpoints, or use resolution NONE or DYNAMIC_DNS"],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: ServiceEntrySpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
