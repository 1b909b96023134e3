//! What is wrong with a VirtualService.

use super::{
    Destination, FaultAbort, FaultDelay, HttpMatchRequest, HttpRoute, StringMatch, StringMatcher, VirtualServiceSpec,
};
use crate::check::{Checker, Problem};

impl VirtualServiceSpec {
    /// What is wrong with these routes.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        if self.http.is_empty() && self.tls.is_empty() && self.tcp.is_empty() {
            c.error("", "needs at least one route under http, tls or tcp");
        }
        if self.hosts.is_empty() && !self.http.iter().any(has_routes_of_its_own) && !self.http.is_empty() {
            c.error("hosts", "must be set: only a delegate, whose routes have destinations, may leave them out");
        }
        for (index, host) in self.hosts.iter().enumerate() {
            c.host(&format!("hosts[{index}]"), host);
            if self.hosts.iter().take(index).any(|earlier| earlier == host) {
                c.error(&format!("hosts[{index}]"), format!("\"{host}\" is listed twice"));
            }
        }
        c.each("http", &self.http, http_route);
        c.each("tls", &self.tls, |c, route| {
            if route.matches.is_empty() {
                c.error("match", "needs at least one entry with sniHosts");
            }
            c.each("match", &route.matches, |c, m| {
                if m.sni_hosts.is_empty() {
                    c.error("sniHosts", "must name at least one host");
                }
                subnets(c, &m.destination_subnets);
                if m.port != 0 {
                    c.port("port", m.port);
                }
            });
            let destinations: Vec<_> = route.route.iter().map(|r| (&r.destination, r.weight)).collect();
            weighted(c, &destinations);
        });
        c.each("tcp", &self.tcp, |c, route| {
            c.each("match", &route.matches, |c, m| {
                subnets(c, &m.destination_subnets);
                if m.port != 0 {
                    c.port("port", m.port);
                }
            });
            let destinations: Vec<_> = route.route.iter().map(|r| (&r.destination, r.weight)).collect();
            weighted(c, &destinations);
        });
        unreachable_routes(&mut c, &self.http);
        c.finish()
    }
}

/// A VirtualService without hosts is one that others delegate to; it must at least do something.
fn has_routes_of_its_own(route: &HttpRoute) -> bool {
    !route.route.is_empty() || route.redirect.is_some() || route.direct_response.is_some()
}

fn http_route(c: &mut Checker, route: &HttpRoute) {
    let answers = [
        (!route.route.is_empty(), "route"),
        (route.redirect.is_some(), "redirect"),
        (route.direct_response.is_some(), "directResponse"),
        (route.delegate.is_some(), "delegate"),
    ];
    let set: Vec<_> = answers.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    match set.as_slice() {
        [] => c.error("", "needs one of route, redirect, directResponse, delegate"),
        [_] => {}
        several => c.error("", format!("has {}, of which only one can be", several.join(" and "))),
    }
    c.each("match", &route.matches, http_match);
    let destinations: Vec<_> = route.route.iter().map(|r| (&r.destination, r.weight)).collect();
    if !destinations.is_empty() {
        weighted(c, &destinations);
    }
    if let Some(redirect) = &route.redirect {
        c.field("redirect", |c| {
            if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
                c.error("", "has uri and prefixRewrite, of which only one can be");
            }
            // Istio answers with these; anything else would not be a redirect.
            if redirect.redirect_code != 0 && !matches!(redirect.redirect_code, 301 | 302 | 303 | 307 | 308) {
                let code = redirect.redirect_code;
                c.error("redirectCode", format!("{code} is not a redirect: use 301, 302, 303, 307 or 308"));
            }
            if let Some(port) = redirect.port {
                c.port("port", port);
            }
        });
        if route.rewrite.is_some() {
            c.error("rewrite", "cannot stand beside redirect");
        }
        if route.fault.is_some() {
            c.error("fault", "cannot stand beside redirect");
        }
    }
    if let Some(response) = &route.direct_response
        && !(200..600).contains(&response.status)
    {
        c.error(
            "directResponse.status",
            format!("{} is not a status: it must be between 200 and 599", response.status),
        );
    }
    if let Some(rewrite) = &route.rewrite {
        c.field("rewrite", |c| {
            if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none() {
                c.error("", "needs uri, uriRegexRewrite or authority");
            }
            if let Some(regex) = &rewrite.uri_regex_rewrite {
                if !rewrite.uri.is_empty() {
                    c.error("", "has uri and uriRegexRewrite, of which only one can be");
                }
                c.required("uriRegexRewrite.match", &regex.pattern);
                c.required("uriRegexRewrite.rewrite", &regex.rewrite);
                c.regex("uriRegexRewrite.match", &regex.pattern);
            }
        });
    }
    c.at_least_a_millisecond("timeout", route.timeout);
    if let Some(retries) = &route.retries {
        c.field("retries", |c| {
            if retries.attempts < 0 {
                c.error("attempts", "must not be negative");
            }
            c.at_least_a_millisecond("perTryTimeout", retries.per_try_timeout);
            c.at_least_a_millisecond("backoff", retries.backoff);
            if retries.attempts == 0 && (retries.per_try_timeout.is_some() || !retries.retry_on.is_empty()) {
                c.warn("attempts", "is 0, which switches retries off; the other settings have no effect");
            }
        });
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
    if let Some(mirror) = &route.mirror {
        c.field("mirror", |c| destination(c, mirror));
        if !route.mirrors.is_empty() {
            c.error("", "has mirror and mirrors, of which only one can be");
        }
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
        }
    }
    if let Some(cors) = &route.cors_policy {
        c.field("corsPolicy", |c| {
            c.each("allowOrigins", &cors.allow_origins, string_match);
            c.at_least_a_millisecond("maxAge", cors.max_age);
        });
    }
}

fn http_match(c: &mut Checker, m: &HttpMatchRequest) {
    for (name, value) in [("uri", &m.uri), ("scheme", &m.scheme), ("method", &m.method), ("authority", &m.authority)] {
        if let Some(value) = value {
            c.field(name, |c| {
                string_match(c, value);
                if matches!(value.matcher(), StringMatcher::Present) {
                    c.error("", "needs one of exact, prefix, regex");
                }
            });
        }
    }
    for (name, map) in
        [("headers", &m.headers), ("withoutHeaders", &m.without_headers), ("queryParams", &m.query_params)]
    {
        for (key, value) in map {
            if key.is_empty() {
                c.error(name, "has an empty name");
            }
            // Istio takes `withoutHeaders: {x: {regex: "*"}}` for "x must be absent".
            if name == "withoutHeaders" && value.matcher() == StringMatcher::Regex("*") {
                continue;
            }
            c.key(name, key, |c| string_match(c, value));
        }
    }
    if m.port != 0 {
        c.port("port", m.port);
    }
}

fn string_match(c: &mut Checker, value: &StringMatch) {
    match value.matcher() {
        StringMatcher::Regex(pattern) => {
            if pattern.is_empty() {
                c.error("regex", "must not be empty");
            }
            c.regex("regex", pattern);
        }
        StringMatcher::Prefix("") => c.error("prefix", "must not be empty"),
        _ => {}
    }
}

fn fault_delay(c: &mut Checker, delay: &FaultDelay) {
    match delay.fixed_delay {
        None => c.error("fixedDelay", "must be set"),
        some => c.at_least_a_millisecond("fixedDelay", some),
    }
    if delay.exponential_delay.is_some() {
        c.error("exponentialDelay", "is not implemented: use fixedDelay");
    }
    if let Some(percentage) = &delay.percentage {
        c.percent("percentage.value", percentage.value);
    }
    c.percent("percent", f64::from(delay.percent));
}

fn fault_abort(c: &mut Checker, abort: &FaultAbort) {
    if abort.http_status.is_none() && abort.grpc_status.is_none() {
        c.error("", "needs httpStatus or grpcStatus");
    }
    if abort.http2_error.is_some() {
        c.error("http2Error", "is not implemented: use httpStatus");
    }
    if let Some(status) = abort.http_status
        && !(200..600).contains(&status)
    {
        c.error("httpStatus", format!("{status} is not a status: it must be between 200 and 599"));
    }
    if let Some(percentage) = &abort.percentage {
        c.percent("percentage.value", percentage.value);
    }
}

/// Weighted destinations of one route.
fn weighted(c: &mut Checker, destinations: &[(&Destination, i32)]) {
    if destinations.is_empty() {
        c.error("route", "needs at least one destination");
    }
    c.each("route", destinations, |c, (to, weight)| {
        c.field("destination", |c| destination(c, to));
        if *weight < 0 {
            c.error("weight", format!("{weight} is negative"));
        } else if *weight == 0 && destinations.len() > 1 && destinations.iter().any(|(_, w)| *w > 0) {
            c.warn("weight", "is 0: this destination gets no traffic");
        }
    });
    let total: i64 = destinations.iter().map(|(_, weight)| i64::from(*weight)).sum();
    if destinations.len() > 1 && total == 0 {
        c.error("route", "the weights of its destinations add up to 0: give them weights that add up to 100");
    }
    if total > i64::from(u32::MAX) {
        c.error("route", "the weights of its destinations add up to more than 4294967295");
    }
}

fn destination(c: &mut Checker, destination: &Destination) {
    if destination.host.is_empty() {
        c.error("host", "must be set");
    } else if destination.host == "*" {
        c.error("host", "\"*\" is not a service");
    } else {
        c.host("host", &destination.host);
    }
    if let Some(port) = &destination.port {
        c.port("port.number", port.number);
    }
}

fn subnets(c: &mut Checker, subnets: &[String]) {
    for (index, subnet) in subnets.iter().enumerate() {
        if subnet.parse::<ipnet::IpNet>().is_err() && subnet.parse::<std::net::IpAddr>().is_err() {
            c.error(&format!("destinationSubnets[{index}]"), format!("\"{subnet}\" is not an address or a CIDR block"));
        }
    }
}

/// A route that matches everything ends the list: what follows it never gets a request.
fn unreachable_routes(c: &mut Checker, routes: &[HttpRoute]) {
    let catches_all =
        |route: &HttpRoute| route.matches.is_empty() || route.matches.contains(&HttpMatchRequest::default());
    if let Some(index) = routes.iter().position(catches_all)
        && index + 1 < routes.len()
    {
        c.warn(&format!("http[{}]", index + 1), format!("is never reached: http[{index}] matches every request"));
    }
}

#[cfg(test)]
mod tests {
    use super::VirtualServiceSpec;

    fn problems(yaml: &str) -> Vec<String> {
        let spec: VirtualServiceSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
        spec.check().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("a plain route", "{hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}", &[]),
            ("no route at all", "{hosts: [reviews]}", &["spec: needs at least one route under http, tls or tcp"]),
            (
                "a missing destination",
                "{hosts: [a], http: [{route: [{weight: 1}]}]}",
                &["spec.http[0].route[0].destination.host: must be set"],
            ),
            (
                "weights of nothing",
                "{hosts: [a], http: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}",
                &[
                    "spec.http[0].route: the weights of its destinations add up to 0: give them weights that add up to 100",
                ],
            ),
            (
                "a negative weight",
                "{hosts: [a], http: [{route: [{destination: {host: a}, weight: -1}]}]}",
                &["spec.http[0].route[0].weight: -1 is negative"],
            ),
            (
                "a bad regular expression",
                "{hosts: [a], http: [{match: [{uri: {regex: '(a'}}], route: [{destination: {host: a}}]}]}",
                &["spec.http[0].match[0].uri.regex: \"(a\" is not a regular expression: unclosed group"],
            ),
            (
                "a percentage above 100",
                "{hosts: [a], http: [{fault: {abort: {httpStatus: 500, percentage: {value: 101}}}, route: [{destination: {host: a}}]}]}",
                &["spec.http[0].fault.abort.percentage.value: 101 is not a percentage: it must be between 0 and 100"],
            ),
            (
                "a port out of range",
                "{hosts: [a], http: [{route: [{destination: {host: a, port: {number: 70000}}}]}]}",
                &["spec.http[0].route[0].destination.port.number: 70000 is not a port: it must be between 1 and 65535"],
            ),
            (
                "a route behind a catch-all",
                "{hosts: [a], http: [{route: [{destination: {host: a}}]}, {route: [{destination: {host: b}}]}]}",
                &["spec.http[1]: is never reached: http[0] matches every request"],
            ),
        ];
        for (name, yaml, expected) in rows {
            assert_eq!(problems(yaml), *expected, "{name}");
        }
    }
}
