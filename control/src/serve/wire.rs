//! How the discovery service's messages go over the wire: gRPC's framing, written out.
//!
//! A codec of tonic's keeps the buffer of the largest message of a stream for as long as the stream lives; a thousand
//! quiet proxies would hold a quarter of a gigabyte of nothing. So a response is written piece by piece, from the
//! content that all proxies share, when the connection has room for it; and a request is read into a buffer that goes
//! away with it. It is decoded later, when there is a turn for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

use crate::push::resource::{field_len, put};
use crate::push::subscriber::{self, Protocol, format_nonce};

const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const STATE_OF_THE_WORLD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
/// A proxy that comes back names every resource that it holds: some 100 bytes each.
const MAX_REQUEST: usize = 16 * 1024 * 1024;
/// A message begins with whether it is compressed, and its length.
const PREFIX: usize = 5;
/// A response is written in pieces of about this size: one TLS record.
const PIECE: usize = 16 * 1024;

/// Fields of `DeltaDiscoveryResponse` and `DiscoveryResponse`; those that both have, have the same number.
mod field {
    /// `system_version_info`, `version_info`
    pub(super) const VERSION: u32 = 1;
    pub(super) const TYPE_URL: u32 = 4;
    pub(super) const NONCE: u32 = 5;
    /// Of the delta protocol only.
    pub(super) const REMOVED: u32 = 6;
}

/// A response as it leaves.
pub(crate) struct Frame(pub(crate) subscriber::Response);

impl Frame {
    /// How many bytes the message has.
    pub(crate) fn len(&self) -> usize {
        let Self(response) = self;
        let text = |tag, text: &str| field_len(tag, text.len());
        let nonce = format_nonce(response.nonce);
        let resources: usize = response.resources.iter().map(|resource| resource.encoded_len(response.protocol)).sum();
        let removed: usize = response.removed.iter().map(|name| text(field::REMOVED, name)).sum();
        resources
            + removed
            + text(field::VERSION, &nonce)
            + text(field::TYPE_URL, response.kind.type_url())
            + text(field::NONCE, &nonce)
    }
}

/// A frame on its way: how far it was written.
struct Writing {
    frame: Frame,
    /// Bytes that are left, prefix included.
    left: usize,
    begun: bool,
    /// The next resource.
    next: usize,
}

impl Writing {
    fn new(frame: Frame) -> Self {
        let left = PREFIX + frame.len();
        Self { frame, left, begun: false, next: 0 }
    }

    /// The next piece; `None` after the last.
    fn piece(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let Frame(response) = &self.frame;
        let nonce = format_nonce(response.nonce);
        let mut piece = BytesMut::with_capacity(self.left.min(PIECE));
        if !self.begun {
            self.begun = true;
            piece.put_u8(0); // not compressed
            piece.put_u32(u32::try_from(self.left - PREFIX).unwrap_or(u32::MAX));
            put(field::VERSION, nonce.as_bytes(), &mut piece);
        }
        while let Some(resource) = response.resources.get(self.next)
            && piece.len() < PIECE
        {
            resource.encode(response.protocol, &mut piece);
            self.next += 1;
        }
        if self.next == response.resources.len() && piece.len() < PIECE {
            put(field::TYPE_URL, response.kind.type_url().as_bytes(), &mut piece);
            put(field::NONCE, nonce.as_bytes(), &mut piece);
            for name in &response.removed {
                put(field::REMOVED, name.as_bytes(), &mut piece);
            }
        }
        self.left = self.left.saturating_sub(piece.len());
        Some(piece.freeze())
    }
}

/// Where a stream's task puts its frames; an error is its last word.
pub(crate) type Outgoing = mpsc::Sender<Result<Frame, Status>>;

/// The body of a response.
struct Frames {
    receiver: mpsc::Receiver<Result<Frame, Status>>,
    writing: Option<Writing>,
    ended: bool,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(piece) = self.writing.as_mut().and_then(Writing::piece) {
                return Poll::Ready(Some(Ok(http_body::Frame::data(piece))));
            }
            self.writing = None;
            if self.ended {
                return Poll::Ready(None);
            }
            let status = match std::task::ready!(self.receiver.poll_recv(cx)) {
                Some(Ok(frame)) => {
                    self.writing = Some(Writing::new(frame));
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            self.ended = true;
            let mut trailers = HeaderMap::new();
            if let Err(error) = status.add_header(&mut trailers) {
                tracing::debug!(%error, "a status cannot be said");
            }
            return Poll::Ready(Some(Ok(http_body::Frame::trailers(trailers))));
        }
    }
}

/// The messages of a request, one after the other.
pub(crate) struct Requests {
    body: Body,
    buffer: BytesMut,
}

impl Requests {
    fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message; `None` once the client has said all. Dropping the future loses nothing.
    pub(crate) async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(status)) => return Err(status),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::invalid_argument("the last message is not whole")),
            }
        }
    }

    /// A whole message out of what was read.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Err(Status::unimplemented("compressed messages are not supported"));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_REQUEST {
            return Err(Status::resource_exhausted(format!("a message of {length} bytes; at most {MAX_REQUEST}")));
        }
        if rest.len() < length {
            self.buffer.reserve(length - rest.len());
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new(); // the memory goes with the message
        }
        Ok(Some(message))
    }
}

/// The discovery service as the server of this crate implements it.
pub(crate) trait Discovery: Send + Sync + 'static {
    /// Serves a stream of either protocol, whose request had this head.
    fn stream(
        self: Arc<Self>,
        protocol: Protocol,
        head: http::request::Parts,
        requests: Requests,
        outgoing: Outgoing,
    ) -> BoxFuture<(), Status>;
}

/// Serves a [`Discovery`] on a tonic server.
pub(crate) struct DiscoveryServer<D>(Arc<D>);

impl<D> DiscoveryServer<D> {
    pub(crate) fn new(discovery: Arc<D>) -> Self {
        Self(discovery)
    }
}

impl<D> Clone for DiscoveryServer<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D> NamedService for DiscoveryServer<D> {
    const NAME: &'static str = SERVICE;
}

impl<D: Discovery> Service<http::Request<Body>> for DiscoveryServer<D> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let protocol = match request.uri().path() {
            DELTA => Protocol::Delta,
            STATE_OF_THE_WORLD => Protocol::StateOfTheWorld,
            path => {
                let status = Status::unimplemented(format!("there is no method {path}"));
                return Box::pin(async move { Ok(status.into_http()) });
            }
        };
        let discovery = Arc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            // One response is in flight on a stream, so one place is enough.
            let (outgoing, receiver) = mpsc::channel(1);
            if let Err(status) = discovery.stream(protocol, head, Requests::new(body), outgoing).await {
                return Ok(status.into_http());
            }
            let mut response = http::Response::new(Body::new(Frames { receiver, writing: None, ended: false }));
            let content_type = http::HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::resource::tests::content;
    use crate::push::resource::{Kind, Resource};
    use prost::Message as _;
    use xds::types::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};

    fn frame(protocol: Protocol, size: usize) -> Frame {
        let content = content(Kind::Cluster, &"x".repeat(size));
        Frame(subscriber::Response {
            kind: Kind::Cluster,
            protocol,
            nonce: 7,
            resources: ["a", "b"].map(|name| Resource::new(name.into(), Arc::clone(&content))).to_vec(),
            removed: if protocol == Protocol::Delta { vec!["c".into()] } else { Vec::new() },
        })
    }

    /// The message that the pieces make up, and how many there were.
    fn written(frame: Frame) -> (Vec<u8>, usize) {
        let len = frame.len();
        let mut writing = Writing::new(frame);
        let mut all = Vec::new();
        let mut pieces = 0;
        while let Some(piece) = writing.piece() {
            all.extend_from_slice(&piece);
            pieces += 1;
        }
        assert_eq!(all.len(), PREFIX + len);
        assert_eq!(all[..PREFIX], [&[0], &u32::try_from(len).unwrap().to_be_bytes()[..]].concat());
        (all.split_off(PREFIX), pieces)
    }

    #[test]
    fn a_frame_reads_as_the_message_it_stands_for() {
        for (size, expected) in [(10, 1), (PIECE - 100, 2), (PIECE, 3), (3 * PIECE, 3)] {
            let (bytes, pieces) = written(frame(Protocol::Delta, size));
            assert_eq!(pieces, expected, "{size}");
            let delta = DeltaDiscoveryResponse::decode(&*bytes).unwrap();
            assert_eq!((delta.nonce.as_str(), delta.type_url.as_str()), ("7", Kind::Cluster.type_url()));
            let names: Vec<_> = delta.resources.iter().map(|resource| resource.name.as_str()).collect();
            assert_eq!((names, delta.removed_resources), (vec!["a", "b"], vec!["c".to_owned()]));
            assert_eq!(delta.resources[0].resource.as_ref().map(|any| any.value.len()), Some(size));

            let (bytes, _) = written(frame(Protocol::StateOfTheWorld, size));
            let world = DiscoveryResponse::decode(&*bytes).unwrap();
            assert_eq!((world.nonce.as_str(), world.version_info.as_str()), ("7", "7"));
            assert_eq!((world.type_url.as_str(), world.resources.len()), (Kind::Cluster.type_url(), 2));
        }
    }

    fn requests(chunks: Vec<Vec<u8>>) -> Requests {
        let frames = chunks.into_iter().map(|chunk| Ok::<_, Status>(http_body::Frame::data(Bytes::from(chunk))));
        Requests::new(Body::new(http_body_util::StreamBody::new(futures::stream::iter(frames))))
    }

    #[tokio::test]
    async fn messages_are_read_however_they_were_cut() {
        let message = |text: &str| [&[0, 0, 0, 0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let whole = [message("first"), message(""), message("third")].concat();
        for size in 1..=whole.len() {
            let mut requests = requests(whole.chunks(size).map(<[u8]>::to_vec).collect());
            for expected in ["first", "", "third"] {
                assert_eq!(requests.message().await.unwrap().as_deref(), Some(expected.as_bytes()), "cut into {size}");
            }
            assert_eq!(requests.message().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        for (name, bytes, expected) in [
            ("cut short", vec![0, 0, 0, 0, 9, b'x'], tonic::Code::InvalidArgument),
            ("compressed", vec![1, 0, 0, 0, 1, b'x'], tonic::Code::Unimplemented),
            ("too long", vec![0, 255, 255, 255, 255], tonic::Code::ResourceExhausted),
        ] {
            assert_eq!(requests(vec![bytes]).message().await.unwrap_err().code(), expected, "{name}");
        }
    }
}
