//! From two documents to the JSON Patch between them.

use json_patch::Patch;
use serde_json::Value;

/// The patch that turns `before` into `after`. Both are raw documents, so that fields which no type of ours knows
/// appear in neither side of the difference. `managedFields` are the API server's own.
pub fn between(before: &Value, after: &Value) -> Patch {
    json_patch::diff(before, after)
}
