//! Whether the cluster has the definitions of Istio's kinds, and how they differ from those of this version. The operator
//! never writes them: an older one would take fields away from objects that somebody counts on.
//!
//! A watch of their metadata says when one has changed; only then it is read whole. [`judge`] is pure.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crds::install::condition::Reason;
use crds::kinds::Kind;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ApiResource;
use kube::api::{Api, DynamicObject};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use serde_json::Value;
use tracing::warn;

use crate::answer::words;
use crate::live::Live;
use crate::meshinstall::status::{Truth, Verdict};

/// `<plural>.<group>`.
fn name(kind: Kind) -> String {
    format!("{}.{}", kind.plural(), kind.group())
}

/// The names of Istio's definitions.
pub(crate) fn names() -> Vec<String> {
    Kind::ALL.iter().map(|kind| name(*kind)).collect()
}

/// Whether a definition is one of Istio's.
pub(crate) fn is_of_the_mesh(definition: &str) -> bool {
    Kind::ALL.iter().any(|kind| name(*kind) == definition)
}

/// How one definition differs from ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Why the control plane cannot read the kind.
    unusable: Option<String>,
    /// Versions and fields that this version does not know.
    unknown: Vec<String>,
    /// Fields that the API server drops without a word, because its definition does not have them.
    lacking: Vec<String>,
}

/// What is known about all definitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings(Vec<(String, Finding)>);

/// The definitions that were read, each with the version that it had.
#[derive(Default)]
pub(crate) struct Definitions(Mutex<HashMap<String, (String, Finding)>>);

impl Definitions {
    /// Looks at those that have changed. None while one cannot be read.
    pub(crate) async fn look(&self, client: &Client, live: &Live) -> Option<Findings> {
        let mut all = Vec::new();
        for kind in Kind::ALL {
            let name = name(*kind);
            let watched = live.definitions.get(&ObjectRef::new(&name));
            let finding = match watched.and_then(|metadata| metadata.resource_version()) {
                None => judge(*kind, None),
                Some(version) => match self.known(&name, &version) {
                    Some(finding) => finding,
                    None => self.read(client, *kind, version).await?,
                },
            };
            all.push((name, finding));
        }
        Some(Findings(all))
    }

    fn known(&self, name: &str, version: &str) -> Option<Finding> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).filter(|(of, _)| of == version).map(|(_, finding)| finding.clone())
    }

    async fn read(&self, client: &Client, kind: Kind, version: String) -> Option<Finding> {
        let name = name(kind);
        let resource = ApiResource::erase::<CustomResourceDefinition>(&());
        let found = match Api::<DynamicObject>::all_with(client.clone(), &resource).get_opt(&name).await {
            Ok(found) => found,
            Err(error) => {
                warn!(definition = %name, "cannot be read: {}", words(&error));
                return None;
            }
        };
        let finding = judge(kind, found.as_ref().map(|found| &found.data));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name, (version, finding.clone()));
        Some(finding)
    }
}

/// Compares a definition (its `spec` and `status`) with ours.
fn judge(kind: Kind, found: Option<&Value>) -> Finding {
    let Some(found) = found else {
        return Finding { unusable: Some("is missing".to_owned()), ..Finding::default() };
    };
    let versions = found.pointer("/spec/versions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = |version: &Value| version["name"].as_str().unwrap_or_default().to_owned();
    let needed = kind.stored_version();
    let mut finding = Finding::default();
    let served = versions.iter().find(|version| named(version) == needed && version["served"] == true);
    let Some(served) = served else {
        finding.unusable = Some(format!("does not serve version {needed}"));
        return finding;
    };
    let foreign = versions.iter().map(named).filter(|name| !kind.versions().contains(&name.as_str()));
    finding.unknown = foreign.map(|name| format!("version {name}")).collect();
    let ours = kind.schema();
    let ours = &ours["properties"]["spec"];
    let theirs = &served["schema"]["openAPIV3Schema"]["properties"]["spec"];
    differences(theirs, ours, "spec", &mut finding.unknown);
    differences(ours, theirs, "spec", &mut finding.lacking);
    finding
}

/// The fields that `a` has and `b` does not, each with its path.
fn differences(a: &Value, b: &Value, path: &str, into: &mut Vec<String>) {
    // Whatever is written is kept there.
    if b["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    for (name, inner) in a["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match b["properties"].get(name) {
            Some(other) => differences(inner, other, &path, into),
            None => into.push(path),
        }
    }
    for (keyword, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if a[keyword].is_object() && b[keyword].is_object() {
            differences(&a[keyword], &b[keyword], &format!("{path}{mark}"), into);
        }
    }
}

impl Findings {
    /// What the condition says.
    pub(crate) fn verdict(&self) -> Verdict {
        let unusable: Vec<String> =
            self.0.iter().filter_map(|(name, of)| Some(format!("{name} {}", of.unusable.as_ref()?))).collect();
        if !unusable.is_empty() {
            let message = format!(
                "CustomResourceDefinition {}: rules of the kind cannot be made or are not read; apply config/crd of version {}. \
                 What runs goes on with the rules that it has.",
                shortened(&unusable),
                ::names::VERSION
            );
            return Verdict::failed(Reason::DefinitionsMissing, message);
        }
        let of = |which: fn(&Finding) -> &Vec<String>| -> Vec<String> {
            let all = self.0.iter().flat_map(|(name, of)| which(of).iter().map(move |what| format!("{name} {what}")));
            all.collect()
        };
        let (unknown, lacking) = (of(|of| &of.unknown), of(|of| &of.lacking));
        let mut message = String::new();
        // Writing to a String cannot fail.
        if !lacking.is_empty() {
            let _ = write!(
                message,
                "The cluster's definitions are older and lack {}: the API server drops these fields; apply config/crd of \
                 version {}. ",
                shortened(&lacking),
                ::names::VERSION
            );
        }
        if !unknown.is_empty() {
            let _ = write!(
                message,
                "The cluster's definitions are newer and have {}, which version {} does not know: it has no effect. The \
                 operator leaves them as they are.",
                shortened(&unknown),
                ::names::VERSION
            );
        }
        if message.is_empty() {
            return Verdict { truth: Truth::True, reason: Reason::DefinitionsCurrent, message: CURRENT.to_owned() };
        }
        Verdict { truth: Truth::True, reason: Reason::DefinitionsDiffer, message: message.trim_end().to_owned() }
    }
}

const CURRENT: &str = "The definitions of all of Istio's kinds are there, as this version ships them.";

fn shortened(all: &[String]) -> String {
    const MOST: usize = 5;
    let shown = all.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(MOST).filter(|more| *more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use crds::install::condition::Reason;
    use crds::kinds::Kind;
    use serde_json::{Value, json};

    use super::{Finding, Findings, is_of_the_mesh, judge};
    use crate::meshinstall::status::Truth;

    fn ours(kind: Kind) -> Value {
        serde_json::to_value(kind.definition()).expect("a definition")
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Finding {
        let mut definition = ours(Kind::VirtualService);
        change(&mut definition);
        judge(Kind::VirtualService, Some(&definition))
    }

    #[test]
    fn our_own_definitions_do_not_differ() {
        for kind in Kind::ALL {
            assert_eq!(judge(*kind, Some(&ours(*kind))), Finding::default(), "{}", kind.name());
        }
        assert!(is_of_the_mesh("virtualservices.networking.istio.io"));
        assert!(!is_of_the_mesh("meshinstalls.install.forestay.dev"));
    }

    #[test]
    fn what_is_missing_older_or_newer_is_named_with_its_remedy() {
        fn properties(definition: &mut Value) -> &mut serde_json::Map<String, Value> {
            let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
            definition.pointer_mut(spec).and_then(Value::as_object_mut).expect("fields")
        }
        let rows = [
            (
                "missing",
                judge(Kind::VirtualService, None),
                Truth::False,
                "virtualservices.networking.istio.io is missing",
            ),
            (
                "another version alone",
                changed(|definition| definition["spec"]["versions"][0]["name"] = json!("v2")),
                Truth::False,
                "virtualservices.networking.istio.io does not serve version v1",
            ),
            (
                "a version more",
                changed(|definition| {
                    let mut next = definition["spec"]["versions"][0].clone();
                    next["name"] = json!("v2");
                    definition["spec"]["versions"].as_array_mut().expect("versions").push(next);
                }),
                Truth::True,
                "newer and have virtualservices.networking.istio.io version v2",
            ),
            (
                "a field more",
                changed(|definition| {
                    properties(definition).insert("shadow".to_owned(), json!({"type": "string"}));
                }),
                Truth::True,
                "newer and have virtualservices.networking.istio.io spec.shadow",
            ),
            (
                "a field less",
                changed(|definition| {
                    properties(definition).remove("exportTo");
                }),
                Truth::True,
                "older and lack virtualservices.networking.istio.io spec.exportTo",
            ),
        ];
        for (name, finding, truth, says) in rows {
            let all = Findings(vec![("virtualservices.networking.istio.io".to_owned(), finding)]);
            let verdict = all.verdict();
            assert_eq!(verdict.truth, truth, "{name}");
            assert!(verdict.message.contains(says), "{name}: {}", verdict.message);
        }
        let all = Findings(vec![(String::new(), Finding::default())]);
        assert_eq!(all.verdict().reason, Reason::DefinitionsCurrent);
    }
}
