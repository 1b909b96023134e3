//! PeerAuthentication: what a workload asks of those who connect to it.

use std::collections::BTreeMap;

use kube::CustomResource;

use crate::check::{Checker, Problem};
use crate::message::message;
use crate::selector::WorkloadSelector;
use crate::status::IstioStatus;

message! {
    /// Mutual TLS on inbound connections.
    #[derive(CustomResource)]
    #[kube(
        group = "security.istio.io", version = "v1", kind = "PeerAuthentication", plural = "peerauthentications",
        namespaced, schema = "disabled", status = "IstioStatus",
        derive = "PartialEq", derive = "Default",
        shortname = "pa", category = "istio-io", category = "security-istio-io",
        printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mtls.mode", description = "Defines the mTLS mode used for peer authentication."),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )]
    #[schemars(extend("x-kubernetes-validations" = [{
        "message": "portLevelMtls requires selector",
        "rule": "has(self.portLevelMtls) ? (((has(self.selector) && has(self.selector.matchLabels)) ? self.selector.matchLabels : {}).size() > 0) : true",
    }]))]
    pub struct PeerAuthenticationSpec {
        /// Workloads that this applies to; all of the namespace when absent.
        pub selector: Option<WorkloadSelector>,
        /// The mode; the parent's when absent.
        pub mtls: Option<MutualTls>,
        /// Modes of single ports of the workload.
        #[schemars(extend("minProperties" = 1, "x-kubernetes-validations" = [{
            "message": "port must be between 1-65535",
            "rule": "self.all(key, 0 < int(key) && int(key) <= 65535)",
        }]))]
        pub port_level_mtls: BTreeMap<String, MutualTls>,
    }
}

message! {
    /// Mutual TLS.
    pub struct MutualTls {
        /// Whether.
        pub mode: MutualTlsMode,
    }
}

message! {
    /// Whether mutual TLS is asked of peers.
    pub enum MutualTlsMode {
        /// As the parent says: namespace, then mesh, then PERMISSIVE.
        #[default]
        Unset,
        /// No: plaintext only.
        Disable,
        /// Both are taken.
        Permissive,
        /// Yes: plaintext is refused.
        Strict,
    }
}

impl PeerAuthentication {
    /// What is wrong with this policy, its annotations included.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = self.spec.check();
        problems.extend(super::dry_run::problem(&self.metadata, None));
        problems
    }
}

impl PeerAuthenticationSpec {
    /// What is wrong with this policy.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        if let Some(selector) = &self.selector {
            c.field("selector", |c| selector.check(c));
        }
        if !self.port_level_mtls.is_empty() && self.selector.as_ref().is_none_or(|s| s.match_labels.is_empty()) {
            c.error("portLevelMtls", "needs a selector with matchLabels, since ports differ from workload to workload");
        }
        for port in self.port_level_mtls.keys() {
            if !port.parse::<u16>().is_ok_and(|port| port > 0) {
                c.key("portLevelMtls", port, |c| c.error("", "is not a port: it must be between 1 and 65535"));
            }
        }
        c.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::PeerAuthenticationSpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("as the parent says", "{}", &[]),
            ("a port", "{selector: {matchLabels: {app: a}}, portLevelMtls: {8080: {mode: DISABLE}}}", &[]),
            (
                "a port of every workload",
                "{portLevelMtls: {8080: {mode: DISABLE}}}",
                &[
                    "spec.portLevelMtls: needs a selector with matchLabels, since ports differ from workload to workload",
                ],
            ),
            (
                "no port",
                "{selector: {matchLabels: {app: a}}, portLevelMtls: {http: {mode: DISABLE}}}",
                &["spec.portLevelMtls[http]: is not a port: it must be between 1 and 65535"],
            ),
            (
                "a selector of everything",
                "{selector: {}}",
                &["spec.selector: has no labels: every workload is selected"],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: PeerAuthenticationSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
