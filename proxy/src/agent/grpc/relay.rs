//! The application's way to the control plane: what comes in on a socket goes on over the pod's own mutual TLS.
//!
//! The application says who it is in its node; whether that is true the control plane judges by our certificate. Only the
//! discovery service is passed on: the certificate service would sign whatever the application asks for.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tonic::service::Interceptor as _;
use tonic::{Status, body::Body};
use tower::{Service as _, ServiceExt as _};

use crate::tls::identity::Identity;
use crate::xds::connect::ControlPlane;

const SERVICE: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/";
/// gRPC opens a connection for each target that the application dials.
const MOST_CONNECTIONS: usize = 1024;
/// An application that does not answer a ping for so long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Streams that are passed on.
#[derive(Debug, Default)]
pub struct Streams {
    /// How many are open now.
    pub open: AtomicU64,
}

/// Passes streams on.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Where to.
    pub control_plane: ControlPlane,
    /// Our certificate.
    pub identity: watch::Receiver<Option<Arc<Identity>>>,
    /// What is open.
    pub streams: Arc<Streams>,
}

/// Listens on a socket in the file system, in the place of one that an earlier agent left.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // The application runs as a user that we do not know; who has the volume may connect.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

impl Relay {
    /// Serves until the process ends.
    pub async fn serve(self, listener: UnixListener) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let relay = self.clone();
                    tokio::spawn(async move {
                        relay.connection(stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: they come back.
                    tracing::debug!("accept: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(self, stream: UnixStream) {
        let service = service_fn(move |request| {
            let relay = self.clone();
            async move { Ok::<_, Infallible>(relay.pass(request).await.unwrap_or_else(Status::into_http)) }
        });
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = served.await {
            tracing::debug!("the application's connection ended: {error}");
        }
    }

    /// Passes one stream on, over a connection of its own: the control plane renews connections one by one.
    async fn pass(self, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let path = request.uri().path().to_owned();
        if !path.starts_with(SERVICE) {
            return Err(Status::unimplemented(format!("{path} is not passed on to the control plane")));
        }
        let (mut parts, body) = request.into_parts();
        parts.uri = path.parse().map_err(|_| Status::invalid_argument("the path is none"))?;
        parts.headers.remove(header::HOST);
        parts.headers.remove(header::AUTHORIZATION);
        parts.extensions = http::Extensions::new();
        let identity = self.identity.borrow().clone();
        let unreachable = |error: &dyn std::fmt::Display| {
            tracing::warn!("a stream of the application cannot be passed on: {error}");
            Status::unavailable(error.to_string())
        };
        let (mut channel, mut bearer) =
            self.control_plane.connect(identity.as_deref()).await.map_err(|error| unreachable(&error))?;
        let (metadata, ..) = bearer.call(tonic::Request::new(()))?.into_parts();
        parts.headers.extend(metadata.into_headers());
        let channel = channel.ready().await.map_err(|error| unreachable(&error))?;
        let answer =
            channel.call(Request::from_parts(parts, Body::new(body))).await.map_err(|error| unreachable(&error))?;
        let open = Open::new(self.streams);
        Ok(answer.map(|body| Body::new(Counted { body, _open: open })))
    }
}

/// Counts as open for as long as it lives.
struct Open(Arc<Streams>);

impl Open {
    fn new(streams: Arc<Streams>) -> Self {
        streams.open.fetch_add(1, Ordering::Relaxed);
        Self(streams)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that counts as an open stream.
struct Counted {
    body: Body,
    _open: Open,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
