//! `/config_dump`: the configuration as the control plane sent it, in the sections of Envoy's dump.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use xds::{node::ProxyNode, type_url};

use super::{message, timestamp};
use crate::{
    tls::{identity::Identity, verify::Leaf},
    xds::{held::Resource, session::Session},
};

/// A section of the dump.
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

/// The dump. `include_eds` adds endpoints; `resource=<list>` gives the elements of one list, `name_regex` only those
/// whose name matches.
pub(super) fn config_dump(
    session: &Session,
    node: &ProxyNode,
    identity: Option<&Identity>,
    query: &str,
) -> Result<Value, String> {
    let name = super::parameter(query, "name_regex").map(percent_decoded);
    let name =
        name.map(|pattern| regex::Regex::new(&pattern).map_err(|error| format!("name_regex: {error}"))).transpose()?;
    let wanted = |candidate: &str| name.as_ref().is_none_or(|pattern| pattern.is_match(candidate));
    if let Some(list) = super::parameter(query, "resource") {
        let section = [CLUSTERS, LISTENERS, ROUTES, ENDPOINTS]
            .into_iter()
            .find(|section| section.list == list)
            .ok_or_else(|| format!("there is no list {list:?}; try {}", LISTENERS.list))?;
        let mut elements = elements(&section, session, &wanted);
        for element in &mut elements {
            if let Value::Object(fields) = element {
                let mut typed = Map::new();
                let of = section.message.trim_end_matches("ConfigDump");
                typed.insert(
                    "@type".to_owned(),
                    json!(admin_type(&format!("{}.Dynamic{}", section.message, singular(of)))),
                );
                typed.append(fields);
                *fields = typed;
            }
        }
        return Ok(json!({"configs": elements}));
    }
    let mut configs =
        vec![json!({"@type": admin_type("BootstrapConfigDump"), "bootstrap": {"node": self::node(node)}})];
    let include_eds = super::parameter(query, "include_eds").is_some();
    for section in [CLUSTERS, ENDPOINTS, LISTENERS, ROUTES] {
        if section.kind == ENDPOINTS.kind && !include_eds {
            continue;
        }
        let mut object = Map::new();
        object.insert("@type".to_owned(), json!(admin_type(section.message)));
        object.insert(section.list.to_owned(), Value::Array(elements(&section, session, &wanted)));
        configs.push(Value::Object(object));
    }
    configs.push(secrets(identity));
    Ok(json!({"configs": configs}))
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

fn elements(section: &Section, session: &Session, wanted: &dyn Fn(&str) -> bool) -> Vec<Value> {
    let held = session.held();
    let resources = held.kind(section.kind).filter(|(name, _)| wanted(name));
    resources
        .map(|(name, resource)| {
            let mut value = message::any(section.kind, &resource.message);
            if section.kind == type_url::ROUTES {
                with_hosts(&mut value, name, held.kind(type_url::VIRTUAL_HOST));
            }
            let mut state = Map::new();
            if !resource.version.is_empty() {
                state.insert("version_info".to_owned(), json!(resource.version));
                state.insert(section.member.to_owned(), value);
                state.insert("last_updated".to_owned(), json!(timestamp(resource.updated)));
            }
            let mut element = Map::new();
            if section.kind == type_url::LISTENER {
                // A listener's element has its state one level further down.
                element.insert("name".to_owned(), json!(name));
                if !state.is_empty() {
                    element.insert("active_state".to_owned(), Value::Object(state));
                }
            } else {
                element = state;
            }
            element.extend(error(resource).map(|error| ("error_state".to_owned(), error)));
            Value::Object(element)
        })
        .collect()
}

fn error(resource: &Resource) -> Option<Value> {
    let refused = resource.refused.as_ref()?;
    Some(json!({
        "version_info": refused.version,
        "details": refused.reason,
        "last_update_attempt": timestamp(refused.at),
    }))
}

/// Puts virtual hosts that came apart back where Envoy has them.
fn with_hosts<'a>(table: &mut Value, name: &str, hosts: impl Iterator<Item = (&'a str, &'a Resource)>) {
    let of_table = hosts.filter(|(host, _)| host.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')));
    let hosts: Vec<Value> = of_table
        .map(|(_, resource)| {
            let mut host = message::any(type_url::VIRTUAL_HOST, &resource.message);
            if let Value::Object(fields) = &mut host {
                fields.shift_remove("@type");
            }
            host
        })
        .collect();
    if let (Value::Object(fields), false) = (table, hosts.is_empty())
        && let Value::Array(inline) = fields.entry("virtual_hosts").or_insert_with(|| json!([]))
    {
        inline.extend(hosts);
    }
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
                    "private_key": {"inline_bytes": STANDARD.encode("[redacted]")},
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
