//! What the control plane answers.
//!
//! * [`tls`]: connections on 15012, and who is at their other end; plaintext ones on loopback's 15010
//! * [`authenticate`]: who a caller is
//! * [`ads`], [`wire`]: the discovery service; [`connections`]: its open streams
//! * [`certificates`]: the certificate service
//! * [`http`], [`debug`]: readiness, metrics, version, debug pages

pub(crate) mod ads;
pub(crate) mod authenticate;
pub(crate) mod certificates;
pub(crate) mod connections;
pub(crate) mod debug;
pub(crate) mod http;
pub(crate) mod tls;
pub(crate) mod wire;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use xds::certificates::IstioCertificateServiceServer;

use ads::Ads;
use certificates::Certificates;
use tls::Connection;
use wire::DiscoveryServer;

/// A peer that does not answer a ping for so long is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A connection is told to go away after this long; its stream ends a little later by itself.
const CONNECTION_AGE: Duration = Duration::from_mins(30);
/// Streams on one connection: a proxy needs two.
const STREAMS: u32 = 16;

/// Serves both gRPC services on `connections` until `stop`.
pub(crate) async fn grpc(
    ads: Arc<Ads>,
    certificates: Arc<Certificates>,
    connections: mpsc::Receiver<io::Result<Connection>>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_connection_age(CONNECTION_AGE)
        .max_concurrent_streams(STREAMS)
        .add_service(DiscoveryServer::new(ads))
        .add_service(IstioCertificateServiceServer::from_arc(certificates))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move { stop.cancelled().await })
        .await
}
