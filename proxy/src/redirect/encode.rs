//! A rule into the kernel's expressions (`linux/netfilter/nf_tables.h`). `netlink-packet-netfilter` has no `redir`,
//! no `tproxy` and no `ct`, so the few expressions that we need are written here, each as `nft --debug=netlink` shows it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Error;
use super::netlink::{Message, Transaction};
use super::options::Group;
use super::rule::{Chain, Expression, Hook, Rule, Ruleset, Version};

/// `NFPROTO_INET`: one table for both families.
const INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

// Message types.
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;

// Attributes of tables, chains, rules and lists.
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// The register of verdicts, and the one that everything else passes through.
const REGISTER_VERDICT: u32 = 0;
const REGISTER: u32 = 1;

// `meta` keys.
const META_MARK: u32 = 3;
const META_INTERFACE_IN: u32 = 6;
const META_INTERFACE_OUT: u32 = 7;
const META_USER: u32 = 10;
const META_GROUP: u32 = 11;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;

// `payload` bases.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

// `ct` keys and states.
const CT_STATE: u32 = 0;
const CT_MARK: u32 = 3;
const CT_ZONE: u32 = 17;
const CT_STATE_INVALID: u32 = 1;
const CT_STATE_ESTABLISHED: u32 = 2;
const CT_STATE_RELATED: u32 = 4;

// Verdicts.
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_JUMP: i32 = -3;
const NFT_RETURN: i32 = -5;

/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const NAT_PORT_GIVEN: u32 = 2;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// One transaction that replaces our tables by those of the ruleset.
pub(crate) fn transaction(ruleset: &Ruleset) -> Result<Transaction, Error> {
    let mut transaction = Transaction::default();
    for table in &ruleset.tables {
        // Made, deleted and made again: the table exists afterwards and holds nothing from before, whether or not it
        // existed. The kernel commits all three at once, so no packet sees the gap.
        for kind in [NEW_TABLE, DELETE_TABLE, NEW_TABLE] {
            let mut message = Message::new(kind, INET, format!("table {}", table.name));
            message.string(TABLE_NAME, table.name);
            transaction.push(message);
        }
        for chain in &table.chains {
            transaction.push(new_chain(table.name, chain));
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                transaction.push(new_rule(table.name, chain.name, rule)?);
            }
        }
    }
    Ok(transaction)
}

fn new_chain(table: &str, chain: &Chain) -> Message {
    let mut message = Message::new(NEW_CHAIN, INET, format!("chain {table} {}", chain.name));
    message.string(CHAIN_TABLE, table);
    message.string(CHAIN_NAME, chain.name);
    if let Some(base) = chain.base {
        // NF_INET_PRE_ROUTING and NF_INET_LOCAL_OUT.
        let number = match base.hook {
            Hook::Prerouting => 0,
            Hook::Output => 3,
        };
        message.nested(CHAIN_HOOK, |message| {
            message.be32(HOOK_NUMBER, number);
            message.be32(HOOK_PRIORITY, base.priority.cast_unsigned());
        });
        message.be32(CHAIN_POLICY, NF_ACCEPT.cast_unsigned());
        message.string(CHAIN_TYPE, base.kind);
    }
    message
}

fn new_rule(table: &str, chain: &str, rule: &Rule) -> Result<Message, Error> {
    let mut message = Message::new(NEW_RULE, INET, format!("rule {table} {chain} {rule}"));
    message.string(RULE_TABLE, table);
    message.string(RULE_CHAIN, chain);
    let mut failed = None;
    message.nested(RULE_EXPRESSIONS, |message| {
        for expression in &rule.0 {
            if let Err(error) = write(message, expression) {
                failed = Some(error);
            }
        }
    });
    failed.map_or(Ok(message), Err)
}

fn write(message: &mut Message, expression: &Expression) -> Result<(), Error> {
    match expression {
        Expression::InInterface(name) => interface(message, META_INTERFACE_IN, name),
        Expression::OutInterface(name) => interface(message, META_INTERFACE_OUT, name),
        Expression::Tcp => meta_equals(message, META_PROTOCOL, EQUAL, &[TCP]),
        Expression::TcpDestination(port) => transport_port(message, TCP, 2, EQUAL, &[*port]),
        Expression::TcpDestinationNot(ports) => transport_port(message, TCP, 2, NOT_EQUAL, ports),
        Expression::UdpDestination(port) => transport_port(message, UDP, 2, EQUAL, &[*port]),
        Expression::UdpSource(port) => transport_port(message, UDP, 0, EQUAL, &[*port]),
        Expression::Source(net) => address(message, net, Side::Source, EQUAL),
        Expression::Destination(net) => address(message, net, Side::Destination, EQUAL),
        Expression::DestinationNot(net) => address(message, net, Side::Destination, NOT_EQUAL),
        Expression::User(id) => meta_equals(message, META_USER, EQUAL, &id.to_ne_bytes()),
        Expression::UserNot(id) => meta_equals(message, META_USER, NOT_EQUAL, &id.to_ne_bytes()),
        Expression::Group(group) => meta_equals(message, META_GROUP, EQUAL, &number(group)?.to_ne_bytes()),
        Expression::GroupNot(group) => meta_equals(message, META_GROUP, NOT_EQUAL, &number(group)?.to_ne_bytes()),
        Expression::Mark(mark) => meta_equals(message, META_MARK, EQUAL, &mark.to_ne_bytes()),
        Expression::MarkNot(mark) => meta_equals(message, META_MARK, NOT_EQUAL, &mark.to_ne_bytes()),
        Expression::ConntrackInvalid => conntrack_state(message, CT_STATE_INVALID),
        Expression::ConntrackEstablished => conntrack_state(message, CT_STATE_ESTABLISHED | CT_STATE_RELATED),
        Expression::ConntrackMark(mark) => {
            conntrack_load(message, CT_MARK);
            compare(message, EQUAL, &mark.to_ne_bytes());
        }
        Expression::Counter => element(message, "counter", |_| {}),
        Expression::Accept => verdict(message, NF_ACCEPT, None),
        Expression::Return => verdict(message, NFT_RETURN, None),
        Expression::Drop => verdict(message, NF_DROP, None),
        Expression::Jump(chain) => verdict(message, NFT_JUMP, Some(chain)),
        Expression::RedirectTo(port) => {
            immediate(message, &port.to_be_bytes());
            // NFTA_REDIR_REG_PROTO_MIN, NFTA_REDIR_FLAGS
            element(message, "redir", |message| {
                message.be32(1, REGISTER);
                message.be32(3, NAT_PORT_GIVEN);
            });
        }
        Expression::TproxyTo(version, port) => {
            let family = match version {
                Version::V4 => NFPROTO_IPV4,
                Version::V6 => NFPROTO_IPV6,
            };
            immediate(message, &port.to_be_bytes());
            // NFTA_TPROXY_FAMILY, NFTA_TPROXY_REG_PORT
            element(message, "tproxy", |message| {
                message.be32(1, u32::from(family));
                message.be32(3, REGISTER);
            });
        }
        Expression::SetMark(mark) => {
            immediate(message, &mark.to_ne_bytes());
            mark_store(message);
        }
        Expression::SaveMark => {
            meta_load(message, META_MARK);
            conntrack_store(message, CT_MARK);
        }
        Expression::RestoreMark => {
            conntrack_load(message, CT_MARK);
            mark_store(message);
        }
        Expression::SetConntrackZone(zone) => {
            immediate(message, &zone.to_ne_bytes());
            conntrack_store(message, CT_ZONE);
        }
    }
    Ok(())
}

/// A group's number; a name is looked up as `nft` does when it reads a rule.
fn number(group: &Group) -> Result<u32, Error> {
    let name = match group {
        Group::Id(id) => return Ok(*id),
        Group::Name(name) => name,
    };
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let line = groups.lines().find_map(|line| line.strip_prefix(name.as_str())?.strip_prefix(':'));
    line.and_then(|rest| rest.split(':').nth(1)).and_then(|id| id.parse().ok()).ok_or_else(|| Error::Argument {
        argument: "ISTIO_OUTBOUND_OWNER_GROUPS",
        problem: format!("group {name:?} is not in this image's /etc/group; give its number"),
    })
}

fn element(message: &mut Message, name: &str, data: impl FnOnce(&mut Message)) {
    message.nested(LIST_ELEMENT, |message| {
        message.string(EXPRESSION_NAME, name);
        message.nested(EXPRESSION_DATA, data);
    });
}

fn interface(message: &mut Message, key: u32, name: &str) {
    // The kernel compares all sixteen bytes of an interface's name.
    let mut bytes = [0u8; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    meta_equals(message, key, EQUAL, &bytes);
}

fn meta_equals(message: &mut Message, key: u32, operator: u32, value: &[u8]) {
    meta_load(message, key);
    compare(message, operator, value);
}

fn meta_load(message: &mut Message, key: u32) {
    // NFTA_META_DREG, NFTA_META_KEY
    element(message, "meta", |message| {
        message.be32(1, REGISTER);
        message.be32(2, key);
    });
}

fn mark_store(message: &mut Message) {
    // NFTA_META_KEY, NFTA_META_SREG
    element(message, "meta", |message| {
        message.be32(2, META_MARK);
        message.be32(3, REGISTER);
    });
}

fn transport_port(message: &mut Message, protocol: u8, offset: u32, operator: u32, ports: &[u16]) {
    meta_equals(message, META_PROTOCOL, EQUAL, &[protocol]);
    payload(message, TRANSPORT_HEADER, offset, 2);
    for port in ports {
        compare(message, operator, &port.to_be_bytes());
    }
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

fn address(message: &mut Message, net: &IpNet, side: Side, operator: u32) {
    let (family, offset, length) = match (net, side) {
        (IpNet::V4(_), Side::Source) => (NFPROTO_IPV4, 12, 4),
        (IpNet::V4(_), Side::Destination) => (NFPROTO_IPV4, 16, 4),
        (IpNet::V6(_), Side::Source) => (NFPROTO_IPV6, 8, 16),
        (IpNet::V6(_), Side::Destination) => (NFPROTO_IPV6, 24, 16),
    };
    meta_equals(message, META_FAMILY, EQUAL, &[family]);
    payload(message, NETWORK_HEADER, offset, length);
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    if net.prefix_len() < net.max_prefix_len() {
        bitwise(message, &octets(net.netmask()));
    }
    compare(message, operator, &octets(net.network()));
}

fn payload(message: &mut Message, base: u32, offset: u32, length: u32) {
    // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN
    element(message, "payload", |message| {
        message.be32(1, REGISTER);
        message.be32(2, base);
        message.be32(3, offset);
        message.be32(4, length);
    });
}

fn compare(message: &mut Message, operator: u32, value: &[u8]) {
    // NFTA_CMP_SREG, _OP, _DATA
    element(message, "cmp", |message| {
        message.be32(1, REGISTER);
        message.be32(2, operator);
        message.nested(3, |message| message.bytes(DATA_VALUE, value));
    });
}

fn bitwise(message: &mut Message, mask: &[u8]) {
    let length = u32::try_from(mask.len()).unwrap_or(16);
    let zero = vec![0; mask.len()];
    // NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR
    element(message, "bitwise", |message| {
        message.be32(1, REGISTER);
        message.be32(2, REGISTER);
        message.be32(3, length);
        message.nested(4, |message| message.bytes(DATA_VALUE, mask));
        message.nested(5, |message| message.bytes(DATA_VALUE, &zero));
    });
}

fn immediate(message: &mut Message, value: &[u8]) {
    // NFTA_IMMEDIATE_DREG, _DATA
    element(message, "immediate", |message| {
        message.be32(1, REGISTER);
        message.nested(2, |message| message.bytes(DATA_VALUE, value));
    });
}

fn verdict(message: &mut Message, code: i32, chain: Option<&str>) {
    element(message, "immediate", |message| {
        message.be32(1, REGISTER_VERDICT);
        message.nested(2, |message| {
            message.nested(DATA_VERDICT, |message| {
                message.be32(VERDICT_CODE, code.cast_unsigned());
                if let Some(chain) = chain {
                    message.string(VERDICT_CHAIN, chain);
                }
            });
        });
    });
}

fn conntrack_load(message: &mut Message, key: u32) {
    // NFTA_CT_DREG, NFTA_CT_KEY
    element(message, "ct", |message| {
        message.be32(1, REGISTER);
        message.be32(2, key);
    });
}

fn conntrack_store(message: &mut Message, key: u32) {
    // NFTA_CT_KEY, NFTA_CT_SREG
    element(message, "ct", |message| {
        message.be32(2, key);
        message.be32(4, REGISTER);
    });
}

/// Matches when the connection is in one of the states.
fn conntrack_state(message: &mut Message, states: u32) {
    conntrack_load(message, CT_STATE);
    bitwise(message, &states.to_ne_bytes());
    compare(message, NOT_EQUAL, &0u32.to_ne_bytes());
}
