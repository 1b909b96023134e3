//! A client's connection to a cluster: `tcp_proxy`.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use engine::decide::cluster;
use engine::ir::listener::{Direction, TcpChain};
use tokio::time::Instant;

use super::relay::{End, Moved, relay};
use crate::error::{Flag, Flags, ProxyError};
use crate::listen::connection::Client;
use crate::listen::live::{Ending, Entered};
use crate::net::Io;
use crate::telemetry::access_log::Entry;
use crate::telemetry::istio::{Key, Reporter, RequestProtocol, Security, TcpSeries};
use crate::telemetry::peer::Peer;
use crate::tls::client::Inside;
use crate::tls::verify::Leaf;
use crate::upstream::cluster::{ClusterState, Picked};
use crate::upstream::connect::{Connection, connect};
use crate::upstream::host::Active;
use crate::workers::Worker;

/// A connection without traffic is closed after this, unless the chain says otherwise (Istio's default).
const IDLE: Duration = Duration::from_hours(1);

/// Serves a connection until it ends.
pub async fn serve(
    worker: &Rc<Worker>,
    mut io: Io,
    client: Client,
    entered: Entered,
    chain: &Arc<TcpChain>,
) -> Result<(), ProxyError> {
    let mut told = Told::new(worker, &client, chain);
    let outcome = tokio::select! {
        biased;
        _ = entered.open.ends(Ending::Gracefully) => Err(ProxyError::NoFilterChain),
        outcome = upstream(worker, &client, chain, &mut told) => outcome,
    };
    let (mut connection, active) = outcome.inspect_err(|error| told.failed(error))?;
    told.connected(worker, &client, &connection, &active);
    entered.open.report_by(told.reporter());
    let moved = told.moved.clone();
    let idle = chain.idle_timeout.or(Some(IDLE));
    let relaying = relay(&mut io, &mut connection.io, idle, &moved);
    tokio::select! {
        biased;
        _ = entered.open.ends(Ending::Gracefully) => told.ended("judged again and refused"),
        relayed = relaying => match relayed.end {
            End::Closed => {}
            End::Idle => told.ended("idle_timeout"),
            End::First(error) => {
                told.flags.set(Flag::DC);
                told.ended(&error.to_string());
            }
            End::Second(error) => {
                told.flags.set(Flag::UC);
                told.ended(&error.to_string());
            }
        }
    }
    Ok(())
}

async fn upstream(
    worker: &Rc<Worker>,
    client: &Client,
    chain: &Arc<TcpChain>,
    told: &mut Told,
) -> Result<(Connection, Active), ProxyError> {
    let chosen = cluster::pick_tcp(chain, worker.random()).ok_or(ProxyError::NoRoute)?;
    let missing = || ProxyError::NoCluster(chosen.name.to_string());
    let state = worker.clusters.get(&chosen.name).ok_or_else(missing)?;
    told.cluster(worker, &state);
    let mut avoid = Vec::new();
    let attempts = chain.max_connect_attempts.max(1);
    let mut outcome = Err(ProxyError::NoHealthyUpstream(chosen.name.to_string()));
    for _ in 0..attempts {
        let original = Some(client.destination).filter(|_| client.redirected);
        let picked = state.pick(worker.random(), None, &avoid, 3, original)?;
        let counted = state
            .place(&picked.host)
            .ok_or_else(|| ProxyError::Overflow { cluster: chosen.name.to_string(), limit: "maxConnections" })?;
        let active = Active::new(&picked.host);
        let kind = state.kind(worker, &picked, client.sni.as_deref(), client.kept);
        match connect(worker, &state, &picked, &kind, Inside::Tcp, counted).await {
            Ok(connection) => {
                told.picked(worker, &state, &picked);
                return Ok((connection, active));
            }
            Err(error) => {
                avoid.push(picked.host.address);
                outcome = Err(error);
            }
        }
    }
    outcome
}

/// What metrics and logs learn of a connection; told when it is dropped.
struct Told {
    worker: Rc<Worker>,
    key: Key,
    series: Option<Rc<Counting>>,
    moved: Rc<Moved>,
    flags: Flags,
    log: Option<(Rc<crate::telemetry::access_log::Lines>, Entry, Instant)>,
}

/// Counts what has moved since it was last asked.
struct Counting {
    series: Arc<TcpSeries>,
    moved: Rc<Moved>,
    reported: Cell<(u64, u64)>,
}

impl Counting {
    fn report(&self) {
        let (forth, back) = self.reported.get();
        let now = (self.moved.forth.get(), self.moved.back.get());
        self.series.received.add(now.0.wrapping_sub(forth));
        self.series.sent.add(now.1.wrapping_sub(back));
        self.reported.set(now);
    }
}

impl Told {
    fn new(worker: &Rc<Worker>, client: &Client, chain: &TcpChain) -> Self {
        let inbound = client.direction == Direction::Inbound;
        let uri = client.leaf.as_deref().and_then(uri);
        let key = Key {
            reporter: if inbound { Reporter::Destination } else { Reporter::Source },
            source: if inbound { 0 } else { worker.recorder.own },
            destination: if inbound { worker.recorder.own } else { 0 },
            source_principal: if inbound { worker.recorder.principal(uri) } else { 0 },
            destination_principal: 0,
            service: 0,
            protocol: RequestProtocol::Tcp,
            code: 0,
            grpc: None,
            flags: Flags::default(),
            security: match (inbound, client.leaf.is_some()) {
                (false, _) => Security::Unknown,
                (true, true) => Security::MutualTls,
                (true, false) => Security::None,
            },
        };
        let log = worker.lines(&chain.access_logs).map(|lines| {
            let entry = Entry {
                start: Some(SystemTime::now()),
                request: lines.request(&http::HeaderMap::new()),
                response: lines.response(&http::HeaderMap::new()),
                downstream_local: Some(client.destination),
                downstream_remote: Some(client.peer),
                sni: client.sni.clone(),
                peer: uri.map(Into::into),
                ..Entry::default()
            };
            (lines, entry, Instant::now())
        });
        Self { worker: worker.clone(), key, series: None, moved: Rc::default(), flags: Flags::default(), log }
    }

    fn cluster(&mut self, worker: &Worker, state: &ClusterState) {
        let config = state.config();
        self.key.service = service(worker, state, None);
        if let Some((_, entry, _)) = &mut self.log {
            entry.cluster = Some(config.name.clone());
        }
    }

    fn picked(&mut self, worker: &Worker, state: &ClusterState, picked: &Picked) {
        if self.key.reporter == Reporter::Source {
            self.key.destination = destination(worker, state, picked);
        }
        if let Some((_, entry, _)) = &mut self.log {
            entry.upstream_remote = Some(picked.host.address);
        }
    }

    fn connected(&mut self, worker: &Worker, client: &Client, connection: &Connection, _: &Active) {
        let own = worker.identity();
        let own = own.as_ref().map(|identity| identity.spiffe.to_string());
        match self.key.reporter {
            Reporter::Source => {
                if let Some(peer) = &connection.peer {
                    self.key.destination_principal = worker.recorder.principal(uri(peer));
                    self.key.source_principal = worker.recorder.principal(own.as_deref());
                }
            }
            Reporter::Destination => {
                if client.leaf.is_some() {
                    self.key.destination_principal = worker.recorder.principal(own.as_deref());
                }
            }
        }
        if let Some((_, entry, _)) = &mut self.log {
            entry.upstream_local = Some(connection.local);
        }
        let series = worker.recorder.tcp(&self.key);
        series.opened.add(1);
        self.series = Some(Rc::new(Counting { series, moved: self.moved.clone(), reported: Cell::default() }));
    }

    fn reporter(&self) -> Rc<dyn Fn()> {
        let counting = self.series.clone();
        Rc::new(move || {
            if let Some(counting) = &counting {
                counting.report();
            }
        })
    }

    fn failed(&mut self, error: &ProxyError) {
        let answer = error.answer();
        if let Some(flag) = answer.flag {
            self.flags.set(flag);
        }
        if let Some((_, entry, _)) = &mut self.log {
            entry.details = answer.details.into();
            entry.transport_failure = answer.transport_failure;
        }
    }

    fn ended(&mut self, why: &str) {
        if let Some((_, entry, _)) = &mut self.log {
            entry.termination = Some(why.replace(' ', "_").into());
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(counting) = self.series.take() {
            counting.report();
            counting.series.closed.add(1);
        } else {
            // It never got through: opened and closed at once, with the flag that says why.
            let key = Key { flags: self.flags, ..self.key };
            let series = self.worker.recorder.tcp(&key);
            series.opened.add(1);
            series.closed.add(1);
        }
        if let Some((lines, mut entry, start)) = self.log.take() {
            entry.flags = self.flags;
            entry.received = self.moved.forth.get();
            entry.sent = self.moved.back.get();
            entry.duration = start.elapsed();
            lines.write(&entry, &self.worker.logs);
        }
    }
}

/// The first URI among a peer's names: its identity in labels and headers.
pub(crate) fn uri(leaf: &Leaf) -> Option<&str> {
    leaf.uris.first().map(String::as_str)
}

/// The number of the service that a cluster stands for. `host` is the request's, where it may stand in.
pub(crate) fn service(worker: &Worker, state: &ClusterState, host: Option<&str>) -> u32 {
    if let Some(number) = state.service.get() {
        return number;
    }
    let config = state.config();
    let number = worker.recorder.service(config.service.as_deref(), &config.name, host);
    if config.service.is_some() {
        state.service.set(Some(number));
    }
    number
}

/// The number of the workload behind an endpoint, by what the control plane says of it.
pub(crate) fn destination(worker: &Worker, state: &ClusterState, picked: &Picked) -> u32 {
    if let Some(number) = picked.host.peer.get() {
        return number;
    }
    let workload = state.endpoint(picked.host.address, |endpoint| endpoint.workload.clone()).flatten();
    let number = workload.map_or(0, |workload| worker.recorder.peer(Peer::from_workload(&workload)));
    picked.host.peer.set(Some(number));
    number
}
