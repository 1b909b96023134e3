//! What is wrong with a preference of near endpoints.

use super::{LocalityDistribute, LocalityFailover, LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting};
use crate::beginnings::first_related;
use crate::check::Checker;

/// Labels of an endpoint that say where it is, from the widest on.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// `ejects`: whether outlier detection finds out that an endpoint fails.
pub(super) fn locality(c: &mut Checker, setting: &LocalityLoadBalancerSetting, ejects: bool) {
    c.at_most_one(&[("distribute", !setting.distribute.is_empty()), ("failover", !setting.failover.is_empty())]);
    let from: Vec<_> = setting.distribute.iter().map(|distribute| distribute.from.as_str()).collect();
    for ((index, distribute), earlier) in setting.distribute.iter().enumerate().zip(overlaps(&from)) {
        c.field(&format!("distribute[{index}]"), |c| {
            place(c, "from", &distribute.from, earlier);
            shares(c, distribute);
        });
    }
    if !setting.failover.is_empty() {
        no_topology(c, &setting.failover_priority, "failover, which orders by it already");
    }
    failover(c, &setting.failover, &setting.failover_priority, ejects);
}

pub(super) fn zone_aware(c: &mut Checker, setting: &ZoneAwareLoadBalancerSetting, ejects: bool) {
    no_topology(c, &setting.failover_priority, "zoneAwareLbSetting, which orders by regions and zones by itself");
    failover(c, &setting.failover, &setting.failover_priority, ejects);
}

fn no_topology(c: &mut Checker, priority: &[String], beside: &str) {
    if let Some(label) = priority.iter().find(|label| TOPOLOGY.contains(&label.as_str())) {
        c.error("failoverPriority", format!("\"{label}\" cannot stand beside {beside}"));
    }
}

fn shares(c: &mut Checker, distribute: &LocalityDistribute) {
    let to: Vec<_> = distribute.to.keys().map(String::as_str).collect();
    for ((name, share), earlier) in distribute.to.iter().zip(overlaps(&to)) {
        c.key("to", name, |c| {
            place(c, "", name, earlier);
            if !(1..=100).contains(share) {
                c.error("", format!("{share} is not a share: it must be between 1 and 100"));
            }
        });
    }
    let total: u64 = distribute.to.values().map(|share| u64::from(*share)).sum();
    if total != 100 {
        c.error("to", format!("its shares add up to {total}, not to 100"));
    }
}

/// `region`, `region/zone` or `region/zone/subzone`, with `*` for the rest; none that an earlier one covers, or is covered by.
fn place(c: &mut Checker, field: &str, text: &str, earlier: Option<&str>) {
    let wildcards = text.matches('*').count();
    if wildcards > 1 || (wildcards == 1 && !text.ends_with('*')) {
        c.error(field, format!("\"{text}\" is not a locality: a wildcard may only stand at its end"));
    } else if text.splitn(3, '/').any(str::is_empty) {
        c.error(field, format!("\"{text}\" is not a locality: write region, region/zone or region/zone/subzone"));
    }
    if let Some(other) = earlier {
        // One may overlap with all that follow, however long it is.
        let other: String = other.chars().take(255).collect();
        c.error(field, format!("\"{text}\" and \"{other}\" overlap"));
    }
}

/// For each place of a list the first one before it that has a place with it in common.
fn overlaps<'a>(places: &[&'a str]) -> Vec<Option<&'a str>> {
    let parts = |place: &&str| {
        let mut key = Vec::with_capacity(place.len() + 1);
        for part in place.splitn(3, '/').take_while(|part| *part != "*") {
            key.extend_from_slice(part.as_bytes());
            // No text has this byte, and so no part begins with another.
            key.push(0xff);
        }
        key
    };
    let first = first_related(&places.iter().map(parts).collect::<Vec<_>>(), |_| true);
    let earlier = |(place, first): (usize, usize)| if first < place { places.get(first).copied() } else { None };
    first.into_iter().enumerate().map(earlier).collect()
}

fn failover(c: &mut Checker, failover: &[LocalityFailover], priority: &[String], ejects: bool) {
    if (!failover.is_empty() || !priority.is_empty()) && !ejects {
        let name = if failover.is_empty() { "failoverPriority" } else { "failover" };
        c.warn(name, "needs outlierDetection in the same policy: nothing else finds out that endpoints fail");
    }
    c.each("failover", failover, |c, failover| {
        if failover.from == failover.to {
            c.error("to", format!("\"{}\" is the region that fails", failover.to));
        }
        for (name, region) in [("from", &failover.from), ("to", &failover.to)] {
            if region.contains(['/', '*']) {
                c.error(name, format!("\"{region}\" is not a region: leave out zones and wildcards"));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

    use super::{LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting, locality, overlaps, zone_aware};
    use crate::check::Checker;

    /// Whether every place in `b` is in `a`.
    fn covers(a: &str, b: &str) -> bool {
        let mut of_b = b.splitn(3, '/');
        for part in a.splitn(3, '/') {
            match of_b.next() {
                _ if part == "*" => return true,
                Some(other) if other == part => {}
                _ => return false,
            }
        }
        true
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        /// As by comparing each with each.
        #[test]
        fn which_overlap(places in vec(r"[ab*]?(/[ab*]{0,2}){0,3}", 0..10)) {
            let places: Vec<&str> = places.iter().map(String::as_str).collect();
            let overlap = |a: &str, b: &str| covers(a, b) || covers(b, a);
            let first = |(index, text): (usize, &&str)| {
                places.iter().take(index).copied().find(|earlier| overlap(earlier, text))
            };
            let expected: Vec<_> = places.iter().enumerate().map(first).collect();
            prop_assert_eq!(overlaps(&places), expected);
        }
    }

    #[test]
    fn places() {
        let rows = [
            ("*", "a/b/c", true),
            ("a", "a", true),
            ("a", "a/b", true),
            ("a/*", "a/b/c", true),
            ("a/*", "a", true),
            ("a/b/*", "a/b", true),
            ("a/b", "a", false),
            ("a/b", "a/c", false),
            ("a/b/c", "a/b/d", false),
            ("a", "ab", false),
        ];
        for (a, b, expected) in rows {
            assert_eq!(covers(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn zones_are_ordered_by_themselves() {
        let rows: &[(&str, &[&str])] = &[
            ("{failoverPriority: [version], failover: [{from: a, to: b}], minClusterSize: 1}", &[]),
            (
                "{failoverPriority: [topology.kubernetes.io/region]}",
                &[
                    "spec.failoverPriority: \"topology.kubernetes.io/region\" cannot stand beside zoneAwareLbSetting, which orders by regions and zones by itself",
                ],
            ),
        ];
        for (yaml, expected) in rows {
            let setting: ZoneAwareLoadBalancerSetting = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let mut c = Checker::of_spec();
            zone_aware(&mut c, &setting, true);
            let problems: Vec<_> = c.finish().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{yaml}");
        }
    }

    #[test]
    fn rules() {
        let rows: &[(&str, &str, &[&str])] = &[
            ("shares", "{distribute: [{from: 'a/b/*', to: {'a/b/*': 80, a/c: 20}}, {from: a/c, to: {'*': 100}}]}", &[]),
            ("a failover", "{failover: [{from: a, to: b}]}", &[]),
            (
                "shares of more than there is",
                "{distribute: [{from: a, to: {b: 60, c: 60}}]}",
                &["spec.distribute[0].to: its shares add up to 120, not to 100"],
            ),
            (
                "a share of nothing",
                "{distribute: [{from: a, to: {b: 0, c: 100}}]}",
                &["spec.distribute[0].to[b]: 0 is not a share: it must be between 1 and 100"],
            ),
            (
                "places that overlap",
                "{distribute: [{from: a, to: {b: 100}}, {from: a/b, to: {b/c: 50, 'b/*': 50}}]}",
                &[
                    "spec.distribute[1].from: \"a/b\" and \"a\" overlap",
                    "spec.distribute[1].to[b/c]: \"b/c\" and \"b/*\" overlap",
                ],
            ),
            (
                "places that are none",
                "{distribute: [{from: 'a/*/c', to: {'b//c': 100}}]}",
                &[
                    "spec.distribute[0].from: \"a/*/c\" is not a locality: a wildcard may only stand at its end",
                    "spec.distribute[0].to[b//c]: \"b//c\" is not a locality: write region, region/zone or region/zone/subzone",
                ],
            ),
            (
                "both ways",
                "{distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}",
                &["spec: has distribute and failover, of which only one can be"],
            ),
            (
                "regions that are none",
                "{failover: [{from: a/b, to: a/b}], failoverPriority: [topology.kubernetes.io/zone]}",
                &[
                    "spec.failoverPriority: \"topology.kubernetes.io/zone\" cannot stand beside failover, which orders by it already",
                    "spec.failover[0].to: \"a/b\" is the region that fails",
                    "spec.failover[0].from: \"a/b\" is not a region: leave out zones and wildcards",
                    "spec.failover[0].to: \"a/b\" is not a region: leave out zones and wildcards",
                ],
            ),
        ];
        for (name, yaml, expected) in rows {
            let setting: LocalityLoadBalancerSetting = crate::parse(crate::yaml::value(yaml).unwrap()).unwrap();
            let mut c = Checker::of_spec();
            locality(&mut c, &setting, true);
            let problems: Vec<_> = c.finish().iter().map(ToString::to_string).collect();
            assert_eq!(problems, *expected, "{name}");
        }
    }
}
