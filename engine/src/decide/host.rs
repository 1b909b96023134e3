//! Which virtual host answers for a host.
//!
//! Envoy's order: the exact domain, then the longest `*suffix`, then the longest `prefix*`, then `*`. A wildcard stands
//! for at least one character.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use crate::ir::route::VirtualHost;

/// Virtual hosts by domain.
#[derive(Clone, Debug, Default)]
pub struct HostIndex {
    exact: HashMap<Box<str>, Arc<VirtualHost>>,
    suffixes: Wildcards,
    prefixes: Wildcards,
    any: Option<Arc<VirtualHost>>,
    hosts: Vec<Arc<VirtualHost>>,
}

/// Wildcard domains by what is fixed of them, and the lengths that occur, longest first.
#[derive(Clone, Debug, Default)]
struct Wildcards {
    fixed: HashMap<Box<str>, Arc<VirtualHost>>,
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
        let mut index = Self::default();
        for host in &hosts {
            for domain in &host.domains {
                index.insert(domain, host);
            }
        }
        if let Some(viewpoint) = viewpoint {
            for host in &hosts {
                for short in host.domains.iter().flat_map(|domain| viewpoint.short_names(domain)) {
                    index.insert(&short, host);
                }
            }
        }
        for wildcards in [&mut index.suffixes, &mut index.prefixes] {
            wildcards.lengths = wildcards.fixed.keys().map(|fixed| fixed.len()).collect();
            wildcards.lengths.sort_unstable_by(|left, right| right.cmp(left));
            wildcards.lengths.dedup();
        }
        index.hosts = hosts;
        index
    }

    fn insert(&mut self, domain: &str, host: &Arc<VirtualHost>) {
        if domain == "*" {
            self.any.get_or_insert_with(|| host.clone());
            return;
        }
        let (map, key) = if let Some(suffix) = domain.strip_prefix('*') {
            (&mut self.suffixes.fixed, suffix)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            (&mut self.prefixes.fixed, prefix)
        } else {
            (&mut self.exact, domain)
        };
        map.entry(key.into()).or_insert_with(|| host.clone());
    }

    /// The virtual host that answers for `authority`.
    pub fn find(&self, authority: &str, ignore_port: bool) -> Option<&Arc<VirtualHost>> {
        let host = if ignore_port { without_port(authority) } else { authority };
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = lower(host);
        let host: &str = &host;
        self.exact
            .get(host)
            .or_else(|| self.suffixes.find(host, |host, length| host.get(host.len() - length..)))
            .or_else(|| self.prefixes.find(host, |host, length| host.get(..length)))
            .or(self.any.as_ref())
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
    fn find<'h>(&self, host: &'h str, part: impl Fn(&'h str, usize) -> Option<&'h str>) -> Option<&Arc<VirtualHost>> {
        self.lengths
            .iter()
            .filter(|length| **length < host.len())
            .find_map(|length| self.fixed.get(part(host, *length)?))
    }
}

impl Viewpoint {
    /// The short names of `<name>.<ns>.svc.<domain>`; a wildcard in front stays in front.
    pub fn short_names(&self, domain: &str) -> Vec<String> {
        let (wildcard, fqdn) = match domain.strip_prefix("*.") {
            Some(rest) => ("*.", rest),
            None => ("", domain),
        };
        let Some((name, namespace)) = fqdn
            .strip_suffix(&*self.domain)
            .and_then(|rest| rest.strip_suffix(".svc."))
            .and_then(|rest| rest.rsplit_once('.'))
        else {
            return Vec::new();
        };
        let mut short = vec![format!("{wildcard}{name}.{namespace}.svc"), format!("{wildcard}{name}.{namespace}")];
        if namespace == &*self.namespace {
            short.push(format!("{wildcard}{name}"));
        }
        short
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
