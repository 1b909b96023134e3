//! Redirection: makes the kernel hand a pod's TCP connections to the proxy.
//!
//! Runs once, as the init container, with Istio's `istio-iptables` arguments. What comes in: the arguments
//! (`options`). What goes out: nftables rules, written to the kernel in one transaction.
//!
//! 1. `options`: arguments and environment into checked settings
//! 2. `plan`: settings into tables, chains and rules; pure
//! 3. `rule`: what a rule is, and its text as `nft` would print it
//! 4. `encode`: a rule into the kernel's expressions; pure
//! 5. `netlink`: the transaction
//! 6. `routes`: with TPROXY, the routing of what carries the proxy's mark
//! 7. `validate`: whether redirection is in force, where a CNI plugin was to set it up

mod encode;
mod netlink;
mod options;
mod plan;
mod routes;
mod rule;
mod validate;
#[cfg(test)]
mod vectors;

use std::ffi::OsString;

use clap::Parser as _;

use options::{Arguments, Options, Surroundings};

/// The exit code of a validation that failed, as Istio's.
const NOT_IN_FORCE: i32 = 126;

/// Sets up redirection as the arguments after `istio-iptables` say; returns the process's exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let name = std::iter::once(OsString::from("istio-iptables"));
    let arguments = match Arguments::try_parse_from(name.chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    match run(&arguments) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("istio-iptables: {error}");
            if matches!(error, Error::Unredirected(_)) { NOT_IN_FORCE } else { 1 }
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let surroundings = Surroundings::look()?;
    let mut options = Options::from_arguments(arguments, &surroundings)?;
    if options.leave_dns_alone() {
        eprintln!(
            "istio-iptables: DNS is not captured, although ISTIO_META_DNS_CAPTURE, CAPTURE_ALL_DNS or --redirect-dns asks for it: \
             this version of the proxy serves no DNS, and names would resolve no more; the pod uses its own name servers"
        );
    }
    let ruleset = plan::plan(&options);
    print!("{ruleset}");
    if arguments.dry_run {
        return Ok(());
    }
    if !arguments.skip_rule_apply {
        // First the way, then the rules that send packets there.
        ruleset.routing.as_ref().map_or(Ok(()), routes::apply)?;
        netlink::commit(&encode::transaction(&ruleset)?)?;
    }
    if arguments.run_validation {
        // A pod without any address has nothing that could go past the proxy but loopback, which is IPv4.
        let ipv4 = surroundings.ipv4 || !surroundings.ipv6;
        let (port, timeout) = (arguments.iptables_probe_port, arguments.probe_timeout);
        validate::run(&validate::Probe::new(ipv4, port, arguments.redirected(), timeout))?;
        println!("istio-iptables: redirection is in force");
    }
    Ok(())
}

/// Why redirection could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An argument that cannot be honoured.
    #[error("{argument}: {problem}")]
    Argument { argument: &'static str, problem: String },
    /// The kernel refused the transaction.
    #[error(
        "the kernel refused nftables message {message}: {source} (the init container needs NET_ADMIN and NET_RAW, and the kernel nf_tables with nat)"
    )]
    Refused { message: String, source: std::io::Error },
    /// The kernel refused a rule or a route.
    #[error(
        "the kernel refused what `{command}` would do: {source} (TPROXY needs NET_ADMIN in the init container, and policy routing in the kernel)"
    )]
    Unrouted { command: String, source: std::io::Error },
    /// Redirection is not in force.
    #[error("{0}")]
    Unredirected(#[from] validate::Unredirected),
    /// The netlink socket failed.
    #[error("netlink: {0}")]
    Socket(#[from] std::io::Error),
}
