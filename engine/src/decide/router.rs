//! Which route of a virtual host serves a request: the first that matches, as the VirtualService orders them.
//!
//! Exact paths and prefixes are found by hash, so that only those routes are looked at whose path can match; patterns
//! and paths whose case does not count are tried one by one.

use std::{collections::HashMap, sync::Arc};

use super::matching;
use crate::ir::route::{PathMatch, Request, Route};

/// The routes of a virtual host, ready to be searched.
#[derive(Debug, Default)]
pub struct Router {
    routes: Box<[Arc<Route>]>,
    exact: HashMap<Box<str>, Vec<u32>>,
    /// Prefixes, and what is below a path.
    prefixes: HashMap<Box<str>, Vec<u32>>,
    /// The lengths of `prefixes`, shortest first.
    lengths: Vec<usize>,
    /// Routes whose path no hash finds.
    others: Vec<u32>,
}

impl Router {
    /// Prepares `routes`.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let mut router = Self::default();
        for (index, route) in (0u32..).zip(&routes) {
            match &route.matches.path {
                PathMatch::Exact { path, ignore_case: false } => {
                    router.exact.entry(path.clone()).or_default().push(index);
                }
                PathMatch::Prefix { path, ignore_case: false } | PathMatch::Segments { path, ignore_case: false } => {
                    router.prefixes.entry(path.clone()).or_default().push(index);
                }
                _ => router.others.push(index),
            }
        }
        router.lengths = router.prefixes.keys().map(|prefix| prefix.len()).collect();
        router.lengths.sort_unstable();
        router.lengths.dedup();
        router.routes = routes.into();
        router
    }

    /// The first route that matches; `seed` decides routes for a share of requests.
    pub fn find(&self, request: &Request<'_>, seed: u64) -> Option<&Arc<Route>> {
        let path = request.path_only();
        let mut best = None;
        if let Some(list) = self.exact.get(path) {
            self.improve(&mut best, list, request, seed);
        }
        for length in &self.lengths {
            let Some(prefix) = path.as_bytes().get(..*length) else { break };
            // A prefix that ends inside a character is no prefix of ours: configuration is text.
            let Ok(prefix) = std::str::from_utf8(prefix) else { continue };
            if let Some(list) = self.prefixes.get(prefix) {
                self.improve(&mut best, list, request, seed);
            }
        }
        self.improve(&mut best, &self.others, request, seed);
        best.map(|(_, route)| route)
    }

    /// Replaces `best` by the first route of `list` that matches and comes earlier.
    fn improve<'a>(&'a self, best: &mut Option<(u32, &'a Arc<Route>)>, list: &[u32], request: &Request<'_>, seed: u64) {
        for index in list {
            if best.is_some_and(|(found, _)| found < *index) {
                return;
            }
            let Some(route) = usize::try_from(*index).ok().and_then(|index| self.routes.get(index)) else { continue };
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
