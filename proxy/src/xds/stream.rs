//! The responses of one stream, message by message.
//!
//! tonic's own reader keeps a buffer as large as the largest message for as long as the stream lives. That message is the first
//! configuration, which may be a megabyte, and a sidecar's stream lives for hours: this reader lets go of it.

use bytes::{Buf, BytesMut};
use http::{HeaderValue, Request, StatusCode, Version, header};
use http_body_util::BodyExt;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{
    Code, Status,
    body::Body,
    codec::{BufferSettings, EncodeBody},
    service::Interceptor,
    transport::Channel,
};
use tonic_prost::ProstEncoder;
use tower::{Service, ServiceExt};
use xds::types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::connect::Bearer;

const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// The largest message. The control plane sends far smaller ones; Envoy's control planes may not.
const LARGEST: usize = 256 << 20;
/// In front of each message: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const FRONT: usize = 1 + 4;

/// What the control plane sends.
#[derive(Debug)]
pub(super) struct Responses {
    body: Body,
    /// What has been read and not been taken.
    read: BytesMut,
}

/// Begins a stream with these requests.
pub(super) async fn open(
    mut channel: Channel,
    mut bearer: Bearer,
    requests: mpsc::UnboundedReceiver<DeltaDiscoveryRequest>,
) -> Result<Responses, Status> {
    let (metadata, _, ()) = bearer.call(tonic::Request::new(()))?.into_parts();
    let requests = UnboundedReceiverStream::new(requests).map(Ok);
    let encoded = EncodeBody::new_client(ProstEncoder::new(BufferSettings::default()), requests, None, None);
    let mut request = Request::new(Body::new(encoded));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static(METHOD);
    *request.headers_mut() = metadata.into_headers();
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));

    let failed = |error| Status::unavailable(format!("the connection ended: {error}"));
    let response = channel.ready().await.map_err(failed)?.call(request).await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(Status::unavailable(format!("it answered {}", response.status())));
    }
    refusal(response.headers())?;
    Ok(Responses { body: response.into_body(), read: BytesMut::new() })
}

impl Responses {
    /// The next message; `None` when the control plane has ended the stream. May be given up and asked again.
    pub(super) async fn message(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        loop {
            if let Some(message) = self.take()? {
                let decoded = DeltaDiscoveryResponse::decode(message);
                return decoded.map(Some).map_err(|error| Status::internal(format!("not a response: {error}")));
            }
            let Some(frame) = self.body.frame().await else {
                return if self.read.is_empty() { Ok(None) } else { Err(Status::internal("half a message")) };
            };
            let frame = frame?;
            match frame.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(frame) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        refusal(trailers)?;
                    }
                }
            }
        }
    }

    /// Takes a message out of what was read, if it is there as a whole; its memory goes with it.
    fn take(&mut self) -> Result<Option<BytesMut>, Status> {
        let mut rest = &*self.read;
        if rest.len() < FRONT {
            return Ok(None);
        }
        let compressed = rest.get_u8() != 0;
        let length = usize::try_from(rest.get_u32()).unwrap_or(usize::MAX);
        if compressed {
            return Err(Status::unimplemented("a compressed message, which was not asked for"));
        }
        if length > LARGEST {
            return Err(Status::out_of_range(format!("a message of {length} bytes; {LARGEST} is the most")));
        }
        if rest.len() < length {
            let missing = length - rest.len();
            self.read.reserve(missing);
            return Ok(None);
        }
        let next = BytesMut::from(rest.get(length..).unwrap_or_default());
        let mut message = std::mem::replace(&mut self.read, next);
        message.truncate(FRONT + length);
        message.advance(FRONT);
        Ok(Some(message))
    }
}

/// What headers or trailers say went wrong.
fn refusal(headers: &http::HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}
