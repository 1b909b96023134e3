//! The status that all of Istio's kinds share.

use serde_json::{Map, Value};

/// What is written to `.status` of an Istio object; free-form in the schema, so that every writer's fields survive.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct IstioStatus(pub Map<String, Value>);
