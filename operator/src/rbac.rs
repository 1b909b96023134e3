//! Who may do what: one table, from which the operator's own manifests and the roles of what it installs are made.
//!
//! The API server lets nobody grant what he does not hold, so the operator's ClusterRole is its own needs plus
//! everything that it grants. Unit tests check that each rendered kind is covered, and that nothing granted is missing.

use k8s_openapi::api::rbac::v1::PolicyRule;
use names::resources;

/// One row: these verbs on these resources of this group, perhaps only on objects of these names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    names: &'static [&'static str],
    /// Paths of the API server that are no resources, instead of any.
    urls: &'static [&'static str],
}

const fn rule(group: &'static str, resources: &'static [&'static str], verbs: &'static [&'static str]) -> Rule {
    Rule { group, resources, verbs, names: &[], urls: &[] }
}

const fn paths(urls: &'static [&'static str], verbs: &'static [&'static str]) -> Rule {
    Rule { group: "", resources: &[], verbs, names: &[], urls }
}

const fn named(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    names: &'static [&'static str],
) -> Rule {
    Rule { group, resources, verbs, names, urls: &[] }
}

const READ: &[&str] = &["get", "list", "watch"];
const MANAGE: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];
const STATUS: &[&str] = &["get", "update", "patch"];

/// The control plane, everywhere: what a mesh is made of, and the root certificate in every namespace.
pub(crate) const CONTROL_PLANE_CLUSTER: &[Rule] = &[
    rule("", &["services", "pods", "namespaces", "nodes"], READ),
    rule("discovery.k8s.io", &["endpointslices"], READ),
    rule(
        "networking.istio.io",
        &[
            "virtualservices",
            "destinationrules",
            "gateways",
            "serviceentries",
            "sidecars",
            "workloadentries",
            "workloadgroups",
            "envoyfilters",
            "proxyconfigs",
        ],
        READ,
    ),
    rule(
        "networking.istio.io",
        &[
            "virtualservices/status",
            "destinationrules/status",
            "gateways/status",
            "serviceentries/status",
            "sidecars/status",
            "workloadentries/status",
            "workloadgroups/status",
            "envoyfilters/status",
            "proxyconfigs/status",
        ],
        STATUS,
    ),
    rule("security.istio.io", &["peerauthentications", "requestauthentications", "authorizationpolicies"], READ),
    rule(
        "security.istio.io",
        &["peerauthentications/status", "requestauthentications/status", "authorizationpolicies/status"],
        STATUS,
    ),
    rule("telemetry.istio.io", &["telemetries"], READ),
    rule("telemetry.istio.io", &["telemetries/status"], STATUS),
    rule("extensions.istio.io", &["wasmplugins"], READ),
    rule("extensions.istio.io", &["wasmplugins/status"], STATUS),
    // `create` cannot be limited to a name.
    rule("", &["configmaps"], &["create"]),
    named("", &["configmaps"], &["get", "list", "watch", "update", "patch"], &[resources::ROOT_CERT_CONFIG_MAP]),
    rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
    rule("events.k8s.io", &["events"], &["create", "patch"]),
    rule("", &["events"], &["create", "patch"]),
];

/// The control plane, in its namespace: settings, the authority's Secrets, the Lease.
pub(crate) const CONTROL_PLANE_NAMESPACE: &[Rule] = &[
    rule("", &["configmaps"], READ),
    rule("", &["secrets"], &["create"]),
    named(
        "",
        &["secrets"],
        &["get", "list", "watch", "update", "patch"],
        &[resources::CA_SECRET, resources::PLUGGED_CA_SECRET],
    ),
    rule("coordination.k8s.io", &["leases"], &["get", "list", "watch", "create", "update", "patch"]),
];

/// The webhook, everywhere: the labels of a pod's namespace, and whether every kubelet knows native sidecars.
pub(crate) const WEBHOOK_CLUSTER: &[Rule] = &[rule("", &["namespaces", "nodes"], READ)];

/// The webhook, in its namespace: settings, and the authority that it mints its certificate from.
pub(crate) const WEBHOOK_NAMESPACE: &[Rule] =
    &[rule("", &["configmaps"], READ), named("", &["secrets"], READ, &[resources::WEBHOOK_CA_SECRET])];

/// Prometheus, everywhere: what it scrapes, and where.
pub(crate) const PROMETHEUS_CLUSTER: &[Rule] = &[
    rule("", &["nodes", "nodes/metrics", "services", "endpoints", "pods"], READ),
    rule("discovery.k8s.io", &["endpointslices"], READ),
    rule("networking.k8s.io", &["ingresses", "ingresses/status"], READ),
    paths(&["/metrics"], &["get"]),
];

/// Kiali, everywhere: everything that it shows, and nothing that it could change; see `docs/guide/addons.md`.
pub(crate) const KIALI_CLUSTER: &[Rule] = &[
    rule(
        "",
        &["configmaps", "endpoints", "namespaces", "pods", "pods/log", "replicationcontrollers", "services"],
        READ,
    ),
    // By which it asks control plane and proxies for their state.
    rule("", &["pods/portforward"], &["create"]),
    rule("apps", &["daemonsets", "deployments", "replicasets", "statefulsets"], READ),
    rule("batch", &["cronjobs", "jobs"], READ),
    rule("networking.istio.io", &["*"], READ),
    rule("security.istio.io", &["*"], READ),
    rule("extensions.istio.io", &["*"], READ),
    rule("telemetry.istio.io", &["*"], READ),
    rule("gateway.networking.k8s.io", &["*"], READ),
    rule("inference.networking.k8s.io", &["*"], READ),
    rule("admissionregistration.k8s.io", &["mutatingwebhookconfigurations"], READ),
    rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
    rule("apps.openshift.io", &["deploymentconfigs"], READ),
    rule("route.openshift.io", &["routes"], &["get"]),
];

/// All that is granted to what a MeshInstall consists of.
const GRANTED: [&[Rule]; 6] = [
    CONTROL_PLANE_CLUSTER,
    CONTROL_PLANE_NAMESPACE,
    WEBHOOK_CLUSTER,
    WEBHOOK_NAMESPACE,
    PROMETHEUS_CLUSTER,
    KIALI_CLUSTER,
];

/// The operator, for itself.
const OPERATOR_OWN: &[Rule] = &[
    rule("install.forestay.dev", &["meshinstalls"], &["get", "list", "watch", "update", "patch"]),
    rule("install.forestay.dev", &["meshrevisiontags"], READ),
    rule("install.forestay.dev", &["meshinstalls/status", "meshrevisiontags/status"], STATUS),
    // So that owner references may block an owner's deletion.
    rule("install.forestay.dev", &["meshinstalls/finalizers"], &["update"]),
    rule("", &["namespaces"], &["get", "list", "watch", "create"]),
    rule("", &["services", "serviceaccounts", "configmaps", "secrets", "persistentvolumeclaims"], MANAGE),
    rule("apps", &["deployments"], MANAGE),
    rule("policy", &["poddisruptionbudgets"], MANAGE),
    rule("autoscaling", &["horizontalpodautoscalers"], MANAGE),
    rule("rbac.authorization.k8s.io", &["roles", "rolebindings", "clusterroles", "clusterrolebindings"], MANAGE),
    rule("admissionregistration.k8s.io", &["mutatingwebhookconfigurations", "validatingwebhookconfigurations"], MANAGE),
    rule("", &["pods"], READ),
    rule("discovery.k8s.io", &["endpointslices"], READ),
    rule("events.k8s.io", &["events"], &["create", "patch"]),
    // The guard; `create` cannot be limited to a name, and a watch is of all.
    rule(
        "admissionregistration.k8s.io",
        &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        &["get", "list", "watch", "create"],
    ),
    named(
        "admissionregistration.k8s.io",
        &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        &["patch", "delete"],
        &[resources::GUARD],
    ),
    // To tell whether Istio's kinds are there, and of which version.
    rule("apiextensions.k8s.io", &["customresourcedefinitions"], READ),
    // `uninstall: Purge`, in whichever namespace the mesh was.
    named("coordination.k8s.io", &["leases"], &["delete"], &[resources::ISTIOD_LEASE]),
];

/// The operator, in its namespace: the Lease.
pub(crate) const OPERATOR_NAMESPACE: &[Rule] =
    &[rule("coordination.k8s.io", &["leases"], &["get", "create", "update"])];

/// The operator, everywhere: its own needs and everything that it grants.
pub(crate) fn operator_cluster() -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in OPERATOR_OWN.iter().chain(GRANTED.into_iter().flatten()).copied() {
        let already = |resource: &str, verb: &str| rules.iter().any(|known| allows(known, rule, resource, verb));
        let covered = rule.urls.is_empty()
            && rule.resources.iter().all(|resource| rule.verbs.iter().all(|verb| already(resource, verb)));
        if !covered {
            rules.push(to_policy(rule));
        }
    }
    rules.push(purged_definitions());
    rules
}

/// What `uninstall: Purge` may delete: Istio's definitions, and no other.
fn purged_definitions() -> PolicyRule {
    let names = crds::istio_definitions().into_iter().filter_map(|definition| definition.metadata.name).collect();
    let rule = rule("apiextensions.k8s.io", &["customresourcedefinitions"], &["delete"]);
    PolicyRule { resource_names: Some(names), ..to_policy(rule) }
}

/// Rows as the API server takes them.
pub(crate) fn policy(rules: &[Rule]) -> Vec<PolicyRule> {
    rules.iter().copied().map(to_policy).collect()
}

fn to_policy(rule: Rule) -> PolicyRule {
    let strings = |of: &[&str]| -> Vec<String> { of.iter().map(|text| (*text).to_owned()).collect() };
    let of_resources = rule.urls.is_empty();
    PolicyRule {
        api_groups: of_resources.then(|| vec![rule.group.to_owned()]),
        resources: of_resources.then(|| strings(rule.resources)),
        verbs: strings(rule.verbs),
        resource_names: (!rule.names.is_empty()).then(|| strings(rule.names)),
        non_resource_urls: (!of_resources).then(|| strings(rule.urls)),
    }
}

/// Whether `policy` allows `verb` on `resource` of `rule`'s group, on all objects or at least on those that `rule` names.
fn allows(policy: &PolicyRule, rule: Rule, resource: &str, verb: &str) -> bool {
    let has = |of: Option<&Vec<String>>, what: &str| of.is_some_and(|all| all.iter().any(|one| one == what));
    let names_fit = policy.resource_names.as_ref().is_none_or(|names| {
        !rule.names.is_empty() && rule.names.iter().all(|name| names.iter().any(|known| known == name))
    });
    has(policy.api_groups.as_ref(), rule.group)
        && has(policy.resources.as_ref(), resource)
        && policy.verbs.iter().any(|known| known == verb)
        && names_fit
}

#[cfg(test)]
mod tests {
    use super::{GRANTED, KIALI_CLUSTER, MANAGE, READ, Rule, allows, operator_cluster, rule, to_policy};
    use crate::live;

    fn holds(rule: Rule, resource: &str, verb: &str) -> bool {
        operator_cluster().iter().any(|policy| allows(policy, rule, resource, verb))
    }

    #[test]
    fn the_operator_holds_everything_it_grants() {
        for granted in GRANTED.concat() {
            let same = |policy: &_| *policy == to_policy(granted);
            assert!(granted.urls.is_empty() || operator_cluster().iter().any(same), "{granted:?}");
            for resource in granted.resources {
                for verb in granted.verbs {
                    assert!(holds(granted, resource, verb), "{verb} {resource}");
                }
            }
        }
    }

    #[test]
    fn the_operator_may_manage_every_kind_it_renders() {
        for kind in live::managed_kinds() {
            let group: &'static str = kind.group.clone().leak();
            for verb in MANAGE {
                assert!(holds(rule(group, &[], &[]), &kind.plural, verb), "{verb} {}", kind.plural);
            }
        }
    }

    #[test]
    fn nobody_but_the_operator_reads_secrets_at_large() {
        for granted in GRANTED.concat() {
            let reads = granted.resources.contains(&"secrets") && granted.verbs != ["create"];
            assert!(!reads || !granted.names.is_empty(), "{granted:?}");
        }
    }

    /// Nobody signs in to it.
    #[test]
    fn kiali_changes_nothing() {
        for granted in KIALI_CLUSTER {
            let asks = ["pods/portforward", "tokenreviews"].iter().any(|one| granted.resources.contains(one));
            assert!(granted.verbs.iter().all(|verb| READ.contains(verb) || asks), "{granted:?}");
        }
    }
}
