//! The stored chain as the core sees it: the heads, and the hashes of what is decided but not durable yet.
//!
//! Invariants, asserted in release too:
//! 1. `tail <= hard <= soft <= target`, as far as each is there.
//! 2. `hard` never decreases and never changes its hash.
//! 3. `soft` decreases only in [`Chain::truncate`], which raises the epoch, and never below `hard`.
//! 4. Every height in `tail..=soft` has exactly one hash: in `fresh` when its commit is not durable yet, else in the store.

use std::collections::BTreeMap;

use super::{Change, CommitId, DaPosition, Heads, Origin, Received, Stored};
use crate::block::{BlockId, Hash, Header, Height};
use crate::verify::{AuthenticBlock, Fault, Tip, VerifiedBlock};

/// A block whose commit is not durable yet.
#[derive(Debug)]
struct Fresh {
    commit: CommitId,
    header: Header,
    hash: Hash,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Chain {
    pub heads: Heads,
    pub received: Received,
    fresh: BTreeMap<Height, Fresh>,
    fresh_bytes: usize,
    /// The changes of the decision that is being made.
    changes: Vec<Change>,
    /// The heads as of the last commit.
    committed: Heads,
    /// The id that this decision's commit will have.
    next_commit: CommitId,
}

impl Chain {
    /// Goes on from what was on disk.
    pub fn new(heads: Heads) -> Self {
        let chain = Self {
            heads: Heads { target: heads.soft_id(), ..heads },
            received: Received::default(),
            fresh: BTreeMap::new(),
            fresh_bytes: 0,
            changes: Vec::new(),
            committed: heads,
            next_commit: CommitId(1),
        };
        chain.check();
        chain
    }

    /// The hash at `height`, `None` above soft and below tail.
    pub fn hash(&self, height: Height, stored: &dyn Stored) -> Option<Hash> {
        if !self.heads.stores(height) {
            return None;
        }
        match (self.fresh.get(&height), self.heads.soft) {
            (Some(fresh), _) => Some(fresh.hash),
            (None, Some(soft)) if soft.id.height == height => Some(soft.id.hash),
            (None, _) => stored.hash(height),
        }
    }

    /// The stored block's header, `None` above soft and below tail.
    pub fn header(&self, height: Height, stored: &dyn Stored) -> Option<Header> {
        if !self.heads.stores(height) {
            return None;
        }
        match self.fresh.get(&height) {
            Some(fresh) => Some(fresh.header.clone()),
            None => stored.header(height),
        }
    }

    /// Whether `id` is on our chain.
    pub fn contains(&self, id: BlockId, stored: &dyn Stored) -> bool {
        self.hash(id.height, stored) == Some(id.hash)
    }

    /// Bytes of blocks that are decided but not durable.
    pub fn fresh_bytes(&self) -> usize {
        self.fresh_bytes
    }

    /// The hash of the block below `height`, `None` when it cannot be told.
    pub fn parent_hash(&self, height: Height, stored: &dyn Stored) -> Option<Hash> {
        if height == self.heads.tail {
            return self.heads.base.map(|base| base.id.hash);
        }
        self.hash(height.prev()?, stored)
    }

    /// Stores the block on top. The first one of a store may have a parent that nobody knows: then the caller vouches for it.
    pub fn append(&mut self, block: &AuthenticBlock, origin: Origin) -> Result<VerifiedBlock, Fault> {
        let base = self.heads.base.or_else(|| Tip::below(block.block()).filter(|_| self.heads.soft.is_none()));
        let verified = block.link(self.heads.soft.or(base))?;
        assert_eq!(block.height(), self.heads.next_height(), "only the next height can be stored");
        self.add_fresh(block);
        self.heads.soft = Some(verified.tip());
        self.heads.base = base;
        if self.heads.lost.is_some_and(|lost| block.height() >= lost.to) {
            self.heads.lost = None;
        }
        self.raise_target(block.id());
        self.received.count(origin);
        self.changes.push(Change::Append { block: verified.clone(), origin });
        self.check();
        Ok(verified)
    }

    /// Stores the block right below the tail: the one that the block at the tail links to.
    pub fn prepend(&mut self, block: &AuthenticBlock, origin: Origin) -> Result<(), Fault> {
        let base = self.heads.base.ok_or(Fault::OtherParent(None))?;
        let verified = block.link_below(base.id)?;
        self.add_fresh(block);
        self.heads.tail = block.height();
        self.heads.base = Tip::below(block.block());
        self.received.count(origin);
        self.changes.push(Change::Prepend { block: verified, origin });
        self.check();
        Ok(())
    }

    /// Forgets every block below this height, which is not above hard, or not above soft while there is no hard.
    pub fn prune(&mut self, below: Height, base: Tip) {
        assert!(self.heads.tail < below && self.heads.stores(below), "what is left is stored");
        assert!(self.heads.hard_height().is_none_or(|hard| below <= hard), "only hard blocks are forgotten");
        assert_eq!(base.id.height.next(), below, "what the new tail links to is known");
        let kept = self.fresh.split_off(&below);
        self.fresh_bytes -= std::mem::replace(&mut self.fresh, kept).values().map(|fresh| fresh.bytes).sum::<usize>();
        self.heads.tail = below;
        self.heads.base = Some(base);
        self.changes.push(Change::Prune { below });
        self.check();
    }

    /// Takes back every block from `from` on; `parent` is the block below it. Forgets the target: what proved it may be
    /// what was taken back.
    pub fn truncate(&mut self, from: Height, parent: Option<Tip>) {
        assert!(self.heads.stores(from), "only stored blocks can be taken back");
        assert!(self.heads.hard_height().is_none_or(|hard| hard < from), "hard blocks are never taken back");
        assert_eq!(
            parent.map(|tip| tip.id.height.next()),
            (from > self.heads.tail).then_some(from),
            "its parent stays"
        );
        for (_, fresh) in self.fresh.split_off(&from) {
            self.fresh_bytes -= fresh.bytes;
        }
        self.heads.soft = parent;
        self.heads.epoch = self.heads.epoch.next();
        self.heads.target = self.heads.soft_id();
        self.changes.push(Change::Truncate { from, epoch: self.heads.epoch });
        self.check();
    }

    /// Hardens the block above hard.
    pub fn confirm(&mut self, id: BlockId, position: DaPosition) {
        assert_eq!(id.height, self.next_unconfirmed(), "hard rises one block at a time");
        self.heads.hard = Some(id);
        self.changes.push(Change::Confirm { height: id.height, position });
        self.check();
    }

    /// The height whose confirmation is judged next.
    pub fn next_unconfirmed(&self) -> Height {
        self.heads.hard.map_or(self.heads.tail, |hard| hard.height.next())
    }

    /// A sequencer's signature proves that this block exists.
    pub fn raise_target(&mut self, id: BlockId) {
        if self.heads.target.is_none_or(|target| target.height < id.height) {
            self.heads.target = Some(id);
        }
    }

    /// Nobody leads to the target: forget it until somebody proves it again.
    pub fn drop_target(&mut self) {
        self.heads.target = self.heads.soft_id();
    }

    pub fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Everything changed since the last call, with the id of the commit that must carry it; `None` when nothing was.
    pub fn take_changes(&mut self) -> Option<(CommitId, Vec<Change>)> {
        // The target is proved anew after every start, so it is not worth a write.
        let stored = |heads: Heads| Heads { target: None, ..heads };
        if self.changes.is_empty() && stored(self.heads) == stored(self.committed) {
            return None;
        }
        self.committed = self.heads;
        let id = self.next_commit;
        self.next_commit = id.next();
        Some((id, std::mem::take(&mut self.changes)))
    }

    /// Everything up to this commit is on disk.
    pub fn durable(&mut self, commit: CommitId) {
        // Not in the order of heights: what was put below the tail is later than what lies above it.
        self.fresh.retain(|_, fresh| fresh.commit > commit);
        self.fresh_bytes = self.fresh.values().map(|fresh| fresh.bytes).sum();
    }

    fn add_fresh(&mut self, block: &AuthenticBlock) {
        let header = block.block().header().clone();
        let fresh = Fresh { commit: self.next_commit, header, hash: block.hash(), bytes: block.size() };
        self.fresh_bytes += fresh.bytes;
        self.fresh.insert(block.height(), fresh);
    }

    /// The commit that carries the changes of the decision that is being made.
    pub fn next_commit(&self) -> CommitId {
        self.next_commit
    }

    fn check(&self) {
        let Heads { tail, base, soft, hard, target, .. } = self.heads;
        assert!(base.is_none_or(|base| base.id.height.next() == tail), "the base is right below the tail");
        let soft = soft.map(|soft| soft.id.height);
        assert!(soft.is_none_or(|soft| tail <= soft), "tail <= soft");
        assert!(hard.is_none_or(|hard| tail <= hard.height), "tail <= hard");
        assert!(hard.is_none_or(|hard| soft.is_some_and(|soft| hard.height <= soft)), "hard <= soft");
        assert!(soft.is_none_or(|soft| target.is_some_and(|target| soft <= target.height)), "soft <= target");
    }
}
