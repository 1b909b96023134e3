//! Rules: Istio's objects, with their hosts and gateways resolved to full names.

use crds::networking::destination_rule::DestinationRuleSpec;
use crds::networking::gateway::GatewaySpec;
use crds::networking::service_entry::ServiceEntrySpec;
use crds::networking::virtual_service::VirtualServiceSpec;
use crds::security::peer_authentication::PeerAuthenticationSpec;
use xds::provenance::Provenance;

use super::visibility::Visibility;

/// The group and version by which provenance names networking rules.
pub(crate) const NETWORKING: &str = "networking.istio.io/v1";
/// The gateway name that stands for all sidecars.
pub const MESH_GATEWAY: &str = "mesh";

/// An object of Istio's API.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule<S> {
    /// The kind, `VirtualService`.
    pub kind: &'static str,
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// `metadata.generation`
    pub generation: i64,
    /// When it was made, in seconds of Unix time; of two in conflict, the older wins.
    pub created: i64,
    /// Where it counts.
    pub visibility: Visibility,
    /// What it says.
    pub spec: S,
}

/// A VirtualService.
pub type VirtualService = Rule<VirtualServiceSpec>;
/// A DestinationRule.
pub type DestinationRule = Rule<DestinationRuleSpec>;
/// A Gateway.
pub type Gateway = Rule<GatewaySpec>;
/// A ServiceEntry.
pub type ServiceEntry = Rule<ServiceEntrySpec>;
/// A PeerAuthentication.
pub type PeerAuthentication = Rule<PeerAuthenticationSpec>;

impl<S> Rule<S> {
    /// Where a resource made from it comes from.
    pub fn provenance(&self) -> Provenance {
        let group = if self.kind == "PeerAuthentication" { "security.istio.io/v1" } else { NETWORKING };
        Provenance::of_rule(group, self.kind, &self.namespace, &self.name, self.generation)
    }

    /// The order in which rules that contradict each other count: the oldest first, then by name, then by namespace.
    pub fn precedence(&self) -> (i64, &str, &str) {
        (self.created, &self.name, &self.namespace)
    }
}
