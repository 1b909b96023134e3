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

use std::collections::BTreeMap;
use std::sync::Arc;

use xds::types::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds::version::Version;

use super::resource::{Kind, Resource, Set};

/// A response carries about this much at most: what is in flight to a slow proxy is bounded by it.
const CHUNK: usize = 128 * 1024;
/// A client that subscribes to more names than this is not one of ours.
const MAX_NAMES: usize = 100_000;

/// The resources that a proxy shall have, by kind.
pub(crate) type View = [Set; Kind::ALL.len()];

/// Which of the two protocols a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Delta,
    StateOfTheWorld,
}

/// One thing that a client knows of or asked for.
#[derive(Clone, Debug)]
enum Entry {
    /// It was sent this.
    Sent(Arc<Resource>),
    /// It said that it has this version, from another stream.
    Remembered(Arc<str>, Version),
    /// It asked for it and has no answer yet.
    Asked(Arc<str>),
    /// It asked for it and knows that there is none.
    Absent(Arc<str>),
}

impl Entry {
    fn name(&self) -> &Arc<str> {
        match self {
            Self::Sent(resource) => resource.name(),
            Self::Remembered(name, _) | Self::Asked(name) | Self::Absent(name) => name,
        }
    }
}

/// What a client has of one kind.
#[derive(Debug)]
enum Held {
    /// Exactly this set. In a settled mesh every stream is here and costs one pointer.
    Whole(Set),
    /// Something else, sorted by name.
    Parts(Vec<Entry>),
}

impl Held {
    /// As a list that can be changed.
    fn parts(&mut self) -> &mut Vec<Entry> {
        if let Self::Whole(set) = self {
            *self = Self::Parts(set.iter().cloned().map(Entry::Sent).collect());
        }
        match self {
            Self::Parts(parts) => parts,
            Self::Whole(_) => unreachable!("made parts above"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Whole(set) => set.len(),
            Self::Parts(parts) => parts.len(),
        }
    }
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
    wildcard: bool,
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
            wildcard: false,
            held: Held::Parts(Vec::new()),
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
    pub(crate) fn delta(&mut self, request: DeltaDiscoveryRequest) -> Answer {
        let Some(kind) = Kind::of(&request.type_url) else { return Answer::UnknownType(request.type_url) };
        let answer = self.answer(kind, &request.response_nonce, request.error_detail.map(|status| status.message));
        let state = &mut self.kinds[kind.index()];
        let first = !state.active;
        if first {
            state.active = true;
            state.owed = true;
            // The first request without any name is the old way to say `*`.
            state.wildcard = request.resource_names_subscribe.is_empty();
            let remembered: BTreeMap<Arc<str>, Entry> = request
                .initial_resource_versions
                .into_iter()
                .take(MAX_NAMES)
                .map(|(name, version)| {
                    let name: Arc<str> = name.into();
                    // A version that is not one of ours (another control plane's) equals none.
                    let entry = match version.parse() {
                        Ok(version) => Entry::Remembered(Arc::clone(&name), version),
                        Err(_) => Entry::Asked(Arc::clone(&name)),
                    };
                    (name, entry)
                })
                .collect();
            state.held = Held::Parts(remembered.into_values().collect());
        }
        for name in request.resource_names_subscribe {
            if name == "*" {
                state.wildcard = true;
            } else if !(first && state.knows(&name)) {
                // Asking again for what it holds means that the client dropped it, so it is sent again.
                state.ask(name.into());
            }
        }
        for name in request.resource_names_unsubscribe {
            if name == "*" {
                state.wildcard = false;
                state.held = Held::Parts(Vec::new());
            } else {
                state.forget(&name);
            }
        }
        answer
    }

    /// Takes a request of the protocol that names everything every time.
    pub(crate) fn state_of_the_world(&mut self, request: DiscoveryRequest) -> Answer {
        let Some(kind) = Kind::of(&request.type_url) else { return Answer::UnknownType(request.type_url) };
        let answer = self.answer(kind, &request.response_nonce, request.error_detail.map(|status| status.message));
        let state = &mut self.kinds[kind.index()];
        if !state.active {
            state.active = true;
            state.owed = true;
            state.wildcard = request.resource_names.is_empty();
        }
        if answer == Answer::Stale {
            // Its names are those of before the last response; the answer to that one is still to come.
            return answer;
        }
        if request.resource_names.is_empty() {
            return answer;
        }
        let mut names: Vec<String> = request.resource_names.into_iter().take(MAX_NAMES).collect();
        names.sort_unstable();
        names.dedup();
        state.wildcard = names.iter().any(|name| name == "*");
        if !state.wildcard {
            state.held.parts().retain(|entry| names.binary_search_by(|name| (**name).cmp(entry.name())).is_ok());
            for name in names {
                if !state.knows(&name) {
                    state.ask(name.into());
                }
            }
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
            if let Some(response) = self.addition(kind, &view[kind.index()]) {
                return Some(response);
            }
        }
        Kind::REMOVAL.into_iter().find_map(|kind| self.removal(kind, &view[kind.index()]))
    }

    /// What is to be added or changed of a kind.
    fn addition(&mut self, kind: Kind, target: &Set) -> Option<Response> {
        let state = &mut self.kinds[kind.index()];
        if !state.active {
            return None;
        }
        let plan = state.plan(target, self.protocol, self.chunk);
        if plan.send.is_empty() && plan.absent.is_empty() && !state.owed {
            state.adopt(target, &plan);
            return None;
        }
        state.adopt(target, &plan);
        let mut resources = plan.send;
        if self.endpoints_follow && kind == Kind::Cluster {
            for cluster in &resources {
                self.kinds[Kind::Endpoints.index()].resend(cluster.name());
            }
        }
        let state = &mut self.kinds[kind.index()];
        let mut removed = plan.absent;
        if self.protocol == Protocol::StateOfTheWorld {
            removed.clear(); // cannot be said
            if state.wildcard {
                // Everything, every time; and what is to go later is still in it.
                let Held::Parts(parts) = &state.held else { return Some(self.send(kind, target.to_vec(), removed)) };
                resources = parts.iter().filter_map(sent).cloned().collect();
            } else if resources.is_empty() && !state.owed {
                return None;
            }
        }
        Some(self.send(kind, resources, removed))
    }

    /// What is to be removed of a kind, once nothing is to be added any more.
    fn removal(&mut self, kind: Kind, target: &Set) -> Option<Response> {
        let state = &mut self.kinds[kind.index()];
        let Held::Parts(parts) = &mut state.held else { return None };
        let wildcard = state.wildcard;
        let mut removed = Vec::new();
        parts.retain_mut(|entry| {
            let gone = matches!(entry, Entry::Sent(_) | Entry::Remembered(..)) && target.get(entry.name()).is_none();
            if gone {
                removed.push(Arc::clone(entry.name()));
                *entry = Entry::Absent(Arc::clone(entry.name()));
            }
            // A name that was subscribed to stays subscribed: should it come back, it is sent.
            !(gone && wildcard)
        });
        if removed.is_empty() {
            return None;
        }
        if self.protocol == Protocol::StateOfTheWorld {
            // Only a wildcard can be said to have lost something, by saying what is left.
            return wildcard.then(|| self.send(kind, target.to_vec(), Vec::new()));
        }
        Some(self.send(kind, Vec::new(), removed))
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

fn sent(entry: &Entry) -> Option<&Arc<Resource>> {
    match entry {
        Entry::Sent(resource) => Some(resource),
        _ => None,
    }
}

/// A nonce as it stands on the wire.
pub(crate) fn format_nonce(nonce: u64) -> String {
    nonce.to_string()
}

/// What of a kind is to be sent now.
#[derive(Debug, Default)]
struct Plan {
    send: Vec<Arc<Resource>>,
    /// Names that were asked for and do not exist.
    absent: Vec<Arc<str>>,
    /// Something is left for the next response.
    more: bool,
    /// The client holds something that the target does not have.
    surplus: bool,
    /// The target has something that the client did not ask for.
    unasked: bool,
}

impl Subscription {
    fn position(&self, name: &str) -> Result<usize, usize> {
        match &self.held {
            Held::Whole(set) => set.binary_search_by(|resource| (**resource.name()).cmp(name)),
            Held::Parts(parts) => parts.binary_search_by(|entry| (**entry.name()).cmp(name)),
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    fn ask(&mut self, name: Arc<str>) {
        let position = self.position(&name);
        let parts = self.held.parts();
        match position {
            Ok(at) => parts[at] = Entry::Asked(name),
            Err(at) if parts.len() < MAX_NAMES => parts.insert(at, Entry::Asked(name)),
            Err(_) => tracing::warn!("a client subscribes to more than {MAX_NAMES} names; {name} is not served"),
        }
    }

    fn forget(&mut self, name: &str) {
        if let Ok(at) = self.position(name)
            && !self.wildcard
        {
            self.held.parts().remove(at);
        }
    }

    /// Makes the client get `name` again, if it has it.
    fn resend(&mut self, name: &Arc<str>) {
        if self.knows(name) {
            self.ask(Arc::clone(name));
        }
    }

    /// Compares what the client holds with what it shall have.
    fn plan(&self, target: &Set, protocol: Protocol, chunk: usize) -> Plan {
        let mut plan = Plan::default();
        let mut size = 0_usize;
        let mut add = |plan: &mut Plan, resource: &Arc<Resource>| {
            // The first one always goes: a resource larger than a chunk must arrive too.
            let len = resource.encoded_len(protocol);
            if plan.more || (!plan.send.is_empty() && size + len > chunk) {
                plan.more = true;
            } else {
                size += len;
                plan.send.push(Arc::clone(resource));
            }
        };
        match &self.held {
            Held::Whole(set) if set.is(target) => {}
            Held::Whole(set) => {
                let held = set.iter().map(|resource| (resource, &**resource.name()));
                join(held, target, |held, wanted| match (held, wanted) {
                    (Some(held), Some(wanted)) if Arc::ptr_eq(held, wanted) || held.version() == wanted.version() => {}
                    (Some(_), Some(wanted)) => add(&mut plan, wanted),
                    (None, Some(wanted)) if self.wildcard => add(&mut plan, wanted),
                    (None, Some(_)) => plan.unasked = true,
                    (Some(_), None) => plan.surplus = true,
                    (None, None) => {}
                });
            }
            Held::Parts(parts) => {
                let held = parts.iter().map(|entry| (entry, &**entry.name()));
                join(held, target, |held, wanted| match (held, wanted) {
                    (Some(Entry::Sent(held)), Some(wanted)) if held.version() == wanted.version() => {}
                    (Some(Entry::Remembered(_, version)), Some(wanted)) if *version == wanted.version() => {}
                    (Some(_), Some(wanted)) => add(&mut plan, wanted),
                    (None, Some(wanted)) if self.wildcard => add(&mut plan, wanted),
                    (None, Some(_)) => plan.unasked = true,
                    (Some(Entry::Asked(name)), None) => {
                        plan.absent.push(Arc::clone(name));
                        plan.surplus = true;
                    }
                    (Some(_), None) => plan.surplus = true,
                    (None, None) => {}
                });
            }
        }
        plan
    }

    /// Takes over what `plan` sends as what the client holds.
    fn adopt(&mut self, target: &Set, plan: &Plan) {
        if matches!(&self.held, Held::Whole(set) if set.is(target)) {
            return;
        }
        if !plan.more && !plan.surplus && !plan.unasked {
            self.held = Held::Whole(target.clone());
            return;
        }
        if plan.send.is_empty() && plan.absent.is_empty() && matches!(self.held, Held::Parts(_)) {
            return;
        }
        // Everything up to the last name that is sent is as the target has it; what comes after waits.
        let last = if plan.more { plan.send.last().map(|resource| Arc::clone(resource.name())) } else { None };
        let reached = |name: &str| last.as_ref().is_none_or(|last| name <= &**last);
        let wildcard = self.wildcard;
        let held = std::mem::take(self.held.parts());
        let mut parts = Vec::with_capacity(held.len() + plan.send.len());
        join(held.iter().map(|entry| (entry, &**entry.name())), target, |held, wanted| match (held, wanted) {
            (Some(held), Some(wanted)) => {
                let same = match held {
                    Entry::Sent(held) => held.version() == wanted.version(),
                    Entry::Remembered(_, version) => *version == wanted.version(),
                    Entry::Asked(_) | Entry::Absent(_) => false,
                };
                let current = same || reached(wanted.name());
                parts.push(if current { Entry::Sent(Arc::clone(wanted)) } else { held.clone() });
            }
            (None, Some(wanted)) if wildcard && reached(wanted.name()) => parts.push(Entry::Sent(Arc::clone(wanted))),
            (Some(Entry::Asked(name)), None) if wildcard => drop(Arc::clone(name)),
            (Some(Entry::Asked(name)), None) => parts.push(Entry::Absent(Arc::clone(name))),
            (Some(held), None) => parts.push(held.clone()),
            (None, _) => {}
        });
        self.held = Held::Parts(parts);
    }
}

/// Walks two lists that are sorted by name side by side.
fn join<'a, T: 'a>(
    held: impl Iterator<Item = (T, &'a str)>,
    target: &'a Set,
    mut each: impl FnMut(Option<T>, Option<&'a Arc<Resource>>),
) {
    let mut held = held.peekable();
    let mut target = target.iter().peekable();
    loop {
        let order = match (held.peek(), target.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            // Names of an unchanged resource are the same allocation: no byte of them is looked at.
            (Some((_, a)), Some(b)) if std::ptr::eq(*a, &raw const **b.name()) => std::cmp::Ordering::Equal,
            (Some((_, a)), Some(b)) => (*a).cmp(&**b.name()),
        };
        match order {
            std::cmp::Ordering::Less => each(held.next().map(|(item, _)| item), None),
            std::cmp::Ordering::Greater => each(None, target.next()),
            std::cmp::Ordering::Equal => each(held.next().map(|(item, _)| item), target.next()),
        }
    }
}

#[cfg(test)]
mod tests;
