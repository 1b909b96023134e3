//! The inputs of one moment: immutable and indexed. What a translation reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::change::Key;
use super::inputs::Inputs;
use super::istio;
use super::mesh::Mesh;
use super::rule::{DestinationRule, Gateway, PeerAuthentication, Rule, ServiceEntry, VirtualService};
use super::service::{Resolution, Service};
use super::workload::{Endpoint, EndpointSlice, Health, Workload};

/// The inputs of one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Tells snapshots apart; what was computed from one is not valid for another.
    pub(crate) id: u64,
    /// What holds for the whole mesh.
    pub(crate) mesh: Arc<Mesh>,
    /// Services by host. Of several with one host, in the order in which they count.
    pub(super) services: BTreeMap<String, Vec<Arc<Service>>>,
    /// Endpoints by service.
    pub(super) endpoints: HashMap<ServiceKey, Vec<Endpoint>>,
    /// VirtualServices, in the order in which they count.
    pub(super) virtual_services: Vec<Arc<VirtualService>>,
    /// DestinationRules by namespace and host, in the order in which they count.
    pub(super) destination_rules: HashMap<String, BTreeMap<String, Vec<Arc<DestinationRule>>>>,
    /// PeerAuthentications by namespace, in the order in which they count.
    pub(super) peer_authentications: HashMap<String, Vec<Arc<PeerAuthentication>>>,
    /// Gateways, in the order in which they count.
    pub(super) gateways: Vec<Arc<Gateway>>,
    /// ServiceEntries, in the order in which they count; their services are among the others.
    pub(super) service_entries: Vec<Arc<ServiceEntry>>,
    /// Keys of the labels by which a rule asks who the client is.
    pub(super) client_labels: BTreeSet<String>,
}

/// Host and namespace: ServiceEntries in several namespaces may claim one host.
pub(crate) type ServiceKey = (String, String);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Snapshot {
    /// Indexes inputs. The result depends on nothing but them, in whatever order they came.
    pub fn new(inputs: &Inputs) -> Self {
        let mut snapshot = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            mesh: Arc::clone(&inputs.mesh),
            services: BTreeMap::new(),
            endpoints: HashMap::new(),
            virtual_services: in_order(inputs.virtual_services.values()),
            destination_rules: HashMap::new(),
            peer_authentications: HashMap::new(),
            gateways: in_order(inputs.gateways.values()),
            service_entries: in_order(inputs.service_entries.values()),
            client_labels: BTreeSet::new(),
        };
        snapshot.index_services(inputs);
        snapshot.index_rules(inputs);
        snapshot
    }

    fn index_services(&mut self, inputs: &Inputs) {
        let mut slices: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
        for slice in inputs.slices.values() {
            slices.entry((&slice.namespace, &slice.service)).or_default().push(slice);
        }
        for service in inputs.services.values() {
            let slices = slices.get(&(service.namespace.as_str(), service.name.as_str()));
            let endpoints = slices.into_iter().flatten().flat_map(|slice| of_slice(slice, inputs)).collect();
            self.add_service(Arc::clone(service), endpoints);
        }
        for entry in inputs.service_entries.values() {
            for service in istio::services(entry) {
                let endpoints = of_service_entry(&service, inputs);
                self.add_service(Arc::new(service), endpoints);
            }
        }
        for services in self.services.values_mut() {
            services.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
        }
    }

    fn add_service(&mut self, service: Arc<Service>, mut endpoints: Vec<Endpoint>) {
        endpoints.sort_by(|a, b| (&a.address, &a.ports).cmp(&(&b.address, &b.ports)));
        endpoints.dedup();
        let key = (service.host.clone(), service.namespace.clone());
        self.endpoints.entry(key).or_default().extend(endpoints);
        self.services.entry(service.host.clone()).or_default().push(service);
    }

    fn index_rules(&mut self, inputs: &Inputs) {
        for rule in in_order(inputs.destination_rules.values()) {
            if let Some(selector) = &rule.spec.workload_selector {
                self.client_labels.extend(selector.match_labels.keys().cloned());
            }
            let hosts = self.destination_rules.entry(rule.namespace.clone()).or_default();
            hosts.entry(rule.spec.host.clone()).or_default().push(rule);
        }
        for rule in in_order(inputs.peer_authentications.values()) {
            self.peer_authentications.entry(rule.namespace.clone()).or_default().push(rule);
        }
        for rule in &self.virtual_services {
            let http = rule.spec.http.iter().flat_map(|route| &route.matches);
            self.client_labels.extend(http.flat_map(|asked| asked.source_labels.keys().cloned()));
        }
    }
}

fn in_order<'a, S: 'a>(rules: impl Iterator<Item = &'a Arc<Rule<S>>>) -> Vec<Arc<Rule<S>>> {
    let mut rules: Vec<_> = rules.cloned().collect();
    rules.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
    rules
}

/// The endpoints of an EndpointSlice, each with the pod behind it.
fn of_slice<'a>(slice: &'a EndpointSlice, inputs: &'a Inputs) -> impl Iterator<Item = Endpoint> + 'a {
    let usable = slice.addresses.iter().filter(|address| address.health != Health::Unready);
    usable.map(|address| {
        let pod = inputs.workloads.get(&Key::new(&slice.namespace, &address.pod));
        // An address of no pod, or of one that the pod watch has not seen yet: reachable, but nobody is known there.
        let unknown = || {
            Arc::new(Workload {
                namespace: slice.namespace.clone(),
                ips: vec![address.ip.clone()],
                node: address.node.clone(),
                ..Workload::default()
            })
        };
        Endpoint {
            address: address.ip.clone(),
            ports: slice.ports.clone(),
            health: address.health,
            weight: 1,
            workload: pod.cloned().unwrap_or_else(unknown),
        }
    })
}

/// The endpoints that a ServiceEntry lists, or those of the pods that it selects.
fn of_service_entry(service: &Service, inputs: &Inputs) -> Vec<Endpoint> {
    let ports = |own: &[(String, u16)]| {
        let port = |port: &super::service::ServicePort| {
            let number = own.iter().find(|(name, _)| *name == port.name).map(|(_, number)| *number);
            let target = match port.target {
                super::service::TargetPort::Number(number) => number,
                super::service::TargetPort::Name(_) => port.number,
            };
            (port.name.clone(), number.unwrap_or(target))
        };
        service.ports.iter().map(port).collect::<BTreeMap<_, _>>()
    };
    let inline = service.endpoints.iter().map(|endpoint| Endpoint {
        address: endpoint.address.clone(),
        ports: ports(&endpoint.ports),
        health: Health::Ready,
        weight: endpoint.weight,
        workload: Arc::new(Workload {
            namespace: service.namespace.clone(),
            labels: endpoint.labels.clone(),
            service_account: endpoint.service_account.clone(),
            workload_name: service.name.clone(),
            ..Workload::default()
        }),
    });
    let mut endpoints: Vec<_> = inline.collect();
    if !service.selector.is_empty() {
        let selected = inputs.workloads.values().filter(|pod| {
            pod.namespace == service.namespace
                && pod.ready
                && !pod.finished
                && super::labels::selects(&service.selector, &pod.labels)
        });
        endpoints.extend(selected.filter_map(|pod| {
            Some(Endpoint {
                address: pod.ips.first()?.clone(),
                ports: ports(&[]),
                health: Health::Ready,
                weight: 1,
                workload: Arc::clone(pod),
            })
        }));
    }
    if endpoints.is_empty() && matches!(service.resolution, Resolution::Dns { .. }) && !service.host.starts_with('*') {
        endpoints.push(Endpoint {
            address: service.host.clone(),
            ports: ports(&[]),
            health: Health::Ready,
            weight: 1,
            workload: Arc::new(Workload { namespace: service.namespace.clone(), ..Workload::default() }),
        });
    }
    endpoints
}
