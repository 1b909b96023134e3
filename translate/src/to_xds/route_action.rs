//! What happens to the requests that a route matched: answered, redirected, or sent on with timeout and retries.

use base64::Engine as _;
use crds::networking::destination_rule::ConsistentHashLb;
use crds::networking::virtual_service::{
    CorsPolicy, HttpDirectResponse, HttpRedirect, HttpRetry, RedirectPortSelection, UnmatchedPreflights,
};
use xds::any;
use xds::types::route::route_action::hash_policy::{self, PolicySpecifier};
use xds::types::route::{self, RouteAction, redirect_action, retry_policy, route_action};
use xds::types::{boolean, core, cors, google, matcher, previous_hosts, uint32};

use super::filters::share;
use super::route::{Found, Place};
use super::route_match;
use crate::problem::Reason;

/// What Istio retries on. 503 is not among it: a request may have been executed.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const RETRIES: u32 = 2;
/// How often an endpoint is picked again to find one that was not tried before.
const HOST_SELECTION_ATTEMPTS: i64 = 5;

/// Bounds a request, retries included; `None` is no bound. A client's `grpc-timeout` counts up to the same bound.
pub(crate) fn set_timeout(action: &mut RouteAction, timeout: Option<crds::Duration>) {
    let timeout = timeout.map_or(google::Duration { seconds: 0, nanos: 0 }, |timeout| google::duration(timeout.get()));
    action.timeout = Some(timeout);
    #[allow(deprecated)] // Istio's choice: max_stream_duration would cut off streams as well
    {
        action.max_grpc_timeout = Some(timeout);
    }
}

/// Retries as a rule says, else as the mesh says, else Istio's default. `None` switches them off.
pub(crate) fn retries(asked: Option<&HttpRetry>, consistent_hash: bool) -> Option<route::RetryPolicy> {
    let mut policy = route::RetryPolicy {
        retry_on: RETRY_ON.to_owned(),
        num_retries: Some(uint32(RETRIES)),
        host_selection_retry_max_attempts: HOST_SELECTION_ATTEMPTS,
        ..Default::default()
    };
    let mut avoids_previous = true;
    if let Some(asked) = asked {
        let attempts = u32::try_from(asked.attempts).ok().filter(|attempts| *attempts > 0)?;
        policy.num_retries = Some(uint32(attempts));
        if !asked.retry_on.is_empty() {
            (policy.retry_on, policy.retriable_status_codes) = retry_on(&asked.retry_on);
        }
        policy.per_try_timeout = asked.per_try_timeout.map(|timeout| google::duration(timeout.get()));
        policy.retry_back_off = asked.backoff.map(|base| retry_policy::RetryBackOff {
            base_interval: Some(google::duration(base.get())),
            max_interval: None,
        });
        avoids_previous = asked.retry_ignore_previous_hosts.unwrap_or(true);
    }
    // With a hash, the next pick would be the same endpoint again.
    if avoids_previous && !consistent_hash {
        policy.retry_host_predicate.push(retry_policy::RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(any::pack(
                &previous_hosts::PreviousHostsPredicate {},
            ))),
        });
    }
    Some(policy)
}

/// Status codes among the conditions become codes to retry on.
fn retry_on(text: &str) -> (String, Vec<u32>) {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let (codes, conditions): (Vec<&str>, Vec<&str>) =
        parts.partition(|part| part.parse::<u32>().is_ok_and(|code| (100..600).contains(&code)));
    let codes: Vec<u32> = codes.iter().filter_map(|code| code.parse().ok()).collect();
    let mut conditions = conditions;
    if !codes.is_empty() && !conditions.contains(&"retriable-status-codes") {
        conditions.push("retriable-status-codes");
    }
    (conditions.join(","), codes)
}

/// A redirect; `None`, with a problem, if its code is none that redirects.
pub(crate) fn redirect(
    asked: &HttpRedirect,
    port: u16,
    is_tls: bool,
    place: &Place<'_>,
    found: &mut Found,
) -> Option<route::route::Action> {
    use redirect_action::RedirectResponseCode as Code;
    let code = match asked.redirect_code {
        0 | 301 => Code::MovedPermanently,
        302 => Code::Found,
        303 => Code::SeeOther,
        307 => Code::TemporaryRedirect,
        308 => Code::PermanentRedirect,
        other => {
            let message = format!("{other} does not redirect: use 301, 302, 303, 307 or 308; the route is left out");
            found.problem(place, Reason::Invalid, "redirect.redirectCode", message);
            return None;
        }
    };
    let scheme = match (asked.scheme.as_str(), is_tls) {
        ("", true) => "https",
        ("", false) => "http",
        (scheme, _) => scheme,
    };
    let asked_port = match (asked.port, asked.derive_port) {
        (Some(port), _) => port,
        (None, Some(RedirectPortSelection::FromRequestPort)) => u32::from(port),
        (None, _) => 0,
    };
    // `http://host:80/` is written `http://host/`.
    let implied = matches!((scheme, asked_port), ("http", 80) | ("https", 443));
    let path = if asked.prefix_rewrite.is_empty() {
        redirect_action::PathRewriteSpecifier::PathRedirect(asked.uri.clone())
    } else {
        redirect_action::PathRewriteSpecifier::PrefixRewrite(asked.prefix_rewrite.clone())
    };
    Some(route::route::Action::Redirect(route::RedirectAction {
        host_redirect: asked.authority.clone(),
        port_redirect: if implied { 0 } else { asked_port },
        response_code: code.into(),
        scheme_rewrite_specifier: (!asked.scheme.is_empty())
            .then(|| redirect_action::SchemeRewriteSpecifier::SchemeRedirect(asked.scheme.clone())),
        path_rewrite_specifier: Some(path),
        ..Default::default()
    }))
}

/// A fixed response.
pub(crate) fn direct_response(
    asked: &HttpDirectResponse,
    place: &Place<'_>,
    found: &mut Found,
) -> route::route::Action {
    let specifier = asked.body.as_ref().and_then(|body| {
        if let Some(text) = &body.string {
            return Some(core::data_source::Specifier::InlineString(text.clone()));
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(body.bytes.as_ref()?);
        if bytes.is_err() {
            let message = "is no base64: the response has no body";
            found.problem(place, Reason::Invalid, "directResponse.body.bytes", message);
        }
        bytes.ok().map(core::data_source::Specifier::InlineBytes)
    });
    route::route::Action::DirectResponse(route::DirectResponseAction {
        status: asked.status,
        body: specifier.map(|it| core::DataSource { specifier: Some(it), ..Default::default() }),
        ..Default::default()
    })
}

/// What a request is hashed by, for affinity.
pub(crate) fn hash_policy(hash: &ConsistentHashLb) -> Option<route_action::HashPolicy> {
    let specifier = if let Some(name) = &hash.http_header_name {
        PolicySpecifier::Header(hash_policy::Header { header_name: name.clone(), ..Default::default() })
    } else if let Some(cookie) = &hash.http_cookie {
        PolicySpecifier::Cookie(hash_policy::Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.map(|ttl| google::duration(ttl.get())),
            path: cookie.path.clone(),
            attributes: cookie
                .attributes
                .iter()
                .map(|of| hash_policy::CookieAttribute { name: of.name.clone(), value: of.value.clone() })
                .collect(),
        })
    } else if let Some(name) = &hash.http_query_parameter_name {
        PolicySpecifier::QueryParameter(hash_policy::QueryParameter { name: name.clone() })
    } else if hash.use_source_ip == Some(true) {
        PolicySpecifier::ConnectionProperties(hash_policy::ConnectionProperties { source_ip: true })
    } else {
        return None;
    };
    Some(route_action::HashPolicy { policy_specifier: Some(specifier), ..Default::default() })
}

/// Cross-origin resource sharing, for the CORS filter.
pub(crate) fn cors(asked: &CorsPolicy) -> cors::CorsPolicy {
    let mut origins: Vec<_> = asked.allow_origins.iter().filter_map(route_match::string).collect();
    if origins.is_empty() {
        origins.extend(asked.allow_origin.iter().map(|origin| matcher::StringMatcher {
            match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(origin.clone())),
            ..Default::default()
        }));
    }
    cors::CorsPolicy {
        allow_origin_string_match: origins,
        allow_methods: asked.allow_methods.join(","),
        allow_headers: asked.allow_headers.join(","),
        expose_headers: asked.expose_headers.join(","),
        max_age: asked.max_age.map(|age| age.get().as_secs().to_string()).unwrap_or_default(),
        allow_credentials: asked.allow_credentials.map(boolean),
        filter_enabled: Some(core::RuntimeFractionalPercent {
            default_value: Some(share(100.0)),
            ..Default::default()
        }),
        forward_not_matching_preflights: Some(boolean(asked.unmatched_preflights != UnmatchedPreflights::Ignore)),
        ..Default::default()
    }
}
