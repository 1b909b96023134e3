//! What a user's template may call: Go's own functions, those of Istio's injector, and the part of sprig that changes
//! nothing, asks nobody and gives the same every time.
//!
//! The calls of one pass are counted, and what goes in and comes out has a bounded size and depth; so a template cannot
//! build what would not fit into memory.

mod istio;
mod sprig;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use gotmpl::{FuncMap, Template, TemplateError, Value};
use serde_json::{Map, Value as Json};

use crate::inject::values::Text;

type Outcome = Result<Value, TemplateError>;
type Function = fn(&[Value]) -> Outcome;

const MOST_CALLS: u32 = 100_000;
/// Bytes of text and items of lists and maps, in one value.
const LARGEST_VALUE: usize = 1 << 20;
const DEEPEST_VALUE: usize = 100;

/// A format with more verbs is a mistake; each may be padded to 64 KiB.
const MOST_VERBS: usize = 64;

/// Evaluated by the engine itself: arguments that do not matter are not looked at.
const OF_THE_ENGINE: [&str; 2] = ["and", "or"];
/// Go's own, by the engine, each within our bounds.
const BY_THE_ENGINE: [&str; 13] =
    ["not", "lt", "le", "gt", "ge", "print", "printf", "println", "len", "slice", "html", "js", "urlquery"];

/// Marks a map that is a structure in Istio: its members have Go's names, and JSON's when it is written.
pub(super) const STRUCTURE: &str = "\0";

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static ENVIRONMENT: RefCell<BTreeMap<String, Text>> = const { RefCell::new(BTreeMap::new()) };
}

/// Runs one pass of a template: its calls are counted, and `env` answers from here.
pub(super) fn within_bounds<T>(environment: &BTreeMap<String, Text>, pass: impl FnOnce() -> T) -> T {
    CALLS.set(0);
    ENVIRONMENT.with_borrow_mut(|own| own.clone_from(environment));
    pass()
}

/// Whether a template may call this.
pub(super) fn is_known(name: &str) -> bool {
    OF_THE_ENGINE.contains(&name)
        || BY_THE_ENGINE.contains(&name)
        || istio::FUNCTIONS.iter().chain(sprig::FUNCTIONS).any(|(own, _)| *own == name)
}

/// All functions, each within its bounds.
pub(super) fn all() -> FuncMap {
    let mut all = FuncMap::new();
    for name in BY_THE_ENGINE {
        all.insert(
            name.to_owned(),
            Arc::new(move |arguments| bounded(name, arguments, |arguments| engine(name, arguments))),
        );
    }
    // Istio's take the place of sprig's of the same name, as there.
    for (name, function) in sprig::FUNCTIONS.iter().chain(istio::FUNCTIONS).copied() {
        all.insert(name.to_owned(), Arc::new(move |arguments| bounded(name, arguments, function)));
    }
    all
}

/// One of the engine's functions, which it does not offer but in a template.
fn engine(name: &str, arguments: &[Value]) -> Outcome {
    if name == "printf" && text(arguments, 0)?.matches('%').count() > MOST_VERBS {
        return Err(wrong(format!("a format with more than {MOST_VERBS} verbs")));
    }
    let result = Arc::new(Mutex::new(Value::Nil));
    let kept = Arc::clone(&result);
    let call: String = (0..arguments.len()).fold(name.to_owned(), |call, index| format!("{call} (index . {index})"));
    Template::new(name)
        .func("keep", move |arguments| {
            if let (Ok(mut kept), Some(value)) = (kept.lock(), arguments.first()) {
                *kept = value.clone();
            }
            Ok(string(""))
        })
        .parse(&format!("{{{{keep ({call})}}}}"))?
        .execute_to_string(&list_of(arguments.to_vec()))?;
    let result = result.lock().map_or(Value::Nil, |result| result.clone());
    Ok(result)
}

fn bounded(name: &str, arguments: &[Value], function: impl Fn(&[Value]) -> Outcome) -> Outcome {
    let calls = CALLS.get() + 1;
    CALLS.set(calls);
    if calls > MOST_CALLS {
        return Err(TemplateError::Exec(format!("more than {MOST_CALLS} calls of functions")));
    }
    let too_large = |()| TemplateError::Exec(format!("{name}: a value is larger than {LARGEST_VALUE}, or too deep"));
    let mut left = LARGEST_VALUE;
    arguments.iter().try_for_each(|argument| weigh(argument, &mut left, DEEPEST_VALUE)).map_err(too_large)?;
    let result = function(arguments)?;
    weigh(&result, &mut LARGEST_VALUE.clone(), DEEPEST_VALUE).map_err(too_large)?;
    Ok(result)
}

/// Takes a value's size from what is left; ends as soon as nothing is.
fn weigh(value: &Value, left: &mut usize, depth: usize) -> Result<(), ()> {
    let size = match value {
        Value::String(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(members) => members.keys().map(|name| name.len() + 1).sum(),
        _ => 1,
    };
    *left = left.checked_sub(size).ok_or(())?;
    let deeper = depth.checked_sub(1).ok_or(())?;
    match value {
        Value::List(items) => items.iter().try_for_each(|item| weigh(item, left, deeper)),
        Value::Map(members) => members.values().try_for_each(|member| weigh(member, left, deeper)),
        _ => Ok(()),
    }
}

fn environment(name: &str) -> Option<String> {
    ENVIRONMENT.with_borrow(|own| own.get(name).map(|value| value.0.clone()).filter(|value| !value.is_empty()))
}

// Arguments, and values made of them.

fn wrong(message: impl Into<String>) -> TemplateError {
    TemplateError::Exec(message.into())
}

fn argument(arguments: &[Value], index: usize) -> Result<&Value, TemplateError> {
    arguments.get(index).ok_or_else(|| wrong(format!("an argument is missing: {} were given", arguments.len())))
}

/// Go's `fmt.Sprint`, but nothing for nil.
fn text_of(value: &Value) -> String {
    match value {
        Value::Nil => String::new(),
        Value::String(text) => text.to_string(),
        other => other.to_string(),
    }
}

fn text(arguments: &[Value], index: usize) -> Result<String, TemplateError> {
    argument(arguments, index).map(text_of)
}

fn number(arguments: &[Value], index: usize) -> Result<i64, TemplateError> {
    let value = argument(arguments, index)?;
    let float = |float: f64| format!("{:.0}", float.trunc()).parse().ok();
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::Uint(number) => i64::try_from(*number).ok(),
        Value::Float(number) => float(*number),
        Value::Bool(yes) => Some(i64::from(*yes)),
        Value::String(text) => text.trim().parse().ok().or(Some(0)),
        Value::Nil => Some(0),
        _ => None,
    };
    number.ok_or_else(|| wrong(format!("{value} is not a number")))
}

fn count(arguments: &[Value], index: usize, most: usize) -> Result<usize, TemplateError> {
    let number = number(arguments, index)?;
    usize::try_from(number)
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| wrong(format!("{number} is not in 0..{most}")))
}

fn list(arguments: &[Value], index: usize) -> Result<Vec<Value>, TemplateError> {
    match argument(arguments, index)? {
        Value::List(items) => Ok(items.to_vec()),
        Value::Nil => Ok(Vec::new()),
        other => Err(wrong(format!("{} is not a list", kind(other)))),
    }
}

fn map(arguments: &[Value], index: usize) -> Result<BTreeMap<Arc<str>, Value>, TemplateError> {
    match argument(arguments, index)? {
        Value::Map(members) => Ok(members.as_ref().clone()),
        Value::Nil => Ok(BTreeMap::new()),
        other => Err(wrong(format!("{} is not a map", kind(other)))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Uint(_) => "int",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Function(_) => "func",
    }
}

fn string(text: impl AsRef<str>) -> Value {
    Value::String(Arc::from(text.as_ref()))
}

fn list_of(items: Vec<Value>) -> Value {
    Value::List(Arc::from(items))
}

fn map_of(members: BTreeMap<Arc<str>, Value>) -> Value {
    Value::Map(Arc::new(members))
}

fn is_empty(value: &Value) -> bool {
    !value.is_truthy()
}

/// Go's equality, in which what is not set equals the zero of its type: here nothing tells a missing member of a
/// structure from a missing member of a map.
fn equal(one: &Value, other: &Value) -> Result<bool, TemplateError> {
    let float = |number: i64, other: f64| other.fract() == 0.0 && format!("{other:.0}") == number.to_string();
    match (one, other) {
        (Value::Nil, other) | (other, Value::Nil) => {
            Ok(matches!(other, Value::Nil | Value::Bool(false) | Value::Int(0) | Value::Uint(0))
                || *other == string(""))
        }
        (Value::Bool(one), Value::Bool(other)) => Ok(one == other),
        (Value::Int(one), Value::Int(other)) => Ok(one == other),
        (Value::Uint(one), Value::Uint(other)) => Ok(one == other),
        (Value::Int(one), Value::Uint(other)) | (Value::Uint(other), Value::Int(one)) => {
            Ok(u64::try_from(*one).is_ok_and(|one| one == *other))
        }
        (Value::Int(number), Value::Float(other)) | (Value::Float(other), Value::Int(number)) => {
            Ok(float(*number, *other))
        }
        (Value::Float(one), Value::Float(other)) => Ok(one.total_cmp(other).is_eq()),
        (Value::String(one), Value::String(other)) => Ok(one == other),
        _ => Err(wrong(format!("incompatible types for comparison: {} and {}", kind(one), kind(other)))),
    }
}

// JSON and back.

/// A value as JSON; a structure's members by JSON's names.
pub(super) fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(yes) => Json::Bool(*yes),
        Value::Int(number) => Json::from(*number),
        Value::Uint(number) => Json::from(*number),
        Value::Float(number) => whole(*number).map_or_else(|| Json::from(*number), Json::from),
        Value::String(text) => Json::String(text.to_string()),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Map(members) => {
            let structure = members.contains_key(STRUCTURE);
            let mut object = Map::new();
            for (name, member) in members.iter().filter(|(name, _)| name.as_ref() != STRUCTURE) {
                // What a structure does not have is left out, as Go's `omitempty` does.
                if structure
                    && (matches!(member, Value::Nil) || matches!(member, Value::String(text) if text.is_empty()))
                {
                    continue;
                }
                let name = if structure { super::data::json_name(name) } else { name.to_string() };
                object.insert(name, to_json(member));
            }
            Json::Object(object)
        }
        _ => Json::Null,
    }
}

/// Go writes a float without a fraction as a whole number.
fn whole(number: f64) -> Option<i64> {
    let near = number.fract() == 0.0 && number.abs() < 9.0e15;
    near.then(|| format!("{number:.0}").parse().ok()).flatten()
}

/// JSON as a value.
pub(super) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(yes) => Value::Bool(*yes),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Value::Int(number),
            (None, Some(number), _) => Value::Uint(number),
            (None, None, number) => number.map_or(Value::Nil, Value::Float),
        },
        Json::String(text) => string(text),
        Json::Array(items) => list_of(items.iter().map(from_json).collect()),
        Json::Object(members) => {
            map_of(members.iter().map(|(name, member)| (Arc::from(name.as_str()), from_json(member))).collect())
        }
    }
}
