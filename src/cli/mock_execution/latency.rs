//! How long blocks took to arrive, over the most recent ones.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Samples kept: the summary is of the newest ones.
const KEPT: usize = 8192;

/// Durations in nanoseconds.
#[derive(Debug, Default)]
pub struct Latencies(VecDeque<u64>);

/// Milliseconds; the nearest-rank percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
}

impl Latencies {
    pub fn record(&mut self, nanos: u64) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(nanos);
    }

    /// `None` before the first sample.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let mut sorted: Vec<u64> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let index = (sorted.len() * percent).div_ceil(100).checked_sub(1)?;
            let micros = u32::try_from(sorted.get(index)? / 1000).unwrap_or(u32::MAX);
            Some(f64::from(micros) / 1000.0)
        };
        Some(Percentiles { p50: rank(50)?, p99: rank(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), None);
        latencies.record(2_500_000);
        assert_eq!(latencies.percentiles(), Some(Percentiles { p50: 2.5, p99: 2.5 }));
        let mut latencies = Latencies::default();
        (1..=100).rev().for_each(|ms| latencies.record(ms * 1_000_000));
        assert_eq!(latencies.percentiles(), Some(Percentiles { p50: 50.0, p99: 99.0 }));
    }

    #[test]
    fn only_the_newest_samples_count() {
        let mut latencies = Latencies::default();
        (0..KEPT).for_each(|_| latencies.record(u64::MAX));
        (0..KEPT).for_each(|_| latencies.record(1_000_000));
        assert_eq!(latencies.percentiles(), Some(Percentiles { p50: 1.0, p99: 1.0 }));
    }
}
