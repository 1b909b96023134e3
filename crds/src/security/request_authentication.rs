//! RequestAuthentication: which tokens a workload takes.

use kube::CustomResource;

use crate::Duration;
use crate::check::{Checker, Problem};
use crate::message::message;
use crate::selector::WorkloadSelector;
use crate::status::IstioStatus;
use crate::target::{PolicyTargetReference, check_scope};

mod jwks;

message! {
    /// Issuers of tokens. A request with a token that none of them vouches for is refused; one without a token is not,
    /// unless an AuthorizationPolicy says so.
    #[derive(CustomResource)]
    #[kube(
        group = "security.istio.io", version = "v1", kind = "RequestAuthentication",
        plural = "requestauthentications", namespaced, schema = "disabled", status = "IstioStatus",
        derive = "PartialEq", derive = "Default",
        shortname = "ra", category = "istio-io", category = "security-istio-io",
    )]
    #[schemars(extend("x-kubernetes-validations" = [{
        "message": "only one of targetRefs or selector can be set",
        "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    }]))]
    pub struct RequestAuthenticationSpec {
        /// Workloads that this applies to; all of the namespace when absent.
        pub selector: Option<WorkloadSelector>,
        /// The older form of `targetRefs`.
        pub target_ref: Option<PolicyTargetReference>,
        /// Gateways or Services that this applies to.
        #[schemars(length(max = 16))]
        pub target_refs: Vec<PolicyTargetReference>,
        /// Tokens that are taken.
        #[schemars(length(max = 4096))]
        pub jwt_rules: Vec<JwtRule>,
    }
}

message! {
    /// Tokens of one issuer.
    #[schemars(extend("x-kubernetes-validations" = [{
        "message": "only one of jwks or jwksUri can be set",
        "rule": "(has(self.jwksUri) ? 1 : 0) + (has(self.jwks_uri) ? 1 : 0) + (has(self.jwks) ? 1 : 0) <= 1",
    }]))]
    pub struct JwtRule {
        /// The `iss` claim that a token must have.
        #[schemars(length(min = 1))]
        pub issuer: String,
        /// Values of the `aud` claim, of which a token must have one; any when empty.
        #[schemars(inner(length(min = 1)))]
        pub audiences: Vec<String>,
        /// Where the issuer's keys are fetched; found by OpenID discovery when no keys are given.
        #[schemars(schema_with = "schema::jwks_uri")]
        pub jwks_uri: String,
        /// The same by protobuf's name.
        #[serde(rename = "jwks_uri")]
        #[schemars(schema_with = "schema::jwks_uri")]
        pub jwks_uri_by_proto_name: String,
        /// The issuer's keys themselves (RFC 7517).
        pub jwks: String,
        /// Headers that a token may be in; `Authorization: Bearer` and the parameter `access_token` when nothing is said.
        pub from_headers: Vec<JwtHeader>,
        /// Query parameters that a token may be in.
        #[schemars(inner(length(min = 1)))]
        pub from_params: Vec<String>,
        /// Cookies that a token may be in.
        #[schemars(inner(length(min = 1)))]
        pub from_cookies: Vec<String>,
        /// A header for the token's payload, to the workload.
        pub output_payload_to_header: String,
        /// Whether the token itself goes on to the workload.
        pub forward_original_token: bool,
        /// Headers for single claims, to the workload.
        pub output_claim_to_headers: Vec<ClaimToHeader>,
        /// How long fetching the keys may take; 5 seconds when absent.
        pub timeout: Option<Duration>,
        /// Claims that hold several values separated by spaces, besides `scope` and `permission`.
        #[schemars(length(max = 64), inner(length(min = 1)))]
        pub space_delimited_claims: Vec<String>,
        /// Whether a request must have such a token.
        pub presence: Presence,
    }
}

message! {
    /// Whether a request must have a token.
    pub enum Presence {
        /// It may do without.
        #[default]
        Optional,
        /// It must.
        Required,
    }
}

message! {
    /// A header that a token may be in.
    #[schemars(extend("required" = ["name"]))]
    pub struct JwtHeader {
        /// Its name.
        #[schemars(length(min = 1))]
        pub name: String,
        /// What stands before the token, such as `Bearer `.
        pub prefix: String,
    }
}

message! {
    /// A header for a claim.
    #[schemars(extend("required" = ["header", "claim"]))]
    pub struct ClaimToHeader {
        /// The header's name.
        #[schemars(length(min = 1), regex(pattern = r"^[-_A-Za-z0-9]+$"))]
        pub header: String,
        /// The claim's name; `a.b` is a claim inside another.
        #[schemars(length(min = 1))]
        pub claim: String,
    }
}

impl JwtRule {
    /// Where the keys are fetched, by either name of the field.
    pub fn keys_uri(&self) -> Option<&str> {
        [&self.jwks_uri, &self.jwks_uri_by_proto_name].into_iter().map(String::as_str).find(|uri| !uri.is_empty())
    }
}

impl RequestAuthentication {
    /// What is wrong with this policy, its annotations included.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = self.spec.check();
        problems.extend(super::dry_run::problem(&self.metadata, None));
        problems
    }
}

impl RequestAuthenticationSpec {
    /// What is wrong with this policy.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        check_scope(&mut c, self.selector.as_ref(), self.target_ref.as_ref(), &self.target_refs);
        c.each("jwtRules", &self.jwt_rules, check_rule);
        c.finish()
    }
}

fn check_rule(c: &mut Checker, rule: &JwtRule) {
    // Tokens of any issuer are taken where a URL says whose keys they are; keys written into the policy say nothing.
    if rule.issuer.is_empty() && rule.keys_uri().is_none() {
        c.error("issuer", "must be set, unless jwksUri is");
    }
    let keys = [
        (!rule.jwks_uri.is_empty(), "jwksUri"),
        (!rule.jwks_uri_by_proto_name.is_empty(), "jwks_uri"),
        (!rule.jwks.is_empty(), "jwks"),
    ];
    let set: Vec<_> = keys.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    if set.len() > 1 {
        c.error("", format!("has {}, of which only one can be", set.join(" and ")));
    }
    for (name, uri) in [("jwksUri", &rule.jwks_uri), ("jwks_uri", &rule.jwks_uri_by_proto_name)] {
        if !uri.is_empty() && !is_web_address(uri) {
            c.error(name, format!("\"{uri}\" is not a URL that begins with http:// or https://"));
        }
    }
    if !rule.jwks.is_empty() {
        jwks::check(c, &rule.jwks);
    }
    for (name, list) in [
        ("audiences", &rule.audiences),
        ("fromParams", &rule.from_params),
        ("fromCookies", &rule.from_cookies),
        ("spaceDelimitedClaims", &rule.space_delimited_claims),
    ] {
        for (index, value) in list.iter().enumerate() {
            c.required(&format!("{name}[{index}]"), value);
        }
    }
    c.each("fromHeaders", &rule.from_headers, |c, header| c.required("name", &header.name));
    c.each("outputClaimToHeaders", &rule.output_claim_to_headers, |c, output| {
        c.required("claim", &output.claim);
        if output.header.is_empty() {
            c.error("header", "must be set");
        } else {
            c.plain_header_name("header", &output.header);
        }
    });
    c.duration("timeout", rule.timeout);
}

fn is_web_address(uri: &str) -> bool {
    url::Url::parse(uri).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// The parts of the schema that attributes cannot say.
mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    pub(super) fn jwks_uri(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 1, "maxLength": 2048,
            "x-kubernetes-validations": [{
                "message": "url must have scheme http:// or https://",
                "rule": "url(self).getScheme() in [\"http\", \"https\"]",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::RequestAuthenticationSpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("an issuer alone", "{jwtRules: [{issuer: a.example.com}]}", &[]),
            ("no issuer and no keys", "{jwtRules: [{}]}", &["spec.jwtRules[0].issuer: must be set, unless jwksUri is"]),
            ("keys of any issuer", "{jwtRules: [{jwksUri: 'https://a.example.com/keys'}]}", &[]),
            (
                "keys of nobody",
                "{jwtRules: [{jwks: '{\"keys\": []}'}]}",
                &["spec.jwtRules[0].issuer: must be set, unless jwksUri is"],
            ),
            ("the older name of the field", "{jwtRules: [{issuer: a, jwks_uri: 'https://a.example.com/keys'}]}", &[]),
            (
                "keys from two places",
                "{jwtRules: [{issuer: a, jwks_uri: 'https://a/k', jwksUri: 'https://a/k'}]}",
                &["spec.jwtRules[0]: has jwksUri and jwks_uri, of which only one can be"],
            ),
            (
                "keys from a file",
                "{jwtRules: [{issuer: a, jwksUri: 'file:///keys'}]}",
                &["spec.jwtRules[0].jwksUri: \"file:///keys\" is not a URL that begins with http:// or https://"],
            ),
            (
                "empty names",
                "{jwtRules: [{issuer: a, audiences: [''], fromHeaders: [{}], fromCookies: [a, '']}]}",
                &[
                    "spec.jwtRules[0].audiences[0]: must be set",
                    "spec.jwtRules[0].fromCookies[1]: must be set",
                    "spec.jwtRules[0].fromHeaders[0].name: must be set",
                ],
            ),
            (
                "a header that cannot be",
                "{jwtRules: [{issuer: a, outputClaimToHeaders: [{header: 'x y', claim: sub}]}]}",
                &[
                    "spec.jwtRules[0].outputClaimToHeaders[0].header: \"x y\" is not the name of a header here: it must be letters, digits, dashes and underscores",
                ],
            ),
            (
                "no time",
                "{jwtRules: [{issuer: a, timeout: 0s}]}",
                &["spec.jwtRules[0].timeout: 0s is too short: it must be at least 1ms"],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: RequestAuthenticationSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
