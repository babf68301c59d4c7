//! What hosts and operators had said, and damage took from the store: nothing can stand for it, so somebody has to say it again.
//!
//! Invariants:
//! 1. It is told until it was said again, or until an operator says that it need not be; also after a restart.
//! 2. It leaves the list in the commit that has it said again.
//! 3. What is lost decides nothing in its absence: while an entry of the schedule is missing, DA is not judged at the heights that it
//!    governs. A digest of what is stored there says nothing of who may sign it, and other nodes know.

use std::collections::BTreeSet;

use super::decision::Decision;
use super::{Change, LOST_BY_DAMAGE, LostWord};
use crate::block::Height;
use crate::verify::Schedule;

#[derive(Debug)]
pub(super) struct LostWords {
    lost: BTreeSet<LostWord>,
}

impl LostWords {
    /// Goes on from what was on disk.
    pub fn new(lost: Vec<LostWord>) -> Self {
        Self { lost: lost.into_iter().collect() }
    }

    /// What is missing, in words.
    pub fn told(&self) -> Vec<String> {
        self.lost.iter().map(LostWord::to_string).collect()
    }

    pub fn has(&self, word: LostWord) -> bool {
        self.lost.contains(&word)
    }

    /// Where the entry begins that is missing, and that would say who signs this height.
    pub fn entry_missing_at(&self, height: Height, schedule: &Schedule) -> Option<Height> {
        let begins = |word: &LostWord| match word {
            LostWord::Schedule(from) if *from <= height => Some(*from),
            _ => None,
        };
        let missing = self.lost.iter().filter_map(begins).max()?;
        schedule.leaves_to(missing, height).then_some(missing)
    }

    /// It was said again, or need not be.
    pub fn said(&mut self, word: LostWord, decision: &mut Decision) {
        if self.lost.remove(&word) {
            decision.change(Change::ForgetLost(word));
        }
    }
}

impl std::fmt::Display for LostWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Veto => f.write_str(
                "the host's veto: its execution has to refuse that block again, or an operator says that it does not \
                 (ctl lift-veto)",
            ),
            Self::Schedule(from) => write!(
                f,
                "the schedule's entry at height {from}: add it again (ctl schedule add), or say that there is none \
                 (ctl schedule withdraw {from})"
            ),
            Self::Unknown => write!(
                f,
                "perhaps more that hosts and operators had said (schedule, veto, halt): look (ctl schedule, ctl status), and \
                 then say so (ctl forget-consumer \"{LOST_BY_DAMAGE}\")"
            ),
        }
    }
}
