//! Nobody takes the operator away before its meshes: a ValidatingAdmissionPolicy of the API server's own, so that it holds
//! while the operator is away, too. It is there while there is a MeshInstall.
//!
//! Without it `kubectl delete -f config/install.yaml` with a MeshInstall still there takes the operator's Deployment and
//! rights within a moment of the definitions; the MeshInstall then waits for ever for the one who would take its finalizer
//! off, its definition waits for it, and kubectl waits for both without a word. With it each of these deletions is refused
//! in words, before anything is gone.

use std::collections::BTreeMap;

use crds::install::{MeshInstall, MeshRevisionTag};
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, ParamRef, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::{ApiResource, DeleteParams};
use kube::{Api, Client, CustomResourceExt as _};
use names::{labels, resources};

use crate::definitions;
use crate::live::Live;
use crate::meshinstall::apply::{ApplyError, Step, decide, write};
use crate::meshinstall::build::{RenderError, Rendered};
use crate::meshinstall::mesh::Component;

/// Evaluated for every MeshInstall; where there is none nothing is refused.
const REFUSAL: &str = "'MeshInstall ' + params.metadata.name + ' is still there, and only the operator can take it away in \
order. Delete it first: kubectl delete meshinstall ' + params.metadata.name + '; then this. (How to go on all the same: \
docs/guide/troubleshooting.md)'";

/// The kinds of the guard.
pub(crate) fn kinds() -> [ApiResource; 2] {
    [ApiResource::erase::<ValidatingAdmissionPolicy>(&()), ApiResource::erase::<ValidatingAdmissionPolicyBinding>(&())]
}

/// Sees to it that the guard is there.
pub(crate) async fn keep(client: &Client, live: &Live, namespace: &str) -> Result<(), KeepError> {
    for rendered in render(namespace)? {
        let current = live.get(&rendered.resource, None, resources::GUARD);
        if decide(&rendered, current.as_deref(), true) == Step::Apply {
            write(client, &rendered).await?;
        }
    }
    Ok(())
}

/// Takes the guard away: the last MeshInstall is about to go.
pub(crate) async fn remove(client: &Client) -> Result<(), kube::Error> {
    let parameters = DeleteParams::background();
    let binding = Api::<ValidatingAdmissionPolicyBinding>::all(client.clone());
    let policy = Api::<ValidatingAdmissionPolicy>::all(client.clone());
    let gone = |result: Result<(), kube::Error>| match result {
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        other => other,
    };
    gone(binding.delete(resources::GUARD, &parameters).await.map(drop))?;
    gone(policy.delete(resources::GUARD, &parameters).await.map(drop))
}

/// Why the guard is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("{0}")]
    Apply(#[from] ApplyError),
    #[error("the guard {0}")]
    Render(#[from] RenderError),
}

/// The guard of an operator in `namespace`.
fn render(namespace: &str) -> Result<[Rendered; 2], RenderError> {
    let mut definitions = definitions::names();
    definitions.extend([MeshInstall::crd_name(), MeshRevisionTag::crd_name()].map(str::to_owned));
    Ok([
        Rendered::new(Component::Configuration, &policy(namespace, definitions))?,
        Rendered::new(Component::Configuration, &binding())?,
    ])
}

fn metadata() -> ObjectMeta {
    let managed_by = (labels::KUBERNETES_MANAGED_BY.to_owned(), resources::OPERATOR.to_owned());
    ObjectMeta {
        name: Some(resources::GUARD.into()),
        labels: Some(BTreeMap::from([managed_by])),
        ..ObjectMeta::default()
    }
}

/// `definitions` are the names of all CustomResourceDefinitions that the operator comes with.
fn policy(namespace: &str, definitions: Vec<String>) -> ValidatingAdmissionPolicy {
    let rule = |group: &str, of: &[&str], names: Vec<String>| NamedRuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec!["*".to_owned()]),
        operations: Some(vec!["DELETE".to_owned()]),
        resources: Some(of.iter().map(|name| (*name).to_owned()).collect()),
        resource_names: Some(names),
        scope: None,
    };
    let own = || vec![resources::OPERATOR.to_owned()];
    let rights = ["roles", "rolebindings", "clusterroles", "clusterrolebindings"];
    let condition = |name: &str, expression: String| MatchCondition { name: name.into(), expression };
    ValidatingAdmissionPolicy {
        metadata: metadata(),
        spec: Some(ValidatingAdmissionPolicySpec {
            // Without the definition of MeshInstall there is no MeshInstall.
            failure_policy: Some("Ignore".into()),
            param_kind: Some(ParamKind {
                api_version: Some("install.forestay.dev/v1alpha1".into()),
                kind: Some("MeshInstall".into()),
            }),
            match_constraints: Some(MatchResources {
                resource_rules: Some(vec![
                    rule("apiextensions.k8s.io", &["customresourcedefinitions"], definitions),
                    rule("", &["namespaces"], vec![namespace.to_owned()]),
                    rule("", &["serviceaccounts"], own()),
                    rule("apps", &["deployments"], own()),
                    rule("rbac.authorization.k8s.io", &rights, own()),
                ]),
                ..MatchResources::default()
            }),
            match_conditions: Some(vec![
                // Cluster-scoped objects have no namespace in a request, and a Namespace has its own name.
                condition("ours", format!("!has(request.namespace) || request.namespace in ['', '{namespace}']")),
                // The controllers of Kubernetes finish what was let through.
                condition(
                    "not-kubernetes",
                    "!('system:serviceaccounts:kube-system' in request.userInfo.groups)".into(),
                ),
                // The operator purges definitions.
                condition(
                    "not-the-operator",
                    format!("request.userInfo.username != 'system:serviceaccount:{namespace}:{}'", resources::OPERATOR),
                ),
            ]),
            validations: Some(vec![Validation {
                expression: "false".into(),
                message: Some("a MeshInstall is still there: delete it first (kubectl get meshinstalls)".into()),
                message_expression: Some(REFUSAL.into()),
                reason: Some("Forbidden".into()),
            }]),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        status: None,
    }
}

/// The policy in force, for every MeshInstall.
fn binding() -> ValidatingAdmissionPolicyBinding {
    ValidatingAdmissionPolicyBinding {
        metadata: metadata(),
        spec: Some(ValidatingAdmissionPolicyBindingSpec {
            policy_name: Some(resources::GUARD.into()),
            param_ref: Some(ParamRef {
                selector: Some(LabelSelector::default()),
                parameter_not_found_action: Some("Allow".into()),
                ..ParamRef::default()
            }),
            validation_actions: Some(vec!["Deny".into()]),
            match_resources: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn it_guards_what_the_operator_needs_in_its_own_namespace() {
        let [policy, binding] = render("elsewhere").unwrap();
        let text = serde_json::to_string(&policy.object).unwrap();
        for part in [
            "meshinstalls.install.forestay.dev",
            "meshrevisiontags.install.forestay.dev",
            "virtualservices.networking.istio.io",
            "request.namespace in ['', 'elsewhere']",
            "system:serviceaccount:elsewhere:forestay-operator",
            "clusterrolebindings",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(binding.object.data["spec"]["paramRef"]["parameterNotFoundAction"], "Allow");
        assert_eq!(binding.object.data["spec"]["paramRef"]["selector"], serde_json::json!({}));
    }
}
