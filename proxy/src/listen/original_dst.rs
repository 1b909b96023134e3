//! Where a redirected connection was going.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The original destination that conntrack remembers for a redirected connection; `None` if there is none. Both options are
/// read: a dual-stack socket carries IPv4 connections too.
pub(crate) fn of(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let v4 = || socket.original_dst_v4().ok().and_then(|address| address.as_socket());
    let v6 = || socket.original_dst_v6().ok().and_then(|address| address.as_socket());
    match stream.local_addr().ok()?.ip().to_canonical() {
        std::net::IpAddr::V4(_) => v4().or_else(v6),
        std::net::IpAddr::V6(_) => v6().or_else(v4),
    }
}
