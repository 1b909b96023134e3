//! The network as connection code sees it: one byte stream, [`Io`], and one seam, [`Net`].
//!
//! What comes in: addresses. What goes out: streams. A stream remembers bytes that were read ahead of their reader (a
//! sniffed protocol's first bytes), so nobody has to peek at a socket. In tests the network is memory.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::listen::original_dst;

mod memory;
mod transparent;

pub use memory::MemoryNet;
pub use transparent::ClientAddress;
pub(crate) use transparent::transparent;

/// How many bytes one read-ahead asks for; a ClientHello with a post-quantum key share is about 1.7 KB.
const READ_AHEAD: usize = 2048;

/// A byte stream: what was read ahead of its reader, then the stream itself.
#[derive(Debug)]
pub struct Io {
    ahead: BytesMut,
    stream: Stream,
}

/// The kinds of stream there are.
#[derive(Debug)]
pub enum Stream {
    /// A TCP socket.
    Tcp(TcpStream),
    /// TLS over another stream, as client or as server.
    Tls(Box<tokio_rustls::TlsStream<Io>>),
    /// Memory: the test network.
    Memory(DuplexStream),
}

impl Io {
    /// A stream of which nothing has been read yet.
    pub fn new(stream: Stream) -> Self {
        Self { ahead: BytesMut::new(), stream }
    }

    /// TLS after its handshake.
    pub fn tls(stream: impl Into<tokio_rustls::TlsStream<Io>>) -> Self {
        Self::new(Stream::Tls(Box::new(stream.into())))
    }

    /// The bytes that were read ahead and that the next read gives first.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// The stream below.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Reads more bytes ahead and says how many came; 0 is the end of the stream. Nothing is lost if this is dropped.
    pub async fn read_ahead(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read_ahead(cx)).await
    }

    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.ahead.len();
        self.ahead.resize(before + READ_AHEAD, 0);
        let (_, fresh) = self.ahead.split_at_mut(before);
        let mut buffer = ReadBuf::new(fresh);
        let outcome = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        let read = buffer.filled().len();
        self.ahead.truncate(before + read);
        ready!(outcome)?;
        Poll::Ready(Ok(read))
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        if io.ahead.is_empty() {
            return Pin::new(&mut io.stream).poll_read(cx, buffer);
        }
        let take = io.ahead.len().min(buffer.remaining());
        buffer.put_slice(io.ahead.get(..take).unwrap_or_default());
        io.ahead.advance(take);
        if io.ahead.is_empty() {
            io.ahead = BytesMut::new(); // an idle connection keeps no buffer
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Tls(boxed) => {
                let $stream = boxed.as_mut();
                $call
            }
            Stream::Memory($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, data))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, data))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Memory(stream) => stream.is_write_vectored(),
        }
    }
}

/// A connection that a listener took.
#[derive(Debug)]
pub struct Accepted {
    /// Its bytes.
    pub io: Io,
    /// Who connected.
    pub peer: SocketAddr,
    /// The address that the connection arrived at.
    pub local: SocketAddr,
    /// Where it was going before redirection; `None` if it was not redirected.
    pub original: Option<SocketAddr>,
}

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket.
    Tcp(tokio::net::TcpListener),
    /// The test network.
    Memory(memory::Backlog),
}

impl Listener {
    /// Waits for the next connection.
    pub async fn accept(&mut self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Requests and responses are written whole: waiting for more to fill a segment only adds latency.
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                let original = original_dst::of(&stream).filter(|original| *original != local);
                let (peer, local) = (unmapped(peer), unmapped(local));
                Ok(Accepted { io: Io::new(Stream::Tcp(stream)), peer, local, original: original.map(unmapped) })
            }
            Self::Memory(backlog) => backlog.accept().await,
        }
    }
}

/// An IPv4 address that a dual-stack socket shows as `::ffff:a.b.c.d` is the IPv4 address.
pub(crate) fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Where the other end sees a connection come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Wherever the kernel takes it from.
    #[default]
    Any,
    /// An address of this machine.
    Own(IpAddr),
    /// A client's address.
    Client(ClientAddress),
}

/// The network.
#[derive(Clone, Debug)]
pub enum Net {
    /// The host's.
    Host,
    /// Memory: a test's.
    Memory(MemoryNet),
}

impl Net {
    /// Connects to an address, from a given source address if one is set. The caller bounds the time.
    pub async fn connect(&self, to: SocketAddr, from: Source) -> io::Result<(Io, SocketAddr)> {
        match self {
            Self::Host => {
                let stream = match from {
                    Source::Client(client) => transparent::connect(to, client).await?,
                    Source::Own(source) if source.is_ipv4() == to.is_ipv4() => {
                        let socket = socket_to(to)?;
                        // The port is chosen at connect, when the destination is known: the whole range for every one.
                        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
                        socket.bind(SocketAddr::new(source, 0))?;
                        socket.connect(to).await?
                    }
                    Source::Own(_) | Source::Any => socket_to(to)?.connect(to).await?,
                };
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Ok((Io::new(Stream::Tcp(stream)), local))
            }
            Self::Memory(net) => net.connect(to, from),
        }
    }

    /// Resolves a name to its addresses, IPv4 first.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Host => {
                let mut found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
                found.sort_by_key(|address| !address.is_ipv4());
                found.dedup();
                Ok(found)
            }
            Self::Memory(net) => net.resolve(host, port),
        }
    }
}

fn socket_to(to: SocketAddr) -> io::Result<TcpSocket> {
    if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}
