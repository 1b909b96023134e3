//! The network of tests: addresses are keys, connections are pipes, time is tokio's.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::{Accepted, Io, Listener, Source, Stream};

/// How many bytes a pipe holds before its writer waits.
const PIPE: usize = 64 * 1024;

/// Listeners by address, names by host. Clones are the same network.
#[derive(Clone, Debug, Default)]
pub struct MemoryNet {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    listeners: HashMap<SocketAddr, mpsc::UnboundedSender<Accepted>>,
    names: HashMap<String, Vec<IpAddr>>,
    connected: HashMap<SocketAddr, usize>,
    /// Listeners that get what was going elsewhere.
    redirected: HashMap<SocketAddr, SocketAddr>,
    next_port: u16,
}

/// The connections that wait at one listener.
#[derive(Debug)]
pub struct Backlog {
    waiting: mpsc::UnboundedReceiver<Accepted>,
}

impl Backlog {
    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        self.waiting.recv().await.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }
}

impl MemoryNet {
    fn with<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Listens at an address.
    pub fn listen(&self, address: SocketAddr) -> Listener {
        let (sender, waiting) = mpsc::unbounded_channel();
        self.with(|inner| inner.listeners.insert(address, sender));
        Listener::Memory(Backlog { waiting })
    }

    /// Gives a host its addresses.
    pub fn name(&self, host: &str, addresses: Vec<IpAddr>) {
        self.with(|inner| inner.names.insert(host.to_owned(), addresses));
    }

    /// How many connections were made to an address.
    pub fn connected(&self, address: SocketAddr) -> usize {
        self.with(|inner| inner.connected.get(&address).copied().unwrap_or(0))
    }

    /// From now on, connections to `listener` were going to `original`.
    pub fn redirect_to(&self, listener: SocketAddr, original: SocketAddr) {
        self.with(|inner| inner.redirected.insert(listener, original));
    }

    /// Connects to `listener` as if redirection had taken a connection to `original` there.
    pub fn redirect(&self, listener: SocketAddr, peer: SocketAddr, original: SocketAddr) -> io::Result<Io> {
        self.pipe(listener, peer, Some(original))
    }

    pub(super) fn connect(&self, to: SocketAddr, from: Source) -> io::Result<(Io, SocketAddr)> {
        let port = self.with(|inner| {
            inner.next_port = inner.next_port.wrapping_add(1);
            inner.next_port
        });
        let from = match from {
            Source::Any => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Source::Own(own) => own,
            Source::Client(client) => client.ip,
        };
        let local = SocketAddr::new(from, port);
        Ok((self.pipe(to, local, None)?, local))
    }

    fn pipe(&self, to: SocketAddr, peer: SocketAddr, original: Option<SocketAddr>) -> io::Result<Io> {
        let (near, far) = tokio::io::duplex(PIPE);
        let original = original.or_else(|| self.with(|inner| inner.redirected.get(&to).copied()));
        let accepted = Accepted { io: Io::new(Stream::Memory(far)), peer, local: to, original };
        let sent = self.with(|inner| {
            *inner.connected.entry(to).or_default() += 1;
            inner.listeners.get(&to).is_some_and(|listener| listener.send(accepted).is_ok())
        });
        if sent { Ok(Io::new(Stream::Memory(near))) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }

    pub(super) fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.with(|inner| {
            inner.names.get(host).map(|found| found.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
        })
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no such host: {host}")))
    }
}
