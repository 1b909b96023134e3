//! A new connection to an endpoint: a place under the limit, a socket, TLS.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use engine::ir::tls::UpstreamTransport;

use super::breaker::Permit;
use super::cluster::{ClusterState, Picked};
use super::host::{Host, Kind};
use super::outlier::Seen;
use crate::error::ProxyError;
use crate::net::{ClientAddress, Io, Source};
use crate::tls::client::{self, Inside};
use crate::tls::verify::Leaf;
use crate::workers::Worker;

/// A connection as it is after its handshake.
#[derive(Debug)]
pub struct Connection {
    /// Its bytes.
    pub io: Io,
    /// The server, if there is TLS.
    pub peer: Option<Arc<Leaf>>,
    /// The application protocol that was agreed on.
    pub alpn: Option<Vec<u8>>,
    /// Our address.
    pub local: SocketAddr,
    /// Counts the connection until dropped.
    pub counted: Counted,
}

/// A connection in the counts, until dropped.
#[derive(Debug)]
pub struct Counted {
    cluster: Rc<ClusterState>,
    /// The count of the endpoint, which must not live as long as its connections.
    of_host: Rc<Cell<u32>>,
    permit: Option<Permit>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.cluster.cells.cx_active.sub(1);
        self.of_host.set(self.of_host.get().saturating_sub(1));
        drop(self.permit.take());
        self.cluster.freed.notify_one();
    }
}

impl ClusterState {
    /// A place under the limit of connections; `None` when all are taken. An endpoint without any connection gets one all the same, as
    /// in Envoy: those of other endpoints (or workers) may stay idle for long, and a request to this one would wait for them.
    pub fn place(self: &Rc<Self>, host: &Host) -> Option<Counted> {
        let limit = self.config().settings.breakers.max_connections;
        let permit = self.common.breakers.connections.take(limit);
        if permit.is_none() && host.connections.get() > 0 {
            return None;
        }
        self.cells.cx_active.add(1);
        host.connections.set(host.connections.get() + 1);
        Some(Counted { cluster: self.clone(), of_host: host.connections.clone(), permit })
    }

    /// What a connection to this endpoint must be like. `host` is the request's host, `client` the address that the endpoint
    /// is to see, if it can answer it.
    pub fn kind(&self, worker: &Worker, picked: &Picked, host: Option<&str>, client: Option<ClientAddress>) -> Kind {
        let client = client.filter(|client| client.is_answered_by(picked.host.address));
        let transport = self.config().transport_for(picked.mesh_tls);
        match &transport {
            UpstreamTransport::Plaintext => Kind { transport, generation: 0, name: None, client },
            UpstreamTransport::Tls(tls) => {
                let name = host.filter(|_| tls.auto_sni).map(|host| engine::decide::host::without_port(host).into());
                Kind { generation: worker.generation(), name, transport, client }
            }
        }
    }
}

/// Connects, in the time that the cluster gives.
pub async fn connect(
    worker: &Worker,
    cluster: &Rc<ClusterState>,
    picked: &Picked,
    kind: &Kind,
    inside: Inside,
    counted: Counted,
) -> Result<Connection, ProxyError> {
    let config = cluster.config();
    let address = picked.host.address;
    cluster.cells.cx_total.add(1);
    let connecting = async {
        // As in Envoy, a client's address wins over the cluster's own setting.
        let own = || config.settings.bind_source.map_or(Source::Any, Source::Own);
        let (mut io, local) = worker
            .net
            .connect(address, kind.client.map_or_else(own, Source::Client))
            .await
            .map_err(|error| ProxyError::Connect { endpoint: address.to_string(), reason: plain(&error) })?;
        let (mut peer, mut alpn) = (None, None);
        if let UpstreamTransport::Tls(tls) = &kind.transport {
            let failed = |reason: String| ProxyError::UpstreamTls { endpoint: address.to_string(), reason };
            let identity = worker.identity();
            let make = || client::config(tls, inside, config.settings.alpn_override, identity.as_deref());
            let made = picked.host.tls_config(kind, inside, make).map_err(failed)?;
            let connected = client::connect(io, tls, made, kind.name.as_deref(), address).await.map_err(failed)?;
            io = connected.io;
            peer = Some(connected.peer);
            alpn = connected.alpn;
        }
        Ok((io, local, peer, alpn))
    };
    let outcome = match tokio::time::timeout(config.settings.connect_timeout, connecting).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProxyError::ConnectTimeout(address.to_string())),
    };
    match outcome {
        Ok((io, local, peer, alpn)) => Ok(Connection { io, peer, alpn, local, counted }),
        Err(error) => {
            cluster.cells.cx_connect_fail.add(1);
            cluster.saw(&picked.host, Seen::Failed);
            Err(error)
        }
    }
}

/// An error without its number: `Connection refused`.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}
