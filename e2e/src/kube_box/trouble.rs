//! The few lines that tell why a scenario failed, for whoever has only the output of the run: what the mesh's programs
//! warned of, what Kubernetes warned of, and what the operator did last.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;

use super::KubeBox;

/// So many lines of each kind: what fits under a failure without hiding the next.
const WARNINGS: usize = 6;
const EVENTS: usize = 5;
const LAST: usize = 4;
/// Characters of a line: of a longer one its beginning, which says who and where, and its end, which says what.
const BEGINNING: usize = 120;
const END: usize = 200;
/// Namespaces of the programs whose warnings count.
const PROGRAMS: [&str; 2] = ["forestay-system", "istio-system"];
/// The API server may be what failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Something that was said, and how often.
struct Said {
    first: Timestamp,
    last: Timestamp,
    times: u64,
    text: String,
}

pub(crate) async fn since(kube_box: &KubeBox, begun: Timestamp) -> Vec<String> {
    let logs = logs(&kube_box.layout.path("podlogs"));
    let mut lines = told(&logs, begun);
    let question = ["get", "events", "-A", "--field-selector=type=Warning", "-o", "json"];
    let answer = tokio::time::timeout(PATIENCE, kube_box.kubectl_ok(&question)).await;
    lines.extend(match answer {
        Ok(Ok(list)) => events(&list, begun).unwrap_or_else(|error| vec![format!("events: {error:#}")]),
        Ok(Err(error)) => vec![cut(&format!("events: {error:#}"))],
        Err(_) => vec![format!("events: no answer within {} s", PATIENCE.as_secs())],
    });
    lines
}

/// The logs of the programs, each with the name of its pod. kubelet's folders: `<namespace>_<pod>_<uid>/<container>/<n>.log`.
fn logs(folder: &Path) -> Vec<(String, String)> {
    let mut logs = Vec::new();
    for pod in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = pod.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('_');
        let (Some(namespace), Some(pod_name)) = (parts.next(), parts.next()) else { continue };
        if !PROGRAMS.contains(&namespace) {
            continue;
        }
        for container in fs::read_dir(pod.path()).into_iter().flatten().flatten() {
            for file in fs::read_dir(container.path()).into_iter().flatten().flatten() {
                let text = fs::read(file.path()).unwrap_or_default();
                logs.push((pod_name.to_owned(), String::from_utf8_lossy(&text).into_owned()));
            }
        }
    }
    logs
}

/// The last warnings and errors of all programs, and the operator's last lines of any level.
fn told(logs: &[(String, String)], begun: Timestamp) -> Vec<String> {
    let (mut warnings, mut last) = (BTreeMap::new(), Vec::new());
    for (pod, log) in logs {
        for line in log.lines() {
            let Some((at, text)) = log_line(line) else { continue };
            if at < begun {
                continue;
            }
            let text = format!("{pod}: {text}");
            if [" WARN ", " ERROR ", "panicked at"].iter().any(|word| text.contains(word)) {
                note(&mut warnings, at, text.clone(), 1);
            }
            if pod.starts_with(names::resources::OPERATOR) {
                last.push(Said { first: at, last: at, times: 1, text });
            }
        }
    }
    // One line may be of both.
    last.retain(|said| !warnings.contains_key(&said.text));
    [newest(warnings.into_values().collect(), WARNINGS), newest(last, LAST)].concat()
}

/// A line as the container runtime writes it: time, stream, tag, and what the program said, without the program's own
/// time.
fn log_line(line: &str) -> Option<(Timestamp, String)> {
    let mut parts = line.splitn(4, ' ');
    let at = parts.next()?.parse().ok()?;
    let text = parts.nth(2)?;
    let own = text.split_once(' ').filter(|(time, _)| time.parse::<Timestamp>().is_ok());
    Some((at, own.map_or_else(|| text.to_owned(), |(_, rest)| format!(" {}", rest.trim_start()))))
}

/// The last events of a list of warnings.
fn events(list: &str, begun: Timestamp) -> Result<Vec<String>> {
    let list: Value = serde_json::from_str(list)?;
    let mut all = BTreeMap::new();
    for event in list["items"].as_array().into_iter().flatten() {
        let times = [
            &event["series"]["lastObservedTime"],
            &event["lastTimestamp"],
            &event["eventTime"],
            &event["metadata"]["creationTimestamp"],
        ];
        let at = times.into_iter().find_map(|time| time.as_str()?.parse::<Timestamp>().ok());
        // Events' times are whole seconds.
        let Some(at) = at.filter(|at| at.as_second() >= begun.as_second()) else { continue };
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = &event["involvedObject"];
        let text = format!(
            "{} {}/{}: {}: {}",
            word(&of["kind"]),
            word(&of["namespace"]),
            word(&of["name"]),
            word(&event["reason"]),
            word(&event["message"])
        );
        note(&mut all, at, text, event["count"].as_u64().unwrap_or(1).max(1));
    }
    Ok(newest(all.into_values().collect(), EVENTS))
}

fn note(all: &mut BTreeMap<String, Said>, at: Timestamp, text: String, times: u64) {
    let said = all.entry(text.clone()).or_insert(Said { first: at, last: at, times: 0, text });
    said.first = said.first.min(at);
    said.last = said.last.max(at);
    said.times += times;
}

/// The newest of what was said, oldest first, one line each.
fn newest(mut all: Vec<Said>, most: usize) -> Vec<String> {
    all.sort_by_key(|said| said.last);
    let left_out = all.len().saturating_sub(most);
    all.iter().skip(left_out).map(line).collect()
}

fn line(said: &Said) -> String {
    let text = said.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let time = said.last.strftime("%H:%M:%S%.3f");
    if said.times > 1 { cut(&format!("{time} ({} times) {text}", said.times)) } else { cut(&format!("{time} {text}")) }
}

fn cut(text: &str) -> String {
    let length = text.chars().count();
    if length <= BEGINNING + END {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(BEGINNING).collect();
    let end: String = text.chars().skip(length - END).collect();
    format!("{beginning} ... {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn warnings_come_first_and_then_what_the_operator_did_last() {
        let operator = "2026-01-01T00:00:01.000000001Z stderr F 2026-01-01T00:00:01.0Z  WARN before the scenario\n\
                        2026-01-01T00:00:03.5Z stderr F 2026-01-01T00:00:03.4Z  WARN a{b=c}: x: cannot write\n\
                        2026-01-01T00:00:04.5Z stderr F 2026-01-01T00:00:04.4Z  WARN a{b=c}: x: cannot write\n\
                        2026-01-01T00:00:05Z stderr F 2026-01-01T00:00:05Z  INFO wrote\n\
                        no line of the runtime's\n";
        let webhook = "2026-01-01T00:00:04Z stderr F 2026-01-01T00:00:04Z ERROR no settings\n\
                       2026-01-01T00:00:04Z stderr F 2026-01-01T00:00:04Z  INFO serving\n";
        let logs =
            [("forestay-operator-x".to_owned(), operator.to_owned()), ("webhook-y".to_owned(), webhook.to_owned())];
        assert_eq!(
            told(&logs, at("2026-01-01T00:00:02Z")),
            [
                "00:00:04.000 webhook-y: ERROR no settings",
                "00:00:04.500 (2 times) forestay-operator-x: WARN a{b=c}: x: cannot write",
                "00:00:05.000 forestay-operator-x: INFO wrote",
            ]
        );
    }

    #[test]
    fn events_are_counted_cut_and_few() {
        let event = |second: usize, message: &str| {
            serde_json::json!({
                "involvedObject": {"kind": "Pod", "namespace": "a", "name": "b"}, "reason": "Failed", "count": 2,
                "message": message, "lastTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            })
        };
        let mut items: Vec<Value> = (10..20).map(|second| event(second, &format!("at {second}"))).collect();
        items.push(event(30, &format!("begins {} ends", "x".repeat(2 * END))));
        items.push(event(1, "before"));
        let list = serde_json::json!({"items": items}).to_string();
        let lines = events(&list, at("2026-01-01T00:00:02.9Z")).unwrap();
        assert_eq!(lines.len(), EVENTS);
        assert_eq!(lines[0], "00:00:16.000 (2 times) Pod a/b: Failed: at 16");
        assert!(lines[4].starts_with("00:00:30.000 (2 times) Pod a/b: Failed: begins xxx"), "{}", lines[4]);
        assert!(lines[4].contains("xxx ... xxx") && lines[4].ends_with("xxx ends"), "{}", lines[4]);
        assert!(events("{", at("2026-01-01T00:00:00Z")).is_err());
    }
}
