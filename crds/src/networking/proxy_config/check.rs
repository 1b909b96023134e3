//! What is wrong with a ProxyConfig.

use super::ProxyConfigSpec;
use crate::check::{Checker, Problem};

impl ProxyConfigSpec {
    /// What is wrong with these settings.
    pub fn check(&self) -> Vec<Problem> {
        let mut c = Checker::of_spec();
        if let Some(selector) = &self.selector {
            c.field("selector", |c| selector.check(c));
        }
        if let Some(threads) = self.concurrency {
            c.not_negative("concurrency", threads);
        }
        for name in self.environment_variables.keys() {
            // What the kubelet takes since Kubernetes 1.34: anything printable but "=".
            if name.is_empty() || name.bytes().any(|byte| byte == b'=' || !(0x20..0x7f).contains(&byte)) {
                c.error("environmentVariables", format!("{name:?} cannot be the name of an environment variable"));
            }
        }
        c.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::ProxyConfigSpec;

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("nothing", "{}", &[]),
            (
                "all of it",
                "{selector: {matchLabels: {app: a}}, concurrency: 0, environmentVariables: {A_B: c}, image: {imageType: distroless}}",
                &[],
            ),
            ("fewer than no threads", "{concurrency: -1}", &["spec.concurrency: -1 is negative: it must be 0 or more"]),
            (
                "a wildcard",
                "{selector: {matchLabels: {app: 'a*'}}}",
                &["spec.selector.matchLabels: \"app: a*\" has a wildcard, which a label selector cannot have"],
            ),
            (
                "a variable without a name",
                "{environmentVariables: {'A=B': c}}",
                &["spec.environmentVariables: \"A=B\" cannot be the name of an environment variable"],
            ),
        ];
        for (name, yaml, expected) in rows {
            let spec: ProxyConfigSpec = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let problems: Vec<_> = spec.check().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
