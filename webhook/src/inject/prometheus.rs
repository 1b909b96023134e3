//! Merging of metrics: one scrape of the pod gets the proxy's and the application's.
//!
//! The application's own `prometheus.io/*` annotations move into the agent's environment, and the annotations point at
//! the agent.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The agent's environment variable with the application's scrape settings.
pub(crate) const VARIABLE: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";
pub(crate) const TARGETS: &str = "prometheus.istio.io/scrape-targets";
/// How metrics are left alone.
const NOT_SO: &str = "annotation prometheus.istio.io/merge-metrics: \"false\" leaves the pod's own";
const STATS_PATH: &str = "/stats/prometheus";
/// Ports that belong to the proxy; no application's metrics can be there.
const RESERVED: [u16; 9] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090];

/// What merging does to a pod.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Merge {
    /// Annotations that go.
    pub(crate) remove: Vec<String>,
    /// Annotations that come.
    pub(crate) set: Vec<(&'static str, String)>,
    /// The application's settings, for the agent.
    pub(crate) application: Option<String>,
    /// What of them the agent cannot follow.
    pub(crate) warnings: Vec<String>,
}

/// Plans the merge; `None` leaves the pod as it is.
pub(crate) fn plan(annotations: &BTreeMap<String, String>, agent_port: u16) -> Result<Option<Merge>, String> {
    let get = |name: &str| spelled(annotations, name).map(|(_, value)| value.as_str());
    if get("scrape") == Some("false") {
        return Ok(None);
    }
    if get("port") == Some(agent_port.to_string().as_str()) {
        // Injected before, or the user points at the agent already.
        return Ok(None);
    }
    let targets = annotations.get(TARGETS).map(|text| targets(text)).transpose()?.unwrap_or_default();
    let mut merge = Merge::default();
    let (scrape, path, port) = (get("scrape"), get("path"), get("port"));
    if get("scheme").is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
        merge
            .warnings
            .push(format!("prometheus.io/scheme https: the agent asks the application over plain HTTP; {NOT_SO}"));
    }
    // The agent would not start with it, or would ask itself.
    let unfit = port.filter(|port| port.parse::<u16>().is_err() || RESERVED.iter().any(|own| own.to_string() == *port));
    if let Some(port) = unfit.filter(|_| targets.is_empty()) {
        merge.warnings.push(format!(
            "prometheus.io/port: \"{}\" is no port of the application, so that its metrics are not merged; {NOT_SO}",
            port.chars().take(16).collect::<String>()
        ));
    }
    let asked = scrape.is_some() || path.is_some() || port.is_some() || !targets.is_empty();
    if asked && (unfit.is_none() || !targets.is_empty()) {
        let mut application = Map::new();
        let first = targets.first();
        let of_target = |name: &str| first.and_then(|target| target.get(name)).and_then(Value::as_str);
        let scrape = scrape.or(if first.is_some() { Some("true") } else { None });
        for (name, value) in
            [("scrape", scrape), ("path", path.or(of_target("path"))), ("port", port.or(of_target("port")))]
        {
            application.insert(name.to_owned(), json!(value.unwrap_or_default()));
        }
        if !targets.is_empty() {
            application.insert("targets".to_owned(), json!(targets));
        }
        merge.application = Some(Value::Object(application).to_string());
    }
    for name in ["scrape", "path", "port", "scheme"] {
        merge.remove.extend(annotations.keys().filter(|key| means(key, name)).cloned());
    }
    merge.remove.extend(annotations.contains_key(TARGETS).then(|| TARGETS.to_owned()));
    merge.set = vec![
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/port", agent_port.to_string()),
        ("prometheus.io/path", STATS_PATH.to_owned()),
    ];
    Ok(Some(merge))
}

fn spelled<'a>(annotations: &'a BTreeMap<String, String>, name: &str) -> Option<(&'a String, &'a String)> {
    let exact = format!("prometheus.io/{name}");
    annotations.get_key_value(&exact).or_else(|| annotations.iter().find(|(key, _)| means(key, name)))
}

/// Prometheus turns every character of an annotation's name that a label cannot have into `_`, so all of
/// `prometheus.io/port`, `prometheus.io.port` and `prometheus-io/port` are the same to it.
fn means(key: &str, name: &str) -> bool {
    let normal = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    normal(key) == normal(&format!("prometheus.io/{name}"))
}

/// `port:path,port:path`.
fn targets(text: &str) -> Result<Vec<Value>, String> {
    let fail = |reason: String| format!("invalid value '{text}' for annotation '{TARGETS}': {reason}");
    text.split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .map(|one| {
            let (port, path) = one.split_once(':').unwrap_or((one, "/metrics"));
            let number: u16 =
                port.trim().parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                    fail(format!("\"{port}\" is not a port; write \"port:path\", with commas between"))
                })?;
            if RESERVED.contains(&number) {
                return Err(fail(format!("port {number} belongs to the proxy")));
            }
            let path = path.trim();
            let path = if path.is_empty() { "/metrics" } else { path };
            if !path.starts_with('/') {
                return Err(fail(format!("path \"{path}\" does not begin with \"/\"")));
            }
            Ok(json!({"port": number.to_string(), "path": path}))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::plan;

    /// `left`: the pod stays as it is; `merged`: without anything of the application's; else what moves to the agent.
    fn planned(pairs: &[(&str, &str)]) -> Result<String, String> {
        let annotations: BTreeMap<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        plan(&annotations, 15020).map(|merge| match merge {
            None => "left".to_owned(),
            Some(merge) => merge.application.unwrap_or_else(|| "merged".to_owned()),
        })
    }

    #[test]
    fn what_moves_to_the_agent() {
        type Expected = Result<&'static str, &'static str>;
        let rows: &[(&[(&str, &str)], Expected)] = &[
            (&[], Ok("merged")),
            (&[("prometheus.io/scrape", "false")], Ok("left")),
            (&[("prometheus.io/port", "15020"), ("prometheus.io/scrape", "true")], Ok("left")),
            (
                &[("prometheus.io/scrape", "true"), ("prometheus.io/port", "9080")],
                Ok(r#"{"scrape":"true","path":"","port":"9080"}"#),
            ),
            (&[("prometheus.io.scrape", "true")], Ok(r#"{"scrape":"true","path":"","port":""}"#)),
            (
                &[("prometheus.istio.io/scrape-targets", "8080:/metrics,9100:/m")],
                Ok(
                    r#"{"scrape":"true","path":"/metrics","port":"8080","targets":[{"port":"8080","path":"/metrics"},{"port":"9100","path":"/m"}]}"#,
                ),
            ),
            (
                &[("prometheus.istio.io/scrape-targets", "15090:/x")],
                Err(
                    "invalid value '15090:/x' for annotation 'prometheus.istio.io/scrape-targets': port 15090 belongs to the proxy",
                ),
            ),
        ];
        for (annotations, expected) in rows {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(planned(annotations), expected, "{annotations:?}");
        }
    }

    #[test]
    fn what_the_agent_cannot_follow_is_said() {
        let rows = [
            ("prometheus.io/scheme", "https", "over plain HTTP", true),
            ("prometheus.io/port", "web", "\"web\" is no port", false),
            ("prometheus.io.port", "15090", "\"15090\" is no port of the application", false),
        ];
        for (name, value, expected, merged) in rows {
            let annotations = [(name, value), ("prometheus.io/scrape", "true")];
            let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let merge = plan(&annotations, 15020).unwrap().unwrap();
            assert_eq!(merge.warnings.len(), 1, "{name}: {:?}", merge.warnings);
            assert!(merge.warnings[0].contains(expected), "{name}: {:?}", merge.warnings);
            assert_eq!(merge.application.is_some(), merged, "{name}");
        }
    }

    #[test]
    fn all_spellings_go() {
        let annotations = BTreeMap::from([("prometheus.io.port".to_owned(), "80".to_owned())]);
        assert_eq!(plan(&annotations, 15020).unwrap().unwrap().remove, ["prometheus.io.port"]);
    }
}
