//! Listening sockets: made by the control thread, one for each worker, and handed out.
//!
//! Sockets of one address share its connections (`SO_REUSEPORT`). Closing one resets the connections that wait in it, so a socket
//! stays as long as its address is configured, however its chains change.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use engine::Snapshot;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A socket on its way to a worker.
#[derive(Debug)]
pub struct Handed {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The socket.
    pub socket: std::net::TcpListener,
    /// Set when the worker is to stop accepting.
    pub stop: watch::Receiver<bool>,
}

/// The sockets that are open.
#[derive(Debug)]
pub struct Sockets {
    workers: Vec<mpsc::UnboundedSender<Handed>>,
    open: HashMap<Place, watch::Sender<bool>>,
}

/// What a socket is made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    listener: Arc<str>,
    address: SocketAddr,
    /// Whether it takes connections to whichever address.
    transparent: bool,
}

impl Sockets {
    /// No sockets yet, for these workers.
    pub fn new(workers: Vec<mpsc::UnboundedSender<Handed>>) -> Self {
        Self { workers, open: HashMap::new() }
    }

    /// Opens and closes sockets until they are those of the snapshot; gives the addresses that could not be opened.
    pub fn update(&mut self, snapshot: &Snapshot) -> Vec<(SocketAddr, io::Error)> {
        let mut wanted = HashSet::new();
        for listener in snapshot.bound_listeners() {
            for address in std::iter::once(&listener.address).chain(&listener.additional_addresses) {
                let (listener, transparent) = (listener.name.clone(), listener.transparent);
                wanted.insert(Place { listener, address: *address, transparent });
            }
        }
        self.open.retain(|key, stop| {
            let stays = wanted.contains(key);
            if !stays {
                let _ = stop.send(true);
            }
            stays
        });
        let mut failed = Vec::new();
        for place in wanted {
            if self.open.contains_key(&place) {
                continue;
            }
            match self.open_all(&place) {
                Ok(stop) => {
                    self.open.insert(place, stop);
                }
                Err(error) => {
                    let Place { listener, address, .. } = place;
                    tracing::error!(%listener, %address, %error, "cannot listen");
                    failed.push((address, error));
                }
            }
        }
        failed
    }

    /// How many addresses are open.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    fn open_all(&self, place: &Place) -> io::Result<watch::Sender<bool>> {
        let Place { listener: name, address, transparent } = place;
        let (stop, watching) = watch::channel(false);
        // Without SO_REUSEPORT first: two processes with it would share the port in silence.
        drop(listen(*address, false, false)?);
        // All or none: a worker without its socket would never get its share.
        let sockets =
            self.workers.iter().map(|_| listen(*address, true, *transparent)).collect::<io::Result<Vec<_>>>()?;
        for (worker, socket) in self.workers.iter().zip(sockets) {
            let handed = Handed { listener: name.clone(), socket, stop: watching.clone() };
            if worker.send(handed).is_err() {
                tracing::debug!(listener = %name, "a worker has ended");
            }
        }
        Ok(stop)
    }
}

fn listen(address: SocketAddr, shared: bool, transparent: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own where both are wanted.
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    if transparent {
        // Before it listens: the sockets of its connections have it from there.
        crate::net::transparent(&socket, address.is_ipv4())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::listen;

    #[test]
    fn workers_share_an_address_and_strangers_do_not() {
        let first = listen("127.0.0.1:0".parse().unwrap(), true, false).unwrap();
        let address = first.local_addr().unwrap();
        assert!(listen(address, true, false).is_ok(), "another worker of ours");
        assert!(listen(address, false, false).is_err(), "the probe sees that the port is taken");
    }
}
