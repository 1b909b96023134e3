//! Listeners on the machine's loopback that lead into the box. They live in the init and die with it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};

use super::control::Forward;

/// Every forward of this box.
#[derive(Default)]
pub(crate) struct Forwarder {
    forwards: Vec<(SocketAddr, Rc<Cell<SocketAddr>>)>,
}

impl Forwarder {
    /// What leads where.
    pub(crate) fn list(&self) -> Vec<Forward> {
        self.forwards.iter().map(|(listen, target)| Forward { listen: *listen, target: target.get() }).collect()
    }

    /// Points `forward.listen` at a new target, if it is ours already.
    pub(crate) fn retarget(&self, forward: Forward) -> bool {
        let ours = self.forwards.iter().find(|(listen, _)| *listen == forward.listen);
        ours.map(|(_, target)| target.set(forward.target)).is_some()
    }

    /// Serves `listener`. Must be called within a `LocalSet`.
    pub(crate) fn serve(&mut self, forward: Forward, listener: TcpListener) {
        let target = Rc::new(Cell::new(forward.target));
        self.forwards.push((forward.listen, target.clone()));
        tokio::task::spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((client, _)) => drop(tokio::task::spawn_local(relay(client, target.get()))),
                    Err(error) => {
                        eprintln!("forward to {}: accept: {error}", target.get());
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
        });
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr) {
    // Errors of either side end the connection, which is all that the client can be told.
    if let Ok(mut server) = TcpStream::connect(target).await {
        let _ = server.set_nodelay(true);
        let _ = client.set_nodelay(true);
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
