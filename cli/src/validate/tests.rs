//! What is found in a text, row by row, and how it is told.

use crds::check::Severity;

use super::check::{Context, text};
use super::report::{FileReport, Outcome, outcome, people};

const CONTEXT: Context<'_> = Context { namespace: "default", mesh_namespace: "istio-system" };

const GOOD: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  \
                    http: [{route: [{destination: {host: a}}]}]\n";

fn found(yaml: &str) -> Vec<String> {
    let level = |severity| if severity == Severity::Error { "" } else { "warning: " };
    let told = |finding: super::check::Finding| {
        let problem = finding.problem;
        format!("{}{}: {}", level(problem.severity), problem.field, problem.message)
    };
    text(yaml, CONTEXT).into_iter().map(told).collect()
}

#[test]
fn what_is_found() {
    let rows: [(&str, String, &[&str]); 16] = [
        ("in order", GOOD.to_owned(), &[]),
        ("an older version", GOOD.replace("/v1\n", "/v1alpha3\n"), &[]),
        ("a name to be", GOOD.replace("{name: a}", "{generateName: a-}"), &[]),
        ("not Istio's", "apiVersion: apps/v1\nkind: Deployment\nspecs: {}\n".to_owned(), &[]),
        ("an unknown field", GOOD.replace("hosts:", "host: [b]\n  hosts:"), &["spec.host: unknown field"]),
        ("an unknown field that is like none", format!("{GOOD}  quality: 1\n"), &["spec.quality: unknown field"]),
        ("a slip", GOOD.replace("route:", "rout:"), &[
                "spec.http[0].rout: unknown field; did you mean route?",
                "spec.http[0]: needs one of route, redirect, directResponse, delegate",
            ]),
        ("an unknown field at the top", format!("{GOOD}specs: {{}}\n"), &["specs: unknown field"]),
        ("an unknown version", GOOD.replace("/v1\n", "/v2\n"), &["apiVersion: VirtualService has no version \"v2\"; there are v1, v1alpha3, v1beta1"]),
        ("no name", GOOD.replace("{name: a}", "{}"), &["metadata.name: must be set"]),
        (
            "an unknown kind",
            GOOD.replace("VirtualService", "VirtualServices"),
            &["kind: networking.istio.io has no kind VirtualServices; did you mean VirtualService?"],
        ),
        ("no kind", GOOD.replace("kind: VirtualService\n", ""), &["kind: must be set"]),
        ("no object", "just text\n".to_owned(), &[": not an object of Kubernetes: apiVersion, kind and metadata are expected"]),
        ("a field twice", GOOD.replace("  hosts: [a]\n", "  hosts: [a]\n  hosts: [b]\n"), &[": not YAML: spec: duplicate entry with key \"hosts\""]),
        (
            "ports of a Service",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - {port: 80, name: web}\n  - {port: 81}\n  \
             - {port: 82, name: web, appProtocol: http}\n  - {port: 83, name: grpc-web}\n  - {port: 84, name: x, protocol: UDP}\n  \
             - {port: 3306, name: db}\n"
                .to_owned(),
            &[
                "warning: spec.ports[0].name: \"web\" (port 80) names no protocol: what is spoken is found out from the first \
                 bytes; name it <protocol>[-<suffix>], such as http or grpc-web, or set appProtocol",
                "warning: spec.ports[1].name: port 81 has no name: what is spoken is found out from the first bytes; name it \
                 <protocol>[-<suffix>], such as http or grpc-web, or set appProtocol",
            ],
        ),
        (
            "ports of the mesh's own Services",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: istio-system}\nspec: {ports: [{port: 80, name: web}]}\n"
                .to_owned(),
            &[],
        ),
    ];
    for (name, yaml, expected) in rows {
        assert_eq!(found(&yaml), expected, "{name}");
    }
}

#[test]
fn an_external_name_needs_a_protocol_with_hosts() {
    for (port, warned) in [("nginx", true), ("tcp", true), ("http", false), ("tls", false)] {
        let yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{type: ExternalName, ports: [{{port: 443, name: {port}}}]}}\n"
        );
        assert_eq!(!found(&yaml).is_empty(), warned, "{port}: {:?}", found(&yaml));
    }
}

#[test]
fn a_mistake_of_the_schema_and_one_of_the_checks_are_both_found() {
    let yaml = GOOD.replace("{destination: {host: a}}", "{destination: {host: a}, weight: much}, {destination: {}}");
    let found = found(&yaml);
    assert!(found.iter().any(|one| one.contains("spec.http[0].route[0].weight")), "{found:?}");
    let yaml = GOOD.replace("{route:", "{timeout: 1us, route:");
    assert!(!self::found(&yaml).is_empty());
}

#[test]
fn how_it_is_told() {
    let report =
        |file: &str, text: &str| FileReport { file: file.to_owned(), findings: super::check::text(text, CONTEXT) };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80, name: web}]}\n";
    let reports = [report("good.yaml", GOOD), report("service.yaml", service), report("-", GOOD)];
    assert_eq!(outcome(&reports), None, "warnings are well");
    let (out, err) = people(&reports);
    insta::assert_snapshot!("valid", format!("{out}[standard error]\n{err}"));

    let bad = GOOD.replace("hosts:", "host: [b]\n  hosts:");
    let reports = [report("good.yaml", GOOD), report("bad.yaml", &format!("{GOOD}---\n{bad}"))];
    assert_eq!(outcome(&reports), Some(Outcome::Invalid));
    let (out, err) = people(&reports);
    insta::assert_snapshot!("invalid", format!("{out}[standard error]\n{err}"));
    assert_eq!(outcome(&[report("bad.yaml", &bad), report("x", "a: [")]), Some(Outcome::Unreadable));
}
