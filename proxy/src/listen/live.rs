//! The connections that are open on a worker. They are judged again when the configuration changes, and closed if they would now
//! be refused.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use engine::ir::listener::{Chain, Listener, Transport};
use engine::{Snapshot, decide::chain};
use tokio::sync::Notify;

use super::connection::listener_for;
use crate::workers::View;

/// What a connection was judged by.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The listener whose socket it came to.
    pub bound: Arc<str>,
    /// Where it was going.
    pub destination: SocketAddr,
    /// Whether that was read from the socket.
    pub redirected: bool,
    /// The client.
    pub peer: SocketAddr,
    /// How it begins.
    pub transport: Transport,
    /// The server name it asked for.
    pub sni: Option<Rc<str>>,
    /// Its ALPN, or what its first bytes say.
    pub protocols: Vec<String>,
}

impl Facts {
    /// The listener and the chain for these facts.
    pub fn judge<'a>(&self, snapshot: &'a Snapshot) -> Option<(&'a Arc<Listener>, &'a Arc<Chain>)> {
        let bound = snapshot.listener(&self.bound)?;
        let listener = listener_for(snapshot, bound, self.destination);
        let protocols: Vec<&str> = self.protocols.iter().map(String::as_str).collect();
        let connection = chain::Connection {
            destination: self.destination,
            source: self.peer,
            transport: self.transport,
            server_name: self.sni.as_deref(),
            application_protocols: &protocols,
        };
        // A listener with a socket also has the default chain for what none of its captured listeners takes.
        let own = chain::select(listener, &connection).map(|chain| (listener, chain));
        own.or_else(|| chain::select(bound, &connection).map(|chain| (bound, chain)))
    }
}

/// How a connection is asked to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It is not.
    #[default]
    No,
    /// After the request it works on.
    Gracefully,
    /// At once.
    Now,
}

/// One open connection.
pub struct Open {
    /// What it was judged by.
    pub facts: Facts,
    chain: RefCell<Arc<Chain>>,
    ending: Cell<Ending>,
    wake: Notify,
    /// Counts what has moved so far, where bytes are relayed.
    report: RefCell<Option<Rc<dyn Fn()>>>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("facts", &self.facts).field("ending", &self.ending).finish_non_exhaustive()
    }
}

impl Open {
    /// The chain that is valid for it now.
    pub fn chain(&self) -> Arc<Chain> {
        self.chain.borrow().clone()
    }

    /// How it is asked to end.
    pub fn ending(&self) -> Ending {
        self.ending.get()
    }

    /// Waits until it is asked to end in a stronger way than `than`.
    pub async fn ends(&self, than: Ending) -> Ending {
        loop {
            let woken = self.wake.notified();
            if self.ending.get() > than {
                return self.ending.get();
            }
            woken.await;
        }
    }

    /// Asks it to end.
    pub fn end(&self, ending: Ending) {
        if ending > self.ending.get() {
            self.ending.set(ending);
            self.wake.notify_waiters();
            self.wake.notify_one();
        }
    }

    /// Sets what is called once in a while to count what has moved.
    pub fn report_by(&self, report: Rc<dyn Fn()>) {
        *self.report.borrow_mut() = Some(report);
    }
}

/// All open connections of a worker.
#[derive(Debug, Default)]
pub struct Live {
    open: RefCell<HashMap<u64, Rc<Open>>>,
    next: Cell<u64>,
}

/// A connection's place among the open ones, until dropped.
#[derive(Debug)]
pub struct Entered {
    worker: Rc<crate::workers::Worker>,
    number: u64,
    /// The connection.
    pub open: Rc<Open>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.worker.live.open.borrow_mut().remove(&self.number);
    }
}

impl Live {
    /// Enters a connection.
    pub fn enter(worker: &Rc<crate::workers::Worker>, facts: Facts, chain: Arc<Chain>) -> Entered {
        let live = &worker.live;
        let number = live.next.get();
        live.next.set(number + 1);
        let open = Rc::new(Open {
            facts,
            chain: RefCell::new(chain),
            ending: Cell::new(Ending::No),
            wake: Notify::new(),
            report: RefCell::new(None),
        });
        live.open.borrow_mut().insert(number, open.clone());
        Entered { worker: worker.clone(), number, open }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Judges all again: they go on under their new chain, or end.
    pub fn judge_again(&self, view: &View) {
        for open in self.open.borrow().values() {
            let old = open.chain();
            if view.snapshot.listener(&open.facts.bound).is_none() {
                // The listener is gone, not the right to be here.
                open.end(Ending::Gracefully);
                continue;
            }
            match open.facts.judge(&view.snapshot) {
                Some((_, chain)) if Arc::ptr_eq(chain, &old) => {}
                Some((_, chain)) if compatible(&old, chain) => *open.chain.borrow_mut() = chain.clone(),
                Some(_) | None => open.end(Ending::Now),
            }
        }
    }

    /// Asks all to end after what they work on.
    pub fn drain(&self) {
        for open in self.open.borrow().values() {
            open.end(Ending::Gracefully);
        }
    }

    /// Counts what has moved on open connections.
    pub fn report(&self) {
        let reports: Vec<_> = self.open.borrow().values().filter_map(|open| open.report.borrow().clone()).collect();
        for report in reports {
            report();
        }
    }
}

/// Whether a connection under `old` may go on under `new`: the same TLS, and the same kind of traffic.
fn compatible(old: &Chain, new: &Chain) -> bool {
    use engine::ir::listener::ChainAction::{Http, Tcp};
    let same_kind = matches!((&old.action, &new.action), (Http(_), Http(_)) | (Tcp(_), Tcp(_)));
    same_kind && old.tls == new.tls
}
