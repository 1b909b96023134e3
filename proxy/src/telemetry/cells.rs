//! Cells: numbers that one worker writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter or a gauge with a single writer: adding is a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds; only the owning worker may call this.
    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// Subtracts; only the owning worker may call this.
    pub fn sub(&self, count: u64) {
        self.0.store(self.get().wrapping_sub(count), Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Envoy's default buckets, without `+Inf`.
pub const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10000.0,
    30000.0,
    60000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// A histogram over [`BUCKETS`].
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [Cell; BUCKETS.len() + 1],
    /// In thousandths, so that a sum of milliseconds keeps its microseconds.
    sum: Cell,
}

impl Histogram {
    /// Counts one value.
    pub fn observe(&self, value: f64) {
        let bucket = BUCKETS.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.add(1);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative; saturates")]
        self.sum.add((value * 1000.0) as u64);
    }

    /// Adds what it holds to a sum over workers.
    pub fn add_to(&self, total: &mut HistogramTotal) {
        for (count, cell) in total.counts.iter_mut().zip(&self.counts) {
            *count += cell.get();
        }
        total.sum += self.sum.get();
    }
}

/// A histogram summed over workers.
#[derive(Clone, Debug, Default)]
pub struct HistogramTotal {
    /// Per bucket, not cumulative; the last is `+Inf`.
    pub counts: [u64; BUCKETS.len() + 1],
    /// In thousandths.
    pub sum: u64,
}

#[cfg(test)]
mod tests {
    use super::{Histogram, HistogramTotal};

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let histogram = Histogram::default();
        for value in [0.0, 0.5, 0.6, 1.0, 7_200_000.0] {
            histogram.observe(value);
        }
        let mut total = HistogramTotal::default();
        histogram.add_to(&mut total);
        assert_eq!((total.counts[0], total.counts[1], total.counts[2], total.counts[19]), (2, 2, 0, 1));
        assert_eq!(total.sum, 7_200_002_100);
    }
}
