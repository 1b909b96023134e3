//! Which endpoint of a cluster gets a request.

mod ring;

use std::{net::SocketAddr, ops::Range};

use fastrand::Rng;

pub(crate) use ring::Ring;

use crate::ir::{
    cluster::{Cluster, LbPolicy},
    endpoint::{Endpoint, EndpointSet, Health},
};

/// What the proxy itself knows of endpoints, by their place in the [`EndpointSet`].
pub trait Load {
    /// Whether any endpoint is ejected; cheap, because it is asked first.
    fn any_ejected(&self) -> bool;
    /// Whether this endpoint is ejected.
    fn ejected(&self, index: usize) -> bool;
    /// How many requests this endpoint has at the moment.
    fn active(&self, index: usize) -> u32;
}

/// What one choice depends on beside the endpoints.
#[derive(Debug)]
pub struct Choice<'a> {
    /// A random number.
    pub seed: u64,
    /// The cluster's turn, for round robin; goes up by one.
    pub turn: &'a mut u64,
    /// The request's hash, for consistent hashing.
    pub hash: Option<u64>,
    /// Endpoints that were tried already.
    pub avoid: &'a [SocketAddr],
    /// How often another endpoint is looked for when the chosen one is in `avoid`.
    pub attempts: u32,
}

/// The place in `set` of the endpoint that gets the request; `None` when none may (response flag `UH`).
pub fn pick(cluster: &Cluster, set: &EndpointSet, load: &impl Load, choice: &mut Choice<'_>) -> Option<usize> {
    let mut rng = Rng::with_seed(choice.seed);
    let candidates = candidates(cluster, set, load, &mut rng)?;
    let mut picked = pick_among(cluster.settings.lb, set, &candidates, load, choice, &mut rng)?;
    for _ in 0..choice.attempts {
        let tried = set.endpoints.get(picked).is_some_and(|endpoint| choice.avoid.contains(&endpoint.address));
        if !tried {
            break;
        }
        // A hash gives the same endpoint again and again; another one needs another hash.
        choice.hash = choice.hash.map(|hash| hash.wrapping_add(rng.u64(..)));
        picked = pick_among(cluster.settings.lb, set, &candidates, load, choice, &mut rng)?;
    }
    Some(picked)
}

/// Places in an [`EndpointSet`] that may be chosen from.
enum Candidates {
    /// All of a range.
    Range(Range<usize>),
    /// Some.
    List(Vec<usize>),
}

impl Candidates {
    fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List(list) => list.len(),
        }
    }

    fn get(&self, position: usize) -> Option<usize> {
        match self {
            Self::Range(range) => range.clone().nth(position),
            Self::List(list) => list.get(position).copied(),
        }
    }

    fn contains(&self, index: usize) -> bool {
        match self {
            Self::Range(range) => range.contains(&index),
            Self::List(list) => list.binary_search(&index).is_ok(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter_map(|position| self.get(position))
    }
}

/// The endpoints of the priority, and of the locality, that the request goes to.
fn candidates(cluster: &Cluster, set: &EndpointSet, load: &impl Load, rng: &mut Rng) -> Option<Candidates> {
    let all = 0..set.endpoints.len();
    if all.is_empty() {
        return None;
    }
    let first = set.endpoints.first()?;
    let one_priority = set.endpoints.last()?.priority == first.priority;
    let simple = one_priority && set.all_healthy && !load.any_ejected();
    if simple && !cluster.settings.locality_weighted {
        return Some(Candidates::Range(all));
    }

    let usable = |index: &usize| {
        set.endpoints.get(*index).is_some_and(|endpoint| endpoint.health == Health::Healthy) && !load.ejected(*index)
    };
    let levels: Vec<Range<usize>> = levels(&set.endpoints);
    let healthy: Vec<Vec<usize>> = levels.iter().map(|level| level.clone().filter(usable).collect()).collect();
    let level = by_priority(&levels, &healthy, set.overprovisioning, rng);
    let chosen = level.and_then(|level| healthy.get(level).zip(levels.get(level)));
    let list = match chosen {
        Some((healthy, level)) if !panics(cluster.settings.panic_threshold, healthy.len(), level.len()) => {
            if cluster.settings.locality_weighted {
                by_locality(set, level.clone(), healthy, rng)
            } else {
                healthy.clone()
            }
        }
        // So few are healthy that all of the level get traffic: better a chance than certain overload of the few.
        Some((_, level)) => return Some(Candidates::Range(level.clone())),
        None => last_resort(cluster, set, load),
    };
    (!list.is_empty()).then_some(Candidates::List(list))
}

fn panics(threshold: u8, healthy: usize, total: usize) -> bool {
    healthy * 100 < total * usize::from(threshold)
}

/// Nothing is healthy: endpoints on their way out serve, then (if the cluster panics at all) any.
fn last_resort(cluster: &Cluster, set: &EndpointSet, load: &impl Load) -> Vec<usize> {
    let with = |accept: &dyn Fn(&Endpoint) -> bool| -> Vec<usize> {
        set.endpoints.iter().enumerate().filter(|(_, endpoint)| accept(endpoint)).map(|(index, _)| index).collect()
    };
    let mut draining = with(&|endpoint| endpoint.health == Health::Draining);
    draining.retain(|index| !load.ejected(*index));
    if draining.is_empty() && cluster.settings.panic_threshold > 0 { with(&|_| true) } else { draining }
}

/// The ranges of equal priority.
fn levels(endpoints: &[Endpoint]) -> Vec<Range<usize>> {
    let mut levels = Vec::new();
    let mut start = 0;
    for group in endpoints.chunk_by(|left, right| left.priority == right.priority) {
        levels.push(start..start + group.len());
        start += group.len();
    }
    levels
}

/// The priority that a request goes to: each takes the share of what is left that its health allows.
fn by_priority(levels: &[Range<usize>], healthy: &[Vec<usize>], overprovisioning: u32, rng: &mut Rng) -> Option<usize> {
    let health: Vec<u64> = levels
        .iter()
        .zip(healthy)
        .map(|(level, healthy)| {
            let share = u64::from(overprovisioning) * healthy.len() as u64 / (level.len() as u64).max(1);
            share.min(100)
        })
        .collect();
    let total = health.iter().sum::<u64>().min(100);
    if total == 0 {
        return None;
    }
    let mut at = rng.u64(..total);
    for (index, share) in health.iter().enumerate() {
        if at < *share {
            return Some(index);
        }
        at -= share;
    }
    None
}

/// The healthy endpoints of one locality, chosen by the localities' weights and their health.
fn by_locality(set: &EndpointSet, level: Range<usize>, healthy: &[usize], rng: &mut Rng) -> Vec<usize> {
    let endpoint = |index: &usize| set.endpoints.get(*index);
    let mut localities: Vec<(&Endpoint, u64)> = Vec::new();
    for index in healthy {
        let Some(member) = endpoint(index) else { continue };
        if localities.iter().any(|(seen, _)| seen.locality == member.locality) {
            continue;
        }
        let count = |indexes: &mut dyn Iterator<Item = usize>| {
            indexes
                .filter_map(|index| set.endpoints.get(index))
                .filter(|other| other.locality == member.locality)
                .count() as u64
        };
        let (up, all) = (count(&mut healthy.iter().copied()), count(&mut level.clone()));
        let availability = (u64::from(set.overprovisioning) * up / all.max(1)).min(100);
        localities.push((member, u64::from(member.locality_weight) * availability));
    }
    let total: u64 = localities.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        return healthy.to_vec();
    }
    let mut at = rng.u64(..total);
    for (member, weight) in localities {
        if at < weight {
            return healthy
                .iter()
                .copied()
                .filter(|index| endpoint(index).is_some_and(|other| other.locality == member.locality))
                .collect();
        }
        at -= weight;
    }
    healthy.to_vec()
}

fn pick_among(
    policy: LbPolicy,
    set: &EndpointSet,
    candidates: &Candidates,
    load: &impl Load,
    choice: &mut Choice<'_>,
    rng: &mut Rng,
) -> Option<usize> {
    match policy {
        LbPolicy::RoundRobin => {
            let turn = *choice.turn;
            *choice.turn = turn.wrapping_add(1);
            in_turn(set, candidates, turn)
        }
        LbPolicy::LeastRequest { choices } => {
            let cost = |index: usize| {
                let weight = set.endpoints.get(index).map_or(1, |endpoint| endpoint.weight);
                // One more request, per unit of weight; shifted so that the division keeps its fraction.
                (u64::from(load.active(index)) + 1).saturating_mul(1 << 20) / u64::from(weight.max(1))
            };
            if candidates.len() <= 2 && choices >= 2 {
                // Two at random out of two may be the same one twice; both are better.
                let start = rng.usize(..candidates.len().max(1));
                return (0..candidates.len())
                    .filter_map(|offset| candidates.get((start + offset) % candidates.len()))
                    .min_by_key(|index| cost(*index));
            }
            (0..choices.max(1)).filter_map(|_| at_random(set, candidates, rng, true)).min_by_key(|index| cost(*index))
        }
        LbPolicy::Random | LbPolicy::ClusterProvided => at_random(set, candidates, rng, false),
        LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. } => {
            let hash = choice.hash.unwrap_or_else(|| rng.u64(..));
            match &set.ring {
                Some(ring) => ring.find(hash, |index| candidates.contains(index)),
                None => at_random(set, candidates, rng, false),
            }
        }
    }
}

/// The endpoint whose turn it is. With unequal weights the turns walk through the sum of the weights in steps of the
/// golden ratio, which spreads each endpoint's share evenly in time.
fn in_turn(set: &EndpointSet, candidates: &Candidates, turn: u64) -> Option<usize> {
    let count = candidates.len() as u64;
    if set.equal_weights {
        return candidates.get(usize::try_from(turn.checked_rem(count)?).ok()?);
    }
    let total = total_weight(set, candidates);
    let position = (u128::from(turn.wrapping_mul(0x9E37_79B9_7F4A_7C15)) * u128::from(total)) >> 64;
    at_weight(set, candidates, u64::try_from(position).ok()?)
}

fn at_random(set: &EndpointSet, candidates: &Candidates, rng: &mut Rng, uniform: bool) -> Option<usize> {
    if candidates.len() == 0 {
        return None;
    }
    if uniform || set.equal_weights {
        return candidates.get(rng.usize(..candidates.len()));
    }
    let total = total_weight(set, candidates);
    at_weight(set, candidates, rng.u64(..total.max(1)))
}

fn total_weight(set: &EndpointSet, candidates: &Candidates) -> u64 {
    candidates.iter().filter_map(|index| set.endpoints.get(index)).map(|endpoint| u64::from(endpoint.weight)).sum()
}

fn at_weight(set: &EndpointSet, candidates: &Candidates, mut at: u64) -> Option<usize> {
    for index in candidates.iter() {
        let weight = u64::from(set.endpoints.get(index)?.weight);
        if at < weight {
            return Some(index);
        }
        at -= weight;
    }
    candidates.get(0)
}
