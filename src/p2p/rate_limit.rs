//! How much each peer may be served: a bucket of bytes for each, which fills at a steady rate. A block is served on credit and
//! paid for afterwards, so that one of any size can be.
//!
//! Invariants:
//! 1. Over any time, a peer is served at most the bucket, the rate times that time, and one chunk for each of its streams, over
//!    however many connections.
//! 2. There are at most [`MAX_BUCKETS`]; only full ones are forgotten while any is, and a full one says nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

const MAX_BUCKETS: usize = 4096;

/// What a peer may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub bytes_per_second: u64,
    /// At once, after a pause.
    pub burst_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Below 0: owed.
    bytes: f64,
    at: Instant,
}

#[derive(Debug)]
pub struct RateLimiter {
    rate: Rate,
    buckets: Mutex<HashMap<PeerId, Bucket>>,
}

#[allow(clippy::cast_precision_loss, reason = "a byte more or less in 2^53")]
impl RateLimiter {
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::new(HashMap::new()) }
    }

    /// How long this peer has to wait until it owes nothing.
    pub fn wait(&self, peer: &PeerId, now: Instant) -> Duration {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let owed = buckets.get(peer).map_or(0.0, |bucket| -self.filled(*bucket, now));
        Duration::try_from_secs_f64(owed.max(0.0) / self.rate.bytes_per_second.max(1) as f64).unwrap_or(Duration::MAX)
    }

    /// It is served so many bytes.
    pub fn charge(&self, peer: PeerId, bytes: usize, now: Instant) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&peer) {
            let full = self.rate.burst_bytes as f64;
            buckets.retain(|_, bucket| self.filled(*bucket, now) < full);
            if buckets.len() >= MAX_BUCKETS
                && let Some(fullest) = buckets
                    .iter()
                    .max_by(|(_, a), (_, b)| self.filled(**a, now).total_cmp(&self.filled(**b, now)))
                    .map(|(peer, _)| *peer)
            {
                buckets.remove(&fullest);
            }
        }
        let before = buckets.get(&peer).map_or(self.rate.burst_bytes as f64, |bucket| self.filled(*bucket, now));
        buckets.insert(peer, Bucket { bytes: before - bytes as f64, at: now });
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        let gained = now.duration_since(bucket.at).as_secs_f64() * self.rate.bytes_per_second as f64;
        (bucket.bytes + gained).min(self.rate.burst_bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limiter() -> RateLimiter {
        RateLimiter::new(Rate { bytes_per_second: 100, burst_bytes: 1000 })
    }

    #[test]
    fn a_peer_pays_afterwards_for_what_it_was_served_on_credit() {
        let (limiter, now, [peer, other]) = (limiter(), Instant::now(), [PeerId::random(), PeerId::random()]);
        assert_eq!(limiter.wait(&peer, now), Duration::ZERO);
        limiter.charge(peer, 1000, now);
        assert_eq!(limiter.wait(&peer, now), Duration::ZERO, "the bucket is empty, and nothing is owed");
        limiter.charge(peer, 300, now);
        assert_eq!(limiter.wait(&peer, now), 3 * SECOND);
        assert_eq!(limiter.wait(&peer, now + SECOND), 2 * SECOND);
        assert_eq!(limiter.wait(&other, now), Duration::ZERO, "each pays for itself");
        // A pause fills it, and no fuller than full.
        let later = now + 1000 * SECOND;
        limiter.charge(peer, 1100, later);
        assert_eq!(limiter.wait(&peer, later), SECOND);
    }

    #[test]
    fn strangers_cannot_fill_the_memory_nor_wash_off_a_debt() {
        let (limiter, now, debtor) = (limiter(), Instant::now(), PeerId::random());
        limiter.charge(debtor, 5000, now);
        for _ in 0..MAX_BUCKETS + 10 {
            limiter.charge(PeerId::random(), 1, now);
        }
        assert_eq!(limiter.buckets.lock().expect("whole").len(), MAX_BUCKETS);
        assert_eq!(limiter.wait(&debtor, now), 40 * SECOND);
        limiter.charge(PeerId::random(), 1, now + SECOND);
        assert_eq!(limiter.buckets.lock().expect("whole").len(), 2, "those that are full again are forgotten");
    }
}
