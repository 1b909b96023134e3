//! What every answer has to be, whatever the question was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use forestay_webhook::Answer;
use json_patch::Patch;
use proptest::prelude::*;
use serde_json::Value;

/// An answer as the API server reads it.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) allowed: bool,
    pub(crate) patch: Option<Patch>,
    pub(crate) message: String,
    pub(crate) warnings: Vec<String>,
}

/// Reads an answer as the API server does, and holds it to the contract of `admission.k8s.io/v1`.
pub(crate) fn read(answer: &Answer, uid: Option<&str>) -> Result<Read, TestCaseError> {
    let bytes = answer.to_json();
    let review: Value =
        serde_json::from_slice(&bytes).map_err(|error| TestCaseError::fail(format!("not JSON: {error}")))?;
    prop_assert_eq!(&review["apiVersion"], "admission.k8s.io/v1");
    prop_assert_eq!(&review["kind"], "AdmissionReview");
    prop_assert_eq!(review.as_object().map(serde_json::Map::len), Some(3), "{}", review);
    let response = &review["response"];
    if let Some(uid) = uid {
        prop_assert_eq!(response["uid"].as_str(), Some(uid), "the answer is to another question");
    }
    prop_assert!(response["uid"].is_string() && response["allowed"].is_boolean(), "{}", response);
    let known = ["uid", "allowed", "patchType", "patch", "status", "warnings"];
    let unknown = response.as_object().into_iter().flatten().find(|(name, _)| !known.contains(&name.as_str()));
    prop_assert!(unknown.is_none(), "{:?}", unknown);

    let allowed = response["allowed"] == true;
    let message = response.pointer("/status/message").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !allowed {
        let code = response.pointer("/status/code").and_then(Value::as_u64).unwrap_or_default();
        prop_assert!((400..600).contains(&code), "{}", response);
        prop_assert!(!message.is_empty(), "{}", response);
        prop_assert!(response.get("patch").is_none(), "refused and patched");
    }
    let patch = match response.get("patch") {
        None => None,
        Some(text) => {
            prop_assert_eq!(&response["patchType"], "JSONPatch");
            let bytes = BASE64.decode(text.as_str().unwrap_or_default());
            let bytes = bytes.map_err(|error| TestCaseError::fail(error.to_string()))?;
            Some(serde_json::from_slice(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?)
        }
    };
    let warnings: Vec<String> = match response.get("warnings") {
        None => Vec::new(),
        Some(list) => serde_json::from_value(list.clone()).map_err(|error| TestCaseError::fail(error.to_string()))?,
    };
    let mut total = 0;
    for warning in &warnings {
        let length = warning.chars().count();
        total += length;
        prop_assert!((1..=256).contains(&length), "a warning of {} characters", length);
        prop_assert!(!warning.chars().any(char::is_control), "a header carries it: {:?}", warning);
    }
    prop_assert!(total <= 4096, "warnings of {} characters", total);
    Ok(Read { allowed, patch, message, warnings })
}
