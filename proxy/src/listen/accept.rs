//! A worker's accept loop.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::connection;
use super::sockets::Handed;
use crate::net::Listener;
use crate::workers::Worker;

/// The first wait when accepting fails for want of descriptors or memory; doubled up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);

/// Starts accepting on a socket.
pub fn start(worker: &Rc<Worker>, handed: Handed) {
    let Handed { listener, socket, stop } = handed;
    match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => {
            let task = tokio::task::spawn_local(accept(worker.clone(), listener, Listener::Tcp(socket), stop));
            // A worker that accepts no more is no worker: better a restart than silence.
            tokio::task::spawn_local(async move {
                if task.await.is_err_and(|error| error.is_panic()) {
                    tracing::error!("an accept loop panicked");
                    std::process::abort();
                }
            });
        }
        Err(error) => tracing::error!(%listener, %error, "cannot accept"),
    }
}

/// Accepts until told to stop.
pub async fn accept(worker: Rc<Worker>, name: Arc<str>, mut listener: Listener, mut stop: watch::Receiver<bool>) {
    let mut wait = FIRST;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                wait = FIRST;
                connection::start(&worker, name.clone(), accepted);
            }
            Err(_) if matches!(listener, Listener::Memory(_)) => return, // the test network has gone
            Err(error) if is_the_connections(&error) => {}
            Err(error) => {
                tracing::warn!(listener = %name, %error, ?wait, "cannot accept; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST);
            }
        }
    }
}

/// Whether an error is that of one connection, which had gone before it was accepted.
fn is_the_connections(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput | NotConnected)
}
