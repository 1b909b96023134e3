//! The part of sprig that changes nothing, asks nobody and gives the same every time. What is left out on purpose: what
//! changes its argument (`set`, `unset`, `merge`), random and dates, keys and certificates, files and the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gotmpl::{TemplateError, Value};

use super::{
    Function, Outcome, argument, count, is_empty, istio, kind, list, list_of, map, map_of, number, string, text,
    text_of, to_json, wrong,
};

const LONGEST_REPEAT: usize = 10_000;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    // Defaults.
    ("default", |arguments| {
        let (otherwise, value) = (argument(arguments, 0)?, arguments.get(1).unwrap_or(&Value::Nil));
        Ok(if is_empty(value) { otherwise.clone() } else { value.clone() })
    }),
    ("empty", |arguments| Ok(Value::Bool(is_empty(argument(arguments, 0)?)))),
    ("coalesce", |arguments| Ok(arguments.iter().find(|value| !is_empty(value)).cloned().unwrap_or(Value::Nil))),
    ("ternary", |arguments| argument(arguments, usize::from(is_empty(argument(arguments, 2)?))).cloned()),
    ("fail", |arguments| Err(wrong(text(arguments, 0)?))),
    // Text.
    ("quote", |arguments| Ok(string(quoted(arguments, |text| serde_json::Value::from(text).to_string())))),
    ("squote", |arguments| Ok(string(quoted(arguments, |text| format!("'{text}'"))))),
    ("upper", |arguments| Ok(string(text(arguments, 0)?.to_uppercase()))),
    ("lower", |arguments| Ok(string(text(arguments, 0)?.to_lowercase()))),
    ("trim", |arguments| Ok(string(text(arguments, 0)?.trim()))),
    ("trimAll", |arguments| {
        let cut = text(arguments, 0)?;
        Ok(string(text(arguments, 1)?.trim_matches(|c| cut.contains(c))))
    }),
    ("trimPrefix", |arguments| {
        let (prefix, text) = (text(arguments, 0)?, text(arguments, 1)?);
        Ok(string(text.strip_prefix(&prefix).unwrap_or(&text)))
    }),
    ("trimSuffix", |arguments| {
        let (suffix, text) = (text(arguments, 0)?, text(arguments, 1)?);
        Ok(string(text.strip_suffix(&suffix).unwrap_or(&text)))
    }),
    ("trunc", |arguments| {
        let (length, text) = (number(arguments, 0)?, text(arguments, 1)?);
        let characters = text.chars().count();
        let most = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
        let skipped = if length < 0 { characters.saturating_sub(most) } else { 0 };
        Ok(string(text.chars().skip(skipped).take(most).collect::<String>()))
    }),
    ("replace", |arguments| {
        let (old, new, text) = (text(arguments, 0)?, text(arguments, 1)?, text(arguments, 2)?);
        if text.matches(old.as_str()).count().saturating_mul(new.len()) > super::LARGEST_VALUE {
            return Err(wrong("replace: the result is too large"));
        }
        Ok(string(text.replace(&old, &new)))
    }),
    ("repeat", |arguments| {
        let (times, text) = (count(arguments, 0, LONGEST_REPEAT)?, text(arguments, 1)?);
        if times.saturating_mul(text.len()) > super::LARGEST_VALUE {
            return Err(wrong("repeat: the result is too large"));
        }
        Ok(string(text.repeat(times)))
    }),
    ("hasPrefix", |arguments| Ok(Value::Bool(text(arguments, 1)?.starts_with(&text(arguments, 0)?)))),
    ("hasSuffix", |arguments| Ok(Value::Bool(text(arguments, 1)?.ends_with(&text(arguments, 0)?)))),
    ("nindent", |arguments| {
        let (spaces, text) = (" ".repeat(count(arguments, 0, 100)?), text(arguments, 1)?);
        Ok(string(format!("\n{spaces}{}", text.replace('\n', &format!("\n{spaces}")))))
    }),
    ("cat", |arguments| Ok(string(arguments.iter().map(text_of).collect::<Vec<_>>().join(" ")))),
    ("nospace", |arguments| Ok(string(text(arguments, 0)?.split_whitespace().collect::<String>()))),
    ("b64enc", |arguments| Ok(string(BASE64.encode(text(arguments, 0)?)))),
    ("b64dec", |arguments| {
        let bytes = BASE64.decode(text(arguments, 0)?).map_err(|error| wrong(format!("b64dec: {error}")))?;
        String::from_utf8(bytes).map(string).map_err(|_| wrong("b64dec: what comes out is not text"))
    }),
    ("toString", |arguments| Ok(string(text(arguments, 0)?))),
    ("join", |arguments| {
        let separator = text(arguments, 0)?;
        let items: Vec<String> = match argument(arguments, 1)? {
            Value::List(items) => items.iter().map(text_of).collect(),
            other => vec![text_of(other)],
        };
        if items.len().saturating_mul(separator.len()) > super::LARGEST_VALUE {
            return Err(wrong("join: the result is too large"));
        }
        Ok(string(items.join(&separator)))
    }),
    ("splitList", |arguments| {
        let (separator, text) = (text(arguments, 0)?, text(arguments, 1)?);
        Ok(list_of(text.split(separator.as_str()).map(string).collect()))
    }),
    // Numbers.
    ("int", |arguments| Ok(Value::Int(number(arguments, 0)?))),
    ("int64", |arguments| Ok(Value::Int(number(arguments, 0)?))),
    ("atoi", |arguments| Ok(Value::Int(number(arguments, 0)?))),
    ("add", |arguments| fold(arguments, 0, i64::checked_add)),
    ("add1", |arguments| number(arguments, 0)?.checked_add(1).map(Value::Int).ok_or_else(overflow)),
    ("sub", |arguments| number(arguments, 0)?.checked_sub(number(arguments, 1)?).map(Value::Int).ok_or_else(overflow)),
    ("mul", |arguments| fold(arguments, 1, i64::checked_mul)),
    ("div", |arguments| number(arguments, 0)?.checked_div(number(arguments, 1)?).map(Value::Int).ok_or_else(overflow)),
    ("mod", |arguments| number(arguments, 0)?.checked_rem(number(arguments, 1)?).map(Value::Int).ok_or_else(overflow)),
    ("max", |arguments| fold(arguments, number(arguments, 0)?, |one, other| Some(one.max(other)))),
    ("min", |arguments| fold(arguments, number(arguments, 0)?, |one, other| Some(one.min(other)))),
    // Lists.
    ("list", |arguments| Ok(list_of(arguments.to_vec()))),
    ("append", |arguments| {
        let mut items = list(arguments, 0)?;
        items.push(argument(arguments, 1)?.clone());
        Ok(list_of(items))
    }),
    ("prepend", |arguments| {
        let mut items = list(arguments, 0)?;
        items.insert(0, argument(arguments, 1)?.clone());
        Ok(list_of(items))
    }),
    ("concat", |arguments| {
        let lists: Result<Vec<_>, _> = (0..arguments.len()).map(|index| list(arguments, index)).collect();
        Ok(list_of(lists?.concat()))
    }),
    ("first", |arguments| Ok(list(arguments, 0)?.first().cloned().unwrap_or(Value::Nil))),
    ("last", |arguments| Ok(list(arguments, 0)?.last().cloned().unwrap_or(Value::Nil))),
    ("rest", |arguments| Ok(list_of(list(arguments, 0)?.into_iter().skip(1).collect()))),
    ("initial", |arguments| {
        let mut items = list(arguments, 0)?;
        items.pop();
        Ok(list_of(items))
    }),
    ("reverse", |arguments| Ok(list_of(list(arguments, 0)?.into_iter().rev().collect()))),
    ("compact", |arguments| Ok(list_of(list(arguments, 0)?.into_iter().filter(|item| !is_empty(item)).collect()))),
    ("uniq", |arguments| {
        let mut seen = std::collections::BTreeSet::new();
        let items = list(arguments, 0)?.into_iter().filter(|item| seen.insert(to_json(item).to_string()));
        Ok(list_of(items.collect()))
    }),
    ("has", |arguments| {
        let wanted = argument(arguments, 0)?;
        Ok(Value::Bool(list(arguments, 1)?.contains(wanted)))
    }),
    ("without", |arguments| {
        let unwanted = arguments.get(1..).unwrap_or_default();
        Ok(list_of(list(arguments, 0)?.into_iter().filter(|item| !unwanted.contains(item)).collect()))
    }),
    ("sortAlpha", |arguments| {
        let mut items: Vec<String> = list(arguments, 0)?.iter().map(text_of).collect();
        items.sort();
        Ok(list_of(items.iter().map(string).collect()))
    }),
    ("until", |arguments| {
        let count = count(arguments, 0, LONGEST_REPEAT)?;
        Ok(list_of((0..count).filter_map(|number| i64::try_from(number).ok()).map(Value::Int).collect()))
    }),
    // Maps.
    ("dict", |arguments| Ok(dictionary(arguments))),
    ("get", |arguments| {
        let members = map(arguments, 0)?;
        Ok(members.get(text(arguments, 1)?.as_str()).cloned().unwrap_or_else(|| string("")))
    }),
    ("hasKey", |arguments| Ok(Value::Bool(map(arguments, 0)?.contains_key(text(arguments, 1)?.as_str())))),
    ("keys", |arguments| {
        let mut names = Vec::new();
        for index in 0..arguments.len() {
            names.extend(map(arguments, index)?.into_keys().filter(|name| name.as_ref() != super::STRUCTURE));
        }
        Ok(list_of(names.iter().map(string).collect()))
    }),
    ("values", |arguments| Ok(list_of(map(arguments, 0)?.into_values().collect()))),
    ("pick", |arguments| {
        let wanted: Vec<String> = arguments.iter().skip(1).map(text_of).collect();
        let mut members = map(arguments, 0)?;
        members.retain(|name, _| wanted.iter().any(|one| *one == **name));
        Ok(map_of(members))
    }),
    ("dig", |arguments| {
        let [path @ .., otherwise, whole] = arguments else { return Err(wrong("dig takes keys, a default and a map")) };
        let found = path.iter().try_fold(whole, |value, key| value.field(&text_of(key)));
        Ok(found.unwrap_or(otherwise).clone())
    }),
    // Types and encodings.
    ("kindOf", |arguments| Ok(string(kind(argument(arguments, 0)?)))),
    ("kindIs", |arguments| Ok(Value::Bool(text(arguments, 0)? == kind(argument(arguments, 1)?)))),
    ("fromJson", |arguments| istio::from_text(&text(arguments, 0)?)),
    ("toPrettyJson", |arguments| Ok(string(format!("{:#}", to_json(argument(arguments, 0)?))))),
];

fn quoted(arguments: &[Value], quote: impl Fn(String) -> String) -> String {
    let quoted: Vec<String> =
        arguments.iter().filter(|value| !matches!(value, Value::Nil)).map(|value| quote(text_of(value))).collect();
    quoted.join(" ")
}

fn fold(arguments: &[Value], start: i64, step: fn(i64, i64) -> Option<i64>) -> Outcome {
    (0..arguments.len())
        .try_fold(start, |sum, index| step(sum, number(arguments, index)?).ok_or_else(overflow))
        .map(Value::Int)
}

fn overflow() -> TemplateError {
    wrong("the result is no number")
}

/// Keys and values in turn.
pub(super) fn dictionary(arguments: &[Value]) -> Value {
    let mut members = BTreeMap::new();
    for pair in arguments.chunks(2) {
        if let Some(key) = pair.first() {
            members.insert(Arc::from(text_of(key)), pair.get(1).cloned().unwrap_or_else(|| string("")));
        }
    }
    map_of(members)
}
