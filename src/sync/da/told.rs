//! What is told of DA: to the operator, and to the other parts.

use super::Da;
use crate::block::{Hash, Header, Height};
use crate::sync::{Checkpoint, DaPosition, HardWait, Heads, Name, PassedOver, ProvedBlock, Unremembered, Wanted};

impl Da {
    /// Sightings that wait to be judged.
    pub fn len(&self) -> usize {
        self.sightings.len()
    }

    /// What was asked for last, and was not given since.
    pub fn wanted(&self) -> Vec<Wanted> {
        let is_open = |wanted: &&Wanted| {
            let seen = self.sightings.get(wanted.position);
            self.doubts.names(wanted) || seen.is_some_and(|seen| seen.what.digest() == Some(wanted.digest))
        };
        self.wanted.iter().filter(is_open).copied().collect()
    }

    /// The height of the next block, and what the host calls it, while none is here.
    pub fn named(&self) -> Option<(Height, &Name)> {
        self.named.as_ref().map(|(height, name)| (*height, name))
    }

    /// Whether this is the next block by the host's word, and none is here.
    pub fn names(&self, hash: Hash, header: &Header) -> bool {
        self.named().is_some_and(|(height, name)| height == header.height && name.is_of(hash, header))
    }

    /// The blocks above this height that were seen, whether we can take them or not, and are not judged yet.
    pub fn blocks_above(&self, height: Option<Height>) -> impl Iterator<Item = ProvedBlock> {
        self.sightings.blocks_above(height)
    }

    /// The blocks that were seen, and that no sighting tells of any more; told once.
    pub fn take_gone(&mut self) -> Vec<(DaPosition, ProvedBlock)> {
        let gone = std::mem::take(&mut self.gone);
        gone.into_iter().filter(|(_, block)| !self.sightings.has_block(block.id)).collect()
    }

    /// That DA has shown more blocks than are remembered.
    pub fn unremembered(&self) -> Option<Unremembered> {
        self.notes.unremembered
    }

    pub fn waits_for(&self) -> Option<HardWait> {
        self.wait
    }

    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    pub fn lowest_passed_over(&self) -> Option<PassedOver> {
        self.notes.passed_over.first().copied()
    }

    pub fn below_trusted(&self) -> u64 {
        self.below_trusted
    }

    /// What a new node may be started from, if DA was read here at all.
    pub fn checkpoint(&self, heads: &Heads) -> Option<Checkpoint> {
        let id = heads.hard.filter(|_| heads.scanned_through > heads.da_floor())?;
        let kept = self.sightings.all().next().map(|seen| seen.position);
        let lowest = kept.into_iter().chain(self.notes.lowest(id.height)).min();
        let below = lowest.map_or(u64::MAX, |lowest| lowest.height.saturating_sub(1));
        Some(Checkpoint { id, da: below.min(heads.scanned_through) })
    }
}
