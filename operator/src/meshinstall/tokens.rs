//! A ServiceAccount that somebody has deleted comes back under another uid, and the API server takes none of the tokens that
//! pods have of the old one, until the kubelet renews them in an hour. So the pods are started anew, by a change of their
//! template that its Deployment rolls out as any other.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt};
use names::{annotations, resources};
use serde_json::{Value, json};

use super::apply::Outcome;
use crate::pod::Pod;

/// Deployments with pods that are older than their ServiceAccount, each with the uid of that.
fn outlived<'a>(outcomes: &'a [Outcome], pods: &[Arc<Pod>]) -> Vec<(&'a DynamicObject, String)> {
    let account = ApiResource::erase::<ServiceAccount>(&());
    let current = |outcome: &'a Outcome| Some((&outcome.rendered.resource, outcome.current.as_deref()?));
    let accounts: Vec<&DynamicObject> =
        outcomes.iter().filter_map(current).filter(|(kind, _)| **kind == account).map(|(_, object)| object).collect();
    let of = |deployment: &'a DynamicObject| {
        let name = deployment.data.pointer("/spec/template/spec/serviceAccountName").and_then(Value::as_str)?;
        let account = accounts.iter().find(|a| a.namespace() == deployment.namespace() && a.name_any() == name)?;
        let (made, uid) = (account.creation_timestamp()?, account.uid()?);
        let told = deployment
            .data
            .pointer("/spec/template/metadata/annotations")
            .and_then(|all| all.get(annotations::TOKENS_OF));
        let older = pods.iter().any(|pod| {
            let spec = pod.spec.as_ref();
            pod.namespace() == deployment.namespace()
                && pod.metadata.deletion_timestamp.is_none()
                && spec.and_then(|spec| spec.service_account_name.as_deref()) == Some(name)
                && pod.creation_timestamp().is_some_and(|started| started < made)
        });
        (older && told != Some(&json!(uid))).then_some((deployment, uid))
    };
    outcomes
        .iter()
        .filter_map(current)
        .filter(|(kind, _)| kind.kind == "Deployment")
        .filter_map(|(_, d)| of(d))
        .collect()
}

/// Starts pods anew whose tokens are of a ServiceAccount that is gone. Gives the Deployments, as `namespace/name`.
pub(crate) async fn renew(
    client: &Client,
    outcomes: &[Outcome],
    pods: &[Arc<Pod>],
) -> Result<Vec<String>, (String, kube::Error)> {
    let mut renewed = Vec::new();
    for (deployment, uid) in outlived(outcomes, pods) {
        let (namespace, name) = (deployment.namespace().unwrap_or_default(), deployment.name_any());
        let kind = ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
        let patch = json!({
            "apiVersion": kind.api_version, "kind": kind.kind,
            "metadata": {"name": name, "uid": deployment.uid()},
            "spec": {"template": {"metadata": {"annotations": {annotations::TOKENS_OF: uid}}}},
        });
        let params = PatchParams::apply(resources::TOKENS_MANAGER).force();
        let display = format!("{namespace}/{name}");
        api.patch(&name, &params, &Patch::Apply(&patch)).await.map_err(|error| (display.clone(), error))?;
        renewed.push(display);
    }
    Ok(renewed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::ServiceAccount;
    use serde::Serialize;
    use serde_json::{Value, json};

    use super::outlived;
    use crate::meshinstall::apply::{Done, Outcome};
    use crate::meshinstall::build::Rendered;
    use crate::meshinstall::mesh::Component;
    use crate::pod::Pod;

    fn outcome<K>(value: Value) -> Outcome
    where
        K: kube::Resource<DynamicType = ()> + Serialize + serde::de::DeserializeOwned,
    {
        let object: K = serde_json::from_value(value).expect("an object");
        let rendered = Rendered::new(Component::ControlPlane, &object).expect("rendered");
        let current = Some(Arc::new(rendered.object.clone()));
        Outcome { rendered, current, done: Done::Nothing, later: false }
    }

    #[test]
    fn pods_older_than_their_account_are_started_anew_once() {
        let account = |made: &str| {
            outcome::<ServiceAccount>(json!({"metadata": {
                "name": "istiod", "namespace": "mesh", "uid": "two", "creationTimestamp": made,
            }}))
        };
        let deployment = |told: Option<&str>| {
            let mut template = json!({"spec": {"serviceAccountName": "istiod", "containers": []}});
            if let Some(told) = told {
                template["metadata"] = json!({"annotations": {"install.forestay.dev/tokens-of": told}});
            }
            outcome::<Deployment>(json!({
                "metadata": {"name": "istiod", "namespace": "mesh"}, "spec": {"selector": {}, "template": template},
            }))
        };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "mesh", "creationTimestamp": "2026-01-01T00:00:10Z"},
            "spec": {"serviceAccountName": "istiod", "containers": []},
        }))
        .expect("a pod");
        for (name, made, told, count) in [
            ("as it should be", "2026-01-01T00:00:09Z", None, 0),
            ("the account is younger", "2026-01-01T00:00:11Z", None, 1),
            ("and that is under way", "2026-01-01T00:00:11Z", Some("two"), 0),
            ("again", "2026-01-01T00:00:11Z", Some("one"), 1),
        ] {
            let outcomes = [account(made), deployment(told)];
            let found: Vec<String> =
                outlived(&outcomes, &[Arc::new(pod.clone())]).into_iter().map(|(_, uid)| uid).collect();
            assert_eq!(found, vec!["two"; count], "{name}");
        }
    }
}
