//! The protocol as a client sees it: `cds +a +b -c` is one response.

use std::sync::Arc;

use xds::types::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds::types::google::Status;
use xds::version::Version;

use super::super::intern::Interner;
use super::super::resource::tests::content;
use super::super::resource::{Kind, Set};
use super::{Answer, Protocol, Response, Subscriber, View, format_nonce};

use Kind::{Cluster, Endpoints, Listener, Routes, VirtualHost};

struct Client {
    subscriber: Subscriber,
    view: View,
    interner: Interner,
    last: Option<Response>,
}

fn say(response: &Response) -> String {
    let sent = response.resources.iter().map(|resource| format!("+{}", resource.name()));
    let removed = response.removed.iter().map(|name| format!("-{name}"));
    std::iter::once(response.kind.short().to_owned()).chain(sent).chain(removed).collect::<Vec<_>>().join(" ")
}

impl Client {
    fn of(protocol: Protocol, warms_clusters: bool) -> Self {
        Self {
            subscriber: Subscriber::new(protocol, warms_clusters),
            view: Kind::ALL.map(|_| Set::empty()),
            interner: Interner::default(),
            last: None,
        }
    }

    fn new() -> Self {
        Self::of(Protocol::Delta, false)
    }

    /// Puts `name=content` items into the view.
    fn set(&mut self, kind: Kind, items: &[&str]) -> &mut Self {
        let interner = &mut self.interner;
        let resources = items.iter().map(|item| {
            let (name, text) = item.split_once('=').unwrap_or((item, "1"));
            interner.resource(kind, &Arc::from(name), &content(kind, text))
        });
        let resources = resources.collect();
        self.view[kind.index()] = interner.set(kind, resources);
        self
    }

    fn delta(&mut self, kind: Kind, build: impl FnOnce(&mut DeltaDiscoveryRequest)) -> Answer {
        let mut request =
            DeltaDiscoveryRequest { type_url: kind.type_url().to_owned(), ..DeltaDiscoveryRequest::default() };
        build(&mut request);
        self.subscriber.delta(request, &self.view)
    }

    fn subscribe(&mut self, kind: Kind, names: &[&str]) -> &mut Self {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(self.delta(kind, |request| request.resource_names_subscribe = names), Answer::Subscribed);
        self
    }

    fn unsubscribe(&mut self, kind: Kind, names: &[&str]) -> &mut Self {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        self.delta(kind, |request| request.resource_names_unsubscribe = names);
        self
    }

    /// The next response, not answered yet.
    fn next(&mut self) -> Option<String> {
        let response = self.subscriber.next(&self.view)?;
        let said = say(&response);
        self.last = Some(response);
        Some(said)
    }

    fn answer(&mut self, error: Option<&str>) -> Answer {
        let last = self.last.take().expect("something to answer");
        self.delta(last.kind, |request| {
            request.response_nonce = format_nonce(last.nonce);
            request.error_detail = error.map(|message| Status { message: message.to_owned(), ..Status::default() });
        })
    }

    /// All responses on the way to the view, each of them acknowledged.
    fn settle(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(said) = self.next() {
            out.push(said);
            assert!(matches!(self.answer(None), Answer::Ack { .. }));
            assert!(out.len() < 100, "it settles");
        }
        out
    }
}

/// A settled sidecar of ours with one service.
fn settled() -> Client {
    let mut client = Client::new();
    client.set(Cluster, &["a"]).set(Endpoints, &["a"]).set(Listener, &["l"]).set(Routes, &["9080"]);
    client.set(VirtualHost, &["9080/a"]);
    client.subscribe(Cluster, &["*"]).subscribe(Listener, &["*"]).subscribe(VirtualHost, &["*"]);
    assert_eq!(client.settle(), ["cds +a", "lds +l", "vhds +9080/a"]);
    client.subscribe(Endpoints, &["a"]).subscribe(Routes, &["9080"]);
    assert_eq!(client.settle(), ["eds +a", "rds +9080"]);
    client
}

#[test]
fn a_wildcard_gets_everything_and_then_only_what_changes() {
    let mut client = Client::new();
    client.set(Cluster, &["a", "b"]).subscribe(Cluster, &["*"]);
    assert_eq!(client.settle(), ["cds +a +b"]);
    assert!(client.settle().is_empty(), "nothing changed");
    client.set(Cluster, &["a", "b=2", "c"]);
    assert_eq!(client.settle(), ["cds +b +c"]);
    client.set(Cluster, &["b=2", "c"]);
    assert_eq!(client.settle(), ["cds -a"]);
    client.set(Cluster, &["a", "b=2", "c"]);
    assert_eq!(client.settle(), ["cds +a"]);
}

#[test]
fn the_first_request_without_names_is_a_wildcard() {
    let mut client = Client::new();
    client.set(Cluster, &["a"]).subscribe(Cluster, &[]);
    assert_eq!(client.settle(), ["cds +a"]);
}

#[test]
fn a_first_request_is_answered_even_if_there_is_nothing() {
    let mut client = Client::new();
    client.subscribe(Listener, &["*"]);
    assert_eq!(client.settle(), ["lds"]);
    assert!(client.settle().is_empty());
}

#[test]
fn a_name_gets_what_it_names() {
    let mut client = Client::new();
    client.set(Endpoints, &["a", "b", "c"]).subscribe(Endpoints, &["b", "none"]);
    assert_eq!(client.settle(), ["eds +b -none"], "what does not exist is said to be absent");
    client.set(Endpoints, &["a=2", "b=2", "c"]);
    assert_eq!(client.settle(), ["eds +b"], "a was not asked for");
    client.set(Endpoints, &["a=2", "b=2", "c", "none"]);
    assert_eq!(client.settle(), ["eds +none"], "it exists now");
    client.unsubscribe(Endpoints, &["b"]).set(Endpoints, &["a=2", "b=3", "c", "none"]);
    assert!(client.settle().is_empty(), "no longer asked for");
    client.subscribe(Endpoints, &["b"]);
    assert_eq!(client.settle(), ["eds +b"]);
    client.subscribe(Endpoints, &["b"]);
    assert_eq!(client.settle(), ["eds +b"], "asked again: the client dropped it");
    client.set(Endpoints, &["a=2", "c", "none"]);
    assert_eq!(client.settle(), ["eds -b"]);
    client.set(Endpoints, &["a=2", "b=3", "c", "none"]);
    assert_eq!(client.settle(), ["eds +b"], "it stays subscribed");
}

#[test]
fn one_response_is_in_flight() {
    let mut client = Client::new();
    client.set(Cluster, &["a"]).set(Listener, &["l"]).subscribe(Cluster, &["*"]).subscribe(Listener, &["*"]);
    assert_eq!(client.next().as_deref(), Some("cds +a"));
    assert_eq!(client.subscriber.next(&client.view).map(|response| say(&response)), None, "not before the answer");
    client.set(Cluster, &["a=2"]).set(Cluster, &["a=3"]);
    assert_eq!(client.answer(None), Answer::Ack { kind: Cluster });
    assert_eq!(client.settle(), ["cds +a", "lds +l"], "only the latest is sent");
}

#[test]
fn what_is_named_comes_first_and_goes_last() {
    let mut client = settled();
    client
        .set(VirtualHost, &["9080/b"])
        .set(Routes, &["9081"])
        .set(Listener, &["m"])
        .set(Endpoints, &["b"])
        .set(Cluster, &["b"]);
    assert_eq!(
        client.settle(),
        ["cds +b", "lds +m", "vhds +9080/b", "lds -l", "rds -9080", "vhds -9080/a", "cds -a", "eds -a"]
    );
}

#[test]
fn a_removal_waits_for_the_answer_to_what_stopped_naming_it() {
    let mut client = settled();
    client.set(Cluster, &[]).set(VirtualHost, &["9080/a=2"]);
    assert_eq!(client.next().as_deref(), Some("vhds +9080/a"));
    assert_eq!(client.subscriber.next(&client.view).map(|response| say(&response)), None);
    client.answer(None);
    assert_eq!(client.settle(), ["cds -a"]);
}

#[test]
fn a_refused_resource_is_sent_again_when_it_changes() {
    let mut client = settled();
    client.set(Cluster, &["a=bad"]);
    assert_eq!(client.next().as_deref(), Some("cds +a"));
    let refusal = client.answer(Some("cluster a: no"));
    assert_eq!(
        refusal,
        Answer::Nack { kind: Cluster, reason: "cluster a: no".to_owned(), names: vec![Arc::from("a")] }
    );
    let progress = client.subscriber.progress(Cluster);
    assert_eq!(progress.rejected.as_deref(), Some("cluster a: no"));
    assert!(progress.acked < progress.sent, "a NACK is no ACK");
    assert!(client.settle().is_empty(), "not the same again");
    client.set(Cluster, &["a=good"]);
    assert_eq!(client.settle(), ["cds +a"]);
    assert_eq!(client.subscriber.progress(Cluster).rejected, None);
}

#[test]
fn an_answer_to_something_else_changes_nothing() {
    let mut client = Client::new();
    client.set(Cluster, &["a"]).subscribe(Cluster, &["*"]);
    assert_eq!(client.next().as_deref(), Some("cds +a"));
    assert_eq!(client.delta(Cluster, |request| request.response_nonce = "77".to_owned()), Answer::Stale);
    assert_eq!(client.next(), None, "the response is still unanswered");
    let unknown = DeltaDiscoveryRequest { type_url: "x".to_owned(), ..DeltaDiscoveryRequest::default() };
    assert_eq!(client.subscriber.delta(unknown, &client.view), Answer::UnknownType("x".to_owned()));
}

#[test]
fn a_reconnecting_client_gets_only_what_it_lacks() {
    let version = |content: &str| Version::of(content.as_bytes()).to_string();
    let rows = [
        ("all is as it was", vec![("a", version("1")), ("b", version("1"))], vec!["cds"]),
        ("one changed", vec![("a", version("0")), ("b", version("1"))], vec!["cds +a"]),
        ("one is new", vec![("a", version("1"))], vec!["cds +b"]),
        ("one is gone", vec![("a", version("1")), ("b", version("1")), ("z", version("1"))], vec!["cds", "cds -z"]),
        ("another control plane's versions", vec![("a", "2024-01-01T00:00:00Z/7".to_owned())], vec!["cds +a +b"]),
    ];
    for (name, initial, expected) in rows {
        let mut client = Client::new();
        client.set(Cluster, &["a", "b"]);
        client.delta(Cluster, |request| {
            request.resource_names_subscribe = vec!["*".to_owned()];
            request.initial_resource_versions =
                initial.into_iter().map(|(name, version)| (name.to_owned(), version)).collect();
        });
        assert_eq!(client.settle(), expected, "{name}");
    }

    let mut client = Client::new();
    client.set(Endpoints, &["a", "b", "c"]);
    client.delta(Endpoints, |request| {
        request.resource_names_subscribe = vec!["a".to_owned(), "b".to_owned()];
        request.initial_resource_versions = [("a".to_owned(), version("1"))].into();
    });
    assert_eq!(client.settle(), ["eds +b"], "named ones likewise");
}

#[test]
fn a_large_set_goes_in_parts_and_the_latest_wins_between_them() {
    let mut client = Client::new();
    client.subscriber.chunk = 1;
    client.set(Cluster, &["a", "b", "c"]).set(Listener, &["l"]);
    client.subscribe(Cluster, &["*"]).subscribe(Listener, &["*"]);
    assert_eq!(client.next().as_deref(), Some("cds +a"));
    client.answer(None);
    client.set(Cluster, &["a=2", "c=2", "d"]);
    assert_eq!(client.settle(), ["cds +a", "cds +c", "cds +d", "lds +l"], "b never was");
    assert_eq!(client.subscriber.progress(Cluster).resources, 3);
}

#[test]
fn envoy_gets_the_endpoints_of_a_changed_cluster_again() {
    for (warms, expected) in [(true, vec!["cds +a", "eds +a"]), (false, vec!["cds +a"])] {
        let mut client = Client::of(Protocol::Delta, warms);
        client.set(Cluster, &["a"]).set(Endpoints, &["a", "b"]);
        client.subscribe(Cluster, &["*"]).subscribe(Endpoints, &["a", "b"]);
        client.settle();
        client.set(Cluster, &["a=2"]);
        assert_eq!(client.settle(), expected, "warms clusters: {warms}");
    }
}

#[test]
fn a_settled_stream_holds_no_list_of_its_own() {
    let client = settled();
    for kind in Kind::ALL {
        assert!(client.subscriber.kinds[kind.index()].held.is_whole(), "{kind:?} is the shared set");
    }
}

/// The protocol that names everything every time.
struct World(Client);

impl World {
    fn request(&mut self, kind: Kind, names: &[&str], nonce: &str, error: Option<&str>) -> Answer {
        let request = DiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names: names.iter().map(|&name| name.to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            error_detail: error.map(|message| Status { message: message.to_owned(), ..Status::default() }),
            ..DiscoveryRequest::default()
        };
        self.0.subscriber.state_of_the_world(request, &self.0.view)
    }

    /// All responses, each acknowledged with these names.
    fn settle(&mut self, names: &[&str]) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(said) = self.0.next() {
            out.push(said);
            let last = self.0.last.take().expect("something to answer");
            let answer = self.request(last.kind, names, &format_nonce(last.nonce), None);
            assert_eq!(answer, Answer::Ack { kind: last.kind });
        }
        out
    }
}

#[test]
fn the_state_of_the_world_is_whole_for_wildcards_and_partial_for_names() {
    let mut world = World(Client::of(Protocol::StateOfTheWorld, true));
    world.0.set(Cluster, &["a", "b"]).set(Endpoints, &["a", "b", "c"]);
    assert_eq!(world.request(Cluster, &[], "", None), Answer::Subscribed);
    assert_eq!(world.settle(&[]), ["cds +a +b"]);
    world.request(Endpoints, &["a", "b"], "", None);
    assert_eq!(world.settle(&["a", "b"]), ["eds +a +b"]);

    world.0.set(Cluster, &["a", "b=2"]);
    assert_eq!(world.0.next().as_deref(), Some("cds +a +b"), "a wildcard gets everything");
    let last = world.0.last.take().unwrap();
    assert_eq!(world.request(Cluster, &[], &format_nonce(last.nonce), None), Answer::Ack { kind: Cluster });
    assert_eq!(world.settle(&["a", "b"]), ["eds +b"], "Envoy warms a changed cluster until its endpoints come");

    world.0.set(Cluster, &["a"]).set(Endpoints, &["a=2", "c"]);
    assert_eq!(world.0.next().as_deref(), Some("eds +a"));
    let last = world.0.last.take().unwrap();
    world.request(Endpoints, &["a", "b"], &format_nonce(last.nonce), None);
    assert_eq!(world.settle(&[]), ["cds +a"], "what is gone is left out at last");
    world.request(Endpoints, &["a"], &format_nonce(last.nonce), None);
    assert!(world.settle(&[]).is_empty());
    world.request(Endpoints, &["a", "c"], &format_nonce(last.nonce), None);
    assert_eq!(world.settle(&["a", "c"]), ["eds +c"], "a new name");
}

#[test]
fn the_state_of_the_world_is_not_sent_again_after_a_refusal() {
    let mut world = World(Client::of(Protocol::StateOfTheWorld, true));
    world.0.set(Listener, &["l"]);
    world.request(Listener, &[], "", None);
    assert_eq!(world.0.next().as_deref(), Some("lds +l"));
    let answer = world.request(Listener, &[], "1", Some("no"));
    assert!(matches!(answer, Answer::Nack { kind: Listener, .. }), "{answer:?}");
    assert!(world.settle(&[]).is_empty());
}

#[test]
fn the_state_of_the_world_is_whole_for_named_clusters_and_listeners() {
    let mut world = World(Client::of(Protocol::StateOfTheWorld, true));
    world.0.set(Listener, &["a", "b", "c"]).set(Routes, &["a", "b"]);
    world.request(Listener, &["a", "b"], "", None);
    assert_eq!(world.settle(&["a", "b"]), ["lds +a +b"]);
    world.request(Routes, &["a", "b"], "", None);
    assert_eq!(world.settle(&["a", "b"]), ["rds +a +b"]);

    world.0.set(Listener, &["a", "b=2", "c=2"]);
    assert_eq!(world.settle(&["a", "b"]), ["lds +a +b"], "gRPC takes a listener that is left out for deleted");
    world.0.set(Routes, &["a", "b=2"]);
    assert_eq!(world.settle(&["a", "b"]), ["rds +b"], "routes that are left out are unchanged");

    world.0.set(Listener, &["a", "c"]);
    assert_eq!(world.settle(&["a", "b"]), ["lds +a"], "what is gone is left out");
    world.0.set(Listener, &["a", "b=3", "c"]);
    assert_eq!(world.settle(&["a", "b"]), ["lds +a +b"], "and is there again");
}

#[test]
fn who_names_nothing_any_more_gets_it_anew_when_he_names_it_again() {
    let mut world = World(Client::of(Protocol::StateOfTheWorld, true));
    world.0.set(Routes, &["a"]);
    world.request(Routes, &["a"], "", None);
    assert_eq!(world.settle(&["a"]), ["rds +a"]);
    assert_eq!(world.request(Routes, &[], "1", None), Answer::Subscribed);
    world.0.set(Routes, &["a=2"]);
    assert!(world.settle(&[]).is_empty(), "nothing is wanted");
    world.request(Routes, &["a"], "1", None);
    assert_eq!(world.settle(&["a"]), ["rds +a"]);
}
