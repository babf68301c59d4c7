//! Fetching: what is missing is asked of peers, and what is of use is taken from their answers.
//!
//! ```text
//!   what is missing --Exchange--> Fetch ... Fetched --use_*--> incoming (intake), below the tail, one step of reverse sync
//!                                              '--> AnswerUse --Exchange--> what becomes of the peer, whom to ask next
//! ```
//!
//! Invariants:
//! 1. An answer is judged against the request that it answers: a request that was given up has no answer any more.

use std::time::Duration;

use super::backfill::tail_may_fall;
use super::exchange::{AnswerUse, Missing, OpenRequest};
use super::{BlockQuery, Ctx, FetchOutcome, Fetched, Offence, Origin, PeerId, RequestId, Syncer, blame};
use crate::block::{Hash, Height};
use crate::util::saturate;
use crate::verify::AuthenticBlock;

// ---- Answers -------------------------------------------------------------------------------------------------------

impl Syncer {
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
            BlockQuery::Hash(hash) => self.use_by_hash(ctx, hash, fetched),
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
                AnswerUse::OneBlock
            }
            (None, FetchOutcome::NotSent) => AnswerUse::NotSent,
            // It is asked for it again when that is due, and may serve all the same.
            (None, _) => AnswerUse::Neutral,
        }
    }

    fn use_by_hash(&mut self, ctx: Ctx<'_>, hash: Hash, fetched: &Fetched) -> AnswerUse {
        match fetched.blocks.first() {
            Some(block) if block.hash() == hash => {
                self.incoming(ctx, block, Origin::Range, None);
                self.step_reverse_sync(ctx, block);
                // Whoever is to blame for it if we could not use it, to ask for it again at once would be a loop.
                if self.wanted_hashes().contains(&hash) { AnswerUse::InVain } else { AnswerUse::OneBlock }
            }
            Some(_) => AnswerUse::Wrong(Some(Offence::BadRange)),
            None => AnswerUse::InVain,
        }
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
        self.ask_for_ranges(now);
        let takes_blocks = !self.retention.disk_is_full() && !self.draining;
        let wanted = if takes_blocks { self.wanted_hashes() } else { Vec::new() };
        self.exchange.ask_for_hashes(now, &wanted, &mut self.decision);
    }

    fn ask_for_ranges(&mut self, now: Duration) {
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

    /// The blocks that are asked for by their hashes, what matters most first: one that DA names and that we were not given, and the
    /// next one down to where our branch is another than that of a pinned block.
    fn wanted_hashes(&self) -> Vec<Hash> {
        self.da.wanted().into_iter().chain(self.reverse_sync_child()).map(|wanted| wanted.hash).collect()
    }

    fn missing(&self) -> Missing {
        Missing { next: self.chain.heads().next_height() }
    }
}
