//! Entering a box's network namespace.
//!
//! `setns(2)` moves one thread. A socket belongs to the namespace of the thread that made it, and keeps working from
//! any thread afterwards; so a connection into the box needs a visit there only to make its socket.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpSocket, TcpStream};

use super::DEADLINE;

/// An open handle on a network namespace. It keeps the namespace alive, not the processes in it.
#[derive(Debug, Clone)]
pub struct NetworkNamespace(Arc<File>);

impl NetworkNamespace {
    /// The network namespace of process `pid`.
    pub fn of_process(pid: i32) -> Result<NetworkNamespace> {
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).with_context(|| format!("open {path}"))?;
        Ok(NetworkNamespace(Arc::new(file)))
    }

    /// The namespace's number, by which `/proc/<pid>/ns/net` shows who is in it.
    pub fn inode(&self) -> Result<u64> {
        Ok(self.0.metadata().context("stat the network namespace")?.ino())
    }

    fn enter(&self) -> io::Result<()> {
        setns(&*self.0, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it. Threads that `work` starts are
    /// inside too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            // `work` may be a whole scenario, whose futures are large in a debug build: a main thread's stack.
            let thread = std::thread::Builder::new().stack_size(8 * 1024 * 1024);
            let inside = thread.spawn_scoped(scope, || self.enter().map(|()| work())).context("start a thread")?;
            match inside.join() {
                Ok(done) => done.context("enter the box's network namespace (is this root?)"),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A tokio runtime whose worker and blocking threads are all inside. `Runtime::block_on` polls on the calling
    /// thread, which is not: call it within [`run`](Self::run), or spawn.
    pub fn runtime(&self) -> Result<tokio::runtime::Runtime> {
        // Threads inherit the namespace of the thread that starts them: this one starts the workers, and those start
        // the blocking threads.
        self.run(|| {
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("in-box").enable_all().build()
        })?
        .context("build a runtime")
    }

    /// Connects to `address` as seen from inside. Works on any runtime.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.socket(address)?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends an HTTP/1.1 request to `address` as seen from inside, on a connection of its own.
    pub async fn http(&self, address: SocketAddr, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let exchange = async {
            let stream = self.connect(address).await?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let response = sender.send_request(request.map(Full::new)).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            connection.abort();
            anyhow::Ok(Response::from_parts(head, body))
        };
        let limited = tokio::time::timeout(DEADLINE, exchange).await;
        limited.with_context(|| format!("HTTP to {address}: no answer"))?.with_context(|| format!("HTTP to {address}"))
    }

    fn socket(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        // A thread costs some 30 microseconds: nothing beside the handshake, and no worker has to change namespaces.
        let made = self.run(|| if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() });
        made.map_err(|error| io::Error::other(format!("{error:#}")))?
    }
}
