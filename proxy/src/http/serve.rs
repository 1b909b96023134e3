//! A client's HTTP connection.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::ir::listener::{ChainAction, Codec, HttpChain};
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::exchange;
use super::local::Local;
use crate::error::ProxyError;
use crate::listen::connection::Client;
use crate::listen::live::{Ending, Entered, Open};
use crate::listen::sniff::{Sniffed, sniff};
use crate::net::Io;
use crate::telemetry::istio::Number;
use crate::workers::Worker;

/// What all requests of a connection have in common.
#[derive(Debug)]
pub struct Connection {
    /// Where it runs.
    pub worker: Rc<Worker>,
    /// The client.
    pub client: Client,
    /// The number of the client's identity, for metrics.
    pub principal: Number,
    /// Its place among the open ones; what it was upgraded to keeps it.
    pub entered: Entered,
    /// The peer metadata that came with the last request: most send the same with every one.
    pub last_peer: RefCell<Option<(HeaderValue, Number)>>,
    /// When a request came or was answered last.
    last: Cell<Instant>,
    chain: RefCell<Arc<HttpChain>>,
}

impl Connection {
    /// The chain that is valid now.
    pub fn chain(&self) -> Arc<HttpChain> {
        let current = self.entered.open.chain();
        if let ChainAction::Http(http) = &current.action {
            let mut chain = self.chain.borrow_mut();
            if !Arc::ptr_eq(&chain, http) {
                *chain = http.clone();
            }
        }
        self.chain.borrow().clone()
    }
}

/// A connection without a request is closed after this, unless the chain says otherwise (Envoy's default).
const IDLE: Duration = Duration::from_hours(1);
/// HTTP/2: streams at once, unless the chain says otherwise.
const STREAMS: u32 = 1024;
/// HTTP/2 windows.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// How much of an HTTP/1 message is buffered; at least the most header bytes.
const BUFFER: usize = 64 * 1024;
/// Headers of a request, as Envoy's default.
const HEADERS: usize = 100;

/// Serves a connection until it ends.
pub async fn serve(
    worker: &Rc<Worker>,
    mut io: Io,
    client: Client,
    entered: Entered,
    chain: &Arc<HttpChain>,
) -> Result<(), ProxyError> {
    let open = entered.open.clone();
    let http2 = match (chain.codec, client.alpn.as_deref()) {
        (Codec::Http1, _) | (Codec::Auto, Some(b"http/1.1")) => false,
        (Codec::Http2, _) | (Codec::Auto, Some(b"h2")) => true,
        (Codec::Auto, _) => {
            let sniffing = sniff(&mut io, None);
            let ended = async {
                // In a drain a request may be on its way: it is answered, and told to be the last.
                if open.ends(Ending::No).await == Ending::Gracefully && worker.draining.get() {
                    open.ends(Ending::Gracefully).await;
                }
            };
            let sniffed = tokio::select! {
                biased;
                () = ended => return Ok(()), // no request yet: nothing to wait for
                () = tokio::time::sleep(chain.idle_timeout.unwrap_or(IDLE)) => return Ok(()),
                sniffed = sniffing => sniffed,
            };
            match sniffed.map_err(|_| ProxyError::ClientGone)? {
                Sniffed::Closed => return Ok(()),
                sniffed => sniffed == Sniffed::Http2,
            }
        }
    };
    let principal = worker.recorder.principal(client.leaf.as_deref().and_then(crate::tcp::proxy::uri));
    let connection = Rc::new(Connection {
        worker: worker.clone(),
        client,
        principal,
        entered,
        last_peer: RefCell::new(None),
        last: Cell::new(Instant::now()),
        chain: RefCell::new(chain.clone()),
    });
    let service = {
        let connection = connection.clone();
        service_fn(move |request: Request<Incoming>| {
            let connection = connection.clone();
            async move {
                connection.last.set(Instant::now());
                let response = exchange::exchange(connection.clone(), request).await;
                connection.last.set(Instant::now());
                Ok::<_, Infallible>(response)
            }
        })
    };
    let most = usize::try_from(chain.max_request_headers_kb).unwrap_or(60).max(1) * 1024;
    let io = TokioIo::new(io);
    let idle = chain.idle_timeout.unwrap_or(IDLE);
    if http2 {
        let mut builder = http2::Builder::new(Local);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(chain.max_concurrent_streams.unwrap_or(STREAMS))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(most).unwrap_or(u32::MAX));
        let serving = std::pin::pin!(builder.serve_connection(io, service));
        finish(serving, &open, quiet(&connection.last, idle), http2::Connection::graceful_shutdown).await
    } else {
        let draining = worker.clone();
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // hyper's timeout for headers is its keep-alive timeout too.
            .header_read_timeout(idle)
            .max_headers(HEADERS)
            .max_buf_size(BUFFER.max(most))
            .half_close(false);
        let serving = std::pin::pin!(builder.serve_connection(io, service).with_upgrades());
        finish(serving, &open, std::future::pending(), |serving| {
            // hyper closes an idle connection at once, and a request may be on its way: in a drain the next answer says
            // `connection: close` instead.
            if !draining.draining.get() {
                serving.graceful_shutdown();
            }
        })
        .await
    }
}

/// Waits until no request came or was answered for `idle`. An answer that still streams then is finished all the same.
async fn quiet(last: &Cell<Instant>, idle: Duration) {
    loop {
        let due = last.get() + idle;
        if due <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}

/// Runs a connection to its end, which may be asked for, or come by being idle.
async fn finish<C>(
    mut serving: std::pin::Pin<&mut C>,
    open: &Open,
    idle: impl Future<Output = ()>,
    shut: impl Fn(std::pin::Pin<&mut C>),
) -> Result<(), ProxyError>
where
    C: Future<Output = hyper::Result<()>>,
{
    let over = |outcome: hyper::Result<()>| {
        if let Err(error) = outcome {
            tracing::debug!(%error, "client connection ended");
        }
        Ok(())
    };
    let ending = tokio::select! {
        biased;
        ending = open.ends(Ending::No) => ending,
        outcome = &mut serving => return over(outcome),
        () = idle => Ending::Gracefully,
    };
    if ending == Ending::Now {
        return Err(ProxyError::NoFilterChain);
    }
    shut(serving.as_mut());
    tokio::select! {
        biased;
        _ = open.ends(Ending::Gracefully) => Err(ProxyError::NoFilterChain),
        outcome = &mut serving => over(outcome),
    }
}
