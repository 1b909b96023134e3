//! Kubernetes' strategic merge patch, over pods and what has a template of them: objects member by member, lists by what their items are known by.
//!
//! The keys are those of Kubernetes' API types (`patchMergeKey`), or, where two of them make the key of server-side apply,
//! both. What the types say about order holds: `$patch`, `$deleteFromPrimitiveList`, `$setElementOrder` and
//! `$retainKeys` are understood. In two ways the result is better than the original's: members that exclude each other
//! (a volume's sources, a variable's value and reference, a probe's handlers) replace each other instead of standing side
//! by side, which the API server refuses; and new items of lists whose order carries no meaning are appended, so that a
//! variable may still refer to those before it, and the patch stays small.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// A patch that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// An item of a merged list that does not say which it is.
    #[error("{0}: an item has no \"{1}\", which items of this list are known by")]
    NoKey(String, &'static str),
    /// A directive that there is not.
    #[error("{0}: \"$patch: {1}\" is not known; delete, replace and merge are")]
    Directive(String, String),
    /// A directive that takes a list.
    #[error("{0}: $deleteFromPrimitiveList, $setElementOrder and $retainKeys take a list")]
    NotAList(String),
}

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// What an item of a list is known by: members, with what their absence means.
type Key = &'static [(&'static str, &'static str)];

/// Where items go that the list did not have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// As Kubernetes merges: before what the patch does not name.
    Patch,
    /// At the end.
    End,
}

/// A list that is merged; all others are replaced as a whole.
enum List {
    Objects(Key, Place),
    Scalars,
}

fn list(name: &str) -> Option<List> {
    const NAME: Key = &[("name", "")];
    Some(match name {
        "containers" | "initContainers" | "ephemeralContainers" | "imagePullSecrets" => {
            List::Objects(NAME, Place::Patch)
        }
        "volumes" | "env" | "schedulingGates" | "resourceClaims" | "claims" => List::Objects(NAME, Place::End),
        "ports" => List::Objects(&[("containerPort", ""), ("protocol", "TCP")], Place::End),
        "volumeMounts" => List::Objects(&[("mountPath", "")], Place::End),
        "volumeDevices" => List::Objects(&[("devicePath", "")], Place::End),
        "hostAliases" => List::Objects(&[("ip", "")], Place::End),
        "topologySpreadConstraints" => List::Objects(&[("topologyKey", ""), ("whenUnsatisfiable", "")], Place::End),
        "ownerReferences" => List::Objects(&[("uid", "")], Place::End),
        "finalizers" => List::Scalars,
        _ => return None,
    })
}

/// Whether a member of an object is one of those of which there can be one only, given the list or member that it stands in.
fn is_one_of(place: &str, member: &str) -> bool {
    const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
    match place {
        "volumes" | "env" => member != "name",
        "livenessProbe" | "readinessProbe" | "startupProbe" | "postStart" | "preStop" => HANDLERS.contains(&member),
        _ => false,
    }
}

/// Lays a patch over a document.
pub fn merge(document: &mut Value, patch: &Value) -> Result<(), MergeError> {
    value(document, patch, "", "")
}

fn value(document: &mut Value, patch: &Value, name: &str, path: &str) -> Result<(), MergeError> {
    match (document, patch) {
        (Value::Object(document), Value::Object(patch)) => object(document, patch, name, path),
        (document, Value::Object(patch)) => {
            // What was no object is made one, so that directives do not stay in the result.
            let mut fresh = Map::new();
            object(&mut fresh, patch, name, path)?;
            *document = Value::Object(fresh);
            Ok(())
        }
        (document, Value::Array(patch)) => array(document, patch, name, path),
        (document, patch) => {
            *document = patch.clone();
            Ok(())
        }
    }
}

fn object(
    document: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    name: &str,
    path: &str,
) -> Result<(), MergeError> {
    match patch.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("delete") => {
            document.clear();
            return Ok(());
        }
        Some("replace") => document.clear(),
        Some(other) => return Err(MergeError::Directive(here(path), other.to_owned())),
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        let retained = retained.as_array().ok_or_else(|| MergeError::NotAList(here(path)))?;
        let retained: HashSet<&str> = retained.iter().filter_map(Value::as_str).collect();
        document.retain(|member, _| retained.contains(member.as_str()));
    }
    for (member, patch) in patch {
        let path = || if path.is_empty() { member.clone() } else { format!("{path}.{member}") };
        if let Some(of) = member.strip_prefix(DELETE_FROM) {
            let gone = patch.as_array().ok_or_else(|| MergeError::NotAList(path()))?;
            if let Some(Value::Array(items)) = document.get_mut(of) {
                let gone: HashSet<String> = gone.iter().map(ToString::to_string).collect();
                items.retain(|item| !gone.contains(&item.to_string()));
            }
            continue;
        }
        if member.starts_with('$') {
            continue;
        }
        if patch.is_null() {
            document.shift_remove(member);
            continue;
        }
        if is_one_of(name, member) {
            document.retain(|other, _| other == member || !is_one_of(name, other));
        }
        value(document.entry(member.clone()).or_insert(Value::Null), patch, member, &path())?;
    }
    // Orders last: the items they speak of are there now.
    for (member, order) in patch {
        if let (Some(of), Some(Value::Array(items))) =
            (member.strip_prefix(SET_ORDER), member.strip_prefix(SET_ORDER).and_then(|of| document.get_mut(of)))
        {
            let order = order.as_array().ok_or_else(|| MergeError::NotAList(here(path)))?;
            set_order(items, order, of);
        }
    }
    Ok(())
}

fn array(document: &mut Value, patch: &[Value], name: &str, path: &str) -> Result<(), MergeError> {
    if !document.is_array() {
        *document = Value::Array(Vec::new());
    }
    let Value::Array(items) = document else { return Ok(()) };
    match list(name) {
        Some(List::Objects(key, place)) => objects(items, patch, (key, place), name, path),
        Some(List::Scalars) => {
            let mut known: HashSet<String> = items.iter().map(ToString::to_string).collect();
            items.extend(patch.iter().filter(|one| known.insert(one.to_string())).cloned());
            Ok(())
        }
        None => {
            *items = patch.to_vec();
            Ok(())
        }
    }
}

fn objects(
    items: &mut Vec<Value>,
    patch: &[Value],
    (key, place): (Key, Place),
    name: &str,
    path: &str,
) -> Result<(), MergeError> {
    let directive = |one: &Value| one.get(PATCH).and_then(Value::as_str).map(str::to_owned);
    if patch.iter().any(|one| directive(one).as_deref() == Some("replace")) {
        // An item that is nothing but the directive replaces the whole list.
        *items = Vec::new();
    }
    let before: Vec<Vec<Cow<'static, str>>> = items.iter().map(|item| identity(item, key)).collect();
    let mut order = Vec::new();
    for one in patch {
        if one.as_object().is_some_and(|one| one.len() == 1 && one.contains_key(PATCH)) {
            continue;
        }
        let own = identity(one, key);
        if let Some(((needed, _), _)) =
            key.iter().zip(&own).find(|((_, absent), own)| absent.is_empty() && own.is_empty())
        {
            return Err(MergeError::NoKey(here(path), needed));
        }
        order.push(own.clone());
        if directive(one).as_deref() == Some("delete") {
            items.retain(|item| identity(item, key) != own);
            continue;
        }
        // Only what was there before is matched: a list may name a thing twice (`env` may).
        let known = before.contains(&own).then(|| items.iter_mut().find(|item| identity(item, key) == own)).flatten();
        let path = format!("{path}[{}]", own.join(","));
        if let Some(item) = known {
            value(item, one, name, &path)?;
        } else {
            let mut fresh = Value::Null;
            value(&mut fresh, one, name, &path)?;
            items.push(fresh);
        }
    }
    if place == Place::Patch {
        arrange(items, &before, &order, key);
    }
    Ok(())
}

/// Kubernetes' order: what the patch names, in its order; what it does not name goes in where it stood relative to what
/// both have, else behind.
fn arrange(items: &mut Vec<Value>, before: &[Vec<Cow<'static, str>>], patch: &[Vec<Cow<'static, str>>], key: Key) {
    let index = |of: &[Vec<Cow<'static, str>>], item: &Value| of.iter().position(|one| *one == identity(item, key));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        std::mem::take(items).into_iter().partition(|item| index(patch, item).is_some());
    named.sort_by_key(|item| index(patch, item));
    let mut named = named.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some(other), Some(named)) => match (index(before, other), index(before, named)) {
                (Some(other), Some(named)) => other < named,
                _ => false,
            },
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return,
        };
        items.extend(if other_first { others.next() } else { named.next() });
    }
}

fn set_order(items: &mut [Value], order: &[Value], name: &str) {
    let known_by = |item: &Value| match list(name) {
        Some(List::Objects(key, _)) => identity(item, key),
        _ => vec![Cow::Owned(item.to_string())],
    };
    let mut places = HashMap::new();
    for (place, one) in order.iter().enumerate() {
        places.entry(known_by(one)).or_insert(place);
    }
    items.sort_by_cached_key(|item| places.get(&known_by(item)).copied().unwrap_or(usize::MAX));
}

fn identity(item: &Value, key: Key) -> Vec<Cow<'static, str>> {
    let text = |(member, absent): &(&str, &'static str)| match item.get(member) {
        Some(Value::String(text)) => Cow::Owned(text.clone()),
        None | Some(Value::Null) => Cow::Borrowed(*absent),
        Some(other) => Cow::Owned(other.to_string()),
    };
    key.iter().map(text).collect()
}

fn here(path: &str) -> String {
    if path.is_empty() { "the document".to_owned() } else { path.to_owned() }
}

#[cfg(test)]
mod tests;
