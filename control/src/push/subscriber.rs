//! What one stream subscribed to, holds, and is owed. Pure.
//!
//! Comes in: what the client asks and answers ([`Subscriber::delta`], [`Subscriber::state_of_the_world`]), and the
//! resources that its proxy shall have (a [`View`]). Goes out: one [`Response`] after the other ([`Subscriber::next`]).
//!
//! The rules:
//! * One response at a time, so that what is named arrives before what names it: clusters, endpoints, listeners,
//!   routes, virtual hosts. The next one waits for the client's answer; an ACK and a NACK are both one.
//! * Removals come last, in their own order, once nothing is to be added: what names something goes before what it names.
//! * Only what differs from what the client holds is sent. After a NACK a resource is sent again when it changes.
//! * Nothing is queued: after an answer the *latest* view counts, and what was in between is never sent.

mod held;

use std::sync::Arc;

use xds::types::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};

use super::resource::{Kind, Resource, Set};
use held::{Held, MAX_NAMES};

/// A response carries about this much at most: what is in flight to a slow proxy is bounded by it.
const CHUNK: usize = 128 * 1024;
/// The resources that a proxy shall have, by kind.
pub(crate) type View = [Set; Kind::ALL.len()];

/// Which of the two protocols a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Delta,
    StateOfTheWorld,
}

/// A response that was sent and not answered.
#[derive(Debug)]
struct InFlight {
    nonce: u64,
    resources: Vec<Arc<Resource>>,
}

/// The state of one kind on one stream.
#[derive(Debug)]
struct Subscription {
    /// The client has asked for this kind.
    active: bool,
    held: Held,
    /// The client's first request must be answered even if there is nothing: it waits for it.
    owed: bool,
    in_flight: Option<InFlight>,
    sent: u64,
    answered: u64,
    acked: u64,
    rejected: Option<String>,
}

/// What a request meant, apart from what it subscribed to.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// The first request of a kind, or one that only changes subscriptions.
    Subscribed,
    /// The last response was accepted.
    Ack { kind: Kind },
    /// The last response was refused, with the reason and the resources that were in it.
    Nack { kind: Kind, reason: String, names: Vec<Arc<str>> },
    /// It answers a response that is no longer the last one.
    Stale,
    /// A kind that we do not serve; it gets no answer, as in Istio.
    UnknownType(String),
}

/// A response to send.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) kind: Kind,
    pub(crate) protocol: Protocol,
    pub(crate) nonce: u64,
    pub(crate) resources: Vec<Arc<Resource>>,
    pub(crate) removed: Vec<Arc<str>>,
}

/// How far a kind has come, for `/debug/syncz`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) rejected: Option<String>,
    pub(crate) resources: usize,
    pub(crate) subscribed: bool,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Subscriber {
    protocol: Protocol,
    /// A changed cluster is followed by its endpoints: Envoy warms it until they come.
    endpoints_follow: bool,
    kinds: [Subscription; Kind::ALL.len()],
    nonce: u64,
    chunk: usize,
}

impl Subscriber {
    /// A new stream. `warms_clusters` is true of Envoy, and false of our own proxy, which carries endpoints over.
    pub(crate) fn new(protocol: Protocol, warms_clusters: bool) -> Self {
        let kinds = Kind::ALL.map(|_| Subscription {
            active: false,
            held: Held::nothing(),
            owed: false,
            in_flight: None,
            sent: 0,
            answered: 0,
            acked: 0,
            rejected: None,
        });
        let chunk = if protocol == Protocol::Delta { CHUNK } else { usize::MAX };
        Self { protocol, endpoints_follow: warms_clusters, kinds, nonce: 0, chunk }
    }

    /// How far a kind has come.
    pub(crate) fn progress(&self, kind: Kind) -> Progress {
        let state = &self.kinds[kind.index()];
        Progress {
            sent: state.sent,
            acked: state.acked,
            rejected: state.rejected.clone(),
            resources: state.held.len(),
            subscribed: state.active,
        }
    }

    /// Whether the client has to answer something.
    pub(crate) fn is_waiting(&self) -> bool {
        self.kinds.iter().any(|state| state.in_flight.is_some())
    }

    /// Takes a request of the delta protocol.
    pub(crate) fn delta(&mut self, request: DeltaDiscoveryRequest, view: &View) -> Answer {
        let Some(kind) = Kind::of(&request.type_url) else { return Answer::UnknownType(request.type_url) };
        let answer = self.answer(kind, &request.response_nonce, request.error_detail.map(|status| status.message));
        let state = &mut self.kinds[kind.index()];
        let target = &view[kind.index()];
        let first = !state.active;
        if first {
            state.active = true;
            state.owed = true;
            // The first request without any name is the old way to say `*`.
            state.held.wildcard = request.resource_names_subscribe.is_empty();
            if !request.initial_resource_versions.is_empty() {
                state.held.remember(request.initial_resource_versions.into_iter(), target);
            }
        }
        for name in request.resource_names_subscribe {
            if name == "*" {
                state.held.wildcard = true;
            } else if !(first && state.held.knows(&name)) {
                // Asking again for what it holds means that the client dropped it, so it is sent again.
                state.held.ask(&name, target);
            }
        }
        for name in request.resource_names_unsubscribe {
            if name == "*" {
                state.held = Held::nothing();
            } else {
                state.held.forget(&name);
            }
        }
        answer
    }

    /// Takes a request of the protocol that names everything every time.
    pub(crate) fn state_of_the_world(&mut self, request: DiscoveryRequest, view: &View) -> Answer {
        let Some(kind) = Kind::of(&request.type_url) else { return Answer::UnknownType(request.type_url) };
        let answer = self.answer(kind, &request.response_nonce, request.error_detail.map(|status| status.message));
        let state = &mut self.kinds[kind.index()];
        if !state.active {
            state.active = true;
            state.owed = true;
            state.held.wildcard = request.resource_names.is_empty();
        }
        // The names of a stale request are those of before the last response; the answer to that one is still to come.
        // A wildcard stays one that names nothing; who named something and names nothing now wants nothing any more.
        if answer == Answer::Stale || (state.held.wildcard && request.resource_names.is_empty()) {
            return answer;
        }
        let mut names: Vec<String> = request.resource_names.into_iter().take(MAX_NAMES).collect();
        names.sort_unstable();
        names.dedup();
        state.held.wildcard = names.iter().any(|name| name == "*");
        if !state.held.wildcard {
            state.held.want_only(&names, &view[kind.index()]);
        }
        answer
    }

    fn answer(&mut self, kind: Kind, nonce: &str, error: Option<String>) -> Answer {
        let state = &mut self.kinds[kind.index()];
        if nonce.is_empty() {
            return Answer::Subscribed;
        }
        // A new stream may still answer a response of the old one.
        let Some(in_flight) = state.in_flight.take_if(|in_flight| format_nonce(in_flight.nonce) == nonce) else {
            let again = state.active && format_nonce(state.answered) == nonce;
            return if again { Answer::Subscribed } else { Answer::Stale };
        };
        state.answered = in_flight.nonce;
        match error {
            None => {
                state.acked = in_flight.nonce;
                state.rejected = None;
                Answer::Ack { kind }
            }
            Some(reason) => {
                state.rejected = Some(reason.clone());
                let names = in_flight.resources.iter().map(|resource| Arc::clone(resource.name())).collect();
                Answer::Nack { kind, reason, names }
            }
        }
    }

    /// The next response on the way to `view`; `None` when the client has it all, or has to answer first.
    pub(crate) fn next(&mut self, view: &View) -> Option<Response> {
        for kind in Kind::ALL {
            if self.kinds[kind.index()].in_flight.is_some() {
                return None;
            }
            if let Some(response) = self.addition(kind, view) {
                return Some(response);
            }
        }
        Kind::REMOVAL.into_iter().find_map(|kind| self.removal(kind, &view[kind.index()]))
    }

    /// What is to be added or changed of a kind.
    fn addition(&mut self, kind: Kind, view: &View) -> Option<Response> {
        let state = &mut self.kinds[kind.index()];
        if !state.active {
            return None;
        }
        let target = &view[kind.index()];
        let plan = state.held.plan(target, self.protocol, self.chunk);
        state.held.adopt(target, &plan);
        if plan.is_empty() && !state.owed {
            return None;
        }
        if self.endpoints_follow && kind == Kind::Cluster {
            let endpoints = Kind::Endpoints.index();
            for cluster in &plan.send {
                self.kinds[endpoints].resend(cluster.name(), &view[endpoints]);
            }
        }
        if self.protocol == Protocol::Delta {
            return Some(self.send(kind, plan.send, plan.absent));
        }
        let state = &self.kinds[kind.index()];
        if state.held.wildcard || (kind.is_always_whole() && !plan.send.is_empty()) {
            // Everything, every time; and what is to go later is still in it.
            let everything = state.held.sent();
            return Some(self.send(kind, everything, Vec::new()));
        }
        // That a name does not exist cannot be said in this protocol.
        (state.owed || !plan.send.is_empty()).then(|| self.send(kind, plan.send, Vec::new()))
    }

    /// What is to be removed of a kind, once nothing is to be added any more.
    fn removal(&mut self, kind: Kind, target: &Set) -> Option<Response> {
        let held = &mut self.kinds[kind.index()].held;
        let wildcard = held.wildcard;
        let removed = held.remove(target);
        match self.protocol {
            _ if removed.is_empty() => None,
            Protocol::Delta => Some(self.send(kind, Vec::new(), removed)),
            // What is lost can only be said by saying what is left.
            Protocol::StateOfTheWorld if wildcard => Some(self.send(kind, target.to_vec(), Vec::new())),
            Protocol::StateOfTheWorld if kind.is_always_whole() => {
                let left = held.sent();
                Some(self.send(kind, left, Vec::new()))
            }
            Protocol::StateOfTheWorld => None,
        }
    }

    fn send(&mut self, kind: Kind, resources: Vec<Arc<Resource>>, removed: Vec<Arc<str>>) -> Response {
        self.nonce += 1;
        let state = &mut self.kinds[kind.index()];
        state.owed = false;
        state.sent = self.nonce;
        state.in_flight = Some(InFlight { nonce: self.nonce, resources: resources.clone() });
        Response { kind, protocol: self.protocol, nonce: self.nonce, resources, removed }
    }
}

/// A nonce as it stands on the wire.
pub(crate) fn format_nonce(nonce: u64) -> String {
    nonce.to_string()
}

impl Subscription {
    /// Makes the client get `name` again, if it has it.
    fn resend(&mut self, name: &str, target: &Set) {
        if self.held.knows(name) {
            self.held.ask(name, target);
        }
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
