//! Routes for people.

use serde_json::{Map, Value, json};
use xds::any;
use xds::provenance::Provenance;
use xds::types::core::HeaderValueOption;
use xds::types::fault::{HttpFault, fault_abort::ErrorType};
use xds::types::fault_common::fault_delay::FaultDelaySecifier;
use xds::types::matcher::{StringMatcher, string_matcher::MatchPattern};
use xds::types::route::header_matcher::HeaderMatchSpecifier;
use xds::types::route::query_parameter_matcher::QueryParameterMatchSpecifier;
use xds::types::route::redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier};
use xds::types::route::route::Action;
use xds::types::route::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use xds::types::route::route_match::PathSpecifier;
use xds::types::route::{
    HeaderMatcher, RedirectAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    virtual_host::TlsRequirementType,
};

use super::{seconds, texts};
use crate::to_xds::filters::{CORS, FAULT};

pub(super) fn routes(of: &RouteConfiguration) -> Map<String, Value> {
    if of.vhds.is_some() {
        return Map::from_iter([("virtualHosts".to_owned(), json!("one by one"))]);
    }
    let hosts = of.virtual_hosts.iter().map(|host| (host.name.clone(), Value::Object(virtual_host(host))));
    Map::from_iter([("virtualHosts".to_owned(), Value::Object(hosts.collect()))])
}

pub(super) fn virtual_host(of: &VirtualHost) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("domains".to_owned(), texts(of.domains.iter().cloned()));
    if of.require_tls != i32::from(TlsRequirementType::None) {
        out.insert("plaintext".to_owned(), json!("redirected to https"));
    }
    let lines = of.routes.iter().map(|route| {
        let from = route.metadata.as_ref().and_then(Provenance::read).map(|from| from.field).unwrap_or_default();
        if from.is_empty() { line(route) } else { format!("{}  <- {from}", line(route)) }
    });
    out.insert("routes".to_owned(), texts(lines));
    out
}

/// One route in one line: what it matches, what happens, under which conditions.
pub(super) fn line(of: &Route) -> String {
    let mut parts = vec![format!("{} -> {}", of.r#match.as_ref().map_or("?".to_owned(), matches), action(of))];
    if let Some(fault) = of.typed_per_filter_config.get(FAULT).and_then(|any| any::unpack::<HttpFault>(any).ok()) {
        parts.extend(faults(&fault));
    }
    if of.typed_per_filter_config.contains_key(CORS) {
        parts.push("cors".to_owned());
    }
    parts.extend(headers("request", &of.request_headers_to_add, &of.request_headers_to_remove));
    parts.extend(headers("response", &of.response_headers_to_add, &of.response_headers_to_remove));
    parts.join(", ")
}

fn matches(of: &RouteMatch) -> String {
    let path = match &of.path_specifier {
        Some(PathSpecifier::Path(path)) => format!("= {path}"),
        Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
        Some(PathSpecifier::SafeRegex(regex)) => format!("~ {}", regex.regex),
        _ => "?".to_owned(),
    };
    let mut parts = vec![path];
    if of.case_sensitive.is_some_and(|sensitive| !sensitive.value) {
        parts.push("(any case)".to_owned());
    }
    parts.extend(of.headers.iter().map(header));
    parts.extend(of.query_parameters.iter().map(|parameter| {
        let asked = match &parameter.query_parameter_match_specifier {
            Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => string(matcher),
            _ => "present".to_owned(),
        };
        format!("?{} {asked}", parameter.name)
    }));
    parts.join(" ")
}

fn header(of: &HeaderMatcher) -> String {
    let asked = match &of.header_match_specifier {
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => string(matcher),
        _ => "present".to_owned(),
    };
    format!("{}{} {asked}", if of.invert_match { "not " } else { "" }, of.name)
}

fn string(of: &StringMatcher) -> String {
    match &of.match_pattern {
        Some(MatchPattern::Exact(text)) => format!("= {text}"),
        Some(MatchPattern::Prefix(text)) => format!("{text}*"),
        Some(MatchPattern::SafeRegex(regex)) => format!("~ {}", regex.regex),
        _ => "?".to_owned(),
    }
}

fn action(of: &Route) -> String {
    match &of.action {
        Some(Action::Route(action)) => forward(action),
        Some(Action::Redirect(redirect)) => say_redirect(redirect),
        Some(Action::DirectResponse(response)) => format!("{}", response.status),
        _ => "nothing".to_owned(),
    }
}

fn say_redirect(of: &RedirectAction) -> String {
    let scheme = match &of.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => format!("{scheme}://"),
        _ => String::new(),
    };
    let port = if of.port_redirect == 0 { String::new() } else { format!(":{}", of.port_redirect) };
    let path = match &of.path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(path)) => path.clone(),
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => format!("{prefix}*"),
        _ => String::new(),
    };
    format!("redirect {:?} {scheme}{}{port}{path}", of.response_code(), of.host_redirect)
}

fn forward(of: &RouteAction) -> String {
    let to = match &of.cluster_specifier {
        Some(ClusterSpecifier::Cluster(cluster)) => cluster.clone(),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let parts = weighted.clusters.iter().map(|part| {
                let changes = headers("request", &part.request_headers_to_add, &part.request_headers_to_remove);
                let mut words = vec![part.weight.map_or(0, |weight| weight.value).to_string(), part.name.clone()];
                words.extend(changes.into_iter().map(|change| format!("({change})")));
                words.join(" ")
            });
            parts.collect::<Vec<_>>().join(" + ")
        }
        _ => "?".to_owned(),
    };
    let mut parts = vec![to];
    if !of.prefix_rewrite.is_empty() {
        parts.push(format!("path {}*", of.prefix_rewrite));
    }
    if let Some(regex) = &of.regex_rewrite {
        let pattern = regex.pattern.as_ref().map(|pattern| pattern.regex.as_str()).unwrap_or_default();
        parts.push(format!("path s/{pattern}/{}/", regex.substitution));
    }
    if let Some(HostRewriteSpecifier::HostRewriteLiteral(host)) = &of.host_rewrite_specifier {
        parts.push(format!("host {host}"));
    }
    // gRPC's own bound stands elsewhere.
    let stream = of.max_stream_duration.as_ref().and_then(|of| of.max_stream_duration.as_ref());
    let timeout = of.timeout.as_ref().or(stream);
    parts.extend(seconds(timeout).map(|timeout| format!("timeout {timeout}")));
    match &of.retry_policy {
        Some(retry) => {
            let codes = retry.retriable_status_codes.iter().map(ToString::to_string);
            let on: Vec<_> = std::iter::once(retry.retry_on.clone()).chain(codes).collect();
            let each = seconds(retry.per_try_timeout.as_ref()).map(|each| format!(" of {each}")).unwrap_or_default();
            let count = retry.num_retries.map_or(1, |count| count.value);
            parts.push(format!("{count} retries{each} on {}", on.join(",")));
        }
        None => parts.push("no retries".to_owned()),
    }
    if !of.hash_policy.is_empty() {
        parts.push("hashed".to_owned());
    }
    parts.extend(of.request_mirror_policies.iter().map(|mirror| {
        let share = mirror.runtime_fraction.as_ref().and_then(|fraction| fraction.default_value);
        format!("{} copied to {}", share.map_or("all".to_owned(), percent), mirror.cluster)
    }));
    parts.join(", ")
}

fn percent(of: xds::types::common::FractionalPercent) -> String {
    format!("{}%", f64::from(of.numerator) / 10_000.0)
}

fn faults(of: &HttpFault) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(delay) = &of.delay {
        let by = match &delay.fault_delay_secifier {
            Some(FaultDelaySecifier::FixedDelay(by)) => seconds(Some(by)).unwrap_or_else(|| "0s".to_owned()),
            _ => "?".to_owned(),
        };
        parts.push(format!("{} delayed {by}", delay.percentage.map_or("0%".to_owned(), percent)));
    }
    if let Some(abort) = &of.abort {
        let with = match &abort.error_type {
            Some(ErrorType::HttpStatus(status)) => status.to_string(),
            Some(ErrorType::GrpcStatus(status)) => format!("gRPC {status}"),
            _ => "?".to_owned(),
        };
        parts.push(format!("{} aborted with {with}", abort.percentage.map_or("0%".to_owned(), percent)));
    }
    parts
}

fn headers(of: &str, add: &[HeaderValueOption], remove: &[String]) -> Vec<String> {
    use xds::types::core::header_value_option::HeaderAppendAction;
    let change = |option: &HeaderValueOption| {
        let header = option.header.clone().unwrap_or_default();
        let sign = if option.append_action() == HeaderAppendAction::AppendIfExistsOrAdd { "+" } else { "=" };
        format!("{of} {}{sign}{}", header.key, header.value)
    };
    add.iter().map(change).chain(remove.iter().map(|name| format!("{of} -{name}"))).collect()
}
