//! `pilot-agent request` and `pilot-agent wait`: what hooks and people call inside the pod.

use std::{io, net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The time for one request.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The most of an answer; a dump of a large mesh is some tens of megabytes.
const LARGEST: usize = 1 << 30;

/// Why there was no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing listens there.
    #[error("nothing answers on 127.0.0.1:{port}: {source}; is the proxy running in this container?")]
    Connect {
        /// The port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// The exchange broke.
    #[error("the request to 127.0.0.1:{port} failed: {reason}")]
    Exchange {
        /// The port.
        port: u16,
        /// Why.
        reason: String,
    },
    /// The answer is an error.
    #[error("{status}: {body}")]
    Status {
        /// The answer's status.
        status: StatusCode,
        /// Its text.
        body: String,
    },
    /// It took too long.
    #[error("the proxy was not ready after {0:?}: {1}")]
    NotReady(Duration, String),
}

/// `request GET|POST <path>`: asks a port of the proxy on loopback and gives the body of the answer.
pub async fn request(port: u16, method: Method, path: &str) -> Result<Bytes, AskError> {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let broken = |reason: String| AskError::Exchange { port, reason };
    let exchange = async {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|source| AskError::Connect { port, source })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
            .await
            .map_err(|error| broken(error.to_string()))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(&path)
            .header(header::HOST, "localhost")
            .body(Full::<Bytes>::default())
            .map_err(|error| broken(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| broken(error.to_string()))?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(AskError::Status { status, body: String::from_utf8_lossy(&body).trim().to_owned() })
        }
    };
    tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err(broken(format!("no answer in {TIMEOUT:?}"))))
}

/// `wait`: returns once the proxy is ready.
pub async fn wait(port: u16, period: Duration, limit: Duration) -> Result<(), AskError> {
    let end = tokio::time::Instant::now() + limit;
    loop {
        let Err(failed) = request(port, Method::GET, "/healthz/ready").await else { return Ok(()) };
        if tokio::time::Instant::now() + period > end {
            return Err(AskError::NotReady(limit, failed.to_string()));
        }
        tokio::time::sleep(period).await;
    }
}
