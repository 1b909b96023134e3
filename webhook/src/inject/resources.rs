//! Resources of a whole pod (`spec.resources`), which what injection adds has to fit into as well.
//!
//! The API server checks the pod after injection, and its refusal names containers that the user never wrote. Its rules:
//! no container's limit is above the pod's, and the requests of all containers together are not above the pod's.

use std::collections::BTreeMap;

use crds::quantity::amount;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::annotations as annotation;
use super::subject::Subject;
use super::{INIT, PROXY, VALIDATION};

type Amounts = Option<BTreeMap<String, Quantity>>;

/// A warning for a pod that the API server will refuse for our sake.
pub(crate) fn warning(subject: &Subject<'_>, merged: &PodSpec) -> Option<String> {
    let pods = merged.resources.as_ref()?;
    let all = || merged.containers.iter().chain(merged.init_containers.iter().flatten());
    let ours = |container: &&Container| matches!(container.name.as_str(), PROXY | INIT | VALIDATION);
    // Init containers that end give back what they had.
    let running = || {
        let sidecars = merged.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
        merged.containers.iter().chain(sidecars)
    };
    ["cpu", "memory"].into_iter().find_map(|name| {
        if let Some(most) = of(&pods.limits, name)
            && let Some(container) = all().filter(ours).find(|one| limit(one, name).is_some_and(|limit| limit > most))
        {
            return Some(too_much(&format!("limit of {}", container.name), "limit", name));
        }
        let most = of(&pods.requests, name).or_else(|| of(&pods.limits, name))?;
        let together: f64 = running().filter_map(|one| request(one, name)).sum();
        let users: f64 = subject.application().iter().filter_map(|one| request(one, name)).sum();
        // Beyond floating point, which adds tenths wrongly.
        let above = |sum: f64| sum > most * (1.0 + 1e-9);
        (above(together) && !above(users)).then(|| too_much("requests with that of istio-proxy", "request", name))
    })
}

fn too_much(what: &str, of_pod: &str, name: &str) -> String {
    let (own, other) = match name {
        "cpu" => (annotation::PROXY_CPU, annotation::PROXY_CPU_LIMIT),
        _ => (annotation::PROXY_MEMORY, annotation::PROXY_MEMORY_LIMIT),
    };
    format!(
        "the API server will refuse this pod: the {name} {what} is above the pod's own {of_pod} (spec.resources); raise it, or annotate {own} and {other}"
    )
}

fn of(amounts: &Amounts, name: &str) -> Option<f64> {
    amount(&amounts.as_ref()?.get(name)?.0)
}

fn limit(container: &Container, name: &str) -> Option<f64> {
    of(&container.resources.as_ref()?.limits, name)
}

/// A container that says only its limit asks for as much.
fn request(container: &Container, name: &str) -> Option<f64> {
    of(&container.resources.as_ref()?.requests, name).or_else(|| limit(container, name))
}
