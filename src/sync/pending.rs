//! Authentic blocks that wait above the gap for those before them, from gossip, from range answers and from DA alike.
//!
//! Invariants:
//! 1. At most two blocks per height: a third would only be more of an equivocation that is known already.
//! 2. Bounded in count and in bytes; when full the farthest block goes first, since it is the one needed last.

use std::collections::BTreeMap;

use super::exchange::HeightRun;
use super::{Origin, PeerId};
use crate::block::{BlockId, Hash, Height};
use crate::verify::AuthenticBlock;

/// A block that waits, and who gave it.
#[derive(Clone, Debug)]
pub(super) struct PendingBlock {
    pub block: AuthenticBlock,
    pub origin: Origin,
    pub peer: Option<PeerId>,
}

/// What became of a block that was to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Pending,
    /// The same block waits already.
    Known,
    /// Two others wait at its height, or it is farther than everything else and there is no room.
    NoRoom,
}

#[derive(Debug)]
pub(super) struct Pending {
    blocks: BTreeMap<(Height, Hash), PendingBlock>,
    bytes: usize,
    max_blocks: usize,
    max_bytes: usize,
}

impl Pending {
    pub const PER_HEIGHT: usize = 2;

    pub fn new(max_blocks: usize, max_bytes: usize) -> Self {
        Self { blocks: BTreeMap::new(), bytes: 0, max_blocks, max_bytes }
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether any block waits at `height`.
    pub fn has(&self, height: Height) -> bool {
        self.at(height).next().is_some()
    }

    /// The runs of heights at which a block waits, ascending and apart.
    pub fn runs(&self) -> Vec<HeightRun> {
        let mut runs: Vec<HeightRun> = Vec::new();
        for (height, _) in self.blocks.keys() {
            match runs.last_mut() {
                Some((_, last)) if *height <= last.next() => *last = *height,
                _ => runs.push((*height, *height)),
            }
        }
        runs
    }

    pub fn at(&self, height: Height) -> impl Iterator<Item = &PendingBlock> {
        self.blocks.range(Self::keys(height)).map(|(_, waiting)| waiting)
    }

    pub fn add(&mut self, waiting: PendingBlock) -> Admission {
        let key = (waiting.block.height(), waiting.block.hash());
        if self.blocks.contains_key(&key) {
            return Admission::Known;
        }
        if self.at(key.0).count() >= Self::PER_HEIGHT {
            return Admission::NoRoom;
        }
        self.bytes += waiting.block.size();
        self.blocks.insert(key, waiting);
        while self.blocks.len() > self.max_blocks || self.bytes > self.max_bytes {
            let Some((farthest, evicted)) = self.blocks.pop_last() else { break };
            self.bytes -= evicted.block.size();
            if farthest == key {
                return Admission::NoRoom;
            }
        }
        Admission::Pending
    }

    /// Takes the block at `height` out that is the next one.
    pub fn take_next(&mut self, height: Height, is_next: impl Fn(&AuthenticBlock) -> bool) -> Option<PendingBlock> {
        let hash = self.at(height).find(|waiting| is_next(&waiting.block))?.block.hash();
        self.remove((height, hash))
    }

    /// Takes everything out up to and including `height`.
    pub fn take_through(&mut self, height: Height) -> Vec<PendingBlock> {
        let keys: Vec<_> = self.blocks.range(..=(height, Hash([0xff; Hash::LEN]))).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Forgets this block, if it waits.
    pub fn forget(&mut self, id: BlockId) {
        self.remove((id.height, id.hash));
    }

    /// Forgets everything that this peer gave.
    pub fn forget_peer(&mut self, peer: &PeerId) {
        self.blocks.retain(|_, waiting| waiting.peer.as_ref() != Some(peer));
        self.bytes = self.blocks.values().map(|waiting| waiting.block.size()).sum();
    }

    pub fn clear(&mut self) {
        self.blocks.clear();
        self.bytes = 0;
    }

    fn remove(&mut self, key: (Height, Hash)) -> Option<PendingBlock> {
        let waiting = self.blocks.remove(&key)?;
        self.bytes -= waiting.block.size();
        Some(waiting)
    }

    fn keys(height: Height) -> std::ops::RangeInclusive<(Height, Hash)> {
        (height, Hash([0; Hash::LEN]))..=(height, Hash([0xff; Hash::LEN]))
    }
}
