//! The functions of Istio's injector, and Go's own where nothing and nil need care.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;
use serde_json::Value as Json;

use super::{
    Function, Outcome, STRUCTURE, argument, environment, equal, from_json, map, map_of, string, text, text_of, to_json,
    wrong,
};
use crate::inject::redirection;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("annotation", annotation),
    ("appendMultusNetwork", append_multus_network),
    ("applicationPorts", |arguments| Ok(string(ports(argument(arguments, 0)?, false)))),
    ("contains", |arguments| Ok(Value::Bool(text(arguments, 1)?.contains(&text(arguments, 0)?)))),
    ("directory", |arguments| {
        let path = text(arguments, 0)?;
        Ok(string(path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"))))
    }),
    ("env", |arguments| {
        let otherwise = argument(arguments, 1)?;
        Ok(environment(&text(arguments, 0)?).map_or_else(|| otherwise.clone(), string))
    }),
    ("eq", |arguments| {
        let first = argument(arguments, 0)?;
        argument(arguments, 1)?;
        for other in arguments.iter().skip(1) {
            if equal(first, other)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    ("ne", |arguments| Ok(Value::Bool(!equal(argument(arguments, 0)?, argument(arguments, 1)?)?))),
    ("index", index),
    ("excludeInboundPort", |arguments| {
        let (port, excluded) = (text(arguments, 0)?, text(arguments, 1)?);
        Ok(string(redirection::exclude_port(&port, &excluded)))
    }),
    // Durations are text here, as protobuf's JSON has them.
    ("formatDuration", |arguments| Ok(string(text(arguments, 0)?))),
    ("fromJSON", |arguments| from_text(&text(arguments, 0)?)),
    ("includeInboundPorts", |arguments| Ok(string(ports(argument(arguments, 0)?, true)))),
    ("indent", |arguments| Ok(string(indent(super::count(arguments, 0, 100)?, &text(arguments, 1)?)))),
    ("isset", |arguments| Ok(Value::Bool(map(arguments, 0)?.contains_key(text(arguments, 1)?.as_str())))),
    ("kubevirtInterfaces", |arguments| Ok(string(text(arguments, 0)?))),
    ("mergeMaps", |arguments| {
        let mut merged = BTreeMap::new();
        for index in 0..arguments.len() {
            merged.extend(map(arguments, index)?);
        }
        Ok(map_of(merged))
    }),
    ("omit", omit),
    ("omitNil", |arguments| {
        let mut members = map(arguments, 0)?;
        members.retain(|_, member| !matches!(member, Value::Nil));
        Ok(map_of(members))
    }),
    ("protoToJSON", |arguments| {
        // The difference to the defaults, which the data carries along.
        match argument(arguments, 0)? {
            Value::Map(members) => match members.get(STRUCTURE) {
                Some(Value::String(json)) => Ok(Value::String(Arc::clone(json))),
                _ => Ok(string(to_json(argument(arguments, 0)?).to_string())),
            },
            _ => Ok(string("{}")),
        }
    }),
    ("strdict", |arguments| Ok(super::sprig::dictionary(arguments))),
    ("structToJSON", |arguments| Ok(json(argument(arguments, 0)?))),
    ("toJSON", |arguments| Ok(json(argument(arguments, 0)?))),
    ("toJson", |arguments| Ok(json(argument(arguments, 0)?))),
    ("toJsonMap", |arguments| {
        let mut merged = BTreeMap::new();
        for index in 0..arguments.len() {
            merged.extend(map(arguments, index)?);
        }
        Ok(json(&map_of(merged)))
    }),
    ("toLower", |arguments| Ok(string(text(arguments, 0)?.to_lowercase()))),
    ("toYaml", |arguments| Ok(string(yaml(argument(arguments, 0)?)?))),
    ("valueOrDefault", |arguments| {
        let (value, otherwise) = (argument(arguments, 0)?, argument(arguments, 1)?);
        let unset = matches!(value, Value::Nil) || matches!(value, Value::String(text) if text.is_empty());
        Ok(if unset { otherwise.clone() } else { value.clone() })
    }),
];

/// `annotation .ObjectMeta name default`.
fn annotation(arguments: &[Value]) -> Outcome {
    let name = text(arguments, 1)?;
    let otherwise = argument(arguments, 2)?;
    let annotations = argument(arguments, 0)?.field("Annotations");
    let value = annotations.and_then(|annotations| annotations.field(&name));
    Ok(string(value.map_or_else(|| text_of(otherwise), text_of)))
}

/// As Go's `index`, but what a map does not have is empty text: labels and annotations are maps of text there.
fn index(arguments: &[Value]) -> Outcome {
    argument(arguments, 1)?;
    let mut value = argument(arguments, 0)?.clone();
    for key in arguments.iter().skip(1) {
        value = match (&value, key) {
            (Value::Nil, _) => string(""),
            (Value::Map(members), Value::String(key)) => members.get(key).cloned().unwrap_or_else(|| string("")),
            (value, key) => value.index(key)?,
        };
    }
    Ok(value)
}

fn append_multus_network(arguments: &[Value]) -> Outcome {
    Ok(string(redirection::append_network(&text(arguments, 0)?, &text(arguments, 1)?)))
}

/// TCP ports of containers.
fn ports(containers: &Value, with_proxy: bool) -> String {
    let Value::List(containers) = containers else { return String::new() };
    let is = |value: Option<&Value>, text: &str| matches!(value, Some(Value::String(own)) if own.as_ref() == text);
    let containers = containers.iter().filter(|one| with_proxy || !is(one.field("Name"), crate::inject::PROXY));
    let ports = containers.flat_map(|container| match container.field("Ports") {
        Some(Value::List(ports)) => ports.to_vec(),
        _ => Vec::new(),
    });
    let ports = ports.filter(|port| !is(port.field("Protocol"), "UDP") && !is(port.field("Protocol"), "SCTP"));
    let ports: Vec<String> = ports.filter_map(|port| port.field("ContainerPort").map(text_of)).collect();
    ports.join(",")
}

/// The first line stays where it stands.
fn indent(spaces: usize, text: &str) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(spaces)))
}

/// The last argument is the map, so that it can come through a pipe; Istio's order, sprig's has it first.
fn omit(arguments: &[Value]) -> Outcome {
    let (first, last) = (argument(arguments, 0)?, arguments.len().saturating_sub(1));
    let at = if matches!(first, Value::Map(_)) { 0 } else { last };
    let mut members = map(arguments, at)?;
    for (index, name) in arguments.iter().enumerate() {
        if index != at {
            members.remove(text_of(name).as_str());
        }
    }
    Ok(map_of(members))
}

pub(super) fn from_text(json: &str) -> Outcome {
    let value: Json = serde_json::from_str(json).map_err(|error| wrong(format!("fromJSON: {error}")))?;
    Ok(from_json(&value))
}

fn json(value: &Value) -> Value {
    match value {
        Value::Nil => string("{}"),
        other => string(to_json(other).to_string()),
    }
}

pub(super) fn yaml(value: &Value) -> Result<String, gotmpl::TemplateError> {
    if matches!(value, Value::Nil) {
        return Ok("null\n".to_owned());
    }
    crds::yaml::to_string(&to_json(value)).map_err(|error| wrong(format!("toYaml: {error}")))
}
