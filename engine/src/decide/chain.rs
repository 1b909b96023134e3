//! Which filter chain serves a connection.
//!
//! Envoy's order: destination port, destination address, server name, transport protocol, application protocols,
//! direct source, source type, source address, source port. Each dimension keeps only the chains that are most specific
//! in it, and never goes back: a chain for port 80 hides the chains for any port, even when nothing else of it fits.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;

use crate::ir::listener::{Chain, ChainMatch, Listener, SourceType, Transport};

/// What is known of a connection before its chain is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The original destination.
    pub destination: SocketAddr,
    /// The peer.
    pub source: SocketAddr,
    /// How the connection begins.
    pub transport: Transport,
    /// The server name of the ClientHello.
    pub server_name: Option<&'a str>,
    /// The ALPN of the ClientHello, or what the HTTP inspector found.
    pub application_protocols: &'a [&'a str],
}

/// How well one dimension of a chain fits a connection: greater is more specific, `None` does not fit.
type Fit = Option<u32>;

/// Fits anything.
const ANY: Fit = Some(0);

/// The chain of `listener` that serves `connection`; `None` closes it.
pub fn select<'a>(listener: &'a Listener, connection: &Connection<'_>) -> Option<&'a Arc<Chain>> {
    let server_name = connection.server_name.map(str::to_ascii_lowercase);
    let mut left: Vec<&Arc<Chain>> = listener.chains.iter().collect();
    let dimensions: [&dyn Fn(&ChainMatch) -> Fit; 9] = [
        &|m| exact(m.destination_port, connection.destination.port()),
        &|m| network(&m.destination, connection.destination.ip()),
        &|m| name(&m.server_names, server_name.as_deref()),
        &|m| exact(m.transport, connection.transport),
        &|m| protocol(&m.application_protocols, connection.application_protocols),
        &|m| network(&m.direct_source, connection.source.ip()),
        &|m| source_type(m.source_type, connection),
        &|m| network(&m.source, connection.source.ip()),
        &|m| port(&m.source_ports, connection.source.port()),
    ];
    for fit in dimensions {
        let best = left.iter().filter_map(|chain| fit(&chain.matches)).max();
        left.retain(|chain| fit(&chain.matches) == best && best.is_some());
        if left.is_empty() {
            break;
        }
    }
    left.first().copied().or(listener.default_chain.as_ref())
}

fn exact<T: PartialEq + Copy>(wanted: Option<T>, actual: T) -> Fit {
    match wanted {
        None => ANY,
        Some(wanted) => (wanted == actual).then_some(1),
    }
}

fn network(wanted: &[IpNet], actual: IpAddr) -> Fit {
    if wanted.is_empty() {
        return ANY;
    }
    let actual = actual.to_canonical();
    // A network of length zero is still what the chain asked for, but no more specific than none in Envoy's tries.
    wanted.iter().filter(|net| net.contains(&actual)).map(|net| u32::from(net.prefix_len())).max()
}

fn name(wanted: &[Box<str>], actual: Option<&str>) -> Fit {
    if wanted.is_empty() {
        return ANY;
    }
    let actual = actual?;
    let specific = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    wanted
        .iter()
        .filter_map(|wanted| match wanted.strip_prefix('*') {
            // `*.example.com`: longer is more specific, and every exact name beats it.
            Some(suffix) => {
                (actual.len() > suffix.len() && actual.ends_with(suffix)).then(|| 1 + specific(suffix.len()))
            }
            None => (actual == &**wanted).then_some(u32::MAX),
        })
        .max()
}

fn protocol(wanted: &[Box<str>], actual: &[&str]) -> Fit {
    if wanted.is_empty() {
        return ANY;
    }
    // The client's first protocol that any chain has decides.
    let position = actual.iter().position(|actual| wanted.iter().any(|wanted| **wanted == **actual))?;
    Some(u32::MAX - u32::try_from(position).unwrap_or(u32::MAX - 1))
}

fn source_type(wanted: SourceType, connection: &Connection<'_>) -> Fit {
    let source = connection.source.ip().to_canonical();
    let local = source.is_loopback() || source == connection.destination.ip().to_canonical();
    match wanted {
        SourceType::Any => ANY,
        SourceType::SameIpOrLoopback => local.then_some(1),
        SourceType::External => (!local).then_some(1),
    }
}

fn port(wanted: &[u16], actual: u16) -> Fit {
    if wanted.is_empty() { ANY } else { wanted.contains(&actual).then_some(1) }
}
