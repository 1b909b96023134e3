//! What a rule is, and its text as `nft` prints it.

use std::fmt;

use ipnet::IpNet;

use super::options::Group;

/// Everything that one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Ruleset {
    pub(crate) tables: Vec<Table>,
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
    ConntrackInvalid,
    Counter,
    Return,
    Drop,
    Jump(&'static str),
    RedirectTo(u16),
    SetConntrackZone(u16),
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
        Ok(())
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
            Self::ConntrackInvalid => f.write_str("ct state invalid"),
            Self::Counter => f.write_str("counter"),
            Self::Return => f.write_str("return"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::RedirectTo(port) => write!(f, "redirect to :{port}"),
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
