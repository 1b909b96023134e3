//! Brings addons in, each by itself: what is somebody else's is left alone, what the API server refuses is told, and the
//! mesh goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::install::condition::Reason;
use kube::Client;
use kube::api::DynamicObject;

use super::AddonKind;
use crate::live::Live;
use crate::meshinstall::apply::{self, ApplyError, Done, Outcome};
use crate::meshinstall::build::Rendered;
use crate::meshinstall::mesh::{Component, Mesh};
use crate::meshinstall::prune;

/// An addon that could not be brought in as the spec says, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) addon: AddonKind,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// Takes the addons' objects out of what was rendered.
pub(crate) fn split(objects: Vec<Rendered>) -> (Vec<Rendered>, BTreeMap<AddonKind, Vec<Rendered>>) {
    let mut addons: BTreeMap<AddonKind, Vec<Rendered>> = BTreeMap::new();
    let mut rest = Vec::new();
    for rendered in objects {
        match rendered.component {
            Component::Addon(kind) => addons.entry(kind).or_default().push(rendered),
            _ => rest.push(rendered),
        }
    }
    (rest, addons)
}

/// Brings every addon in that can be.
pub(crate) async fn apply(
    client: &Client,
    live: &Live,
    mesh: &Mesh,
    addons: BTreeMap<AddonKind, Vec<Rendered>>,
    installs: &[String],
) -> (Vec<Outcome>, Vec<Trouble>) {
    let (mut outcomes, mut troubles) = (Vec::new(), Vec::new());
    for (addon, objects) in addons {
        let mut found = Vec::with_capacity(objects.len());
        for rendered in &objects {
            found.push(apply::find(client, live, mesh, rendered, installs).await);
        }
        // A claim alone is what is left of one that it had once.
        let is_there = objects
            .iter()
            .zip(&found)
            .any(|(rendered, found)| !prune::is_claim(&rendered.resource) && matches!(found, Ok(Some(_))));
        if let Some(trouble) = obstacle(mesh, addon, &found, is_there) {
            troubles.push(trouble);
            outcomes.extend(as_they_are(objects, found));
            continue;
        }
        let mut trouble = None;
        for (rendered, current) in objects.into_iter().zip(found.into_iter().flatten()) {
            if trouble.is_some() {
                outcomes.extend(as_they_are(vec![rendered], vec![Ok(current)]));
                continue;
            }
            match apply::bring_in(client, rendered.clone(), current.clone(), true).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    trouble = Some(failed(addon, Reason::ApplyFailed, &error));
                    outcomes.extend(as_they_are(vec![rendered], vec![Ok(current)]));
                }
            }
        }
        troubles.extend(trouble);
    }
    (outcomes, troubles)
}

type Found = Result<Option<Arc<DynamicObject>>, ApplyError>;

/// What keeps an addon from being brought in: somebody else's object, another MeshInstall, an API server that does not
/// answer. `is_there` says that this MeshInstall has the addon already.
fn obstacle(mesh: &Mesh, addon: AddonKind, found: &[Found], is_there: bool) -> Option<Trouble> {
    let error = found.iter().find_map(|one| one.as_ref().err());
    if let Some(error) = error {
        return Some(match error {
            ApplyError::Foreign { object, installed_by: Some(other), .. } => Trouble {
                addon,
                reason: Reason::AddonTaken,
                message: format!(
                    "spec.addons.{}: {object} is MeshInstall {other}'s; several revisions of a namespace share one, so switch it \
                     off in one of the two.",
                    addon.as_str()
                ),
            },
            ApplyError::Foreign { object, owner, .. } => Trouble {
                addon,
                reason: Reason::ForeignObject,
                message: format!(
                    "spec.addons.{0}: {object} exists and was not made by the operator ({owner}), so {0} is left as it is; remove \
                     that object to get the operator's, or set spec.addons.{0}.enabled to false.",
                    addon.as_str()
                ),
            },
            ApplyError::Request { .. } | ApplyError::Overtaken { .. } => failed(addon, Reason::ApplyFailed, error),
        });
    }
    // Two that begin at the same time: the older one has it. One that has it already keeps it.
    let older = mesh.addons.contested.get(&addon).filter(|_| !is_there)?;
    Some(Trouble {
        addon,
        reason: Reason::AddonTaken,
        message: format!(
            "spec.addons.{}: MeshInstall {older}, which is older, asks for one in this namespace too; several revisions share \
             one, so switch it off in one of the two.",
            addon.as_str()
        ),
    })
}

fn failed(addon: AddonKind, reason: Reason, error: &ApplyError) -> Trouble {
    Trouble { addon, reason, message: format!("spec.addons.{}: {error}.", addon.as_str()) }
}

/// What is there of an addon that is not brought in, and is ours: it stays, and is not superfluous.
fn as_they_are(objects: Vec<Rendered>, found: Vec<Found>) -> Vec<Outcome> {
    let ours = objects.into_iter().zip(found).filter_map(|(rendered, found)| Some((rendered, found.ok()??)));
    ours.map(|(rendered, current)| Outcome { rendered, current: Some(current), done: Done::Ignored, later: false })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crds::install::condition::Reason;
    use kube::api::DynamicObject;
    use serde_json::json;

    use super::super::AddonKind;
    use super::super::tests::mesh;
    use super::{ApplyError, Found, obstacle};

    fn foreign(installed_by: Option<&str>) -> Found {
        Err(ApplyError::Foreign {
            object: "Deployment istio-system/prometheus".into(),
            owner: "nothing says who manages it".into(),
            installed_by: installed_by.map(str::to_owned),
        })
    }

    fn ours() -> Arc<DynamicObject> {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "prometheus"}});
        Arc::new(serde_json::from_value::<DynamicObject>(object).expect("an object"))
    }

    #[test]
    fn one_of_several_has_an_addon_and_nothing_is_taken_over() {
        let plain = mesh(json!({"addons": {"prometheus": {}}}));
        let mut contested = plain.clone();
        contested.addons.contested = [(AddonKind::Prometheus, "first".to_owned())].into();
        for (name, mesh, found, reason, message) in [
            ("nothing there", &plain, vec![Ok(None)], None, ""),
            ("ours", &plain, vec![Ok(Some(ours())), Ok(None)], None, ""),
            (
                "the samples' own",
                &plain,
                vec![Ok(None), foreign(None)],
                Some(Reason::ForeignObject),
                "spec.addons.prometheus: Deployment istio-system/prometheus exists and was not made by the operator",
            ),
            (
                "another install's",
                &plain,
                vec![foreign(Some("first"))],
                Some(Reason::AddonTaken),
                "spec.addons.prometheus: Deployment istio-system/prometheus is MeshInstall first's; several revisions",
            ),
            (
                "two begin at once, this one is younger",
                &contested,
                vec![Ok(None), Ok(None)],
                Some(Reason::AddonTaken),
                "spec.addons.prometheus: MeshInstall first, which is older, asks for one",
            ),
            ("the younger one has it already", &contested, vec![Ok(Some(ours())), Ok(None)], None, ""),
        ] {
            let is_there = found.iter().any(|one| matches!(one, Ok(Some(_))));
            let trouble = obstacle(mesh, AddonKind::Prometheus, &found, is_there);
            assert_eq!(trouble.as_ref().map(|trouble| trouble.reason), reason, "{name}");
            let found = trouble.map(|trouble| trouble.message).unwrap_or_default();
            assert!(found.starts_with(message), "{name}: {found}");
        }
    }
}
