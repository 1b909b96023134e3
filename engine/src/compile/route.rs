//! Routes: what matches, and what happens then.

use std::sync::Arc;

use xds::types::route as message;

use super::{
    At, Checked, Invalid, absent, each, header, part,
    route_action::{self, Defaults},
};
use crate::ir::route::PathRewrite;
use crate::ir::route::{DirectResponse, PathMatch, QueryMatch, Redirect, RedirectPath, Route, RouteAction, RouteMatch};

pub(super) fn compile(message: &message::Route, defaults: &Defaults<'_>) -> Checked<Route> {
    let wanted = message.r#match.as_ref().ok_or_else(|| Invalid::missing("match"))?;
    let action = match message.action.as_ref().ok_or_else(|| Invalid::missing("action"))? {
        message::route::Action::Route(action) => {
            RouteAction::Forward(Box::new(route_action::forward(action, defaults).at("route")?))
        }
        message::route::Action::Redirect(action) => RouteAction::Redirect(Box::new(redirect(action).at("redirect")?)),
        message::route::Action::DirectResponse(action) => {
            RouteAction::Direct(Box::new(direct(action).at("direct_response")?))
        }
        message::route::Action::FilterAction(_) => return Err(Invalid::unsupported("filter_action")),
        message::route::Action::NonForwardingAction(_) => return Err(Invalid::unsupported("non_forwarding_action")),
    };
    let overrides = route_action::Overrides::read(&message.typed_per_filter_config)?;
    let cors = match &message.action {
        Some(message::route::Action::Route(action)) => {
            action.cors.as_ref().map(|policy| route_action::cors(policy).map(Arc::new).at("route.cors")).transpose()?
        }
        _ => None,
    };
    Ok(Route {
        name: defaults.shared.texts.get(message.name.as_str()),
        matches: matches(wanted).at("match")?,
        action,
        request_headers: header::ops("request", &message.request_headers_to_add, &message.request_headers_to_remove)?,
        response_headers: header::ops(
            "response",
            &message.response_headers_to_add,
            &message.response_headers_to_remove,
        )?,
        fault: overrides.fault.or_else(|| defaults.overrides.fault.clone()),
        cors: overrides.cors.or(cors).or_else(|| defaults.overrides.cors.clone()),
        provenance: defaults.shared.provenance(message.metadata.as_ref()),
    })
}

fn matches(wanted: &message::RouteMatch) -> Checked<RouteMatch> {
    use message::route_match::PathSpecifier;
    absent(wanted.tls_context.is_none(), "tls_context")?;
    absent(wanted.dynamic_metadata.is_empty(), "dynamic_metadata")?;
    absent(wanted.filter_state.is_empty(), "filter_state")?;
    absent(wanted.cookies.is_empty(), "cookies")?;
    let ignore_case = wanted.case_sensitive.as_ref().is_some_and(|sensitive| !sensitive.value);
    let text = |text: &String| Box::<str>::from(text.as_str());
    let path = match wanted.path_specifier.as_ref().ok_or_else(|| Invalid::missing("path_specifier"))? {
        PathSpecifier::Prefix(path) => PathMatch::Prefix { path: text(path), ignore_case },
        PathSpecifier::Path(path) => PathMatch::Exact { path: text(path), ignore_case },
        PathSpecifier::PathSeparatedPrefix(path) => {
            if path.ends_with('/') || !path.starts_with('/') {
                return Err(Invalid::new(format!("{path:?} must begin with `/` and not end with it")))
                    .at("path_separated_prefix");
            }
            PathMatch::Segments { path: text(path), ignore_case }
        }
        PathSpecifier::SafeRegex(regex) => PathMatch::Regex(Box::new(part::pattern(regex).at("safe_regex")?)),
        PathSpecifier::ConnectMatcher(_) => PathMatch::Connect,
        PathSpecifier::PathMatchPolicy(_) => return Err(Invalid::unsupported("path_match_policy")),
    };
    Ok(RouteMatch {
        path,
        headers: each("headers", &wanted.headers, header::matcher)?.into(),
        query: each("query_parameters", &wanted.query_parameters, query)?.into(),
        grpc: wanted.grpc.is_some(),
        share: wanted
            .runtime_fraction
            .as_ref()
            .map(|share| part::runtime_fraction(share).at("runtime_fraction"))
            .transpose()?,
    })
}

fn query(wanted: &message::QueryParameterMatcher) -> Checked<QueryMatch> {
    use message::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
    let value = match &wanted.query_parameter_match_specifier {
        None | Some(Specifier::PresentMatch(true)) => None,
        Some(Specifier::PresentMatch(false)) => return Err(Invalid::unsupported("present_match")),
        Some(Specifier::StringMatch(matcher)) => Some(part::text(matcher).at("string_match")?),
    };
    Ok(QueryMatch { name: wanted.name.as_str().into(), value })
}

fn redirect(action: &message::RedirectAction) -> Checked<Redirect> {
    use message::redirect_action::{PathRewriteSpecifier, RedirectResponseCode as Code, SchemeRewriteSpecifier};
    let optional = |text: &str| (!text.is_empty()).then(|| text.into());
    Ok(Redirect {
        status: match Code::try_from(action.response_code) {
            Ok(Code::MovedPermanently) => 301,
            Ok(Code::Found) => 302,
            Ok(Code::SeeOther) => 303,
            Ok(Code::TemporaryRedirect) => 307,
            Ok(Code::PermanentRedirect) => 308,
            Err(_) => return Err(Invalid::unsupported("response_code")),
        },
        scheme: match &action.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => optional(scheme),
            Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
        },
        host: optional(&action.host_redirect),
        port: match part::port(action.port_redirect).at("port_redirect")? {
            0 => None,
            port => Some(port),
        },
        path: match &action.path_rewrite_specifier {
            None => RedirectPath::Keep,
            Some(PathRewriteSpecifier::PathRedirect(path)) if path.is_empty() => RedirectPath::Keep,
            Some(PathRewriteSpecifier::PathRedirect(path)) => RedirectPath::Replace(path.as_str().into()),
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
                RedirectPath::Rewrite(PathRewrite::Prefix(prefix.as_str().into()))
            }
            Some(PathRewriteSpecifier::RegexRewrite(rule)) => {
                let (pattern, substitution) = part::substitution(rule).at("regex_rewrite")?;
                RedirectPath::Rewrite(PathRewrite::Regex { pattern, substitution })
            }
            Some(PathRewriteSpecifier::PathRewrite(_)) => return Err(Invalid::unsupported("path_rewrite")),
        },
        strip_query: action.strip_query,
    })
}

fn direct(action: &message::DirectResponseAction) -> Checked<DirectResponse> {
    absent(action.body_format.is_none(), "body_format")?;
    let status = u16::try_from(action.status)
        .ok()
        .filter(|status| (200..=599).contains(status))
        .ok_or_else(|| Invalid::new(format!("{} is no status of a response", action.status)).within("status"))?;
    let body = action.body.as_ref().map(|body| part::inline(body).at("body")).transpose()?.unwrap_or_default();
    Ok(DirectResponse { status, body: bytes::Bytes::copy_from_slice(body) })
}
