//! Which endpoint of a cluster gets a request, as tables.

use std::sync::Arc;

use forestay_engine::{
    Endpoint, EndpointSet,
    decide::balance::{Choice, Load, pick},
    ir::{
        cluster::{Cluster, ClusterKind, ClusterTransport, LbPolicy, Settings},
        endpoint::{Health, Locality},
        tls::UpstreamTransport,
    },
};

struct Idle;

impl Load for Idle {
    fn any_ejected(&self) -> bool {
        false
    }
    fn ejected(&self, _: usize) -> bool {
        false
    }
    fn active(&self, _: usize) -> u32 {
        0
    }
}

/// Requests by endpoint; `u32::MAX` is ejected.
struct Busy(Vec<u32>);

impl Load for Busy {
    fn any_ejected(&self) -> bool {
        self.0.contains(&u32::MAX)
    }
    fn ejected(&self, index: usize) -> bool {
        self.0[index] == u32::MAX
    }
    fn active(&self, index: usize) -> u32 {
        self.0[index]
    }
}

fn endpoint(number: u8, health: Health, weight: u32, priority: u32) -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, number], 80).into(),
        additional_addresses: [].into(),
        hostname: None,
        weight,
        health,
        mtls: false,
        workload: None,
        locality: Arc::new(Locality::default()),
        locality_weight: 0,
        priority,
    }
}

fn in_zone(endpoint: Endpoint, zone: &str, locality_weight: u32) -> Endpoint {
    Endpoint { locality: Arc::new(Locality { zone: zone.into(), ..Locality::default() }), locality_weight, ..endpoint }
}

fn with_policy(lb: LbPolicy) -> Cluster {
    with(Settings { lb, panic_threshold: 0, ..Settings::default() })
}

fn with(settings: Settings) -> Cluster {
    Cluster {
        name: "c".into(),
        kind: ClusterKind::Eds { service_name: "c".into() },
        transport: ClusterTransport::Uniform(UpstreamTransport::Plaintext),
        service: None,
        settings: settings.into(),
        provenance: None,
    }
}

/// How often each endpoint is picked in `rounds`.
fn spread(cluster: &Cluster, endpoints: Vec<Endpoint>, load: &impl Load, rounds: u64) -> Vec<u64> {
    let set = EndpointSet::new(endpoints, cluster.settings.lb);
    let mut counts = vec![0; set.endpoints.len()];
    let mut turn = 0;
    for seed in 0..rounds {
        let mut choice = Choice { seed, turn: &mut turn, hash: None, avoid: &[], attempts: 0 };
        if let Some(index) = pick(cluster, &set, load, &mut choice) {
            counts[index] += 1;
        }
    }
    counts
}

const UP: Health = Health::Healthy;
const DOWN: Health = Health::Unhealthy;
const GOING: Health = Health::Draining;

#[test]
fn round_robin_is_even_and_weights_are_kept() {
    let cluster = with_policy(LbPolicy::RoundRobin);
    let of = |weights: [u32; 3]| (1..).zip(weights).map(|(number, weight)| endpoint(number, UP, weight, 0)).collect();
    assert_eq!(spread(&cluster, of([1, 1, 1]), &Idle, 300), [100, 100, 100]);
    let weighted = spread(&cluster, of([1, 2, 7]), &Idle, 1000);
    for (count, expected) in weighted.iter().zip([100, 200, 700]) {
        assert!(count.abs_diff(expected) <= 2, "{weighted:?}");
    }
}

#[test]
fn random_and_least_request_spread_and_avoid_the_busy() {
    let three = || (1..=3).map(|number| endpoint(number, UP, 1, 0)).collect::<Vec<_>>();
    for lb in [LbPolicy::Random, LbPolicy::LeastRequest { choices: 2 }] {
        let counts = spread(&with_policy(lb), three(), &Idle, 3000);
        assert!(counts.iter().all(|count| count.abs_diff(1000) < 150), "{lb:?}: {counts:?}");
    }
    let least = with_policy(LbPolicy::LeastRequest { choices: 2 });
    let counts = spread(&least, three(), &Busy(vec![10, 0, 0]), 3000);
    assert!(counts[0] < 500, "only where it is drawn twice: {counts:?}");
    let two = vec![endpoint(1, UP, 1, 0), endpoint(2, UP, 1, 0)];
    assert_eq!(spread(&least, two, &Busy(vec![5, 0]), 100), [0, 100], "of two, both are looked at");
    let heavy = vec![endpoint(1, UP, 10, 0), endpoint(2, UP, 1, 0)];
    assert_eq!(spread(&least, heavy, &Busy(vec![5, 1]), 100), [100, 0], "requests count per unit of weight");
}

#[test]
fn health_ejection_and_priority_decide_who_may_be_picked() {
    let random = with_policy(LbPolicy::Random);
    let panicking = with(Settings { lb: LbPolicy::Random, panic_threshold: 50, ..Settings::default() });
    let share = |counts: &[u64]| counts.iter().map(|count| *count > 0).collect::<Vec<_>>();
    for (name, cluster, endpoints, load, expected) in [
        (
            "the sick and the leaving get nothing",
            &random,
            vec![(UP, 0), (DOWN, 0), (GOING, 0)],
            vec![0; 3],
            vec![true, false, false],
        ),
        ("the ejected get nothing", &random, vec![(UP, 0), (UP, 0)], vec![u32::MAX, 0], vec![false, true]),
        (
            "the leaving serve when there is no one else",
            &random,
            vec![(DOWN, 0), (GOING, 0)],
            vec![0; 2],
            vec![false, true],
        ),
        ("nobody", &random, vec![(DOWN, 0), (DOWN, 0)], vec![0; 2], vec![false, false]),
        ("panic", &panicking, vec![(DOWN, 0), (DOWN, 0), (UP, 0)], vec![0; 3], vec![true, true, true]),
        ("panic with nobody", &panicking, vec![(DOWN, 0), (DOWN, 0)], vec![0; 2], vec![true, true]),
        ("the first priority has all", &random, vec![(UP, 0), (UP, 0), (UP, 1)], vec![0; 3], vec![true, true, false]),
        (
            "one of two is below 72 %: the second helps",
            &random,
            vec![(UP, 0), (DOWN, 0), (UP, 1)],
            vec![0; 3],
            vec![true, false, true],
        ),
        ("the second takes over", &random, vec![(DOWN, 0), (UP, 1)], vec![0; 2], vec![false, true]),
    ] {
        let endpoints = (1..).zip(endpoints).map(|(number, (health, priority))| endpoint(number, health, 1, priority));
        assert_eq!(share(&spread(cluster, endpoints.collect(), &Busy(load), 500)), expected, "{name}");
    }
}

#[test]
fn localities_are_weighted_and_lose_weight_with_their_health() {
    let cluster =
        with(Settings { lb: LbPolicy::Random, panic_threshold: 0, locality_weighted: true, ..Settings::default() });
    let near = |number, health| in_zone(endpoint(number, health, 1, 0), "near", 80);
    let far = |number| in_zone(endpoint(number, UP, 1, 0), "far", 20);
    let counts = spread(&cluster, vec![near(1, UP), near(2, UP), far(3)], &Idle, 5000);
    assert!(counts[2].abs_diff(1000) < 150, "{counts:?}");
    let counts = spread(&cluster, vec![near(1, UP), near(2, DOWN), near(3, DOWN), far(4)], &Idle, 5000);
    // 80 * 46 % against 20.
    assert!(counts[3].abs_diff(1760) < 200, "{counts:?}");
}

#[test]
fn hashing_is_stable_and_moves_little() {
    for lb in
        [LbPolicy::RingHash { minimum_size: 1024, maximum_size: 8 << 20 }, LbPolicy::Maglev { table_size: 65_537 }]
    {
        let cluster = with_policy(lb);
        let of = |numbers: &[u8]| {
            let endpoints = numbers.iter().map(|number| endpoint(*number, UP, 1, 0)).collect();
            EndpointSet::new(endpoints, lb)
        };
        let find = |set: &EndpointSet, hash: u64, load: &Busy| {
            let mut turn = 0;
            let mut choice =
                Choice { seed: hash.wrapping_add(77), turn: &mut turn, hash: Some(hash), avoid: &[], attempts: 0 };
            pick(&cluster, set, load, &mut choice).map(|index| set.endpoints[index].address)
        };
        let (four, three) = (of(&[1, 2, 3, 4]), of(&[1, 2, 3]));
        let idle = |count| Busy(vec![0; count]);
        let hashes: Vec<u64> = (0..2000u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let moved =
            hashes.iter().filter(|hash| find(&four, **hash, &idle(4)) != find(&three, **hash, &idle(3))).count();
        // A quarter has to move; the ring also gives the three that stay more points, as Envoy's does.
        assert!((350..900).contains(&moved), "{lb:?}: {moved} of 2000 moved");
        let last = four.endpoints[3].address;
        let own = hashes.iter().filter(|hash| find(&four, **hash, &idle(4)) == Some(last)).count();
        assert!((350..650).contains(&own), "{lb:?}: {own}");
        for hash in hashes.iter().take(100) {
            assert_eq!(find(&four, *hash, &idle(4)), find(&four, *hash, &idle(4)));
            let without = find(&four, *hash, &Busy(vec![0, 0, 0, u32::MAX]));
            assert_ne!(without, Some(last), "an ejected endpoint gets nothing");
        }
    }
}

#[test]
fn an_endpoint_that_was_tried_is_avoided() {
    let cluster = with_policy(LbPolicy::RoundRobin);
    let set = EndpointSet::new(vec![endpoint(1, UP, 1, 0), endpoint(2, UP, 1, 0)], cluster.settings.lb);
    let avoid = [set.endpoints[0].address];
    for turn in 0..4 {
        let mut turn = turn;
        let mut choice = Choice { seed: 1, turn: &mut turn, hash: None, avoid: &avoid, attempts: 5 };
        assert_eq!(pick(&cluster, &set, &Idle, &mut choice), Some(1));
    }
    let alone = EndpointSet::new(vec![endpoint(1, UP, 1, 0)], cluster.settings.lb);
    let mut turn = 0;
    let mut choice = Choice { seed: 1, turn: &mut turn, hash: None, avoid: &avoid, attempts: 5 };
    assert_eq!(pick(&cluster, &alone, &Idle, &mut choice), Some(0), "better again than not at all");
}
