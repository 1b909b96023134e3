//! A small API server in memory, for tests: objects, watches, resourceVersions, conflicts, token reviews.
//!
//! It speaks HTTP to a real `kube::Client`, so what is tested is what runs in a cluster, down to the watch protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Group and version, plural, namespace (empty for cluster-scoped objects), name.
type Key = (String, String, String, String);

struct State {
    version: u64,
    objects: BTreeMap<Key, Value>,
    /// What happened, for watches: version, key, type, object.
    events: Vec<(u64, Key, &'static str, Value)>,
    /// Plurals that are not served.
    absent: BTreeSet<String>,
    /// Namespaces that end: nothing can be written there.
    terminating: BTreeSet<String>,
    /// How often one object was read.
    reads: usize,
}

/// The server.
#[derive(Clone)]
pub(crate) struct ApiServer {
    state: Arc<Mutex<State>>,
    version: watch::Sender<u64>,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl ApiServer {
    pub(crate) fn new() -> Self {
        let state = State {
            version: 1,
            objects: BTreeMap::new(),
            events: Vec::new(),
            absent: BTreeSet::new(),
            terminating: BTreeSet::new(),
            reads: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), version: watch::Sender::new(1) }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Stops, or starts, to serve a kind.
    pub(crate) fn serve(&self, plural: &str, served: bool) {
        let mut state = self.state.lock().unwrap();
        if served {
            state.absent.remove(plural);
        } else {
            state.absent.insert(plural.to_owned());
        }
    }

    /// A namespace ends, or no longer.
    pub(crate) fn terminate(&self, namespace: &str, ends: bool) {
        let mut state = self.state.lock().unwrap();
        if ends {
            state.terminating.insert(namespace.to_owned());
        } else {
            state.terminating.remove(namespace);
        }
    }

    /// Puts an object there, as a person would with `kubectl apply`.
    pub(crate) fn put(&self, plural: &str, object: Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = (text("/apiVersion"), plural.to_owned(), text("/metadata/namespace"), text("/metadata/name"));
        self.write(key, object);
    }

    pub(crate) fn delete(&self, api_version: &str, plural: &str, namespace: &str, name: &str) {
        let key = (api_version.to_owned(), plural.to_owned(), namespace.to_owned(), name.to_owned());
        let mut state = self.state.lock().unwrap();
        let Some(mut object) = state.objects.remove(&key) else { return };
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        state.events.push((version, key, "DELETED", object));
        self.version.send_replace(version);
    }

    pub(crate) fn get(&self, api_version: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (api_version.to_owned(), plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.state.lock().unwrap().objects.get(&key).cloned()
    }

    /// How often one object was read over HTTP so far.
    pub(crate) fn reads(&self) -> usize {
        self.state.lock().unwrap().reads
    }

    /// Waits until an object is as `is` says.
    pub(crate) async fn until<T>(&self, is: impl Fn(&Self) -> Option<T>) -> T {
        let mut version = self.version.subscribe();
        loop {
            version.mark_unchanged();
            if let Some(found) = is(self) {
                return found;
            }
            version.changed().await.unwrap();
        }
    }

    fn write(&self, key: Key, mut object: Value) -> Value {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        if !key.2.is_empty() {
            object["metadata"]["namespace"] = json!(key.2);
        }
        let known = state.objects.insert(key.clone(), object.clone()).is_some();
        state.events.push((version, key, if known { "MODIFIED" } else { "ADDED" }, object.clone()));
        self.version.send_replace(version);
        object
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body: Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.replace("%3D", "=")))
            .collect();
        let (group_version, plural, namespace, name) = path(parts.uri.path());
        if plural == "tokenreviews" {
            return ok(&review(body));
        }
        if self.state.lock().unwrap().absent.contains(&plural) {
            return status(404, "the server could not find the requested resource");
        }
        if parts.method != Method::GET && self.state.lock().unwrap().terminating.contains(&namespace) {
            return status(403, "unable to create new content in namespace because it is being terminated");
        }
        let key = |name: &str| (group_version.clone(), plural.clone(), namespace.clone(), name.to_owned());
        match (parts.method, name.as_str()) {
            (Method::GET, "") if query.contains_key("watch") => self.watch(&key(""), &query),
            (Method::GET, "") => self.list(&key(""), &query),
            (Method::GET, name) => {
                let mut state = self.state.lock().unwrap();
                state.reads += 1;
                let found = state.objects.get(&key(name)).cloned();
                found.map_or_else(|| status(404, "not found"), |object| ok(&object))
            }
            (Method::POST, _) => {
                let key = key(body["metadata"]["name"].as_str().unwrap_or_default());
                let exists = self.state.lock().unwrap().objects.contains_key(&key);
                if exists { status(409, "already exists") } else { ok(&self.write(key, body)) }
            }
            (Method::PUT, name) => {
                let key = key(name);
                let held = self.state.lock().unwrap().objects.get(&key).cloned();
                match held {
                    None => status(404, "not found"),
                    Some(held) if held["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] => {
                        status(409, "the object has been modified")
                    }
                    Some(_) => ok(&self.write(key, body)),
                }
            }
            (Method::PATCH, name) => ok(&self.write(key(name), body)),
            (method, name) => panic!("no answer for {method} {name}"),
        }
    }

    fn list(&self, of: &Key, query: &BTreeMap<String, String>) -> Response<Body> {
        let state = self.state.lock().unwrap();
        let objects = state.objects.iter().filter(|(key, _)| selects(of, query, key));
        let items: Vec<&Value> = objects.map(|(_, object)| object).collect();
        let version = state.version.to_string();
        ok(&json!({ "kind": "List", "apiVersion": of.0, "metadata": { "resourceVersion": version }, "items": items }))
    }

    fn watch(&self, of: &Key, query: &BTreeMap<String, String>) -> Response<Body> {
        let from: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default();
        let (state, of, query) = (Arc::clone(&self.state), of.clone(), query.clone());
        let events = futures::stream::unfold((from, self.version.subscribe()), move |(from, mut version)| {
            let (state, of, query) = (Arc::clone(&state), of.clone(), query.clone());
            async move {
                version.wait_for(|version| *version > from).await.ok()?;
                let state = state.lock().unwrap();
                let news = state.events.iter().filter(|(at, key, ..)| *at > from && selects(&of, &query, key));
                let lines: String = news
                    .map(|(_, _, kind, object)| json!({ "type": kind, "object": object }).to_string() + "\n")
                    .collect();
                Some((lines, (state.version, version)))
            }
        });
        let frames = events.map(|lines| Ok::<_, Infallible>(hyper::body::Frame::data(Bytes::from(lines))));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn selects(of: &Key, query: &BTreeMap<String, String>, key: &Key) -> bool {
    let named = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    of.0 == key.0 && of.1 == key.1 && (of.2.is_empty() || of.2 == key.2) && named.is_none_or(|name| name == key.3)
}

/// `/apis/<group>/<version>/namespaces/<namespace>/<plural>/<name>`, and the shorter forms of it.
fn path(path: &str) -> Key {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let taken = if parts[0] == "api" { 2 } else { 3 };
    let group_version = parts[1..taken].join("/");
    parts.drain(..taken);
    let (namespace, rest) = match parts.as_slice() {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let at = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
    (group_version, at(0), namespace.to_owned(), at(1))
}

/// A token `<namespace>:<account>` is a good one for the audiences that are asked for.
fn review(mut review: Value) -> Value {
    let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
    review["status"] = if token.contains(':') {
        let user = format!("system:serviceaccount:{token}");
        json!({ "authenticated": true, "audiences": review["spec"]["audiences"], "user": { "username": user } })
    } else {
        json!({ "authenticated": false, "error": "invalid bearer token" })
    };
    review
}

fn ok(object: &Value) -> Response<Body> {
    Response::new(Full::new(Bytes::from(object.to_string())).boxed_unsync())
}

fn status(code: u16, message: &str) -> Response<Body> {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        _ => "Conflict",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code,
    });
    let mut response = ok(&status);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}
