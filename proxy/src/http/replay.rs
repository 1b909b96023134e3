//! A request body that can be sent again.
//!
//! Chunks are kept as they pass, up to a limit. As long as the limit is not passed, another attempt can begin at the start; it reads
//! what was kept, then goes on with the client's body.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::Progress;

/// The most body bytes kept for another attempt, as Envoy's `per_request_buffer_limit_bytes` does in Istio's sidecars by default.
pub const LIMIT: usize = 64 * 1024;

/// A body and what has been read of it.
#[derive(Debug)]
pub struct Replay {
    state: RefCell<State>,
    /// How many bytes the whole body has, if that is known beforehand.
    length: Option<u64>,
    progress: Rc<Progress>,
}

#[derive(Debug)]
struct State {
    body: Incoming,
    kept: Vec<Bytes>,
    size: usize,
    trailers: Option<HeaderMap>,
    overflowed: bool,
    /// Goes up with each attempt; an attempt that is not the last one reads no more.
    attempt: u32,
}

/// One attempt's view of the body.
#[derive(Debug)]
pub struct Attempt {
    replay: Rc<Replay>,
    number: u32,
    position: usize,
    /// Bytes that this attempt was given.
    given: u64,
    finished: bool,
}

/// An attempt that was given up.
#[derive(Debug, thiserror::Error)]
#[error("this attempt was given up")]
pub struct GivenUp;

impl Replay {
    /// Keeps what passes of `body`.
    pub fn new(body: Incoming, progress: Rc<Progress>) -> Rc<Self> {
        let length = body.size_hint().exact();
        let state = State { body, kept: Vec::new(), size: 0, trailers: None, overflowed: false, attempt: 0 };
        Rc::new(Self { state: RefCell::new(state), length, progress })
    }

    /// Whether another attempt can begin at the start.
    pub fn can_repeat(&self) -> bool {
        !self.state.borrow().overflowed
    }

    /// The body for another attempt; earlier ones stop reading.
    pub fn attempt(self: &Rc<Self>) -> Attempt {
        let mut state = self.state.borrow_mut();
        state.attempt += 1;
        Attempt { replay: self.clone(), number: state.attempt, position: 0, given: 0, finished: false }
    }
}

impl Body for Attempt {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let attempt = self.get_mut();
        if attempt.finished {
            return Poll::Ready(None);
        }
        let mut state = attempt.replay.state.borrow_mut();
        if state.attempt != attempt.number {
            return Poll::Ready(Some(Err(GivenUp.into())));
        }
        if let Some(chunk) = state.kept.get(attempt.position) {
            attempt.position += 1;
            attempt.given += chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if attempt.replay.progress.ended.get() {
            attempt.finished = true;
            return Poll::Ready(state.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = match ready!(Pin::new(&mut state.body).poll_frame(cx)) {
            None => {
                attempt.replay.progress.ended.set(true);
                attempt.finished = true;
                return Poll::Ready(None);
            }
            Some(frame) => frame?,
        };
        if state.body.is_end_stream() {
            attempt.replay.progress.ended.set(true);
        }
        match frame.into_data() {
            Ok(chunk) => {
                attempt.replay.progress.add(chunk.len());
                attempt.given += chunk.len() as u64;
                if !state.overflowed {
                    if state.size + chunk.len() > LIMIT {
                        state.overflowed = true;
                        state.kept = Vec::new();
                        attempt.position = 0;
                    } else {
                        state.size += chunk.len();
                        state.kept.push(chunk.clone());
                        attempt.position += 1;
                    }
                }
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Err(frame) => {
                attempt.finished = true;
                attempt.replay.progress.ended.set(true);
                state.trailers = frame.trailers_ref().cloned();
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.finished {
            return true;
        }
        let state = self.replay.state.borrow();
        self.replay.progress.ended.get() && self.position >= state.kept.len() && state.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.replay
            .length
            .map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(self.given)))
    }
}
