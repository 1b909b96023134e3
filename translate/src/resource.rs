//! What a translation gives: resources, encoded once and shared, each with its version and where it came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use xds::any;
use xds::provenance::Provenance;
use xds::type_url;
use xds::types::google::Any;
use xds::version::Version;

use crate::problem::Problem;

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// The message, in canonical form.
    pub any: Any,
    /// The hash of its content.
    pub version: Version,
    /// The object and field that it came from; `None` for what every proxy has.
    pub provenance: Option<Provenance>,
}

impl Resource {
    pub(crate) fn encode<M>(message: &M, provenance: Option<Provenance>) -> Self
    where
        M: prost::Message + prost::Name,
    {
        let any = any::pack(message);
        let version = Version::of(&any.value);
        Self { any, version, provenance }
    }
}

/// Resources of one type by name.
pub type Resources = BTreeMap<Arc<str>, Arc<Resource>>;

/// The resources of one projection, shared by all proxies that have it.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// `envoy.config.cluster.v3.Cluster`
    pub clusters: Resources,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`
    pub endpoints: Resources,
    /// `envoy.config.listener.v3.Listener`
    pub listeners: Resources,
    /// `envoy.config.route.v3.RouteConfiguration`
    pub routes: Resources,
    /// `envoy.config.route.v3.VirtualHost`
    pub virtual_hosts: Resources,
    /// What is wrong with the rules that these were made from, each once.
    pub problems: Vec<Problem>,
}

impl Part {
    /// The resources of a type; none of a type that no proxy has.
    pub fn of(&self, type_url: &str) -> Option<&Resources> {
        Some(match type_url {
            type_url::CLUSTER => &self.clusters,
            type_url::ENDPOINTS => &self.endpoints,
            type_url::LISTENER => &self.listeners,
            type_url::ROUTES => &self.routes,
            type_url::VIRTUAL_HOST => &self.virtual_hosts,
            _ => return None,
        })
    }
}

/// Everything that a proxy has to know. Its parts have no name in common.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    /// The parts; proxies with an equal projection share the pointer.
    pub parts: Vec<Arc<Part>>,
}

impl ResourceSet {
    /// The resources of a type, by name.
    pub fn of(&self, type_url: &str) -> impl Iterator<Item = (&Arc<str>, &Arc<Resource>)> {
        let parts = self.parts.iter().filter_map(|part| part.of(type_url)).map(|part| part.iter().peekable());
        Merged { parts: parts.collect() }
    }

    /// One resource.
    pub fn get(&self, type_url: &str, name: &str) -> Option<&Arc<Resource>> {
        self.parts.iter().find_map(|part| part.of(type_url)?.get(name))
    }

    /// What is wrong with the rules that these were made from.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.parts.iter().flat_map(|part| &part.problems)
    }
}

struct Merged<I: Iterator> {
    parts: Vec<std::iter::Peekable<I>>,
}

impl<'a, I: Iterator<Item = (&'a Arc<str>, &'a Arc<Resource>)>> Iterator for Merged<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<Self::Item> {
        let heads = self.parts.iter_mut().filter_map(|part| Some((part.peek()?.0, ())).map(|(name, ())| name));
        let first = heads.min()?;
        self.parts.iter_mut().find_map(|part| part.next_if(|(name, _)| *name == first))
    }
}
