//! Consistent hashing: a ring of points, or Maglev's table.

use crate::ir::{cluster::LbPolicy, endpoint::Endpoint};

/// Where hashes lead to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ring {
    /// Points in order; a hash leads to the next one.
    Points(Box<[(u64, u32)]>),
    /// A hash leads to its remainder's place.
    Table(Box<[u32]>),
}

/// The largest table or ring, whatever the configuration says.
const MOST_POINTS: u64 = 1 << 20;

impl Ring {
    /// The ring for `endpoints`, if `policy` hashes.
    pub(crate) fn build(endpoints: &[Endpoint], policy: LbPolicy) -> Option<Self> {
        if endpoints.is_empty() {
            return None;
        }
        match policy {
            LbPolicy::RingHash { minimum_size, maximum_size } => {
                Some(Self::points(endpoints, minimum_size, maximum_size.min(MOST_POINTS)))
            }
            LbPolicy::Maglev { table_size } => Some(Self::table(endpoints, table_size.clamp(2, MOST_POINTS))),
            _ => None,
        }
    }

    fn points(endpoints: &[Endpoint], minimum: u64, maximum: u64) -> Self {
        let total: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum::<u64>().max(1);
        let count = endpoints.len() as u64;
        // So many points that the lightest endpoint has one, within the bounds.
        let lightest = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).min().unwrap_or(1).max(1);
        let size = total.div_ceil(lightest).max(minimum).min(maximum.max(count));
        let mut points = Vec::new();
        for (index, endpoint) in (0u32..).zip(endpoints) {
            let share = (size * u64::from(endpoint.weight)).div_ceil(total).max(1);
            for point in 0..share {
                points.push((hash(format!("{}_{point}", endpoint.address).as_bytes()), index));
            }
        }
        points.sort_unstable();
        Self::Points(points.into())
    }

    /// Maglev (Eisenbud and others, 2016): each endpoint in turn takes the next free place of its own permutation.
    fn table(endpoints: &[Endpoint], size: u64) -> Self {
        const FREE: u32 = u32::MAX;
        let heaviest = endpoints.iter().map(|endpoint| endpoint.weight).max().unwrap_or(1).max(1);
        let mut table = vec![FREE; usize::try_from(size).unwrap_or(2)];
        let mut walks: Vec<(u64, u64, u64)> = endpoints
            .iter()
            .map(|endpoint| {
                let name = endpoint.address.to_string();
                (hash(name.as_bytes()) % size, hash(format!("{name}!").as_bytes()) % (size - 1) + 1, 0)
            })
            .collect();
        let mut filled = 0;
        for round in 1u64.. {
            for (index, endpoint) in (0u32..).zip(endpoints) {
                let Some(walk) = usize::try_from(index).ok().and_then(|index| walks.get_mut(index)) else { continue };
                // An endpoint takes part in as many rounds as its weight is of the heaviest.
                if walk.2 * u64::from(heaviest) >= round * u64::from(endpoint.weight) {
                    continue;
                }
                walk.2 += 1;
                for _ in 0..size {
                    let place = walk.0;
                    walk.0 = (walk.0 + walk.1) % size;
                    match usize::try_from(place).ok().and_then(|place| table.get_mut(place)) {
                        Some(free) if *free == FREE => {
                            *free = index;
                            filled += 1;
                            break;
                        }
                        _ => {}
                    }
                }
                if filled == size {
                    return Self::Table(table.into());
                }
            }
            if round > size * u64::from(heaviest) {
                break;
            }
        }
        Self::Table(table.into())
    }

    /// The first endpoint from `hash` on that may be used.
    pub(crate) fn find(&self, hash: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let (start, length) = match self {
            Self::Points(points) => (points.partition_point(|(point, _)| *point < hash), points.len()),
            Self::Table(table) => {
                let length = table.len();
                (usize::try_from(hash.checked_rem(length as u64)?).ok()?, length)
            }
        };
        (0..length).find_map(|offset| {
            let place = (start + offset) % length;
            let index = match self {
                Self::Points(points) => points.get(place)?.1,
                Self::Table(table) => *table.get(place)?,
            };
            usize::try_from(index).ok().filter(|index| usable(*index))
        })
    }
}

/// A stable 64-bit hash (FNV-1a with a final mix): every proxy of every version gives the same.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut state = 0xCBF2_9CE4_8422_2325u64;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}
