//! What is wrong with a rule by itself, whatever else there is in the mesh: the checks beside its type, at its arrival.

use crds::check::Problem;
use translate::model::object::Object;

/// The value of the label `reason` of `pilot_config_problems`.
pub(crate) const REASON: &str = "check";

/// Everything that the checks of its kind find in an object.
pub(crate) fn problems(object: &Object) -> Vec<Problem> {
    match object {
        Object::VirtualService(rule) => rule.spec.check(),
        Object::DestinationRule(rule) => rule.spec.check(),
        Object::Gateway(rule) => rule.spec.check(),
        Object::ServiceEntry(rule) => rule.spec.check(),
        Object::PeerAuthentication(rule) => rule.spec.check(),
        Object::Service(_) | Object::EndpointSlice(_) | Object::Workload(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;
    use translate::model::mesh::Mesh;
    use translate::model::object::from_document;

    use crate::metrics::Metrics;
    use crate::watch::Intake;

    fn virtual_service(weights: [u32; 2]) -> serde_json::Value {
        serde_json::json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": { "name": "reviews", "namespace": "default", "generation": weights[0] },
            "spec": { "hosts": ["reviews"], "http": [{ "route": [
                { "destination": { "host": "reviews", "subset": "v1" }, "weight": weights[0] },
                { "destination": { "host": "reviews", "subset": "v2" }, "weight": weights[1] },
            ]}]},
        })
    }

    #[test]
    fn a_rule_that_its_checks_refuse_counts_until_it_is_mended_or_gone() {
        let (queue, _waiting) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::new());
        let intake = Intake::new(Mesh::default(), [], queue, Arc::clone(&metrics));
        let counted = || metrics.text().contains("name=\"default/reviews\",reason=\"check\"");
        let apply = |weights| {
            let object = from_document(virtual_service(weights), &Mesh::default()).unwrap();
            let named = crate::watch::intake::name(&object);
            intake.apply(object);
            named
        };
        apply([0, 0]);
        assert!(counted(), "{}", metrics.text());
        apply([50, 50]);
        assert!(!counted(), "mended");
        let (kind, key) = apply([0, 0]);
        assert!(counted());
        intake.remove(kind, &key);
        assert!(!counted(), "gone");
    }
}
