//! The stored chain as the core sees it: the heads, and the hashes of what is decided but not durable yet.
//!
//! Invariants, asserted in release too:
//! 1. `tail <= hard <= soft <= target`, as far as each is there.
//! 2. `hard` never decreases and never changes its hash.
//! 3. `soft` decreases only in [`Chain::truncate`], which raises the epoch, and never below `hard`.
//! 4. Every height in `tail..=soft` has exactly one hash: in `fresh` when its commit is not durable yet, else in the store.

use std::collections::{BTreeMap, BTreeSet};

use super::decision::Decision;
use super::{Basis, Change, CommitId, Confirmation, DaPosition, EvidenceId, Heads, Origin, Received, Stored};
use crate::block::{Block, BlockId, Hash, Header, Height};
use crate::verify::{AuthenticBlock, Fault, Tip};

/// A block whose commit is not durable yet. The writer has it in memory, too.
#[derive(Debug)]
struct Fresh {
    commit: CommitId,
    block: Block,
}

impl Fresh {
    fn bytes(&self) -> usize {
        self.block.bytes().len()
    }
}

/// What went before it was durable: by which commit each block came, and what it weighs.
pub(super) type FreshGone = Vec<(CommitId, usize)>;

#[derive(Debug)]
pub(super) struct Chain {
    heads: Heads,
    received: Received,
    fresh: BTreeMap<Height, Fresh>,
    fresh_bytes: usize,
    /// Targets above soft that nobody led to; at most [`MAX_GIVEN_UP_TARGETS`].
    given_up_targets: BTreeSet<BlockId>,
    /// Former targets above soft that a higher one replaced: when that one is given up, so are they.
    passed_targets: BTreeSet<BlockId>,
}

/// So many are remembered, the highest ones.
const MAX_GIVEN_UP_TARGETS: usize = 256;

fn keep_highest(targets: &mut BTreeSet<BlockId>) {
    while targets.len() > MAX_GIVEN_UP_TARGETS {
        targets.pop_first();
    }
}

/// The store could not say what it has at a height; the node ends on the error behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreUnreadable;

impl Chain {
    /// Goes on from what was on disk.
    pub fn new(heads: Heads) -> Self {
        let chain = Self {
            heads: Heads { target: heads.soft_id(), ..heads },
            received: Received::default(),
            fresh: BTreeMap::new(),
            fresh_bytes: 0,
            given_up_targets: BTreeSet::new(),
            passed_targets: BTreeSet::new(),
        };
        chain.check();
        chain
    }

    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Blocks that became soft since the start.
    pub fn received(&self) -> Received {
        self.received
    }

    /// Whether a block is proved to exist that we do not have.
    pub fn is_behind(&self) -> bool {
        self.heads.target.map(|target| target.height) > self.heads.soft_height()
    }

    /// The hash at `height`, `None` above soft and below tail.
    pub fn hash(&self, height: Height, stored: &dyn Stored) -> Option<Hash> {
        if !self.heads.stores(height) {
            return None;
        }
        match (self.fresh.get(&height), self.heads.soft) {
            (Some(fresh), _) => Some(fresh.block.hash()),
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
            Some(fresh) => Some(fresh.block.header().clone()),
            None => stored.header(height),
        }
    }

    /// The SHA-256 of the whole stored block, with its size, `None` above soft and below tail. That is work on all of its bytes.
    pub fn digest(&self, height: Height, stored: &dyn Stored) -> Option<(Hash, usize)> {
        if !self.heads.stores(height) {
            return None;
        }
        match self.fresh.get(&height) {
            Some(fresh) => Some((Hash::of(fresh.block.bytes()), fresh.bytes())),
            None => stored.digest(height),
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

    /// The tip below `height`; `None` at the initial height, and at a tail of which nothing below is known.
    pub fn parent_tip(&self, height: Height, stored: &dyn Stored) -> Result<Option<Tip>, StoreUnreadable> {
        if height == self.heads.tail {
            return Ok(self.heads.base);
        }
        let below = height.prev().ok_or(StoreUnreadable)?;
        let hash = self.hash(below, stored).ok_or(StoreUnreadable)?;
        let header = self.header(below, stored).ok_or(StoreUnreadable)?;
        Ok(Some(Tip { id: BlockId { height: below, hash }, time_unix_nanos: header.time_unix_nanos }))
    }

    /// Stores the block on top. The first one of a store may have a parent that nobody knows: then the caller vouches for it.
    pub fn append(&mut self, block: &AuthenticBlock, origin: Origin, decision: &mut Decision) -> Result<(), Fault> {
        let base = self.heads.base.or_else(|| Tip::below(block.block()).filter(|_| self.heads.soft.is_none()));
        let verified = block.link(self.heads.soft.or(base))?;
        assert_eq!(block.height(), self.heads.next_height(), "only the next height can be stored");
        self.add_fresh(block, decision.next_commit());
        self.heads.soft = Some(verified.tip());
        self.heads.base = base;
        if self.heads.lost.is_some_and(|lost| block.height() >= lost.to) {
            self.heads.lost = None;
        }
        for targets in [&mut self.given_up_targets, &mut self.passed_targets] {
            targets.retain(|target| target.height > block.height());
        }
        self.raise_target(block.id());
        self.received.count(origin);
        decision.change(Change::Append { block: verified, origin });
        self.check();
        Ok(())
    }

    /// Stores the block right below the tail: the one that the block at the tail links to.
    pub fn prepend(&mut self, block: &AuthenticBlock, origin: Origin, decision: &mut Decision) -> Result<(), Fault> {
        let base = self.heads.base.ok_or(Fault::OtherParent(None))?;
        let verified = block.link_below(base.id)?;
        self.add_fresh(block, decision.next_commit());
        self.heads.tail = block.height();
        self.heads.base = Tip::below(block.block());
        self.received.count(origin);
        decision.change(Change::Prepend { block: verified, origin });
        self.check();
        Ok(())
    }

    /// Forgets every block below this height, which is not above hard, or not above soft while there is no hard.
    pub fn prune(&mut self, below: Height, base: Tip, decision: &mut Decision) -> FreshGone {
        assert!(self.heads.tail < below && self.heads.stores(below), "what is left is stored");
        assert!(self.heads.hard_height().is_none_or(|hard| below <= hard), "only hard blocks are forgotten");
        assert_eq!(base.id.height.next(), below, "what the new tail links to is known");
        let kept = self.fresh.split_off(&below);
        let gone = std::mem::replace(&mut self.fresh, kept);
        self.heads.tail = below;
        self.heads.base = Some(base);
        decision.change(Change::Prune { below });
        self.check();
        self.forget_fresh(&gone)
    }

    fn forget_fresh(&mut self, gone: &BTreeMap<Height, Fresh>) -> FreshGone {
        let gone: FreshGone = gone.values().map(|fresh| (fresh.commit, fresh.bytes())).collect();
        self.fresh_bytes -= gone.iter().map(|(_, bytes)| bytes).sum::<usize>();
        gone
    }

    /// Takes back every block from `from` on; `parent` is the block below it. Forgets the target: what proved it may be
    /// what was taken back.
    pub fn truncate(&mut self, from: Height, parent: Option<Tip>, decision: &mut Decision) -> FreshGone {
        assert!(self.heads.stores(from), "only stored blocks can be taken back");
        assert!(self.heads.hard_height().is_none_or(|hard| hard < from), "hard blocks are never taken back");
        assert_eq!(
            parent.map(|tip| tip.id.height.next()),
            (from > self.heads.tail).then_some(from),
            "its parent stays"
        );
        let gone = self.fresh.split_off(&from);
        self.heads.soft = parent;
        self.heads.epoch = self.heads.epoch.next();
        self.heads.target = self.heads.soft_id();
        self.given_up_targets.clear();
        self.passed_targets.clear();
        decision.change(Change::Truncate { from, epoch: self.heads.epoch });
        self.check();
        self.forget_fresh(&gone)
    }

    /// Hardens the block above hard.
    pub fn confirm(&mut self, id: BlockId, confirmation: Confirmation, decision: &mut Decision) {
        assert_eq!(id.height, self.next_unconfirmed(), "hard rises one block at a time");
        self.harden(id, confirmation, decision);
    }

    /// Hardens the block that the operator trusts, which is stored; nothing is hard yet. What lies below it follows from it.
    pub fn trust(&mut self, id: BlockId, decision: &mut Decision) {
        assert!(self.heads.hard.is_none(), "the trusted block is the first hard one");
        self.harden(id, Confirmation { position: DaPosition::IMPLIED, basis: Basis::Trusted }, decision);
    }

    fn harden(&mut self, id: BlockId, Confirmation { position, basis }: Confirmation, decision: &mut Decision) {
        self.heads.hard = Some(id);
        decision.change(Change::Confirm { height: id.height, position, basis });
        self.check();
    }

    /// The height whose confirmation is judged next.
    pub fn next_unconfirmed(&self) -> Height {
        self.heads.next_unconfirmed()
    }

    /// Whether this block, which a sequencer's signature proves to exist, would be a higher target.
    pub fn is_higher_target(&self, id: BlockId) -> bool {
        self.heads.target.is_none_or(|target| target.height < id.height) && !self.given_up_targets.contains(&id)
    }

    /// A sequencer's signature proves that this block exists.
    pub fn raise_target(&mut self, id: BlockId) {
        if self.is_higher_target(id) {
            if self.is_behind() {
                self.passed_targets.extend(self.heads.target);
                keep_highest(&mut self.passed_targets);
            }
            self.heads.target = Some(id);
        }
    }

    /// Nobody led to the target: the same block does not become the target again, whoever replays it, unless another branch is ours.
    pub fn give_up_target(&mut self) {
        if self.is_behind() {
            self.given_up_targets.extend(self.heads.target);
            self.given_up_targets.append(&mut self.passed_targets);
            keep_highest(&mut self.given_up_targets);
        }
        self.drop_target();
    }

    /// Forget the target until somebody proves it again.
    pub fn drop_target(&mut self) {
        self.heads.target = self.heads.soft_id();
    }

    /// Everything on DA up to this DA height has been reported; lower than before when some of it is to be reported again.
    pub fn set_scanned_through(&mut self, da_height: u64) {
        self.heads.scanned_through = da_height;
    }

    /// The id of one more piece of evidence.
    pub fn next_evidence(&mut self) -> EvidenceId {
        self.heads.evidence = self.heads.evidence.next();
        self.heads.evidence
    }

    /// Everything up to this commit is on disk.
    pub fn durable(&mut self, commit: CommitId) {
        // Not in the order of heights: what was put below the tail is later than what lies above it.
        self.fresh.retain(|_, fresh| fresh.commit > commit);
        self.fresh_bytes = self.fresh.values().map(Fresh::bytes).sum();
    }

    fn add_fresh(&mut self, block: &AuthenticBlock, commit: CommitId) {
        let fresh = Fresh { commit, block: block.block().clone() };
        self.fresh_bytes += fresh.bytes();
        self.fresh.insert(block.height(), fresh);
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
