//! Istio's Bookinfo samples ($FORESTAY_SAMPLES), read where they are: each file translates, and says what it says.

use std::path::Path;

use translate::ResourceSet;
use xds::provenance::Provenance;
use xds::type_url;
use xds::types::fault::{HttpFault, fault_abort};
use xds::types::route::VirtualHost;
use xds::types::route::route::Action;
use xds::types::route::route_action::ClusterSpecifier;

use crate::cluster::{Cluster, INGRESS_SERVICE, Resources, clusters_of, documents, ingress_gateway, material};

/// Bookinfo with these files of `networking/`.
fn bookinfo(samples: &Path, files: &[&str]) -> Cluster {
    let folder = samples.join("bookinfo");
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut cluster = Cluster::new(&read("platform/kube/bookinfo.yaml"));
    cluster.add(documents(INGRESS_SERVICE));
    for file in files {
        cluster.add(documents(&read(&format!("networking/{file}"))));
    }
    cluster
}

/// The virtual host by which productpage calls a service.
fn called(set: &ResourceSet, service: &str) -> VirtualHost {
    set.virtual_host("9080", &format!("{service}.default.svc.cluster.local:9080")).expect("a virtual host")
}

fn cluster_name(service: &str, subset: &str) -> String {
    format!("outbound|9080|{subset}|{service}.default.svc.cluster.local")
}

/// Header `end-user` and clusters with weights, route by route.
fn routes(host: &VirtualHost) -> Vec<(bool, Vec<(String, u32)>)> {
    let weights = |route: &xds::types::route::Route| match &route.action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::WeightedClusters(all)) => {
                let weight = |one: &xds::types::route::weighted_cluster::ClusterWeight| {
                    (one.name.clone(), one.weight.map_or(0, |weight| weight.value))
                };
                all.clusters.iter().map(weight).collect()
            }
            _ => clusters_of(route).into_iter().map(|name| (name, 100)).collect(),
        },
        _ => Vec::new(),
    };
    let for_jason = |route: &xds::types::route::Route| {
        let asked = route.r#match.as_ref().map(|it| it.headers.as_slice()).unwrap_or_default();
        asked.iter().any(|header| header.name == "end-user")
    };
    host.routes.iter().map(|route| (for_jason(route), weights(route))).collect()
}

#[test]
fn every_networking_file_translates() {
    let Some(samples) = material("FORESTAY_SAMPLES", "samples") else { return };
    let folder = samples.join("bookinfo/networking");
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 21, "Bookinfo has 21 networking files, found {files:?}");
    for file in &files {
        let cluster = bookinfo(&samples, &[file]);
        assert_eq!(cluster.ignored, ["ServiceAccount"; 4], "{file}: a kind is not read");
        for proxy in [cluster.sidecar_of("productpage"), ingress_gateway()] {
            let set = cluster.translate(&proxy);
            assert!(set.of(type_url::CLUSTER).count() > 0, "{file}");
            // Only what these files leave to destination-rule-all.yaml, to other Deployments or to cert-manager is missing.
            for problem in set.problems() {
                let reason = problem.reason.as_str();
                assert!(["missing_subset", "missing_host"].contains(&reason), "{file}: {problem}");
            }
        }
    }
}

#[test]
fn with_the_destination_rules_no_route_leads_nowhere() {
    let Some(samples) = material("FORESTAY_SAMPLES", "samples") else { return };
    for file in [
        "virtual-service-all-v1.yaml",
        "virtual-service-reviews-test-v2.yaml",
        "virtual-service-reviews-50-v3.yaml",
        "virtual-service-reviews-jason-v2-v3.yaml",
        "virtual-service-ratings-test-delay.yaml",
        "virtual-service-ratings-test-abort.yaml",
    ] {
        let cluster = bookinfo(&samples, &["destination-rule-all.yaml", file]);
        let set = cluster.translate(&cluster.sidecar_of("productpage"));
        assert_eq!(set.problems().collect::<Vec<_>>(), Vec::<&translate::Problem>::new(), "{file}");
        for name in set.names(type_url::VIRTUAL_HOST) {
            let (routes, host) = name.split_once('/').expect("a virtual host's name has a slash");
            for cluster in set.virtual_host(routes, host).iter().flat_map(|host| &host.routes).flat_map(clusters_of) {
                assert!(set.cluster(&cluster).is_some(), "{file}: {name} leads to {cluster}");
            }
        }
    }
}

#[test]
fn splits_and_users_are_routed_as_the_files_say() {
    let Some(samples) = material("FORESTAY_SAMPLES", "samples") else { return };
    let to = |subset: &str, weight| (cluster_name("reviews", subset), weight);
    let rows = [
        ("virtual-service-all-v1.yaml", vec![(false, vec![to("v1", 100)])]),
        ("virtual-service-reviews-v3.yaml", vec![(false, vec![to("v3", 100)])]),
        ("virtual-service-reviews-50-v3.yaml", vec![(false, vec![to("v1", 50), to("v3", 50)])]),
        ("virtual-service-reviews-80-20.yaml", vec![(false, vec![to("v1", 80), to("v2", 20)])]),
        ("virtual-service-reviews-90-10.yaml", vec![(false, vec![to("v1", 90), to("v2", 10)])]),
        ("virtual-service-reviews-v2-v3.yaml", vec![(false, vec![to("v2", 50), to("v3", 50)])]),
        ("virtual-service-reviews-test-v2.yaml", vec![(true, vec![to("v2", 100)]), (false, vec![to("v1", 100)])]),
        ("virtual-service-reviews-jason-v2-v3.yaml", vec![(true, vec![to("v2", 100)]), (false, vec![to("v3", 100)])]),
    ];
    for (file, expected) in rows {
        let cluster = bookinfo(&samples, &["destination-rule-all.yaml", file]);
        let set = cluster.translate(&cluster.sidecar_of("productpage"));
        assert_eq!(routes(&called(&set, "reviews")), expected, "{file}");
    }
}

#[test]
fn faults_hit_the_user_that_they_are_for() {
    let Some(samples) = material("FORESTAY_SAMPLES", "samples") else { return };
    let fault = |file: &str, service: &str| {
        let cluster = bookinfo(&samples, &["destination-rule-all.yaml", file]);
        let set = cluster.translate(&cluster.sidecar_of("reviews-v1"));
        let host = called(&set, service);
        let of = |route: &xds::types::route::Route| {
            let any = route.typed_per_filter_config.get("envoy.filters.http.fault");
            any.map(|any| xds::any::unpack::<HttpFault>(any).expect("a fault"))
        };
        host.routes.iter().map(of).collect::<Vec<_>>()
    };
    let delays = fault("virtual-service-ratings-test-delay.yaml", "ratings");
    assert_eq!(delays.len(), 2);
    assert!(format!("{:?}", delays[0]).contains("seconds: 7"), "{delays:?}");
    assert_eq!(delays[1], None);

    let aborts = fault("virtual-service-ratings-test-abort.yaml", "ratings");
    let abort = aborts[0].as_ref().and_then(|fault| fault.abort.clone()).expect("jason's requests fail");
    assert_eq!(abort.error_type, Some(fault_abort::ErrorType::HttpStatus(500)));
    assert_eq!(abort.percentage.map(|share| share.numerator), Some(1_000_000));
    assert_eq!(aborts[1], None);

    // 555 for all; the second route can never be reached, and is left out.
    let details = fault("fault-injection-details-v1.yaml", "details");
    assert_eq!(details.len(), 1);
    let abort = details[0].as_ref().and_then(|fault| fault.abort.clone()).expect("every request fails");
    assert_eq!(abort.error_type, Some(fault_abort::ErrorType::HttpStatus(555)));
}

#[test]
fn the_gateway_listens_where_its_service_leads() {
    let Some(samples) = material("FORESTAY_SAMPLES", "samples") else { return };
    let set = bookinfo(&samples, &["bookinfo-gateway.yaml"]).translate(&ingress_gateway());
    assert_eq!(set.names(type_url::LISTENER), ["0.0.0.0_8080"]);
    assert_eq!(set.names(type_url::ROUTES), ["http.8080"]);
    let host = set.virtual_host("http.8080", "*:8080").expect("the virtual host of all hosts");
    assert_eq!(host.domains, ["*"]);
    let paths: Vec<String> = host
        .routes
        .iter()
        .map(|route| match route.r#match.as_ref().and_then(|it| it.path_specifier.as_ref()) {
            Some(xds::types::route::route_match::PathSpecifier::Path(path)) => format!("= {path}"),
            Some(xds::types::route::route_match::PathSpecifier::Prefix(path)) => format!("{path}*"),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(paths, ["= /productpage", "/static*", "= /login", "= /logout", "/api/v1/products*"]);
    assert!(host.routes.iter().all(|route| clusters_of(route) == [cluster_name("productpage", "")]));
    assert_eq!(set.names(type_url::CLUSTER), ["BlackHoleCluster".to_owned(), cluster_name("productpage", "")]);
    assert_eq!(set.problems().count(), 0);

    let from = host.routes[0].metadata.as_ref().and_then(Provenance::read).expect("provenance");
    assert_eq!((from.rule.as_str(), from.field.as_str()), ("VirtualService default/bookinfo", "spec.http[0].match[0]"));
    assert_eq!(from.config, "/apis/networking.istio.io/v1/namespaces/default/virtual-service/bookinfo");

    // Port 80 of another Gateway ends up on the same port of the pod.
    let set = bookinfo(&samples, &["certmanager-gateway.yaml"]).translate(&ingress_gateway());
    assert_eq!(set.names(type_url::LISTENER), ["0.0.0.0_8080"]);
}

#[test]
fn tls_is_originated_with_a_change_of_port() {
    let Some(samples) = material("FORESTAY_SAMPLES", "samples") else { return };
    let cluster = bookinfo(&samples, &["egress-rule-google-apis.yaml"]);
    let set = cluster.translate(&cluster.sidecar_of("productpage"));
    let host = set.virtual_host("80", "www.googleapis.com:80").expect("a virtual host on port 80");
    assert_eq!(clusters_of(&host.routes[0]), ["outbound|443||www.googleapis.com"]);

    let to = set.cluster("outbound|443||www.googleapis.com").expect("the cluster");
    assert!(to.transport_socket.is_some() && to.transport_socket_matches.is_empty());
    assert_eq!(to.lb_policy(), xds::types::cluster::cluster::LbPolicy::LeastRequest);
    let at = to.load_assignment.as_ref().map(|it| format!("{it:?}")).unwrap_or_default();
    assert!(at.contains("www.googleapis.com") && at.contains("PortValue(443)"), "{at}");
    // Plain text to the other port of the same host, as ever.
    assert!(set.cluster("outbound|80||www.googleapis.com").expect("the cluster").transport_socket.is_none());
}
