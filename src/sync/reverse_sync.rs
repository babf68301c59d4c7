//! Reverse sync: finding the branch of a block that must be on our chain, by following its parents down, one by one.
//!
//! Such a block is *pinned*: it was hard here before damage took it, or the operator trusts it. When everybody who has more than
//! we have follows another branch than ours, and a pinned block lies above our head, then it is we who are wrong, or they: the
//! parents of the pinned block tell. Each is asked for by its hash, so that nobody has to be believed.
//!
//! Invariants:
//! 1. What is known leads down from the pinned block without a gap, and every block that is stored beside it is refused.
//! 2. Bounded by `limits.held_blocks`: a pinned block that is farther away is reached by the ordinary way, or not at all.

use std::collections::BTreeMap;

use super::{Ctx, DaPosition, Halt, Syncer};
use crate::block::{BlockId, Hash, Height};
use crate::verify::AuthenticBlock;

/// The ids below the pinned block, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct ReverseSync {
    known: BTreeMap<Height, Hash>,
    /// They lead to a block of ours: there is nothing left to learn.
    met: bool,
}

impl ReverseSync {
    pub fn at(&self, height: Height) -> Option<BlockId> {
        self.known.get(&height).map(|hash| BlockId { height, hash: *hash })
    }

    fn lowest(&self) -> Option<BlockId> {
        self.known.first_key_value().map(|(height, hash)| BlockId { height: *height, hash: *hash })
    }
}

impl Syncer {
    /// The pinned block that our chain has yet to reach, and where DA had it. A node that signs goes back only for DA.
    fn ahead_of_us(&self) -> Option<(BlockId, DaPosition)> {
        let trusted = self.config.history.trusted.filter(|_| !self.publishing.may_publish());
        let pinned =
            [self.anchor.map(|anchor| (anchor.id, anchor.position)), trusted.map(|id| (id, DaPosition::IMPLIED))];
        let soft = self.chain.heads.soft_height()?;
        pinned.into_iter().flatten().filter(|(id, _)| id.height > soft).min_by_key(|(id, _)| id.height)
    }

    /// The block whose parent is to be learned next.
    pub(super) fn next_parent_of(&self) -> Option<BlockId> {
        let (pinned, _) = self.ahead_of_us().filter(|_| self.halted.is_none())?;
        let lowest = self.reverse_sync.lowest().unwrap_or(pinned);
        let stuck = self.behind() && self.peers.are_all_elsewhere(self.chain.heads.next_height());
        let room = !self.reverse_sync.met && self.reverse_sync.known.len() < self.config.limits.held_blocks;
        let heads = self.chain.heads;
        let open = lowest.height > heads.hard_height().unwrap_or(heads.tail);
        (stuck && room && open).then_some(lowest)
    }

    /// Takes a step down, when this is the block that was asked for.
    pub(super) fn reverse_sync_step(&mut self, ctx: Ctx<'_>, block: &AuthenticBlock) {
        if self.next_parent_of() != Some(block.id()) {
            return;
        }
        let (Some(below), Some(hash)) = (block.height().prev(), block.parent_hash()) else { return };
        self.reverse_sync.known.insert(below, hash);
        self.progress_at = ctx.now.elapsed;
        if self.chain.hash(below, ctx.stored) == Some(hash) {
            self.reverse_sync.met = true;
            self.follow_reverse_sync(ctx, below.next());
        }
    }

    /// Once the pinned block is here, nothing need be known of what it stands on.
    pub(super) fn end_reverse_sync(&mut self) {
        if self.ahead_of_us().is_none() {
            self.reverse_sync = ReverseSync::default();
        }
    }

    /// Below this height the pinned block's branch is ours.
    fn follow_reverse_sync(&mut self, ctx: Ctx<'_>, from: Height) {
        let ours = self.chain.hash(from, ctx.stored).map(|hash| BlockId { height: from, hash });
        let (Some(ours), Some(theirs), Some((_, position))) = (ours, self.reverse_sync.at(from), self.ahead_of_us())
        else {
            return;
        };
        if ours == theirs {
            // It is everybody else who is elsewhere.
            return;
        }
        if self.publishing.may_publish() {
            self.halt(Halt::Diverged { ours, da: theirs, position });
        } else if self.retract(ctx, from) {
            self.probe_all_soon(ctx.now);
        }
    }
}
