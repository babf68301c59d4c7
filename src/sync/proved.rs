//! Blocks above hard that DA has shown, with a valid signature, and of which no sighting tells any more: there was no room for it, it
//! is to be reported again, the host has corrected itself, or it lost. Whatever became of the sighting, the signature was given.
//!
//! Invariant: what DA has shown above hard, and is not on our chain, is a sighting or is remembered here, and either is on disk with
//! the decision by which DA was reported; so a node that may sign waits for the same blocks after a restart.
//!
//! Bounded by `limits.awaited`, as what is waited for is. Full means wait: of what comes then it is noted that there is more (see
//! `da/notes.rs`), and a node that may sign waits until there is room again and DA has told it anew, or hard has passed it
//! ([`Syncer::wait_for_unremembered`](super::Syncer)). Only of what was given up is nothing noted, and it is kept while half is free.

use std::collections::BTreeMap;

use super::decision::Decision;
use super::{Change, ProvedBlock};
use crate::block::{BlockId, Height};

/// What became of a block that is to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Kept {
    Remembered,
    NoRoom,
}

#[derive(Debug)]
pub(super) struct Proved {
    blocks: BTreeMap<BlockId, ProvedBlock>,
    max: usize,
}

impl Proved {
    /// Goes on from what was on disk.
    pub fn new(proved: Vec<ProvedBlock>, max: usize) -> Self {
        Self { blocks: proved.into_iter().map(|block| (block.id, block)).collect(), max }
    }

    pub fn keep(&mut self, block: ProvedBlock, decision: &mut Decision) -> Kept {
        if self.blocks.contains_key(&block.id) {
            return Kept::Remembered;
        }
        if self.blocks.len() >= self.max {
            return Kept::NoRoom;
        }
        self.blocks.insert(block.id, block);
        decision.change(Change::KeepProved(block));
        Kept::Remembered
    }

    /// Whether half of it is free.
    pub fn has_room(&self) -> bool {
        self.blocks.len() <= self.max / 2
    }

    /// The block is on our chain, or there is no room for what need not be waited for.
    pub fn forget(&mut self, id: BlockId, decision: &mut Decision) {
        if self.blocks.remove(&id).is_some() {
            decision.change(Change::ForgetProved(id));
        }
    }

    /// DA has decided about everything up to this height, or nothing so low is kept.
    pub fn forget_through(&mut self, height: Height, decision: &mut Decision) {
        while let Some(lowest) = self.blocks.first_entry().filter(|lowest| lowest.key().height <= height) {
            decision.change(Change::ForgetProved(lowest.remove().id));
        }
    }

    pub fn all(&self) -> impl Iterator<Item = ProvedBlock> {
        self.blocks.values().copied()
    }
}
