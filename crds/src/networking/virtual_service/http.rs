//! What is wrong with an HTTP route.

use super::check::{destination, total_weight};
use super::matching::{http_match, string_match};
use super::{
    CorsPolicy, FaultAbort, FaultDelay, HeaderOperations, Headers, HttpDirectResponse, HttpMatchRequest, HttpRedirect,
    HttpRetry, HttpRewrite, HttpRoute, StringMatcher,
};
use crate::check::{Checker, is_authority};

/// Whose route it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Of a VirtualService with hosts.
    Root,
    /// Of one that others delegate to.
    Delegate,
}

/// Conditions of `retryOn`, as Envoy names them: for HTTP (`x-envoy-retry-on`) and for gRPC (`x-envoy-retry-grpc-on`).
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// Methods of RFC 9110 and RFC 5789; `*` is the Fetch standard's word for all of them.
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

/// Status codes of gRPC by name (grpc.io, "Status codes").
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) fn http_route(c: &mut Checker, route: &HttpRoute, role: Role) {
    what_it_does(c, route, role);
    c.each("match", &route.matches, http_match);
    c.each("route", &route.route, |c, to| {
        c.field("destination", |c| destination(c, &to.destination));
        c.not_negative("weight", to.weight);
        if let Some(headers) = &to.headers {
            c.field("headers", |c| header_changes(c, headers));
        }
    });
    total_weight(c, route.route.iter().map(|to| to.weight));
    if let Some(headers) = &route.headers {
        c.field("headers", |c| header_changes(c, headers));
    }
    one_authority(c, route);
    if let Some(redirect) = &route.redirect {
        c.field("redirect", |c| http_redirect(c, redirect, &route.matches));
    }
    if let Some(response) = &route.direct_response {
        c.field("directResponse", |c| direct_response(c, response));
    }
    if let Some(rewrite) = &route.rewrite {
        c.field("rewrite", |c| http_rewrite(c, rewrite));
    }
    c.duration("timeout", route.timeout);
    if let Some(retries) = &route.retries {
        c.field("retries", |c| http_retry(c, retries));
    }
    if let Some(fault) = &route.fault {
        c.field("fault", |c| {
            if fault.delay.is_none() && fault.abort.is_none() {
                c.error("", "needs delay or abort");
            }
            if let Some(delay) = &fault.delay {
                c.field("delay", |c| fault_delay(c, delay));
            }
            if let Some(abort) = &fault.abort {
                c.field("abort", |c| fault_abort(c, abort));
            }
        });
    }
    mirrors(c, route);
    if let Some(cors) = &route.cors_policy {
        c.field("corsPolicy", |c| cors_policy(c, cors));
    }
}

/// A route does exactly one thing.
fn what_it_does(c: &mut Checker, route: &HttpRoute, role: Role) {
    let delegates = route.delegate.is_some();
    let set = c.at_most_one(&[
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        // Istio takes it beside a delegate.
        ("directResponse", route.direct_response.is_some() && !delegates),
        ("delegate", delegates),
    ]);
    if delegates && route.direct_response.is_some() {
        c.warn("directResponse", "stands beside delegate, whose routes cannot answer then: leave one of them out");
    }
    if set == 0 {
        c.error("", "needs one of route, redirect, directResponse, delegate");
    }
    if route.delegate.is_some() && role == Role::Delegate {
        c.error(
            "delegate",
            "cannot be set in a delegate: a VirtualService without hosts is one, and has the last word",
        );
    }
    if delegates {
        return;
    }
    let answer = match (&route.redirect, &route.direct_response) {
        (Some(_), _) => "redirect",
        (None, Some(_)) => "directResponse",
        (None, None) => return,
    };
    for (name, beside) in [("rewrite", route.rewrite.is_some()), ("fault", route.fault.is_some())] {
        if beside {
            c.error(name, format!("cannot stand beside {answer}"));
        }
    }
}

fn header_changes(c: &mut Checker, headers: &Headers) {
    for (name, operations, of_request) in [("request", &headers.request, true), ("response", &headers.response, false)]
    {
        if let Some(operations) = operations {
            c.field(name, |c| header_operations(c, operations, of_request));
        }
    }
}

fn header_operations(c: &mut Checker, operations: &HeaderOperations, of_request: bool) {
    for (field, headers) in [("set", &operations.set), ("add", &operations.add)] {
        for (name, value) in headers {
            c.changed_header(field, name, of_request);
            c.key(field, name, |c| c.header_value("", value));
        }
    }
    for (index, name) in operations.remove.iter().enumerate() {
        c.changed_header(&format!("remove[{index}]"), name, false);
    }
}

/// The authority is rewritten in one place.
fn one_authority(c: &mut Checker, route: &HttpRoute) {
    let Some(request) = route.headers.as_ref().and_then(|headers| headers.request.as_ref()) else { return };
    let rewritten = route.rewrite.as_ref().is_some_and(|rewrite| !rewrite.authority.is_empty());
    let set = request.set.keys().filter(|name| is_authority(name)).map(|name| ("set", name));
    let added = request.add.keys().filter(|name| is_authority(name)).map(|name| ("add", name));
    for (field, name) in set.chain(added).skip(usize::from(!rewritten)) {
        c.field("headers.request", |c| {
            c.key(field, name, |c| c.error("", "sets the authority, which is set elsewhere in this route already"));
        });
    }
}

fn http_redirect(c: &mut Checker, redirect: &HttpRedirect, matches: &[HttpMatchRequest]) {
    let by_prefix = |m: &HttpMatchRequest| match &m.uri {
        Some(uri) => matches!(uri.matcher(), StringMatcher::Prefix(_)),
        None => true,
    };
    if !redirect.prefix_rewrite.is_empty() && !matches.iter().all(by_prefix) {
        c.error("prefixRewrite", "needs matches whose uri is a prefix: otherwise there is no prefix to rewrite");
    }
    let changes = !redirect.uri.is_empty()
        || !redirect.prefix_rewrite.is_empty()
        || !redirect.authority.is_empty()
        || !redirect.scheme.is_empty()
        || redirect.port.is_some()
        || redirect.derive_port.is_some();
    if !changes {
        c.error("", "changes nothing: needs uri, prefixRewrite, authority, scheme, port or derivePort");
    }
    c.at_most_one(&[("uri", !redirect.uri.is_empty()), ("prefixRewrite", !redirect.prefix_rewrite.is_empty())]);
    c.at_most_one(&[("port", redirect.port.is_some()), ("derivePort", redirect.derive_port.is_some())]);
    let code = redirect.redirect_code;
    match code {
        0 | 301 | 302 | 303 | 307 | 308 => {}
        300..=399 => c.warn("redirectCode", format!("{code} leaves the route out: use 301, 302, 303, 307 or 308")),
        _ => c.error("redirectCode", format!("{code} is not a redirect: use 301, 302, 303, 307 or 308")),
    }
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        c.error("scheme", format!("\"{}\" is not http or https", redirect.scheme));
    }
    // 0 is the same as none.
    if let Some(port) = redirect.port.filter(|port| *port != 0) {
        c.port("port", port);
    }
}

fn direct_response(c: &mut Checker, response: &HttpDirectResponse) {
    status(c, "status", i64::from(response.status));
    let Some(body) = &response.body else { return };
    c.field("body", |c| {
        c.at_most_one(&[("string", body.string.is_some()), ("bytes", body.bytes.is_some())]);
        // Base64 has four characters for three bytes.
        let size =
            body.string.as_ref().map_or(0, String::len) + body.bytes.as_ref().map_or(0, |text| text.len() / 4 * 3);
        match size {
            0..=102_400 => {}
            102_401..=1_048_576 => {
                c.warn("", format!("has {size} bytes, which every proxy keeps: serve it by a program"));
            }
            _ => c.error("", format!("has {size} bytes, of which at most 1048576 can be: serve it by a program")),
        }
    });
}

/// A final status of HTTP (RFC 9110, section 15).
fn status(c: &mut Checker, name: &str, status: i64) {
    if !(200..600).contains(&status) {
        c.error(name, format!("{status} is not a status: it must be between 200 and 599"));
    }
}

fn http_rewrite(c: &mut Checker, rewrite: &HttpRewrite) {
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none() {
        c.error("", "needs uri, uriRegexRewrite or authority");
    }
    c.at_most_one(&[("uri", !rewrite.uri.is_empty()), ("uriRegexRewrite", rewrite.uri_regex_rewrite.is_some())]);
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        c.required("uriRegexRewrite.match", &regex.pattern);
        c.required("uriRegexRewrite.rewrite", &regex.rewrite);
        c.regex("uriRegexRewrite.match", &regex.pattern);
        if let Some(problem) = crate::pattern::rewrite_problem(&regex.pattern, &regex.rewrite) {
            c.error("uriRegexRewrite.rewrite", problem);
        }
    }
}

fn http_retry(c: &mut Checker, retries: &HttpRetry) {
    c.not_negative("attempts", retries.attempts);
    if retries.attempts == 0 {
        for (name, set) in [
            ("perTryTimeout", retries.per_try_timeout.is_some()),
            ("retryOn", !retries.retry_on.is_empty()),
            ("retryRemoteLocalities", retries.retry_remote_localities.is_some()),
        ] {
            if set {
                c.error(
                    name,
                    "cannot stand beside attempts: 0, which switches retries off: set attempts, or leave it out",
                );
            }
        }
    }
    c.duration("perTryTimeout", retries.per_try_timeout);
    c.duration("backoff", retries.backoff);
    if !retries.retry_on.is_empty() {
        for condition in retries.retry_on.split(',').map(str::trim) {
            let status = condition.parse::<u16>().is_ok_and(|status| (100..600).contains(&status));
            if !status && !RETRY_ON.contains(&condition) {
                let known = RETRY_ON.join(", ");
                c.error("retryOn", format!("\"{condition}\" is neither a status nor one of {known}"));
            }
        }
    }
}

fn fault_delay(c: &mut Checker, delay: &FaultDelay) {
    if delay.exponential_delay.is_some() {
        c.error("exponentialDelay", "is not implemented: use fixedDelay");
    } else if delay.fixed_delay.is_none() {
        c.warn("fixedDelay", "is not set: nothing is delayed");
    }
    c.duration("fixedDelay", delay.fixed_delay);
    c.duration("exponentialDelay", delay.exponential_delay);
    if let Some(percentage) = &delay.percentage {
        c.fraction("percentage.value", percentage.value);
    }
    c.percent("percent", f64::from(delay.percent));
}

fn fault_abort(c: &mut Checker, abort: &FaultAbort) {
    let set = c.at_most_one(&[
        ("httpStatus", abort.http_status.is_some()),
        ("grpcStatus", abort.grpc_status.is_some()),
        ("http2Error", abort.http2_error.is_some()),
    ]);
    if set == 0 {
        c.warn("", "has neither httpStatus nor grpcStatus: nothing is aborted");
    }
    if abort.http2_error.is_some() {
        c.error("http2Error", "is not implemented: use httpStatus");
    }
    if let Some(code) = abort.http_status {
        status(c, "httpStatus", i64::from(code));
    }
    if let Some(name) = &abort.grpc_status
        && !GRPC_STATUSES.contains(&name.as_str())
    {
        c.error("grpcStatus", format!("\"{name}\" is not one of {}", GRPC_STATUSES.join(", ")));
    }
    if let Some(percentage) = &abort.percentage {
        c.fraction("percentage.value", percentage.value);
    }
}

fn mirrors(c: &mut Checker, route: &HttpRoute) {
    c.at_most_one(&[("mirror", route.mirror.is_some()), ("mirrors", !route.mirrors.is_empty())]);
    if let Some(mirror) = &route.mirror {
        c.field("mirror", |c| destination(c, mirror));
    }
    c.each("mirrors", &route.mirrors, |c, mirror| {
        c.field("destination", |c| destination(c, &mirror.destination));
        if let Some(percentage) = &mirror.percentage {
            c.percent("percentage.value", percentage.value);
        }
    });
    if let Some(percentage) = &route.mirror_percentage {
        c.percent("mirrorPercentage.value", percentage.value);
    }
    for (name, percent) in
        [("mirrorPercent", route.mirror_percent), ("mirror_percent", route.mirror_percent_deprecated)]
    {
        if let Some(percent) = percent {
            c.percent(name, f64::from(percent));
            c.warn(name, "is deprecated: use mirrorPercentage");
        }
    }
}

fn cors_policy(c: &mut Checker, cors: &CorsPolicy) {
    c.each("allowOrigins", &cors.allow_origins, |c, origin| {
        if matches!(origin.matcher(), StringMatcher::Present | StringMatcher::Exact("")) {
            c.error("", "names no origin: set one of exact, prefix, regex");
        } else {
            string_match(c, origin);
        }
    });
    for (index, method) in cors.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            c.error(&format!("allowMethods[{index}]"), format!("\"{method}\" is not one of {}", METHODS.join(", ")));
        }
    }
    for (field, names) in [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)] {
        for (index, name) in names.iter().enumerate().filter(|(_, name)| *name != "*") {
            c.header_name(&format!("{field}[{index}]"), name);
        }
    }
    c.duration("maxAge", cors.max_age);
    if let Some(age) = cors.max_age
        && age.get().subsec_nanos() != 0
    {
        c.error("maxAge", format!("{age} is too precise: it must be whole seconds"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::VirtualServiceSpec;

    /// What is wrong with a route that has a destination, and these other fields.
    fn problems(fields: &str) -> Vec<String> {
        let yaml = format!("{{hosts: [a], http: [{{{fields}}}]}}");
        let spec: VirtualServiceSpec = crate::parse(crate::yaml::value(&yaml).unwrap()).unwrap();
        spec.check().iter().map(|one| one.to_string().replace("spec.http[0]", "")).collect()
    }

    #[test]
    fn what_a_route_does() {
        let rows: &[(&str, &[&str])] = &[
            ("", &[": needs one of route, redirect, directResponse, delegate"]),
            ("delegate: {name: d}", &[]),
            ("delegate: {name: d}, rewrite: {uri: /b}", &[]),
            (
                "delegate: {name: d}, directResponse: {status: 200}, rewrite: {uri: /b}",
                &[".directResponse: stands beside delegate, whose routes cannot answer then: leave one of them out"],
            ),
            ("redirect: {port: 0, uri: /a}", &[]),
            ("match: [{uri: {prefix: /a}}, {port: 80}], redirect: {prefixRewrite: /b}", &[]),
            (
                "match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /b}",
                &[
                    ".redirect.prefixRewrite: needs matches whose uri is a prefix: otherwise there is no prefix to rewrite",
                ],
            ),
            (
                "delegate: {name: d}, route: [{destination: {host: a}}]",
                &[": has route and delegate, of which only one can be"],
            ),
            (
                "redirect: {uri: /a}, rewrite: {uri: /b}, fault: {abort: {httpStatus: 500}}",
                &[".rewrite: cannot stand beside redirect", ".fault: cannot stand beside redirect"],
            ),
            ("directResponse: {status: 200}, rewrite: {uri: /b}", &[".rewrite: cannot stand beside directResponse"]),
            ("route: [{weight: 1}]", &[".route[0].destination.host: must be set"]),
            (
                "route: [{destination: {host: a}}, {destination: {host: b}}]",
                &[".route: the weights of its destinations add up to 0: give them weights that add up to 100"],
            ),
            (
                "redirect: {}",
                &[".redirect: changes nothing: needs uri, prefixRewrite, authority, scheme, port or derivePort"],
            ),
            (
                "redirect: {uri: /a, prefixRewrite: /b, redirectCode: 404, scheme: ftp}",
                &[
                    ".redirect: has uri and prefixRewrite, of which only one can be",
                    ".redirect.redirectCode: 404 is not a redirect: use 301, 302, 303, 307 or 308",
                    ".redirect.scheme: \"ftp\" is not http or https",
                ],
            ),
            (
                "redirect: {uri: /a, redirectCode: 304}",
                &[".redirect.redirectCode: 304 leaves the route out: use 301, 302, 303, 307 or 308"],
            ),
            (
                "directResponse: {status: 100, body: {string: a, bytes: YQ==}}",
                &[
                    ".directResponse.status: 100 is not a status: it must be between 200 and 599",
                    ".directResponse.body: has string and bytes, of which only one can be",
                ],
            ),
        ];
        for (fields, expected) in rows {
            assert_eq!(problems(fields), *expected, "{fields}");
        }
    }

    #[test]
    fn a_body_has_a_size() {
        for (size, expected) in [(1_000, 0), (200_000, 1), (2_000_000, 1)] {
            let found = problems(&format!("directResponse: {{status: 200, body: {{string: {}}}}}", "a".repeat(size)));
            assert_eq!(found.len(), expected, "{found:?}");
        }
    }

    #[test]
    fn what_a_route_does_besides() {
        let rows: &[(&str, &[&str])] = &[
            ("retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx, 503,reset'}", &[]),
            ("retries: {attempts: 0}", &[]),
            (
                "retries: {retryOn: 5xx}",
                &[
                    ".retries.retryOn: cannot stand beside attempts: 0, which switches retries off: set attempts, or leave it out",
                ],
            ),
            (
                "retries: {attempts: -1, backoff: 1us}",
                &[
                    ".retries.attempts: -1 is negative: it must be 0 or more",
                    ".retries.backoff: 0.000001s is too short: it must be at least 1ms",
                ],
            ),
            (
                "retries: {attempts: 1, retryOn: '600'}",
                &[
                    ".retries.retryOn: \"600\" is neither a status nor one of 5xx, gateway-error, reset, reset-before-request, connect-failure, envoy-ratelimited, retriable-4xx, refused-stream, retriable-status-codes, retriable-headers, http3-post-connect-failure, cancelled, deadline-exceeded, internal, resource-exhausted, unavailable",
                ],
            ),
            ("fault: {}", &[".fault: needs delay or abort"]),
            (
                "fault: {delay: {}, abort: {}}",
                &[
                    ".fault.delay.fixedDelay: is not set: nothing is delayed",
                    ".fault.abort: has neither httpStatus nor grpcStatus: nothing is aborted",
                ],
            ),
            (
                "fault: {delay: {fixedDelay: 1s, percentage: {value: 0.00001}}, abort: {httpStatus: 1000, percentage: {value: 101}}}",
                &[
                    ".fault.delay.percentage.value: 0.00001 is too small a percentage: the smallest is 0.0001",
                    ".fault.abort.httpStatus: 1000 is not a status: it must be between 200 and 599",
                    ".fault.abort.percentage.value: 101 is not a percentage: it must be between 0 and 100",
                ],
            ),
            ("rewrite: {}", &[".rewrite: needs uri, uriRegexRewrite or authority"]),
            (
                "rewrite: {uri: /a, uriRegexRewrite: {match: '['}}",
                &[
                    ".rewrite: has uri and uriRegexRewrite, of which only one can be",
                    ".rewrite.uriRegexRewrite.rewrite: must be set",
                    ".rewrite.uriRegexRewrite.match: \"[\" is not a regular expression: a \"[\" is not closed",
                ],
            ),
            (
                "rewrite: {uriRegexRewrite: {match: '/a/(.*)', rewrite: '/\\2'}}",
                &[".rewrite.uriRegexRewrite.rewrite: has \\2, and the pattern has 1 groups"],
            ),
            (
                "mirrorPercent: 101, mirrors: [{}], mirror: {host: b}",
                &[
                    ": has mirror and mirrors, of which only one can be",
                    ".mirrors[0].destination.host: must be set",
                    ".mirrorPercent: 101 is not a percentage: it must be between 0 and 100",
                    ".mirrorPercent: is deprecated: use mirrorPercentage",
                ],
            ),
            ("corsPolicy: {allowOrigins: [{regex: '.*'}], allowMethods: ['*'], allowHeaders: ['*'], maxAge: 2s}", &[]),
            (
                "corsPolicy: {allowOrigins: [{}, {exact: ''}], allowMethods: [PUTT], exposeHeaders: ['a b'], maxAge: 1.5s}",
                &[
                    ".corsPolicy.allowOrigins[0]: names no origin: set one of exact, prefix, regex",
                    ".corsPolicy.allowOrigins[1]: names no origin: set one of exact, prefix, regex",
                    ".corsPolicy.allowMethods[0]: \"PUTT\" is not one of GET, HEAD, POST, PUT, PATCH, DELETE, CONNECT, OPTIONS, TRACE, *",
                    ".corsPolicy.exposeHeaders[0]: \"a b\" is not the name of a header: it must be letters, digits and !#$%&'*+-.^_`|~",
                    ".corsPolicy.maxAge: 1.5s is too precise: it must be whole seconds",
                ],
            ),
            (
                "headers: {request: {set: {':authority': b, ':path': c}, remove: [host]}, response: {add: {'': d}, set: {e: '50% off'}}}",
                &[
                    ".headers.request.set: \":path\" cannot be changed: it is no ordinary header",
                    ".headers.request.remove[0]: \"host\" cannot be changed: it is no ordinary header",
                    ".headers.response.set[e]: \"50% off\" is not the value of a header: a \"%\" is not closed: write \"%%\" for the character itself",
                    ".headers.response.add: has a header without a name",
                ],
            ),
            (
                "rewrite: {authority: b}, headers: {request: {set: {host: c}}}",
                &[".headers.request.set[host]: sets the authority, which is set elsewhere in this route already"],
            ),
        ];
        for (fields, expected) in rows {
            let fields = format!("route: [{{destination: {{host: a}}}}], {fields}");
            assert_eq!(problems(&fields), *expected, "{fields}");
        }
    }
}
