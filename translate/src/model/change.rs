//! What changed.

use std::fmt;

/// A kind of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A Kubernetes Service.
    Service,
    /// A Kubernetes EndpointSlice.
    EndpointSlice,
    /// A Kubernetes Pod.
    Pod,
    /// Istio's VirtualService.
    VirtualService,
    /// Istio's DestinationRule.
    DestinationRule,
    /// Istio's Gateway.
    Gateway,
    /// Istio's ServiceEntry.
    ServiceEntry,
    /// Istio's PeerAuthentication.
    PeerAuthentication,
    /// The MeshConfig.
    Mesh,
}

impl Kind {
    /// As its API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::Gateway => "Gateway",
            Self::ServiceEntry => "ServiceEntry",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::Mesh => "MeshConfig",
        }
    }
}

/// The name of an input.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A name in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// An input that was added, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Change {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: Key,
}

impl Change {
    /// Whether only endpoints can have changed by it. Such changes come often and are debounced apart from the others.
    pub fn is_endpoints(&self) -> bool {
        matches!(self.kind, Kind::EndpointSlice | Kind::Pod)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.key.namespace, self.key.name)
    }
}
