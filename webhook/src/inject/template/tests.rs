use std::collections::BTreeMap;

use gotmpl::Value;
use proptest::prelude::*;
use serde_json::json;

use super::functions::from_json;
use super::go::GoTemplate;
use super::{UserTemplate, fragment};
use crate::inject::values::Text;

fn run(text: &str, data: &serde_json::Value) -> Result<String, String> {
    let environment = BTreeMap::from([("SWITCH".to_owned(), Text("on".to_owned()))]);
    GoTemplate::parse("t", text)?.run(&from_json(data), &environment)
}

/// Name, template, result; the data is the same for all.
const ROWS: &[(&str, &str, &str)] = &[
    (
        "assignment reaches outwards",
        "{{ $a := list }}{{ range .Items }}{{ $a = append $a . }}{{ end }}{{ $a | join \",\" }}",
        "x,y",
    ),
    (
        "a first time",
        "{{ $first := true }}{{ range .Items }}{{ if not $first }},{{ end }}{{ . }}{{ $first = false }}{{ end }}",
        "x,y",
    ),
    ("white space goes", "a\n  {{- if true }} b {{- end }}\n", "a b\n"),
    ("a definition", "{{ define \"d\" }}<{{ . }}>{{ end }}{{ template \"d\" .Name }}", "<n>"),
    ("an annotation", "{{ annotation .ObjectMeta `a/b` `x` }} {{ annotation .ObjectMeta `c` 7 }}", "1 7"),
    (
        "an annotation that is set",
        "{{ isset .ObjectMeta.Annotations `a/b` }} {{ isset .ObjectMeta.Annotations `c` }}",
        "true false",
    ),
    ("a label that is not there is empty", "[{{ index .ObjectMeta.Labels `app` }}]", "[]"),
    ("and equal to nothing", "{{ if eq (index .ObjectMeta.Labels `app`) \"\" }}none{{ end }}", "none"),
    (
        "what is not set equals zero",
        "{{ eq .Missing \"\" }} {{ ne .Missing `x` }} {{ eq .Missing 0 }}",
        "true true true",
    ),
    (
        "a default",
        "{{ .Missing | default `d` }} {{ valueOrDefault .Missing `e` }} {{ valueOrDefault .Name `e` }}",
        "d e n",
    ),
    ("quoted", "{{ quote .Name }} {{ squote .Name }} {{ \"a\\\"b\" | quote }}", "\"n\" 'n' \"a\\\"b\""),
    ("contains, needle first", "{{ contains `/` `a/b` }} {{ contains `/` `ab` }}", "true false"),
    ("indent leaves the first line", "{{ indent 2 `a\nb` }}|{{ nindent 2 `a\nb` }}", "a\n  b|\n  a\n  b"),
    ("YAML", "{{ toYaml .Map }}", "a: 1\nb: text\n"),
    ("JSON", "{{ toJson .Map }} {{ (fromJSON `{\"k\": [1, 2]}`).k }}", "{\"a\":1,\"b\":\"text\"} [1 2]"),
    (
        "ports that are not captured",
        "{{ excludeInboundPort 15020 `80,81` }} {{ excludeInboundPort `0` `80` }}",
        "80,81,15020 80",
    ),
    ("networks of multus", "{{ appendMultusNetwork `a` `default/istio-cni` }}", "a, default/istio-cni"),
    ("the control plane's environment", "{{ env `SWITCH` `off` }} {{ env `OTHER` `off` }}", "on off"),
    ("a directory", "{{ directory `/a/b.pem` }}", "/a/"),
    (
        "maps",
        "{{ $d := dict `a` 1 `b` 2 }}{{ get $d `a` }} {{ hasKey $d `c` }} {{ keys $d | join `,` }} {{ dig `x` `y` `no` $d }}",
        "1 false a,b no",
    ),
    (
        "numbers",
        "{{ add 1 2 3 }} {{ sub 3 1 }} {{ mul 2 3 }} {{ div 7 2 }} {{ mod 7 2 }} {{ max 1 3 2 }} {{ int `7` }}",
        "6 2 6 3 1 3 7",
    ),
    (
        "text",
        "{{ upper `a` }}{{ lower `B` }}{{ trim ` c ` }}{{ trunc 2 `abc` }}{{ replace `a` `b` `aa` }}{{ hasPrefix `a` `ab` }}",
        "Abcabbbtrue",
    ),
    ("format", "{{ printf `%s-%d` .Name 7 }} {{ print 1 2 }} {{ len .Items }} {{ lt 1 2 }}", "n-7 1 2 2 true"),
    ("a choice", "{{ ternary `y` `n` true }} {{ coalesce .Missing `` `z` }} {{ empty .Missing }}", "y z true"),
    (
        "break and continue",
        "{{ range until 9 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
        "02",
    ),
    ("base64", "{{ b64enc `a` }} {{ b64dec `YQ==` }}", "YQ== a"),
    (
        "methods of Istio's configuration",
        "{{ .ProxyConfig.InterceptionMode.String }} {{ or .ProxyConfig.HoldApplicationUntilProxyStarts.GetValue .Name }} {{ .ProxyConfig.GetTracing.GetSampling }}",
        "REDIRECT n 5",
    ),
    ("a comment", "a{{/* nothing */}}b", "ab"),
];

#[test]
fn templates_give_what_go_gives() {
    let data = json!({
        "Name": "n", "Items": ["x", "y"], "Map": {"b": "text", "a": 1},
        "ObjectMeta": {"Annotations": {"a/b": "1"}, "Labels": {}},
        "ProxyConfig": {"InterceptionMode": "REDIRECT", "Tracing": {"Sampling": 5}},
    });
    for (name, template, expected) in ROWS {
        assert_eq!(run(template, &data), Ok((*expected).to_owned()), "{name}");
    }
}

#[test]
fn what_cannot_be_run_is_refused_with_its_place() {
    let deep: String = (0..60).fold(String::new(), |text, level| {
        format!("{text}{{{{ define \"d{level}\" }}}}{{{{ template \"d{}\" }}}}{{{{ end }}}}", level + 1)
    }) + "{{ define \"d60\" }}x{{ end }}{{ template \"d0\" }}";
    let wide: String = (0..40).fold(String::new(), |text, level| {
        let call = format!("{{{{ template \"w{}\" }}}}", level + 1);
        format!("{text}{{{{ define \"w{level}\" }}}}{call}{call}{{{{ end }}}}")
    }) + "{{ define \"w40\" }}x{{ end }}{{ template \"w0\" }}";
    let rows: &[(&str, &str, &str)] = &[
        ("no end", "{{ if true }}", "line 1: {{if}} has no {{end}}"),
        ("no action", "a\n{{ .", "t:2"),
        ("a function that we lack", "a\n{{ genCA `x` 1 }}", "line 2: function \"genCA\" is not available"),
        ("one that changes its argument", "{{ $_ := set (dict) `a` 1 }}", "function \"set\" is not available"),
        ("also where nobody goes", "{{ define \"d\" }}{{ now }}{{ end }}", "function \"now\" is not available"),
        (
            "a circle",
            "{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}",
            "line 1: template \"a\" invokes itself",
        ),
        ("a template that is not there", "{{ template \"x\" }}", "line 1: template \"x\" is not defined"),
        ("too deep", &deep, "is invoked more than 50 levels deep"),
        ("too much work", &wide, "steps; 10000 is the most"),
        (
            "too many turns",
            "{{ range until 1000 }}{{ range until 1000 }}{{ end }}{{ end }}",
            "its loops take more than 10000 turns",
        ),
        ("too long", "{{ range until 5000 }}{{ repeat 1000 `x` }}{{ end }}", "it writes more than 1048576 bytes"),
        (
            "a value that doubles",
            "{{ $x := `xxxxxxxx` }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}",
            "print: a value is larger than",
        ),
        (
            "a list that doubles",
            "{{ $x := list 1 }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}",
            "list: a value is larger than",
        ),
        (
            "a list that grows inwards",
            "{{ $x := list 1 }}{{ range until 9000 }}{{ $x = list $x }}{{ end }}",
            "or too deep",
        ),
        ("a format that pads", "{{ $f := repeat 100 `%65535d` }}{{ printf $f 1 }}", "a format with more than 64 verbs"),
        ("its own word", "{{ fail `not here` }}", "not here"),
        ("division by zero", "{{ div 1 0 }}", "the result is no number"),
        ("an index that is not there", "{{ index .Items 7 }}", "index out of range"),
    ];
    for (name, template, expected) in rows {
        let error = run(template, &json!({"Items": []})).expect_err(name);
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn a_result_is_fields_of_a_pod() {
    assert_eq!(fragment(""), Ok(json!({})));
    assert_eq!(fragment("metadata: {labels: {a: b}}"), Ok(json!({"metadata": {"labels": {"a": "b"}}})));
    assert_eq!(fragment("- a"), Err("it writes no fields of a pod".to_owned()));
    let error = fragment("a: 1\nb: [").unwrap_err();
    assert!(error.starts_with("it writes what is not YAML, line "), "{error}");
}

#[test]
fn a_template_that_is_too_long_is_not_read() {
    let error = UserTemplate::parse("t", &"x".repeat(300 << 10)).checked().map(drop).map_err(str::to_owned);
    assert_eq!(error, Err("it is longer than 262144 bytes".to_owned()));
}

#[test]
fn a_structure_is_written_by_the_names_of_json() {
    let value = super::data::structure(&json!({
        "containerPort": 80, "tcpSocket": {"port": 1}, "hostIP": "a", "apiVersion": "v1", "labels": {"Upper": "x"},
    }));
    assert!(matches!(value.field("TCPSocket"), Some(Value::Map(_))));
    assert!(matches!(value.field("HostIP"), Some(Value::String(_))));
    let expected = json!({
        "apiVersion": "v1", "containerPort": 80, "hostIP": "a", "labels": {"Upper": "x"}, "tcpSocket": {"port": 1},
    });
    assert_eq!(super::functions::to_json(&value), expected);
}

/// Pieces of templates in any order.
fn any_template() -> impl Strategy<Value = String> {
    let pieces = vec![
        "{{",
        "}}",
        "{{-",
        "-}}",
        "{{ end }}",
        "if",
        "else",
        "range",
        "with",
        "define",
        "block",
        "template",
        "break",
        ".",
        ".Name",
        "$x",
        "$",
        ":=",
        "=",
        "|",
        ",",
        "(",
        ")",
        "\"a\"",
        "\"",
        "`",
        "'c'",
        "'",
        "/*",
        "*/",
        "0x",
        "1e9",
        "-7",
        "nil",
        "true",
        " ",
        "\n",
        "print",
        "printf `%d`",
        "index",
        "toYaml",
        "default",
        "list",
        "repeat",
        "{",
        "}",
        "\\",
        "é",
        "a: b\n",
    ];
    proptest::collection::vec(proptest::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is written, there is a result or a reason, and it is there soon.
    #[test]
    fn any_text_is_run_or_refused(text in any_template(), wrapped in any::<bool>()) {
        let text = if wrapped { format!("{{{{ range .Items }}}}{text}{{{{ end }}}}") } else { text };
        if let Err(reason) = run(&text, &json!({"Name": "n", "Items": ["x", "y"]})) {
            prop_assert!(!reason.is_empty());
            prop_assert!(reason != "the template engine gave up", "{text}");
        }
    }
}
