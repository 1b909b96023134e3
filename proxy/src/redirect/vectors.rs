//! Istio's own cases of redirection (`iptables.json`): the same settings must give the same rules in the same order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::options::{Group, Include, Options, Transparent};
use super::{encode, netlink, plan, routes};

/// Cases that do not pass, each with its reason.
const KNOWN_FAILURES: &[(&str, &str)] = &[];

/// Rules that Istio has not, by their beginning, each with its reason.
const OURS: &[(&str, &str)] = &[(
    "add rule inet istio-proxy-mangle istio-tproxy meta l4proto tcp ip",
    "what no listener takes is dropped, as the target of iptables does it; it would go past the proxy",
)];

/// The rules of each `table chain`, in order.
type Rules = BTreeMap<String, Vec<String>>;

/// Name, settings, and the commands that Istio's own code gives.
type Case = (String, BTreeMap<String, Value>, String);

fn cases() -> Option<Vec<Case>> {
    let folder = std::env::var_os("FORESTAY_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"), PathBuf::from);
    let file = folder.join("iptables.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        eprintln!("SKIPPED: {} is not there; set FORESTAY_VECTORS", file.display());
        return None;
    };
    let document: Value = serde_json::from_str(&text).expect("iptables.json is JSON");
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let cases = document["cases"].as_array().expect("cases").iter().filter_map(|case| {
        let name = case["name"].as_str()?.to_owned();
        let mut config: BTreeMap<_, _> = object(&document["baseConfig"]).into_iter().collect();
        config.extend(object(&case["config"]));
        name.starts_with("nftables/").then(|| (name, config, case["golden"].as_str().unwrap_or_default().to_owned()))
    });
    Some(cases.collect())
}

fn options(config: &BTreeMap<String, Value>) -> Options {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    let on = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or_default();
    let items = |key| text(key).split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned);
    let ports = |key| items(key).map(|port| port.parse::<u16>().expect("port")).collect::<Vec<_>>();
    let ranges = |key| items(key).map(|range| range.parse().expect("range")).collect::<Vec<_>>();
    let group = |item: String| item.parse().map_or(Group::Name(item), Group::Id);
    let servers: Vec<IpAddr> = ["DNSServersV4", "DNSServersV6"]
        .iter()
        .filter_map(|key| config.get(*key)?.as_array())
        .flatten()
        .map(|server| server.as_str().expect("server").parse().expect("address"))
        .collect();
    Options {
        outbound_port: ports("ProxyPort")[0],
        inbound_port: ports("InboundCapturePort")[0],
        tunnel_port: ports("InboundTunnelPort")[0],
        uids: items("ProxyUID").map(|id| id.parse().expect("uid")).collect(),
        gids: items("ProxyGID").map(group).collect(),
        transparent: (text("InboundInterceptionMode") == "TPROXY").then(|| Transparent {
            mark: text("InboundTProxyMark").parse().expect("mark"),
            table: text("InboundTProxyRouteTable").parse().expect("table"),
        }),
        inbound_ports: match text("InboundPortsInclude") {
            "*" => Include::All,
            _ => Include::Only(ports("InboundPortsInclude")),
        },
        inbound_ports_exclude: ports("InboundPortsExclude"),
        outbound_ports: ports("OutboundPortsInclude"),
        outbound_ports_exclude: ports("OutboundPortsExclude"),
        outbound_ranges: match text("OutboundIPRangesInclude") {
            "*" => Include::All,
            _ => Include::Only(ranges("OutboundIPRangesInclude")),
        },
        outbound_ranges_exclude: ranges("OutboundIPRangesExclude"),
        reroute_interfaces: items("RerouteVirtualInterfaces").collect(),
        exclude_interfaces: items("ExcludeInterfaces").collect(),
        owner_groups: match text("OwnerGroupsInclude") {
            "*" => Include::All,
            _ => Include::Only(items("OwnerGroupsInclude").map(group).collect()),
        },
        owner_groups_exclude: items("OwnerGroupsExclude").map(group).collect(),
        dns: if on("CaptureAllDNS") {
            Include::All
        } else if on("RedirectDNS") {
            Include::Only(servers)
        } else {
            Include::Only(Vec::new())
        },
        drop_invalid: on("DropInvalid"),
        ipv6: on("EnableIPv6"),
        loopback: text("HostIPv4LoopbackCidr").parse().expect("loopback"),
    }
}

/// What a list of `nft` commands leaves behind; `insert ... index N` goes before the rule now at N.
fn apply(commands: &str) -> Rules {
    let mut rules = Rules::new();
    for line in commands.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["add", "rule", "inet", table, chain, rest @ ..] => {
                rules.entry(format!("{table} {chain}")).or_default().push(rest.join(" "));
            }
            ["insert", "rule", "inet", table, chain, "index", index, rest @ ..] => {
                let index: usize = index.parse().expect("index");
                rules.entry(format!("{table} {chain}")).or_default().insert(index, rest.join(" "));
            }
            _ => {}
        }
    }
    // Where the owner stands in a rule changes nothing about it.
    for rule in rules.values_mut().flatten() {
        *rule = rule.replace("meta skuid", "skuid").replace("meta skgid", "skgid");
    }
    rules
}

fn is_ours(line: &str) -> bool {
    OURS.iter().any(|(beginning, _)| line.starts_with(beginning) && line.ends_with("counter drop"))
}

#[test]
fn redirection_has_istios_rules() {
    let Some(cases) = cases() else { return };
    let mut wrong = Vec::new();
    let mut passed = 0;
    for (name, config, golden) in &cases {
        let known = KNOWN_FAILURES.iter().find(|(known, _)| known == name);
        let ours: Vec<_> =
            plan::plan(&options(config)).to_string().lines().filter(|line| !is_ours(line)).map(str::to_owned).collect();
        let (ours, theirs) = (apply(&ours.join("\n")), apply(golden));
        let outcome = if ours == theirs { Ok(()) } else { Err(format!("ours   {ours:#?}\ntheirs {theirs:#?}")) };
        match (outcome, known) {
            (Ok(()), None) => passed += 1,
            (Err(_), Some(_)) => {}
            (Ok(()), Some(_)) => wrong.push(format!("{name} passes: take it off the list of known failures")),
            (Err(difference), None) => wrong.push(format!("{name}: {difference}")),
        }
    }
    println!("iptables.json: {} cases, {passed} passed", cases.len());
    for (name, reason) in KNOWN_FAILURES {
        println!("  known failure {name}: {reason}");
    }
    for (rule, reason) in OURS {
        println!("  beyond Istio's `{rule} ... drop`: {reason}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_kernel_takes_every_rule() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: a network namespace of its own takes root");
        return;
    }
    let Some(cases) = cases() else { return };
    // unshare concerns the calling thread alone, so the namespace goes when the thread does.
    let outcome = std::thread::spawn(move || {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            eprintln!("SKIPPED: no network namespace: {error}");
            return Ok(0);
        }
        routes::tests::up();
        let mut taken = 0;
        for (name, config, _) in &cases {
            let mut options = options(config);
            // Names of groups that only Istio's test machine has.
            if let Include::Only(groups) = &mut options.owner_groups {
                groups.retain(|group| matches!(group, Group::Id(_)));
            }
            for _again in 0..2 {
                let ruleset = plan::plan(&options);
                ruleset.routing.as_ref().map_or(Ok(()), routes::apply).map_err(|error| format!("{name}: {error}"))?;
                let transaction = encode::transaction(&ruleset).map_err(|error| error.to_string())?;
                netlink::commit(&transaction).map_err(|error| format!("{name}: {error}"))?;
            }
            taken += 1;
        }
        Ok::<_, String>(taken)
    })
    .join()
    .expect("no panic");
    println!("rulesets taken by the kernel: {}", outcome.expect("taken"));
}
