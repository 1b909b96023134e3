//! What of a pod's traffic is redirected, by annotation or setting: as arguments of `istio-init`, and as the annotations
//! that a CNI plugin reads.

use std::borrow::Cow;

use crds::meshconfig::InterceptionMode;

use super::annotations as annotation;
use super::subject::Subject;

/// The network of Istio's CNI plugin, where multus chains plugins by annotation.
const CNI_NETWORK: &str = "default/istio-cni";
/// Where multus reads the networks of a pod.
pub(crate) const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

impl Subject<'_> {
    /// Whether a CNI plugin redirects.
    pub(crate) fn by_cni(&self) -> bool {
        self.settings.values.pilot.cni.enabled
    }

    fn reroute_interfaces(&self) -> &str {
        [annotation::REROUTE_INTERFACES, annotation::KUBEVIRT_INTERFACES]
            .iter()
            .find_map(|name| self.annotations.get(*name))
            .map_or("", String::as_str)
    }

    /// The arguments of `istio-init`, or of `istio-validation`, which only looks.
    pub(crate) fn redirection_arguments(&self) -> Vec<String> {
        let global = self.global();
        let proxy = &global.proxy;
        let excluded = self.annotation(annotation::EXCLUDE_INBOUND_PORTS, &proxy.exclude_inbound_ports);
        let excluded = excluded_inbound(excluded, self.status_port());
        let uid = self.redirected_uid().to_string();
        let group = self.redirected_group().map(|gid| gid.to_string()).unwrap_or_default();
        let mut args: Vec<String> = [
            "istio-iptables",
            "-p",
            &names::ports::OUTBOUND.to_string(),
            "-z",
            &names::ports::INBOUND.to_string(),
            "-u",
            &uid,
            "-m",
            self.interception.as_str(),
            "-i",
            self.annotation(annotation::INCLUDE_OUTBOUND_RANGES, &proxy.include_ip_ranges),
            "-x",
            self.annotation(annotation::EXCLUDE_OUTBOUND_RANGES, &proxy.exclude_ip_ranges),
            "-b",
            self.annotation(annotation::INCLUDE_INBOUND_PORTS, &proxy.include_inbound_ports),
            "-d",
            &excluded,
        ]
        .map(str::to_owned)
        .to_vec();
        let optional = [
            ("-g", group.as_str()),
            ("-q", self.annotation(annotation::INCLUDE_OUTBOUND_PORTS, &proxy.include_outbound_ports)),
            ("-o", self.annotation(annotation::EXCLUDE_OUTBOUND_PORTS, &proxy.exclude_outbound_ports)),
            ("-k", self.reroute_interfaces()),
            ("-c", self.annotation(annotation::EXCLUDE_INTERFACES, "")),
        ];
        for (flag, value) in optional.into_iter().filter(|(_, value)| !value.is_empty()) {
            args.extend([flag.to_owned(), value.to_owned()]);
        }
        args.push(self.log_level());
        let switches = [
            ("--log_as_json", global.log_as_json),
            ("--force-apply", global.proxy_init.force_apply_iptables),
            ("--native-nftables", global.native_nftables),
            ("--run-validation", self.by_cni()),
            ("--skip-rule-apply", self.by_cni()),
        ];
        args.extend(switches.into_iter().filter(|(_, on)| *on).map(|(flag, _)| flag.to_owned()));
        args
    }

    /// The user whose connections are left alone. With TPROXY the proxy is root, and its own user is what counts.
    pub(crate) fn redirected_uid(&self) -> i64 {
        let own = if self.interception == InterceptionMode::Tproxy {
            i64::from(names::ports::PROXY_UID)
        } else {
            self.proxy_uid()
        };
        self.run_as_user().filter(|uid| *uid != 0).unwrap_or(own)
    }

    /// The group whose connections are left alone, where it is not the number of that user. With TPROXY it is what tells the
    /// proxy, which is root, from the application. (As Istio does it, a group of the user's own does not count: see `warnings`.)
    pub(crate) fn redirected_group(&self) -> Option<i64> {
        let transparent = self.interception == InterceptionMode::Tproxy && self.run_as_group().is_none();
        transparent.then(|| self.proxy_gid()).filter(|gid| *gid != self.redirected_uid())
    }

    /// What a CNI plugin reads: all that is in force, as annotations.
    pub(crate) fn cni_annotations(&self) -> Vec<(&'static str, String)> {
        let proxy = &self.global().proxy;
        let excluded = self.annotation(annotation::EXCLUDE_INBOUND_PORTS, &proxy.exclude_inbound_ports);
        let effective: [(&'static str, Cow<'_, str>); 10] = [
            (annotation::INTERCEPTION_MODE, self.interception.as_str().into()),
            (
                annotation::INCLUDE_OUTBOUND_RANGES,
                self.annotation(annotation::INCLUDE_OUTBOUND_RANGES, &proxy.include_ip_ranges).into(),
            ),
            (
                annotation::EXCLUDE_OUTBOUND_RANGES,
                self.annotation(annotation::EXCLUDE_OUTBOUND_RANGES, &proxy.exclude_ip_ranges).into(),
            ),
            (
                annotation::INCLUDE_INBOUND_PORTS,
                self.annotation(annotation::INCLUDE_INBOUND_PORTS, &proxy.include_inbound_ports).into(),
            ),
            (annotation::EXCLUDE_INBOUND_PORTS, exclude_port(self.status_port(), excluded).into()),
            (
                annotation::INCLUDE_OUTBOUND_PORTS,
                self.annotation(annotation::INCLUDE_OUTBOUND_PORTS, &proxy.include_outbound_ports).into(),
            ),
            (
                annotation::EXCLUDE_OUTBOUND_PORTS,
                self.annotation(annotation::EXCLUDE_OUTBOUND_PORTS, &proxy.exclude_outbound_ports).into(),
            ),
            (annotation::KUBEVIRT_INTERFACES, self.annotation(annotation::KUBEVIRT_INTERFACES, "").into()),
            (annotation::REROUTE_INTERFACES, self.annotation(annotation::REROUTE_INTERFACES, "").into()),
            (annotation::EXCLUDE_INTERFACES, self.annotation(annotation::EXCLUDE_INTERFACES, "").into()),
        ];
        let mut all: Vec<_> = effective
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, value.into_owned()))
            .collect();
        if self.settings.values.pilot.cni.provider == "multus" {
            all.push((NETWORKS, append_network(self.annotation(NETWORKS, ""), CNI_NETWORK)));
        }
        all
    }
}

/// The ports that are never captured: statistics, health, the user's, the agent's.
fn excluded_inbound(user: &str, status_port: &str) -> String {
    let own = format!("{},{}", names::ports::PROXY_STATS, names::ports::HEALTH);
    let users = exclude_port(status_port, user);
    if users.is_empty() { own } else { format!("{own},{users}") }
}

/// A list of ports with one more, unless it is in it, or no port.
pub(crate) fn exclude_port(port: &str, excluded: &str) -> String {
    let mut ports: Vec<&str> = excluded.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    let port = port.trim();
    if !matches!(port, "" | "0") && !ports.contains(&port) {
        ports.push(port);
    }
    ports.join(",")
}

/// Multus' list of networks, in either of its forms, with one more. What cannot be read stays as it is: it is for multus
/// to say so.
pub(crate) fn append_network(networks: &str, network: &str) -> String {
    if networks.trim().is_empty() {
        return network.to_owned();
    }
    let (namespace, name) = network.split_once('/').unwrap_or(("", network));
    if let Some(end) = networks.rfind(']') {
        let Ok(list) = serde_json::from_str::<Vec<serde_json::Map<String, serde_json::Value>>>(networks) else {
            return networks.to_owned();
        };
        if list.iter().any(|one| one.get("name").is_some_and(|own| own == name)) {
            return networks.to_owned();
        }
        let (before, after) = networks.split_at(end);
        let comma = if list.is_empty() { "" } else { ", " };
        return format!("{before}{comma}{{\"name\": \"{name}\", \"namespace\": \"{namespace}\"}}{after}");
    }
    if networks.split(',').any(|one| one.trim() == network) {
        return networks.to_owned();
    }
    format!("{networks}, {network}")
}

#[cfg(test)]
mod tests {
    use super::{append_network, exclude_port};

    #[test]
    fn a_port_is_excluded_once() {
        let rows = [
            ("15020", "", "15020"),
            ("15020", "80, 81", "80,81,15020"),
            ("80", "80,81", "80,81"),
            ("0", "80", "80"),
            ("", "", ""),
        ];
        for (port, excluded, expected) in rows {
            assert_eq!(exclude_port(port, excluded), expected, "{port} {excluded}");
        }
    }

    #[test]
    fn a_network_is_appended_once() {
        let rows = [
            ("", "default/istio-cni"),
            ("a", "a, default/istio-cni"),
            ("a, default/istio-cni", "a, default/istio-cni"),
            (r#"[{"name": "a"}]"#, r#"[{"name": "a"}, {"name": "istio-cni", "namespace": "default"}]"#),
            ("[]", r#"[{"name": "istio-cni", "namespace": "default"}]"#),
            (r#"[{"name": "istio-cni"}]"#, r#"[{"name": "istio-cni"}]"#),
            ("[broken]", "[broken]"),
        ];
        for (networks, expected) in rows {
            assert_eq!(append_network(networks, "default/istio-cni"), expected, "{networks}");
        }
    }
}
