//! Proposers of whom peers have blocks, and whom our schedule does not name there: it may be behind.
//!
//! Invariants:
//! 1. Claims, and no more: nobody's signature was checked, so that they decide nothing, and blame nobody.
//! 2. Bounded: whoever is named least goes when there is no room.
//! 3. Forgotten when the schedule changes: then it is seen anew who is unknown.

use std::collections::BTreeMap;

use super::UnknownProposer;
use crate::block::{Height, PublicKey};
use crate::verify::Fault;

/// So many are remembered. Of keys that somebody makes up all the time, all but one may be forgotten; the one that many blocks name
/// is not.
const MAX_STRANGERS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Strangers(BTreeMap<PublicKey, Claim>);

#[derive(Clone, Copy, Debug)]
struct Claim {
    lowest: Height,
    count: u64,
}

impl Strangers {
    /// A block was not taken because of this.
    pub fn note(&mut self, fault: &Fault) {
        let Fault::NotScheduled { height, proposer } = *fault else { return };
        if !self.0.contains_key(&proposer) && self.0.len() >= MAX_STRANGERS {
            let least = self.0.iter().min_by_key(|(_, claim)| claim.count).map(|(proposer, _)| *proposer);
            least.and_then(|least| self.0.remove(&least));
        }
        let claim = self.0.entry(proposer).or_insert(Claim { lowest: height, count: 0 });
        claim.lowest = claim.lowest.min(height);
        claim.count = claim.count.saturating_add(1);
    }

    /// The one that most blocks name.
    pub fn foremost(&self) -> Option<UnknownProposer> {
        let (proposer, claim) = self.0.iter().max_by_key(|(_, claim)| claim.count)?;
        Some(UnknownProposer { height: claim.lowest, proposer: *proposer, count: claim.count })
    }

    /// The schedule is another one.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
