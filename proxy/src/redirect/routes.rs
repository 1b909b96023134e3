//! Policy routing: a rule and a route for each version of IP, over rtnetlink (`linux/fib_rules.h`, `linux/rtnetlink.h`).
//!
//! What carries the mark is looked up in a table whose one route says that every destination is this machine. So the
//! application's answers, which are addressed to the client, come to the proxy's socket that has the client's address.

use super::Error;
use super::netlink::{CREATE, EXCLUSIVE, Message, REPLACE, request};
use super::rule::Routing;

const NEW_ROUTE: u16 = 24;
const NEW_RULE: u16 = 32;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A table whose number does not fit into a header's byte: the attribute has it.
const TABLE_ELSEWHERE: u8 = 252;
const LOOK_UP_TABLE: u8 = 1;
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_HOST: u8 = 254;
const LOCAL: u8 = 2;

/// Just before the main table, where `ip` puts the first rule. Without a number the kernel takes a new one each time, and has
/// the same rule twice.
const PRIORITY: u32 = 32_765;

// Attributes of rules and routes.
const RULE_PRIORITY: u16 = 6;
const RULE_MARK: u16 = 10;
const RULE_TABLE: u16 = 15;
const RULE_MASK: u16 = 16;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_TABLE: u16 = 15;

/// `lo` is a network namespace's first interface (`LOOPBACK_IFINDEX`).
const LOOPBACK_INDEX: u32 = 1;

/// Sets it up in the current network namespace; what is there already stays as it is.
pub(crate) fn apply(routing: &Routing) -> Result<(), Error> {
    messages(routing).iter().try_for_each(request)
}

/// One message for each of [`Routing::commands`].
fn messages(routing: &Routing) -> Vec<Message> {
    let families = if routing.ipv6 { &[AF_INET, AF_INET6][..] } else { &[AF_INET] };
    let both = |family: &u8| [rule(NEW_RULE, CREATE | EXCLUSIVE, *family, routing), route(*family, routing)];
    let described = |(mut message, command): (Message, String)| {
        message.describe(command);
        message
    };
    families.iter().flat_map(both).zip(routing.commands()).map(described).collect()
}

fn rule(kind: u16, flags: u16, family: u8, routing: &Routing) -> Message {
    // struct fib_rule_hdr: family, lengths of destination and source, TOS, table, two reserved, action, flags
    let header = [family, 0, 0, 0, TABLE_ELSEWHERE, 0, 0, LOOK_UP_TABLE, 0, 0, 0, 0];
    let mut message = Message::routing(kind, flags, &header);
    message.ne32(RULE_PRIORITY, PRIORITY);
    message.ne32(RULE_MARK, routing.mark);
    message.ne32(RULE_MASK, u32::MAX);
    message.ne32(RULE_TABLE, routing.table);
    message
}

fn route(family: u8, routing: &Routing) -> Message {
    // struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags
    let header = [family, 0, 0, 0, TABLE_ELSEWHERE, PROTOCOL_BOOT, SCOPE_HOST, LOCAL, 0, 0, 0, 0];
    let mut message = Message::routing(NEW_ROUTE, CREATE | REPLACE, &header);
    message.ne32(ROUTE_TABLE, routing.table);
    message.ne32(ROUTE_INTERFACE, LOOPBACK_INDEX);
    message
}

#[cfg(test)]
pub(super) mod tests {
    use super::{AF_INET, AF_INET6, apply, rule};
    use crate::redirect::netlink::{Message, request};
    use crate::redirect::rule::Routing;

    /// Brings `lo` up, as the runtime does in a pod: there is no route through an interface that is down.
    pub(crate) fn up() {
        const NEW_LINK: u16 = 16;
        const UP: u32 = 1;
        // struct ifinfomsg: family, padding, type, index, flags, which of the flags
        let mut header = vec![0u8; 4];
        for word in [1, UP, UP] {
            header.extend_from_slice(&u32::to_ne_bytes(word));
        }
        request(&Message::routing(NEW_LINK, 0, &header)).expect("lo is up");
    }

    #[test]
    fn a_second_time_changes_nothing() {
        const DELETE_RULE: u16 = 33;
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: a network namespace of its own takes root");
            return;
        }
        // unshare concerns the calling thread alone, so the namespace goes when the thread does.
        let inside = || {
            if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
                eprintln!("SKIPPED: no network namespace: {error}");
                return;
            }
            up();
            let routing = Routing { mark: 1337, table: 1000, ipv6: true };
            for _again in 0..3 {
                apply(&routing).expect("set up");
            }
            for family in [AF_INET, AF_INET6] {
                request(&rule(DELETE_RULE, 0, family, &routing)).expect("there is the rule");
                request(&rule(DELETE_RULE, 0, family, &routing)).expect_err("there is one only");
            }
        };
        std::thread::spawn(inside).join().expect("no panic");
    }
}
