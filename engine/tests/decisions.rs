//! Decisions about connections and requests, as tables; which endpoint gets one is in `balance.rs`.

use std::{sync::Arc, time::Duration};

use forestay_engine::{
    decide::{
        chain::{Connection, select},
        cluster, fault,
        host::{HostIndex, Viewpoint, without_port},
        normalize::{self, Normalized},
        retry::{Outcome, applies, backoff, retriable},
        rewrite,
        router::Router,
    },
    ir::{
        Fraction,
        fault::{AbortFault, AbortStatus, DelayFault, Fault},
        header::HeaderOps,
        listener::{
            Chain, ChainAction, ChainMatch, Direction, EscapedSlashes, Listener, PathNormalization, Sniff, SourceType,
            TcpChain, TcpCluster, Transport,
        },
        retry::{RetryOn, RetryPolicy},
        route::{
            Clusters, HeaderKey, HeaderMatch, HeaderRule, PathMatch, PathRewrite, Redirect, RedirectPath, Request,
            VirtualHost, WeightedCluster,
        },
        text::{Pattern, TextMatch},
        tls::{NameKind, NameMatch},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

fn request<'a>(path: &'a str, headers: &'a HeaderMap) -> Request<'a> {
    Request { method: &Method::GET, scheme: "http", authority: "reviews:9080", path, headers, source: None }
}

// Filter chains.

fn chain(name: &str, matches: ChainMatch) -> Arc<Chain> {
    let clusters = [TcpCluster { name: "c".into(), weight: 1 }].into();
    let tcp = TcpChain {
        clusters,
        idle_timeout: None,
        max_connect_attempts: 1,
        access_logs: [].into(),
        stat_prefix: "".into(),
    };
    Arc::new(Chain {
        name: name.into(),
        matches,
        tls: None,
        tls_handshake_timeout: None,
        action: ChainAction::Tcp(Arc::new(tcp)),
        provenance: None,
    })
}

fn listener(chains: Vec<Arc<Chain>>, default_chain: Option<Arc<Chain>>) -> Listener {
    Listener {
        name: "l".into(),
        address: "0.0.0.0:15006".parse().expect("an address"),
        additional_addresses: [].into(),
        bind: true,
        use_original_dst: true,
        transparent: false,
        client_address_mark: None,
        direction: Direction::Inbound,
        sniff: Sniff { original_dst: true, tls: true, http: true, timeout: Duration::ZERO, continue_on_timeout: true },
        chains: chains.into(),
        default_chain,
        provenance: None,
    }
}

fn list(items: &[&str]) -> Box<[Box<str>]> {
    items.iter().map(|item| (*item).into()).collect()
}

#[test]
fn the_most_specific_chain_serves_dimension_by_dimension() {
    let any = ChainMatch::default;
    let mesh = ["istio", "istio-peer-exchange", "istio-http/1.1"];
    let chains = vec![
        chain(
            "9080 mesh",
            ChainMatch {
                destination_port: Some(9080),
                transport: Some(Transport::Tls),
                application_protocols: list(&mesh),
                ..any()
            },
        ),
        chain("9080 other tls", ChainMatch { destination_port: Some(9080), transport: Some(Transport::Tls), ..any() }),
        chain(
            "9080 http",
            ChainMatch {
                destination_port: Some(9080),
                transport: Some(Transport::Plaintext),
                application_protocols: list(&["http/1.1", "h2c"]),
                ..any()
            },
        ),
        chain("strict 9443", ChainMatch { destination_port: Some(9443), transport: Some(Transport::Tls), ..any() }),
        chain("exact name", ChainMatch { server_names: list(&["a.example.com"]), ..any() }),
        chain("wildcard", ChainMatch { server_names: list(&["*.example.com"]), ..any() }),
        chain("longer wildcard", ChainMatch { server_names: list(&["*.b.example.com"]), ..any() }),
        chain("network", ChainMatch { destination: ["10.1.0.0/16".parse().expect("a net")].into(), ..any() }),
        chain(
            "smaller network",
            ChainMatch {
                destination: ["10.1.2.0/24".parse().expect("a net")].into(),
                source_type: SourceType::SameIpOrLoopback,
                ..any()
            },
        ),
    ];
    let listener = listener(chains, Some(chain("default", any())));
    for (name, destination, source, transport, sni, alpn, expected) in [
        ("mesh", "10.0.0.1:9080", "10.0.0.2:1", Transport::Tls, None, &["istio-http/1.1"][..], "9080 mesh"),
        (
            "two offers",
            "10.0.0.1:9080",
            "10.0.0.2:1",
            Transport::Tls,
            None,
            &["istio-peer-exchange", "istio"],
            "9080 mesh",
        ),
        ("other TLS", "10.0.0.1:9080", "10.0.0.2:1", Transport::Tls, None, &["h2"], "9080 other tls"),
        ("plain HTTP", "10.0.0.1:9080", "10.0.0.2:1", Transport::Plaintext, None, &["http/1.1"], "9080 http"),
        ("the port's chains hide the rest", "10.0.0.1:9080", "10.0.0.2:1", Transport::Plaintext, None, &[], "default"),
        ("plaintext to STRICT", "10.0.0.1:9443", "10.0.0.2:1", Transport::Plaintext, None, &["http/1.1"], "default"),
        ("exact name", "10.0.0.1:1", "10.0.0.2:1", Transport::Tls, Some("A.example.com"), &[], "exact name"),
        ("wildcard", "10.0.0.1:1", "10.0.0.2:1", Transport::Tls, Some("x.y.example.com"), &[], "wildcard"),
        (
            "longest wildcard",
            "10.0.0.1:1",
            "10.0.0.2:1",
            Transport::Tls,
            Some("x.b.example.com"),
            &[],
            "longer wildcard",
        ),
        ("no name fits", "10.0.0.1:1", "10.0.0.2:1", Transport::Tls, Some("example.com"), &[], "default"),
        ("network", "10.1.3.1:1", "10.0.0.2:1", Transport::Plaintext, None, &[], "network"),
        ("mapped address", "[::ffff:10.1.3.1]:1", "10.0.0.2:1", Transport::Plaintext, None, &[], "network"),
        ("own address", "10.1.2.1:1", "10.1.2.1:1", Transport::Plaintext, None, &[], "smaller network"),
        ("no way back to the network", "10.1.2.1:1", "10.0.0.2:1", Transport::Plaintext, None, &[], "default"),
    ] {
        let connection = Connection {
            destination: destination.parse().expect("an address"),
            source: source.parse().expect("an address"),
            transport,
            server_name: sni,
            application_protocols: alpn,
        };
        assert_eq!(select(&listener, &connection).map(|chain| &*chain.name), Some(expected), "{name}");
    }
}

#[test]
fn without_a_default_chain_nothing_serves() {
    let only = chain("80", ChainMatch { destination_port: Some(80), ..ChainMatch::default() });
    let connection = Connection {
        destination: "10.0.0.1:81".parse().expect("an address"),
        source: "10.0.0.2:1".parse().expect("an address"),
        transport: Transport::Plaintext,
        server_name: None,
        application_protocols: &[],
    };
    assert!(select(&listener(vec![only], None), &connection).is_none());
}

// Hosts.

fn host(name: &str, domains: &[&str]) -> Arc<VirtualHost> {
    Arc::new(VirtualHost {
        name: name.into(),
        domains: list(domains),
        router: Router::default(),
        require_tls: false,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        include_attempt_count: false,
        provenance: None,
    })
}

#[test]
fn a_host_is_found_by_the_most_specific_domain() {
    let viewpoint = Viewpoint { namespace: "default".into(), domain: "cluster.local".into() };
    let index = HostIndex::new(
        vec![
            host("reviews", &["reviews.default.svc.cluster.local", "10.96.0.9"]),
            host("other", &["reviews.other.svc.cluster.local", "[fd00::9]"]),
            host("headless", &["db.default.svc.cluster.local", "*.db.default.svc.cluster.local"]),
            host("suffix", &["*.example.com", "*-x.example.com"]),
            host("longer suffix", &["*.b.example.com"]),
            host("prefix", &["www.*"]),
            host("taken", &["reviews.default"]),
            host("any", &["*"]),
        ],
        Some(&viewpoint),
    );
    for (authority, expected) in [
        ("reviews", "reviews"),
        ("reviews:9080", "reviews"),
        ("REVIEWS.default.SVC", "reviews"),
        ("reviews.default.svc.cluster.local.:80", "reviews"),
        ("10.96.0.9:9080", "reviews"),
        ("reviews.default", "taken"),
        ("reviews.other", "other"),
        ("reviews.other.svc", "other"),
        ("[fd00::9]:9080", "other"),
        ("db-0.db", "headless"),
        ("db-0.db.default", "headless"),
        ("a.example.com", "suffix"),
        ("a.b.example.com", "longer suffix"),
        ("example.com", "any"),
        ("-x.example.com", "suffix"),
        ("www.x", "prefix"),
        ("www.", "any"),
        ("", "any"),
    ] {
        assert_eq!(index.find(authority, true).map(|host| &*host.name), Some(expected), "{authority}");
    }
    assert_eq!(index.find("reviews:9080", false).map(|host| &*host.name), Some("any"), "the port counts");
}

#[test]
fn only_a_port_is_cut_off() {
    for (authority, host) in [
        ("a:80", "a"),
        ("a", "a"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("::1", "::1"),
        ("a:b", "a:b"),
        ("a:", "a"),
    ] {
        assert_eq!(without_port(authority), host);
    }
}

// Matching.

#[test]
fn texts_match_as_envoy_does() {
    let exact = |value: &str, ignore_case| TextMatch::Exact { value: value.into(), ignore_case };
    let regex = |pattern: &str| TextMatch::Regex(Pattern::new(pattern).expect("valid"));
    for (matcher, text, expected) in [
        (exact("a", false), "a", true),
        (exact("a", false), "A", false),
        (exact("a", true), "A", true),
        (TextMatch::Prefix { value: "ab".into(), ignore_case: false }, "abc", true),
        (TextMatch::Prefix { value: "ab".into(), ignore_case: false }, "a", false),
        (TextMatch::Suffix { value: "bc".into(), ignore_case: true }, "aBC", true),
        (TextMatch::Suffix { value: "bc".into(), ignore_case: false }, "c", false),
        (TextMatch::Contains { value: "b".into(), ignore_case: false }, "abc", true),
        (TextMatch::Contains { value: "".into(), ignore_case: false }, "", true),
        (regex("a|ab"), "ab", true),
        (regex("a"), "ab", false),
        (regex(r"\w+"), "ä", false),
        (regex(r"^(.*?;)?(user=jason)(;.*)?$"), "a=b;user=jason;c=d", true),
        (regex("a.b"), "a\nb", false),
    ] {
        assert_eq!(matcher.matches(text.as_bytes()), expected, "{matcher:?} {text:?}");
    }
}

#[test]
fn names_of_certificates_match_by_their_kind() {
    let exact =
        |kind, value: &str| NameMatch { kind, text: TextMatch::Exact { value: value.into(), ignore_case: false } };
    let (dns, uri, address) = (Some(NameKind::Dns), Some(NameKind::Uri), Some(NameKind::Address));
    for (name, matcher, own, expected) in [
        ("the name itself", exact(dns, "foo.example.com"), "foo.example.com", true),
        ("whatever its case", exact(dns, "foo.example.com"), "Foo.Example.COM", true),
        ("another name", exact(dns, "foo.example.com"), "bar.example.com", false),
        ("a wildcard", exact(dns, "foo.example.com"), "*.example.com", true),
        ("a wildcard of another domain", exact(dns, "foo.example.com"), "*.example.org", false),
        ("a wildcard is one label", exact(dns, "foo.bar.example.com"), "*.example.com", false),
        ("and not none", exact(dns, "example.com"), "*.example.com", false),
        ("nor an empty one", exact(dns, ".example.com"), "*.example.com", false),
        ("only the left-most label", exact(dns, "foo.bar.example.com"), "*.*.example.com", false),
        ("not within the name", exact(dns, "foo.bar.example.com"), "foo.*.example.com", false),
        ("a wildcard for everything", exact(dns, "example.com"), "*", false),
        ("an expected wildcard is a text", exact(dns, "*.example.com"), "foo.example.com", false),
        ("of no kind", exact(None, "foo.example.com"), "*.example.com", true),
        ("of another kind", exact(uri, "foo.example.com"), "foo.example.com", false),
        (
            "not exact",
            NameMatch { kind: dns, text: TextMatch::Prefix { value: "foo.".into(), ignore_case: false } },
            "*.example.com",
            false,
        ),
    ] {
        assert_eq!(matcher.matches_dns(own), expected, "{name}");
    }
    for (matcher, expected) in
        [(exact(uri, "spiffe://t/a"), true), (exact(None, "spiffe://t/a"), true), (exact(dns, "spiffe://t/a"), false)]
    {
        assert_eq!(matcher.matches_uri("spiffe://t/a"), expected, "{matcher:?}");
    }
    for (matcher, own, expected) in [
        (exact(address, "10.0.0.1"), "10.0.0.1", true),
        (exact(address, "10.0.0.1"), "10.0.0.2", false),
        (exact(address, "fd00::1"), "fd00:0::0:1", true),
        (exact(None, "10.0.0.1"), "10.0.0.1", true),
        (exact(dns, "10.0.0.1"), "10.0.0.1", false),
    ] {
        assert_eq!(matcher.matches_address(own.parse().expect("an address")), expected, "{matcher:?} {own}");
    }
}

#[test]
fn headers_match_joined_inverted_and_absent() {
    let text = |value: &str| HeaderRule::Text(TextMatch::Exact { value: value.into(), ignore_case: false });
    let name = |name: &'static str| HeaderKey::Name(HeaderName::from_static(name));
    let mut headers = HeaderMap::new();
    headers.append("a", HeaderValue::from_static("1"));
    headers.append("a", HeaderValue::from_static("2"));
    headers.append("n", HeaderValue::from_static("10"));
    let request = request("/p?q=1", &headers);
    for (label, key, rule, invert, missing_is_empty, expected) in [
        ("joined", name("a"), text("1,2"), false, false, true),
        ("one of several", name("a"), text("1"), false, false, false),
        ("present", name("a"), HeaderRule::Present(true), false, false, true),
        ("absent", name("b"), HeaderRule::Present(false), false, false, true),
        ("not present, turned round", name("b"), HeaderRule::Present(true), true, false, true),
        ("not this value", name("n"), text("11"), true, false, true),
        ("absent is not this value", name("b"), text("x"), true, false, true),
        ("absent counts as empty", name("b"), text(""), false, true, true),
        ("range", name("n"), HeaderRule::Range { start: 10, end: 11 }, false, false, true),
        ("end is out", name("n"), HeaderRule::Range { start: 1, end: 10 }, false, false, false),
        ("no number", name("a"), HeaderRule::Range { start: 0, end: 99 }, false, false, false),
        ("method", HeaderKey::Method, text("GET"), false, false, true),
        ("authority", HeaderKey::Authority, text("reviews:9080"), false, false, true),
        ("path with query", HeaderKey::Path, text("/p?q=1"), false, false, true),
        ("scheme", HeaderKey::Scheme, text("http"), false, false, true),
        ("status of a request", HeaderKey::Status, text("200"), false, false, false),
    ] {
        let wanted = HeaderMatch { name: key, rule, invert, missing_is_empty };
        assert_eq!(forestay_engine::decide::matching::header(&wanted, &request), expected, "{label}");
    }
}

// Clusters, faults, retries.

#[test]
fn clusters_are_picked_by_weight() {
    let member = |name: &str, weight| WeightedCluster {
        name: name.into(),
        weight,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        host_rewrite: None,
    };
    let clusters = Clusters { members: [member("v1", 90), member("v2", 0), member("v3", 10)].into(), total: 100 };
    let count =
        |name: &str| (0..1000).filter(|seed| &*cluster::pick(&clusters, *seed).expect("one").name == name).count();
    assert_eq!((count("v1"), count("v2"), count("v3")), (900, 0, 100));
}

#[test]
fn a_fault_falls_on_its_share_of_requests_with_its_headers() {
    let share = |numerator| Fraction { numerator, denominator: 100 };
    let wanted = HeaderMatch {
        name: HeaderKey::Name(HeaderName::from_static("end-user")),
        rule: HeaderRule::Present(true),
        invert: false,
        missing_is_empty: false,
    };
    let rule = Fault {
        delay: Some(DelayFault { duration: Duration::from_secs(7), share: share(10) }),
        abort: Some(AbortFault { status: AbortStatus::Http(500), share: share(50) }),
        headers: [wanted].into(),
    };
    let mut headers = HeaderMap::new();
    let without = headers.clone();
    headers.insert("end-user", HeaderValue::from_static("jason"));
    let (delays, aborts) = (0..100u64).fold((0, 0), |(delays, aborts), seed| {
        let injected = fault::inject(&rule, &request("/", &headers), (seed, seed));
        (delays + u32::from(injected.delay.is_some()), aborts + u32::from(injected.abort.is_some()))
    });
    assert_eq!((delays, aborts), (10, 50));
    assert_eq!(fault::inject(&rule, &request("/", &without), (0, 0)), fault::Injected::default());
}

fn policy(on: RetryOn) -> RetryPolicy {
    RetryPolicy {
        on,
        attempts: 2,
        per_try_timeout: None,
        status_codes: [503].into(),
        response_headers: [].into(),
        request_headers: [].into(),
        backoff_base: Duration::from_millis(25),
        backoff_max: Duration::from_millis(250),
        avoid_previous_hosts: true,
        host_selection_attempts: 5,
        reset_headers: [].into(),
    }
}

fn answer(status: StatusCode, headers: &HeaderMap) -> Outcome<'_> {
    Outcome::Response { status, headers }
}

#[test]
fn outcomes_are_tried_again_as_the_conditions_say() {
    let off = RetryOn::default;
    let istio =
        RetryOn { connect_failure: true, refused_stream: true, grpc_unavailable: true, grpc_cancelled: true, ..off() };
    let mut grpc = HeaderMap::new();
    grpc.insert("grpc-status", HeaderValue::from_static("14"));
    let mut limited = HeaderMap::new();
    limited.insert("x-envoy-ratelimited", HeaderValue::from_static("true"));
    let none = HeaderMap::new();
    let of = |code: u16| answer(StatusCode::from_u16(code).expect("a status"), &none);
    for (name, on, outcome, expected) in [
        ("Istio's default: no connection", istio, Outcome::ConnectFailure, true),
        ("Istio's default: refused stream", istio, Outcome::RefusedStream, true),
        ("Istio's default: broken after the request", istio, Outcome::Reset, false),
        ("Istio's default: 503", istio, of(503), false),
        ("Istio's default: gRPC unavailable", istio, answer(StatusCode::OK, &grpc), true),
        ("5xx: 500", RetryOn { server_error: true, ..off() }, of(500), true),
        ("5xx: 404", RetryOn { server_error: true, ..off() }, of(404), false),
        ("5xx: broken", RetryOn { server_error: true, ..off() }, Outcome::Reset, true),
        ("5xx: too slow", RetryOn { server_error: true, ..off() }, Outcome::PerTryTimeout, true),
        (
            "5xx: rate limited",
            RetryOn { server_error: true, ..off() },
            answer(StatusCode::SERVICE_UNAVAILABLE, &limited),
            false,
        ),
        ("gateway-error: 502", RetryOn { gateway_error: true, ..off() }, of(502), true),
        ("gateway-error: 500", RetryOn { gateway_error: true, ..off() }, of(500), false),
        (
            "reset-before-request: before",
            RetryOn { reset_before_request: true, ..off() },
            Outcome::ResetBeforeRequest,
            true,
        ),
        ("reset-before-request: after", RetryOn { reset_before_request: true, ..off() }, Outcome::Reset, false),
        ("retriable-4xx: 409", RetryOn { retriable_4xx: true, ..off() }, of(409), true),
        ("retriable-status-codes: its own", RetryOn { retriable_status_codes: true, ..off() }, of(503), true),
        ("retriable-status-codes: another", RetryOn { retriable_status_codes: true, ..off() }, of(500), false),
        ("envoy-ratelimited", RetryOn { envoy_ratelimited: true, ..off() }, answer(StatusCode::OK, &limited), true),
        ("a breaker is open", RetryOn { server_error: true, reset: true, ..off() }, Outcome::Overflow, false),
    ] {
        assert_eq!(retriable(&policy(on), &outcome), expected, "{name}");
    }
    let headers = HeaderMap::new();
    assert!(applies(&policy(istio), &request("/", &headers)));
    assert!(!applies(&policy(off()), &request("/", &headers)));
}

#[test]
fn waits_double_up_to_the_maximum() {
    let policy = policy(RetryOn { reset: true, ..RetryOn::default() });
    for (attempt, bound) in [(1, 25), (2, 75), (3, 175), (4, 250), (40, 250)] {
        let bound = Duration::from_millis(bound);
        for seed in [0, 1, 12_345_678_901, u64::MAX] {
            assert!(backoff(&policy, attempt, seed) < bound, "attempt {attempt}");
        }
        let nanos = u64::try_from(bound.as_nanos()).expect("small");
        assert_eq!(backoff(&policy, attempt, nanos - 1), Duration::from_nanos(nanos - 1), "attempt {attempt}");
    }
}

// Paths.

#[test]
fn paths_are_normalized_as_the_mesh_says() {
    let base = PathNormalization { normalize: true, ..PathNormalization::default() };
    let merge = PathNormalization { merge_slashes: true, ..base };
    let decode = PathNormalization { escaped_slashes: EscapedSlashes::UnescapeAndForward, ..merge };
    let with = |escaped_slashes| PathNormalization { escaped_slashes, ..base };
    let path = |path: &str| Normalized::Path(path.to_owned().into());
    for (rules, given, expected) in [
        (PathNormalization::default(), "/a/../b", path("/a/../b")),
        (base, "/a/../b?x=/../y", path("/b?x=/../y")),
        (base, "/a/./b/", path("/a/b/")),
        (base, "/a/..", path("/")),
        (base, "/a/b/.", path("/a/b/")),
        (base, "/..", Normalized::Reject),
        (base, "/a/%2e%2e/b", path("/b")),
        (base, "/%41%2f%zz", path("/A%2f%zz")),
        (base, r"/a\b", path("/a/b")),
        (base, "//a", path("//a")),
        (base, "*", path("*")),
        (base, "/.hidden", path("/.hidden")),
        (merge, "//a///b", path("/a/b")),
        (merge, "//a/../b", path("/b")),
        (decode, "/a%2fb%5Cc", path("/a/b/c")),
        (with(EscapedSlashes::Reject), "/a%2Fb", Normalized::Reject),
        (with(EscapedSlashes::UnescapeAndRedirect), "/a%2Fb?q", Normalized::Redirect("/a/b?q".to_owned())),
        (with(EscapedSlashes::Reject), "/a?b%2Fc", path("/a?b%2Fc")),
    ] {
        assert_eq!(normalize::path(rules, given), expected, "{given}");
    }
}

#[test]
fn paths_and_redirects_are_rewritten_as_envoy_does() {
    let headers = HeaderMap::new();
    let prefix = |path: &str| PathMatch::Prefix { path: path.into(), ignore_case: false };
    let exact = PathMatch::Exact { path: "/a".into(), ignore_case: false };
    for (matched, replacement, path, expected) in [
        (prefix("/old"), "/new", "/old/x?q=1", "/new/x?q=1"),
        (prefix("/old/"), "/", "/old/x", "/x"),
        (exact, "/b", "/a?q", "/b?q"),
    ] {
        let rewritten = rewrite::path(&PathRewrite::Prefix(replacement.into()), &matched, &request(path, &headers));
        assert_eq!(rewritten, expected);
    }
    let redirect =
        Redirect { status: 301, scheme: None, host: None, port: None, path: RedirectPath::Keep, strip_query: false };
    let to_https = Redirect { scheme: Some("https".into()), ..redirect.clone() };
    for (name, redirect, authority, path, expected) in [
        ("host", Redirect { host: Some("b".into()), ..redirect.clone() }, "a", "/x?q", "http://b/x?q"),
        ("scheme drops a default port", to_https.clone(), "a:80", "/", "https://a/"),
        ("scheme keeps another port", to_https, "a:8080", "/", "https://a:8080/"),
        ("port", Redirect { port: Some(8443), ..redirect.clone() }, "a:80", "/", "http://a:8443/"),
        (
            "path",
            Redirect { path: RedirectPath::Replace("/y".into()), ..redirect.clone() },
            "a",
            "/x?q",
            "http://a/y?q",
        ),
        (
            "path with query",
            Redirect { path: RedirectPath::Replace("/y?z".into()), ..redirect.clone() },
            "a",
            "/x?q",
            "http://a/y?z",
        ),
        ("without query", Redirect { strip_query: true, ..redirect }, "a", "/x?q", "http://a/x"),
    ] {
        let request = Request { authority, ..request(path, &headers) };
        assert_eq!(rewrite::location(&redirect, &prefix("/"), &request), expected, "{name}");
    }
}
