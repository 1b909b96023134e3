//! `/config_dump`: the configuration as the control plane sent it, in the sections of Envoy's dump.

use std::{
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use regex::Regex;
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use xds::{node::ProxyNode, type_url};

use super::{message, timestamp};
use crate::{
    tls::{identity::Identity, verify::Leaf},
    xds::{
        held::{Held, Resource},
        session::Session,
    },
};

/// A section of the dump.
#[derive(Debug)]
struct Section {
    /// Its message in Envoy's `admin.v3`.
    message: &'static str,
    /// Its list.
    list: &'static str,
    /// The member of a list's element that holds the resource.
    member: &'static str,
    kind: &'static str,
}

const CLUSTERS: Section = Section {
    message: "ClustersConfigDump",
    list: "dynamic_active_clusters",
    member: "cluster",
    kind: type_url::CLUSTER,
};
const LISTENERS: Section =
    Section { message: "ListenersConfigDump", list: "dynamic_listeners", member: "listener", kind: type_url::LISTENER };
const ROUTES: Section = Section {
    message: "RoutesConfigDump",
    list: "dynamic_route_configs",
    member: "route_config",
    kind: type_url::ROUTES,
};
const ENDPOINTS: Section = Section {
    message: "EndpointsConfigDump",
    list: "dynamic_endpoint_configs",
    member: "endpoint_config",
    kind: type_url::ENDPOINTS,
};

/// How many pieces of a dump may wait for their reader.
pub(super) const PIECES: usize = 4;
/// Stands where the virtual hosts of a table are written one by one.
const HOSTS: &str = "\u{1}virtual hosts";

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// One list instead of all sections.
    list: Option<Section>,
    /// Only resources with such names.
    name: Option<Regex>,
    include_eds: bool,
}

impl Asked {
    /// Reads a query. `include_eds` adds endpoints; `resource=<list>` gives the elements of one list, `name_regex` only those
    /// whose name matches.
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let name = super::parameter(query, "name_regex").map(percent_decoded);
        let name = name.map(|pattern| Regex::new(&pattern).map_err(|error| format!("name_regex: {error}")));
        let list = super::parameter(query, "resource").map(|list| {
            [CLUSTERS, LISTENERS, ROUTES, ENDPOINTS]
                .into_iter()
                .find(|section| section.list == list)
                .ok_or_else(|| format!("there is no list {list:?}; try {}", LISTENERS.list))
        });
        let include_eds = super::parameter(query, "include_eds").is_some();
        Ok(Self { list: list.transpose()?, name: name.transpose()?, include_eds })
    }
}

/// Writes a dump piece by piece, as fast as it is read. A proxy that knows a thousand services would need megabytes to have
/// it whole, and keep them.
pub(super) async fn write(
    asked: Asked,
    session: Arc<Mutex<Session>>,
    node: Arc<ProxyNode>,
    identity: Option<Arc<Identity>>,
    pieces: mpsc::Sender<Bytes>,
) {
    // Whoever asked may have gone: then there is nothing left to do.
    let _ = Dump { asked, session, pieces }.write(&node, identity.as_deref()).await;
}

struct Dump {
    asked: Asked,
    session: Arc<Mutex<Session>>,
    pieces: mpsc::Sender<Bytes>,
}

/// Nobody reads any more.
struct Gone;

/// A list that is written element by element.
struct List {
    /// How far its elements are indented.
    depth: usize,
    empty: bool,
}

impl List {
    fn new(depth: usize) -> Self {
        Self { depth, empty: true }
    }

    /// The text of one more element, which was written as if it stood at the margin.
    fn element(&mut self, text: &str) -> String {
        let margin = format!("\n{:1$}", "", self.depth);
        let comma = if std::mem::take(&mut self.empty) { "" } else { "," };
        format!("{comma}{margin}{}", text.replace('\n', &margin))
    }

    fn end(&self) -> String {
        if self.empty { "]".to_owned() } else { format!("\n{:1$}]", "", self.depth - 2) }
    }
}

impl Dump {
    async fn write(&self, node: &ProxyNode, identity: Option<&Identity>) -> Result<(), Gone> {
        let mut configs = List::new(4);
        self.piece("{\n  \"configs\": [").await?;
        if let Some(section) = &self.asked.list {
            self.elements(section, true, &mut configs).await?;
        } else {
            let bootstrap =
                json!({"@type": admin_type("BootstrapConfigDump"), "bootstrap": {"node": self::node(node)}});
            self.piece(configs.element(&format!("{bootstrap:#}"))).await?;
            for section in [CLUSTERS, ENDPOINTS, LISTENERS, ROUTES] {
                if section.kind == ENDPOINTS.kind && !self.asked.include_eds {
                    continue;
                }
                let (message, list) = (json!(admin_type(section.message)), section.list);
                self.piece(configs.element(&format!("{{\n  \"@type\": {message},\n  \"{list}\": ["))).await?;
                let mut elements = List::new(8);
                self.elements(&section, false, &mut elements).await?;
                self.piece(elements.end() + "\n    }").await?;
            }
            self.piece(configs.element(&format!("{:#}", secrets(identity)))).await?;
        }
        self.piece(configs.end() + "\n}\n").await
    }

    async fn piece(&self, text: impl Into<Bytes>) -> Result<(), Gone> {
        self.pieces.send(text.into()).await.map_err(|_| Gone)
    }

    /// Writes the elements of a section's list; `typed` says in each what it is.
    async fn elements(&self, section: &Section, typed: bool, list: &mut List) -> Result<(), Gone> {
        let mut last: Option<Arc<str>> = None;
        loop {
            let start = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.next(section.kind, start, |name, resource, held| {
                let wanted = self.asked.name.as_ref().is_none_or(|pattern| pattern.is_match(name));
                wanted.then(|| element(section, typed, name, resource, held))
            });
            let Some((name, element)) = next else { return Ok(()) };
            if let Some(element) = element {
                let text = list.element(&format!("{element:#}"));
                match text.split_once(&json!(HOSTS).to_string()) {
                    None => self.piece(text).await?,
                    Some((before, after)) => self.with_hosts(&name, before, after).await?,
                }
            }
            last = Some(name);
        }
    }

    /// Writes virtual hosts that came apart where Envoy has them: between the two halves of their table's text.
    async fn with_hosts(&self, table: &str, before: &str, after: &str) -> Result<(), Gone> {
        let prefix = prefix_of(table);
        let depth = before.len() - before.trim_end_matches(' ').len();
        let mut list = List::new(depth);
        // What is before the first host ends with its margin.
        self.piece(before.trim_end().to_owned()).await?;
        let mut last: Arc<str> = prefix.as_str().into();
        loop {
            let next = self.next(type_url::VIRTUAL_HOST, Bound::Excluded(&*last), |name, resource, _| {
                name.starts_with(&prefix).then(|| {
                    let mut host = message::any(type_url::VIRTUAL_HOST, &resource.message.encoded());
                    if let Value::Object(fields) = &mut host {
                        fields.shift_remove("@type");
                    }
                    host
                })
            });
            let Some((name, Some(host))) = next else { break };
            self.piece(list.element(&format!("{host:#}"))).await?;
            last = name;
        }
        self.piece(after.to_owned()).await
    }

    /// Reads the next resource. The session waits for this only, never for the reader of the dump.
    fn next<R>(
        &self,
        kind: &str,
        start: Bound<&str>,
        read: impl FnOnce(&str, &Resource, &Held) -> R,
    ) -> Option<(Arc<str>, R)> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let held = session.held();
        let (name, resource) = held.from(kind, start).next()?;
        Some((name.clone(), read(name, resource, held)))
    }
}

/// With what the names of a table's virtual hosts begin.
fn prefix_of(table: &str) -> String {
    format!("{table}/")
}

fn admin_type(message: &str) -> String {
    format!("type.googleapis.com/envoy.admin.v3.{message}")
}

fn singular(list: &str) -> &str {
    match list {
        "Routes" => "RouteConfig",
        "Endpoints" => "EndpointConfig",
        other => other.trim_end_matches('s'),
    }
}

/// An element of a section's list. In place of a table's virtual hosts that came apart is [`HOSTS`].
fn element(section: &Section, typed: bool, name: &str, resource: &Resource, held: &Held) -> Value {
    let mut element = Map::new();
    if typed {
        let of = singular(section.message.trim_end_matches("ConfigDump"));
        element.insert("@type".to_owned(), json!(admin_type(&format!("{}.Dynamic{of}", section.message))));
    }
    let mut state = Map::new();
    if !resource.version.is_empty() {
        let mut value = message::any(section.kind, &resource.message.encoded());
        let prefix = prefix_of(name);
        let first = || held.from(type_url::VIRTUAL_HOST, Bound::Excluded(&prefix)).next();
        if section.kind == type_url::ROUTES
            && first().is_some_and(|(host, _)| host.starts_with(&prefix))
            && let Value::Object(fields) = &mut value
            && let Value::Array(hosts) = fields.entry("virtual_hosts").or_insert_with(|| json!([]))
        {
            hosts.push(json!(HOSTS));
        }
        state.insert("version_info".to_owned(), json!(resource.version));
        state.insert(section.member.to_owned(), value);
        state.insert("last_updated".to_owned(), json!(timestamp(resource.updated)));
    }
    if section.kind == type_url::LISTENER {
        // A listener's element has its state one level further down.
        element.insert("name".to_owned(), json!(name));
        if !state.is_empty() {
            element.insert("active_state".to_owned(), Value::Object(state));
        }
    } else {
        element.append(&mut state);
    }
    element.extend(error(resource).map(|error| ("error_state".to_owned(), error)));
    Value::Object(element)
}

fn error(resource: &Resource) -> Option<Value> {
    let refused = resource.refused.as_ref()?;
    Some(json!({
        "version_info": refused.version,
        "details": refused.reason,
        "last_update_attempt": timestamp(refused.at),
    }))
}

/// The node, as a control plane sees it.
pub(super) fn node(node: &ProxyNode) -> Value {
    let node = node.to_node();
    json!({
        "id": node.id,
        "cluster": node.cluster,
        "metadata": node.metadata.as_ref().map_or(Value::Null, message::from_struct),
    })
}

/// Certificate and roots, never the key.
fn secrets(identity: Option<&Identity>) -> Value {
    let mut secrets = Vec::new();
    if let Some(identity) = identity {
        let updated = timestamp(identity.not_before);
        secrets.push(json!({
            "name": "default",
            "last_updated": updated,
            "secret": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
                "name": "default",
                "tls_certificate": {
                    "certificate_chain": {"inline_bytes": STANDARD.encode(pem(identity.chain()))},
                    "private_key": {"inline_bytes": STANDARD.encode(message::REDACTED)},
                },
            },
        }));
        secrets.push(json!({
            "name": "ROOTCA",
            "last_updated": updated,
            "secret": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
                "name": "ROOTCA",
                "validation_context": {"trusted_ca": {"inline_bytes": STANDARD.encode(pem(&identity.roots))}},
            },
        }));
    }
    json!({"@type": admin_type("SecretsConfigDump"), "dynamic_active_secrets": secrets})
}

fn pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// One element of `/certs`.
pub(super) fn certificate(identity: &Identity) -> Value {
    json!({
        "ca_cert": identity.roots.iter().map(|root| details(root)).collect::<Vec<_>>(),
        "cert_chain": identity.chain().iter().map(|certificate| details(certificate)).collect::<Vec<_>>(),
    })
}

fn details(der: &CertificateDer<'_>) -> Value {
    let leaf = match Leaf::read(der) {
        Ok(leaf) => leaf,
        Err(reason) => return json!({ "error": reason }),
    };
    let at = |seconds: i64| timestamp(UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let left = u64::try_from(leaf.not_after).unwrap_or(0).saturating_sub(now);
    let uris = leaf.uris.iter().map(|uri| json!({"uri": uri}));
    let names: Vec<Value> = uris.chain(leaf.dns.iter().map(|name| json!({"dns": name}))).collect();
    json!({
        "path": "<inline>",
        "serial_number": leaf.serial,
        "subject_alt_names": names,
        "days_until_expiration": (left / 86_400).to_string(),
        "valid_from": at(leaf.not_before),
        "expiration_time": at(leaf.not_after),
    })
}

/// A query's value without its `%` escapes; what is no escape stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let (b'%', Some(byte)) = (first, escaped) {
            bytes.push(byte);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
