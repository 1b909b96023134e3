//! A HorizontalPodAutoscaler, for a Deployment whose number of pods the spec leaves to the load.

use crds::install::Autoscaling;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    ResourceMetricSource,
};

use crate::meshinstall::mesh::{Component, Mesh};

/// Above this use of the requested CPU pods are added, in percent; Istio's.
const CPU: i32 = 80;

pub(super) fn build(
    mesh: &Mesh,
    component: Component,
    namespace: &str,
    name: &str,
    scaling: &Autoscaling,
) -> HorizontalPodAutoscaler {
    let memory = scaling.target_memory_utilization_percentage;
    let cpu = scaling.target_cpu_utilization_percentage.or(memory.is_none().then_some(CPU));
    let metrics = [("cpu", cpu), ("memory", memory)].into_iter().filter_map(|(resource, percent)| {
        Some(MetricSpec {
            type_: "Resource".into(),
            resource: Some(ResourceMetricSource {
                name: resource.into(),
                target: MetricTarget {
                    type_: "Utilization".into(),
                    average_utilization: Some(percent?),
                    ..MetricTarget::default()
                },
            }),
            ..MetricSpec::default()
        })
    });
    HorizontalPodAutoscaler {
        metadata: mesh.object(component, namespace, name),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".into()),
                kind: "Deployment".into(),
                name: name.to_owned(),
            },
            min_replicas: scaling.min_replicas,
            max_replicas: scaling.max_replicas,
            metrics: Some(metrics.collect()),
            behavior: None,
        }),
        status: None,
    }
}
