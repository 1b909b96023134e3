//! What is wrong with an AuthorizationPolicy.

use super::{Action, AuthorizationPolicy, AuthorizationPolicySpec, Condition, Operation, Rule, Source};
use super::{condition, path};
use crate::check::{Checker, Problem};
use crate::security::dry_run;
use crate::target::check_scope;

impl AuthorizationPolicy {
    /// What is wrong with this policy, its annotations included.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = self.spec.check();
        problems.extend(dry_run::problem(&self.metadata, Some(self.spec.action)));
        problems
    }
}

impl AuthorizationPolicySpec {
    /// What is wrong with these rules.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        check_scope(&mut c, self.selector.as_ref(), self.target_ref.as_ref(), &self.target_refs);
        self.check_action(&mut c);
        c.each("rules", &self.rules, |c, rule| {
            check_rule(c, rule);
            match self.action {
                Action::Custom => custom_limits(c, rule),
                Action::Deny => http_only(c, rule),
                Action::Allow | Action::Audit => {}
            }
        });
        c.finish()
    }

    fn check_action(&self, c: &mut Checker) {
        let provider = self.provider.as_ref().map(|provider| provider.name.as_str());
        match self.action {
            Action::Custom | Action::Deny if self.rules.is_empty() => {
                let action = if self.action == Action::Deny { "DENY" } else { "CUSTOM" };
                c.error("rules", format!("must not be empty: {action} would never apply; [{{}}] is every request"));
            }
            Action::Custom if provider.unwrap_or_default().is_empty() => {
                c.error("provider.name", "must be set for action CUSTOM");
            }
            _ => {}
        }
        if self.provider.is_some() && self.action != Action::Custom {
            c.error("provider", "belongs to action CUSTOM only");
        }
    }
}

fn check_rule(c: &mut Checker, rule: &Rule) {
    // An empty list would match every source; who writes one means none.
    if rule.from.as_ref().is_some_and(Vec::is_empty) {
        c.error("from", "is an empty list: leave it out to match every source");
    }
    if rule.to.as_ref().is_some_and(Vec::is_empty) {
        c.error("to", "is an empty list: leave it out to match every operation");
    }
    c.each("from", rule.from.as_deref().unwrap_or_default(), |c, from| match &from.source {
        None => c.error("source", "must be set"),
        Some(source) => c.field("source", |c| check_source(c, source)),
    });
    c.each("to", rule.to.as_deref().unwrap_or_default(), |c, to| match &to.operation {
        None => c.error("operation", "must be set"),
        Some(operation) => c.field("operation", |c| check_operation(c, operation)),
    });
    c.each("when", &rule.when, check_condition);
}

fn check_source(c: &mut Checker, source: &Source) {
    use condition::{ip_block, service_account, trust_domain};

    if *source == Source::default() {
        c.error("", "must have at least one field");
    }
    let plain = |_: &str| None;
    values(c, "principals", &source.principals, plain);
    values(c, "notPrincipals", &source.not_principals, plain);
    values(c, "requestPrincipals", &source.request_principals, plain);
    values(c, "notRequestPrincipals", &source.not_request_principals, plain);
    values(c, "namespaces", &source.namespaces, plain);
    values(c, "notNamespaces", &source.not_namespaces, plain);
    values(c, "ipBlocks", &source.ip_blocks, ip_block);
    values(c, "notIpBlocks", &source.not_ip_blocks, ip_block);
    values(c, "remoteIpBlocks", &source.remote_ip_blocks, ip_block);
    values(c, "notRemoteIpBlocks", &source.not_remote_ip_blocks, ip_block);
    values(c, "serviceAccounts", &source.service_accounts, service_account);
    values(c, "notServiceAccounts", &source.not_service_accounts, service_account);
    values(c, "trustDomains", &source.trust_domains, trust_domain);
    values(c, "notTrustDomains", &source.not_trust_domains, trust_domain);

    let by_account = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let by_name = [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
    if by_account && by_name.iter().any(|list| !list.is_empty()) {
        c.error("serviceAccounts", "cannot stand beside principals or namespaces, which it settles");
    }
}

fn check_operation(c: &mut Checker, operation: &Operation) {
    if *operation == Operation::default() {
        c.error("", "must have at least one field");
    }
    let plain = |_: &str| None;
    values(c, "hosts", &operation.hosts, plain);
    values(c, "notHosts", &operation.not_hosts, plain);
    values(c, "ports", &operation.ports, condition::port);
    values(c, "notPorts", &operation.not_ports, condition::port);
    values(c, "methods", &operation.methods, plain);
    values(c, "notMethods", &operation.not_methods, plain);
    values(c, "paths", &operation.paths, path::problem);
    values(c, "notPaths", &operation.not_paths, path::problem);
}

fn check_condition(c: &mut Checker, condition: &Condition) {
    if condition.key.is_empty() {
        c.error("key", "must be set");
        return;
    }
    if condition.values.is_empty() && condition.not_values.is_empty() {
        c.error("", format!("needs values or notValues for {}", condition.key));
        return;
    }
    let found = condition::problem(&condition.key, &condition.values)
        .or_else(|| condition::problem(&condition.key, &condition.not_values));
    if let Some(problem) = found {
        c.error("", format!("{} {problem}", condition.key));
    }
}

/// A field's values, each of which must say something.
fn values(c: &mut Checker, name: &str, values: &[String], problem: impl Fn(&str) -> Option<String>) {
    for (index, value) in values.iter().enumerate() {
        let name = format!("{name}[{index}]");
        if value.is_empty() {
            c.error(&name, "must not be empty");
        } else if let Some(problem) = problem(value) {
            c.error(&name, problem);
        }
    }
}

/// Identities of peers and tokens cannot choose what is sent to a provider: Istio's own limit of CUSTOM.
fn custom_limits(c: &mut Checker, rule: &Rule) {
    let message = "cannot be used with action CUSTOM";
    c.each("from", rule.from.as_deref().unwrap_or_default(), |c, from| {
        let Some(source) = &from.source else { return };
        for (name, list) in [
            ("namespaces", &source.namespaces),
            ("notNamespaces", &source.not_namespaces),
            ("principals", &source.principals),
            ("notPrincipals", &source.not_principals),
            ("serviceAccounts", &source.service_accounts),
            ("notServiceAccounts", &source.not_service_accounts),
            ("trustDomains", &source.trust_domains),
            ("notTrustDomains", &source.not_trust_domains),
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
        ] {
            if !list.is_empty() {
                c.error(&format!("source.{name}"), message);
            }
        }
    });
    c.each("when", &rule.when, |c, condition| {
        if matches!(
            condition.key.as_str(),
            "source.namespace" | "source.principal" | "source.serviceAccount" | "source.trustDomain"
        ) || condition.key.starts_with("request.auth.")
        {
            c.error("key", format!("{} {message}", condition.key));
        }
    });
}

/// On a TCP port the fields of HTTP are not known, and DENY ignores them there: it refuses more than it says.
fn http_only(c: &mut Checker, rule: &Rule) {
    let operations = || rule.to.iter().flatten().filter_map(|to| to.operation.as_ref());
    let names_ports = operations().any(|operation| !operation.ports.is_empty() || !operation.not_ports.is_empty())
        || rule.when.iter().any(|condition| condition.key == "destination.port");
    let source_needs_http = rule
        .from
        .iter()
        .flatten()
        .filter_map(|from| from.source.as_ref())
        .any(|source| !source.request_principals.is_empty() || !source.not_request_principals.is_empty());
    let operation_needs_http = operations().any(|operation| {
        [
            &operation.hosts,
            &operation.not_hosts,
            &operation.methods,
            &operation.not_methods,
            &operation.paths,
            &operation.not_paths,
        ]
        .iter()
        .any(|list| !list.is_empty())
    });
    let condition_needs_http = rule.when.iter().any(|condition| condition::needs_http(&condition.key));
    if (source_needs_http || operation_needs_http || condition_needs_http) && !names_ports {
        c.warn(
            "",
            "uses fields of HTTP, which DENY ignores on TCP ports: it refuses all traffic there. Name the ports in to.operation.ports",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::AuthorizationPolicySpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("nothing may pass", "{}", &[]),
            (
                "who, what and when",
                "{selector: {matchLabels: {app: a}}, rules: [{from: [{source: {principals: ['cluster.local/ns/*']}}], \
                 to: [{operation: {methods: [GET], paths: ['/a/{*}'], ports: ['80']}}], \
                 when: [{key: 'request.headers[x-a]', values: [b]}]}]}",
                &[],
            ),
            (
                "an empty DENY",
                "{action: DENY}",
                &["spec.rules: must not be empty: DENY would never apply; [{}] is every request"],
            ),
            (
                "CUSTOM without a provider",
                "{action: CUSTOM, rules: [{}]}",
                &["spec.provider.name: must be set for action CUSTOM"],
            ),
            ("a provider without CUSTOM", "{provider: {name: a}}", &["spec.provider: belongs to action CUSTOM only"]),
            (
                "empty lists",
                "{rules: [{from: [], to: []}]}",
                &[
                    "spec.rules[0].from: is an empty list: leave it out to match every source",
                    "spec.rules[0].to: is an empty list: leave it out to match every operation",
                ],
            ),
            (
                "sources and operations of nothing",
                "{rules: [{from: [{}, {source: {}}], to: [{}, {operation: {}}]}]}",
                &[
                    "spec.rules[0].from[0].source: must be set",
                    "spec.rules[0].from[1].source: must have at least one field",
                    "spec.rules[0].to[0].operation: must be set",
                    "spec.rules[0].to[1].operation: must have at least one field",
                ],
            ),
            (
                "values",
                "{rules: [{from: [{source: {ipBlocks: ['a', ''], serviceAccounts: ['a/b/c'], trustDomains: ['a*b']}}], \
                 to: [{operation: {ports: [http], paths: ['/{id}']}}]}]}",
                &[
                    "spec.rules[0].from[0].source.ipBlocks[0]: \"a\" is not an address or a CIDR block",
                    "spec.rules[0].from[0].source.ipBlocks[1]: must not be empty",
                    "spec.rules[0].from[0].source.serviceAccounts[0]: \"a/b/c\" is not a service account: write <namespace>/<name>, or <name>",
                    "spec.rules[0].from[0].source.trustDomains[0]: \"a*b\" has a wildcard that is not its first or last character",
                    "spec.rules[0].to[0].operation.ports[0]: \"http\" is not a port: it must be a number up to 65535",
                    "spec.rules[0].to[0].operation.paths[0]: \"/{id}\" has a brace that is not part of a segment {*} or {**}",
                ],
            ),
            (
                "service accounts beside namespaces",
                "{rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]}",
                &[
                    "spec.rules[0].from[0].source.serviceAccounts: cannot stand beside principals or namespaces, which it settles",
                ],
            ),
            (
                "conditions",
                "{rules: [{when: [{key: '', values: [a]}, {key: source.ip}, {key: source.ip, notValues: [a]}, {key: foo, values: [a]}]}]}",
                &[
                    "spec.rules[0].when[0].key: must be set",
                    "spec.rules[0].when[1]: needs values or notValues for source.ip",
                    "spec.rules[0].when[2]: source.ip \"a\" is not an address or a CIDR block",
                    "spec.rules[0].when[3]: foo is no attribute that a condition can have",
                ],
            ),
            (
                "identities under CUSTOM",
                "{action: CUSTOM, provider: {name: p}, rules: [{from: [{source: {principals: [a]}}, \
                 {source: {serviceAccounts: [a], notServiceAccounts: [b/c]}}, {source: {notTrustDomains: [a]}}, {source: {ipBlocks: [10.0.0.1]}}], \
                 when: [{key: 'request.auth.claims[a]', values: [b]}, {key: source.serviceAccount, values: [b]}, \
                 {key: 'request.headers[a]', values: [b]}]}]}",
                &[
                    "spec.rules[0].from[0].source.principals: cannot be used with action CUSTOM",
                    "spec.rules[0].from[1].source.serviceAccounts: cannot be used with action CUSTOM",
                    "spec.rules[0].from[1].source.notServiceAccounts: cannot be used with action CUSTOM",
                    "spec.rules[0].from[2].source.notTrustDomains: cannot be used with action CUSTOM",
                    "spec.rules[0].when[0].key: request.auth.claims[a] cannot be used with action CUSTOM",
                    "spec.rules[0].when[1].key: source.serviceAccount cannot be used with action CUSTOM",
                ],
            ),
            (
                "DENY by HTTP on any port",
                "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}",
                &[
                    "spec.rules[0]: uses fields of HTTP, which DENY ignores on TCP ports: it refuses all traffic there. Name the ports in to.operation.ports",
                ],
            ),
            (
                "DENY by HTTP on named ports",
                "{action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]}",
                &[],
            ),
            (
                "a selector and a target of another namespace",
                "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Pod, name: a}, {kind: Service, name: '', namespace: b}]}",
                &[
                    "spec: has selector and targetRefs, of which only one can be",
                    "spec.targetRefs[0]: Pod is not one of gateway.networking.k8s.io/Gateway, gateway.networking.k8s.io/GatewayClass, Service, networking.istio.io/ServiceEntry",
                    "spec.targetRefs[1].name: must be set",
                    "spec.targetRefs[1].namespace: must not be set: a target is always in the policy's own namespace",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: AuthorizationPolicySpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
