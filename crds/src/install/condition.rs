//! The conditions of a MeshInstall, and every reason they can carry.
//!
//! Programs may rely on types and reasons, so both are closed lists here; `docs/guide/conditions.md` is made from them.
//! Messages are for people and may change.

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// Every object is in the cluster as the spec says.
    Reconciled,
    /// The control plane's pods are available.
    ControlPlaneReady,
    /// The webhook's pods are available and admission goes through them.
    WebhookReady,
    /// Every gateway's pods are available.
    GatewaysReady,
    /// The API server knows Istio's kinds, in the versions that the control plane reads.
    DefinitionsReady,
    /// All of the above.
    Ready,
    /// Every addon's pods are available. Not a part of Ready.
    AddonsReady,
    /// Every setting of the spec changes something. Not a part of Ready.
    SettingsEffective,
    /// The version in force is the operator's own. Not a part of Ready.
    UpToDate,
    /// Namespaces ask for the revision, or pods carry its sidecar. Not a part of Ready.
    InUse,
    /// Only there when it is True: trying again cannot help.
    Stalled,
}

impl ConditionType {
    /// All of them, in the order in which a person reads them.
    pub const ALL: [Self; 11] = [
        Self::Reconciled,
        Self::ControlPlaneReady,
        Self::WebhookReady,
        Self::GatewaysReady,
        Self::DefinitionsReady,
        Self::Ready,
        Self::AddonsReady,
        Self::SettingsEffective,
        Self::UpToDate,
        Self::InUse,
        Self::Stalled,
    ];
    /// Those that are always there.
    pub const ALWAYS: [Self; 10] = [
        Self::Reconciled,
        Self::ControlPlaneReady,
        Self::WebhookReady,
        Self::GatewaysReady,
        Self::DefinitionsReady,
        Self::Ready,
        Self::AddonsReady,
        Self::SettingsEffective,
        Self::UpToDate,
        Self::InUse,
    ];

    /// The condition's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reconciled => "Reconciled",
            Self::ControlPlaneReady => "ControlPlaneReady",
            Self::WebhookReady => "WebhookReady",
            Self::GatewaysReady => "GatewaysReady",
            Self::DefinitionsReady => "DefinitionsReady",
            Self::Ready => "Ready",
            Self::AddonsReady => "AddonsReady",
            Self::SettingsEffective => "SettingsEffective",
            Self::UpToDate => "UpToDate",
            Self::InUse => "InUse",
            Self::Stalled => "Stalled",
        }
    }

    /// What it means when it is True.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Reconciled => "Every object is in the cluster as the spec says.",
            Self::ControlPlaneReady => "The control plane's pods are available.",
            Self::WebhookReady => "The webhook's pods are available and the API server sends pods to them.",
            Self::GatewaysReady => "The pods of every gateway are available.",
            Self::DefinitionsReady => {
                "The API server knows Istio's kinds, in the versions that the control plane reads. The operator looks at their CustomResourceDefinitions and never changes them."
            }
            Self::Ready => "All of the above are True.",
            Self::AddonsReady => {
                "The pods of every addon are available. Where it is False, the message says which addon is in trouble, or was left alone because objects of its names are somebody else's. Ready does not wait for it: a mesh works without its addons."
            }
            Self::SettingsEffective => {
                "Every field of the spec changes something. Where it is False, the message names the fields that are accepted because Istio has them and that have no effect here. Ready does not wait for it."
            }
            Self::UpToDate => {
                "The version in force (`status.version`) is the operator's own. Where it is False, the message says how to start the upgrade, or how far it is. Ready does not wait for a version that is available, only for an upgrade that has begun."
            }
            Self::InUse => {
                "Namespaces ask for the revision, or pods carry its sidecar; the message counts them. A deletion waits while it is so."
            }
            Self::Stalled => {
                "Trying again cannot help: somebody has to change something, as the message says. Not there otherwise (the convention of `kstatus`)."
            }
        }
    }
}

/// Why a condition is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// First sight.
    Reconciling,
    /// All objects applied.
    Applied,
    /// All conditions True.
    Healthy,
    /// A field is wrong.
    InvalidSpec,
    /// `spec.version` is none that this operator serves.
    UnknownVersion,
    /// `spec.version` is older than what is in force.
    DowngradeRefused,
    /// Between what is in force and this operator lies a minor version.
    VersionSkipped,
    /// Another MeshInstall has the revision.
    RevisionTaken,
    /// An object of the same name belongs to someone else.
    ForeignObject,
    /// A namespace is absent or on its way out.
    NamespaceUnavailable,
    /// The API server refused or did not answer.
    ApplyFailed,
    /// Pods available.
    Available,
    /// No gateway is asked for.
    NoGateways,
    /// No addon is asked for.
    NoAddons,
    /// Another MeshInstall of the namespace has the addon.
    AddonTaken,
    /// A roll-out is under way.
    Progressing,
    /// Held back until the control plane runs.
    WaitingForControlPlane,
    /// Pods run, admission is not yet on.
    WaitingForEndpoints,
    /// Image cannot be had.
    ImagePullFailed,
    /// Container ends again and again.
    CrashLoop,
    /// No node takes the pod.
    Unschedulable,
    /// The kubelet cannot set the container up.
    ContainerConfigError,
    /// The API server refused the pod.
    PodRefused,
    /// Running, but not ready for too long.
    NotReady,
    /// The control plane cannot use the mesh's certificate authority.
    AuthorityUnusable,
    /// Deployment missing.
    NotFound,
    /// Deletion under way.
    Deleting,
    /// The spec has switched the part off.
    SwitchedOff,
    /// Every setting counts.
    AllEffective,
    /// Some settings do not count.
    WithoutEffect,
    /// The version in force is the operator's own.
    Current,
    /// The operator has a newer one.
    UpgradeAvailable,
    /// The parts are taken to another version, one after the other.
    Upgrading,
    /// One of them does not come up.
    UpgradeStopped,
    /// Somebody uses the revision.
    ReferencedByWorkloads,
    /// Nobody does.
    NotReferencedByAnything,
    /// A tag points at nothing.
    RefNotFound,
    /// A tag has the name of a revision.
    NameAlreadyExists,
    /// A tag's revision takes no pods yet.
    WaitingForRevision,
    /// Istio's definitions are ours.
    DefinitionsCurrent,
    /// One is missing, or without the version that is read.
    DefinitionsMissing,
    /// Some are older or newer.
    DefinitionsDiffer,
    /// Nobody keeps the mesh any more.
    OperatorGone,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 43] = [
        Self::Reconciling,
        Self::Applied,
        Self::Healthy,
        Self::InvalidSpec,
        Self::UnknownVersion,
        Self::DowngradeRefused,
        Self::VersionSkipped,
        Self::RevisionTaken,
        Self::ForeignObject,
        Self::NamespaceUnavailable,
        Self::ApplyFailed,
        Self::Available,
        Self::NoGateways,
        Self::NoAddons,
        Self::AddonTaken,
        Self::Progressing,
        Self::WaitingForControlPlane,
        Self::WaitingForEndpoints,
        Self::ImagePullFailed,
        Self::CrashLoop,
        Self::Unschedulable,
        Self::ContainerConfigError,
        Self::PodRefused,
        Self::NotReady,
        Self::AuthorityUnusable,
        Self::NotFound,
        Self::Deleting,
        Self::SwitchedOff,
        Self::AllEffective,
        Self::WithoutEffect,
        Self::Current,
        Self::UpgradeAvailable,
        Self::Upgrading,
        Self::UpgradeStopped,
        Self::ReferencedByWorkloads,
        Self::NotReferencedByAnything,
        Self::RefNotFound,
        Self::NameAlreadyExists,
        Self::WaitingForRevision,
        Self::DefinitionsCurrent,
        Self::DefinitionsMissing,
        Self::DefinitionsDiffer,
        Self::OperatorGone,
    ];

    /// The condition's `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reconciling => "Reconciling",
            Self::Applied => "Applied",
            Self::Healthy => "Healthy",
            Self::InvalidSpec => "InvalidSpec",
            Self::UnknownVersion => "UnknownVersion",
            Self::DowngradeRefused => "DowngradeRefused",
            Self::VersionSkipped => "VersionSkipped",
            Self::RevisionTaken => "RevisionTaken",
            Self::ForeignObject => "ForeignObject",
            Self::NamespaceUnavailable => "NamespaceUnavailable",
            Self::ApplyFailed => "ApplyFailed",
            Self::Available => "Available",
            Self::NoGateways => "NoGateways",
            Self::NoAddons => "NoAddons",
            Self::AddonTaken => "AddonTaken",
            Self::Progressing => "Progressing",
            Self::WaitingForControlPlane => "WaitingForControlPlane",
            Self::WaitingForEndpoints => "WaitingForEndpoints",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::CrashLoop => "CrashLoop",
            Self::Unschedulable => "Unschedulable",
            Self::ContainerConfigError => "ContainerConfigError",
            Self::PodRefused => "PodRefused",
            Self::NotReady => "NotReady",
            Self::AuthorityUnusable => "AuthorityUnusable",
            Self::NotFound => "NotFound",
            Self::Deleting => "Deleting",
            Self::SwitchedOff => "SwitchedOff",
            Self::AllEffective => "AllEffective",
            Self::WithoutEffect => "WithoutEffect",
            Self::Current => "Current",
            Self::UpgradeAvailable => "UpgradeAvailable",
            Self::Upgrading => "Upgrading",
            Self::UpgradeStopped => "UpgradeStopped",
            Self::ReferencedByWorkloads => "ReferencedByWorkloads",
            Self::NotReferencedByAnything => "NotReferencedByAnything",
            Self::RefNotFound => "RefNotFound",
            Self::NameAlreadyExists => "NameAlreadyExists",
            Self::WaitingForRevision => "WaitingForRevision",
            Self::DefinitionsCurrent => "DefinitionsCurrent",
            Self::DefinitionsMissing => "DefinitionsMissing",
            Self::DefinitionsDiffer => "DefinitionsDiffer",
            Self::OperatorGone => "OperatorGone",
        }
    }

    /// Which conditions carry it.
    pub fn on(self) -> &'static [ConditionType] {
        use ConditionType::{
            AddonsReady, ControlPlaneReady, DefinitionsReady, GatewaysReady, InUse, Ready, Reconciled,
            SettingsEffective, Stalled, UpToDate, WebhookReady,
        };
        match self {
            Self::Reconciling | Self::Deleting => &ConditionType::ALWAYS,
            Self::AllEffective | Self::WithoutEffect => &[SettingsEffective],
            Self::Current | Self::UpgradeAvailable | Self::UpgradeStopped => &[UpToDate],
            Self::Upgrading => &[UpToDate, Ready],
            Self::SwitchedOff => &[ControlPlaneReady, WebhookReady],
            Self::ReferencedByWorkloads | Self::NotReferencedByAnything => &[InUse],
            Self::Applied => &[Reconciled],
            Self::Healthy | Self::RefNotFound | Self::NameAlreadyExists | Self::WaitingForRevision => &[Ready],
            Self::InvalidSpec
            | Self::UnknownVersion
            | Self::DowngradeRefused
            | Self::VersionSkipped
            | Self::RevisionTaken
            | Self::NamespaceUnavailable => &[Reconciled, Ready, Stalled],
            Self::ForeignObject => &[Reconciled, Ready, AddonsReady, Stalled],
            Self::ApplyFailed => &[Reconciled, Ready, AddonsReady],
            Self::Available => &[ControlPlaneReady, WebhookReady, GatewaysReady, AddonsReady],
            Self::NoAddons | Self::AddonTaken => &[AddonsReady],
            Self::OperatorGone => &[Reconciled, Ready],
            Self::DefinitionsCurrent | Self::DefinitionsDiffer => &[DefinitionsReady],
            Self::DefinitionsMissing => &[DefinitionsReady, Ready],
            Self::AuthorityUnusable => &[ControlPlaneReady, Ready],
            Self::NoGateways => &[GatewaysReady],
            Self::WaitingForControlPlane => &[GatewaysReady, Ready],
            Self::WaitingForEndpoints => &[WebhookReady, Ready],
            Self::Progressing
            | Self::ImagePullFailed
            | Self::CrashLoop
            | Self::Unschedulable
            | Self::ContainerConfigError
            | Self::PodRefused
            | Self::NotReady
            | Self::NotFound => &[ControlPlaneReady, WebhookReady, GatewaysReady, Ready, AddonsReady],
        }
    }

    /// What it means, and what to do about it.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Reconciling => "The operator has seen the object and has not found out yet.",
            Self::Applied => "Every object is in the cluster as the spec says.",
            Self::Healthy => "Everything runs.",
            Self::InvalidSpec => "A field cannot be honoured; the message names it. What ran before goes on running.",
            Self::UnknownVersion => {
                "This operator does not have `spec.version`, or it is no version at all. Set the version that the message names, or install the operator of that version. What ran before goes on running and is kept as it was."
            }
            Self::DowngradeRefused => {
                "`spec.version` is older than `status.version`, and a mesh is not taken back. Set the version that the message names. What runs goes on running and is kept as it is."
            }
            Self::VersionSkipped => {
                "The version in force is older than the minor version before the operator's. What runs goes on running and nobody keeps it: install the operator that the message names first."
            }
            Self::RevisionTaken => {
                "An older MeshInstall has this `spec.revision`. Delete one of the two, or choose another revision."
            }
            Self::ForeignObject => {
                "An object of this name was made by someone else, for example by an Istio in the same namespace. Remove it, or use another `spec.namespace` or `spec.revision`. On `AddonsReady`: that addon is left alone until the object is gone, and the rest of the mesh goes on."
            }
            Self::NamespaceUnavailable => "A namespace does not exist or is being deleted; the message names it.",
            Self::ApplyFailed => {
                "The API server refused an object or did not answer; the message has its words. The operator tries again."
            }
            Self::Available => "All wanted pods are available.",
            Self::NoGateways => "The spec asks for no gateway.",
            Self::NoAddons => "The spec asks for no addon, or only for such as run elsewhere.",
            Self::AddonTaken => {
                "Another MeshInstall of the namespace has this addon. Switch it off in one of the two; several revisions share one."
            }
            Self::Progressing => "Pods are being started or replaced.",
            Self::WaitingForControlPlane => {
                "Gateways are started and changed once the control plane that they ask is available."
            }
            Self::WaitingForEndpoints => {
                "Admission is switched on once the webhook's Service has a ready endpoint, so that it cannot block pods before."
            }
            Self::ImagePullFailed => {
                "An image cannot be pulled; the message names it. See `spec.hub`, `image` and the nodes' access to the registry."
            }
            Self::CrashLoop => "A container ends again and again. `kubectl logs --previous` on the named pod says why.",
            Self::Unschedulable => {
                "No node takes the pod; the message has the scheduler's words. See `resources` and the nodes' room."
            }
            Self::ContainerConfigError => {
                "The kubelet cannot set a container up, for example for want of a ConfigMap that its pod mounts."
            }
            Self::PodRefused => {
                "The API server refuses the pods, for example by quota or by an admission policy; the message has its words."
            }
            Self::NotReady => "Pods run but are not ready; the message names them.",
            Self::AuthorityUnusable => {
                "Secret `cacerts` or `istio-ca-secret` holds no authority that can sign; the message names the Secret and its key. It is never overwritten."
            }
            Self::NotFound => "A Deployment is missing; the operator puts it back.",
            Self::Deleting => "The MeshInstall is being deleted; the message says what is still there.",
            Self::SwitchedOff => "The spec, or its profile, has switched this part off.",
            Self::AllEffective => "Every field of the spec changes something.",
            Self::Current => "The version in force is the operator's own.",
            Self::UpgradeAvailable => {
                "The operator has a newer version than the one in force. Setting `spec.version` to it starts the upgrade."
            }
            Self::Upgrading => {
                "The parts are taken to `spec.version` one after the other; the message says which is under way."
            }
            Self::UpgradeStopped => {
                "A part does not come up in its new version, so the later ones keep theirs and everything that ran goes on serving. Mend what the message names, or set `spec.version` back to `status.version`."
            }
            Self::ReferencedByWorkloads => "Namespaces or pods use the revision; the message counts them.",
            Self::NotReferencedByAnything => "No namespace asks for the revision, and no pod carries its sidecar.",
            Self::RefNotFound => "Of a MeshRevisionTag: there is no MeshInstall of the name that it points at.",
            Self::NameAlreadyExists => "Of a MeshRevisionTag: a MeshInstall has this revision. Choose another name.",
            Self::WaitingForRevision => {
                "Of a MeshRevisionTag: the webhook of the MeshInstall that it points at does not answer yet."
            }
            Self::DefinitionsCurrent => "The definitions of Istio's kinds are those that this version ships.",
            Self::DefinitionsMissing => {
                "A definition of Istio's is missing, or does not serve the version that the control plane reads. Apply `config/crd`. What runs goes on with the rules that it has."
            }
            Self::DefinitionsDiffer => {
                "The cluster's definitions of Istio's kinds are older or newer than this version's; the message names the fields. Older: the API server drops fields; apply `config/crd`. Newer: the fields have no effect. The operator changes neither."
            }
            Self::OperatorGone => {
                "The operator was removed or scaled to nothing; the message says what follows. Install it again, or scale it up."
            }
            Self::WithoutEffect => {
                "The fields that the message names are accepted, because Istio has them, and have no effect."
            }
        }
    }
}
