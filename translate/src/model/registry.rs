//! Finding services and their endpoints, as one client sees them.

use std::sync::Arc;

use super::labels;
use super::proxy::Proxy;
use super::service::{Service, ServicePort, TargetPort};
use super::snapshot::Snapshot;
use super::workload::Endpoint;

/// A port of a workload that a service leads to.
#[derive(Clone, Debug)]
pub struct OwnPort {
    /// The service.
    pub service: Arc<Service>,
    /// The service's port.
    pub port: ServicePort,
    /// The workload's port.
    pub target: u16,
}

impl Snapshot {
    /// The service of a host as clients in a namespace see it. Of several, Kubernetes' own, else the one in the
    /// client's namespace, else the oldest.
    pub(crate) fn service(&self, host: &str, client_namespace: &str) -> Option<&Arc<Service>> {
        choose(self.services.get(host)?, client_namespace)
    }

    /// All services that clients in a namespace see, by host.
    pub(crate) fn visible_services(&self, client_namespace: &str) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values().filter_map(move |services| choose(services, client_namespace))
    }

    /// The endpoints of a service, in a fixed order.
    pub(crate) fn endpoints(&self, service: &Service) -> &[Endpoint] {
        let key = (service.host.clone(), service.namespace.clone());
        self.endpoints.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The ports on which services lead to a proxy's own workload; of two services with one port, the older decides.
    pub(crate) fn own_ports(&self, proxy: &Proxy) -> Vec<OwnPort> {
        let mut services: Vec<_> = self.services.values().flatten().collect();
        services.retain(|service| service.namespace == proxy.namespace);
        services.sort_by_key(|service| (service.created, &service.host));
        let mut own: Vec<OwnPort> = Vec::new();
        for service in services {
            // By selector, so that a proxy is ready for traffic before its endpoint is published; by address, so that
            // endpoints which somebody wrote by hand count too.
            let endpoint = self.endpoints(service).iter().find(|endpoint| proxy.ips.contains(&endpoint.address));
            if endpoint.is_none() && !labels::selects(&service.selector, &proxy.labels) {
                continue;
            }
            for port in &service.ports {
                let published = endpoint.and_then(|endpoint| endpoint.ports.get(&port.name)).copied();
                let target = published.or_else(|| match &port.target {
                    TargetPort::Number(number) => Some(*number),
                    TargetPort::Name(name) => proxy.ports.get(name).copied(),
                });
                let Some(target) = target else { continue };
                own.push(OwnPort { service: Arc::clone(service), port: port.clone(), target });
            }
        }
        own
    }
}

fn choose<'a>(services: &'a [Arc<Service>], client_namespace: &str) -> Option<&'a Arc<Service>> {
    let mut visible = services.iter().filter(|service| service.visibility.allows(client_namespace));
    let first = visible.next()?;
    if first.origin == super::service::Origin::Kubernetes || first.namespace == client_namespace {
        return Some(first);
    }
    Some(visible.find(|service| service.namespace == client_namespace).unwrap_or(first))
}
