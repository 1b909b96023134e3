//! Clusters whose endpoints are names: resolved on the control thread, once for all workers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::EndpointSet;
use engine::ir::cluster::{Cluster, ClusterKind, Dns, DnsFamily};
use engine::ir::endpoint::Endpoint;
use hickory_resolver::TokioResolver;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::net::Net;
use crate::xds::publish::{Publisher, Update};

/// The shortest wait between two questions, whatever a TTL says.
const SHORTEST: Duration = Duration::from_secs(1);

/// Where names are looked up.
#[derive(Clone)]
pub enum Resolver {
    /// The pod's resolver, with its search domains and TTLs.
    System(Box<TokioResolver>),
    /// A test's network.
    Net(Net),
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::System(_) => "Resolver::System",
            Self::Net(_) => "Resolver::Net",
        })
    }
}

impl Resolver {
    /// The resolver of `/etc/resolv.conf`; without one, the C library's.
    pub fn system() -> Self {
        match TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build) {
            Ok(resolver) => Self::System(Box::new(resolver)),
            Err(error) => {
                tracing::warn!(%error, "/etc/resolv.conf cannot be read; names are resolved without TTLs");
                Self::Net(Net::Host)
            }
        }
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<(Vec<SocketAddr>, Option<Duration>), String> {
        match self {
            Self::System(resolver) => {
                let answer = resolver.lookup_ip(host).await.map_err(|error| error.to_string())?;
                let ttl = answer.valid_until().saturating_duration_since(std::time::Instant::now());
                let mut found: Vec<SocketAddr> = answer.iter().map(|ip| SocketAddr::new(ip, port)).collect();
                found.sort_unstable(); // the order of answers turns; the set is what matters
                found.dedup();
                Ok((found, Some(ttl)))
            }
            Self::Net(net) => {
                let found = net.resolve(host, port).await.map_err(|error| error.to_string())?;
                Ok((found, None))
            }
        }
    }
}

/// Keeps the endpoints of all DNS clusters fresh, as long as there are snapshots.
pub async fn run(publisher: Arc<Publisher>, resolver: Resolver) {
    let mut updates = publisher.subscribe();
    let mut running: HashMap<Arc<str>, (Arc<Cluster>, AbortHandle)> = HashMap::new();
    while let Some(update) = updates.next().await {
        let Update::Snapshot(snapshot) = update else { continue };
        running.retain(|name, (config, task)| {
            let same = snapshot
                .cluster(name)
                .is_some_and(|now| now.kind == config.kind && now.settings.lb == config.settings.lb);
            if !same {
                task.abort();
                if snapshot.cluster(name).is_none() {
                    publisher.removed(name.clone());
                }
            }
            same
        });
        for cluster in snapshot.clusters() {
            let (dns, one) = match &cluster.kind {
                ClusterKind::StrictDns(dns) => (dns.clone(), false),
                ClusterKind::LogicalDns(dns) => (dns.clone(), true),
                _ => continue,
            };
            if running.contains_key(&cluster.name) {
                continue;
            }
            let task = tokio::spawn(keep(publisher.clone(), resolver.clone(), cluster.clone(), dns, one));
            running.insert(cluster.name.clone(), (cluster.clone(), task.abort_handle()));
        }
    }
}

async fn keep(publisher: Arc<Publisher>, resolver: Resolver, cluster: Arc<Cluster>, dns: Box<Dns>, one: bool) {
    let mut last: Option<Vec<SocketAddr>> = None;
    loop {
        let started = Instant::now();
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let (mut wait, mut complete) = (dns.refresh_rate, true);
        for target in &dns.targets {
            match resolver.resolve(&target.host, target.port).await {
                Ok((found, ttl)) => {
                    let chosen = of_family(found, dns.family);
                    let chosen = chosen.into_iter().take(if one { 1 } else { usize::MAX });
                    endpoints.extend(chosen.map(|address| Endpoint {
                        address,
                        hostname: target.template.hostname.clone().or_else(|| Some(target.host.as_ref().into())),
                        ..target.template.clone()
                    }));
                    if let Some(ttl) = ttl.filter(|_| dns.respect_ttl) {
                        wait = wait.min(ttl);
                    }
                }
                Err(error) => {
                    tracing::debug!(cluster = %cluster.name, host = %target.host, %error, "name not resolved");
                    complete = false;
                }
            }
        }
        // After a failure the last good addresses stay: they may well still work.
        let addresses: Vec<SocketAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
        if (complete || last.is_none()) && last.as_ref() != Some(&addresses) {
            publisher.endpoints(cluster.name.clone(), Arc::new(EndpointSet::new(endpoints, cluster.settings.lb)));
            last = Some(addresses);
        }
        tokio::time::sleep_until(started + wait.max(SHORTEST)).await;
    }
}

fn of_family(found: Vec<SocketAddr>, family: DnsFamily) -> Vec<SocketAddr> {
    let (v4, v6): (Vec<_>, Vec<_>) = found.into_iter().partition(SocketAddr::is_ipv4);
    match family {
        DnsFamily::V4Only => v4,
        DnsFamily::V6Only => v6,
        DnsFamily::Auto => {
            if v6.is_empty() {
                v4
            } else {
                v6
            }
        }
        DnsFamily::V4Preferred => {
            if v4.is_empty() {
                v6
            } else {
                v4
            }
        }
        DnsFamily::All => v4.into_iter().chain(v6).collect(),
    }
}
