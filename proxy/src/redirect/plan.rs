//! Settings into rules. The order within a chain is Istio's (`tools/istio-nftables`), because users reason by it:
//! excluded interfaces, excluded ports, the inbound passthrough source, loopback, the proxy itself, owner groups, DNS,
//! localhost, excluded ranges, included ports, included ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::options::{Include, Options, Transparent};
use super::rule::Expression::{
    Accept, ConntrackEstablished, ConntrackInvalid, ConntrackMark, Counter, Destination, DestinationNot, Drop, Group,
    GroupNot, InInterface, Jump, Mark, MarkNot, OutInterface, RedirectTo, RestoreMark, Return, SaveMark,
    SetConntrackZone, SetMark, Source, Tcp, TcpDestination, TcpDestinationNot, TproxyTo, UdpDestination, UdpSource,
    User, UserNot,
};
use super::rule::{Base, Chain, Expression, Hook, Routing, Rule, Ruleset, Table, Version};

const INBOUND: &str = "istio-inbound";
const REDIRECT: &str = "istio-redirect";
const IN_REDIRECT: &str = "istio-in-redirect";
const OUTPUT: &str = "istio-output";
const OUTPUT_DNS: &str = "istio-output-dns";
const DROP: &str = "istio-drop";
const DIVERT: &str = "istio-divert";
const TPROXY: &str = "istio-tproxy";

/// The mark of what the proxy sends to its own pod by its address, with TPROXY: it goes in by the inbound side.
pub(super) const MARK_OWN_CALLS: u32 = 1338;

const DNS_PORT: u16 = 53;
/// The conntrack zone of DNS between the proxy and its upstream resolver.
const ZONE_PROXY: u16 = 1;
/// The conntrack zone of DNS between the application and the proxy.
const ZONE_APPLICATION: u16 = 2;

/// The source address of connections that the proxy makes to its own application.
const INBOUND_PASSTHROUGH_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const INBOUND_PASSTHROUGH_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

const LOOPBACK: &str = "lo";

/// The rules that make the kernel do what the options say.
pub(crate) fn plan(options: &Options) -> Ruleset {
    let mut tables = vec![nat(options)];
    if options.drop_invalid || options.transparent.is_some() {
        tables.push(mangle(options));
    }
    if options.captures_dns() {
        tables.push(raw(options));
    }
    let captured = options.transparent.filter(|_| !options.inbound_ports.is_none());
    let routing = captured.map(|Transparent { mark, table }| Routing { mark, table, ipv6: options.ipv6 });
    Ruleset { tables, routing }
}

macro_rules! rule {
    ($($expression:expr),+ $(,)?) => { Rule(vec![$($expression),+]) };
}

fn nat(options: &Options) -> Table {
    let nat = |hook| Some(Base { kind: "nat", hook, priority: -100 });
    let mut chains = vec![
        Chain { name: "prerouting", base: nat(Hook::Prerouting), rules: prerouting(options) },
        Chain { name: "output", base: nat(Hook::Output), rules: output(options) },
        Chain { name: INBOUND, base: None, rules: inbound(options) },
        Chain { name: REDIRECT, base: None, rules: vec![rule![Tcp, Counter, RedirectTo(options.outbound_port)]] },
        Chain { name: IN_REDIRECT, base: None, rules: vec![rule![Tcp, Counter, RedirectTo(options.inbound_port)]] },
        Chain { name: OUTPUT, base: None, rules: outbound(options) },
        Chain { name: OUTPUT_DNS, base: None, rules: dns(options) },
    ];
    // A base chain without rules would only cost a look per packet; the chains that others jump to stay.
    chains.retain(|chain| !chain.rules.is_empty() || ![OUTPUT_DNS, "prerouting"].contains(&chain.name));
    Table { name: "istio-proxy-nat", chains }
}

fn prerouting(options: &Options) -> Vec<Rule> {
    let mut rules = Vec::new();
    // What a virtual machine sends through its interface is outbound traffic of the pod, although it comes in: it is
    // looked at before anything else, the interface named last first.
    for interface in options.reroute_interfaces.iter().rev() {
        match &options.outbound_ranges {
            Include::All => rules.push(rule![InInterface(interface.clone()), Counter, Jump(REDIRECT)]),
            Include::Only(ranges) => {
                for range in ranges.iter().filter(|range| usable(options, range)) {
                    let destination = Destination(*range);
                    rules.push(rule![InInterface(interface.clone()), destination, Counter, Jump(REDIRECT)]);
                }
            }
        }
    }
    for interface in options.reroute_interfaces.iter().rev() {
        rules.push(rule![InInterface(interface.clone()), Counter, Return]);
    }
    for interface in &options.exclude_interfaces {
        rules.push(rule![InInterface(interface.clone()), Counter, Return]);
    }
    if options.transparent.is_none() && !options.inbound_ports.is_none() {
        rules.push(rule![Tcp, Counter, Jump(INBOUND)]);
    }
    rules
}

fn output(options: &Options) -> Vec<Rule> {
    let excluded = options.exclude_interfaces.iter();
    let mut rules: Vec<_> = excluded.map(|interface| rule![OutInterface(interface.clone()), Counter, Return]).collect();
    rules.push(rule![Counter, Jump(OUTPUT)]);
    rules
}

fn inbound(options: &Options) -> Vec<Rule> {
    let mut rules = vec![rule![Tcp, TcpDestination(options.tunnel_port), Counter, Return]];
    if options.transparent.is_some() {
        return rules; // table mangle is what captures then
    }
    match &options.inbound_ports {
        Include::All => {
            for port in &options.inbound_ports_exclude {
                rules.push(rule![Tcp, TcpDestination(*port), Counter, Return]);
            }
            rules.push(rule![Tcp, Counter, Jump(IN_REDIRECT)]);
        }
        Include::Only(ports) => {
            for port in ports {
                rules.push(rule![Tcp, TcpDestination(*port), Counter, Jump(IN_REDIRECT)]);
            }
        }
    }
    rules
}

fn outbound(options: &Options) -> Vec<Rule> {
    let mut rules = Vec::new();
    for port in &options.outbound_ports_exclude {
        rules.push(rule![TcpDestination(*port), Counter, Return]);
        rules.push(rule![UdpDestination(*port), Counter, Return]);
    }
    for source in passthrough_sources(options) {
        rules.push(rule![OutInterface(LOOPBACK.into()), Source(source), Counter, Return]);
    }
    for uid in &options.uids {
        // The proxy's own DNS queries to a resolver on loopback are not calls of the application to itself.
        rules.extend(proxy_itself(options, options.captures_dns(), User(*uid), UserNot(*uid)));
    }
    for gid in &options.gids {
        rules.extend(proxy_itself(options, false, Group(gid.clone()), GroupNot(gid.clone())));
    }
    for group in &options.owner_groups_exclude {
        rules.push(rule![Group(group.clone()), Counter, Return]);
    }
    if let Include::Only(groups) = &options.owner_groups {
        let mut expressions: Vec<Expression> = groups.iter().cloned().map(GroupNot).collect();
        if !expressions.is_empty() {
            expressions.extend([Counter, Return]);
            rules.push(Rule(expressions));
        }
    }
    if options.captures_dns() {
        rules.push(rule![Counter, Jump(OUTPUT_DNS)]);
    }
    for loopback in loopbacks(options) {
        rules.push(rule![Destination(loopback), Counter, Return]);
    }
    for range in options.outbound_ranges_exclude.iter().filter(|range| usable(options, range)) {
        rules.push(rule![Destination(*range), Counter, Return]);
    }
    for port in &options.outbound_ports {
        rules.push(rule![TcpDestination(*port), Counter, Jump(REDIRECT)]);
    }
    match &options.outbound_ranges {
        Include::All => rules.push(rule![Counter, Jump(REDIRECT)]),
        Include::Only(ranges) => {
            for range in ranges.iter().filter(|range| usable(options, range)) {
                rules.push(rule![Destination(*range), Counter, Jump(REDIRECT)]);
            }
        }
    }
    rules
}

/// How traffic of one of the proxy's users or groups is told from the application's.
fn proxy_itself(options: &Options, without_dns: bool, is: Expression, is_not: Expression) -> Vec<Rule> {
    let lo = || OutInterface(LOOPBACK.into());
    let mut rules = Vec::new();
    // A call of the application to its own service leaves the proxy through lo: it goes in by the inbound side, so
    // that it is policed like any other.
    let ports = if without_dns { vec![DNS_PORT, options.tunnel_port] } else { vec![options.tunnel_port] };
    for loopback in loopbacks(options) {
        let destination = DestinationNot(loopback);
        let other_ports = TcpDestinationNot(ports.clone());
        rules.push(rule![lo(), Tcp, destination, other_ports, is.clone(), Counter, Jump(IN_REDIRECT)]);
    }
    // Loopback traffic of the application is its own business, unless the user asked for it.
    if !options.captures_loopback() {
        if options.captures_dns() {
            rules.push(rule![lo(), Tcp, TcpDestinationNot(vec![DNS_PORT]), is_not, Counter, Return]);
        } else {
            rules.push(rule![lo(), is_not, Counter, Return]);
        }
    }
    rules.push(rule![is, Counter, Return]);
    rules
}

fn dns(options: &Options) -> Vec<Rule> {
    let to_proxy = RedirectTo(names::ports::DNS);
    match &options.dns {
        Include::All => vec![
            rule![TcpDestination(DNS_PORT), Counter, to_proxy.clone()],
            rule![UdpDestination(DNS_PORT), Counter, to_proxy],
        ],
        Include::Only(servers) => servers
            .iter()
            .flat_map(|server| {
                let server = IpNet::from(*server);
                [
                    rule![Destination(server), TcpDestination(DNS_PORT), Counter, to_proxy.clone()],
                    rule![Destination(server), UdpDestination(DNS_PORT), Counter, to_proxy.clone()],
                ]
            })
            .collect(),
    }
}

/// Conntrack zones keep the proxy's own DNS queries apart from the application's: both look alike to conntrack once
/// the application's are redirected.
fn raw(options: &Options) -> Table {
    let filter = |hook| Some(Base { kind: "filter", hook, priority: -300 });
    let proxies = options.uids.iter().map(|id| User(*id)).chain(options.gids.iter().cloned().map(Group));
    let mut outgoing = Vec::new();
    for proxy in proxies {
        outgoing.push(rule![UdpDestination(DNS_PORT), proxy.clone(), Counter, SetConntrackZone(ZONE_PROXY)]);
        outgoing.push(rule![UdpSource(names::ports::DNS), proxy, Counter, SetConntrackZone(ZONE_APPLICATION)]);
    }
    let mut incoming = Vec::new();
    match &options.dns {
        Include::All => {
            outgoing.push(rule![UdpDestination(DNS_PORT), Counter, SetConntrackZone(ZONE_APPLICATION)]);
            incoming.push(rule![UdpSource(DNS_PORT), Counter, SetConntrackZone(ZONE_PROXY)]);
        }
        Include::Only(servers) => {
            for server in servers.iter().map(|server| IpNet::from(*server)) {
                let to = [UdpDestination(DNS_PORT), Destination(server), Counter, SetConntrackZone(ZONE_APPLICATION)];
                let from = [UdpSource(DNS_PORT), Source(server), Counter, SetConntrackZone(ZONE_PROXY)];
                outgoing.push(Rule(to.into()));
                incoming.push(Rule(from.into()));
            }
        }
    }
    Table {
        name: "istio-proxy-raw",
        chains: vec![
            Chain { name: "prerouting", base: filter(Hook::Prerouting), rules: vec![rule![Counter, Jump(INBOUND)]] },
            Chain { name: "output", base: filter(Hook::Output), rules: vec![rule![Counter, Jump(OUTPUT_DNS)]] },
            Chain { name: INBOUND, base: None, rules: incoming },
            Chain { name: OUTPUT_DNS, base: None, rules: outgoing },
        ],
    }
}

fn mangle(options: &Options) -> Table {
    let base = |kind, hook| Some(Base { kind, hook, priority: -150 });
    let mut entering = Vec::new();
    let mut chains = Vec::new();
    if options.transparent.is_some() {
        entering
            .extend(options.exclude_interfaces.iter().map(|name| rule![InInterface(name.clone()), Counter, Return]));
    }
    if options.drop_invalid {
        entering.push(rule![Tcp, ConntrackInvalid, Counter, Jump(DROP)]);
        chains.push(Chain { name: DROP, base: None, rules: vec![rule![Counter, Drop]] });
    }
    if let Some(Transparent { mark, .. }) = options.transparent {
        if !options.inbound_ports.is_none() {
            entering.push(rule![Tcp, Counter, Jump(INBOUND)]);
            let divert = vec![rule![Counter, SetMark(mark)], rule![Counter, Accept]];
            chains.push(Chain { name: DIVERT, base: None, rules: divert });
            chains.push(Chain { name: TPROXY, base: None, rules: to_listener(options, mark) });
        }
        // What the proxy sends on to the application carries the mark, and so, by its connection, does the answer.
        entering.push(rule![Tcp, Mark(mark), Counter, SaveMark]);
        chains.push(Chain { name: INBOUND, base: None, rules: transparent_inbound(options, mark) });
        let rules = transparent_output(options, mark);
        // A chain of type route: the kernel looks for the way again when the mark has changed.
        chains.push(Chain { name: "output", base: base("route", Hook::Output), rules });
    }
    chains.insert(0, Chain { name: "prerouting", base: base("filter", Hook::Prerouting), rules: entering });
    Table { name: "istio-proxy-mangle", chains }
}

/// New connections go to the proxy's listener with the addresses that they have.
fn to_listener(options: &Options, mark: u32) -> Vec<Rule> {
    let mut rules = Vec::new();
    for loopback in loopbacks(options) {
        let version = if loopback.addr().is_ipv4() { Version::V4 } else { Version::V6 };
        let to = TproxyTo(version, options.inbound_port);
        rules.push(rule![Tcp, DestinationNot(loopback), to, SetMark(mark), Counter, Accept]);
    }
    // Nobody listens: the proxy has not started yet, or is gone. The target of iptables drops such a packet; here it would go
    // on to the application, past every policy.
    for loopback in loopbacks(options) {
        rules.push(rule![Tcp, DestinationNot(loopback), Counter, Drop]);
    }
    rules
}

fn transparent_inbound(options: &Options, mark: u32) -> Vec<Rule> {
    let lo = || InInterface(LOOPBACK.into());
    // From the proxy to the application, or an answer to that: it is where it belongs.
    let mut rules = vec![rule![Tcp, Mark(mark), Counter, Return]];
    let mut sources: Vec<_> = passthrough_sources(options).collect();
    sources.reverse(); // Istio puts each before the one before it
    rules.extend(sources.into_iter().map(|source| rule![lo(), Tcp, Source(source), Counter, Return]));
    rules.insert(2, rule![lo(), Tcp, MarkNot(MARK_OWN_CALLS), Counter, Return]);
    match &options.inbound_ports {
        Include::All => {
            for port in &options.inbound_ports_exclude {
                rules.push(rule![Tcp, TcpDestination(*port), Counter, Return]);
            }
            rules.push(rule![Tcp, ConntrackEstablished, Counter, Jump(DIVERT)]);
            rules.push(rule![Tcp, Counter, Jump(TPROXY)]);
        }
        Include::Only(ports) => {
            for port in ports.iter().map(|port| TcpDestination(*port)) {
                rules.push(rule![Tcp, port.clone(), ConntrackEstablished, Counter, Jump(DIVERT)]);
                rules.push(rule![Tcp, port, Counter, Jump(TPROXY)]);
            }
        }
    }
    rules
}

fn transparent_output(options: &Options, mark: u32) -> Vec<Rule> {
    let lo = || OutInterface(LOOPBACK.into());
    let excluded = options.exclude_interfaces.iter();
    let mut rules: Vec<_> = excluded.map(|name| rule![OutInterface(name.clone()), Counter, Return]).collect();
    rules.push(rule![lo(), Tcp, Mark(mark), Counter, Return]);
    let proxies = options.uids.iter().map(|id| User(*id)).chain(options.gids.iter().cloned().map(Group));
    for proxy in proxies {
        for loopback in loopbacks(options) {
            let set = SetMark(MARK_OWN_CALLS);
            rules.push(rule![lo(), Tcp, DestinationNot(loopback), proxy.clone(), Counter, set]);
        }
    }
    rules.push(rule![Tcp, ConntrackMark(mark), Counter, RestoreMark]);
    rules
}

fn passthrough_sources(options: &Options) -> impl Iterator<Item = IpNet> {
    let v6 = options.ipv6.then(|| IpNet::from(IpAddr::from(INBOUND_PASSTHROUGH_V6)));
    std::iter::once(IpNet::from(IpAddr::from(INBOUND_PASSTHROUGH_V4))).chain(v6)
}

fn loopbacks(options: &Options) -> impl Iterator<Item = IpNet> {
    let v6 = options.ipv6.then(|| IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)));
    std::iter::once(options.loopback).chain(v6)
}

/// IPv6 ranges mean nothing to a pod without IPv6.
fn usable(options: &Options, range: &IpNet) -> bool {
    range.addr().is_ipv4() || options.ipv6
}
