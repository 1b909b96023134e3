//! Finding the rules that count for a client, a destination or a workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::networking::destination_rule::{
    ClientTlsSettings, ConnectionPoolSettings, LoadBalancerSettings, OutlierDetection, Subset, TrafficPolicy,
};
use crds::security::peer_authentication::MutualTlsMode;

use super::change::Key;
use super::host;
use super::labels::{self, Labels};
use super::rule::{DestinationRule, Gateway, PeerAuthentication, ServiceEntry, VirtualService};
use super::service::Service;
use super::snapshot::Snapshot;

/// The DestinationRules that count for a client and a host: of one namespace, the oldest first. The first one that has
/// a policy decides; subsets add up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Destination {
    pub(crate) rules: Vec<Arc<DestinationRule>>,
}

/// What the rules say about one port of a host, or of a subset of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy<'a> {
    pub(crate) load_balancer: Option<&'a LoadBalancerSettings>,
    pub(crate) connection_pool: Option<&'a ConnectionPoolSettings>,
    pub(crate) outlier_detection: Option<&'a OutlierDetection>,
    pub(crate) tls: Option<&'a ClientTlsSettings>,
}

impl<'a> Policy<'a> {
    /// Lays a policy over this one, block by block. What a port's own settings leave out is the default, not what
    /// stands beside them.
    fn overlaid(self, over: Option<&'a TrafficPolicy>, port: u16) -> Self {
        let Some(over) = over else { return self };
        let of_port = |port: u16| {
            over.port_level_settings
                .iter()
                .find(|settings| settings.port.as_ref().is_some_and(|of| of.number == u32::from(port)))
        };
        if let Some(settings) = of_port(port) {
            return Self {
                load_balancer: settings.load_balancer.as_ref(),
                connection_pool: settings.connection_pool.as_ref(),
                outlier_detection: settings.outlier_detection.as_ref(),
                tls: settings.tls.as_ref(),
            };
        }
        Self {
            load_balancer: over.load_balancer.as_ref().or(self.load_balancer),
            connection_pool: over.connection_pool.as_ref().or(self.connection_pool),
            outlier_detection: over.outlier_detection.as_ref().or(self.outlier_detection),
            tls: over.tls.as_ref().or(self.tls),
        }
    }
}

/// A subset and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubsetOf<'a> {
    pub(crate) rule: &'a DestinationRule,
    pub(crate) index: usize,
    pub(crate) subset: &'a Subset,
}

impl Destination {
    /// The subsets; of two with one name, the older rule's.
    pub(crate) fn subsets(&self) -> Vec<SubsetOf<'_>> {
        let mut found: BTreeMap<&str, SubsetOf<'_>> = BTreeMap::new();
        for rule in &self.rules {
            for (index, subset) in rule.spec.subsets.iter().enumerate() {
                found.entry(&subset.name).or_insert(SubsetOf { rule, index, subset });
            }
        }
        found.into_values().collect()
    }

    /// The subset with this name.
    pub(crate) fn subset(&self, name: &str) -> Option<SubsetOf<'_>> {
        self.rules.iter().find_map(|rule| {
            let index = rule.spec.subsets.iter().position(|subset| subset.name == name)?;
            Some(SubsetOf { rule, index, subset: rule.spec.subsets.get(index)? })
        })
    }

    /// The rule that decides how the whole host is spoken to.
    pub(crate) fn deciding(&self) -> Option<&DestinationRule> {
        let with_policy = self.rules.iter().find(|rule| rule.spec.traffic_policy.is_some());
        with_policy.or(self.rules.first()).map(Arc::as_ref)
    }

    /// What the rules say about a port, of the whole host or of a subset.
    pub(crate) fn policy<'a>(&'a self, port: u16, subset: Option<SubsetOf<'a>>) -> Policy<'a> {
        let base = self.deciding().and_then(|rule| rule.spec.traffic_policy.as_ref());
        let of_subset = subset.and_then(|of| of.subset.traffic_policy.as_ref());
        Policy::default().overlaid(base, port).overlaid(of_subset, port)
    }

    /// The rules' names and generations: two destinations with equal ones say the same.
    pub(crate) fn identity(&self) -> Vec<(Key, i64)> {
        self.rules.iter().map(|rule| (Key::new(&rule.namespace, &rule.name), rule.generation)).collect()
    }
}

impl Snapshot {
    /// The VirtualServices of a gateway (`mesh` or `namespace/name`) that count in a namespace, the oldest first.
    pub(crate) fn virtual_services<'a>(
        &'a self,
        gateway: &'a str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<VirtualService>> {
        self.virtual_services
            .iter()
            .filter(move |rule| rule.visibility.allows(namespace) && rule.spec.gateways.iter().any(|of| of == gateway))
    }

    /// The DestinationRules for a host: of the client's namespace, else of the service's, else of the root namespace;
    /// in each, of the most specific host.
    pub(crate) fn destination(&self, host: &str, service: Option<&Service>, client: Client<'_>) -> Destination {
        let root = self.mesh.config.root_namespace.as_str();
        let service_namespace = service.map(|service| service.namespace.as_str());
        let namespaces = [Some(client.namespace), service_namespace, Some(root)];
        for namespace in namespaces.into_iter().flatten() {
            let Some(by_host) = self.destination_rules.get(namespace) else { continue };
            let own = namespace == client.namespace;
            let counts = |rule: &&Arc<DestinationRule>| {
                let selects = match rule.spec.workload_selector.as_ref().filter(|s| !s.match_labels.is_empty()) {
                    Some(selector) => own && labels::subset_of(&selector.match_labels, client.labels),
                    None => true,
                };
                selects && (own || rule.visibility.allows(client.namespace))
            };
            let candidates =
                |rules: &Vec<Arc<DestinationRule>>| -> Vec<_> { rules.iter().filter(counts).cloned().collect() };
            let exact = by_host.get(host).map(candidates).unwrap_or_default();
            let mut rules = if exact.is_empty() {
                // Wildcards stand together in the map: they all begin with `*`.
                let mut wildcards: Vec<_> = by_host
                    .range("*".to_owned().."+".to_owned())
                    .filter(|(of, _)| host::subset_of(host, of))
                    .map(|(of, rules)| (of, candidates(rules)))
                    .filter(|(_, rules)| !rules.is_empty())
                    .collect();
                wildcards.sort_by(|(a, _), (b, _)| host::by_specificity(a, b));
                wildcards.into_iter().next().map(|(_, rules)| rules).unwrap_or_default()
            } else {
                exact
            };
            if !rules.is_empty() {
                // A rule that asks for this very client beats one for all clients.
                rules.sort_by_key(|rule| rule.spec.workload_selector.is_none());
                return Destination { rules };
            }
        }
        Destination::default()
    }

    /// The Gateways that select a gateway's pods.
    pub(crate) fn gateways<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a Arc<Gateway>> {
        self.gateways.iter().filter(move |gateway| labels::subset_of(&gateway.spec.selector, labels))
    }

    /// The ServiceEntries that clients in a namespace see.
    pub(crate) fn service_entries<'a>(
        &'a self,
        client_namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<ServiceEntry>> {
        self.service_entries.iter().filter(move |entry| entry.visibility.allows(client_namespace))
    }

    /// The PeerAuthentication that selects a workload; of several, the oldest.
    fn peer_authentication(&self, namespace: &str, labels: &Labels) -> Option<&Arc<PeerAuthentication>> {
        self.peer_authentications.get(namespace).into_iter().flatten().find(|rule| {
            rule.spec.selector.as_ref().is_some_and(|selector| labels::selects(&selector.match_labels, labels))
        })
    }

    /// The ports for which a workload's policy says something of its own.
    pub(crate) fn ports_with_policy(&self, namespace: &str, labels: &Labels) -> Vec<u16> {
        let rule = self.peer_authentication(namespace, labels);
        rule.into_iter()
            .flat_map(|rule| rule.spec.port_level_mtls.keys())
            .filter_map(|port| port.parse().ok())
            .collect()
    }

    /// What a workload asks of those who connect to a port: the port's own setting, else the workload's, the
    /// namespace's, the mesh's, PERMISSIVE.
    pub(crate) fn mutual_tls(&self, namespace: &str, labels: &Labels, port: Option<u16>) -> MutualTlsMode {
        let set = |mode: MutualTlsMode| (mode != MutualTlsMode::Unset).then_some(mode);
        if let Some(rule) = self.peer_authentication(namespace, labels) {
            let of_port = port.and_then(|port| rule.spec.port_level_mtls.get(&port.to_string()));
            let own = of_port.and_then(|tls| set(tls.mode));
            if let Some(mode) = own.or_else(|| rule.spec.mtls.as_ref().and_then(|tls| set(tls.mode))) {
                return mode;
            }
        }
        self.namespace_mutual_tls(namespace)
    }

    /// What a namespace asks of those who connect, single workloads aside.
    pub(crate) fn namespace_mutual_tls(&self, namespace: &str) -> MutualTlsMode {
        let root = self.mesh.config.root_namespace.as_str();
        for namespace in [namespace, root] {
            let whole = self
                .peer_authentications
                .get(namespace)
                .into_iter()
                .flatten()
                .find(|rule| rule.spec.selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty()));
            let mode = whole.and_then(|rule| rule.spec.mtls.as_ref()).map_or(MutualTlsMode::Unset, |tls| tls.mode);
            if mode != MutualTlsMode::Unset {
                return mode;
            }
        }
        MutualTlsMode::Permissive
    }

    /// Those of a client's labels that some rule asks for: no other label can make a difference to its routes.
    pub(crate) fn asked_labels(&self, labels: &Labels) -> Labels {
        let asked = self.client_labels.iter().filter_map(|key| Some((key.clone(), labels.get(key)?.clone())));
        asked.collect()
    }
}

/// A client, as far as rules can tell clients apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) labels: &'a Labels,
}
