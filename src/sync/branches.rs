//! Two blocks for one height: which of them is ours, and how our own branch is left.
//!
//! Only DA may decide between two blocks that the sequencer signed. Without DA we stay on the one that we stored first, keep the
//! evidence, report `forked`, and go on serving.
//!
//! Invariants:
//! 1. Stored blocks are retracted for four reasons only: DA has another one, a pinned block stands on another one, the host
//!    refuses one, an operator orders it.
//! 2. A node that may publish never retracts its own blocks by itself: it halts.

use super::waiting::Afterwards;
use super::{Answer, Ctx, DaPosition, DisownedBy, EvidenceSide, Halt, LostWord, Policy, RejectAnswer, Syncer, Ticket};
use crate::block::{BlockId, Height};
use crate::verify::AuthenticBlock;

/// What became of a retraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retraction {
    /// The chain ends below the height now, and what was built on it is forgotten.
    Done,
    /// The store could not say what is there, or below it. Nothing has changed.
    Unreadable,
}

impl Syncer {
    /// Whether the block could stand where another one is stored; `None` when the store cannot say.
    pub(super) fn could_replace(&self, ctx: Ctx<'_>, block: &AuthenticBlock) -> Option<bool> {
        let parent = self.chain.parent_tip(block.height(), ctx.stored).ok()?;
        Some(self.may_stand(block).is_ok() && block.link(parent).is_ok())
    }

    /// DA has `winner` where we stored another block.
    pub(super) fn diverge(&mut self, ctx: Ctx<'_>, ours: BlockId, winner: &AuthenticBlock, position: DaPosition) {
        self.keep_evidence(winner, EvidenceSide::Stored(ours));
        if self.publishing.may_publish() || self.config.on_divergence == Policy::Halt {
            self.standing.halt(Halt::Diverged { ours, da: winner.id(), position }, &mut self.decision);
        } else {
            self.retract(ctx, ours.height, Afterwards::GivenUp(DisownedBy::Da));
        }
    }

    /// Retracts every stored block from `from` on, and forgets what was built on them.
    pub(super) fn retract(&mut self, ctx: Ctx<'_>, from: Height, afterwards: Afterwards) -> Retraction {
        let Ok(parent) = self.chain.parent_tip(from, ctx.stored) else { return Retraction::Unreadable };
        let Some(hash) = self.chain.hash(from, ctx.stored) else { return Retraction::Unreadable };
        let tail = self.chain.heads().tail;
        let blocks = self.stored_from(ctx, from);
        let left = self.retention.bytes_below(from, &self.chain);
        let gone = self.chain.truncate(from, parent.filter(|_| from > tail), &mut self.decision);
        self.retention.retracted(BlockId { height: from, hash }, left, &gone, &self.chain, &mut self.decision);
        self.pending.clear();
        self.exchange.branch_changed();
        if self.standing.vetoed().is_some_and(|vetoed| vetoed.height >= from) {
            self.standing.lift_veto(&mut self.decision);
        }
        self.taken_back(ctx, &blocks, afterwards);
        Retraction::Done
    }

    /// Whether DA has decided the block's height; or had before damage, for this block, which is stored again. Hosts were told so.
    fn is_or_was_hard(&self, ctx: Ctx<'_>, block: BlockId) -> bool {
        let is_decided = self.chain.heads().hard_height().is_some_and(|hard| block.height <= hard);
        is_decided || self.stored_as_once_hard(ctx, block.height) == Some(block)
    }

    /// The host's execution refuses a block.
    pub(super) fn host_rejected(&mut self, ctx: Ctx<'_>, ticket: Ticket, block: BlockId) {
        let answer = if self.is_or_was_hard(ctx, block) {
            RejectAnswer::Hard
        } else if self.standing.vetoed() == Some(block) {
            RejectAnswer::Stopped
        } else if self.chain.contains(block, ctx.stored)
            && self.retract(ctx, block.height, Afterwards::Awaited) == Retraction::Done
        {
            self.standing.veto(block, &mut self.decision);
            self.lost_words.said(LostWord::Veto, &mut self.decision);
            RejectAnswer::Stopped
        } else {
            RejectAnswer::NotFound
        };
        self.decision.reply(ticket, Answer::Reject(answer));
    }
}

// ---- Reverse sync --------------------------------------------------------------------------------------------------

impl Syncer {
    /// The block whose parent is to be learned next: all who are ahead follow another branch than ours, and a pinned block
    /// ahead of us tells which one is right.
    pub(super) fn reverse_sync_child(&self) -> Option<BlockId> {
        let heads = self.chain.heads();
        let (pinned, _) = self.reverse_sync.ahead(heads, &self.publishing)?;
        let is_stuck = self.standing.halted().is_none()
            && self.chain.is_behind()
            && self.exchange.are_all_elsewhere(heads.next_height());
        self.reverse_sync.next_child(pinned, heads).filter(|_| is_stuck)
    }

    /// Takes a step down, when this is the block that was asked for.
    pub(super) fn step_reverse_sync(&mut self, ctx: Ctx<'_>, block: &AuthenticBlock) {
        if self.reverse_sync_child() != Some(block.id()) {
            return;
        }
        let (Some(height), Some(hash)) = (block.height().prev(), block.parent_hash()) else { return };
        self.reverse_sync.learn(BlockId { height, hash });
        self.exchange.led_on(ctx.now.elapsed);
        if self.chain.hash(height, ctx.stored) == Some(hash) {
            self.reverse_sync.meet();
            self.follow_pinned_branch(ctx, height.next());
        }
    }

    /// Once the pinned block is here, nothing need be known of what it stands on.
    pub(super) fn end_reverse_sync(&mut self) {
        if self.reverse_sync.ahead(self.chain.heads(), &self.publishing).is_none() {
            self.reverse_sync.end();
        }
    }

    /// Below this height the pinned block's branch is ours.
    fn follow_pinned_branch(&mut self, ctx: Ctx<'_>, from: Height) {
        let ours = self.chain.hash(from, ctx.stored).map(|hash| BlockId { height: from, hash });
        let ahead = self.reverse_sync.ahead(self.chain.heads(), &self.publishing);
        let (Some(ours), Some(theirs), Some((_, position))) = (ours, self.reverse_sync.known(from), ahead) else {
            return;
        };
        if ours == theirs {
            // It is the others who are elsewhere.
            return;
        }
        // A trusted block is an operator's word, and no decision of DA.
        let afterwards = match position {
            DaPosition::IMPLIED => Afterwards::Awaited,
            _ => Afterwards::GivenUp(DisownedBy::Da),
        };
        if self.publishing.may_publish() {
            self.standing.halt(Halt::Diverged { ours, da: theirs, position }, &mut self.decision);
        } else if self.retract(ctx, from, afterwards) == Retraction::Done {
            self.exchange.probe_all_soon(ctx.now.elapsed);
        }
    }
}
