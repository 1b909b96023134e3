//! Which versions of the mesh an operator serves, and which changes of `spec.version` it takes. Pure.
//!
//! An operator serves the versions that it can upgrade from: those of its own minor version up to itself, and those of
//! the minor version before, within its major version. [`oldest`] is the one place that says so; OLM's `skipRange` comes
//! from it too.

use crds::install::condition::Reason;
use semver::{Prerelease, Version};

/// What this operator was built as.
pub(crate) fn own() -> Version {
    // A version that is none would fail the bundle's validators by name.
    Version::parse(names::VERSION).unwrap_or(Version::new(0, 0, 0))
}

/// The oldest version that an operator serves and upgrades from.
pub(crate) fn oldest(own: &Version) -> Version {
    let mut oldest = Version::new(own.major, own.minor.saturating_sub(1), 0);
    if own.minor == 0 {
        oldest.pre = Prerelease::new("0").unwrap_or_default();
    }
    oldest
}

/// Whether an operator renders and keeps a mesh of this version.
fn serves(own: &Version, version: &Version) -> bool {
    *version >= oldest(own) && version <= own
}

/// What comes of a `spec.version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The version to render: the wanted one, or the one in force where that is refused.
    pub(crate) run: String,
    /// Why the wanted one is not rendered.
    pub(crate) refused: Option<Refused>,
}

/// A `spec.version` that is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// What is wrong with it and what to do.
    pub(crate) message: String,
}

/// Decides what to run. `in_force` is the version that the last finished installation or upgrade came to. Going back to
/// it is always allowed: then an upgrade has not finished. An error where nothing can be rendered.
pub(crate) fn decide(own: &Version, wanted: &str, in_force: Option<&str>) -> Result<Decision, Refused> {
    let Some(refused) = refuse(own, wanted, in_force) else {
        return Ok(Decision { run: wanted.to_owned(), refused: None });
    };
    match in_force.filter(|version| Version::parse(version).is_ok_and(|version| serves(own, &version))) {
        Some(last) => Ok(Decision { run: last.to_owned(), refused: Some(refused) }),
        None => Err(refused),
    }
}

fn refuse(own: &Version, wanted: &str, in_force: Option<&str>) -> Option<Refused> {
    let refused = |reason, message: String| Some(Refused { reason, message });
    let stay = match in_force {
        Some(last) => format!("set {last:?}, which is in force"),
        None => format!("set {:?}", own.to_string()),
    };
    let version = match Version::parse(wanted) {
        Ok(version) if version.build.is_empty() => version,
        Ok(_) => {
            let message = format!("{wanted:?} has a part after \"+\", which no tag of an image can have; {stay}");
            return refused(Reason::UnknownVersion, message);
        }
        Err(error) => {
            let message = format!("{wanted:?} is not a version such as {:?} ({error}); {stay}", own.to_string());
            return refused(Reason::UnknownVersion, message);
        }
    };
    if version.major != own.major {
        let message = format!(
            "{wanted:?} is of another major version than this operator, which is {own}; {stay}, or install the operator of \
             that version and a second MeshInstall with a revision of its own, and move the workloads"
        );
        return refused(Reason::UnknownVersion, message);
    }
    if version > *own {
        let message = format!(
            "this operator is {own} and does not have version {wanted:?}; {stay}, or install the operator of that version"
        );
        return refused(Reason::UnknownVersion, message);
    }
    let last = in_force.and_then(|last| Version::parse(last).ok());
    if let Some(last) = &last
        && version < *last
    {
        let message = format!(
            "{wanted:?} is older than {last}, which is in force, and a mesh is not taken back; set \"{last}\", or install a \
             second MeshInstall with version {wanted:?} and a revision of its own, and move the workloads to it"
        );
        return refused(Reason::DowngradeRefused, message);
    }
    if let Some(last) = last.filter(|last| !serves(own, last)) {
        let message = format!(
            "{last} is in force, and this operator, {own}, serves and upgrades versions from {} on: a minor version cannot \
             be skipped. Install the operator of version {}.{}, upgrade the mesh to it, then come back to this operator",
            oldest(own),
            last.major,
            last.minor + 1
        );
        return refused(Reason::VersionSkipped, message);
    }
    if !serves(own, &version) {
        let message = format!(
            "this operator, {own}, serves versions from {} on and does not have {wanted:?}; {stay}, or install the operator \
             of that version",
            oldest(own)
        );
        return refused(Reason::UnknownVersion, message);
    }
    None
}

#[cfg(test)]
mod tests {
    use crds::install::condition::Reason;
    use semver::{Version, VersionReq};

    use super::{decide, oldest, serves};

    fn version(text: &str) -> Version {
        Version::parse(text).expect(text)
    }

    #[test]
    fn which_versions_an_operator_serves() {
        for (own, served, others) in [
            (
                "1.4.2",
                &["1.4.2", "1.4.0", "1.4.0-rc.1", "1.3.9", "1.3.0"][..],
                &["1.4.3", "1.5.0", "1.2.9", "0.4.2", "2.0.0"][..],
            ),
            ("1.0.1", &["1.0.1", "1.0.0", "1.0.0-rc.1"], &["0.9.0", "1.0.2"]),
            ("0.2.0", &["0.2.0", "0.2.0-rc.1", "0.1.0", "0.1.7"], &["0.2.1", "0.0.9", "1.2.0"]),
            ("0.11.0", &["0.10.0", "0.11.0"], &["0.9.0"]),
            ("0.3.0-rc.1", &["0.3.0-beta.1", "0.2.5"], &["0.3.0", "0.1.9"]),
        ] {
            for one in served {
                assert!(serves(&version(own), &version(one)), "{own} serves {one}");
            }
            for one in others {
                assert!(!serves(&version(own), &version(one)), "{own} does not serve {one}");
            }
        }
    }

    #[test]
    fn olm_skips_what_an_operator_serves_and_nothing_else() {
        for own in ["1.4.2", "1.0.1", "0.2.0", "0.11.0"].map(version) {
            let range = VersionReq::parse(&format!(">={}, <{own}", oldest(&own))).expect("a range");
            for other in ["0.1.0", "0.2.0", "0.9.0", "0.10.3", "1.0.0", "1.2.9", "1.3.0", "1.4.1", "1.4.2"].map(version)
            {
                assert_eq!(range.matches(&other), serves(&own, &other) && other < own, "{own} from {other}");
            }
        }
    }

    #[test]
    fn what_comes_of_a_version() {
        use Reason::{DowngradeRefused, UnknownVersion, VersionSkipped};
        // The operator is 0.3.1; wanted, in force; what runs (none: nothing can be rendered), why the wanted one does not,
        // and the remedy.
        let rows = [
            ("a first install", "0.3.1", None, Some("0.3.1"), None),
            ("a first install of the minor version before", "0.2.0", None, Some("0.2.0"), None),
            ("nothing new", "0.3.1", Some("0.3.1"), Some("0.3.1"), None),
            ("the operator is newer", "0.2.4", Some("0.2.4"), Some("0.2.4"), None),
            ("the next minor version", "0.3.1", Some("0.2.4"), Some("0.3.1"), None),
            ("a fix", "0.3.1", Some("0.3.0"), Some("0.3.1"), None),
            ("a fix of the minor version before", "0.2.5", Some("0.2.4"), Some("0.2.5"), None),
            ("to a candidate", "0.3.1-rc.1", Some("0.3.0"), Some("0.3.1-rc.1"), None),
            ("a downgrade", "0.2.4", Some("0.3.1"), Some("0.3.1"), Some((DowngradeRefused, "set \"0.3.1\""))),
            (
                "a downgrade of a fix",
                "0.3.0",
                Some("0.3.1"),
                Some("0.3.1"),
                Some((DowngradeRefused, "a second MeshInstall with version \"0.3.0\"")),
            ),
            (
                "a downgrade to what is not served",
                "0.1.0",
                Some("0.2.0"),
                Some("0.2.0"),
                Some((DowngradeRefused, "set \"0.2.0\"")),
            ),
            (
                "back to a candidate",
                "0.3.1-rc.1",
                Some("0.3.1"),
                Some("0.3.1"),
                Some((DowngradeRefused, "set \"0.3.1\"")),
            ),
            (
                "a minor version skipped",
                "0.3.1",
                Some("0.1.9"),
                None,
                Some((VersionSkipped, "Install the operator of version 0.2")),
            ),
            (
                "the operator has skipped one",
                "0.1.9",
                Some("0.1.9"),
                None,
                Some((VersionSkipped, "Install the operator of version 0.2")),
            ),
            (
                "newer than the operator",
                "0.4.0",
                Some("0.3.1"),
                Some("0.3.1"),
                Some((UnknownVersion, "set \"0.3.1\", which is in force, or install the operator of that version")),
            ),
            ("newer, and nothing runs", "0.4.0", None, None, Some((UnknownVersion, "set \"0.3.1\", or install"))),
            ("older, and nothing runs", "0.1.0", None, None, Some((UnknownVersion, "serves versions from 0.2.0 on"))),
            (
                "another major version",
                "1.0.0",
                Some("0.2.0"),
                Some("0.2.0"),
                Some((UnknownVersion, "another major version")),
            ),
            (
                "no version",
                "latest",
                Some("0.3.1"),
                Some("0.3.1"),
                Some((UnknownVersion, "\"latest\" is not a version such as \"0.3.1\"")),
            ),
            ("two numbers", "0.3", None, None, Some((UnknownVersion, "is not a version"))),
            ("a letter too many", "v0.3.1", None, None, Some((UnknownVersion, "is not a version"))),
            (
                "what no tag can be",
                "0.3.1+a",
                Some("0.3.1"),
                Some("0.3.1"),
                Some((UnknownVersion, "no tag of an image")),
            ),
            ("a status that somebody has written", "0.3.1", Some("?"), Some("0.3.1"), None),
        ];
        for (name, wanted, in_force, run, refused) in rows {
            let decision = decide(&version("0.3.1"), wanted, in_force);
            let found = decision.as_ref().ok().map(|decision| decision.run.as_str());
            assert_eq!(found, run, "{name}: {decision:?}");
            let why = match &decision {
                Ok(decision) => decision.refused.clone(),
                Err(refused) => Some(refused.clone()),
            };
            match (why, refused) {
                (Some(why), Some((reason, remedy))) => {
                    assert_eq!(why.reason, reason, "{name}");
                    assert!(why.message.contains(remedy), "{name}: {}", why.message);
                }
                (why, refused) => {
                    assert_eq!(why.map(|why| why.message), refused.map(|(_, text)| text.to_owned()), "{name}");
                }
            }
        }
    }
}
