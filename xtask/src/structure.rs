//! Who may import whom, as `docs/architecture.md` says it. The page's table is the rule; this test reads it.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::workspace::Workspace;

/// In tests only, the engine plays calls against what translate makes.
const IN_TESTS: [(&str, &str); 2] = [("engine", "translate"), ("engine", "crds")];

type Imports = BTreeMap<String, BTreeSet<String>>;

/// The rules: for each crate the crates that it may import. The table's last column lists them, or says
/// "all but ..."; a crate that is not in the table may import nothing.
fn rules(page: &str) -> Imports {
    let rows: Vec<(String, String)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix('|'))
        .filter_map(|line| {
            let (name, rest) = line.split_once('`')?;
            let imports = rest.rsplit('|').next()?;
            Some((name.to_owned(), imports.trim().to_owned()))
        })
        .collect();
    let all: BTreeSet<String> = rows.iter().map(|(name, _)| name.clone()).collect();
    rows.into_iter()
        .map(|(name, imports)| {
            let named: BTreeSet<String> = imports.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let allowed =
                if imports.starts_with("all but") { &(&all - &named) - &[name.clone()].into() } else { named };
            (name, allowed)
        })
        .collect()
}

/// What breaks the rules.
fn violations(rules: &Imports, imports: &Imports) -> Vec<String> {
    let none = BTreeSet::new();
    imports
        .iter()
        .flat_map(|(name, imports)| {
            let allowed = rules.get(name).unwrap_or(&none);
            imports.difference(allowed).map(move |import| format!("{name} imports {import}"))
        })
        .collect()
}

/// The short name of a workspace member: `forestay-names` is `names`.
fn short(package: &str) -> &str {
    package.strip_prefix("forestay-").unwrap_or(package)
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let workspace = Workspace::find().unwrap();
    let page = std::fs::read_to_string(workspace.root.join("docs/architecture.md")).unwrap();
    let rules = rules(&page);
    let metadata = MetadataCommand::new().manifest_path(workspace.root.join("Cargo.toml")).no_deps().exec().unwrap();
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| short(&package.name)).collect();

    let mut imports = Imports::new();
    for package in &metadata.packages {
        let name = short(&package.name);
        let of_package = imports.entry(name.to_owned()).or_default();
        for dependency in &package.dependencies {
            let other = short(&dependency.name);
            let excused = dependency.kind == DependencyKind::Development && IN_TESTS.contains(&(name, other));
            if members.contains(other) && !excused {
                of_package.insert(other.to_owned());
            }
        }
    }

    let unknown: Vec<&str> =
        members.iter().copied().filter(|member| *member != "bookinfo" && !rules.contains_key(*member)).collect();
    assert!(unknown.is_empty(), "not in the table of docs/architecture.md: {unknown:?}");
    let violations = violations(&rules, &imports);
    assert!(violations.is_empty(), "docs/architecture.md forbids: {violations:?}");
}

#[test]
fn the_rules_are_read_from_the_table() {
    let page = "| crate | what it is | imports |\n|---|---|---|\n| `names` | names | |\n\
                | `crds` | types | `names` |\n| `cli` | `forestay` and more | all but `proxy` |\n| `proxy` | p | `names` |\n";
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let rules = rules(page);
    assert_eq!(rules["names"], set(&[]));
    assert_eq!(rules["crds"], set(&["names"]));
    assert_eq!(rules["cli"], set(&["names", "crds"]));

    let imports = Imports::from([("crds".to_owned(), set(&["names", "cli"])), ("new".to_owned(), set(&["names"]))]);
    assert_eq!(violations(&rules, &imports), ["crds imports cli", "new imports names"]);
}
