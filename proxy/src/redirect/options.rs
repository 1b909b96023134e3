//! The arguments of `istio-iptables`, each also an environment variable, and what they mean once checked.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Error;

/// Istio's flags by their names, as injection writes them.
#[derive(clap::Parser, Debug)]
#[command(name = "istio-iptables", disable_version_flag = true)]
pub(crate) struct Arguments {
    /// Port that outbound connections are redirected to.
    #[arg(short = 'p', long, env = "ENVOY_PORT", default_value_t = names::ports::OUTBOUND)]
    envoy_port: u16,
    /// Port that inbound connections are redirected to.
    #[arg(short = 'z', long, env = "INBOUND_CAPTURE_PORT", default_value_t = names::ports::INBOUND)]
    inbound_capture_port: u16,
    /// Inbound port that is never captured (HBONE).
    #[arg(short = 'e', long, env = "INBOUND_TUNNEL_PORT", default_value_t = names::ports::HBONE)]
    inbound_tunnel_port: u16,
    /// Users whose connections are not captured, comma-separated numbers.
    #[arg(short = 'u', long, env = "PROXY_UID", default_value = "1337")]
    proxy_uid: String,
    /// Groups whose connections are not captured, comma-separated numbers; the users' numbers if absent.
    #[arg(short = 'g', long, env = "PROXY_GID", default_value = "")]
    proxy_gid: String,
    /// How inbound connections are captured; `REDIRECT` or `TPROXY`.
    #[arg(short = 'm', long, env = "ISTIO_INBOUND_INTERCEPTION_MODE", default_value = "")]
    istio_inbound_interception_mode: String,
    /// Mark of what goes to the proxy by routing, with `-m TPROXY`.
    #[arg(short = 't', long, env = "INBOUND_TPROXY_MARK", default_value_t = names::traffic::CLIENT_ADDRESS_MARK.to_string())]
    istio_inbound_tproxy_mark: String,
    /// Routing table of what carries the mark, with `-m TPROXY`.
    #[arg(short = 'r', long, env = "INBOUND_TPROXY_ROUTE_TABLE", default_value = "133")]
    istio_inbound_tproxy_route_table: String,
    /// Inbound ports to capture: `*`, or a list; empty captures none.
    #[arg(short = 'b', long, env = "ISTIO_INBOUND_PORTS", default_value = "")]
    istio_inbound_ports: String,
    /// Inbound ports to leave alone, with `-b '*'`.
    #[arg(short = 'd', long, env = "ISTIO_LOCAL_EXCLUDE_PORTS", default_value = "")]
    istio_local_exclude_ports: String,
    /// Outbound ports to capture whatever the address.
    #[arg(short = 'q', long, env = "ISTIO_OUTBOUND_PORTS", default_value = "")]
    istio_outbound_ports: String,
    /// Outbound ports to leave alone.
    #[arg(short = 'o', long, env = "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", default_value = "")]
    istio_local_outbound_ports_exclude: String,
    /// Destinations to capture: `*`, or CIDRs; empty captures none.
    #[arg(short = 'i', long, env = "ISTIO_SERVICE_CIDR", default_value = "")]
    istio_service_cidr: String,
    /// Destinations to leave alone, CIDRs.
    #[arg(short = 'x', long, env = "ISTIO_SERVICE_EXCLUDE_CIDR", default_value = "")]
    istio_service_exclude_cidr: String,
    /// Interfaces whose inbound traffic is treated as outbound.
    #[arg(short = 'k', long, env = "KUBE_VIRT_INTERFACES", default_value = "")]
    kube_virt_interfaces: String,
    /// Interfaces to leave alone in both directions.
    #[arg(short = 'c', long, env = "ISTIO_EXCLUDE_INTERFACES", default_value = "")]
    istio_exclude_interfaces: String,
    /// Redirect DNS to the servers of `/etc/resolv.conf`.
    #[arg(long, env = "ISTIO_META_DNS_CAPTURE", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    redirect_dns: bool,
    /// Redirect DNS to whichever server.
    #[arg(long, env = "CAPTURE_ALL_DNS", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    capture_all_dns: bool,
    /// Drop packets that conntrack calls invalid.
    #[arg(long, env = "INVALID_DROP", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    drop_invalid: bool,
    /// IPv6 rules beside IPv4 ones whatever the pod's addresses.
    #[arg(long, env = "ISTIO_DUAL_STACK", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    dual_stack: bool,
    /// The loopback range that is left alone.
    #[arg(long, env = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", default_value = "127.0.0.1/32")]
    host_ipv4_loopback_cidr: String,
    /// Groups whose connections are captured; `*` for all.
    #[arg(long, env = "ISTIO_OUTBOUND_OWNER_GROUPS", default_value = "*")]
    outbound_owner_groups: String,
    /// Groups whose connections are not captured.
    #[arg(long, env = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", default_value = "")]
    outbound_owner_groups_exclude: String,
    /// Print the rules and leave the kernel alone.
    #[arg(short = 'n', long, env = "DRY_RUN", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub(crate) dry_run: bool,
    /// Accepted for Istio's sake: there is little to log here.
    #[arg(long = "log_output_level", default_value = "")]
    _log_output_level: String,
    /// Accepted for Istio's sake: nftables is what we always use.
    #[arg(long = "native-nftables", num_args = 0..=1, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    _native_nftables: bool,
    /// Accepted for Istio's sake: what was there before is always replaced.
    #[arg(long = "force-apply", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    _force_apply: bool,
    /// Accepted for Istio's sake: errors are lines of text.
    #[arg(long = "log_as_json", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    _log_as_json: bool,
    /// Leave the kernel alone: somebody else has redirected.
    #[arg(long, env = "SKIP_RULE_APPLY", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub(crate) skip_rule_apply: bool,
    /// Look whether redirection is in force; exit code 126 if it is not.
    #[arg(long, env = "RUN_VALIDATION", num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub(crate) run_validation: bool,
    /// Port that validation connects to; nobody may listen on it.
    #[arg(long, env = "IPTABLES_PROBE_PORT", default_value_t = names::ports::REDIRECTION_PROBE)]
    pub(crate) iptables_probe_port: u16,
    /// How long validation may take, such as 5s.
    #[arg(long, env = "PROBE_TIMEOUT", default_value = "5s", value_parser = seconds)]
    pub(crate) probe_timeout: std::time::Duration,
}

impl Arguments {
    /// The ports that connections are redirected to: inbound, outbound.
    pub(crate) fn redirected(&self) -> [u16; 2] {
        [self.inbound_capture_port, self.envoy_port]
    }
}

/// Go's durations, as far as anybody writes them here: `5s`, `500ms`, `1m`.
fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let problem = || format!("{text:?} is not a duration such as 5s");
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(problem)?;
    let (number, unit) = text.split_at(end);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(problem()),
    };
    let number: f64 = number.parse().map_err(|_| problem())?;
    std::time::Duration::try_from_secs_f64(number * scale).map_err(|_| problem())
}

/// What the machine says rather than an argument.
#[derive(Debug, Default, Clone)]
pub(crate) struct Surroundings {
    /// Whether the pod has an IPv4 address.
    pub(crate) ipv4: bool,
    /// Whether the pod has an IPv6 address.
    pub(crate) ipv6: bool,
    /// The name servers of `/etc/resolv.conf`.
    pub(crate) dns_servers: Vec<IpAddr>,
}

impl Surroundings {
    /// Looks at the interfaces and at `/etc/resolv.conf`.
    pub(crate) fn look() -> Result<Self, Error> {
        let interfaces = nix::ifaddrs::getifaddrs().map_err(std::io::Error::from)?;
        let addresses: Vec<_> = interfaces.filter_map(|interface| interface.address).collect();
        let ipv4 =
            addresses.iter().any(|address| address.as_sockaddr_in().is_some_and(|address| !address.ip().is_loopback()));
        let ipv6 = addresses.iter().any(|address| {
            address
                .as_sockaddr_in6()
                .is_some_and(|address| !address.ip().is_loopback() && !address.ip().is_unicast_link_local())
        });
        let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Ok(Self { ipv4, ipv6, dns_servers: name_servers(&resolv_conf) })
    }
}

fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|address| address.trim().parse().ok())
        .collect()
}

/// Who a connection belongs to, as the kernel compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Id(u32),
    /// Looked up in `/etc/group` when the rule is encoded.
    Name(String),
}

/// Which ports or destinations are captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Include<T> {
    All,
    Only(Vec<T>),
}

impl<T> Include<T> {
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Only(list) if list.is_empty())
    }
}

/// How inbound connections come to the proxy as they were: by a mark and a routing table instead of another destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transparent {
    /// The mark of packets that belong to the proxy.
    pub(crate) mark: u32,
    /// The routing table that is looked at for them.
    pub(crate) table: u32,
}

/// Checked settings: what the plan is made from.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) outbound_port: u16,
    pub(crate) inbound_port: u16,
    pub(crate) tunnel_port: u16,
    pub(crate) uids: Vec<u32>,
    pub(crate) gids: Vec<Group>,
    /// `TPROXY`; none is `REDIRECT`.
    pub(crate) transparent: Option<Transparent>,
    pub(crate) inbound_ports: Include<u16>,
    pub(crate) inbound_ports_exclude: Vec<u16>,
    pub(crate) outbound_ports: Vec<u16>,
    pub(crate) outbound_ports_exclude: Vec<u16>,
    pub(crate) outbound_ranges: Include<IpNet>,
    pub(crate) outbound_ranges_exclude: Vec<IpNet>,
    pub(crate) reroute_interfaces: Vec<String>,
    pub(crate) exclude_interfaces: Vec<String>,
    pub(crate) owner_groups: Include<Group>,
    pub(crate) owner_groups_exclude: Vec<Group>,
    /// The DNS servers whose traffic is redirected; `All` for whichever, none for no DNS capture.
    pub(crate) dns: Include<IpAddr>,
    pub(crate) drop_invalid: bool,
    pub(crate) ipv6: bool,
    pub(crate) loopback: IpNet,
}

impl Options {
    /// Checks the arguments; the first that cannot be honoured is an error with its name.
    pub(crate) fn from_arguments(arguments: &Arguments, surroundings: &Surroundings) -> Result<Self, Error> {
        let transparent = match arguments.istio_inbound_interception_mode.as_str() {
            "" | "REDIRECT" => None,
            "TPROXY" => Some(Transparent {
                mark: one("-t", &arguments.istio_inbound_tproxy_mark, mark)?,
                table: one("-r", &arguments.istio_inbound_tproxy_route_table, table)?,
            }),
            other => {
                return Err(Error::Argument {
                    argument: "-m",
                    problem: format!("{other:?} is no interception mode; REDIRECT and TPROXY are"),
                });
            }
        };
        let uids = list("-u", &arguments.proxy_uid, number::<u32>)?;
        let gids = if arguments.proxy_gid.is_empty() { &arguments.proxy_uid } else { &arguments.proxy_gid };
        let dns = if arguments.capture_all_dns {
            Include::All
        } else if arguments.redirect_dns {
            Include::Only(surroundings.dns_servers.clone())
        } else {
            Include::Only(Vec::new())
        };
        Ok(Self {
            outbound_port: arguments.envoy_port,
            inbound_port: arguments.inbound_capture_port,
            tunnel_port: arguments.inbound_tunnel_port,
            gids: list("-g", gids, group)?,
            uids,
            transparent,
            inbound_ports: include("-b", &arguments.istio_inbound_ports, number)?,
            inbound_ports_exclude: list("-d", &arguments.istio_local_exclude_ports, number)?,
            outbound_ports: list("-q", &arguments.istio_outbound_ports, number)?,
            outbound_ports_exclude: list("-o", &arguments.istio_local_outbound_ports_exclude, number)?,
            outbound_ranges: include("-i", &arguments.istio_service_cidr, range)?,
            outbound_ranges_exclude: list("-x", &arguments.istio_service_exclude_cidr, range)?,
            reroute_interfaces: list("-k", &arguments.kube_virt_interfaces, interface)?,
            exclude_interfaces: list("-c", &arguments.istio_exclude_interfaces, interface)?,
            owner_groups: include("ISTIO_OUTBOUND_OWNER_GROUPS", &arguments.outbound_owner_groups, group)?,
            owner_groups_exclude: list(
                "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
                &arguments.outbound_owner_groups_exclude,
                group,
            )?,
            dns,
            drop_invalid: arguments.drop_invalid,
            ipv6: surroundings.ipv6 || arguments.dual_stack,
            loopback: range(&arguments.host_ipv4_loopback_cidr)
                .map_err(|problem| Error::Argument { argument: "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", problem })?,
        })
    }

    /// Gives up on capturing DNS, and says whether it was asked for. Nobody listens on the port that it would go to: a pod
    /// whose DNS is captured could not resolve a name.
    pub(crate) fn leave_dns_alone(&mut self) -> bool {
        let asked = self.captures_dns();
        self.dns = Include::Only(Vec::new());
        asked
    }

    /// Whether DNS is redirected at all.
    pub(crate) fn captures_dns(&self) -> bool {
        !self.dns.is_none()
    }

    /// Whether the user asked for loopback destinations to be captured, by naming a range of them.
    pub(crate) fn captures_loopback(&self) -> bool {
        matches!(&self.outbound_ranges, Include::Only(ranges) if ranges.iter().any(|range| range.addr().is_loopback()))
    }
}

type Parse<T> = fn(&str) -> Result<T, String>;

fn list<T>(argument: &'static str, text: &str, parse: Parse<T>) -> Result<Vec<T>, Error> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| parse(item).map_err(|problem| Error::Argument { argument, problem }))
        .collect()
}

fn include<T>(argument: &'static str, text: &str, parse: Parse<T>) -> Result<Include<T>, Error> {
    if text.trim() == "*" { Ok(Include::All) } else { list(argument, text, parse).map(Include::Only) }
}

fn one<T>(argument: &'static str, text: &str, parse: Parse<T>) -> Result<T, Error> {
    parse(text.trim()).map_err(|problem| Error::Argument { argument, problem })
}

/// No mark is zero, and the next one is that of the proxy's own calls to its pod (see `plan`).
fn mark(item: &str) -> Result<u32, String> {
    let mark = number::<u32>(item)?;
    if mark == 0 || mark == super::plan::MARK_OWN_CALLS {
        return Err(format!("{mark} has a meaning of its own; take another mark"));
    }
    Ok(mark)
}

/// The kernel's own tables are no place for a default route to ourselves.
fn table(item: &str) -> Result<u32, String> {
    let table = number::<u32>(item)?;
    if table == 0 || (253..=255).contains(&table) {
        return Err(format!("{table} is one of the kernel's own routing tables; take another"));
    }
    Ok(table)
}

fn number<T: std::str::FromStr>(item: &str) -> Result<T, String> {
    item.parse().map_err(|_| format!("{item:?} is not a number in range"))
}

/// A number, or a name that is looked up where the kernel's number is needed; no character is forbidden in one but the
/// colon, which ends it in `/etc/group`.
fn group(item: &str) -> Result<Group, String> {
    if item.contains(':') {
        return Err(format!("{item:?} is neither a group's number nor a name"));
    }
    Ok(item.parse().map_or_else(|_| Group::Name(item.to_owned()), Group::Id))
}

fn range(item: &str) -> Result<IpNet, String> {
    item.parse::<IpNet>()
        .or_else(|_| item.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{item:?} is not a CIDR such as 10.0.0.0/8"))
}

fn interface(item: &str) -> Result<String, String> {
    // IFNAMSIZ is 16 with the terminating zero.
    if item.len() < 16 { Ok(item.to_owned()) } else { Err(format!("{item:?} is longer than an interface name can be")) }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use clap::Parser as _;

    use super::{Arguments, Group, Include, Options, Surroundings, name_servers};

    fn options(arguments: &[&str]) -> Result<Options, String> {
        let arguments = Arguments::try_parse_from(std::iter::once(&"istio-iptables").chain(arguments))
            .map_err(|error| error.to_string())?;
        Options::from_arguments(&arguments, &Surroundings::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_injection_writes_is_understood() {
        let options = options(&[
            "-p",
            "15001",
            "-z",
            "15006",
            "-u",
            "1337",
            "-m",
            "REDIRECT",
            "-i",
            "*",
            "-x",
            "",
            "-b",
            "*",
            "-d",
            "15090,15021,15020",
            "--log_output_level=default:info",
        ])
        .expect("valid");
        assert_eq!(options.outbound_ranges, Include::All);
        assert_eq!(options.inbound_ports, Include::All);
        assert_eq!(options.inbound_ports_exclude, [15090, 15021, 15020]);
        assert_eq!((options.uids, options.gids), (vec![1337], vec![Group::Id(1337)]));
        assert!(options.outbound_ranges_exclude.is_empty());
        assert_eq!(options.transparent, None);
    }

    #[test]
    fn tproxy_has_a_mark_and_a_table() {
        for (arguments, mark, table) in
            [(&["-m", "TPROXY"][..], 1337, 133), (&["-m", "TPROXY", "-t", "7", "-r", "1000"], 7, 1000)]
        {
            let found = options(arguments).expect("valid").transparent;
            assert_eq!(found, Some(super::Transparent { mark, table }), "{arguments:?}");
        }
    }

    #[test]
    fn what_validation_is_told_is_understood() {
        let arguments = ["-u", "1337", "--run-validation", "--skip-rule-apply", "--native-nftables", "--force-apply"];
        let arguments = Arguments::try_parse_from(std::iter::once("istio-iptables").chain(arguments)).expect("valid");
        assert!(arguments.run_validation && arguments.skip_rule_apply);
        assert_eq!((arguments.iptables_probe_port, arguments.probe_timeout.as_secs()), (15002, 5));
        for (text, millis) in [("5s", Some(5000)), ("250ms", Some(250)), ("1m", Some(60_000)), ("5", None), ("s", None)]
        {
            let found = super::seconds(text).ok().map(|duration| duration.as_millis());
            assert_eq!(found, millis, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        for (arguments, expected) in [
            (&["-i", "10.0.0.0/33"][..], "-i: \"10.0.0.0/33\" is not a CIDR"),
            (&["-x", "*"], "-x: \"*\" is not a CIDR"),
            (&["-d", "80,x"], "-d: \"x\" is not a number"),
            (&["-b", "70000"], "-b: \"70000\" is not a number"),
            (&["-m", "TPROXY", "-t", "0"], "-t: 0 has a meaning of its own"),
            (&["-m", "TPROXY", "-t", "1338"], "-t: 1338 has a meaning of its own"),
            (&["-m", "TPROXY", "-t", "x"], "-t: \"x\" is not a number"),
            (&["-m", "TPROXY", "-r", "254"], "-r: 254 is one of the kernel's own routing tables"),
            (&["-m", "NONE"], "-m: \"NONE\" is no interception mode"),
            (&["-g", "a:b"], "-g: \"a:b\" is neither"),
            (&["-c", "an-interface-with-a-long-name"], "-c: "),
        ] {
            let error = options(arguments).expect_err(expected);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn dns_is_left_alone_whoever_asks() {
        let surroundings =
            Surroundings { dns_servers: name_servers("nameserver 10.96.0.10"), ..Surroundings::default() };
        for (arguments, asked) in [
            (&["-p", "15001"][..], false),
            (&["--redirect-dns"], true),
            (&["--redirect-dns=false"], false),
            (&["--capture-all-dns"], true),
        ] {
            let parsed = Arguments::try_parse_from(std::iter::once(&"istio-iptables").chain(arguments)).expect("valid");
            let mut options = Options::from_arguments(&parsed, &surroundings).expect("valid");
            assert_eq!(options.captures_dns(), asked, "{arguments:?}");
            assert_eq!(options.leave_dns_alone(), asked, "{arguments:?}");
            assert!(!options.captures_dns(), "{arguments:?}");
        }
    }

    #[test]
    fn name_servers_are_read_as_the_resolver_reads_them() {
        let servers =
            name_servers("# comment\nsearch a.b\nnameserver 10.96.0.10\n nameserver fd00::a \nnameserver x\n");
        assert_eq!(servers, ["10.96.0.10", "fd00::a"].map(|address| address.parse::<IpAddr>().expect("address")));
    }
}
