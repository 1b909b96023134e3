//! What an object was made from, where that is something in the cluster and not the spec alone.

use kube::{Resource, ResourceExt as _};

/// What was in the cluster when an object was made from that. It is written over nothing else: two reconciliations, or two
/// operators while the Lease changes hands, that each go on from what they have read would undo each other's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// There was none.
    Absent,
    /// This one, in this version.
    Present { uid: Option<String>, resource_version: Option<String> },
}

impl Basis {
    pub(crate) fn of(found: Option<&impl Resource>) -> Self {
        let Some(found) = found else { return Self::Absent };
        Self::Present { uid: found.uid(), resource_version: found.resource_version() }
    }
}
