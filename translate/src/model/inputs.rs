//! All inputs of a mesh by name, and how an event changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::change::{Change, Key, Kind};
use super::mesh::Mesh;
use super::object::Object;
use super::rule::{DestinationRule, Gateway, PeerAuthentication, ServiceEntry, VirtualService};
use super::service::Service;
use super::workload::{EndpointSlice, Workload};

/// Inputs of one kind.
pub type Table<T> = BTreeMap<Key, Arc<T>>;

/// All inputs of a mesh. Cloning it is cheap enough for every push: it copies pointers.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Kubernetes Services.
    pub services: Table<Service>,
    /// Their EndpointSlices.
    pub slices: Table<EndpointSlice>,
    /// Pods.
    pub workloads: Table<Workload>,
    /// VirtualServices.
    pub virtual_services: Table<VirtualService>,
    /// DestinationRules.
    pub destination_rules: Table<DestinationRule>,
    /// Gateways.
    pub gateways: Table<Gateway>,
    /// ServiceEntries.
    pub service_entries: Table<ServiceEntry>,
    /// PeerAuthentications.
    pub peer_authentications: Table<PeerAuthentication>,
    /// What holds for the whole mesh.
    pub mesh: Arc<Mesh>,
}

impl Inputs {
    /// Adds or replaces an object; `None` if it says what the one before said.
    pub fn apply(&mut self, object: Object) -> Option<Change> {
        match object {
            Object::Service(it) => put(&mut self.services, Kind::Service, (&it.namespace, &it.name), it.clone()),
            Object::EndpointSlice(it) => {
                put(&mut self.slices, Kind::EndpointSlice, (&it.namespace, &it.name), it.clone())
            }
            Object::Workload(it) => put(&mut self.workloads, Kind::Pod, (&it.namespace, &it.name), it.clone()),
            Object::VirtualService(it) => {
                put(&mut self.virtual_services, Kind::VirtualService, (&it.namespace, &it.name), it.clone())
            }
            Object::DestinationRule(it) => {
                put(&mut self.destination_rules, Kind::DestinationRule, (&it.namespace, &it.name), it.clone())
            }
            Object::Gateway(it) => put(&mut self.gateways, Kind::Gateway, (&it.namespace, &it.name), it.clone()),
            Object::ServiceEntry(it) => {
                put(&mut self.service_entries, Kind::ServiceEntry, (&it.namespace, &it.name), it.clone())
            }
            Object::PeerAuthentication(it) => {
                let key = (&it.namespace, &it.name);
                put(&mut self.peer_authentications, Kind::PeerAuthentication, key, it.clone())
            }
        }
    }

    /// Removes an object; `None` if there was none.
    pub fn remove(&mut self, kind: Kind, key: &Key) -> Option<Change> {
        let there = match kind {
            Kind::Service => self.services.remove(key).is_some(),
            Kind::EndpointSlice => self.slices.remove(key).is_some(),
            Kind::Pod => self.workloads.remove(key).is_some(),
            Kind::VirtualService => self.virtual_services.remove(key).is_some(),
            Kind::DestinationRule => self.destination_rules.remove(key).is_some(),
            Kind::Gateway => self.gateways.remove(key).is_some(),
            Kind::ServiceEntry => self.service_entries.remove(key).is_some(),
            Kind::PeerAuthentication => self.peer_authentications.remove(key).is_some(),
            Kind::Mesh => false,
        };
        there.then(|| Change { kind, key: key.clone() })
    }

    /// Replaces what holds for the whole mesh; `None` if it says what it said before.
    ///
    /// Objects were reduced under the mesh's cluster domain and default visibility: if those change, apply them again.
    pub fn set_mesh(&mut self, mesh: Mesh) -> Option<Change> {
        if *self.mesh == mesh {
            return None;
        }
        let key = Key::new(&mesh.config.root_namespace, "mesh");
        self.mesh = Arc::new(mesh);
        Some(Change { kind: Kind::Mesh, key })
    }
}

fn put<T: PartialEq>(
    table: &mut Table<T>,
    kind: Kind,
    (namespace, name): (&String, &String),
    value: Arc<T>,
) -> Option<Change> {
    let key = Key::new(namespace, name);
    if table.get(&key).is_some_and(|before| *before == value) {
        return None;
    }
    table.insert(key.clone(), value);
    Some(Change { kind, key })
}
