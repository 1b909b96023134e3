//! Which route of a virtual host serves a request: the first that matches, as the VirtualService orders them.
//!
//! Exact paths and prefixes are found by binary search, so that only those routes are looked at whose path can match;
//! patterns and paths whose case does not count are tried one by one. What is searched are the routes themselves, in the
//! order of their paths: most hosts have one route, and there are thousands of hosts.

use std::sync::Arc;

use super::matching;
use crate::ir::route::{PathMatch, Request, Route};

/// The routes of a virtual host, ready to be searched.
#[derive(Debug, Default)]
pub struct Router {
    routes: Box<[Arc<Route>]>,
    /// Routes with an exact path, by path, then in order.
    exact: Box<[u32]>,
    /// Routes with a prefix, or for what is below a path, likewise.
    prefixes: Box<[u32]>,
    /// The lengths of `prefixes`, shortest first.
    lengths: Box<[usize]>,
    /// Routes whose path no search finds.
    others: Box<[u32]>,
}

impl Router {
    /// Prepares `routes`.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let (mut exact, mut prefixes, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (index, route) in (0u32..).zip(&routes) {
            match &route.matches.path {
                PathMatch::Exact { path, ignore_case: false } => exact.push((&**path, index)),
                PathMatch::Prefix { path, ignore_case: false } | PathMatch::Segments { path, ignore_case: false } => {
                    prefixes.push((&**path, index));
                }
                _ => others.push(index),
            }
        }
        let mut lengths: Vec<usize> = prefixes.iter().map(|(prefix, _)| prefix.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let by_path = |mut list: Vec<(&str, u32)>| {
            list.sort_unstable();
            list.into_iter().map(|(_, index)| index).collect()
        };
        let (exact, prefixes) = (by_path(exact), by_path(prefixes));
        Self { exact, prefixes, lengths: lengths.into(), others: others.into(), routes: routes.into() }
    }

    /// The first route that matches; `seed` decides routes for a share of requests.
    pub fn find(&self, request: &Request<'_>, seed: u64) -> Option<&Arc<Route>> {
        let path = request.path_only();
        let mut best = None;
        self.improve(&mut best, self.of_path(&self.exact, path.as_bytes()), request, seed);
        for length in &self.lengths {
            let Some(prefix) = path.as_bytes().get(..*length) else { break };
            self.improve(&mut best, self.of_path(&self.prefixes, prefix), request, seed);
        }
        self.improve(&mut best, &self.others, request, seed);
        best.map(|(_, route)| route)
    }

    /// Those of `sorted` that have this very path.
    fn of_path<'a>(&self, sorted: &'a [u32], path: &[u8]) -> &'a [u32] {
        let start = sorted.partition_point(|index| self.path(*index) < path);
        let rest = sorted.get(start..).unwrap_or_default();
        let length = rest.iter().take_while(|index| self.path(**index) == path).count();
        rest.get(..length).unwrap_or_default()
    }

    fn path(&self, index: u32) -> &[u8] {
        match self.route(index).map(|route| &route.matches.path) {
            Some(PathMatch::Exact { path, .. } | PathMatch::Prefix { path, .. } | PathMatch::Segments { path, .. }) => {
                path.as_bytes()
            }
            _ => &[],
        }
    }

    fn route(&self, index: u32) -> Option<&Arc<Route>> {
        usize::try_from(index).ok().and_then(|index| self.routes.get(index))
    }

    /// Replaces `best` by the first route of `list` that matches and comes earlier.
    fn improve<'a>(&'a self, best: &mut Option<(u32, &'a Arc<Route>)>, list: &[u32], request: &Request<'_>, seed: u64) {
        for index in list {
            if best.is_some_and(|(found, _)| found < *index) {
                return;
            }
            let Some(route) = self.route(*index) else { continue };
            if matching::route(&route.matches, request, seed) {
                *best = Some((*index, route));
                return;
            }
        }
    }

    /// All routes, in order.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}
