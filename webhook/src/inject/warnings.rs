//! What an injected pod will do that its author may not expect: said at admission. (What is asked for in vain: `in_vain`.)

use std::collections::BTreeSet;

use crds::meshconfig::InterceptionMode;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::annotations as annotation;
use super::subject::Subject;
use super::template::{Chosen, GRPC_AGENT, GRPC_SIMPLE};
use super::{INIT, PROXY, pod_security, resources, selector};

/// What an injected pod will do that its author may not expect.
pub(crate) fn of_pod(subject: &Subject<'_>, chosen: &[Chosen<'_>], merged: &PodSpec, warnings: &mut Vec<String>) {
    let has = |name: &str| chosen.iter().any(|template| template.is(name));
    if has(GRPC_AGENT) && !subject.holds_application() {
        warnings.push(format!(
            "template {GRPC_AGENT}: the application may start before its bootstrap file is there, and gRPC looks for it only once; say holdApplicationUntilProxyStarts: true in annotation {}",
            names::annotations::PROXY_CONFIG
        ));
    }
    if has(GRPC_SIMPLE) {
        warnings.push(format!(
            "template {GRPC_SIMPLE}: the control plane serves plaintext xDS (port 15010) to its own pod only, unless its --xds-plaintext-address says otherwise; use template {GRPC_AGENT}"
        ));
    }
    environment(subject, has(GRPC_AGENT), merged, warnings);
    images(subject, merged, warnings);
    ports(subject, merged, warnings);
    warnings.extend(resources::warning(subject, merged));
    refused(merged, warnings);
    dns(subject, warnings);
    same_user(subject, merged, warnings);
    endless(subject, merged, warnings);
    cut_short(subject, merged, warnings);
    if let Some(about) = subject.about {
        warnings.extend(pod_security::warning(subject.namespace, about, merged));
        discovery(subject, about, warnings);
    }
}

const DNS: &str =
    "the proxy serves no DNS, so that DNS is not captured and names resolve by the pod's own name servers";
const CERTIFICATES: &str = "the proxy's certificate comes from the control plane, by the pod's own token";

/// Variables that Istio's agent reads and ours does not, and why.
const IN_VAIN: [(&str, &str); 10] = [
    ("CA_PROVIDER", CERTIFICATES),
    ("CAPTURE_ALL_DNS", DNS),
    ("CREDENTIAL_FETCHER_TYPE", CERTIFICATES),
    ("FILE_MOUNTED_CERTS", CERTIFICATES),
    ("ISTIO_META_DNS_AUTO_ALLOCATE", DNS),
    ("ISTIO_META_DNS_CAPTURE", DNS),
    ("ISTIO_META_ENABLE_HBONE", "there is no HBONE"),
    ("MINIMUM_DRAIN_DURATION", "use terminationDrainDuration of proxy.istio.io/config"),
    (OUTPUT_CERTS, "a sidecar keeps its certificate to itself"),
    ("PROV_CERT", CERTIFICATES),
];
const OUTPUT_CERTS: &str = "OUTPUT_CERTS";

/// Environment of the proxy that is asked for in vain, by its settings or by the pod's own `istio-proxy`.
fn environment(subject: &Subject<'_>, agent: bool, merged: &PodSpec, warnings: &mut Vec<String>) {
    // Citadel is the authority that there is.
    let off = |value: &str| matches!(value, "" | "Citadel") || annotation::boolean(value) == Ok(false);
    let metadata = &subject.proxy_config.proxy_metadata;
    let proxies = merged.containers.iter().chain(merged.init_containers.iter().flatten());
    let environment =
        proxies.filter(|one| [PROXY, INIT].contains(&one.name.as_str())).flat_map(|one| one.env.iter().flatten());
    let environment: BTreeSet<&str> = environment
        .filter(|one| one.value.as_deref().is_some_and(|value| !off(value)))
        .map(|one| one.name.as_str())
        .collect();
    for (name, why) in IN_VAIN.into_iter().filter(|(name, _)| !(agent && *name == OUTPUT_CERTS)) {
        let whence = if metadata.get(name).is_some_and(|value| !off(value)) {
            "proxyMetadata"
        } else if environment.contains(name) {
            "environment"
        } else {
            continue;
        };
        warnings.push(format!("{whence} {name} has no effect: {why}"));
    }
}

/// Of our own image there is one variant.
fn images(subject: &Subject<'_>, merged: &PodSpec, warnings: &mut Vec<String>) {
    let variant = subject.image_variant();
    let mut containers = merged.containers.iter().chain(merged.init_containers.iter().flatten());
    let image = containers.find(|container| container.name == PROXY).and_then(|proxy| proxy.image.as_deref());
    // Another image, the pod's own or a template's, is not ours to speak of.
    if matches!(variant, "" | "default") || image != Some(subject.image().as_str()) {
        return;
    }
    let asked = subject.annotation(annotation::PROXY_IMAGE, &subject.global().proxy.image);
    if asked.contains('/') {
        if subject.annotations.contains_key(annotation::PROXY_IMAGE_TYPE) {
            let (name, asked): (_, String) = (annotation::PROXY_IMAGE_TYPE, asked.chars().take(100).collect());
            warnings.push(format!("annotation {name} has no effect: {asked} is a whole image"));
        }
    } else if subject.global().hub == names::images::HUB {
        let variant: String = variant.chars().take(40).collect();
        warnings.push(format!(
            "image type \"{variant}\": {} has no such variant, and the pod will not start; leave imageType and variant out",
            names::images::HUB
        ));
    }
}

/// What the API server will refuse in a pod that nobody has seen like this.
fn refused(merged: &PodSpec, warnings: &mut Vec<String>) {
    let init = merged.init_containers.as_deref().unwrap_or_default();
    if merged.containers.is_empty() && init.iter().any(|container| container.name == PROXY) {
        warnings.push(format!(
            "the API server will refuse this pod: its only container is {PROXY}, a native sidecar; for a gateway, annotate {}: gateway",
            annotation::TEMPLATES
        ));
    }
    let volumes: BTreeSet<&str> = merged.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    for container in merged.containers.iter().chain(init) {
        let name = &container.name;
        if container.image.as_deref() == Some("auto") {
            warnings.push(format!("image \"auto\" of container {name} stays: injection fills in that of {PROXY} only"));
        }
        if name == PROXY && container.image.as_deref().is_none_or(str::is_empty) {
            let own = annotation::TEMPLATES;
            warnings.push(format!("the API server will refuse this pod: {PROXY} has no image, as none of its templates adds the proxy; annotate {own} with sidecar or gateway first"));
        }
        if name == PROXY {
            let lost = container.volume_mounts.iter().flatten().filter(|mount| !volumes.contains(mount.name.as_str()));
            warnings.extend(lost.map(|mount| {
                let (mount, own) = (&mount.name, annotation::USER_VOLUME);
                format!("the API server will refuse this pod: {PROXY} mounts \"{mount}\", which is no volume of the pod; add it, or annotate {own}")
            }));
        }
    }
}

/// Ports of the proxy's that the application also has: one of the two cannot listen.
fn ports(subject: &Subject<'_>, merged: &PodSpec, warnings: &mut Vec<String>) {
    let mut containers = merged.containers.iter().chain(merged.init_containers.iter().flatten());
    if !containers.any(|container| container.name == PROXY) {
        return;
    }
    let moved = subject.annotations.get(annotation::STATUS_PORT).and_then(|port| port.parse().ok());
    let agent = [Some(subject.proxy_config.status_port), moved.filter(|port| *port > 0)];
    let own: BTreeSet<u16> = annotation::OWN_PORTS.into_iter().chain(agent.into_iter().flatten()).collect();
    for container in subject.application() {
        for port in container.ports.iter().flatten() {
            if own.iter().any(|own| i32::from(*own) == port.container_port) && port.protocol.as_deref() != Some("UDP") {
                let (port, name) = (port.container_port, &container.name);
                warnings.push(format!("port {port} of container {name} is the proxy's: one of the two cannot listen"));
            }
        }
    }
    let settings = subject.proxy_config.status_port;
    if let Some(moved) =
        moved.filter(|moved| ![0, settings].contains(moved) && subject.settings.mesh.enable_prometheus_merge)
    {
        warnings.push(format!(
            "annotation {}: probes go to port {moved}; metrics stay at port {settings}, which is captured now: exclude it from capture where mTLS is STRICT",
            annotation::STATUS_PORT
        ));
    }
}

/// The control plane is found by the cluster's DNS.
fn dns(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    let policy = subject.pod.spec.as_ref().and_then(|spec| spec.dns_policy.as_deref());
    if let Some(policy) = policy.filter(|policy| !matches!(*policy, "ClusterFirst" | "ClusterFirstWithHostNet")) {
        let address = &subject.proxy_config.discovery_address;
        warnings.push(format!("dnsPolicy {policy}: the proxy may not be able to resolve the control plane, {address}"));
    }
}

/// Connections of the proxy's user are not redirected, whoever makes them, nor are those of the group with this number. Init
/// containers that are this user mean it so.
fn same_user(subject: &Subject<'_>, merged: &PodSpec, warnings: &mut Vec<String>) {
    let mut containers = merged.containers.iter().chain(merged.init_containers.iter().flatten());
    let Some(proxy) = containers.find(|container| container.name == PROXY) else { return };
    let user = |container: &Container| container.security_context.as_ref()?.run_as_user;
    let group = |container: &Container| container.security_context.as_ref()?.run_as_group;
    let transparent = subject.interception == InterceptionMode::Tproxy;
    let own = if transparent { Some(subject.redirected_uid()) } else { user(proxy) };
    let Some(id) = own.filter(|id| *id != 0) else { return };
    let let_out = subject.redirected_group().unwrap_or(id);
    if let Some(gid) = group(proxy).filter(|gid| transparent && *gid != let_out) {
        warnings.push(format!(
            "the proxy would talk to itself: with TPROXY it is root, and told from the application by its group, which istio-init takes to be {let_out} and istio-proxy says is {gid}; set runAsGroup to {let_out}"
        ));
    }
    let of_pod = merged.security_context.as_ref();
    let pods_user = of_pod.and_then(|context| context.run_as_user);
    let pods_group = of_pod.and_then(|context| context.run_as_group);
    let named = |is: &dyn Fn(&Container) -> bool| -> Vec<&str> {
        subject.application().iter().filter(|one| is(one)).map(|one| one.name.as_str()).collect()
    };
    let users = named(&|one| user(one).or(pods_user) == Some(id));
    let groups = named(&|one| group(one).or(pods_group) == Some(let_out));
    for (what, field, id, same) in [("user", "runAsUser", id, users), ("group", "runAsGroup", let_out, groups)] {
        if !same.is_empty() {
            let same = same.join(", ");
            warnings.push(format!(
                "{what} {id} is the proxy's: connections that {same} makes as this {what} bypass the proxy, its policies and mutual TLS; set another {field}"
            ));
        }
    }
}

/// A pod that is to end does not, while a classic sidecar runs on.
fn endless(subject: &Subject<'_>, merged: &PodSpec, warnings: &mut Vec<String>) {
    let ends = matches!(merged.restart_policy.as_deref(), Some("Never" | "OnFailure"));
    let classic = merged.containers.iter().any(|container| container.name == PROXY);
    // A pod whose only container is the proxy is meant to run.
    if ends && classic && !subject.application().is_empty() {
        let port = subject.proxy_config.status_port;
        warnings.push(format!(
            "the pod will not end by itself, as istio-proxy runs on: annotate {}: \"true\" (Kubernetes 1.29 or newer), or POST http://localhost:{port}/quitquitquit when done",
            names::annotations::NATIVE_SIDECAR
        ));
    }
}

/// A drain that the pod asks for, and for which it has no time.
fn cut_short(subject: &Subject<'_>, merged: &PodSpec, warnings: &mut Vec<String>) {
    let own = subject.annotations.get(names::annotations::PROXY_CONFIG);
    let drain = subject.proxy_config.termination_drain_duration;
    let time = merged.termination_grace_period_seconds.and_then(|time| u64::try_from(time).ok()).unwrap_or(30);
    if own.is_some_and(|yaml| yaml.contains("terminationDrainDuration")) && drain.get().as_secs() > time {
        warnings.push(format!(
            "annotation {}: terminationDrainDuration {drain} is longer than terminationGracePeriodSeconds, {time}, after which the kubelet kills the proxy: raise that",
            names::annotations::PROXY_CONFIG
        ));
    }
}

/// Istio injects outside its discovery selectors as well, and so do we.
fn discovery(subject: &Subject<'_>, about: &super::cluster::Namespace, warnings: &mut Vec<String>) {
    let selectors = subject.settings.mesh.other.get("discoverySelectors").and_then(serde_json::Value::as_array);
    let Some(selectors) = selectors.filter(|selectors| !selectors.is_empty()) else { return };
    let selected = selectors.iter().any(|one| {
        let parsed = crds::parse(one.clone()).ok();
        // What cannot be read selects nothing, and is the analysis' to tell.
        parsed.is_some_and(|selector| selector::matches(&selector, &about.labels).unwrap_or(false))
    });
    if !selected {
        warnings.push(format!(
            "namespace {} is outside MeshConfig's discoverySelectors: a control plane that follows them gives this pod no root certificate and no configuration",
            subject.namespace
        ));
    }
}
