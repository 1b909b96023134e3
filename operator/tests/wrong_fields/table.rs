//! The rows of `rows.yaml` as objects to try; shared by the operator's unit test and the scenario on a real API server.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One wrong value, and what is said about it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    #[serde(default = "mesh_install")]
    pub(crate) kind: String,
    /// The field's path in the schema.
    pub(crate) field: String,
    value: Value,
    #[serde(default)]
    with: Map<String, Value>,
    /// What the API server refuses it by.
    #[serde(default)]
    pub(crate) refused: Option<String>,
    /// The reason of the condition.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// What the condition says.
    #[serde(default)]
    pub(crate) says: String,
    /// Whether it is tried on a running mesh.
    #[serde(default)]
    #[allow(dead_code)] // of two users one runs a mesh
    pub(crate) cluster: bool,
}

/// As the file has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Row(Box<Row>),
    Rows { at: Vec<String>, rows: Vec<Row> },
}

fn mesh_install() -> String {
    "MeshInstall".to_owned()
}

/// Every row, those of several places once for each.
pub(crate) fn rows() -> Vec<Row> {
    let value = crds::yaml::value(include_str!("rows.yaml")).expect("YAML");
    let entries: Vec<Entry> = serde_json::from_value(value).expect("rows");
    let expand = |entry| match entry {
        Entry::Row(row) => vec![*row],
        Entry::Rows { at, rows } => at
            .iter()
            .flat_map(|place| {
                rows.iter().map(move |row| Row {
                    field: format!("{place}.{}", row.field),
                    says: row.says.replace("AT", &place.replace("[]", "[0]")),
                    ..row.clone()
                })
            })
            .collect(),
    };
    entries.into_iter().flat_map(expand).collect()
}

impl Row {
    /// An object with the wrong value, and what has to be beside it.
    pub(crate) fn object(&self, name: &str) -> Value {
        let mut object = json!({
            "apiVersion": "install.forestay.dev/v1alpha1", "kind": self.kind,
            "metadata": {"name": name}, "spec": {},
        });
        if self.kind != "MeshInstall" {
            object["spec"] = json!({"targetRef": {"name": "default"}});
        }
        let steps: Vec<&str> = self.field.split('.').collect();
        let (last, parents) = steps.split_last().expect("a field");
        let mut at = &mut object;
        for step in parents {
            let (member, of_a_list) = step.strip_suffix("[]").map_or((*step, false), |member| (member, true));
            at = at.as_object_mut().expect("an object").entry(member).or_insert_with(|| {
                let neighbours = neighbours(member);
                if of_a_list { json!([neighbours]) } else { neighbours }
            });
            if of_a_list {
                at = &mut at[0];
            }
        }
        let members = at.as_object_mut().expect("an object");
        members.extend(self.with.clone());
        members.insert((*last).to_owned(), self.value.clone());
        object
    }
}

/// What a member cannot be without.
fn neighbours(member: &str) -> Value {
    match member {
        "gateways" => json!({"name": "more"}),
        "ports" => json!({"name": "http-more", "port": 8000}),
        "env" => json!({"name": "A"}),
        "overlays" => json!({"kind": "Deployment", "patch": {}}),
        "imagePullSecrets" => json!({"name": "a"}),
        "autoscaling" => json!({"maxReplicas": 2}),
        _ => json!({}),
    }
}
