//! One connection, from its first byte to its end.
//!
//! accept -> original destination -> sniff -> chain -> TLS -> HTTP or bytes.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::Snapshot;
use engine::decide::chain;
use engine::ir::listener::{Chain, ChainAction, Direction, Listener, Sniff, Transport};

use super::live::{Ending, Facts, Live};
use super::sniff::{Sniffed, sniff};
use crate::error::ProxyError;
use crate::http::serve;
use crate::net::{Accepted, ClientAddress, Io};
use crate::tcp::proxy;
use crate::tls::server;
use crate::tls::verify::Leaf;
use crate::workers::Worker;

/// How long a TLS handshake may take unless the chain says otherwise.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client of a sniffed port may stay silent before the server may speak first: from beside us, over loopback ...
const SILENCE_LOCAL: Duration = Duration::from_millis(200);
/// ... and over a network, where a lost ClientHello comes again after a retransmission.
const SILENCE_REMOTE: Duration = Duration::from_secs(1);
/// How long a client may stay silent where it has to speak: as long as an idle connection lives.
const LONGEST_SILENCE: Duration = Duration::from_hours(1);

/// A client's connection, once it is known what it speaks.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address.
    pub peer: SocketAddr,
    /// Where it was going.
    pub destination: SocketAddr,
    /// Whether that was read from the socket.
    pub redirected: bool,
    /// Its address, where the application is to see that.
    pub kept: Option<ClientAddress>,
    /// Which way its traffic goes.
    pub direction: Direction,
    /// Whether it is encrypted.
    pub tls: bool,
    /// Who it is, by certificate.
    pub leaf: Option<Arc<Leaf>>,
    /// The server name it asked for.
    pub sni: Option<Rc<str>>,
    /// The application protocol that was agreed on.
    pub alpn: Option<Vec<u8>>,
}

/// Starts a connection's task.
pub fn start(worker: &Rc<Worker>, bound: Arc<str>, accepted: Accepted) {
    let worker = worker.clone();
    let cells = worker.recorder.envoy();
    cells.downstream_cx_total.add(1);
    cells.downstream_cx_active.add(1);
    tokio::task::spawn_local(async move {
        let _counted = Counted(worker.clone());
        let peer = accepted.peer;
        if let Err(error) = run(&worker, bound, accepted).await {
            tracing::debug!(%peer, %error, "connection refused");
        }
    });
}

/// Counts a connection until it ends, by a panic too: tokio keeps a panic to the task, so the count is its only trace.
struct Counted(Rc<Worker>);

impl Drop for Counted {
    fn drop(&mut self) {
        let cells = self.0.recorder.envoy();
        cells.downstream_cx_active.sub(1);
        if std::thread::panicking() {
            cells.panics.add(1);
        }
    }
}

/// The listener that serves a connection: that of its original destination, if there is one and it goes the same way.
pub(super) fn listener_for<'a>(
    snapshot: &'a Snapshot,
    bound: &'a Arc<Listener>,
    destination: SocketAddr,
) -> &'a Arc<Listener> {
    snapshot.handed_on(bound, destination).unwrap_or(bound)
}

async fn run(worker: &Rc<Worker>, bound: Arc<str>, accepted: Accepted) -> Result<(), ProxyError> {
    let Accepted { mut io, peer, local, original } = accepted;
    let view = worker.view();
    let listener = view.snapshot.listener(&bound).ok_or(ProxyError::NoFilterChain)?.clone();
    let wants_original = listener.use_original_dst || listener.sniff.original_dst;
    let kept = listener.client_address_mark.map(|mark| ClientAddress { ip: peer.ip(), mark });
    let destination = original.filter(|_| wants_original).unwrap_or(local);
    let serving = listener_for(&view.snapshot, &listener, destination).clone();
    drop(view);

    // With TPROXY the socket's own address is the original destination.
    let redirected = original.is_some() || local.port() != listener.address.port();
    let mut facts = Facts {
        bound,
        destination,
        redirected,
        peer,
        transport: Transport::Plaintext,
        sni: None,
        protocols: Vec::new(),
    };
    // The inspectors of the socket's listener have run in Envoy before the connection is handed on, those of the other after.
    let inspect = Sniff {
        tls: listener.sniff.tls || serving.sniff.tls,
        http: listener.sniff.http || serving.sniff.http,
        ..serving.sniff
    };
    let offered = look(&mut io, inspect, &serving, &mut facts).await?;

    // Sniffing may have taken a while: the decision is by the view of now.
    let view = worker.view();
    let (listener, chain) = facts.judge(&view.snapshot).ok_or(ProxyError::NoFilterChain)?;
    let (direction, chain) = (listener.direction, chain.clone());
    drop(view);

    let mut client = Client {
        peer,
        destination,
        redirected: facts.redirected,
        kept,
        direction,
        tls: false,
        leaf: None,
        sni: facts.sni.clone(),
        alpn: None,
    };
    let entered = Live::enter(worker, facts, chain.clone());
    if chain.tls.is_some() {
        io = tokio::select! {
            biased;
            _ = entered.open.ends(Ending::Gracefully) => return Err(ProxyError::NoFilterChain),
            io = handshake(worker, io, &chain, &mut client, &offered) => io?,
        };
    }
    match &chain.action {
        ChainAction::Http(http) => serve::serve(worker, io, client, entered, http).await,
        ChainAction::Tcp(tcp) => proxy::serve(worker, io, client, entered, tcp).await,
    }
}

/// Finds out what the connection speaks; gives the ALPN that a TLS client offers.
async fn look(io: &mut Io, inspect: Sniff, listener: &Listener, facts: &mut Facts) -> Result<Vec<Vec<u8>>, ProxyError> {
    if !inspect.tls && !inspect.http {
        return Ok(Vec::new());
    }
    let configured = (!inspect.timeout.is_zero()).then_some(inspect.timeout);
    let patience = if listener.direction == Direction::Outbound { SILENCE_LOCAL } else { SILENCE_REMOTE };
    let gone = |_| ProxyError::ClientGone;
    let first = configured.map_or(patience, |configured| configured.min(patience));
    let mut sniffed = sniff(io, Some(first)).await.map_err(gone)?;
    if sniffed == Sniffed::Silent && !server_may_speak(listener, facts) {
        // Whoever serves it waits for the client too; only the protocol is unknown until then.
        sniffed = sniff(io, configured.or(Some(LONGEST_SILENCE))).await.map_err(gone)?;
    }
    let http = |protocol: &str| vec![protocol.to_owned()];
    match sniffed {
        Sniffed::Tls(hello) if inspect.tls => {
            facts.transport = Transport::Tls;
            facts.sni = hello.sni.as_deref().map(Into::into);
            facts.protocols = hello.alpn.iter().filter_map(|name| String::from_utf8(name.clone()).ok()).collect();
            return Ok(hello.alpn);
        }
        Sniffed::Http2 if inspect.http => facts.protocols = http("h2c"),
        Sniffed::Http11 if inspect.http => facts.protocols = http("http/1.1"),
        Sniffed::Http10 if inspect.http => facts.protocols = http("http/1.0"),
        Sniffed::Closed => return Err(ProxyError::ClientGone),
        Sniffed::Silent if !inspect.continue_on_timeout && configured.is_some() => return Err(ProxyError::IdleTimeout),
        _ => {}
    }
    Ok(Vec::new())
}

/// Whether a silent client gets plain bytes relayed, so that a server may speak first. Where the plaintext chain is HTTP, or there is
/// none, the client has to speak.
fn server_may_speak(listener: &Listener, facts: &Facts) -> bool {
    let connection = chain::Connection {
        destination: facts.destination,
        source: facts.peer,
        transport: Transport::Plaintext,
        server_name: None,
        application_protocols: &[],
    };
    chain::select(listener, &connection)
        .is_some_and(|chain| chain.tls.is_none() && matches!(chain.action, ChainAction::Tcp(_)))
}

async fn handshake(
    worker: &Rc<Worker>,
    io: Io,
    chain: &Chain,
    client: &mut Client,
    offered: &[Vec<u8>],
) -> Result<Io, ProxyError> {
    let Some(tls) = &chain.tls else { return Ok(io) };
    let (servers, identity) = (worker.servers(), worker.identity());
    let accepting = server::accept(io, tls, &servers, identity.as_deref(), offered);
    let time = chain.tls_handshake_timeout.unwrap_or(HANDSHAKE);
    let outcome = match tokio::time::timeout(time, accepting).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProxyError::DownstreamTls("handshake not finished in time".into())),
    };
    let accepted = outcome.inspect_err(|_| worker.recorder.envoy().handshake_failures.add(1))?;
    client.tls = true;
    client.leaf = accepted.peer;
    client.alpn = accepted.alpn;
    Ok(accepted.io)
}

/// A connection whose task panics.
#[cfg(test)]
pub(crate) fn panicking(worker: &Rc<Worker>) {
    let counted = Counted(worker.clone());
    worker.recorder.envoy().downstream_cx_active.add(1);
    tokio::task::spawn_local(async move {
        let _counted = counted;
        panic!("a test's own");
    });
}
