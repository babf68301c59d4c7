//! How long to wait after failures: twice as long each time, up to a longest pause.
//!
//! Nothing random is added here: whoever may fail together with others adds that to the result.

use std::time::Duration;

/// After so many doublings the pause stays the same, however long the longest one may be.
const MAX_DOUBLINGS: u32 = 16;

/// Pauses that double from the shortest to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub shortest: Duration,
    /// Never exceeded, not even by `shortest`.
    pub longest: Duration,
}

impl Backoff {
    /// The pause after one more failure, when there were `failures` in a row before it: `shortest` after the first.
    #[must_use]
    pub fn pause(self, failures: u32) -> Duration {
        self.shortest.saturating_mul(1 << failures.min(MAX_DOUBLINGS)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let seconds = Duration::from_secs;
        for (shortest, longest, failures, pause) in [
            (1, 60, 0, 1),
            (1, 60, 1, 2),
            (1, 60, 5, 32),
            (1, 60, 6, 60),
            (1, 60, u32::MAX, 60),
            (10, 5, 0, 5),
            (0, 60, 9, 0),
            (1, u64::MAX, 16, 65_536),
            (1, u64::MAX, 17, 65_536),
            (u64::MAX, u64::MAX, 3, u64::MAX),
        ] {
            let backoff = Backoff { shortest: seconds(shortest), longest: seconds(longest) };
            let got = backoff.pause(failures);
            assert_eq!(got.as_secs(), pause, "{backoff:?} after {failures}");
        }
    }
}
