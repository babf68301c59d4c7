//! What DA says: reports are taken in, kept until they can be judged, and judged one height at a time.
//!
//! ```text
//!   report --> sightings (by position) --> judge hard + 1 --> confirmed | winner | wanted | contradicted
//!                                             ^ only from what lies before `known_before`
//! ```
//!
//! Invariants:
//! 1. Every sighting above hard that was reported is in the store, or the cursor is below its DA height: a crash or a full
//!    buffer loses none.
//! 2. The cursor (`Heads::scanned_through`) never passes what is known without a gap.
//! 3. At most one block is wanted: the one that DA names at hard + 1 and that we were not given.

mod judgement;
mod sightings;

use super::chain::Chain;
use super::decision::Decision;
use super::{Change, DaPosition, Seen, Sighting, Stored};
use crate::block::{BlockId, Hash, Height};
use crate::verify::{AuthenticBlock, Schedule};

pub(super) use judgement::Judgement;
use judgement::judge;
use sightings::{PlacementChange, Sightings};

#[derive(Debug)]
pub(super) struct Da {
    /// What DA has, above hard.
    sightings: Sightings,
    /// Everything before this position on DA has been reported, and kept until it was judged.
    known_before: DaPosition,
    /// DA names it at hard + 1, and we were not given it.
    wanted: Option<BlockId>,
}

impl Da {
    /// Goes on from what was on disk: at most `max_count` sightings, whose blocks weigh at most `max_bytes`.
    pub fn new(sightings: Vec<Sighting>, scanned_through: u64, max_count: usize, max_bytes: usize) -> Self {
        Self {
            sightings: Sightings::new(sightings, max_count, max_bytes),
            known_before: DaPosition::after_height(scanned_through),
            wanted: None,
        }
    }

    /// Sightings that wait to be judged.
    pub fn len(&self) -> usize {
        self.sightings.len()
    }

    /// The block that DA names and that we were not given.
    pub fn wanted(&self) -> Option<BlockId> {
        self.wanted
    }

    /// One sighting of a report, above hard.
    pub fn sight(&mut self, sighting: Sighting, decision: &mut Decision) {
        if sighting.what == Seen::Junk {
            // A copy of what was taken for a block here may have been left out as one: let it be reported again.
            self.known_before = self.known_before.min(sighting.position);
        }
        self.keep(sighting, decision);
    }

    /// A report is taken in whole. What there is no room for is to be reported again: the cursor goes back to before its DA
    /// height. What lies before it can be judged all the same, or a DA height with more blocks than there is room for would
    /// never be passed.
    pub fn end_report(&mut self, scanned_through: u64, chain: &mut Chain, decision: &mut Decision) {
        self.known_before = self.known_before.max(DaPosition::after_height(scanned_through));
        while let Some(shed) = self.sightings.shed() {
            decision.change(Change::DropSighting(shed.position));
            self.known_before = self.known_before.min(shed.position);
        }
        chain.set_scanned_through(self.known_before.height.saturating_sub(1));
    }

    /// A block that DA names, and that we were given now. It may take the sightings above their bound, by this one block,
    /// until the next report: to shed any in the middle of a report would count what was shed as reported.
    pub fn offer(&mut self, block: &AuthenticBlock, decision: &mut Decision) {
        if self.wanted != Some(block.id()) {
            return;
        }
        for position in self.sightings.by_hash(block.id()) {
            let sighting = Sighting { position, height: block.height(), what: Seen::Block(block.clone()) };
            self.keep(sighting, decision);
        }
        self.wanted = None;
    }

    /// DA names this block by its hash.
    pub fn want(&mut self, id: BlockId) {
        self.wanted = Some(id);
    }

    /// What is wanted is found anew with each round of judgements.
    pub fn forget_wanted(&mut self) {
        self.wanted = None;
    }

    /// What DA says of the height above hard, where `ours` is stored.
    pub fn judge_next(&self, ours: Option<Hash>, chain: &Chain, stored: &dyn Stored) -> Judgement {
        let height = chain.next_unconfirmed();
        let heads = chain.heads();
        let seen: Vec<_> = self.sightings.at(height).collect();
        let parent = heads.hard.or(heads.base.map(|base| base.id)).map(|below| below.hash);
        judge(&seen, self.known_before, parent, ours, || chain.header(height, stored))
    }

    /// What was seen up to this height decides nothing any more.
    pub fn forget_through(&mut self, height: Height, decision: &mut Decision) {
        for judged in self.sightings.take_through(height) {
            decision.change(Change::DropSighting(judged.position));
        }
    }

    /// What was seen there can never be part of this chain: what comes after it on DA is judged next.
    pub fn discard_loser(&mut self, position: DaPosition, decision: &mut Decision) {
        self.sightings.remove(position);
        decision.change(Change::DropSighting(position));
    }

    /// The schedule is another one: blocks that a key signed whom it does not name there are none of this chain.
    pub fn schedule_changed(&mut self, schedule: &Schedule, decision: &mut Decision) {
        for position in self.sightings.not_by(schedule) {
            self.discard_loser(position, decision);
        }
    }

    fn keep(&mut self, sighting: Sighting, decision: &mut Decision) {
        let PlacementChange { drop, keep } = self.sightings.place(sighting);
        if let Some(position) = drop {
            decision.change(Change::DropSighting(position));
        }
        if let Some(sighting) = keep {
            decision.change(Change::KeepSighting(sighting));
        }
    }
}
