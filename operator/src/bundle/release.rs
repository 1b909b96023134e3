//! Which version takes over from which, in OLM's terms.

use semver::Version;

use super::PACKAGE;
use crate::version::oldest;

/// The versions that have been published, oldest first. Publishing one adds it here; its file in `config/catalog` then
/// stays as it is.
const PUBLISHED: &[&str] = &[];

/// The channel that is subscribed to unless asked otherwise: finished versions.
pub(super) const STABLE: &str = "stable";
/// The channel that also has versions to try.
pub(super) const CANDIDATE: &str = "candidate";

/// A version of the operator in the line of its predecessors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release {
    version: Version,
    /// Those before it, oldest first.
    before: Vec<Version>,
}

impl Release {
    /// The one that this tree is.
    pub(super) fn current() -> Self {
        Self::new(names::VERSION, PUBLISHED)
    }

    /// Those that have been published and that it may follow, oldest first.
    pub(super) fn earlier() -> Vec<Self> {
        Self::current().line()
    }

    fn new(version: &str, published: &[&str]) -> Self {
        // A version that is none would fail the validators by name.
        let parse = |text: &str| Version::parse(text).unwrap_or(Version::new(0, 0, 0));
        let version = parse(version);
        let mut before: Vec<Version> = published.iter().map(|text| parse(text)).filter(|one| *one < version).collect();
        before.sort();
        Self { version, before }
    }

    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// The name of its ClusterServiceVersion.
    pub(super) fn name(&self) -> String {
        name(&self.version)
    }

    /// The channels that have it.
    pub(super) fn channels(&self) -> Vec<&'static str> {
        if self.version.pre.is_empty() { vec![STABLE, CANDIDATE] } else { vec![CANDIDATE] }
    }

    /// The release before it in a channel.
    pub(super) fn replaces(&self, channel: &str) -> Option<String> {
        self.before.iter().rfind(|before| channel == CANDIDATE || before.pre.is_empty()).map(name)
    }

    /// The versions that can be upgraded to it in one step: those whose meshes it serves.
    pub(super) fn skip_range(&self) -> String {
        format!(">={} <{}", oldest(&self.version), self.version)
    }

    /// The releases before it, each with its own predecessors.
    pub(super) fn line(&self) -> Vec<Self> {
        let releases = self.before.iter().enumerate();
        releases.map(|(at, version)| Self { version: version.clone(), before: self.before[..at].to_vec() }).collect()
    }
}

fn name(version: &Version) -> String {
    format!("{PACKAGE}.v{version}")
}

#[cfg(test)]
mod tests {
    use super::Release;

    #[test]
    fn a_release_takes_over_from_the_one_before_it() {
        for (case, version, published, stable, candidate, skips) in [
            ("the first", "0.1.0", &[][..], None, None, ">=0.0.0 <0.1.0"),
            ("a fix", "0.1.1", &["0.1.0"], Some("0.1.0"), Some("0.1.0"), ">=0.0.0 <0.1.1"),
            (
                "after a candidate",
                "0.2.0",
                &["0.1.0", "0.2.0-rc.1"],
                Some("0.1.0"),
                Some("0.2.0-rc.1"),
                ">=0.1.0 <0.2.0",
            ),
            ("a fix of an old line", "0.1.2", &["0.1.1", "0.2.0"], Some("0.1.1"), Some("0.1.1"), ">=0.0.0 <0.1.2"),
            ("a new major", "2.0.0", &["1.9.0"], Some("1.9.0"), Some("1.9.0"), ">=2.0.0-0 <2.0.0"),
            ("ten is after nine", "0.11.0", &["0.9.0", "0.10.0"], Some("0.10.0"), Some("0.10.0"), ">=0.10.0 <0.11.0"),
        ] {
            let release = Release::new(version, published);
            let named = |version: Option<&str>| version.map(|version| format!("forestay-operator.v{version}"));
            assert_eq!(release.replaces("stable"), named(stable), "{case}");
            assert_eq!(release.replaces("candidate"), named(candidate), "{case}");
            assert_eq!(release.skip_range(), skips, "{case}");
        }
    }

    #[test]
    fn what_is_not_finished_is_in_no_stable_channel() {
        assert_eq!(Release::new("0.2.0", &[]).channels(), ["stable", "candidate"]);
        assert_eq!(Release::new("0.2.0-rc.1", &[]).channels(), ["candidate"]);
    }
}
