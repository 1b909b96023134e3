//! A text of YAML or JSON with its documents injected; pure.
//!
//! What is not injected stays as it is written, with its comments, at its place. An injected document is written anew:
//! as JSON where it was JSON, else as YAML.

use webhook::inject::inject_document;
use webhook::inject::settings::Settings;

use crate::exit::Code;
use crate::input::Source;

/// A text after injection.
#[derive(Debug)]
pub(super) struct Injected {
    pub(super) text: String,
    /// What the user should know, each a line.
    pub(super) warnings: Vec<String>,
}

/// A document that cannot be injected: which one, and why.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) code: Code,
}

/// Injects the workloads of a text. All that is wrong is said at once.
pub(super) fn text(source: &Source, settings: &Settings, namespace: &str) -> Result<Injected, Vec<Problem>> {
    let (mut written, mut warnings, mut problems, mut any) = (Vec::new(), Vec::new(), Vec::new(), false);
    for part in crds::yaml::parts(&source.text) {
        let place = format!("{}:{} (document {})", source.display(), part.line, part.index + 1);
        let mut problem = |code, message: String| problems.push(Problem { message, code });
        let document = match part.document() {
            Ok(Some(document)) if document.value.is_object() => document,
            // Comments, or something that is no object of Kubernetes.
            Ok(_) => {
                written.push(part.text.to_owned());
                continue;
            }
            Err(error) => {
                // The error's own place is the more exact one.
                let place = format!("{}:{}", source.display(), error.line);
                problem(Code::Data, format!("{place}: not YAML: {error}"));
                continue;
            }
        };
        let outcome = match inject_document(&document.value, settings, namespace) {
            Ok(outcome) => outcome,
            Err(error) => {
                problem(Code::Failed, format!("{place}: {error}"));
                continue;
            }
        };
        warnings.extend(outcome.warnings);
        if !outcome.injected {
            written.push(part.text.to_owned());
            continue;
        }
        any = true;
        let rendered = if part.is_json() {
            serde_json::to_string_pretty(&outcome.document).map(|json| json + "\n").map_err(|error| error.to_string())
        } else {
            crds::yaml::to_string_1_1(outcome.document).map_err(|error| error.to_string())
        };
        match rendered {
            Ok(text) => written.push(text),
            Err(error) => problem(Code::Failed, format!("{place}: cannot be written: {error}")),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // Nothing to do: not even the separators change.
    let text = if any { join(&written) } else { source.text.clone() };
    Ok(Injected { text, warnings })
}

/// Puts documents, or texts of them, one after the other.
pub(super) fn join(texts: &[String]) -> String {
    let mut all = String::new();
    for text in texts {
        if all.is_empty() {
            all.push_str(text.trim_start_matches('\n'));
            continue;
        }
        if !all.ends_with('\n') {
            all.push('\n');
        }
        if text.starts_with("---") {
            all.push_str(text);
            continue;
        }
        all.push_str("---");
        // What stands on the separator's own line (a comment) stays there.
        if !text.starts_with(char::is_whitespace) {
            all.push('\n');
        }
        all.push_str(text);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use webhook::inject::settings::Settings;

    use super::{Code, Source, join, text};

    fn settings() -> Settings {
        let data = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        Settings::read("default", &data(&[("mesh", "")]), &data(&[("config", ""), ("values", "{}")]), true).unwrap()
    }

    fn source(text: &str) -> Source {
        Source { name: "app.yaml".to_owned(), text: text.to_owned() }
    }

    const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  selector: {}\n  \
                              template:\n    metadata: {labels: {app: a}}\n    spec:\n      containers: [{name: a, \
                              image: a}]\n";

    fn injected(input: &str) -> (String, Vec<String>) {
        let injected = text(&source(input), &settings(), "default").unwrap();
        (injected.text, injected.warnings)
    }

    #[test]
    fn what_has_no_pods_stays_as_it_is_written() {
        let rows = [
            "",
            "# only a comment\n",
            "---\n# a Service\napiVersion: v1\nkind: Service\nmetadata: {name: a} # here\n---\n---\njust text\n",
            "{\"apiVersion\": \"v1\", \"kind\": \"Service\"}",
            "apiVersion: v1\r\nkind: Service\r\n---\r\nkind: X\r\n",
        ];
        for text in rows {
            assert_eq!(injected(text).0, text);
        }
    }

    #[test]
    fn the_others_keep_their_place_and_their_text() {
        let service = "# the Service\napiVersion: v1\nkind: Service\nmetadata: {name: a} # here\n";
        let (found, _) = injected(&format!("---\n{service}---\n{DEPLOYMENT}--- # last\nkind: X\n"));
        assert!(found.starts_with(&format!("{service}---\napiVersion: apps/v1\nkind: Deployment\n")), "{found}");
        assert!(found.ends_with("\n--- # last\nkind: X\n"), "{found}");
        assert_eq!(found.matches("name: istio-proxy\n").count(), 1, "{found}");
        assert_eq!(crds::yaml::documents(&found).len(), 3);
    }

    /// `kubectl` would read `value: yes` as a boolean, and the API server refuse it.
    #[test]
    fn strings_stay_strings_to_kubectl() {
        let input = DEPLOYMENT
            .replace("image: a}", "image: a, args: [\"yes\", \"1_0\"], env: [{name: \"ON\", value: \"off\"}]}");
        let (found, _) = injected(&input);
        for part in ["- \"yes\"\n", "- \"1_0\"\n", "name: \"ON\"\n", "value: \"off\"\n"] {
            assert!(found.contains(part), "{part}: {found}");
        }
    }

    #[test]
    fn json_stays_json() {
        let json = crds::yaml::value(DEPLOYMENT).unwrap().to_string();
        let (found, _) = injected(&json);
        let document: serde_json::Value = serde_json::from_str(&found).unwrap();
        assert!(document["spec"]["template"]["spec"]["initContainers"].is_array(), "{found}");
        let (found, _) = injected(&format!("{json}\n{json}"));
        assert_eq!(crds::yaml::documents(&found).len(), 2, "{found}");
    }

    #[test]
    fn all_mistakes_are_said_at_once_and_nothing_is_injected() {
        let bad = DEPLOYMENT.replace("{labels: {app: a}}", "{annotations: {sidecar.istio.io/proxyCPU: many}}");
        let input = format!("{DEPLOYMENT}---\na: [\n---\n{bad}");
        let problems = text(&source(&input), &settings(), "default").unwrap_err();
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), [Code::Data, Code::Failed]);
        assert!(messages[0].starts_with("app.yaml:1") && messages[0].contains("document 2"), "{messages:?}");
        assert!(messages[1].starts_with("app.yaml:12 (document 3): Deployment \"a\""), "{messages:?}");
        assert!(messages[1].contains("sidecar.istio.io/proxyCPU"), "{messages:?}");
    }

    #[test]
    fn texts_are_joined_as_documents() {
        let rows: [(&[&str], &str); 5] = [
            (&[], ""),
            (&["a: 1\n", "b: 2\n"], "a: 1\n---\nb: 2\n"),
            (&["a: 1", "b: 2"], "a: 1\n---\nb: 2"),
            (&["\na: 1\n", "\nb: 2\n"], "a: 1\n---\nb: 2\n"),
            (&["a: 1\n", "--- # c\nb: 2\n"], "a: 1\n--- # c\nb: 2\n"),
        ];
        for (texts, expected) in rows {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(join(&texts), expected);
        }
    }
}
