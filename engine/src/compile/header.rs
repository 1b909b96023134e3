//! Header matchers and header changes.

use http::{HeaderName, HeaderValue};
use xds::types::{core, route};

use super::{At, Checked, Invalid, each, part};
use crate::ir::{
    header::{AddMode, HeaderAdd, HeaderChanges, HeaderOps, HeaderPiece, HeaderTemplate},
    route::{HeaderKey, HeaderMatch, HeaderRule},
    text::TextMatch,
};

/// `HeaderMatcher`.
pub(crate) fn matcher(wanted: &route::HeaderMatcher) -> Checked<HeaderMatch> {
    use route::header_matcher::HeaderMatchSpecifier as Specifier;
    let text = |value: &String| Box::<str>::from(value.as_str());
    let rule = match &wanted.header_match_specifier {
        None => HeaderRule::Present(true),
        Some(Specifier::PresentMatch(present)) => HeaderRule::Present(*present),
        Some(Specifier::ExactMatch(value)) => {
            HeaderRule::Text(TextMatch::Exact { value: text(value), ignore_case: false })
        }
        Some(Specifier::PrefixMatch(value)) => {
            HeaderRule::Text(TextMatch::Prefix { value: text(value), ignore_case: false })
        }
        Some(Specifier::SuffixMatch(value)) => {
            HeaderRule::Text(TextMatch::Suffix { value: text(value), ignore_case: false })
        }
        Some(Specifier::ContainsMatch(value)) => {
            HeaderRule::Text(TextMatch::Contains { value: text(value), ignore_case: false })
        }
        Some(Specifier::SafeRegexMatch(regex)) => {
            HeaderRule::Text(TextMatch::Regex(part::pattern(regex).at("safe_regex_match")?))
        }
        Some(Specifier::StringMatch(matcher)) => HeaderRule::Text(part::text(matcher).at("string_match")?),
        Some(Specifier::RangeMatch(range)) => HeaderRule::Range { start: range.start, end: range.end },
    };
    Ok(HeaderMatch {
        name: key(&wanted.name).at("name")?,
        rule,
        invert: wanted.invert_match,
        missing_is_empty: wanted.treat_missing_header_as_empty,
    })
}

fn key(text: &str) -> Checked<HeaderKey> {
    Ok(match text.to_ascii_lowercase().as_str() {
        ":method" => HeaderKey::Method,
        ":authority" | "host" => HeaderKey::Authority,
        ":path" => HeaderKey::Path,
        ":scheme" => HeaderKey::Scheme,
        ":status" => HeaderKey::Status,
        _ => HeaderKey::Name(name(text)?),
    })
}

/// A header's name.
pub(crate) fn name(text: &str) -> Checked<HeaderName> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| Invalid::new(format!("{text:?} is no header name")))
}

/// `*_headers_to_add` and `*_headers_to_remove`; `prefix` is `request` or `response`.
pub(crate) fn ops(prefix: &str, add: &[core::HeaderValueOption], remove: &[String]) -> Checked<HeaderOps> {
    if add.is_empty() && remove.is_empty() {
        return Ok(HeaderOps::default());
    }
    let mut authority = None;
    let mut added = Vec::new();
    for (index, option) in add.iter().enumerate() {
        let field = format!("{prefix}_headers_to_add[{index}]");
        let header = option.header.as_ref().ok_or_else(|| Invalid::missing("header")).at(&field)?;
        let value = template(header).at("header.value").at(&field)?;
        if header.key.eq_ignore_ascii_case("host") || header.key == ":authority" {
            authority = Some(value);
            continue;
        }
        added.push(HeaderAdd {
            name: name(&header.key).at("header.key").at(&field)?,
            value,
            mode: mode(option).at(&field)?,
            keep_empty: option.keep_empty_value,
        });
    }
    let remove = each(&format!("{prefix}_headers_to_remove"), remove, |text| {
        if text.starts_with(':') || text.eq_ignore_ascii_case("host") {
            return Err(Invalid::new(format!("{text:?} cannot be removed")));
        }
        name(text)
    })?;
    Ok(HeaderChanges { remove: remove.into(), add: added.into(), authority }.into())
}

fn mode(option: &core::HeaderValueOption) -> Checked<AddMode> {
    use core::header_value_option::HeaderAppendAction as Action;
    if let Some(append) = &option.append {
        return Ok(if append.value { AddMode::Append } else { AddMode::Overwrite });
    }
    Ok(match Action::try_from(option.append_action) {
        Ok(Action::AppendIfExistsOrAdd) => AddMode::Append,
        Ok(Action::AddIfAbsent) => AddMode::IfAbsent,
        Ok(Action::OverwriteIfExistsOrAdd) => AddMode::Overwrite,
        Ok(Action::OverwriteIfExists) => AddMode::OverwriteIfExists,
        Err(_) => return Err(Invalid::unsupported("append_action")),
    })
}

fn template(header: &core::HeaderValue) -> Checked<HeaderTemplate> {
    if !header.raw_value.is_empty() {
        return HeaderValue::from_bytes(&header.raw_value)
            .map(HeaderTemplate::Fixed)
            .map_err(|_| Invalid::new("is no header value"));
    }
    let pieces = pieces(&header.value)?;
    let fixed = |text: &str| {
        HeaderValue::from_str(text)
            .or_else(|_| HeaderValue::from_bytes(text.as_bytes()))
            .map(HeaderTemplate::Fixed)
            .map_err(|_| Invalid::new(format!("{text:?} is no header value")))
    };
    match pieces.as_slice() {
        [] => fixed(""),
        [HeaderPiece::Text(text)] => fixed(text),
        _ => Ok(HeaderTemplate::Pieces(pieces.into())),
    }
}

/// Reads Envoy's substitution format: text, `%%`, and the commands that make sense in a header.
fn pieces(format: &str) -> Checked<Vec<HeaderPiece>> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let from = from.get(1..).unwrap_or_default();
        if let Some(after) = from.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let (command, after) = from
            .split_once('%')
            .ok_or_else(|| Invalid::new(format!("{format:?}: a `%` has no end; a literal one is `%%`")))?;
        if !text.is_empty() {
            pieces.push(HeaderPiece::Text(std::mem::take(&mut text).into()));
        }
        pieces.push(self::command(command)?);
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(HeaderPiece::Text(text.into()));
    }
    Ok(pieces)
}

fn command(command: &str) -> Checked<HeaderPiece> {
    let (word, argument) = match command.split_once('(') {
        Some((word, rest)) => (word, rest.strip_suffix(')')),
        None => (command, None),
    };
    let header = || name(argument.unwrap_or_default());
    Ok(match word {
        "REQ" => HeaderPiece::RequestHeader(header()?),
        "RESP" => HeaderPiece::ResponseHeader(header()?),
        "DOWNSTREAM_REMOTE_ADDRESS" => HeaderPiece::DownstreamRemoteAddress { port: true },
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => HeaderPiece::DownstreamRemoteAddress { port: false },
        "DOWNSTREAM_LOCAL_ADDRESS" => HeaderPiece::DownstreamLocalAddress { port: true },
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => HeaderPiece::DownstreamLocalAddress { port: false },
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => HeaderPiece::UpstreamRemoteAddress,
        "DOWNSTREAM_PEER_URI_SAN" => HeaderPiece::DownstreamPeerUriSan,
        "PROTOCOL" => HeaderPiece::Protocol,
        "RESPONSE_CODE" => HeaderPiece::ResponseCode,
        "RESPONSE_FLAGS" => HeaderPiece::ResponseFlags,
        "ROUTE_NAME" => HeaderPiece::RouteName,
        "HOSTNAME" => HeaderPiece::Hostname,
        "START_TIME" if argument.is_none() => HeaderPiece::StartTime,
        _ => return Err(Invalid::new(format!("the command %{command}% is not supported by this proxy"))),
    })
}
