//! Endpoints that are left out for a while because they fail, as all workers see it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::ir::cluster::Outlier;
use tokio::time::Instant;

/// What is counted of one endpoint.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Record {
    server_errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_errors: AtomicU32,
    ejections: AtomicU32,
    /// Milliseconds on the cluster's clock; in the past if it is not ejected.
    ejected_until: AtomicU64,
}

/// How a request or a connection went, for the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The endpoint answered with this status.
    Status(u16),
    /// No connection, or no answer.
    Failed,
}

/// The ejections of a cluster.
#[derive(Debug)]
pub struct Ejections {
    started: Instant,
    records: Mutex<HashMap<SocketAddr, Arc<Record>>>,
    /// No endpoint is ejected after this.
    latest: AtomicU64,
}

impl Default for Ejections {
    fn default() -> Self {
        Self { started: Instant::now(), records: Mutex::default(), latest: AtomicU64::new(0) }
    }
}

impl Ejections {
    /// The record of an endpoint; asked for when the endpoint is new.
    pub fn record(&self, address: SocketAddr) -> Arc<Record> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default().clone()
    }

    /// Whether any endpoint is ejected now.
    pub fn any(&self) -> bool {
        let latest = self.latest.load(Ordering::Relaxed);
        latest != 0 && self.now() < latest
    }

    /// Whether this endpoint is ejected now.
    pub fn ejected(&self, record: &Record) -> bool {
        let until = record.ejected_until.load(Ordering::Relaxed);
        until != 0 && self.now() < until
    }

    /// Counts what happened, and ejects the endpoint if it was too much; says whether it did. `total` is how many endpoints the cluster has.
    pub fn count(&self, rules: &Outlier, record: &Record, seen: Seen, total: usize) -> bool {
        let too_many = |count: &AtomicU32, limit: u32, failed: bool| {
            if !failed {
                count.store(0, Ordering::Relaxed);
                return false;
            }
            limit > 0 && count.fetch_add(1, Ordering::Relaxed) + 1 >= limit
        };
        let (server, gateway, local) = match seen {
            Seen::Status(status) => (status >= 500, (502..=504).contains(&status), false),
            Seen::Failed if rules.split_local_origin => (false, false, true),
            Seen::Failed => (true, true, false),
        };
        let mut eject = false;
        // With split counts a failed connection says nothing about answers.
        if !(rules.split_local_origin && local) {
            eject |= too_many(&record.server_errors, rules.consecutive_5xx, server);
            eject |= too_many(&record.gateway_errors, rules.consecutive_gateway, gateway);
        }
        if rules.split_local_origin {
            eject |= too_many(&record.local_errors, rules.consecutive_local_origin, local);
        }
        eject && !self.ejected(record) && self.eject(rules, record, total)
    }

    fn eject(&self, rules: &Outlier, record: &Record, total: usize) -> bool {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let out = records.values().filter(|other| self.ejected(other)).count();
        let share = (out + 1) * 100 / total.max(1);
        let allowed = usize::try_from(rules.max_ejection_percent).unwrap_or(100);
        if share > allowed && !(out == 0 && rules.always_eject_one) {
            return false;
        }
        let times = record.ejections.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let length = rules.base_ejection.saturating_mul(times).min(rules.max_ejection.max(rules.base_ejection));
        let until = self.now().saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
        record.ejected_until.store(until, Ordering::Relaxed);
        self.latest.fetch_max(until, Ordering::Relaxed);
        for count in [&record.server_errors, &record.gateway_errors, &record.local_errors] {
            count.store(0, Ordering::Relaxed);
        }
        true
    }

    /// Never zero, so that zero stands for "never ejected".
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Forgets endpoints that nobody has any more.
    pub fn tidy(&self) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, record| Arc::strong_count(record) > 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::ir::cluster::Outlier;

    use super::{Ejections, Seen};

    fn rules() -> Outlier {
        Outlier {
            consecutive_5xx: 3,
            consecutive_gateway: 0,
            consecutive_local_origin: 0,
            split_local_origin: false,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_mins(5),
            max_ejection_percent: 50,
            always_eject_one: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_in_a_row_eject_for_longer_each_time() {
        let ejections = Ejections::default();
        let one = ejections.record("10.0.0.1:80".parse().unwrap());
        let two = ejections.record("10.0.0.2:80".parse().unwrap());
        let seen = |record, status| ejections.count(&rules(), record, Seen::Status(status), 2);
        assert!(![500, 503, 200, 500, 500].into_iter().any(|status| seen(&one, status)), "a success starts over");
        assert!(seen(&one, 500));
        assert!(ejections.ejected(&one) && ejections.any());
        assert!(![500, 500, 500].into_iter().any(|status| seen(&two, status)), "no more than half are ejected");
        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(!ejections.ejected(&one) && !ejections.any());
        assert!([500, 500, 500].into_iter().any(|status| seen(&one, status)));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(ejections.ejected(&one), "the second time is twice as long");
    }
}
