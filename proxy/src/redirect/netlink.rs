//! Netlink: messages, the transaction that carries those of nftables (either all of it takes effect or nothing does), and
//! requests one by one, for routing.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};

use super::Error;

const SUBSYSTEM_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NLMSG_ERROR: u16 = 2;

const REQUEST: u16 = 0x01;
const ACKNOWLEDGE: u16 = 0x04;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Set in the type of an attribute that holds attributes.
const NESTED: u16 = 0x8000;

const HEADER: usize = 16;

/// One message, with a description for errors.
pub(crate) struct Message {
    kind: u16,
    flags: u16,
    /// The header of its family, then attributes.
    payload: Vec<u8>,
    description: String,
}

impl Message {
    /// A message of nftables.
    pub(crate) fn new(kind: u16, family: u8, description: String) -> Self {
        let kind = SUBSYSTEM_NFTABLES << 8 | kind;
        Self { kind, flags: CREATE | APPEND, payload: family_header(family, 0), description }
    }

    /// A message of routing. The length of `header` is a multiple of four.
    pub(crate) fn routing(kind: u16, flags: u16, header: &[u8]) -> Self {
        Self { kind, flags, payload: header.to_vec(), description: String::new() }
    }

    /// Says what it is, for errors.
    pub(crate) fn describe(&mut self, description: String) {
        self.description = description;
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.payload.extend_from_slice(value);
        self.close(start);
    }

    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.payload.extend_from_slice(value.as_bytes());
        self.payload.push(0);
        self.close(start);
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Routing has its numbers in the machine's order, nftables in the network's.
    pub(crate) fn ne32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn nested(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NESTED);
        write(self);
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.payload.len();
        self.payload.extend_from_slice(&[0, 0]);
        self.payload.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        // An attribute of ours is a rule's worth of expressions at most: far below 64 KiB.
        let length = u16::try_from(self.payload.len() - start).unwrap_or(u16::MAX);
        self.payload[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.payload.resize(self.payload.len().next_multiple_of(4), 0);
    }
}

/// Messages that take effect together.
#[derive(Default)]
pub(crate) struct Transaction {
    messages: Vec<Message>,
}

impl Transaction {
    pub(crate) fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// The bytes on the wire. Sequence numbers are the messages' positions, the opening message being 0.
    fn encode(&self) -> Vec<u8> {
        let mut wire = Vec::new();
        frame(&mut wire, BATCH_BEGIN, REQUEST, 0, &family_header(0, SUBSYSTEM_NFTABLES));
        for (sequence, message) in (1..).zip(&self.messages) {
            frame(&mut wire, message.kind, REQUEST | ACKNOWLEDGE | message.flags, sequence, &message.payload);
        }
        let end = u32::try_from(self.messages.len()).unwrap_or(u32::MAX).saturating_add(1);
        frame(&mut wire, BATCH_END, REQUEST, end, &family_header(0, SUBSYSTEM_NFTABLES));
        wire
    }
}

/// `struct nfgenmsg`.
fn family_header(family: u8, resource: u16) -> Vec<u8> {
    let [high, low] = resource.to_be_bytes();
    vec![family, 0, high, low]
}

fn frame(wire: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: &[u8]) {
    let length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    wire.extend_from_slice(&length.to_ne_bytes());
    wire.extend_from_slice(&kind.to_ne_bytes());
    wire.extend_from_slice(&flags.to_ne_bytes());
    wire.extend_from_slice(&sequence.to_ne_bytes());
    wire.extend_from_slice(&0u32.to_ne_bytes());
    wire.extend_from_slice(payload);
}

/// Writes the transaction to the kernel of the current network namespace and waits for its answer.
pub(crate) fn commit(transaction: &Transaction) -> Result<(), Error> {
    let socket = connect(SockProtocol::NetlinkNetFilter)?;
    // The kernel answers each message in turn; if it refuses one it still reads the rest and then undoes all.
    let refused = exchange(&socket, &transaction.encode(), transaction.messages.len())?;
    let Some((sequence, source)) = refused else { return Ok(()) };
    let index = (sequence as usize).checked_sub(1);
    let message = index.and_then(|index| transaction.messages.get(index));
    Err(Error::Refused {
        message: message.map_or_else(|| "batch".into(), |message| message.description.clone()),
        source,
    })
}

/// Sends one message of routing to the kernel of the current network namespace and waits for its answer.
pub(crate) fn request(message: &Message) -> Result<(), Error> {
    let socket = connect(SockProtocol::NetlinkRoute)?;
    let mut wire = Vec::new();
    frame(&mut wire, message.kind, REQUEST | ACKNOWLEDGE | message.flags, 1, &message.payload);
    match exchange(&socket, &wire, 1)? {
        None => Ok(()),
        // It is there already, and was to be made only if it was not.
        Some((_, error)) if message.flags & EXCLUSIVE != 0 && error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Some((_, source)) => Err(Error::Unrouted { command: message.description.clone(), source }),
    }
}

/// Sends what is on the wire, and gives the first refusal: its sequence number and the error.
fn exchange(socket: &OwnedFd, wire: &[u8], mut awaited: usize) -> Result<Option<(u32, io::Error)>, Error> {
    sendto(socket.as_raw_fd(), wire, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(io::Error::from)?;
    let mut refused = None;
    let mut buffer = vec![0u8; 64 << 10];
    while awaited > 0 {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(io::Error::from)?;
        for (sequence, code) in answers(&buffer[..length]) {
            awaited = awaited.saturating_sub(1);
            if code != 0 && refused.is_none() {
                refused = Some((sequence, io::Error::from_raw_os_error(-code)));
            }
        }
    }
    Ok(refused)
}

fn connect(protocol: SockProtocol) -> Result<OwnedFd, Error> {
    let open = || -> nix::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        setsockopt(&socket, sockopt::SndBuf, &(1 << 20))?;
        setsockopt(&socket, sockopt::RcvBuf, &(1 << 20))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(10, 0))?;
        Ok(socket)
    };
    Ok(open().map_err(io::Error::from)?)
}

/// The (sequence number, error number) of each answer in a datagram; 0 means done.
fn answers(datagram: &[u8]) -> Vec<(u32, i32)> {
    let word = |at: usize| datagram.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let half = |at: usize| datagram.get(at..at + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
    let mut answers = Vec::new();
    let mut at = 0;
    while let (Some(length), Some(kind), Some(sequence)) = (word(at), half(at + 4), word(at + 8)) {
        let length = u32::from_ne_bytes(length) as usize;
        if length < HEADER {
            break;
        }
        if let (NLMSG_ERROR, Some(code)) = (u16::from_ne_bytes(kind), word(at + HEADER)) {
            answers.push((u32::from_ne_bytes(sequence), i32::from_ne_bytes(code)));
        }
        at += length.next_multiple_of(4);
    }
    answers
}
