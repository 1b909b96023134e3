//! A relay between two streams, with half-close.
//!
//! What comes in: two streams. What goes out: how many bytes went each way and how it ended. Each direction keeps a
//! buffer of its own that grows with use, 1 -> 16 -> 256 KiB, and is dropped to the smallest when the direction is quiet, so that
//! an idle connection costs little.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The sizes a buffer grows through: a step up when a read fills it.
const SIZES: [usize; 3] = [1024, 16 * 1024, 256 * 1024];
/// Bytes moved in one turn before the other connections of the worker get theirs.
const TURN: usize = 1024 * 1024;

/// How a relay went.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from the first stream to the second.
    pub forth: u64,
    /// Bytes from the second stream to the first.
    pub back: u64,
    /// How it ended.
    pub end: End,
}

/// How a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both sides closed.
    Closed,
    /// Nothing moved for the idle timeout.
    Idle,
    /// The first stream failed.
    First(io::Error),
    /// The second stream failed.
    Second(io::Error),
}

/// Bytes moved so far, to be read while the relay runs.
#[derive(Debug, Default)]
pub struct Moved {
    /// From the first stream to the second.
    pub forth: Cell<u64>,
    /// From the second to the first.
    pub back: Cell<u64>,
}

#[derive(Debug)]
struct Direction {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    size: usize,
    /// Whether the last read filled the buffer.
    full: bool,
    unflushed: bool,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Copying,
    Closing,
    Done,
}

enum Failed {
    Read(io::Error),
    Write(io::Error),
}

/// Relays until both sides have closed, one fails, or nothing moves for `idle`.
pub async fn relay<A, B>(first: &mut A, second: &mut B, idle: Option<Duration>, moved: &Moved) -> Relayed
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut forth = Direction::new();
    let mut back = Direction::new();
    let mut deadline: Option<Pin<Box<Sleep>>> = idle.map(|idle| Box::pin(tokio::time::sleep(idle)));
    let mut seen = 0;
    let mut last = Instant::now();
    let end = poll_fn(|cx| {
        let there = forth.poll(cx, first, second, &moved.forth);
        let here = back.poll(cx, second, first, &moved.back);
        match (there, here) {
            (Poll::Ready(Err(Failed::Read(error))), _) | (_, Poll::Ready(Err(Failed::Write(error)))) => {
                return Poll::Ready(End::First(error));
            }
            (Poll::Ready(Err(Failed::Write(error))), _) | (_, Poll::Ready(Err(Failed::Read(error)))) => {
                return Poll::Ready(End::Second(error));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            _ => {}
        }
        let (Some(idle), Some(deadline)) = (idle, deadline.as_mut()) else { return Poll::Pending };
        let now_moved = moved.forth.get().wrapping_add(moved.back.get());
        if now_moved != seen {
            seen = now_moved;
            last = Instant::now();
        }
        // The timer is armed again only when it fires: not at every byte.
        while deadline.as_mut().poll(cx).is_ready() {
            let due = last + idle;
            if due <= Instant::now() {
                return Poll::Ready(End::Idle);
            }
            deadline.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await;
    Relayed { forth: moved.forth.get(), back: moved.back.get(), end }
}

impl Direction {
    fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, size: 0, full: false, unflushed: false, phase: Phase::Copying }
    }

    fn poll<A, B>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut A,
        to: &mut B,
        moved: &Cell<u64>,
    ) -> Poll<Result<(), Failed>>
    where
        A: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        let mut turn = 0;
        loop {
            match self.phase {
                Phase::Done => return Poll::Ready(Ok(())),
                Phase::Closing => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Failed::Write)?;
                    self.phase = Phase::Done;
                    self.buffer = Vec::new();
                }
                Phase::Copying if self.start < self.end => {
                    let pending = self.buffer.get(self.start..self.end).unwrap_or_default();
                    let wrote = ready!(Pin::new(&mut *to).poll_write(cx, pending)).map_err(Failed::Write)?;
                    if wrote == 0 {
                        return Poll::Ready(Err(Failed::Write(io::ErrorKind::WriteZero.into())));
                    }
                    self.start += wrote;
                    self.unflushed = true;
                    moved.set(moved.get().wrapping_add(wrote as u64));
                    turn += wrote;
                    if turn >= TURN {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Phase::Copying => match self.fill(cx, from) {
                    Poll::Ready(Ok(0)) => self.phase = Phase::Closing,
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Failed::Read(error))),
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Failed::Write)?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn fill<A: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, from: &mut A) -> Poll<io::Result<usize>> {
        let size = SIZES.get(self.size).copied().unwrap_or(SIZES[0]);
        if self.buffer.len() != size {
            self.buffer = vec![0; size];
        }
        let mut buffer = ReadBuf::new(&mut self.buffer);
        match Pin::new(from).poll_read(cx, &mut buffer) {
            Poll::Ready(outcome) => {
                outcome?;
                let read = buffer.filled().len();
                (self.start, self.end) = (0, read);
                self.full = read == size;
                if self.full && self.size + 1 < SIZES.len() {
                    self.size += 1;
                }
                Poll::Ready(Ok(read))
            }
            Poll::Pending => {
                (self.start, self.end) = (0, 0);
                if self.size > 0 {
                    self.buffer = Vec::new();
                    if !self.full {
                        self.size -= 1;
                    }
                }
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{End, Moved, relay};
    use crate::net::{Io, Stream};

    fn pair() -> (tokio::io::DuplexStream, Io) {
        let (near, far) = tokio::io::duplex(4096);
        (near, Io::new(Stream::Memory(far)))
    }

    #[tokio::test(start_paused = true)]
    async fn half_close_lets_the_answer_through() {
        let (mut client, mut first) = pair();
        let (mut server, mut second) = pair();
        let moved = Moved::default();
        let relaying = relay(&mut first, &mut second, Some(Duration::from_hours(1)), &moved);
        let (mut read, mut write) = tokio::io::split(&mut client);
        let ask = async {
            write.write_all(b"question").await.unwrap();
            write.shutdown().await.unwrap();
        };
        let listen = async {
            let mut answer = Vec::new();
            read.read_to_end(&mut answer).await.unwrap()
        };
        let serve = async {
            let mut question = Vec::new();
            server.read_to_end(&mut question).await.unwrap();
            assert_eq!(question, b"question");
            server.write_all(&vec![7; 1_000_000]).await.unwrap();
            server.shutdown().await.unwrap();
        };
        let (relayed, (), read, ()) = tokio::join!(relaying, ask, listen, serve);
        assert_eq!(read, 1_000_000);
        assert_eq!((relayed.forth, relayed.back), (8, 1_000_000));
        assert!(matches!(relayed.end, End::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let (mut client, mut first) = pair();
        let (_server, mut second) = pair();
        client.write_all(b"x").await.unwrap();
        let started = tokio::time::Instant::now();
        let relayed = relay(&mut first, &mut second, Some(Duration::from_hours(1)), &Moved::default()).await;
        assert!(matches!(relayed.end, End::Idle));
        assert_eq!(relayed.forth, 1);
        assert!(started.elapsed() >= Duration::from_hours(1));
    }
}
