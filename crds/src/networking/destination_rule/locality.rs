//! What is wrong with a preference of near endpoints.

use super::{LocalityDistribute, LocalityFailover, LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting};
use crate::check::Checker;

/// Labels of an endpoint that say where it is, from the widest on.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// `ejects`: whether outlier detection finds out that an endpoint fails.
pub(super) fn locality(c: &mut Checker, setting: &LocalityLoadBalancerSetting, ejects: bool) {
    c.at_most_one(&[("distribute", !setting.distribute.is_empty()), ("failover", !setting.failover.is_empty())]);
    let from: Vec<_> = setting.distribute.iter().map(|distribute| distribute.from.as_str()).collect();
    for (index, distribute) in setting.distribute.iter().enumerate() {
        c.field(&format!("distribute[{index}]"), |c| {
            place(c, "from", &distribute.from, from.iter().take(index).copied());
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
    for (index, (name, share)) in distribute.to.iter().enumerate() {
        c.key("to", name, |c| {
            place(c, "", name, to.iter().take(index).copied());
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

/// `region`, `region/zone` or `region/zone/subzone`, with `*` for the rest; none that another covers.
fn place<'a>(c: &mut Checker, field: &str, text: &str, earlier: impl Iterator<Item = &'a str>) {
    let wildcards = text.matches('*').count();
    if wildcards > 1 || (wildcards == 1 && !text.ends_with('*')) {
        c.error(field, format!("\"{text}\" is not a locality: a wildcard may only stand at its end"));
    } else if text.splitn(3, '/').any(str::is_empty) {
        c.error(field, format!("\"{text}\" is not a locality: write region, region/zone or region/zone/subzone"));
    }
    for other in earlier {
        if covers(other, text) || covers(text, other) {
            c.error(field, format!("\"{text}\" and \"{other}\" overlap"));
        }
    }
}

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
    use super::{LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting, covers, locality, zone_aware};
    use crate::check::Checker;

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
