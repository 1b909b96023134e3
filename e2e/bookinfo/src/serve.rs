//! The server: HTTP/1.1 on one port, and its end.
//!
//! The originals go on answering after SIGTERM, until Kubernetes kills them. So do we, for long enough that the pod has
//! left every load balancer, and then end by ourselves, so that a pod goes away sooner than after its grace period.

use std::{convert::Infallible, net::Ipv6Addr, pin::pin, rc::Rc, time::Duration};

use anyhow::{Context as _, Result};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::reply::{Reply, Request, text};

/// How long new connections are still taken after SIGTERM.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long requests that are being answered then may take.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// Bodies are sign-in forms and ratings; anything larger is a mistake.
const MAX_BODY: usize = 64 * 1024;

/// Serves until SIGTERM or SIGINT, and then some seconds more.
pub(crate) async fn run<F>(port: u16, answer: impl Fn(Request) -> F + 'static) -> Result<()>
where
    F: Future<Output = Reply> + 'static,
{
    // Dual-stack, as the originals; on a machine without IPv6 only IPv4.
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("listening on port {port}"))?,
    };
    println!("listening on port {port}");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => println!("SIGTERM: answering for {} s more", GOODBYE.as_secs()),
            _ = interrupt.recv() => println!("SIGINT: answering for {} s more", GOODBYE.as_secs()),
        }
        tokio::time::sleep(GOODBYE).await;
    };
    accept(listener, stop, answer).await;
    Ok(())
}

/// Accepts connections until `stop`, then lets the last requests finish.
async fn accept<F>(listener: TcpListener, stop: impl Future<Output = ()>, answer: impl Fn(Request) -> F + 'static)
where
    F: Future<Output = Reply> + 'static,
{
    let answer = Rc::new(answer);
    let (last, _) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Most likely out of file descriptors: wait for some to be closed.
                    eprintln!("accepting a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        tokio::task::spawn_local(connection(stream, last.subscribe(), answer.clone()));
    }
    drop(listener);
    last.send_replace(());
    let _ = tokio::time::timeout(LAST_REQUESTS, last.closed()).await;
}

/// Serves one connection; `last` changes when it is to end after the request in hand.
async fn connection<F>(stream: TcpStream, mut last: watch::Receiver<()>, answer: Rc<impl Fn(Request) -> F + 'static>)
where
    F: Future<Output = Reply> + 'static,
{
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(handle(request, &*answer).await) }
    });
    let mut connection =
        pin!(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service));
    // An error here is the peer's going away; there is nobody left to tell.
    let ended = tokio::select! {
        _ = &mut connection => true,
        _ = last.changed() => false,
    };
    if !ended {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn handle<F>(request: http::Request<Incoming>, answer: &impl Fn(Request) -> F) -> Reply
where
    F: Future<Output = Reply>,
{
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("the request's body: {error}\n")),
    };
    let line = format!("{} {}", head.method, head.uri.path());
    let request = Request { method: head.method, path: head.uri.path().to_owned(), headers: head.headers, body };
    let reply: Response<_> = answer(request).await;
    println!("{line} {}", reply.status().as_u16());
    reply
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        sync::oneshot,
        task::LocalSet,
    };

    use super::accept;
    use crate::reply::text;

    #[test]
    fn a_request_in_hand_is_answered_after_the_stop_and_then_the_connection_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel::<()>();
            let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
            let (finish, finished) = oneshot::channel::<()>();
            let finished = std::rc::Rc::new(std::cell::RefCell::new(Some(finished)));
            let server = tokio::task::spawn_local(accept(
                listener,
                async {
                    let _ = stopped.await;
                },
                move |request| {
                    let (begun, finished) = (begun.clone(), finished.take());
                    async move {
                        begun.send(request.path).unwrap();
                        if let Some(finished) = finished {
                            finished.await.unwrap();
                        }
                        text(StatusCode::OK, "done")
                    }
                },
            ));
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            assert_eq!(begins.recv().await.unwrap(), "/slow");
            stop.send(()).unwrap();
            finish.send(()).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            assert!(answer.ends_with("done"), "{answer}");
            server.await.unwrap();
            assert!(TcpStream::connect(address).await.is_err());
        });
    }
}
