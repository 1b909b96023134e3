//! A cluster made of YAML, as a test sees it: what Kubernetes' controllers would do to it is done here, in a fixed way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use translate::model::inputs::Inputs;
use translate::model::mesh::Mesh;
use translate::model::object;
use translate::{Cache, Proxy, ResourceSet, Snapshot, translate};
use xds::any;
use xds::node::ProxyType;
use xds::type_url;
use xds::types::{cluster as cds, endpoint as eds, listener as lds, route as rds};

/// A cluster.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) inputs: Inputs,
    /// Documents that translation does not read, as `kind`.
    pub(crate) ignored: Vec<String>,
}

/// Where a folder of the project's material is; `None`, said loudly, if it is not there.
pub(crate) fn material(variable: &str, folder: &str) -> Option<PathBuf> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
    let path = std::env::var_os(variable).map_or(default, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} does not exist; set {variable} to the folder of {folder}", path.display());
    None
}

/// The documents of a text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    crds::yaml::documents(text).into_iter().map(|document| document.expect("valid YAML").value).collect()
}

impl Cluster {
    /// A cluster with these objects in it, under Istio's defaults.
    pub(crate) fn new(yaml: &str) -> Self {
        Self::with_mesh(yaml, Mesh::default())
    }

    /// A cluster under other settings.
    pub(crate) fn with_mesh(yaml: &str, mesh: Mesh) -> Self {
        let mut cluster = Self::default();
        cluster.inputs.set_mesh(mesh);
        cluster.add(documents(yaml));
        cluster
    }

    /// Adds objects. Deployments become one pod each, with a sidecar; Services get an address and EndpointSlices.
    pub(crate) fn add(&mut self, documents: Vec<Value>) {
        let (services, others): (Vec<_>, Vec<_>) = documents.into_iter().partition(|it| kind(it) == "Service");
        for document in others {
            match kind(&document) {
                "Deployment" => self.deploy(&document),
                _ => self.apply(document),
            }
        }
        let mut services = services;
        for service in &mut services {
            let number = self.inputs.services.len() + 1;
            let spec = service["spec"].as_object_mut().expect("a Service has a spec");
            if spec.get("type").is_none_or(|it| it != "ExternalName") {
                spec.entry("clusterIP").or_insert_with(|| json!(format!("10.96.0.{number}")));
            }
            self.apply(service.clone());
        }
        for service in services {
            self.slice(&service);
        }
    }

    fn apply(&mut self, document: Value) {
        let mesh = std::sync::Arc::clone(&self.inputs.mesh);
        match object::from_document(document, &mesh) {
            Ok(object) => {
                self.inputs.apply(object);
            }
            Err(object::ObjectError::Kind { kind, .. }) => self.ignored.push(kind),
            Err(object::ObjectError::Meaningless { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn deploy(&mut self, deployment: &Value) {
        let name = deployment["metadata"]["name"].as_str().expect("a name");
        let namespace = deployment["metadata"]["namespace"].as_str().unwrap_or("default");
        let template = &deployment["spec"]["template"];
        let mut labels = template["metadata"]["labels"].clone();
        labels["security.istio.io/tlsMode"] = json!("istio");
        labels["pod-template-hash"] = json!("5d4f");
        let mut spec = template["spec"].clone();
        spec["nodeName"] = json!("node-1");
        self.apply(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{name}-5d4f-x"), "namespace": namespace, "labels": labels,
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{name}-5d4f"), "uid": "1",
                    "controller": true,
                }],
            },
            "spec": spec,
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": format!("10.1.0.{}", self.inputs.workloads.len() + 1)}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }));
    }

    fn slice(&mut self, service: &Value) {
        let name = service["metadata"]["name"].as_str().expect("a name");
        let namespace = service["metadata"]["namespace"].as_str().unwrap_or("default");
        let Some(selector) = service["spec"]["selector"].as_object() else { return };
        let selector: BTreeMap<String, String> =
            selector.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
        let chosen = |pod: &&std::sync::Arc<translate::model::workload::Workload>| {
            pod.namespace == namespace && translate::model::labels::selects(&selector, &pod.labels)
        };
        let pods: Vec<_> = self.inputs.workloads.values().filter(chosen).cloned().collect();
        let endpoints: Vec<_> = pods
            .iter()
            .map(|pod| {
                json!({
                    "addresses": pod.ips, "conditions": {"ready": true},
                    "targetRef": {"kind": "Pod", "name": pod.name, "namespace": namespace},
                })
            })
            .collect();
        let number = |port: &Value| match &port["targetPort"] {
            Value::Null => port["port"].clone(),
            Value::String(name) => json!(pods.iter().find_map(|pod| pod.ports.get(name))),
            number => number.clone(),
        };
        let ports: Vec<_> = service["spec"]["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|port| json!({"name": port["name"].as_str().unwrap_or_default(), "port": number(port)}))
            .collect();
        self.apply(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{name}-1"), "namespace": namespace,
                "labels": {"kubernetes.io/service-name": name},
            },
            "endpoints": endpoints, "ports": ports,
        }));
    }

    /// What a proxy has to know.
    pub(crate) fn translate(&self, proxy: &Proxy) -> ResourceSet {
        translate(&Snapshot::new(&self.inputs), proxy, &mut Cache::new())
    }

    /// The sidecar of a pod, by a part of the pod's name.
    pub(crate) fn sidecar_of(&self, pod: &str) -> Proxy {
        let pod = self.inputs.workloads.values().find(|it| it.name.starts_with(pod)).expect("there is such a pod");
        Proxy {
            labels: pod.labels.clone(),
            ips: pod.ips.clone(),
            service_account: pod.service_account.clone(),
            name: pod.name.clone(),
            ports: pod.ports.clone(),
            ..proxy(ProxyType::Sidecar, &pod.namespace)
        }
    }
}

fn kind(document: &Value) -> &str {
    document["kind"].as_str().unwrap_or_default()
}

/// A proxy of ours in a namespace, of a workload that no service leads to.
pub(crate) fn proxy(proxy_type: ProxyType, namespace: &str) -> Proxy {
    Proxy {
        proxy_type,
        name: "client".to_owned(),
        namespace: namespace.to_owned(),
        labels: BTreeMap::new(),
        ips: vec!["10.1.9.9".to_owned()],
        service_account: "default".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        ports: BTreeMap::new(),
        virtual_hosts: true,
        transparent: false,
        grpc: false,
    }
}

/// The ingress gateway in `istio-system`.
pub(crate) fn ingress_gateway() -> Proxy {
    let labels = [("istio", "ingressgateway"), ("app", "istio-ingressgateway")];
    Proxy {
        name: "istio-ingressgateway-0".to_owned(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ips: vec!["10.1.8.8".to_owned()],
        ..proxy(ProxyType::Router, "istio-system")
    }
}

/// The ingress gateway's Service, as the operator makes it.
pub(crate) const INGRESS_SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  selector: {istio: ingressgateway, app: istio-ingressgateway}
  ports:
  - {name: status-port, port: 15021, targetPort: 15021}
  - {name: http2, port: 80, targetPort: 8080}
  - {name: https, port: 443, targetPort: 8443}
";

/// Typed views of what a proxy got.
pub(crate) trait Resources {
    /// One virtual host, by route configuration and name.
    fn virtual_host(&self, routes: &str, name: &str) -> Option<rds::VirtualHost>;
    /// One cluster.
    fn cluster(&self, name: &str) -> Option<cds::Cluster>;
    /// One cluster's endpoints.
    fn endpoints(&self, name: &str) -> Option<eds::ClusterLoadAssignment>;
    /// One listener.
    fn listener(&self, name: &str) -> Option<lds::Listener>;
    /// The names of all resources of a type.
    fn names(&self, type_url: &str) -> Vec<String>;
}

impl Resources for ResourceSet {
    fn virtual_host(&self, routes: &str, name: &str) -> Option<rds::VirtualHost> {
        let name = names::traffic::virtual_host_resource(routes, name);
        self.get(type_url::VIRTUAL_HOST, &name).map(|it| any::unpack(&it.any).expect("a virtual host"))
    }

    fn cluster(&self, name: &str) -> Option<cds::Cluster> {
        self.get(type_url::CLUSTER, name).map(|it| any::unpack(&it.any).expect("a cluster"))
    }

    fn endpoints(&self, name: &str) -> Option<eds::ClusterLoadAssignment> {
        self.get(type_url::ENDPOINTS, name).map(|it| any::unpack(&it.any).expect("endpoints"))
    }

    fn listener(&self, name: &str) -> Option<lds::Listener> {
        self.get(type_url::LISTENER, name).map(|it| any::unpack(&it.any).expect("a listener"))
    }

    fn names(&self, type_url: &str) -> Vec<String> {
        self.of(type_url).map(|(name, _)| name.to_string()).collect()
    }
}

/// The clusters that a route may lead to.
pub(crate) fn clusters_of(route: &rds::Route) -> Vec<String> {
    use rds::route::Action;
    use rds::route_action::ClusterSpecifier;
    let Some(Action::Route(action)) = &route.action else { return Vec::new() };
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![name.clone()],
        Some(ClusterSpecifier::WeightedClusters(all)) => all.clusters.iter().map(|one| one.name.clone()).collect(),
        _ => Vec::new(),
    }
}
