//! Our side of the conversation: what we asked for, what we hold, how we answer. Pure; it outlives streams, so that a new
//! stream begins with what we have.
//!
//! * Clusters, listeners and virtual hosts: all that there are (`*`).
//! * Endpoints: those that clusters name. Route configurations: those that listeners name.
//! * Every response is answered. A refused resource is named in the answer, and the one before stays; the other
//!   resources of the same response are taken.
//! * Nothing goes to the workers before the first configuration is whole: half of one would answer 404 where the other
//!   half routes.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Instant, SystemTime},
};

use engine::{
    Store,
    compile::{Proxy, Refused},
    store::Changes,
};
use xds::{
    type_url,
    types::{
        core::Node,
        discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
        google::Status,
    },
};

use super::held::Held;

/// Everything of a kind.
const WILDCARD: &str = "*";
/// gRPC's `INVALID_ARGUMENT`, which a refusal carries.
const INVALID_ARGUMENT: i32 = 3;
/// The longest text of a refusal: it travels in every log.
const LONGEST_REASON: usize = 4096;

/// One kind of resource.
#[derive(Debug)]
struct Kind {
    type_url: &'static str,
    /// Everything, or what is named.
    wildcard: bool,
    /// The names that the present stream knows of.
    subscribed: BTreeSet<Arc<str>>,
    /// Names that were answered, by a resource or by its absence, on any stream; counted until the first configuration is whole.
    answered: HashSet<Arc<str>>,
    /// Whether any response came, on any stream.
    received: bool,
}

/// Our side of the conversation.
#[derive(Debug)]
pub struct Session {
    node: Node,
    kinds: [Kind; 5],
    store: Store,
    held: Held,
    /// Whether the first configuration has arrived.
    whole: bool,
    accepted: u64,
    refused: u64,
}

/// Figures for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Responses that were accepted.
    pub accepted: u64,
    /// Responses with a refused resource in them.
    pub refused: u64,
}

impl Session {
    /// A proxy that has nothing yet.
    pub fn new(node: Node, proxy: Proxy) -> Self {
        let kind = |type_url, wildcard| Kind {
            type_url,
            wildcard,
            subscribed: BTreeSet::new(),
            answered: HashSet::new(),
            received: false,
        };
        Self {
            node,
            kinds: [
                kind(type_url::CLUSTER, true),
                kind(type_url::ENDPOINTS, false),
                kind(type_url::LISTENER, true),
                kind(type_url::ROUTES, false),
                kind(type_url::VIRTUAL_HOST, true),
            ],
            store: Store::new(proxy),
            held: Held::default(),
            whole: false,
            accepted: 0,
            refused: 0,
        }
    }

    /// The first requests of a new stream: what we want, and what we have of it.
    pub fn open(&mut self) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::new();
        for kind in &mut self.kinds {
            let wanted =
                if kind.wildcard { BTreeSet::from([WILDCARD.into()]) } else { wanted(&self.store, kind.type_url) };
            kind.subscribed.clone_from(&wanted);
            if wanted.is_empty() {
                continue;
            }
            requests.push(DeltaDiscoveryRequest {
                type_url: kind.type_url.to_owned(),
                resource_names_subscribe: wanted.iter().map(ToString::to_string).collect(),
                initial_resource_versions: self.held.versions(kind.type_url),
                ..DeltaDiscoveryRequest::default()
            });
        }
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
        }
        requests
    }

    /// Takes a response and gives what is to be sent: its answer, and changed subscriptions.
    pub fn receive(
        &mut self,
        response: DeltaDiscoveryResponse,
        now: Instant,
        wall: SystemTime,
    ) -> Vec<DeltaDiscoveryRequest> {
        let DeltaDiscoveryResponse { type_url, resources, removed_resources, nonce, .. } = response;
        self.note(&type_url, &resources, &removed_resources);
        // One after another, each moved or dropped at once: a first response has thousands, and two copies of all would be its peak.
        let mut refusals = Vec::new();
        for resource in resources {
            let name = self.store.name(&resource.name);
            match self.store.upsert_one(&type_url, &resource, now) {
                Ok(()) => self.held.accept(&type_url, name, resource, wall),
                Err(refused) => {
                    self.held.refuse(&type_url, name, resource.version, refused.to_string(), wall);
                    refusals.push(refused);
                }
            }
        }
        self.store.remove(&type_url, &removed_resources);
        for name in &removed_resources {
            self.held.remove(&type_url, name);
        }
        let mut requests = vec![DeltaDiscoveryRequest {
            type_url: type_url.clone(),
            response_nonce: nonce,
            error_detail: nack(&refusals),
            ..DeltaDiscoveryRequest::default()
        }];
        if refusals.is_empty() {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
        requests.extend(self.follow(&type_url));
        requests
    }

    /// What the workers must be told; nothing while the first configuration is not whole.
    pub fn changes(&mut self, now: Instant) -> Changes {
        if !self.whole {
            if !self.is_whole() {
                return Changes::default();
            }
            self.settled();
        }
        self.store.changes(now)
    }

    /// Stops waiting for the first configuration to be whole: better what there is than nothing.
    pub fn settle(&mut self) {
        // Without an answer about listeners there is nothing to serve.
        if !self.whole && self.received(type_url::LISTENER) {
            self.settled();
        }
    }

    fn settled(&mut self) {
        self.whole = true;
        for kind in &mut self.kinds {
            kind.answered = HashSet::new();
        }
        // An empty configuration is one too: a gateway without servers is ready.
        self.store.announce();
    }

    /// Whether the first configuration has arrived.
    pub fn is_settled(&self) -> bool {
        self.whole
    }

    /// Whether the control plane has answered for a kind.
    pub fn received(&self, type_url: &str) -> bool {
        self.kinds.iter().any(|kind| kind.type_url == type_url && kind.received)
    }

    /// When [`Session::changes`] should be asked again although nothing came.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.store.next_deadline()
    }

    /// The resources as they were sent.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Figures for the statistics.
    pub fn counts(&self) -> Counts {
        Counts { accepted: self.accepted, refused: self.refused }
    }

    /// Everything that was named has been answered, and every route table whose virtual hosts come apart has some.
    fn is_whole(&self) -> bool {
        self.kinds.iter().all(|kind| {
            if kind.wildcard {
                kind.received
            } else {
                wanted(&self.store, kind.type_url).iter().all(|name| kind.answered.contains(name))
            }
        }) && self.store.tables_have_hosts()
    }

    /// Notes what a response answers.
    fn note(&mut self, type_url: &str, resources: &[Resource], removed: &[String]) {
        let Some(kind) = self.kinds.iter_mut().find(|kind| kind.type_url == type_url) else { return };
        kind.received = true;
        if !kind.wildcard && !self.whole {
            let names = resources.iter().map(|resource| &resource.name).chain(removed);
            kind.answered.extend(names.map(|name| self.store.name(name)));
        }
    }

    /// Subscriptions that change because clusters or listeners changed.
    fn follow(&mut self, changed: &str) -> Vec<DeltaDiscoveryRequest> {
        let named = match changed {
            type_url::CLUSTER => type_url::ENDPOINTS,
            type_url::LISTENER => type_url::ROUTES,
            // Endpoints change often, and name nothing.
            _ => return Vec::new(),
        };
        let mut requests = Vec::new();
        for kind in self.kinds.iter_mut().filter(|kind| kind.type_url == named) {
            let wanted = wanted(&self.store, kind.type_url);
            let subscribe: Vec<String> = wanted.difference(&kind.subscribed).map(ToString::to_string).collect();
            let unsubscribe: Vec<String> = kind.subscribed.difference(&wanted).map(ToString::to_string).collect();
            if subscribe.is_empty() && unsubscribe.is_empty() {
                continue;
            }
            // What nobody names any more is not ours to keep: the server will not tell when it goes.
            self.store.remove(kind.type_url, &unsubscribe);
            for name in &unsubscribe {
                self.held.remove(kind.type_url, name);
                kind.answered.remove(name.as_str());
            }
            kind.subscribed = wanted;
            requests.push(DeltaDiscoveryRequest {
                type_url: kind.type_url.to_owned(),
                resource_names_subscribe: subscribe,
                resource_names_unsubscribe: unsubscribe,
                ..DeltaDiscoveryRequest::default()
            });
        }
        requests
    }
}

fn wanted(store: &Store, type_url: &str) -> BTreeSet<Arc<str>> {
    match type_url {
        type_url::ENDPOINTS => store.wanted_endpoints(),
        type_url::ROUTES => store.wanted_routes(),
        _ => BTreeSet::new(),
    }
}

/// The error of a NACK; `None` is an ACK.
fn nack(refusals: &[Refused]) -> Option<Status> {
    if refusals.is_empty() {
        return None;
    }
    let mut message = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if message.len() > LONGEST_REASON {
        let mut end = LONGEST_REASON;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str(" ...");
    }
    Some(Status { code: INVALID_ARGUMENT, message, details: Vec::new() })
}

#[cfg(test)]
pub(crate) mod tests;
