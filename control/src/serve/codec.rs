//! How the discovery service reads and writes messages.
//!
//! A response is written from the bytes that all proxies share, with the nonce beside them: prost would copy every
//! resource for every proxy first. A request is taken as bytes and decoded later, when there is a turn for it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Body as HttpBody, BoxFuture, Service, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use crate::push::resource::{field_len, put};
use crate::push::subscriber::{self, Protocol, format_nonce};

const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const STATE_OF_THE_WORLD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
/// A proxy that comes back names every resource that it holds: some 100 bytes each.
const MAX_REQUEST: usize = 16 * 1024 * 1024;

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
    /// How many bytes it has on the wire.
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

    /// Writes it out.
    pub(crate) fn encode(&self, buffer: &mut impl bytes::BufMut) {
        let Self(response) = self;
        let nonce = format_nonce(response.nonce);
        put(field::VERSION, nonce.as_bytes(), buffer);
        for resource in &response.resources {
            resource.encode(response.protocol, buffer);
        }
        put(field::TYPE_URL, response.kind.type_url().as_bytes(), buffer);
        put(field::NONCE, nonce.as_bytes(), buffer);
        for name in &response.removed {
            put(field::REMOVED, name.as_bytes(), buffer);
        }
    }
}

/// Frames out, bytes in.
#[derive(Clone, Copy, Default)]
pub(crate) struct SharedCodec;

impl Codec for SharedCodec {
    type Encode = Frame;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for SharedCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(frame.len());
        frame.encode(buffer);
        Ok(())
    }
}

impl Decoder for SharedCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// What a stream's frames come from.
pub(crate) type Frames = tokio_stream::wrappers::ReceiverStream<Result<Frame, Status>>;

/// The discovery service as the server of this crate implements it.
pub(crate) trait Discovery: Send + Sync + 'static {
    /// Serves a stream of either protocol.
    fn stream(
        self: Arc<Self>,
        protocol: Protocol,
        requests: Request<Streaming<Bytes>>,
    ) -> BoxFuture<Response<Frames>, Status>;
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

impl<D, B> Service<http::Request<B>> for DiscoveryServer<D>
where
    D: Discovery,
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let protocol = match request.uri().path() {
            DELTA => Protocol::Delta,
            STATE_OF_THE_WORLD => Protocol::StateOfTheWorld,
            path => {
                let status = Status::unimplemented(format!("there is no method {path}"));
                return Box::pin(async move { Ok(status.into_http()) });
            }
        };
        let method = Method { discovery: Arc::clone(&self.0), protocol };
        Box::pin(async move {
            let mut grpc = Grpc::new(SharedCodec).max_decoding_message_size(MAX_REQUEST);
            Ok(grpc.streaming(method, request).await)
        })
    }
}

struct Method<D> {
    discovery: Arc<D>,
    protocol: Protocol,
}

impl<D: Discovery> StreamingService<Bytes> for Method<D> {
    type Response = Frame;
    type ResponseStream = Frames;
    type Future = BoxFuture<Response<Frames>, Status>;

    fn call(&mut self, requests: Request<Streaming<Bytes>>) -> Self::Future {
        Arc::clone(&self.discovery).stream(self.protocol, requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::resource::tests::content;
    use crate::push::resource::{Kind, Resource};
    use prost::Message as _;
    use xds::types::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};

    #[test]
    fn a_frame_reads_as_the_message_it_stands_for() {
        let content = content(Kind::Cluster, "content");
        let frame = |protocol| {
            Frame(subscriber::Response {
                kind: Kind::Cluster,
                protocol,
                nonce: 7,
                resources: ["a", "b"].map(|name| Resource::new(name.into(), Arc::clone(&content))).to_vec(),
                removed: if protocol == Protocol::Delta { vec!["c".into()] } else { Vec::new() },
            })
        };
        let bytes = |frame: &Frame| {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            assert_eq!(bytes.len(), frame.len());
            bytes
        };
        let delta = DeltaDiscoveryResponse::decode(&*bytes(&frame(Protocol::Delta))).unwrap();
        assert_eq!((delta.nonce.as_str(), delta.type_url.as_str()), ("7", Kind::Cluster.type_url()));
        let names: Vec<_> = delta.resources.iter().map(|resource| resource.name.as_str()).collect();
        assert_eq!((names, delta.removed_resources), (vec!["a", "b"], vec!["c".to_owned()]));
        assert_eq!(delta.resources[0].resource.as_ref(), Some(&content.any));

        let world = DiscoveryResponse::decode(&*bytes(&frame(Protocol::StateOfTheWorld))).unwrap();
        assert_eq!((world.nonce.as_str(), world.version_info.as_str()), ("7", "7"));
        assert_eq!(
            (world.type_url.as_str(), world.resources),
            (Kind::Cluster.type_url(), vec![content.any.clone(), content.any.clone()])
        );
    }
}
