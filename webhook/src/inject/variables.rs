//! Environment for the proxy in the path of the webhook's URL, which a remote cluster's configuration uses to say
//! which cluster it is.

/// The cluster's id.
pub(crate) const CLUSTER: &str = "ISTIO_META_CLUSTER_ID";
/// The network's name.
pub(crate) const NETWORK: &str = "ISTIO_META_NETWORK";
const SEPARATOR: &str = ":ENV:";

/// Reads `/inject/<key>/<value>/...`, where `cluster` and `net` have variables of their own, other keys are upper-cased
/// and `--slash--` stands for a slash; and the older `/inject/:ENV:<key>=<value>:ENV:...`.
pub fn of_path(path: &str) -> Vec<(String, String)> {
    let path = path.strip_prefix("/inject").unwrap_or(path).trim_start_matches('/');
    let pairs: Vec<(&str, String)> = if let Some(pairs) = path.strip_prefix(SEPARATOR) {
        pairs.split(SEPARATOR).filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k, v.to_owned())).collect()
    } else {
        let parts: Vec<&str> = path.split('/').collect();
        let pairs = parts.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?)));
        pairs.map(|(key, value)| (key, value.replace("--slash--", "/"))).collect()
    };
    pairs.into_iter().filter(|(key, value)| !key.is_empty() && !value.is_empty()).map(|(k, v)| (name(k), v)).collect()
}

fn name(key: &str) -> String {
    match key {
        "cluster" => CLUSTER.to_owned(),
        "net" => NETWORK.to_owned(),
        other => other.to_uppercase(),
    }
}
