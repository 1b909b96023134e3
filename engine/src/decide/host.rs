//! Which virtual host answers for a host.
//!
//! Envoy's order: the exact domain, then the longest `*suffix`, then the longest `prefix*`, then `*`. A wildcard stands
//! for at least one character.

use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
    ops::Range,
    sync::Arc,
};

use hashbrown::HashTable;

use crate::ir::route::VirtualHost;

/// Virtual hosts by domain.
#[derive(Clone, Debug, Default)]
pub struct HostIndex {
    exact: Names,
    suffixes: Wildcards,
    prefixes: Wildcards,
    any: Option<u32>,
    hosts: Box<[Arc<VirtualHost>]>,
}

/// Texts that lead to virtual hosts. All of them are parts of the hosts' own domains, so only the places are kept: a mesh
/// has thousands, each under four names.
#[derive(Clone, Debug, Default)]
struct Names {
    places: HashTable<Place>,
    hasher: RandomState,
}

/// A part of a domain of a host.
#[derive(Clone, Debug)]
struct Place {
    host: u32,
    domain: u32,
    part: Range<u16>,
}

impl Place {
    fn text<'a>(&self, hosts: &'a [Arc<VirtualHost>]) -> &'a str {
        let host = usize::try_from(self.host).ok().and_then(|index| hosts.get(index));
        let domain = usize::try_from(self.domain).ok().and_then(|index| host?.domains.get(index));
        domain.and_then(|domain| domain.get(self.part.start.into()..self.part.end.into())).unwrap_or_default()
    }
}

impl Names {
    /// Adds a name, unless there is one of this text.
    fn add(&mut self, place: Place, hosts: &[Arc<VirtualHost>]) {
        let Self { places, hasher } = self;
        let text = place.text(hosts);
        let hash = |place: &Place| hasher.hash_one(place.text(hosts));
        places.entry(hasher.hash_one(text), |known| known.text(hosts) == text, hash).or_insert(place);
    }

    fn find<'a>(&self, text: &str, hosts: &'a [Arc<VirtualHost>]) -> Option<&'a Arc<VirtualHost>> {
        let place = self.places.find(self.hasher.hash_one(text), |place| place.text(hosts) == text)?;
        hosts.get(usize::try_from(place.host).ok()?)
    }
}

/// Wildcard domains by what is fixed of them, and the lengths that occur, longest first.
#[derive(Clone, Debug, Default)]
struct Wildcards {
    fixed: Names,
    lengths: Vec<usize>,
}

/// From where a proxy looks at hosts: what short names mean to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewpoint {
    /// The proxy's own namespace.
    pub namespace: Box<str>,
    /// The cluster's DNS domain (`cluster.local`).
    pub domain: Box<str>,
}

impl HostIndex {
    /// Indexes `hosts`. Of two hosts with one domain the earlier keeps it; a domain that is written out beats a short
    /// name. Short names are added where there is a viewpoint.
    pub fn new(hosts: Vec<Arc<VirtualHost>>, viewpoint: Option<&Viewpoint>) -> Self {
        let hosts: Box<[_]> = hosts.into();
        let mut index = Self::default();
        let each = || {
            (0u32..).zip(&hosts).flat_map(|(number, host)| {
                (0u32..).zip(&host.domains).map(move |(domain, text)| (number, domain, &**text))
            })
        };
        for (host, domain, text) in each() {
            index.insert(host, domain, text, &hosts);
        }
        if let Some(viewpoint) = viewpoint {
            for (host, domain, text) in each() {
                for short in viewpoint.short_names(text) {
                    index.insert(host, domain, short, &hosts);
                }
            }
        }
        for wildcards in [&mut index.suffixes, &mut index.prefixes] {
            wildcards.lengths = wildcards.fixed.places.iter().map(|place| place.part.len()).collect();
            wildcards.lengths.sort_unstable_by(|left, right| right.cmp(left));
            wildcards.lengths.dedup();
        }
        index.hosts = hosts;
        index
    }

    /// Adds `text`, with which the domain begins.
    fn insert(&mut self, host: u32, domain: u32, text: &str, hosts: &[Arc<VirtualHost>]) {
        if text == "*" {
            self.any.get_or_insert(host);
            return;
        }
        // No name in the DNS is longer than 253 characters; what could not be asked for needs no place.
        let Ok(length) = u16::try_from(text.len()) else { return };
        let (names, part) = if text.starts_with('*') {
            (&mut self.suffixes.fixed, 1..length)
        } else if text.ends_with('*') {
            (&mut self.prefixes.fixed, 0..length - 1)
        } else {
            (&mut self.exact, 0..length)
        };
        names.add(Place { host, domain, part }, hosts);
    }

    /// The virtual host that answers for `authority`.
    pub fn find(&self, authority: &str, ignore_port: bool) -> Option<&Arc<VirtualHost>> {
        let host = if ignore_port { without_port(authority) } else { authority };
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = lower(host);
        let (host, hosts): (&str, _) = (&host, &self.hosts);
        self.exact
            .find(host, hosts)
            .or_else(|| self.suffixes.find(host, hosts, |host, length| host.get(host.len() - length..)))
            .or_else(|| self.prefixes.find(host, hosts, |host, length| host.get(..length)))
            .or_else(|| hosts.get(usize::try_from(self.any?).ok()?))
    }

    /// All virtual hosts, in order.
    pub fn hosts(&self) -> &[Arc<VirtualHost>] {
        &self.hosts
    }
}

/// Two indexes are the same when they hold the very same hosts.
impl PartialEq for HostIndex {
    fn eq(&self, other: &Self) -> bool {
        self.hosts.len() == other.hosts.len()
            && self.hosts.iter().zip(&other.hosts).all(|(left, right)| Arc::ptr_eq(left, right))
    }
}

impl Wildcards {
    fn find<'a, 'h>(
        &self,
        host: &'h str,
        hosts: &'a [Arc<VirtualHost>],
        part: impl Fn(&'h str, usize) -> Option<&'h str>,
    ) -> Option<&'a Arc<VirtualHost>> {
        self.lengths
            .iter()
            .filter(|length| **length < host.len())
            .find_map(|length| self.fixed.find(part(host, *length)?, hosts))
    }
}

impl Viewpoint {
    /// The short names of `<name>.<ns>.svc.<domain>`, all of which it begins with; a wildcard in front stays in front.
    pub fn short_names<'a>(&self, domain: &'a str) -> impl Iterator<Item = &'a str> {
        let parts = || {
            let in_namespace = domain.strip_suffix(&*self.domain)?.strip_suffix(".svc.")?;
            let (name, namespace) = in_namespace.rsplit_once('.')?;
            // A wildcard alone is no name.
            if name == "*" || name.is_empty() {
                return None;
            }
            let with_svc = domain.get(..in_namespace.len() + ".svc".len())?;
            Some([Some(with_svc), Some(in_namespace), (namespace == &*self.namespace).then_some(name)])
        };
        parts().into_iter().flatten().flatten()
    }
}

/// `host:port` without the port; an IPv6 address keeps its brackets.
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}
