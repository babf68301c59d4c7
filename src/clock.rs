//! The only reader of the operating system's clocks; everything else is told what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::util::saturate;

/// A moment, on both clocks that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary start; never goes back. Every timeout is measured on it.
    pub elapsed: Duration,
    /// Nanoseconds since the Unix epoch. May jump either way: used for nothing but the plausibility of block times.
    pub unix_nanos: u64,
}

/// Reads the clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    #[must_use]
    pub fn now(&self) -> Now {
        // A wall clock before 1970 or after 2554 is as good as no clock: it clamps.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { elapsed: self.start.elapsed(), unix_nanos: saturate::nanos(unix) }
    }

    /// The instant at which `Now::elapsed` will be `elapsed`.
    #[must_use]
    pub fn instant(&self, elapsed: Duration) -> Instant {
        self.start + elapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_go_forward_from_their_starts() {
        let clock = Clock::start();
        let second = Duration::from_secs(1);
        assert_eq!(clock.instant(second) - clock.instant(Duration::ZERO), second);
        let [first, later] = [clock.now(), clock.now()];
        assert!(later.elapsed >= first.elapsed);
        assert!(clock.instant(later.elapsed) <= Instant::now(), "`elapsed` is measured from the same start");
        assert!(first.unix_nanos > 0, "after 1970");
    }
}
