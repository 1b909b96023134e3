//! Programs to look at a mesh with: Prometheus, Grafana, Kiali, Jaeger, Zipkin, as Istio's `samples/addons` deploy them.
//!
//! In comes what [`validate`](crate::meshinstall::validate) made of `spec.addons`; out go objects. Names, ports, Services
//! and what they are configured to do are the samples'; pods are within Pod Security `restricted`, and nothing is
//! configured that calls home, shuts down by a request, or writes what it only has to show.
//!
//! * one file an addon: `prometheus` (with `scrape`, what it scrapes), `grafana`, `kiali`, `jaeger`, `zipkin`
//! * `workload`: what their Deployments, Services and claims have in common
//! * [`apply`]: brings each in by itself, so that one in trouble holds up nothing else

pub(crate) mod apply;
mod grafana;
mod jaeger;
mod kiali;
mod prometheus;
mod scrape;
#[cfg(test)]
mod tests;
mod workload;
mod zipkin;

use std::collections::BTreeMap;

use crds::install::{AddonSpec, AddonsSpec, Overlay, Persistence, Resources};
use names::images;

use crate::meshinstall::build::{RenderError, Rendered, overlay};
use crate::meshinstall::mesh::{Mesh, Pods};

/// One of the addons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum AddonKind {
    Prometheus,
    Grafana,
    Kiali,
    Jaeger,
    Zipkin,
}

impl AddonKind {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Prometheus, Self::Grafana, Self::Kiali, Self::Jaeger, Self::Zipkin];

    /// Its name: of its Deployment, its field of `spec.addons`, its component.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Grafana => "grafana",
            Self::Kiali => "kiali",
            Self::Jaeger => "jaeger",
            Self::Zipkin => "zipkin",
        }
    }

    /// What a spec says of it.
    pub(crate) fn of(self, spec: &AddonsSpec) -> Option<&AddonSpec> {
        match self {
            Self::Prometheus => spec.prometheus.as_ref(),
            Self::Grafana => spec.grafana.as_ref(),
            Self::Kiali => spec.kiali.as_ref(),
            Self::Jaeger => spec.jaeger.as_ref(),
            Self::Zipkin => spec.zipkin.as_ref(),
        }
    }

    /// Its image, unless somebody says otherwise.
    pub(crate) fn image(self) -> &'static str {
        match self {
            Self::Prometheus => images::PROMETHEUS,
            Self::Grafana => images::GRAFANA,
            Self::Kiali => images::KIALI,
            Self::Jaeger => images::JAEGER,
            Self::Zipkin => images::ZIPKIN,
        }
    }

    /// What it asks for, unless somebody says otherwise. Limits only where the sample has them.
    pub(crate) fn resources(self) -> Resources {
        match self {
            Self::Prometheus => Resources::new([("cpu", "50m"), ("memory", "256Mi")], []),
            Self::Grafana => Resources::new([("cpu", "10m"), ("memory", "128Mi")], []),
            Self::Kiali => Resources::new([("cpu", "10m"), ("memory", "64Mi")], [("memory", "1Gi")]),
            Self::Jaeger => Resources::new([("cpu", "10m"), ("memory", "64Mi")], []),
            Self::Zipkin => Resources::new([("cpu", "10m"), ("memory", "256Mi")], []),
        }
    }

    /// Whether its pod has business with the API server.
    pub(crate) fn asks_the_api_server(self) -> bool {
        matches!(self, Self::Prometheus | Self::Kiali)
    }

    /// Whether the two would own Services of the same names.
    pub(crate) fn collides_with(self, other: Self) -> bool {
        let is_tracing = |kind| matches!(kind, Self::Jaeger | Self::Zipkin);
        self == other || (is_tracing(self) && is_tracing(other))
    }

    /// Where the other addons find one that runs in the mesh's namespace. Whoever has deployed it there: the names are
    /// those of Istio's samples.
    fn address(self, namespace: &str) -> String {
        match self {
            Self::Prometheus => format!("http://prometheus.{namespace}:{}", prometheus::PORT),
            Self::Grafana => format!("http://grafana.{namespace}:{}", grafana::PORT),
            Self::Kiali => format!("http://kiali.{namespace}:{}{}", kiali::PORT, kiali::PATH),
            Self::Jaeger => format!("http://tracing.{namespace}{}", jaeger::PATH),
            Self::Zipkin => format!("http://zipkin.{namespace}:{}", zipkin::PORT),
        }
    }
}

/// One addon as the spec wants it deployed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Addon {
    pub(crate) image: String,
    pub(crate) resources: Resources,
    /// None: data go with the pod.
    pub(crate) persistence: Option<Persistence>,
    pub(crate) pods: Pods,
    pub(crate) overlays: Vec<Overlay>,
}

/// The addons of a mesh.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Addons {
    pub(crate) deployed: BTreeMap<AddonKind, Addon>,
    /// Those that run elsewhere, with their addresses.
    pub(crate) external: BTreeMap<AddonKind, String>,
    /// Of those to be deployed, which an older MeshInstall of the namespace wants too, and its name.
    pub(crate) contested: BTreeMap<AddonKind, String>,
}

impl Addons {
    /// Whether the spec asks for it, here or elsewhere.
    fn has(&self, kind: AddonKind) -> bool {
        self.deployed.contains_key(&kind) || self.external.contains_key(&kind)
    }

    /// Where it is found: as the spec says, or in the mesh's namespace.
    fn address(&self, kind: AddonKind, namespace: &str) -> String {
        self.external.get(&kind).cloned().unwrap_or_else(|| kind.address(namespace))
    }
}

/// Renders every addon that the spec wants deployed.
pub(crate) fn build(mesh: &Mesh) -> Result<Vec<Rendered>, RenderError> {
    let mut all = Vec::new();
    for (kind, addon) in &mesh.addons.deployed {
        let mut objects = match kind {
            AddonKind::Prometheus => prometheus::build(mesh, addon)?,
            AddonKind::Grafana => grafana::build(mesh, addon)?,
            AddonKind::Kiali => kiali::build(mesh, addon)?,
            AddonKind::Jaeger => jaeger::build(mesh, addon)?,
            AddonKind::Zipkin => zipkin::build(mesh, addon)?,
        };
        overlay(&mut objects, 0, &addon.overlays)?;
        all.extend(objects);
    }
    Ok(all)
}
