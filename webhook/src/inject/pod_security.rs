//! Pod Security: what a namespace's standard will say to the containers that injection adds.
//!
//! The API server checks the pod after injection, and its refusal names our containers to people who never wrote them. So
//! what will happen, and what to do, is said at admission. Only our containers are looked at. The rules are those of
//! Kubernetes' Pod Security Standards, as far as an added container can break them.

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext};

use super::cluster::Namespace;
use super::{INIT, PROXY, VALIDATION};

/// What may be added under `baseline`.
const BASELINE: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// A warning for a pod that the namespace's standard will refuse for our sake.
pub(crate) fn warning(namespace: &str, about: &Namespace, spec: &PodSpec) -> Option<String> {
    let level = about.pod_security().filter(|level| matches!(*level, "baseline" | "restricted"))?;
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut ours = containers.filter(|container| matches!(container.name.as_str(), PROXY | INIT | VALIDATION));
    let (container, problem) =
        ours.find_map(|container| Some((container, problem(container, spec, level == "restricted")?)))?;
    // With TPROXY the proxy itself needs more than either standard has, whoever redirects.
    let transparent = spec.init_containers.iter().flatten().chain(&spec.containers).any(|container| {
        let context = container.security_context.as_ref();
        let capabilities = context.and_then(|context| context.capabilities.as_ref());
        let added = capabilities.and_then(|capabilities| capabilities.add.as_deref()).unwrap_or_default();
        container.name == PROXY && added.iter().any(|one| one == "NET_ADMIN")
    });
    let what_to_do = if transparent {
        "label it pod-security.kubernetes.io/enforce=privileged, or use interceptionMode REDIRECT and CNI"
    } else if container.name == INIT {
        "label it pod-security.kubernetes.io/enforce=privileged, or use CNI (pilot.cni.enabled)"
    } else if problem.contains("seccomp") {
        "set global.proxy.seccompProfile to {type: RuntimeDefault}"
    } else {
        "give the pod a container istio-proxy with the securityContext that it needs"
    };
    Some(format!(
        "Pod Security \"{level}\" of namespace {namespace} will refuse this pod: {} {problem}; {what_to_do}",
        container.name
    ))
}

fn problem(container: &Container, spec: &PodSpec, restricted: bool) -> Option<String> {
    let empty = SecurityContext::default();
    let context = container.security_context.as_ref().unwrap_or(&empty);
    let capabilities = context.capabilities.as_ref();
    let added = capabilities.and_then(|capabilities| capabilities.add.as_deref()).unwrap_or_default();
    let allowed: &[&str] = if restricted { &["NET_BIND_SERVICE"] } else { &BASELINE };
    let too_much: Vec<&str> = added.iter().map(String::as_str).filter(|one| !allowed.contains(one)).collect();
    if !too_much.is_empty() {
        return Some(format!("needs {}", too_much.join(" and ")));
    }
    if context.privileged == Some(true) {
        return Some("is privileged".to_owned());
    }
    if !restricted {
        return None;
    }
    let of_pod = spec.security_context.as_ref();
    let non_root = context.run_as_non_root.or_else(|| of_pod.and_then(|context| context.run_as_non_root));
    if non_root != Some(true) || context.run_as_user == Some(0) {
        return Some("may run as root".to_owned());
    }
    if context.allow_privilege_escalation != Some(false) {
        return Some("may gain privileges".to_owned());
    }
    let dropped = capabilities.and_then(|capabilities| capabilities.drop.as_deref()).unwrap_or_default();
    if !dropped.iter().any(|one| one == "ALL") {
        return Some("keeps capabilities".to_owned());
    }
    let profile =
        context.seccomp_profile.as_ref().or_else(|| of_pod.and_then(|context| context.seccomp_profile.as_ref()));
    if !profile.is_some_and(|profile| matches!(profile.type_.as_str(), "RuntimeDefault" | "Localhost")) {
        return Some("has no seccomp profile".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::warning;
    use crate::inject::cluster::Namespace;

    #[test]
    fn what_the_standard_will_refuse_is_said_before() {
        let init = "{containers: [], initContainers: [{name: istio-init, securityContext: {capabilities: {add: [NET_ADMIN, NET_RAW]}}}]}";
        let validation = "{containers: [], initContainers: [{name: istio-validation, securityContext: {runAsNonRoot: true, runAsUser: 1337, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}";
        let profiled = "{securityContext: {seccompProfile: {type: RuntimeDefault}}, containers: [{name: istio-proxy, securityContext: {runAsNonRoot: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}";
        let transparent = "{containers: [], initContainers: [{name: istio-proxy, securityContext: {runAsUser: 0, capabilities: {add: [NET_ADMIN]}}}]}";
        let users = "{containers: [{name: app, securityContext: {privileged: true}}]}";
        let rows = [
            ("nothing is enforced", None, init, None),
            ("everything is allowed", Some("privileged"), init, None),
            (
                "baseline has no NET_ADMIN",
                Some("baseline"),
                init,
                Some("istio-init needs NET_ADMIN and NET_RAW; label it pod-security"),
            ),
            ("nor has restricted", Some("restricted"), init, Some("pilot.cni.enabled")),
            (
                "nor does it have what TPROXY takes",
                Some("baseline"),
                transparent,
                Some(
                    "istio-proxy needs NET_ADMIN; label it pod-security.kubernetes.io/enforce=privileged, or use interceptionMode",
                ),
            ),
            ("redirection by CNI fits baseline", Some("baseline"), validation, None),
            (
                "and restricted with a profile only",
                Some("restricted"),
                validation,
                Some("istio-validation has no seccomp profile; set global.proxy.seccompProfile"),
            ),
            ("which may be the pod's", Some("restricted"), profiled, None),
            ("what the user's containers do is the user's", Some("baseline"), users, None),
        ];
        for (name, level, spec, expected) in rows {
            let labels = level.map(|level| ("pod-security.kubernetes.io/enforce".to_owned(), level.to_owned()));
            let namespace = Namespace { labels: labels.into_iter().collect(), ..Namespace::default() };
            let spec: PodSpec = crds::yaml::from_str(spec).unwrap();
            let warning = warning("shop", &namespace, &spec);
            match expected {
                None => assert_eq!(warning, None, "{name}"),
                Some(part) => {
                    let warning = warning.unwrap_or_default();
                    assert!(warning.contains(part) && warning.len() <= 256, "{name}: {warning}");
                }
            }
        }
    }
}
