//! What a policy applies to when it is not chosen by labels: Gateways and Services by name.

use crate::check::Checker;
use crate::message::message;
use crate::selector::WorkloadSelector;

message! {
    /// A Gateway, GatewayClass, Service or ServiceEntry of the policy's own namespace.
    #[schemars(extend("required" = ["kind", "name"]))]
    pub struct PolicyTargetReference {
        /// Its API group; empty is Kubernetes' core.
        #[schemars(length(max = 253), regex(pattern = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"))]
        pub group: String,
        /// Its kind.
        #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"))]
        pub kind: String,
        /// Its name.
        #[schemars(length(min = 1, max = 253))]
        pub name: String,
        /// Not supported: the target is always in the policy's namespace.
        #[schemars(extend("x-kubernetes-validations" = [{
            "message": "cross namespace referencing is not currently supported",
            "rule": "self.size() == 0",
        }]))]
        pub namespace: String,
    }
}

/// Group and kind of what can be targeted.
const TARGETS: [(&str, &str); 4] = [
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
];

impl PolicyTargetReference {
    pub(crate) fn check(&self, c: &mut Checker) {
        c.required("name", &self.name);
        // "core" is what Istio calls the group that Kubernetes leaves empty.
        let group = if self.group == "core" { "" } else { &self.group };
        if !TARGETS.contains(&(group, &self.kind)) {
            let known: Vec<_> = TARGETS.iter().map(|(group, kind)| full_name(group, kind)).collect();
            c.error("", format!("{} is not one of {}", full_name(group, &self.kind), known.join(", ")));
        }
        if !self.namespace.is_empty() {
            c.error("namespace", "must not be set: a target is always in the policy's own namespace");
        }
    }
}

fn full_name(group: &str, kind: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{group}/{kind}") }
}

/// What a policy applies to: at most one of these. `target_ref` is the older, single form.
pub(crate) fn check_scope(
    c: &mut Checker,
    selector: Option<&WorkloadSelector>,
    target_ref: Option<&PolicyTargetReference>,
    target_refs: &[PolicyTargetReference],
) {
    let ways = [
        (selector.is_some(), "selector"),
        (target_ref.is_some(), "targetRef"),
        (!target_refs.is_empty(), "targetRefs"),
    ];
    let set: Vec<_> = ways.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if set.len() > 1 {
        c.error("", format!("has {}, of which only one can be", set.join(" and ")));
    }
    if let Some(selector) = selector {
        c.field("selector", |c| selector.check(c));
    }
    if let Some(target) = target_ref {
        c.field("targetRef", |c| target.check(c));
    }
    c.each("targetRefs", target_refs, |c, target| target.check(c));
}
