//! The small parts that messages share: durations, percentages, addresses, texts, provenance.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use xds::{
    provenance::Provenance,
    types::{common, core, google, matcher},
};

use super::{At, Checked, Invalid};
use crate::ir::{
    Fraction,
    text::{Pattern, TextMatch},
};

/// A duration; what is negative is refused.
pub(crate) fn duration(value: &google::Duration) -> Checked<Duration> {
    google::to_duration(value)
        .ok_or_else(|| Invalid::new(format!("{}.{:09}s is no duration", value.seconds, value.nanos)))
}

/// A duration that may be absent.
pub(crate) fn optional_duration(value: Option<&google::Duration>, field: &str) -> Checked<Option<Duration>> {
    value.map(|value| duration(value).at(field)).transpose()
}

/// A duration where zero means "no limit", as absence does where Envoy's default is none.
pub(crate) fn limit(
    value: Option<&google::Duration>,
    field: &str,
    default: Option<Duration>,
) -> Checked<Option<Duration>> {
    Ok(match optional_duration(value, field)? {
        None => default,
        Some(value) => (!value.is_zero()).then_some(value),
    })
}

/// A share of requests.
#[allow(clippy::trivially_copy_pass_by_ref)] // a message like all others, which happens to be small
pub(crate) fn fraction(value: &common::FractionalPercent) -> Checked<Fraction> {
    let denominator = match common::fractional_percent::DenominatorType::try_from(value.denominator) {
        Ok(common::fractional_percent::DenominatorType::Hundred) => 100,
        Ok(common::fractional_percent::DenominatorType::TenThousand) => 10_000,
        Ok(common::fractional_percent::DenominatorType::Million) => 1_000_000,
        Err(_) => return Err(Invalid::unsupported("denominator")),
    };
    Ok(Fraction { numerator: value.numerator, denominator })
}

/// A share of requests whose runtime key nobody sets here.
pub(crate) fn runtime_fraction(value: &core::RuntimeFractionalPercent) -> Checked<Fraction> {
    value.default_value.as_ref().map_or(Ok(Fraction::ALWAYS), |value| fraction(value).at("default_value"))
}

/// A port.
pub(crate) fn port(value: u32) -> Checked<u16> {
    u16::try_from(value).map_err(|_| Invalid::new(format!("{value} is no port")))
}

/// An IP address and a port.
pub(crate) fn socket_address(value: Option<&core::Address>) -> Checked<SocketAddr> {
    let (host, port) = host_and_port(value)?;
    let ip = host.parse::<IpAddr>().map_err(|_| Invalid::new(format!("{host:?} is no IP address")))?;
    Ok(SocketAddr::new(ip.to_canonical(), port))
}

/// A host, by name or address, and a port.
pub(crate) fn host_and_port(value: Option<&core::Address>) -> Checked<(&str, u16)> {
    let address = value.and_then(|value| value.address.as_ref()).ok_or_else(|| Invalid::missing("address"))?;
    let core::address::Address::SocketAddress(socket) = address else {
        return Err(Invalid::new("only socket addresses are supported by this proxy"));
    };
    absent_udp(socket)?;
    let number = match &socket.port_specifier {
        Some(core::socket_address::PortSpecifier::PortValue(number)) => *number,
        Some(core::socket_address::PortSpecifier::NamedPort(_)) => return Err(Invalid::unsupported("named_port")),
        None => 0,
    };
    Ok((&socket.address, port(number).at("port_value")?))
}

fn absent_udp(socket: &core::SocketAddress) -> Checked<()> {
    super::absent(socket.protocol == core::socket_address::Protocol::Tcp as i32, "protocol")
}

/// A network.
pub(crate) fn network(value: &core::CidrRange) -> Checked<IpNet> {
    let address = value
        .address_prefix
        .parse::<IpAddr>()
        .map_err(|_| Invalid::new(format!("{:?} is no IP address", value.address_prefix)))?;
    let length = value.prefix_len.as_ref().map_or(0, |length| length.value);
    u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(address, length).ok())
        .map(|net| net.trunc())
        .ok_or_else(|| Invalid::new(format!("/{length} is no prefix of {address}")))
}

/// `StringMatcher`.
pub(crate) fn text(matcher: &matcher::StringMatcher) -> Checked<TextMatch> {
    use matcher::string_matcher::MatchPattern;
    let ignore_case = matcher.ignore_case;
    let value = |text: &String| Box::<str>::from(text.as_str());
    Ok(match matcher.match_pattern.as_ref().ok_or_else(|| Invalid::missing("match_pattern"))? {
        MatchPattern::Exact(text) => TextMatch::Exact { value: value(text), ignore_case },
        MatchPattern::Prefix(text) => TextMatch::Prefix { value: value(text), ignore_case },
        MatchPattern::Suffix(text) => TextMatch::Suffix { value: value(text), ignore_case },
        MatchPattern::Contains(text) => TextMatch::Contains { value: value(text), ignore_case },
        MatchPattern::SafeRegex(regex) => TextMatch::Regex(pattern(regex).at("safe_regex")?),
        MatchPattern::Custom(_) => return Err(Invalid::unsupported("custom")),
    })
}

/// `RegexMatcher`.
pub(crate) fn pattern(matcher: &matcher::RegexMatcher) -> Checked<Pattern> {
    Pattern::new(&matcher.regex).map_err(Invalid::new).at("regex")
}

/// `RegexMatchAndSubstitute`: the pattern, which may match anywhere, and the replacement in `regex`'s notation.
pub(crate) fn substitution(rule: &matcher::RegexMatchAndSubstitute) -> Checked<(regex::bytes::Regex, Box<str>)> {
    let pattern = rule.pattern.as_ref().ok_or_else(|| Invalid::missing("pattern"))?;
    let pattern = crate::ir::text::build(&pattern.regex).map_err(Invalid::new).at("pattern.regex")?;
    let mut replacement = String::with_capacity(rule.substitution.len());
    let mut rest = rule.substitution.chars();
    while let Some(character) = rest.next() {
        match character {
            '$' => replacement.push_str("$$"),
            '\\' => match rest.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    let group = usize::try_from(digit.to_digit(10).unwrap_or(0)).unwrap_or(0);
                    if group >= pattern.captures_len() {
                        return Err(Invalid::new(format!("the pattern has no group {group}"))).at("substitution");
                    }
                    replacement.push_str("${");
                    replacement.push(digit);
                    replacement.push('}');
                }
                Some('\\') => replacement.push('\\'),
                _ => return Err(Invalid::new("`\\` must be followed by a digit or `\\`")).at("substitution"),
            },
            other => replacement.push(other),
        }
    }
    Ok((pattern, replacement.into()))
}

/// The rule that a resource came from.
pub(crate) fn provenance(metadata: Option<&core::Metadata>) -> Option<Arc<Provenance>> {
    metadata.and_then(Provenance::read).map(Arc::new)
}

/// Text of a data source that is sent inline.
pub(crate) fn inline(source: &core::DataSource) -> Checked<&[u8]> {
    use core::data_source::Specifier;
    match source.specifier.as_ref().ok_or_else(|| Invalid::missing("specifier"))? {
        Specifier::InlineBytes(bytes) => Ok(bytes),
        Specifier::InlineString(text) => Ok(text.as_bytes()),
        Specifier::Filename(_) => Err(Invalid::unsupported("filename")),
        Specifier::EnvironmentVariable(_) => Err(Invalid::unsupported("environment_variable")),
    }
}

/// The last part of a type URL's name, for comparing with names of extensions.
pub(crate) fn type_name(any: Option<&google::Any>) -> &str {
    any.map_or("", |any| xds::any::type_name(&any.type_url))
}
