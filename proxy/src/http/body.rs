//! Bodies: the request's on its way up, the response's on its way down.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::record::Record;
use super::replay::Attempt;
use crate::error::{Flag, ProxyError};
use crate::upstream::host::Active;
use crate::upstream::pool::Lease;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is sent to an endpoint.
#[derive(Debug)]
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// Bytes that are there already.
    Whole(Bytes),
    /// The client's body as it comes.
    Stream(Streamed),
    /// The client's body, kept for another attempt.
    Replay(Attempt),
}

/// How much of a client's body has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes.
    pub received: Cell<u64>,
    /// Whether it has been read to its end.
    pub ended: Cell<bool>,
}

impl Progress {
    /// So many bytes more have come.
    pub fn add(&self, bytes: usize) {
        self.received.set(self.received.get().wrapping_add(bytes as u64));
    }
}

/// A client's body, counted.
#[derive(Debug)]
pub struct Streamed {
    body: Incoming,
    progress: Rc<Progress>,
}

impl Streamed {
    /// Counts what comes of `body`.
    pub fn new(body: Incoming, progress: Rc<Progress>) -> Self {
        Self { body, progress }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Replay(attempt) => Pin::new(attempt).poll_frame(cx),
            Self::Stream(streamed) => {
                let frame = ready!(Pin::new(&mut streamed.body).poll_frame(cx));
                if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
                    streamed.progress.add(data.remaining());
                }
                if frame.is_none() || streamed.body.is_end_stream() {
                    streamed.progress.ended.set(true);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(streamed) => streamed.body.is_end_stream(),
            Self::Replay(attempt) => attempt.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(streamed) => streamed.body.size_hint(),
            Self::Replay(attempt) => attempt.size_hint(),
        }
    }
}

/// What is sent to a client.
#[derive(Debug)]
pub struct ResponseBody {
    content: Content,
    record: Option<Box<Record>>,
}

#[derive(Debug)]
enum Content {
    Own(Bytes),
    Relayed(Box<Relayed>),
}

#[derive(Debug)]
struct Relayed {
    body: Incoming,
    lease: Option<Lease>,
    /// The request counts as active at its endpoint until the response has ended.
    _active: Active,
    permit: Option<crate::upstream::breaker::Permit>,
    /// The request's body, if it has one: only when it has been read to its end is the connection free.
    progress: Option<Rc<Progress>>,
    deadline: Option<Deadline>,
    idle: Option<Idle>,
}

/// The time for the whole response. Its timer is made when it is first waited for: most responses are there at once.
#[derive(Debug)]
struct Deadline {
    at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn has_passed(&mut self, cx: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.at)));
        timer.as_mut().poll(cx).is_ready()
    }
}

/// The time between two pieces of a response, from when the next one is first waited for.
#[derive(Debug)]
struct Idle {
    after: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether a piece has come since the timer was set.
    came: bool,
}

impl Idle {
    fn has_passed(&mut self, cx: &mut Context<'_>) -> bool {
        if std::mem::take(&mut self.came) {
            let due = Instant::now() + self.after;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(due),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(due))),
            }
        }
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }
}

/// What an endpoint's response hangs on.
#[derive(Debug)]
pub struct Source {
    /// The connection.
    pub lease: Lease,
    /// The request's count at the endpoint.
    pub active: Active,
    /// The request's place under `http2MaxRequests`.
    pub permit: Option<crate::upstream::breaker::Permit>,
    /// The request's body, if it has one.
    pub progress: Option<Rc<Progress>>,
    /// The route's timeout.
    pub deadline: Option<Instant>,
    /// The stream's idle timeout.
    pub idle: Option<Duration>,
}

impl ResponseBody {
    /// An answer of our own.
    pub fn own(content: impl Into<Bytes>, record: Option<Box<Record>>) -> Self {
        let mut body = Self { content: Content::Own(content.into()), record };
        if body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// An endpoint's answer.
    pub fn relayed(body: Incoming, source: Source, record: Box<Record>) -> Self {
        let Source { lease, active, permit, progress, deadline, idle } = source;
        let deadline = deadline.map(|at| Deadline { at, timer: None });
        let idle = idle.map(|after| Idle { after, timer: None, came: true });
        let relayed = Relayed { body, lease: Some(lease), _active: active, permit, progress, deadline, idle };
        let mut body = Self { content: Content::Relayed(Box::new(relayed)), record: Some(record) };
        if body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The response has been read to its end.
    fn finish(&mut self) {
        if let Content::Relayed(relayed) = &mut self.content {
            relayed.permit = None;
            if let Some(lease) = relayed.lease.take()
                && relayed.progress.as_ref().is_none_or(|progress| progress.ended.get())
            {
                lease.done();
            }
        }
        if let Some(mut record) = self.record.take() {
            record.complete();
        }
    }

    fn fail(&mut self, error: &ProxyError) {
        if let Some(record) = &mut self.record
            && let Some(flag) = error.answer().flag
        {
            record.flags.set(flag);
        }
        if let Some(mut record) = self.record.take() {
            record.complete();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = self.get_mut();
        let frame = match &mut body.content {
            Content::Own(bytes) if bytes.is_empty() => None,
            Content::Own(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Content::Relayed(relayed) => match Pin::new(&mut relayed.body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    if let Some(idle) = &mut relayed.idle {
                        idle.came = true;
                    }
                    frame
                }
                Poll::Pending => {
                    let error = if relayed.deadline.as_mut().is_some_and(|deadline| deadline.has_passed(cx)) {
                        ProxyError::Timeout
                    } else if relayed.idle.as_mut().is_some_and(|idle| idle.has_passed(cx)) {
                        ProxyError::IdleTimeout
                    } else {
                        return Poll::Pending;
                    };
                    body.fail(&error);
                    return Poll::Ready(Some(Err(error.into())));
                }
            },
        };
        match frame {
            None => {
                body.finish();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                if let Some(record) = &mut body.record {
                    record.flags.set(Flag::UC);
                    record.details = "upstream_reset_after_response_started{connection_termination}".into();
                }
                body.fail(&ProxyError::UpstreamClosed(String::new()));
                Poll::Ready(Some(Err(error.into())))
            }
            Some(Ok(frame)) => {
                if let Some(record) = &mut body.record {
                    if let Some(data) = frame.data_ref() {
                        record.sent += data.remaining() as u64;
                    }
                    if let Some(trailers) = frame.trailers_ref() {
                        record.grpc_from(trailers);
                    }
                }
                if body.is_end_stream() || frame.is_trailers() {
                    body.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_empty(),
            Content::Relayed(relayed) => relayed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Relayed(relayed) => relayed.body.size_hint(),
        }
    }
}
