//! What a rule is, and its text as `nft` prints it.

use std::fmt;

use ipnet::IpNet;

use super::options::Group;

/// Everything that one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Ruleset {
    pub(crate) tables: Vec<Table>,
    pub(crate) routing: Option<Routing>,
}

/// Policy routing: what carries the mark stays on this machine, whatever its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Routing {
    pub(crate) mark: u32,
    pub(crate) table: u32,
    pub(crate) ipv6: bool,
}

/// A table of family `inet`, ours alone: what was in it before goes.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) chains: Vec<Chain>,
}

/// A chain; a base chain is where the kernel enters.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// Where and how early the kernel enters a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) kind: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting,
    Output,
}

/// A rule: its expressions in order. The first that does not match ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule(pub(crate) Vec<Expression>);

/// One condition or action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    InInterface(String),
    OutInterface(String),
    Tcp,
    TcpDestination(u16),
    /// None of these ports.
    TcpDestinationNot(Vec<u16>),
    UdpDestination(u16),
    UdpSource(u16),
    Source(IpNet),
    Destination(IpNet),
    DestinationNot(IpNet),
    User(u32),
    UserNot(u32),
    Group(Group),
    GroupNot(Group),
    Mark(u32),
    MarkNot(u32),
    ConntrackInvalid,
    ConntrackEstablished,
    ConntrackMark(u32),
    Counter,
    Accept,
    Return,
    Drop,
    Jump(&'static str),
    RedirectTo(u16),
    /// To a socket that listens on this port for any address; goes on with the next expression if there is one.
    TproxyTo(Version, u16),
    SetMark(u32),
    /// The packet's mark becomes its connection's.
    SaveMark,
    /// The connection's mark becomes the packet's.
    RestoreMark,
    SetConntrackZone(u16),
}

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            writeln!(f, "add table inet {0}\nflush table inet {0}", table.name)?;
            for chain in &table.chains {
                write!(f, "add chain inet {} {}", table.name, chain.name)?;
                match chain.base {
                    Some(Base { kind, hook, priority }) => {
                        writeln!(f, " {{ type {kind} hook {} priority {priority} ; }}", hook.name())?;
                    }
                    None => writeln!(f)?,
                }
            }
            for chain in &table.chains {
                for rule in &chain.rules {
                    writeln!(f, "add rule inet {} {} {rule}", table.name, chain.name)?;
                }
            }
        }
        if let Some(routing) = &self.routing {
            for command in routing.commands() {
                writeln!(f, "{command}")?;
            }
        }
        Ok(())
    }
}

impl Routing {
    /// What `ip` would be told, one line for each thing that is set up.
    pub(crate) fn commands(&self) -> Vec<String> {
        let Self { mark, table, ipv6 } = self;
        let families = if *ipv6 { &["ip", "ip -6"][..] } else { &["ip"] };
        let both = |ip: &&str| {
            [
                format!("{ip} rule add fwmark {mark} lookup {table}"),
                format!("{ip} route add local default dev lo table {table}"),
            ]
        };
        families.iter().flat_map(both).collect()
    }
}

impl Hook {
    fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Output => "output",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, expression) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{expression}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = |net: &IpNet| if net.addr().is_ipv4() { "ip" } else { "ip6" };
        match self {
            Self::InInterface(name) => write!(f, "iifname {name}"),
            Self::OutInterface(name) => write!(f, "oifname {name}"),
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::TcpDestination(port) => write!(f, "tcp dport {port}"),
            Self::TcpDestinationNot(ports) => match ports.as_slice() {
                [port] => write!(f, "tcp dport != {port}"),
                ports => {
                    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                    write!(f, "tcp dport != {{ {} }}", ports.join(", "))
                }
            },
            Self::UdpDestination(port) => write!(f, "udp dport {port}"),
            Self::UdpSource(port) => write!(f, "udp sport {port}"),
            Self::Source(net) => write!(f, "{} saddr {net}", family(net)),
            Self::Destination(net) => write!(f, "{} daddr {net}", family(net)),
            Self::DestinationNot(net) => write!(f, "{} daddr != {net}", family(net)),
            Self::User(id) => write!(f, "skuid {id}"),
            Self::UserNot(id) => write!(f, "skuid != {id}"),
            Self::Group(group) => write!(f, "skgid {group}"),
            Self::GroupNot(group) => write!(f, "skgid != {group}"),
            Self::Mark(mark) => write!(f, "mark {mark}"),
            Self::MarkNot(mark) => write!(f, "mark != {mark}"),
            Self::ConntrackInvalid => f.write_str("ct state invalid"),
            Self::ConntrackEstablished => f.write_str("ct state related,established"),
            Self::ConntrackMark(mark) => write!(f, "ct mark {mark}"),
            Self::Counter => f.write_str("counter"),
            Self::Accept => f.write_str("accept"),
            Self::Return => f.write_str("return"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::RedirectTo(port) => write!(f, "redirect to :{port}"),
            Self::TproxyTo(Version::V4, port) => write!(f, "tproxy ip to :{port}"),
            Self::TproxyTo(Version::V6, port) => write!(f, "tproxy ip6 to :{port}"),
            Self::SetMark(mark) => write!(f, "meta mark set {mark}"),
            Self::SaveMark => f.write_str("ct mark set mark"),
            Self::RestoreMark => f.write_str("meta mark set ct mark"),
            Self::SetConntrackZone(zone) => write!(f, "ct zone set {zone}"),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}
