//! Templates: which of them a pod asks for, and what each adds to it.
//!
//! * `builtin`: `sidecar`, `gateway`, `grpc-simple` and `grpc-agent`, in Rust
//! * `go` (with `blocks`): the user's own, in Go's template syntax, within bounds; `functions`: what they may call;
//!   `data`: what they see
//!
//! A template's result is a fragment of a pod, which is merged over the pod.

mod blocks;
mod builtin;
mod data;
mod functions;
mod go;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use self::go::GoTemplate;
use super::settings::Settings;
use super::subject::Subject;
use super::{InjectError, annotations};

/// The template of pods that name none.
pub(crate) const SIDECAR: &str = "sidecar";
/// Proxyless gRPC with an agent.
pub(crate) const GRPC_AGENT: &str = "grpc-agent";
/// Proxyless gRPC without one.
pub(crate) const GRPC_SIMPLE: &str = "grpc-simple";
/// A gateway by injection.
pub(crate) const GATEWAY: &str = "gateway";
const BUILT_IN: [&str; 4] = [SIDECAR, GATEWAY, GRPC_SIMPLE, GRPC_AGENT];
/// More is a mistake, and each is work.
const MOST: usize = 32;

/// A user's template: parsed, or why it cannot be.
#[derive(Clone, Debug)]
pub(crate) struct UserTemplate(Result<Arc<GoTemplate>, String>);

impl UserTemplate {
    pub(crate) fn parse(name: &str, text: &str) -> Self {
        Self(GoTemplate::parse(name, text).map(Arc::new))
    }

    pub(crate) fn checked(&self) -> Result<&GoTemplate, &str> {
        self.0.as_deref().map_err(String::as_str)
    }
}

/// A template that a pod asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Chosen<'a> {
    BuiltIn(&'a str),
    User(&'a str, &'a GoTemplate),
}

impl<'a> Chosen<'a> {
    pub(crate) fn name(&self) -> &'a str {
        match self {
            Self::BuiltIn(name) | Self::User(name, _) => name,
        }
    }

    /// The name, if it is a user's.
    pub(crate) fn users(&self) -> Option<&'a str> {
        match self {
            Self::BuiltIn(_) => None,
            Self::User(name, _) => Some(name),
        }
    }

    /// Whether this is one of ours, of this name.
    pub(crate) fn is(&self, name: &str) -> bool {
        matches!(self, Self::BuiltIn(own) if *own == name)
    }
}

/// Templates by annotation, else by the settings, in order; an alias stands for others, one level deep.
pub(crate) fn choose<'a>(
    pod_annotations: &BTreeMap<String, String>,
    settings: &'a Settings,
) -> Result<Vec<Chosen<'a>>, InjectError> {
    let requested: Vec<&str> = match pod_annotations.get(annotations::TEMPLATES) {
        Some(names) => names.split(',').map(str::trim).collect(),
        None => settings.config.default_templates.iter().map(String::as_str).collect(),
    };
    let names: Vec<&str> = requested
        .into_iter()
        .flat_map(|name| match settings.config.aliases.get(name) {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => vec![name],
        })
        .collect();
    if names.len() > MOST {
        let name = annotations::TEMPLATES;
        return Err(InjectError::Annotations(vec![format!(
            "annotation '{name}' asks for {} templates; {MOST} is the most",
            names.len()
        )]));
    }
    names.into_iter().map(|name| find(name, settings)).collect()
}

/// The user's templates go before ours.
fn find<'a>(name: &str, settings: &'a Settings) -> Result<Chosen<'a>, InjectError> {
    if let Some((name, template)) = settings.templates.get_key_value(name) {
        let broken = |problem: &str| InjectError::BrokenTemplate { name: name.clone(), problem: problem.to_owned() };
        return template.checked().map(|template| Chosen::User(name, template)).map_err(broken);
    }
    if let Some(own) = BUILT_IN.iter().find(|own| **own == name) {
        return Ok(Chosen::BuiltIn(own));
    }
    let mut have: Vec<&str> = BUILT_IN.iter().copied().chain(settings.templates.keys().map(String::as_str)).collect();
    have.sort_unstable();
    have.dedup();
    Err(InjectError::Template { name: name.to_owned(), have: have.join(", ") })
}

/// What the templates add, in order; with what the user should know of each.
pub(crate) fn render(
    chosen: &[Chosen<'_>],
    subject: &Subject<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Value>, InjectError> {
    // Made once, and only for pods that need it.
    let mut seen = None;
    chosen
        .iter()
        .map(|template| match template {
            Chosen::BuiltIn(name) => Ok(builtin::render(name, subject)),
            Chosen::User(name, template) => {
                let failed = |problem: String| InjectError::TemplateResult { name: (*name).to_owned(), problem };
                let data = seen.get_or_insert_with(|| data::of(subject));
                let environment = &subject.settings.values.pilot.env;
                let text = template.run(data, environment).map_err(failed)?;
                if text.contains("<no value>") {
                    warnings
                        .push(format!("template \"{name}\" writes \"<no value>\": it reads a value that is not set"));
                }
                fragment(&text).map_err(failed)
            }
        })
        .collect()
}

/// A template's text as a fragment of a pod; one that writes nothing adds nothing.
fn fragment(text: &str) -> Result<Value, String> {
    match crds::yaml::value(text) {
        Ok(Value::Null) => Ok(Value::Object(serde_json::Map::new())),
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(_) => Err("it writes no fields of a pod".to_owned()),
        Err(error) => {
            let line = text.lines().nth(error.line.saturating_sub(1)).unwrap_or_default().trim();
            let line: String = line.chars().take(80).collect();
            Err(format!("it writes what is not YAML, line {}: {}: {line}", error.line, error.message))
        }
    }
}

#[cfg(test)]
mod tests;
