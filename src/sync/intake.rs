//! Blocks on their way in: what peers gossip and answer, and what of it becomes part of the chain.
//!
//! ```text
//!   gossip --------.                       .--> appended   (the next one on our branch)
//!   range, head ---+--> incoming ----------+--> pending    (above a gap)
//!   by hash -------'    (authentic)        +--> evidence   (another one is stored, or pending)
//!   DA report -----'                       '--> ignored    (old, unbelievable, or not to be stored)
//! ```
//!
//! Invariants:
//! 1. While a veto stands, the chain grows above soft only by what DA decides.
//! 2. A gossiped block that passed its checks is accepted or ignored, never rejected, and at once: forwarding does not wait for
//!    the disk.
//! 3. An answer is judged against the request that it answers: a request that was given up has no answer any more.

use std::time::Duration;

use super::backfill::tail_may_fall;
use super::exchange::{AnswerUse, Missing, OpenRequest};
use super::pending::{Admission, PendingBlock};
use super::{
    BlockQuery, Ctx, EvidenceSide, FetchOutcome, Fetched, Offence, Origin, PeerId, RequestId, Syncer, Ticket, Verdict,
    blame,
};
use crate::block::{BlockId, Hash, Height};
use crate::clock::Now;
use crate::util::saturate;
use crate::verify::{AuthenticBlock, Fault};

// ---- Gossip and answers --------------------------------------------------------------------------------------------

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
                let (verdict, offence) = blame::of_gossip(&fault);
                if let Some(offence) = offence {
                    self.exchange.penalize(ctx.now, peer, offence, &mut self.decision);
                }
                verdict
            }
        };
        self.decision.judge(ticket, verdict);
    }

    pub(super) fn peer_down(&mut self, peer: &PeerId) {
        let missing = self.missing();
        self.exchange.peer_down(peer, missing);
    }

    pub(super) fn fetched(&mut self, ctx: Ctx<'_>, request: RequestId, fetched: &Fetched) {
        // A late answer to a request that was given up is no longer ours to judge.
        let Some(open) = self.exchange.take(request) else { return };
        let used = self.use_answer(ctx, &open, fetched);
        let missing = self.missing();
        self.exchange.settle(ctx.now, open, used, missing, &mut self.decision);
    }

    /// Takes from an answer what is of use.
    fn use_answer(&mut self, ctx: Ctx<'_>, open: &OpenRequest, fetched: &Fetched) -> AnswerUse {
        if let FetchOutcome::Invalid(fault) = &fetched.outcome {
            // A frame that broke the exchange protocol has no fault to name, and is as wrong.
            return AnswerUse::Wrong(fault.as_ref().map_or(Some(Offence::BadRange), blame::of_answer));
        }
        match open.query {
            BlockQuery::Head => self.use_head(ctx, &open.peer, fetched),
            BlockQuery::Hash(hash) => self.use_by_hash(ctx, &open.peer, hash, fetched),
            BlockQuery::Range { from, amount } if open.below_tail => {
                self.use_below_tail(&open.peer, from, amount, fetched)
            }
            BlockQuery::Range { from, amount } => self.use_range(ctx, &open.peer, from, amount, fetched),
        }
    }

    fn use_head(&mut self, ctx: Ctx<'_>, peer: &PeerId, fetched: &Fetched) -> AnswerUse {
        match (fetched.blocks.first(), &fetched.outcome) {
            (Some(head), _) => {
                self.exchange.record_answered_head(peer, head.id());
                self.incoming(ctx, head, Origin::Range, Some(peer));
                AnswerUse::Head
            }
            (None, FetchOutcome::NotSent) => AnswerUse::NotSent,
            // It is asked for it again when that is due, and may serve all the same.
            (None, _) => AnswerUse::Neutral,
        }
    }

    fn use_by_hash(&mut self, ctx: Ctx<'_>, peer: &PeerId, hash: Hash, fetched: &Fetched) -> AnswerUse {
        match fetched.blocks.first() {
            Some(block) if block.hash() == hash => {
                self.incoming(ctx, block, Origin::Range, None);
                self.step_reverse_sync(ctx, block);
                if self.wanted_by_hash() != Some(hash) {
                    return AnswerUse::Served { given: 0 };
                }
            }
            Some(_) => self.exchange.penalize(ctx.now, peer, Offence::BadRange, &mut self.decision),
            None => {}
        }
        nothing_of_use(&fetched.outcome)
    }

    fn use_range(&mut self, ctx: Ctx<'_>, peer: &PeerId, from: Height, amount: u64, fetched: &Fetched) -> AnswerUse {
        let Fetched { blocks, outcome } = fetched;
        if blocks.is_empty() && *outcome == FetchOutcome::Cut {
            // A peer that has served nothing yet is not believed: it could put off height after height.
            let serves = self.exchange.serves(peer);
            return if serves { AnswerUse::TooHeavy(from) } else { AnswerUse::Useless };
        }
        let count = saturate::to_u64(blocks.len());
        if count > amount || !is_run(from, blocks) {
            // Punished as [`AnswerUse::Wrong`] is; but what we cut ourselves may be asked of the same peer again.
            self.exchange.penalize(ctx.now, peer, Offence::BadRange, &mut self.decision);
            return nothing_of_use(outcome);
        }
        self.exchange.record_answered_range(peer, from, amount, count, outcome);
        for block in blocks {
            self.incoming(ctx, block, Origin::Range, Some(peer));
            if self.is_on_other_branch(ctx, block) {
                // What it gave beyond belongs to the same branch.
                self.pending.forget_peer(peer);
                self.exchange.mark_elsewhere(peer);
                return nothing_of_use(outcome);
            }
        }
        // What could not be used, whoever is to blame, is not asked of the same peer again at once.
        if count > 0 && (self.chain.heads().stores(from) || self.pending.has(from)) {
            let is_cut = matches!(outcome, FetchOutcome::Cut | FetchOutcome::NotSent);
            if is_cut { AnswerUse::ServedInPart } else { AnswerUse::Served { given: count } }
        } else if count == 0 && *outcome == FetchOutcome::NotFound && self.exchange.must_store(peer, from) {
            AnswerUse::BelowItsTail(from)
        } else {
            nothing_of_use(outcome)
        }
    }

    fn use_below_tail(&mut self, peer: &PeerId, from: Height, amount: u64, fetched: &Fetched) -> AnswerUse {
        let Fetched { blocks, outcome } = fetched;
        let count = saturate::to_u64(blocks.len());
        if count > amount || !is_run(from, blocks) {
            return AnswerUse::Wrong(Some(Offence::BadRange));
        }
        if count > 0 {
            self.exchange.record_gave(peer, from);
        }
        if count < amount {
            self.backfill.answered_in_part(count);
            return match outcome {
                FetchOutcome::NotFound if self.exchange.must_store(peer, from) => AnswerUse::BelowItsTail(from),
                _ if count > 0 => AnswerUse::Neutral,
                FetchOutcome::NotSent => AnswerUse::NotSent,
                // It says that a block is too heavy for the answer: of one alone that cannot be.
                FetchOutcome::Cut if amount > 1 => AnswerUse::Neutral,
                _ => AnswerUse::Useless,
            };
        }
        if !tail_may_fall(&self.chain) {
            // That has changed since it was asked for.
            return AnswerUse::Neutral;
        }
        for block in blocks.iter().rev() {
            if self.reverse_sync.pinned(block.height()).is_some_and(|pinned| pinned != block.id()) {
                // Our chain is not the one that the operator trusts: it ends here.
                return AnswerUse::Neutral;
            }
            if self.chain.prepend(block, Origin::Range, &mut self.decision).is_err() {
                // The sequencer signed it, and it is not what our chain stands on.
                self.exchange.mark_elsewhere(peer);
                return AnswerUse::Useless;
            }
        }
        self.backfill.answered_in_full(amount);
        AnswerUse::Served { given: count }
    }
}

/// What to think of an answer that brought nothing of use, by how it ended.
fn nothing_of_use(outcome: &FetchOutcome) -> AnswerUse {
    match outcome {
        FetchOutcome::NotSent => AnswerUse::NotSent,
        FetchOutcome::Cut => AnswerUse::CutShort,
        _ => AnswerUse::Useless,
    }
}

/// Whether the blocks are a run of linked heights from `from` on.
fn is_run(from: Height, blocks: &[AuthenticBlock]) -> bool {
    let heights = blocks.iter().zip(0..).all(|(block, index)| block.height() == from.plus(index));
    let links = blocks.iter().zip(blocks.iter().skip(1)).all(|(a, b)| b.parent_hash() == Some(a.hash()));
    heights && links
}

// ---- Asking for what is missing ------------------------------------------------------------------------------------

impl Syncer {
    /// Gives up what took too long, and asks for what is missing.
    pub(super) fn ask_peers(&mut self, ctx: Ctx<'_>) {
        let now = ctx.now.elapsed;
        for request in self.exchange.expired(now) {
            self.decision.cancel(request);
            self.fetched(ctx, request, &Fetched { blocks: Vec::new(), outcome: FetchOutcome::Timeout });
        }
        self.exchange.begin_round();
        self.end_reverse_sync();
        self.exchange.probe_heads(now, &mut self.decision);
        if !self.retention.disk_is_full() && !self.draining {
            match self.wanted_by_hash() {
                Some(hash) => self.exchange.ask_for_hash(now, hash, &mut self.decision),
                None => self.exchange.forget_hash(),
            }
        }
        if !self.is_catching_up() {
            self.ask_below_tail(now);
            self.exchange.forget_ranges(now);
        } else if now >= self.exchange.patience_ends() {
            self.chain.drop_target();
            self.exchange.restart_patience(now);
        } else {
            self.exchange.ask_above(now, &self.chain, &self.pending, &mut self.decision);
        }
    }

    fn ask_below_tail(&mut self, now: Duration) {
        let Some(last) = self.next_below_tail() else { return };
        if self.exchange.asks_below() || self.chain.fresh_bytes() > self.config.limits.commit_bytes {
            return;
        }
        let span = self.backfill.span(last, &self.exchange);
        self.exchange.ask_below(now, span, &mut self.decision);
    }

    /// The height below the tail to be fetched next, when there is nothing better to do.
    fn next_below_tail(&self) -> Option<Height> {
        let idle = !self.chain.is_behind() && !self.is_full() && !self.draining;
        self.backfill.next(&self.chain, &self.reverse_sync).filter(|_| idle)
    }

    /// Whether blocks below the tail are wanted, and no peer that could have them does.
    pub(super) fn lacks_below_tail(&self) -> bool {
        self.next_below_tail().is_some_and(|next| self.exchange.lack_history(next))
    }

    /// Whether the missing blocks are being asked for.
    pub(super) fn is_catching_up(&self) -> bool {
        self.chain.is_behind() && self.standing.vetoed().is_none() && !self.is_full() && !self.draining
    }

    /// The block that is asked for by its hash: one that DA names and that we were not given, or the next one down to where our
    /// branch is another than that of a pinned block.
    fn wanted_by_hash(&self) -> Option<Hash> {
        self.da.wanted().or_else(|| self.reverse_sync_child()).map(|wanted| wanted.hash)
    }

    fn missing(&self) -> Missing {
        Missing { next: self.chain.heads().next_height(), by_hash: self.wanted_by_hash() }
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
        if id.height < heads.tail || !self.is_scheduled(block) || self.rules.check_time(block, ctx.now).is_err() {
            return Verdict::Ignore;
        }
        self.exchange.guess_size(block.size());
        if let Some(peer) = peer {
            self.exchange.record_head(peer, id);
        }
        if heads.hard_height().is_some_and(|hard| id.height <= hard) {
            return Verdict::Ignore;
        }
        self.da.offer(block, &mut self.decision);
        if heads.stores(id.height) {
            return match self.chain.hash(id.height, ctx.stored) {
                Some(ours) if ours != id.hash => {
                    self.keep_evidence(block, EvidenceSide::Stored(BlockId { height: id.height, hash: ours }))
                }
                _ => Verdict::Ignore,
            };
        }
        // Where another one is pinned it can never be stored, which proves nothing against whoever signed it.
        if self.standing.vetoed() == Some(id) || self.is_full() || self.may_stand(block).is_err() {
            return Verdict::Ignore;
        }
        if heads.target.is_none_or(|target| target.height < id.height) {
            self.exchange.progressed(ctx.now.elapsed);
        }
        self.chain.raise_target(id);
        if id.height == heads.next_height() && self.may_append() {
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

    /// Whether gossip and range answers may extend the chain now.
    fn may_append(&self) -> bool {
        self.standing.vetoed().is_none()
            && !self.is_full()
            && self.chain.fresh_bytes() <= self.config.limits.commit_bytes
    }

    /// Appends pending blocks, as far as they link.
    pub(super) fn append_pending(&mut self, ctx: Ctx<'_>) {
        while self.may_append() {
            let heads = *self.chain.heads();
            let links = |block: &AuthenticBlock| self.reverse_sync.links(block, &heads);
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
        let through = if self.may_append() && self.believable_at.is_none() {
            Some(self.chain.heads().next_height())
        } else {
            self.chain.heads().soft_height()
        };
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
        self.exchange.learn_size(block.size());
        self.exchange.judge_put_off(ctx.now.elapsed, block);
        self.exchange.progressed(ctx.now.elapsed);
        Ok(())
    }

    /// Whether its proposer is the scheduled one still: the schedule may have grown since the block was checked.
    fn is_scheduled(&self, block: &AuthenticBlock) -> bool {
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
    fn is_on_other_branch(&self, ctx: Ctx<'_>, block: &AuthenticBlock) -> bool {
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
