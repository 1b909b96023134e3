//! What the store makes of resources that come, change and go.

mod bookinfo;

use std::time::{Duration, Instant};

use bookinfo::{
    eds_cluster, endpoints, forward, host, outbound_9080, prefix, proxy, resource, reviews, reviews_cluster, snapshot,
    store,
};
use forestay_engine::{
    Snapshot, Store,
    decide::chain::Connection,
    explain::explain,
    ir::{
        cluster::{ClusterTransport, LbPolicy},
        listener::Transport,
        route::{Request, RouteAction},
    },
    store::PATIENCE,
};
use http::{HeaderMap, HeaderValue, Method};
use xds::type_url;

const HOST_RESOURCE: &str = "9080/reviews.default.svc.cluster.local:9080";

fn connection(destination: &str) -> Connection<'static> {
    Connection {
        destination: destination.parse().expect("an address"),
        source: "10.0.0.9:40000".parse().expect("an address"),
        transport: Transport::Plaintext,
        server_name: None,
        application_protocols: &[],
    }
}

fn ask(snapshot: &Snapshot, destination: &str, authority: &str, user: Option<&'static str>, seed: u64) -> String {
    let mut headers = HeaderMap::new();
    if let Some(user) = user {
        headers.insert("end-user", HeaderValue::from_static(user));
    }
    let request = Request {
        method: &Method::GET,
        scheme: "http",
        authority,
        path: "/reviews/0",
        headers: &headers,
        source: None,
    };
    explain(snapshot, "virtualOutbound", &connection(destination), Some(&request), seed).to_string()
}

#[test]
fn bookinfos_requests_go_where_its_rules_say() {
    let snapshot = snapshot();
    let reviews = "listener: 0.0.0.0_9080\nfilter chain: \nvirtual host: reviews.default.svc.cluster.local:9080\n";
    let jason = format!(
        "{reviews}route: jason (VirtualService default/reviews, spec.http[0])\n\
         cluster: outbound|9080|v2|reviews.default.svc.cluster.local weight 100\n"
    );
    let others = format!(
        "{reviews}route: default (VirtualService default/reviews, spec.http[1])\n\
         cluster: outbound|9080|v1|reviews.default.svc.cluster.local weight 50\n\
         cluster: outbound|9080|v3|reviews.default.svc.cluster.local weight 50\n"
    );
    let unknown = "listener: 0.0.0.0_9080\nfilter chain: \nvirtual host: allow_any\nroute: allow_any\n\
                   cluster: PassthroughCluster weight 1\n";
    let by_tcp = "listener: virtualOutbound\nfilter chain: virtualOutbound-catchall-tcp\n\
                  cluster: PassthroughCluster weight 1\n";
    let loop_ =
        "listener: virtualOutbound\nfilter chain: virtualOutbound-blackhole\ncluster: BlackHoleCluster weight 1\n";
    for (name, destination, authority, user, expected) in [
        ("short name", "10.96.0.9:9080", "reviews:9080", None, others.as_str()),
        ("jason", "10.96.0.9:9080", "reviews:9080", Some("jason"), jason.as_str()),
        ("name and namespace", "10.96.0.9:9080", "reviews.default", None, others.as_str()),
        ("with svc", "10.96.0.9:9080", "reviews.default.svc:80", None, others.as_str()),
        ("absolute, in capitals", "10.96.0.9:9080", "Reviews.Default.svc.cluster.local.", None, others.as_str()),
        ("cluster IP", "10.96.0.9:9080", "10.96.0.9:9080", None, others.as_str()),
        ("another host on the port", "10.96.0.9:9080", "example.org", None, unknown),
        ("another port", "10.96.0.9:5432", "reviews", None, by_tcp),
        ("the listener's own port", "10.0.0.9:15001", "reviews", None, loop_),
    ] {
        assert_eq!(ask(&snapshot, destination, authority, user, 1), expected, "{name}");
    }
}

#[test]
fn a_cluster_means_auto_mtls_with_the_services_name() {
    let snapshot = snapshot();
    let cluster = snapshot.cluster(&reviews_cluster("v2")).expect("sent");
    assert_eq!(cluster.settings.lb, LbPolicy::LeastRequest { choices: 2 });
    assert_eq!(cluster.service.as_ref().map(|service| service.name.as_str()), Some("reviews"));
    let ClusterTransport::ByTlsMode { istio, .. } = &cluster.transport else { panic!("{:?}", cluster.transport) };
    assert_eq!(istio.sni.as_deref(), Some("outbound_.9080_.v2_.reviews.default.svc.cluster.local"));
    assert!(cluster.server_names()[0].matches_uri("spiffe://cluster.local/ns/default/sa/bookinfo-reviews"));
}

#[test]
fn a_routes_fault_is_read() {
    let snapshot = snapshot();
    let table = snapshot.table("9080").expect("sent");
    let host = table.hosts.find("reviews", true).expect("by its short name");
    let fault = host.router.routes()[0].fault.as_ref().expect("jason's delay");
    assert_eq!(fault.delay.map(|delay| delay.duration), Some(Duration::from_secs(7)));
    let RouteAction::Forward(forward) = &host.router.routes()[0].action else { panic!("a forward") };
    assert_eq!(forward.timeout, None, "zero is no limit");
}

#[test]
fn an_endpoint_update_is_no_new_snapshot() {
    let now = Instant::now();
    let mut store = store(now);
    assert_eq!(store.changes(now).endpoints.len(), 3);
    let v1 = reviews_cluster("v1");
    let update = resource(&v1, &endpoints("v1", &["10.0.0.1", "10.0.0.4"]));
    store.upsert(type_url::ENDPOINTS, std::slice::from_ref(&update), now);
    let changes = store.changes(now);
    assert!(changes.snapshot.is_none());
    assert_eq!(
        changes.endpoints.iter().map(|(name, set)| (&**name, set.endpoints.len())).collect::<Vec<_>>(),
        [(&*v1, 2)]
    );
    let first = &changes.endpoints[0].1.endpoints[0];
    assert!(first.mtls);
    assert_eq!(first.workload.as_ref().map(|workload| workload.canonical_revision.as_str()), Some("v1"));

    store.upsert(type_url::ENDPOINTS, &[update], now);
    assert!(store.changes(now).is_empty(), "the same again is no change");
    store.remove(type_url::ENDPOINTS, std::slice::from_ref(&v1));
    assert!(store.changes(now).endpoints[0].1.is_empty(), "gone endpoints are none");
}

#[test]
fn a_changed_lb_policy_makes_the_endpoints_ready_for_it() {
    let now = Instant::now();
    let mut store = store(now);
    store.changes(now);
    let v1 = reviews_cluster("v1");
    let mut message = eds_cluster("v1");
    message.lb_policy = 2;
    store.upsert(type_url::CLUSTER, &[resource(&v1, &message)], now);
    let changes = store.changes(now);
    assert!(changes.snapshot.is_some());
    assert_eq!(changes.endpoints.len(), 1, "with a ring now");
}

#[test]
fn a_rule_waits_for_a_new_subset_and_not_for_ever() {
    let now = Instant::now();
    let mut store = store(now);
    store.changes(now);
    let with = |subset: &str| {
        let routes = vec![forward("new", prefix("/"), &[(&reviews_cluster(subset), 1)])];
        resource(HOST_RESOURCE, &host("reviews", routes))
    };
    let to_v1 = |snapshot: &Snapshot| ask(snapshot, "10.96.0.9:9080", "reviews", None, 1).contains("|v1|");

    store.upsert(type_url::VIRTUAL_HOST, &[with("v4")], now);
    assert!(store.changes(now).is_empty(), "the old rule stays");
    assert_eq!(store.next_deadline(), Some(now + PATIENCE));
    let v4 = reviews_cluster("v4");
    store.upsert(type_url::CLUSTER, &[resource(&v4, &eds_cluster("v4"))], now);
    let snapshot = store.changes(now).snapshot.expect("the cluster is new");
    assert!(to_v1(&snapshot), "the cluster is there, its endpoints are not");
    store.upsert(type_url::ENDPOINTS, &[resource(&v4, &endpoints("v4", &["10.0.0.4"]))], now);
    let changes = store.changes(now);
    assert_eq!(changes.endpoints.len(), 1);
    let snapshot = changes.snapshot.expect("the rule takes over");
    assert!(ask(&snapshot, "10.96.0.9:9080", "reviews", None, 1).contains("|v4|"));

    store.upsert(type_url::VIRTUAL_HOST, &[with("missing")], now);
    assert!(store.changes(now + PATIENCE.mul_f64(0.99)).is_empty());
    let snapshot = store.changes(now + PATIENCE).snapshot.expect("time is up");
    assert!(ask(&snapshot, "10.96.0.9:9080", "reviews", None, 1).contains("not known: 503 NC"));
    assert_eq!(store.next_deadline(), None);
}

#[test]
fn what_goes_is_gone_and_told_once() {
    let now = Instant::now();
    let mut store = store(now);
    store.changes(now);
    store.remove(type_url::CLUSTER, &[reviews_cluster("v3")]);
    let changes = store.changes(now);
    assert_eq!(changes.removed, [reviews_cluster("v3").into()]);
    assert!(changes.snapshot.is_some());
    store.remove(type_url::VIRTUAL_HOST, &[HOST_RESOURCE.to_owned()]);
    let snapshot = store.changes(now).snapshot.expect("a host less");
    assert!(ask(&snapshot, "10.96.0.9:9080", "reviews", None, 1).contains("allow_any"));
    store.remove(type_url::LISTENER, &["0.0.0.0_9080".to_owned()]);
    let snapshot = store.changes(now).snapshot.expect("a listener less");
    assert!(ask(&snapshot, "10.96.0.9:9080", "reviews", None, 1).contains("catchall"));
    assert!(store.changes(now).is_empty());
}

#[test]
fn names_that_listeners_and_clusters_name_are_wanted() {
    let store = store(Instant::now());
    assert_eq!(store.wanted_routes().into_iter().collect::<Vec<_>>(), ["9080".into()]);
    assert_eq!(store.wanted_endpoints().len(), 3);
    assert!(store.tables_have_hosts());
}

#[test]
fn unchanged_listeners_and_hosts_keep_their_identity() {
    let now = Instant::now();
    let mut store = store(now);
    let before = store.changes(now).snapshot.expect("new");
    store.upsert(type_url::LISTENER, &[resource("0.0.0.0_9080", &outbound_9080())], now);
    assert!(store.changes(now).is_empty());
    store.upsert(type_url::VIRTUAL_HOST, &[resource(HOST_RESOURCE, &reviews())], now);
    let after = store.changes(now).snapshot.expect("a host was sent");
    let cluster = |snapshot: &Snapshot| snapshot.cluster(&reviews_cluster("v1")).cloned().expect("there");
    assert!(std::sync::Arc::ptr_eq(&cluster(&before), &cluster(&after)));
}

#[test]
fn a_refused_resource_leaves_the_one_before_and_names_itself() {
    let now = Instant::now();
    let mut store = store(now);
    store.changes(now);
    let mut broken = reviews();
    broken.domains.clear();
    let refused = store.upsert(
        type_url::VIRTUAL_HOST,
        &[resource(HOST_RESOURCE, &broken), resource("9080/allow_any", &bookinfo::allow_any())],
        now,
    );
    assert_eq!(
        refused.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!("VirtualHost {HOST_RESOURCE:?}: domains: there is no domain")]
    );
    let snapshot = store.changes(now).snapshot.expect("the other host was taken");
    assert!(ask(&snapshot, "10.96.0.9:9080", "reviews", Some("jason"), 1).contains("|v2|"));
    let mut empty = Store::new(proxy());
    let refused = empty.upsert("type.googleapis.com/x.Y", &[resource("a", &broken)], now);
    assert_eq!(
        refused[0].to_string(),
        "resource \"a\": resources of type type.googleapis.com/x.Y are not understood by this proxy"
    );
}
