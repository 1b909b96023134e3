//! Which of several weighted clusters a request or a connection goes to.

use crate::ir::{
    listener::{TcpChain, TcpCluster},
    route::{Clusters, WeightedCluster},
};

/// The cluster of a route for a uniformly random `seed`.
pub fn pick(clusters: &Clusters, seed: u64) -> Option<&WeightedCluster> {
    by_weight(&clusters.members, |cluster| cluster.weight, seed)
}

/// The cluster of a TCP chain for a uniformly random `seed`.
pub fn pick_tcp(chain: &TcpChain, seed: u64) -> Option<&TcpCluster> {
    by_weight(&chain.clusters, |cluster| cluster.weight, seed)
}

fn by_weight<T>(members: &[T], weight: impl Fn(&T) -> u32, seed: u64) -> Option<&T> {
    if let [only] = members {
        return Some(only);
    }
    let total: u64 = members.iter().map(|member| u64::from(weight(member))).sum();
    let mut left = seed.checked_rem(total)?;
    for member in members {
        let weight = u64::from(weight(member));
        if left < weight {
            return Some(member);
        }
        left -= weight;
    }
    None
}
