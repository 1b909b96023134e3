//! Connections that have a client's address (`TPROXY`, Envoy's `original_src`).
//!
//! The address is none of this machine's, and the answers to it would leave: packets carry a mark, redirection copies it to
//! their connection and from there to the answers, and policy routing keeps what carries it here (see `redirect::plan`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

/// The ports that such connections come from: below those that clients take for themselves (Linux's `ip_local_port_range`). The
/// client's own connection has the same two addresses and the same destination port; with its source port too, the
/// kernel could not tell the two apart, and both would break.
const PORTS: Range<u16> = 16_384..32_768;
/// How many ports are tried.
const TRIES: u32 = 32;

/// A client's address, as the application is to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address.
    pub ip: IpAddr,
    /// The mark of packets; zero for none.
    pub mark: u32,
}

impl ClientAddress {
    /// Whether a server at this address could answer: the kernel lets nothing out from a loopback address to a foreign one.
    pub fn is_answered_by(&self, server: SocketAddr) -> bool {
        self.ip.is_ipv4() == server.is_ipv4() && !server.ip().is_loopback()
    }
}

/// Connects with a client's address.
pub(super) async fn connect(to: SocketAddr, client: ClientAddress) -> io::Result<TcpStream> {
    let mut tried = 1;
    loop {
        match once(to, client, fastrand::u16(PORTS)).await {
            // The port is somebody's who listens on it, or this very connection exists already.
            Err(error) if taken(&error) && tried < TRIES => tried += 1,
            outcome => return outcome,
        }
    }
}

fn taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

async fn once(to: SocketAddr, client: ClientAddress, port: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    transparent(&socket, to.is_ipv4())?;
    if client.mark != 0 {
        socket.set_mark(client.mark)?;
    }
    // A port may serve several connections, to different destinations.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(client.ip, port).into())?;
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

/// Lets a socket have an address that is none of this machine's.
pub(crate) fn transparent(socket: &Socket, ipv4: bool) -> io::Result<()> {
    let set = if ipv4 { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) };
    set.map_err(|error| {
        let text = format!("{error}: interception mode TPROXY takes the capability NET_ADMIN in the proxy's container");
        io::Error::new(error.kind(), text)
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{ClientAddress, PORTS, connect};

    #[test]
    fn a_server_must_be_able_to_answer() {
        for (client, server, expected) in [
            ("10.1.0.5", "10.1.0.6:80", true),
            ("10.1.0.6", "10.1.0.6:80", true),
            ("10.1.0.5", "127.0.0.1:80", false),
            ("10.1.0.5", "[fd00::6]:80", false),
            ("fd00::5", "[fd00::6]:80", true),
            ("fd00::5", "[::1]:80", false),
        ] {
            let client = ClientAddress { ip: client.parse().unwrap(), mark: 1 };
            assert_eq!(client.is_answered_by(server.parse().unwrap()), expected, "{client:?} {server}");
        }
    }

    #[tokio::test]
    async fn connections_have_the_address_and_none_of_the_clients_ports() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: a foreign address takes root");
            return;
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let client = ClientAddress { ip: "127.9.8.7".parse().unwrap(), mark: 0 };
        let mut kept = Vec::new();
        for _ in 0..100 {
            let stream = connect(to, client).await.expect("connected");
            let (accepted, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip(), client.ip);
            assert!(PORTS.contains(&peer.port()), "{peer}");
            kept.push((stream, accepted));
        }
        let refused: SocketAddr = {
            let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            free.local_addr().unwrap()
        };
        let error = connect(refused, client).await.expect_err("nobody listens");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
