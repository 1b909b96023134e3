//! Whether redirection is in force: what `istio-validation` asks where a CNI plugin was to set it up.
//!
//! A pod that starts without redirection would send and take its traffic past the proxy, in plaintext and past every
//! policy. So a connection is made to an address of loopback on which nobody listens. Redirected, it arrives at the
//! inbound port, where we listen: the proxy's own user is the one whose calls to the pod itself go there (see `plan`), and
//! that is the user that `istio-validation` runs as. Not redirected, it is refused.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// Between two looks at the listeners.
const PAUSE: Duration = Duration::from_millis(5);

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// Where the connection goes: nobody may listen there.
    pub(crate) target: SocketAddr,
    /// The ports to which connections are redirected.
    pub(crate) redirected: [u16; 2],
    /// How long it may take.
    pub(crate) timeout: Duration,
}

impl Probe {
    /// Istio's address for it, by the family of the pod's addresses: 127.0.0.6, or ::6 where there is no IPv4.
    pub(crate) fn new(ipv4: bool, port: u16, redirected: [u16; 2], timeout: Duration) -> Self {
        let address: IpAddr =
            if ipv4 { Ipv4Addr::new(127, 0, 0, 6).into() } else { Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into() };
        Self { target: SocketAddr::new(address, port), redirected, timeout }
    }
}

/// Why redirection does not count as in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unredirected {
    #[error("cannot listen on port {port} to look for redirected connections: {source}")]
    Listen { port: u16, source: std::io::Error },
    #[error(
        "a connection to {target} was not redirected ({source}): the CNI plugin that is to redirect this pod did not run; see its logs on the node"
    )]
    Connect { target: SocketAddr, source: std::io::Error },
    #[error("a connection to {target} went somewhere else than to the proxy's ports: another redirection is in force")]
    Elsewhere { target: SocketAddr },
    #[error("a redirected connection says that it was for {found}, not for {target}: redirection is not ours")]
    Destination { target: SocketAddr, found: String },
}

/// Tries it.
pub(crate) fn run(probe: &Probe) -> Result<(), Unredirected> {
    let listeners = probe
        .redirected
        .map(|port| listen(probe.target.is_ipv4(), port).map_err(|source| Unredirected::Listen { port, source }));
    let [inbound, outbound] = listeners;
    let listeners = [inbound?, outbound?];
    let target = probe.target;
    let _connection = TcpStream::connect_timeout(&target, probe.timeout)
        .map_err(|source| Unredirected::Connect { target, source })?;
    let deadline = Instant::now() + probe.timeout;
    while Instant::now() < deadline {
        if let Some(stream) = listeners.iter().find_map(accepted) {
            return match original(&stream) {
                Some(found) if found == target => Ok(()),
                found => {
                    let found = found.map_or_else(|| "nowhere".to_owned(), |found| found.to_string());
                    Err(Unredirected::Destination { target, found })
                }
            };
        }
        std::thread::sleep(PAUSE);
    }
    Err(Unredirected::Elsewhere { target })
}

fn listen(ipv4: bool, port: u16) -> std::io::Result<TcpListener> {
    let (domain, any): (_, IpAddr) =
        if ipv4 { (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()) } else { (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()) };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(any, port).into())?;
    socket.listen(8)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accepted(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept() {
        Ok((stream, _)) => Some(stream),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => {
            eprintln!("istio-iptables: cannot accept a connection: {error}");
            None
        }
    }
}

/// Where the connection was going before it was redirected.
fn original(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let address = if stream.local_addr().ok()?.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    address.ok()?.as_socket()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Probe, Unredirected, run};

    /// Two ports that are free now.
    fn free() -> [u16; 2] {
        let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
        listeners.map(|listener| listener.local_addr().expect("an address").port())
    }

    #[test]
    fn without_redirection_it_fails_and_says_what_to_do() {
        let [port, inbound] = free();
        let [outbound, _] = free();
        let probe = Probe::new(true, port, [inbound, outbound], Duration::from_secs(1));
        let error = run(&probe).expect_err("nobody redirects here");
        assert!(matches!(error, Unredirected::Connect { .. }), "{error}");
        let expected = format!("a connection to 127.0.0.6:{port} was not redirected (Connection refused");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[test]
    fn a_connection_that_somebody_else_takes_is_not_redirected() {
        let other = std::net::TcpListener::bind("127.0.0.6:0").expect("a port");
        let [inbound, outbound] = free();
        let port = other.local_addr().expect("an address").port();
        let probe = Probe::new(true, port, [inbound, outbound], Duration::from_millis(50));
        assert!(matches!(run(&probe), Err(Unredirected::Elsewhere { .. })));
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
        let [port, outbound] = free();
        let inbound = taken.local_addr().expect("an address").port();
        let error = run(&Probe::new(true, port, [inbound, outbound], Duration::from_secs(1))).expect_err("taken");
        assert!(error.to_string().starts_with(&format!("cannot listen on port {inbound}")), "{error}");
    }
}
