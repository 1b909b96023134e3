//! What is wrong with a VirtualService: its hosts and gateways, and its routes of TLS and TCP. `http` has the rest.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::http::{Role, http_route};
use super::{
    Destination, L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute, VirtualService,
    VirtualServiceSpec, reach,
};
use crate::check::{Checker, Problem, is_claim};
use crate::host;

/// What stands for all sidecars among gateways.
const MESH: &str = "mesh";

impl VirtualService {
    /// What is wrong with this object: its spec, by itself and in its namespace.
    pub fn check(&self) -> Vec<Problem> {
        self.spec.check_with(&self.metadata)
    }
}

impl VirtualServiceSpec {
    /// What is wrong with these routes.
    pub fn check(&self) -> Vec<Problem> {
        self.check_with(&ObjectMeta::default())
    }

    fn check_with(&self, metadata: &ObjectMeta) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        // Without hosts it is one that others delegate to.
        let role = if self.hosts.is_empty() { Role::Delegate } else { Role::Root };
        if role == Role::Delegate {
            for (name, set) in
                [("gateways", !self.gateways.is_empty()), ("tls", !self.tls.is_empty()), ("tcp", !self.tcp.is_empty())]
            {
                if set {
                    c.error(
                        name,
                        "needs hosts: a VirtualService without hosts is a delegate, which has HTTP routes only",
                    );
                }
            }
        }
        c.gateways(&self.gateways);
        self.check_hosts(&mut c);
        if self.http.is_empty() && self.tls.is_empty() && self.tcp.is_empty() {
            c.error("", "needs at least one route under http, tls or tcp");
        }
        c.each("http", &self.http, |c, route| {
            http_route(c, route, role);
            if !self.is_of_gateways() {
                claims(c, route);
            }
        });
        let hosts = host::Covered::by(if self.tls.is_empty() { &[] } else { &self.hosts });
        c.each("tls", &self.tls, |c, route| self.check_tls(c, route, &hosts));
        c.each("tcp", &self.tcp, tcp_route);
        c.export_to(&self.export_to, metadata.namespace.as_deref().unwrap_or_default(), false);
        reach::unreachable(&mut c, self);
        c.finish()
    }

    /// Whether only gateways have these routes.
    fn is_of_gateways(&self) -> bool {
        !self.gateways.is_empty() && !self.gateways.iter().any(|gateway| gateway == MESH)
    }

    fn check_hosts(&self, c: &mut Checker) {
        let of_server_names = self.tls.iter().flat_map(|route| &route.matches).any(|m| !m.sni_hosts.is_empty());
        for ((index, host), earlier) in self.hosts.iter().enumerate().zip(host::overlaps(&self.hosts)) {
            let name = format!("hosts[{index}]");
            if host == "*" && !self.is_of_gateways() {
                c.error(&name, "\"*\" needs gateways other than \"mesh\": for sidecars name the hosts");
                continue;
            }
            if !(self.is_of_gateways() && of_server_names && is_cluster_name(host)) {
                c.host_or_address(&name, host);
            }
            if let Some(earlier) = earlier.and_then(|earlier| self.hosts.get(earlier)) {
                let message = if earlier == host {
                    format!("\"{host}\" is listed twice")
                } else {
                    // One that is too long to be a host may stand in the message of every other.
                    let earlier: String = earlier.chars().take(255).collect();
                    format!("\"{host}\" and \"{earlier}\" cover the same names: leave one of them out")
                };
                c.error(&name, message);
            }
        }
    }

    fn check_tls(&self, c: &mut Checker, route: &TlsRoute, hosts: &host::Covered<'_>) {
        if route.matches.is_empty() {
            c.error("match", "needs at least one entry with sniHosts");
        }
        c.each("match", &route.matches, |c, m: &TlsMatchAttributes| {
            if m.sni_hosts.is_empty() {
                c.error("sniHosts", "must name at least one host");
            }
            for (index, server_name) in m.sni_hosts.iter().enumerate() {
                self.check_server_name(c, &format!("sniHosts[{index}]"), server_name, hosts);
            }
            connection_match(c, &m.destination_subnets, m.port, &m.gateways);
            c.labels("sourceLabels", &m.source_labels);
        });
        weighted(c, &route.route);
    }

    fn check_server_name(&self, c: &mut Checker, field: &str, server_name: &str, hosts: &host::Covered<'_>) {
        if server_name.parse::<IpAddr>().is_ok() {
            // RFC 6066, section 3.
            return c.warn(field, format!("\"{server_name}\" is an address, which few clients send as a server name"));
        }
        if !(self.is_of_gateways() && is_cluster_name(server_name)) {
            c.host(field, server_name);
        }
        if !hosts.has(server_name) {
            c.error(field, format!("\"{server_name}\" is none of spec.hosts, nor covered by one: add it there"));
        }
    }
}

/// The server name of connections between gateways: `outbound_.80_._.reviews.default.svc.cluster.local`.
fn is_cluster_name(host: &str) -> bool {
    host.strip_prefix("outbound_.").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Claims of a token are known where the token was verified.
fn claims(c: &mut Checker, route: &super::HttpRoute) {
    c.each("match", &route.matches, |c, m| {
        for (field, headers) in [("headers", &m.headers), ("withoutHeaders", &m.without_headers)] {
            for name in headers.keys().filter(|name| is_claim(name)) {
                c.key(field, name, |c| {
                    c.error("", "is a token's claim, by which only gateways route: set spec.gateways");
                });
            }
        }
    });
}

fn tcp_route(c: &mut Checker, route: &TcpRoute) {
    c.each("match", &route.matches, |c, m: &L4MatchAttributes| {
        connection_match(c, &m.destination_subnets, m.port, &m.gateways);
        if !m.source_subnet.is_empty() {
            c.subnet("sourceSubnet", &m.source_subnet);
        }
        c.labels("sourceLabels", &m.source_labels);
    });
    weighted(c, &route.route);
}

fn connection_match(c: &mut Checker, subnets: &[String], port: u32, gateways: &[String]) {
    for (index, subnet) in subnets.iter().enumerate() {
        c.subnet(&format!("destinationSubnets[{index}]"), subnet);
    }
    if port != 0 {
        c.port("port", port);
    }
    c.gateways(gateways);
}

fn weighted(c: &mut Checker, route: &[RouteDestination]) {
    if route.is_empty() {
        c.error("route", "needs at least one destination");
    }
    c.each("route", route, |c, to| {
        c.field("destination", |c| destination(c, &to.destination));
        c.not_negative("weight", to.weight);
    });
    total_weight(c, route.iter().map(|to| to.weight));
}

/// The weights of one route's destinations.
pub(super) fn total_weight(c: &mut Checker, weights: impl ExactSizeIterator<Item = i32>) {
    let count = weights.len();
    let total: i64 = weights.map(i64::from).sum();
    if count > 1 && total == 0 {
        c.error("route", "the weights of its destinations add up to 0: give them weights that add up to 100");
    }
    // Envoy's limit.
    if total > i64::from(u32::MAX) {
        c.error("route", "the weights of its destinations add up to more than 4294967295");
    }
}

/// A destination of a route, or of a Sidecar.
pub(in crate::networking) fn destination(c: &mut Checker, destination: &Destination) {
    match destination.host.as_str() {
        "" => c.error("host", "must be set"),
        "*" => c.error("host", "\"*\" is not a service"),
        host => c.host("host", host),
    }
    if !destination.subset.is_empty() {
        c.dns_label("subset", &destination.subset, "subset");
    }
    if let Some(port) = &destination.port {
        c.port("port.number", port.number);
    }
}

#[cfg(test)]
mod tests {
    use super::{VirtualService, VirtualServiceSpec};

    fn problems(yaml: &str) -> Vec<String> {
        let spec: VirtualServiceSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
        spec.check().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("a plain route", "{hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}", &[]),
            ("no route at all", "{hosts: [reviews]}", &["spec: needs at least one route under http, tls or tcp"]),
            (
                "a delegate that is more than that",
                "{gateways: [a], tcp: [{route: [{destination: {host: a}}]}]}",
                &[
                    "spec.gateways: needs hosts: a VirtualService without hosts is a delegate, which has HTTP routes only",
                    "spec.tcp: needs hosts: a VirtualService without hosts is a delegate, which has HTTP routes only",
                ],
            ),
            (
                "gateways",
                "{hosts: [a], gateways: [mesh, b, c/d, e.f, '*/g'], http: [{route: [{destination: {host: a}}]}]}",
                &[
                    "spec.gateways[3]: \"e.f\" is the old form of a gateway's name: write \"f/e\"",
                    "spec.gateways[4]: \"*\" is not the name of a namespace: it must be 1 to 63 letters, digits and dashes, with no dash at its ends",
                ],
            ),
            (
                "every host, in sidecars",
                "{hosts: ['*'], gateways: [a, mesh], http: [{route: [{destination: {host: a}}]}]}",
                &["spec.hosts[0]: \"*\" needs gateways other than \"mesh\": for sidecars name the hosts"],
            ),
            (
                "hosts that cover each other",
                "{hosts: [a, a, '*.b.com', c.b.com, 10.0.0.1], http: [{route: [{destination: {host: a}}]}]}",
                &[
                    "spec.hosts[1]: \"a\" is listed twice",
                    "spec.hosts[3]: \"c.b.com\" and \"*.b.com\" cover the same names: leave one of them out",
                ],
            ),
            (
                "weights of nothing",
                "{hosts: [a], tcp: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}",
                &[
                    "spec.tcp[0].route: the weights of its destinations add up to 0: give them weights that add up to 100",
                ],
            ),
            (
                "a destination that is none",
                "{hosts: [a], tcp: [{route: [{destination: {host: 'ns/a', subset: v.1, port: {number: 70000}}, weight: -1}]}]}",
                &[
                    "spec.tcp[0].route[0].destination.host: \"ns/a\" is not a host: each part of it must be 1 to 63 letters, digits and dashes, with no dash at its ends",
                    "spec.tcp[0].route[0].destination.subset: \"v.1\" is not the name of a subset: it must be 1 to 63 letters, digits and dashes, with no dash at its ends",
                    "spec.tcp[0].route[0].destination.port.number: 70000 is not a port: it must be between 1 and 65535",
                    "spec.tcp[0].route[0].weight: -1 is negative: it must be 0 or more",
                ],
            ),
            (
                "a match of connections",
                "{hosts: [a], tcp: [{match: [{destinationSubnets: [10.0.0.0/40], sourceSubnet: x, port: 70000, sourceLabels: {'a b': c}}], route: [{destination: {host: a}}]}]}",
                &[
                    "spec.tcp[0].match[0].destinationSubnets[0]: \"10.0.0.0/40\" is not an address or a CIDR block",
                    "spec.tcp[0].match[0].port: 70000 is not a port: it must be between 1 and 65535",
                    "spec.tcp[0].match[0].sourceSubnet: \"x\" is not an address or a CIDR block",
                    "spec.tcp[0].match[0].sourceLabels: \"a b\" is not the key of a label: it must be like \"app\" or \"example.com/app\"",
                ],
            ),
            (
                "server names",
                "{hosts: ['*.a.com'], tls: [{match: [{sniHosts: [b.a.com, c.com, 10.0.0.1]}], route: [{destination: {host: a}}]}, {}]}",
                &[
                    "spec.tls[0].match[0].sniHosts[1]: \"c.com\" is none of spec.hosts, nor covered by one: add it there",
                    "spec.tls[0].match[0].sniHosts[2]: \"10.0.0.1\" is an address, which few clients send as a server name",
                    "spec.tls[1].match: needs at least one entry with sniHosts",
                    "spec.tls[1].route: needs at least one destination",
                ],
            ),
            (
                "a server name between gateways",
                "{hosts: [outbound_.80_._.a.b.svc.cluster.local], gateways: [c/d], tls: [{match: [{sniHosts: [outbound_.80_._.a.b.svc.cluster.local]}], route: [{destination: {host: a}}]}]}",
                &[],
            ),
            (
                "a claim in sidecars",
                "{hosts: [a], http: [{match: [{headers: {'@request.auth.claims.sub': {exact: b}}}], route: [{destination: {host: a}}]}]}",
                &[
                    "spec.http[0].match[0].headers[@request.auth.claims.sub]: is a token's claim, by which only gateways route: set spec.gateways",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            assert_eq!(problems(yaml), *expected, "{name}");
        }
    }

    #[test]
    fn its_own_namespace_may_be_listed_once() {
        let yaml = "{metadata: {name: x, namespace: own}, spec: {hosts: [a], exportTo: [., own], http: [{route: [{destination: {host: a}}]}]}}";
        let object: VirtualService = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
        let found: Vec<_> = object.check().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["spec.exportTo[1]: \"own\" names a namespace that is listed already"]);
    }
}
