//! Pinned blocks, and reverse sync: finding the branch of such a block by following its parents down, one by one.
//!
//! A block is *pinned* when it must be on our chain: it was hard here before damage took it, or the operator trusts it. When
//! all peers who have more than we have follow another branch than ours, and a pinned block lies above our head, then it is we
//! who are wrong, or they: the parents of the pinned block tell. Each is asked for by its hash, so that no peer has to be believed.
//!
//! Invariants:
//! 1. What is known leads down from the pinned block without a gap, and every block that is stored beside it is refused.
//! 2. Bounded by `limits.pending_blocks`: a pinned block that is farther away is reached by the ordinary way, or not at all.

use std::collections::BTreeMap;

use super::publish::Publishing;
use super::{Anchor, DaPosition, Heads};
use crate::block::{BlockId, Hash, Height};
use crate::verify::AuthenticBlock;

#[derive(Debug)]
pub(super) struct ReverseSync {
    /// Whatever is stored at its height must be this block, which was hard once.
    anchor: Option<Anchor>,
    /// The same, on the operator's word.
    trusted: Option<BlockId>,
    /// The ids below the pinned block ahead of us, as far as they are known.
    known: BTreeMap<Height, Hash>,
    max_known: usize,
    /// They lead to a block of ours: there is nothing left to learn.
    met: bool,
}

impl ReverseSync {
    pub fn new(anchor: Option<Anchor>, trusted: Option<BlockId>, max_known: usize) -> Self {
        Self { anchor, trusted, known: BTreeMap::new(), max_known, met: false }
    }

    /// What was hard once, and is not yet again.
    pub fn anchor(&self) -> Option<Anchor> {
        self.anchor
    }

    /// What was hard once at this height, as far as it is known: the anchor, or what it stands on.
    pub fn was_hard(&self, height: Height) -> Option<BlockId> {
        let anchor = self.anchor?.id;
        let leads_from_trusted = self.trusted.is_some_and(|trusted| (height..anchor.height).contains(&trusted.height));
        let known = self.known(height).filter(|_| height < anchor.height && !leads_from_trusted);
        known.or(Some(anchor).filter(|anchor| anchor.height == height))
    }

    /// The only block that may be stored at this height: a pinned one, or what the pinned one ahead of us stands on.
    pub fn pinned(&self, height: Height) -> Option<BlockId> {
        let pinned = [self.anchor.map(|anchor| anchor.id), self.trusted, self.known(height)];
        pinned.into_iter().flatten().find(|pinned| pinned.height == height)
    }

    /// What the pinned block ahead of us stands on at this height, as far as it is known.
    pub fn known(&self, height: Height) -> Option<BlockId> {
        self.known.get(&height).map(|hash| BlockId { height, hash: *hash })
    }

    /// Whether the block, which has the next height, links to our head. When nothing is known of what is below it, it is the
    /// trusted one: nothing else may begin a chain above the initial height.
    pub fn links(&self, block: &AuthenticBlock, heads: &Heads) -> bool {
        match heads.top() {
            Some(top) => block.parent_hash() == Some(top.id.hash),
            None => block.parent_hash().is_none() || self.trusted == Some(block.id()),
        }
    }

    /// The pinned block that our chain has yet to reach, and where DA had it. A node that signs goes back only for DA.
    pub fn ahead(&self, heads: &Heads, publishing: &Publishing) -> Option<(BlockId, DaPosition)> {
        let trusted = self.trusted.filter(|_| !publishing.may_publish());
        let pinned =
            [self.anchor.map(|anchor| (anchor.id, anchor.position)), trusted.map(|id| (id, DaPosition::IMPLIED))];
        let soft = heads.soft_height()?;
        pinned.into_iter().flatten().filter(|(id, _)| id.height > soft).min_by_key(|(id, _)| id.height)
    }

    /// The block whose parent is to be learned next, below `pinned`; `None` when there is nothing to learn, or no room for it.
    pub fn next_child(&self, pinned: BlockId, heads: &Heads) -> Option<BlockId> {
        let lowest = self.known.first_key_value().map(|(height, hash)| BlockId { height: *height, hash: *hash });
        let lowest = lowest.unwrap_or(pinned);
        let has_room = !self.met && self.known.len() < self.max_known;
        let is_undecided = lowest.height > heads.hard_height().unwrap_or(heads.tail);
        (has_room && is_undecided).then_some(lowest)
    }

    /// The parent of the lowest block that is known.
    pub fn learn(&mut self, parent: BlockId) {
        self.known.insert(parent.height, parent.hash);
    }

    /// The lowest block that is known is one of ours.
    pub fn meet(&mut self) {
        self.met = true;
    }

    /// The pinned block is here: nothing need be known of what it stands on.
    pub fn end(&mut self) {
        self.known.clear();
        self.met = false;
    }
}
