//! Whatever happens on the way, a client that answers ends up with exactly what it shall have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use xds::types::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};

use super::super::intern::Interner;
use super::super::resource::tests::content;
use super::super::resource::{Kind, Set};
use super::{Protocol, Response, Subscriber, View, format_nonce};

#[derive(Clone, Debug)]
enum Step {
    /// The proxy shall have these from now on: name and content.
    Set(Kind, BTreeMap<u8, u8>),
    Subscribe(u8),
    Unsubscribe(u8),
    /// The client takes a response and answers it.
    Exchange,
    /// The connection breaks, and the client comes back with what it has.
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![Just(Kind::Cluster), Just(Kind::Endpoints)];
    let step = prop_oneof![
        3 => (kind, prop::collection::btree_map(0..6_u8, 0..3_u8, 0..6)).prop_map(|(kind, set)| Step::Set(kind, set)),
        2 => (0..6_u8).prop_map(Step::Subscribe),
        1 => (0..6_u8).prop_map(Step::Unsubscribe),
        4 => Just(Step::Exchange),
        1 => Just(Step::Reconnect),
    ];
    prop::collection::vec(step, 0..40)
}

/// A client of clusters by wildcard and of endpoints by name.
struct Client {
    protocol: Protocol,
    chunk: usize,
    subscriber: Subscriber,
    view: View,
    interner: Interner,
    /// Name and version of what it holds.
    held: BTreeMap<(Kind, String), String>,
    wanted: BTreeSet<String>,
    /// The nonce of the last response of each kind.
    nonces: BTreeMap<Kind, String>,
}

impl Client {
    fn new(protocol: Protocol, chunk: usize) -> Self {
        let mut client = Self {
            protocol,
            chunk,
            subscriber: Subscriber::new(protocol, true),
            view: Kind::ALL.map(|_| Set::empty()),
            interner: Interner::default(),
            held: BTreeMap::new(),
            wanted: BTreeSet::new(),
            nonces: BTreeMap::new(),
        };
        client.connect();
        client
    }

    fn connect(&mut self) {
        self.subscriber = Subscriber::new(self.protocol, true);
        if self.protocol == Protocol::Delta {
            self.subscriber.chunk = self.chunk;
        }
        self.nonces.clear();
        self.request(Kind::Cluster, vec!["*".to_owned()], Vec::new(), true);
        if !self.wanted.is_empty() {
            let wanted = self.wanted.iter().cloned().collect();
            self.request(Kind::Endpoints, wanted, Vec::new(), true);
        }
    }

    fn request(&mut self, kind: Kind, subscribe: Vec<String>, unsubscribe: Vec<String>, first: bool) {
        let type_url = kind.type_url().to_owned();
        if self.protocol == Protocol::Delta {
            let versions = self.held.iter().filter(|((of, _), _)| first && *of == kind);
            let request = DeltaDiscoveryRequest {
                type_url,
                resource_names_subscribe: subscribe,
                resource_names_unsubscribe: unsubscribe,
                initial_resource_versions: versions
                    .map(|((_, name), version)| (name.clone(), version.clone()))
                    .collect(),
                ..DeltaDiscoveryRequest::default()
            };
            self.subscriber.delta(request, &self.view);
        } else {
            let names = if kind == Kind::Cluster { Vec::new() } else { self.wanted.iter().cloned().collect() };
            let response_nonce = self.nonces.get(&kind).cloned().unwrap_or_default();
            let request = DiscoveryRequest { type_url, resource_names: names, response_nonce, ..Default::default() };
            self.subscriber.state_of_the_world(request, &self.view);
        }
    }

    fn exchange(&mut self) -> bool {
        let Some(Response { kind, nonce, resources, removed, .. }) = self.subscriber.next(&self.view) else {
            return false;
        };
        if self.protocol == Protocol::StateOfTheWorld && kind == Kind::Cluster {
            self.held.retain(|(of, _), _| *of != kind);
        }
        for resource in resources {
            self.held.insert((kind, resource.name().to_string()), resource.version().to_string());
        }
        for name in removed {
            self.held.remove(&(kind, name.to_string()));
        }
        let nonce = format_nonce(nonce);
        self.nonces.insert(kind, nonce.clone());
        if self.protocol == Protocol::Delta {
            let type_url = kind.type_url().to_owned();
            let answer = DeltaDiscoveryRequest { type_url, response_nonce: nonce, ..Default::default() };
            self.subscriber.delta(answer, &self.view);
        } else {
            self.request(kind, Vec::new(), Vec::new(), false);
        }
        true
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Set(kind, items) => {
                let interner = &mut self.interner;
                let resources = items.iter().map(|(name, text)| {
                    interner.resource(kind, &Arc::from(name.to_string()), &content(kind, &text.to_string()))
                });
                let resources = resources.collect();
                self.view[kind.index()] = interner.set(kind, resources);
            }
            Step::Subscribe(name) => {
                let name = name.to_string();
                let first = self.wanted.is_empty() && !self.nonces.contains_key(&Kind::Endpoints);
                if self.wanted.insert(name.clone()) {
                    self.request(Kind::Endpoints, vec![name], Vec::new(), first);
                }
            }
            Step::Unsubscribe(name) => {
                let name = name.to_string();
                // In the other protocol no names at all would mean all of them.
                if self.protocol == Protocol::Delta && self.wanted.remove(&name) {
                    self.held.remove(&(Kind::Endpoints, name.clone()));
                    self.request(Kind::Endpoints, Vec::new(), vec![name], false);
                }
            }
            Step::Exchange => drop(self.exchange()),
            Step::Reconnect => self.connect(),
        }
    }
}

proptest! {
    #[test]
    fn a_client_that_answers_gets_what_it_shall_have(
        steps in steps(),
        delta in any::<bool>(),
        chunk in prop_oneof![Just(1_usize), Just(1000)],
    ) {
        let protocol = if delta { Protocol::Delta } else { Protocol::StateOfTheWorld };
        let mut client = Client::new(protocol, chunk);
        for step in steps {
            client.step(step);
        }
        let mut exchanges = 0;
        while client.exchange() {
            exchanges += 1;
            prop_assert!(exchanges < 100, "it settles");
        }
        let wanted = &client.wanted;
        let shall = [Kind::Cluster, Kind::Endpoints].into_iter().flat_map(|kind| {
            let of_kind = client.view[kind.index()].iter();
            let of_kind = of_kind.filter(move |it| kind == Kind::Cluster || wanted.contains(&**it.name()));
            of_kind.map(move |it| ((kind, it.name().to_string()), it.version().to_string()))
        });
        let shall: BTreeMap<_, _> = shall.collect();
        let mut held = client.held.clone();
        if !delta {
            // That a named resource is gone cannot be said in this protocol: the client keeps it.
            held.retain(|(kind, name), _| *kind == Kind::Cluster || client.view[kind.index()].get(name).is_some());
        }
        prop_assert_eq!(held, shall);
    }
}
