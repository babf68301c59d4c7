//! Blocks on their way in, from wherever: what of them becomes part of the chain.
//!
//! ```text
//!   gossip --------.                       .--> appended   (the next one on our branch)
//!   range, head ---+--> incoming ----------+--> pending    (above a gap)
//!   by hash -------'    (authentic)        +--> evidence   (another one is stored, or pending)
//!   DA report -----'                       '--> ignored    (old, unbelievable, or not to be stored)
//! ```
//!
//! Invariants:
//! 1. While a veto stands, the chain grows above soft only by what DA decides, or a host says that it has. With that the veto ends.
//! 2. A gossiped block that passed its checks is accepted or ignored, never rejected, and at once: forwarding does not wait for
//!    the disk.

use std::time::Duration;

use super::da::Da;
use super::pending::{Admission, PendingBlock};
use super::standing::Standing;
use super::{Ctx, EvidenceSide, Origin, PeerId, Syncer, Ticket, Verdict, blame};
use crate::block::BlockId;
use crate::clock::Now;
use crate::verify::{AuthenticBlock, Fault};

// ---- Gossip --------------------------------------------------------------------------------------------------------

impl Syncer {
    pub(super) fn gossip(
        &mut self,
        ctx: Ctx<'_>,
        peer: &PeerId,
        ticket: Ticket,
        outcome: Result<AuthenticBlock, Fault>,
    ) {
        let verdict = match outcome {
            Ok(block) => {
                self.exchange.delivered(peer, ctx.now.elapsed);
                self.incoming(ctx, &block, Origin::Gossip, Some(peer))
            }
            Err(fault) => {
                self.strangers.note(&fault);
                self.notice_fault(ctx, &fault);
                let (verdict, offence) = blame::of_gossip(&fault);
                if let Some(offence) = offence {
                    self.exchange.penalize(ctx.now, peer, offence, &mut self.decision);
                }
                verdict
            }
        };
        self.decision.judge(ticket, verdict);
    }
}

// ---- Blocks --------------------------------------------------------------------------------------------------------

impl Syncer {
    /// A block that passed all checks which need no parent, from wherever. Says what gossip should do with it.
    pub(super) fn incoming(
        &mut self,
        ctx: Ctx<'_>,
        block: &AuthenticBlock,
        origin: Origin,
        peer: Option<&PeerId>,
    ) -> Verdict {
        let id = block.id();
        let heads = *self.chain.heads();
        if id.height < heads.tail || !self.is_scheduled(block) {
            return Verdict::Ignore;
        }
        self.notice(ctx, id, block.parent_hash());
        if self.clock_watch.check(&self.rules, block, ctx.now).is_err() {
            return Verdict::Ignore;
        }
        self.exchange.guess_size(block.size());
        if let Some(peer) = peer {
            self.exchange.record_head(peer, id);
        }
        if heads.hard_height().is_some_and(|hard| id.height <= hard) {
            return Verdict::Ignore;
        }
        if block.size() > self.config.limits.max_block_bytes {
            return Verdict::Ignore;
        }
        if heads.stores(id.height) {
            return match self.chain.hash(id.height, ctx.stored) {
                Some(ours) if ours != id.hash => {
                    self.da.recognise(block, &mut self.decision);
                    self.keep_evidence(block, EvidenceSide::Stored(BlockId { height: id.height, hash: ours }))
                }
                _ => Verdict::Ignore,
            };
        }
        let header = block.block().header();
        if self.standing.vetoed() == Some(id) && !self.da.names(id.hash, header) {
            self.da.recognise(block, &mut self.decision);
            return Verdict::Ignore;
        }
        // Where another one is pinned it can never be stored, which proves nothing against whoever signed it.
        if self.is_refused_as_given_up(id.hash, header) || self.is_full() || self.may_stand(block).is_err() {
            return Verdict::Ignore;
        }
        if self.chain.is_higher_target(id) {
            self.exchange.led_on(ctx.now.elapsed);
            self.chain.raise_target(id);
        }
        if id.height == heads.next_height() && self.has_room() && is_let_in(&self.standing, &self.da, block) {
            return match self.append(ctx, block, origin) {
                Ok(()) => Verdict::Accept,
                Err(_) => match heads.soft_id() {
                    Some(soft) => self.keep_evidence(block, EvidenceSide::Stored(soft)),
                    None => Verdict::Ignore,
                },
            };
        }
        self.keep_pending(PendingBlock { block: block.clone(), origin, peer: peer.cloned() })
    }

    fn keep_pending(&mut self, pending: PendingBlock) -> Verdict {
        let block = pending.block.clone();
        let rival = self.pending.at(block.height()).find(|other| other.block.hash() != block.hash());
        let rival = rival.map(|other| other.block.block().signed_header());
        match (self.pending.add(pending), rival) {
            (Admission::Pending | Admission::NoRoom, Some(rival)) => {
                self.keep_evidence(&block, EvidenceSide::Carried(rival))
            }
            (Admission::Pending, None) => Verdict::Accept,
            (Admission::Known | Admission::NoRoom, _) => Verdict::Ignore,
        }
    }

    /// Whether there is room for what gossip and range answers bring.
    fn has_room(&self) -> bool {
        !self.is_full() && self.chain.fresh_bytes() <= self.config.limits.commit_bytes
    }

    /// Appends pending blocks, as far as they link.
    pub(super) fn append_pending(&mut self, ctx: Ctx<'_>) {
        while self.has_room() {
            let heads = *self.chain.heads();
            let (reverse_sync, standing, da) = (&self.reverse_sync, &self.standing, &self.da);
            let links = |block: &AuthenticBlock| reverse_sync.links(block, &heads) && is_let_in(standing, da, block);
            let Some(next) = self.pending.take_next(heads.next_height(), links) else { break };
            if let Err(Fault::FromTheFuture { ahead }) = self.rules.check_time(&next.block, ctx.now) {
                self.believe_after(ctx.now, ahead);
                self.pending.add(next);
                break;
            }
            if self.append(ctx, &next.block, next.origin).is_err() {
                self.drop_lost(ctx, next);
            }
        }
        // What is pending at the next height now does not link to us, and what is pending below it lost.
        let is_settled = self.has_room() && self.standing.vetoed().is_none() && self.believable_at.is_none();
        let through =
            if is_settled { Some(self.chain.heads().next_height()) } else { self.chain.heads().soft_height() };
        if let Some(through) = through {
            for lost in self.pending.take_through(through) {
                self.drop_lost(ctx, lost);
            }
        }
    }

    /// A pending block turned out not to be on our branch: the peer that gave it follows another one.
    fn drop_lost(&mut self, ctx: Ctx<'_>, lost: PendingBlock) {
        let height = lost.block.height();
        let ours = match self.chain.hash(height, ctx.stored) {
            Some(hash) if hash == lost.block.hash() => return,
            Some(hash) => Some(BlockId { height, hash }),
            None => self.chain.heads().soft_id(),
        };
        if let Some(ours) = ours {
            self.keep_evidence(&lost.block, EvidenceSide::Stored(ours));
        }
        if let Some(peer) = lost.peer
            && lost.origin == Origin::Range
        {
            self.pending.forget_peer(&peer);
            self.exchange.mark_elsewhere(&peer);
        }
    }

    /// Puts the block on top of the chain.
    pub(super) fn append(&mut self, ctx: Ctx<'_>, block: &AuthenticBlock, origin: Origin) -> Result<(), Fault> {
        self.may_stand(block)?;
        self.chain.append(block, origin, &mut self.decision)?;
        self.own(ctx, block.id());
        if self.standing.vetoed().is_some() {
            self.standing.lift_veto(&mut self.decision);
        }
        self.exchange.learn_size(block.size());
        self.exchange.judge_put_off(ctx.now.elapsed, block);
        // Gossip goes on, whoever proves targets that nobody leads to.
        match origin {
            Origin::Range | Origin::Da => self.exchange.led_on(ctx.now.elapsed),
            Origin::Gossip | Origin::Published => self.exchange.progressed(),
        }
        Ok(())
    }

    /// Whether its proposer is the scheduled one still: the schedule may have grown since the block was checked.
    pub(super) fn is_scheduled(&self, block: &AuthenticBlock) -> bool {
        self.rules.schedule.proposer_at(block.height()) == Some(block.block().header().proposer)
    }

    /// Whether the block may be stored at all at its height, whatever is below it.
    pub(super) fn may_stand(&self, block: &AuthenticBlock) -> Result<(), Fault> {
        let height = block.height();
        if !self.is_scheduled(block) {
            return Err(Fault::NotScheduled { height, proposer: block.block().header().proposer });
        }
        match self.reverse_sync.pinned(height) {
            Some(pinned) if pinned != block.id() => Err(Fault::OtherParent(block.parent_hash())),
            _ => Ok(()),
        }
    }

    /// Whether this block, whose height is at most the next one, is not on our branch.
    pub(super) fn is_on_other_branch(&self, ctx: Ctx<'_>, block: &AuthenticBlock) -> bool {
        if let Some(ours) = self.chain.hash(block.height(), ctx.stored) {
            return ours != block.hash();
        }
        let heads = self.chain.heads();
        let pinned = self.reverse_sync.pinned(block.height()).is_none_or(|pinned| pinned == block.id());
        block.height() == heads.next_height() && !(pinned && self.reverse_sync.links(block, heads))
    }

    /// The sequencer contradicted itself.
    pub(super) fn keep_evidence(&mut self, block: &AuthenticBlock, first: EvidenceSide) -> Verdict {
        self.standing.keep_evidence(block, first, &mut self.chain, &mut self.decision)
    }

    /// A block's time is ahead of our clock by `ahead`: look again when it no longer is too much.
    pub(super) fn believe_after(&mut self, now: Now, ahead: Duration) {
        let wait = ahead.saturating_sub(self.rules.max_clock_drift).max(Duration::from_millis(1));
        self.believable_at = Some(now.elapsed + wait);
    }
}

/// Whether the host's veto lets this block extend the chain.
fn is_let_in(standing: &Standing, da: &Da, block: &AuthenticBlock) -> bool {
    standing.vetoed().is_none() || da.names(block.hash(), block.block().header())
}
