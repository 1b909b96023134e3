//! What stops being HTTP: WebSocket and other upgrades of HTTP/1.1.

use std::rc::Rc;

use engine::ir::listener::HttpChain;
use engine::ir::route::Forward;
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{Method, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::Progress;
use super::record::Record;
use super::serve::Connection;
use crate::error::ProxyError;
use crate::listen::live::Ending;
use crate::tcp::relay::{Moved, relay};
use crate::upstream::host::Active;

/// Whether a request asks for an upgrade that is allowed.
pub fn wanted(parts: &Parts, chain: &HttpChain, route: &Forward) -> Result<bool, ProxyError> {
    if parts.method == Method::CONNECT {
        return Err(ProxyError::UpgradeRefused("CONNECT".into()));
    }
    if parts.version != Version::HTTP_11 {
        return Ok(false);
    }
    let named = parts.headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    if !named.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case("upgrade")) {
        return Ok(false);
    }
    let Some(protocol) = parts.headers.get(UPGRADE).and_then(|value| value.to_str().ok()) else { return Ok(false) };
    let protocol = protocol.to_ascii_lowercase();
    // HTTP/2 by upgrade is an offer, not a demand (RFC 9113 has done away with it): the request goes on without.
    if protocol == "h2c" || protocol.starts_with("tls/") {
        return Ok(false);
    }
    let by_route = route.upgrades.iter().find(|(name, _)| **name == *protocol).map(|(_, allowed)| *allowed);
    let allowed = by_route.unwrap_or_else(|| chain.upgrades.iter().any(|name| **name == *protocol));
    if allowed { Ok(true) } else { Err(ProxyError::UpgradeRefused(protocol)) }
}

/// Relays what both sides speak after the upgrade. The request's record ends with it.
pub fn start(
    connection: Rc<Connection>,
    client: OnUpgrade,
    server: OnUpgrade,
    active: Active,
    mut record: Box<Record>,
) {
    tokio::task::spawn_local(async move {
        let _active = active;
        let (client, server) = tokio::join!(client, server);
        let (Ok(client), Ok(server)) = (client, server) else { return };
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        let moved = Moved::default();
        let idle = connection.chain().stream_idle_timeout;
        tokio::select! {
            biased;
            _ = connection.entered.open.ends(Ending::Gracefully) => {}
            _ = relay(&mut client, &mut server, idle, &moved) => {}
        }
        record.body = Some(Rc::new(Progress { received: moved.forth, ended: true.into() }));
        record.sent = moved.back.get();
        record.complete();
    });
}
