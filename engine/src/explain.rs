//! "What would this request do?", answered by the very decisions that a proxy makes, chance left open.

use std::{fmt, sync::Arc};

use xds::provenance::Provenance;

use crate::{
    decide::chain::{self, Connection},
    ir::{
        listener::{Chain, ChainAction, Listener},
        route::{Request, Route, RouteAction},
    },
    snapshot::{NoRoute, Snapshot},
};

/// The way of a request, as far as it goes.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The listener that serves the connection; `None` if the one that accepted it is not known.
    pub listener: Option<Arc<Listener>>,
    /// The filter chain; `None` closes the connection.
    pub chain: Option<Arc<Chain>>,
    /// What becomes of the request, or of the connection's bytes.
    pub end: End,
}

/// Where the way of a request ends.
#[derive(Clone, Debug)]
pub enum End {
    /// The connection is closed.
    Closed,
    /// Bytes go to one of these clusters, by weight.
    Bytes(Vec<Destination>),
    /// No route: 404.
    NoRoute(NoRoute),
    /// A route takes it.
    Routed {
        /// The virtual host's name.
        host: Arc<str>,
        /// The route.
        route: Arc<Route>,
        /// Where it may go to, if it is forwarded.
        destinations: Vec<Destination>,
    },
}

/// A cluster that traffic may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The cluster.
    pub cluster: Arc<str>,
    /// Its weight.
    pub weight: u32,
    /// Whether the proxy knows it; otherwise the answer is 503 with the flag `NC`.
    pub known: bool,
}

/// Follows a connection that the listener `accepted_by` accepted, and `request` on it.
pub fn explain(
    snapshot: &Snapshot,
    accepted_by: &str,
    connection: &Connection<'_>,
    request: Option<&Request<'_>>,
    seed: u64,
) -> Explanation {
    let accepted = snapshot.listener(accepted_by);
    let handed_on = accepted.and_then(|accepted| snapshot.handed_on(accepted, connection.destination));
    let listener = handed_on.or(accepted).cloned();
    let chain = listener.as_ref().and_then(|listener| chain::select(listener, connection)).cloned();
    let destination = |name: &Arc<str>, weight: u32| Destination {
        cluster: name.clone(),
        weight,
        known: snapshot.cluster(name).is_some(),
    };
    let end = match (chain.as_ref().map(|chain| &chain.action), request) {
        (None, _) | (Some(ChainAction::Http(_)), None) => End::Closed,
        (Some(ChainAction::Tcp(tcp)), _) => {
            End::Bytes(tcp.clusters.iter().map(|cluster| destination(&cluster.name, cluster.weight)).collect())
        }
        (Some(ChainAction::Http(http)), Some(request)) => match snapshot.route(http, request, seed) {
            Err(none) => End::NoRoute(none),
            Ok(routed) => {
                let members = match &routed.route.action {
                    RouteAction::Forward(forward) => &*forward.clusters.members,
                    RouteAction::Redirect(_) | RouteAction::Direct(_) => &[],
                };
                let destinations = members.iter().map(|member| destination(&member.name, member.weight)).collect();
                End::Routed { host: routed.host.name.clone(), route: routed.route, destinations }
            }
        },
    };
    Explanation { listener, chain, end }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listener {
            None => return writeln!(f, "listener: not known"),
            Some(listener) => writeln!(f, "listener: {}{}", listener.name, from(listener.provenance.as_deref()))?,
        }
        match &self.chain {
            None => return writeln!(f, "filter chain: none matches, so the connection is closed"),
            Some(chain) => writeln!(f, "filter chain: {}{}", chain.name, from(chain.provenance.as_deref()))?,
        }
        match &self.end {
            End::Closed => writeln!(f, "no request"),
            End::NoRoute(none) => writeln!(f, "404 NR: {none}"),
            End::Bytes(destinations) => write_destinations(f, destinations),
            End::Routed { host, route, destinations } => {
                writeln!(f, "virtual host: {host}")?;
                writeln!(f, "route: {}{}", route.name, from(route.provenance.as_deref()))?;
                match &route.action {
                    RouteAction::Forward(_) => write_destinations(f, destinations),
                    RouteAction::Redirect(redirect) => writeln!(f, "redirect: {}", redirect.status),
                    RouteAction::Direct(direct) => writeln!(f, "answer: {}", direct.status),
                }
            }
        }
    }
}

fn write_destinations(f: &mut fmt::Formatter<'_>, destinations: &[Destination]) -> fmt::Result {
    for destination in destinations {
        let known = if destination.known { "" } else { " (not known: 503 NC)" };
        writeln!(f, "cluster: {} weight {}{known}", destination.cluster, destination.weight)?;
    }
    Ok(())
}

fn from(provenance: Option<&Provenance>) -> String {
    provenance.map_or_else(String::new, |provenance| {
        let field = if provenance.field.is_empty() { String::new() } else { format!(", {}", provenance.field) };
        format!(" ({}{field})", if provenance.rule.is_empty() { &provenance.config } else { &provenance.rule })
    })
}
