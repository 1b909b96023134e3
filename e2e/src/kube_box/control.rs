//! How the harness speaks to a box's init: one JSON request and one JSON reply a connection, on `init.sock`.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};

use super::fd_passing;
use super::layout::Layout;
use super::part::Part;

/// Longer than any request or reply.
pub(crate) const MESSAGE_LIMIT: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    Status,
    /// SIGKILL; the part comes back after a second, as under any service manager.
    Kill(Part),
    /// SIGKILL, and it stays away.
    Stop(Part),
    Start(Part),
    Pause(Part),
    Resume(Part),
    /// Serve the listener that comes along (or the one already there for `listen`) by connecting to `target`.
    Forward(Forward),
}

/// A listener on the machine's loopback and where in the box it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The address on the machine.
    pub listen: SocketAddr,
    /// The address inside the box.
    pub target: SocketAddr,
}

pub(crate) type Reply = Result<Status, String>;

/// What a box's init knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// Whether the API server has been ready once.
    pub api_server_seen_ready: bool,
    /// Every part.
    pub parts: Vec<PartStatus>,
    /// The forwards from the machine into the box.
    pub forwards: Vec<Forward>,
}

impl Status {
    /// The status of one part.
    pub fn part(&self, part: Part) -> Option<&PartStatus> {
        self.parts.iter().find(|status| status.part == part)
    }
}

/// One part's state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartStatus {
    /// Which part.
    pub part: Part,
    /// What it is doing.
    pub state: PartState,
    /// How often it was started.
    pub starts: u32,
    /// How it ended the last time, if it did.
    pub last_exit: Option<String>,
}

/// What a part is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartState {
    /// Held back until the API server is ready.
    Held,
    /// Running.
    Running,
    /// Stopped by SIGSTOP.
    Paused,
    /// Ended; about to be started again.
    Restarting,
    /// Ended on request; stays away until started.
    Stopped,
}

/// Sends `request`, with `listener` if it takes one, and returns the status after it together with the init's process
/// id as seen from here.
pub(crate) fn call(layout: &Layout, request: Request, listener: Option<BorrowedFd<'_>>) -> Result<(Status, i32)> {
    let socket = layout.init_socket();
    let talk = || -> Result<(Reply, i32)> {
        let mut stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let init = getsockopt(&stream, PeerCredentials)?.pid();
        fd_passing::send(&stream, &serde_json::to_vec(&request)?, listener)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        Ok((serde_json::from_slice(&reply)?, init))
    };
    let (reply, init) =
        talk().with_context(|| format!("box {}: speak to its init at {}", layout.name(), socket.display()))?;
    let status = reply.map_err(|refusal| anyhow!("box {}: {refusal}", layout.name()))?;
    Ok((status, init))
}

/// The init's side: reads one request, lets `answer` act on it, writes the reply.
pub(crate) fn serve_one(
    mut stream: UnixStream,
    answer: impl FnOnce(Request, Option<std::os::fd::OwnedFd>) -> Reply,
) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (bytes, listener) = fd_passing::receive(&stream, MESSAGE_LIMIT)?;
    let reply = match serde_json::from_slice(&bytes) {
        Ok(request) => answer(request, listener),
        Err(error) => Err(format!("not a request: {error}")),
    };
    stream.write_all(&serde_json::to_vec(&reply)?)?;
    Ok(())
}
