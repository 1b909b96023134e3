//! AuthorizationPolicy: which requests a workload takes.

use kube::CustomResource;

use crate::message::message;
use crate::schema::at_most_one_of;
use crate::selector::WorkloadSelector;
use crate::status::IstioStatus;
use crate::target::PolicyTargetReference;

mod check;
mod condition;
mod path;

message! {
    /// Rules about who may do what.
    #[derive(CustomResource)]
    #[kube(
        group = "security.istio.io", version = "v1", kind = "AuthorizationPolicy", plural = "authorizationpolicies",
        namespaced, schema = "disabled", status = "IstioStatus",
        derive = "PartialEq", derive = "Default",
        shortname = "ap", category = "istio-io", category = "security-istio-io",
        printcolumn(name = "Action", type_ = "string", json_path = ".spec.action", description = "The operation to take."),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    )]
    #[schemars(extend("oneOf" = at_most_one_of(&["provider"]), "x-kubernetes-validations" = [{
        "message": "only one of targetRefs or selector can be set",
        "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    }]))]
    pub struct AuthorizationPolicySpec {
        /// Workloads that this applies to; all of the namespace when absent.
        pub selector: Option<WorkloadSelector>,
        /// The older form of `targetRefs`.
        pub target_ref: Option<PolicyTargetReference>,
        /// Gateways or Services that this applies to.
        #[schemars(length(max = 16))]
        pub target_refs: Vec<PolicyTargetReference>,
        /// Which requests this is about; none when empty, which with ALLOW lets nothing through.
        #[schemars(length(max = 512))]
        pub rules: Vec<Rule>,
        /// What happens to them.
        pub action: Action,
        /// Who decides, for action CUSTOM.
        pub provider: Option<ExtensionProvider>,
    }
}

message! {
    /// What happens to a request that a policy is about. CUSTOM comes first, then DENY, then ALLOW.
    pub enum Action {
        /// It is let through; as soon as a workload has such a policy, everything else is refused.
        #[default]
        Allow,
        /// It is refused.
        Deny,
        /// It is let through and marked for auditing.
        Audit,
        /// A provider decides.
        Custom,
    }
}

message! {
    /// A provider of the mesh's settings.
    pub struct ExtensionProvider {
        /// Its name in `meshConfig.extensionProviders`.
        pub name: String,
    }
}

message! {
    /// Requests by source, operation and conditions, all of which must match; a rule without any matches every request.
    pub struct Rule {
        /// Sources, of which one must match; any when absent.
        #[schemars(length(max = 512))]
        pub from: Option<Vec<From>>,
        /// Operations, of which one must match; any when absent.
        pub to: Option<Vec<To>>,
        /// Conditions, all of which must match.
        pub when: Vec<Condition>,
    }
}

message! {
    /// One source of requests.
    pub struct From {
        /// Who.
        pub source: Option<Source>,
    }
}

message! {
    /// Who sends a request. All fields must match; in a field, one value must (in a `not` field, none may). A value is
    /// exact, `prefix*`, `*suffix`, or `*` for anything that is there.
    #[schemars(extend("x-kubernetes-validations" = [{
        "message": "Cannot set serviceAccounts with namespaces or principals",
        "rule": "(has(self.serviceAccounts) || has(self.notServiceAccounts)) ? (!has(self.principals) &&\n!has(self.notPrincipals) && !has(self.namespaces) && !has(self.notNamespaces)) : true",
    }]))]
    pub struct Source {
        /// Identities of peers, as `<trust domain>/ns/<namespace>/sa/<service account>`; need mutual TLS.
        pub principals: Vec<String>,
        /// Not these.
        pub not_principals: Vec<String>,
        /// Identities of tokens, as `<issuer>/<subject>`; need a RequestAuthentication.
        pub request_principals: Vec<String>,
        /// Not these.
        pub not_request_principals: Vec<String>,
        /// Namespaces of peers; need mutual TLS.
        pub namespaces: Vec<String>,
        /// Not these.
        pub not_namespaces: Vec<String>,
        /// Addresses or CIDR blocks of the connection.
        pub ip_blocks: Vec<String>,
        /// Not these.
        pub not_ip_blocks: Vec<String>,
        /// Addresses or CIDR blocks of the original client, by `X-Forwarded-For` or the PROXY protocol.
        pub remote_ip_blocks: Vec<String>,
        /// Not these.
        pub not_remote_ip_blocks: Vec<String>,
        /// Service accounts of peers, as `<namespace>/<name>`, or `<name>` in the policy's own; need mutual TLS.
        #[schemars(length(max = 16), inner(length(max = 320)))]
        pub service_accounts: Vec<String>,
        /// Not these.
        #[schemars(length(max = 16), inner(length(max = 320)))]
        pub not_service_accounts: Vec<String>,
        /// Trust domains of peers; need mutual TLS.
        pub trust_domains: Vec<String>,
        /// Not these.
        pub not_trust_domains: Vec<String>,
    }
}

message! {
    /// One operation.
    pub struct To {
        /// What.
        pub operation: Option<Operation>,
    }
}

message! {
    /// What a request asks for. All fields must match; in a field, one value must (in a `not` field, none may). All but
    /// ports need HTTP.
    pub struct Operation {
        /// Hosts, without regard to case.
        pub hosts: Vec<String>,
        /// Not these.
        pub not_hosts: Vec<String>,
        /// Ports of the workload.
        pub ports: Vec<String>,
        /// Not these.
        pub not_ports: Vec<String>,
        /// Methods; for gRPC always `POST`.
        pub methods: Vec<String>,
        /// Not these.
        pub not_methods: Vec<String>,
        /// Paths, also with `{*}` for one segment and, last, `{**}` for any number.
        pub paths: Vec<String>,
        /// Not these.
        pub not_paths: Vec<String>,
    }
}

message! {
    /// A condition on an attribute.
    #[schemars(extend("required" = ["key"]))]
    pub struct Condition {
        /// The attribute, such as `request.headers[x-version]`: Istio's page "Authorization Policy Conditions" lists them.
        pub key: String,
        /// Values, of which one must match.
        pub values: Vec<String>,
        /// Values, of which none may match.
        pub not_values: Vec<String>,
    }
}
