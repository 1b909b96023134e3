//! Header changes of a VirtualService.

use std::collections::BTreeMap;

use crds::networking::virtual_service::Headers;
use xds::types::core::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction};

/// Header changes as routes and weighted clusters take them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operations {
    pub(crate) request_add: Vec<HeaderValueOption>,
    pub(crate) request_remove: Vec<String>,
    pub(crate) response_add: Vec<HeaderValueOption>,
    pub(crate) response_remove: Vec<String>,
    /// The authority is no header that can be set like another: it is a rewrite of the host.
    pub(crate) authority: Option<String>,
}

/// What the rule says, in Envoy's terms: set, then add, then remove.
pub(crate) fn operations(headers: Option<&Headers>) -> Operations {
    let Some(headers) = headers else { return Operations::default() };
    let mut out = Operations::default();
    if let Some(request) = &headers.request {
        out.request_add = changes(&request.set, &request.add);
        out.request_remove = removals(&request.remove);
        out.authority = authority(&request.set).or_else(|| authority(&request.add));
    }
    if let Some(response) = &headers.response {
        out.response_add = changes(&response.set, &response.add);
        out.response_remove = removals(&response.remove);
    }
    out
}

fn changes(set: &BTreeMap<String, String>, add: &BTreeMap<String, String>) -> Vec<HeaderValueOption> {
    let change = |action: HeaderAppendAction| {
        move |(key, value): (&String, &String)| HeaderValueOption {
            header: Some(HeaderValue { key: key.clone(), value: value.clone(), ..Default::default() }),
            append_action: action.into(),
            ..Default::default()
        }
    };
    let changeable = |entry: &(&String, &String)| !is_reserved(entry.0);
    set.iter()
        .filter(changeable)
        .map(change(HeaderAppendAction::OverwriteIfExistsOrAdd))
        .chain(add.iter().filter(changeable).map(change(HeaderAppendAction::AppendIfExistsOrAdd)))
        .collect()
}

fn removals(remove: &[String]) -> Vec<String> {
    remove.iter().filter(|key| !is_reserved(key)).cloned().collect()
}

/// Envoy refuses a route configuration that changes one of these.
fn is_reserved(key: &str) -> bool {
    key.starts_with(':') || key.eq_ignore_ascii_case("host")
}

fn authority(headers: &BTreeMap<String, String>) -> Option<String> {
    let is_authority = |key: &str| key.eq_ignore_ascii_case(":authority") || key.eq_ignore_ascii_case("host");
    headers.iter().find(|(key, _)| is_authority(key)).map(|(_, value)| value.clone())
}
