//! Blocks that are refused since their time is ahead of our clock. One of two clocks is wrong, ours or the proposer's; which one
//! nobody here can tell, but an operator can, who sees how many blocks, by how much, and since when.
//!
//! Invariant: what is said here is said of the present: it is forgotten as soon as one of these heights is stored, or the last
//! of these blocks would be believed.

use std::time::Duration;

use super::AheadOfClock;
use crate::block::Height;
use crate::clock::Now;
use crate::verify::{AuthenticBlock, Fault, Rules};

#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    refused: Option<Refused>,
}

#[derive(Debug)]
struct Refused {
    told: AheadOfClock,
    lowest: Height,
    /// Of the last one.
    time_unix_nanos: u64,
}

impl ClockWatch {
    /// Whether the block's time can be believed; notes it where it cannot.
    ///
    /// # Errors
    /// [`Fault::FromTheFuture`].
    pub fn check(&mut self, rules: &Rules, block: &AuthenticBlock, now: Now) -> Result<(), Fault> {
        let outcome = rules.check_time(block, now);
        if let Err(Fault::FromTheFuture { ahead }) = outcome {
            self.note(block, ahead, now);
        }
        outcome
    }

    fn note(&mut self, block: &AuthenticBlock, ahead: Duration, now: Now) {
        let first = AheadOfClock { blocks: 0, last_by: ahead, since: now.elapsed };
        let (told, lowest) = self.refused.take().map_or((first, block.height()), |before| (before.told, before.lowest));
        let told = AheadOfClock { blocks: told.blocks.saturating_add(1), last_by: ahead, ..told };
        self.refused =
            Some(Refused { told, lowest: lowest.min(block.height()), time_unix_nanos: block.time_unix_nanos() });
    }

    /// Forgets what is believed by now.
    pub fn settle(&mut self, rules: &Rules, soft: Option<Height>, now: Now) {
        let latest = rules.latest_time(now);
        let is_believed = |refused: &Refused| soft >= Some(refused.lowest) || refused.time_unix_nanos <= latest;
        if self.refused.as_ref().is_some_and(is_believed) {
            self.refused = None;
        }
    }

    pub fn told(&self) -> Option<AheadOfClock> {
        self.refused.as_ref().map(|refused| refused.told)
    }
}
