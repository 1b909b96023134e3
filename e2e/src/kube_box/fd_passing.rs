//! Passing an open listener along a Unix socket.
//!
//! A listener made on the machine keeps listening on the machine's loopback even when a process in the box accepts
//! from it: that is how a browser reaches the gateway without a process of its own.
#![allow(unsafe_code)] // the kernel hands out a bare number; this is where it gets its owner

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Result, bail};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Sends `bytes`, which fit into one message, and `fd` beside them.
pub(crate) fn send(stream: &UnixStream, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &control[..0] } else { &control[..] };
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    if sent != bytes.len() {
        bail!("sent {sent} of {} bytes", bytes.len());
    }
    Ok(())
}

/// Receives what [`send`] sent.
pub(crate) fn receive(stream: &UnixStream, limit: usize) -> Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; limit];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let length = message.bytes;
    bytes.truncate(length);
    Ok((bytes, received))
}
