//! Fetching: what is missing is asked of peers, and what is of use is taken from their answers.
//!
//! ```text
//!   what is missing --Exchange--> Fetch ... Fetched --use_*--> incoming (intake), below the tail, one step of reverse sync
//!                                              '--> AnswerUse --Exchange--> what becomes of the peer, whom to ask next
//! ```
//!
//! Invariants:
//! 1. An answer is judged against the request that it answers: a request that was given up has no answer any more.
//! 2. The good prefix of an answer is used, whoever is to blame for what comes after it.
//! 3. Time and room that we lost are nobody's fault: deadlines are judged only when nothing else waits to be read, and what we
//!    could not take counts against nobody.
//! 4. What our schedule does not know proves nothing: peers that are beyond it are asked for what lies below.

use std::time::Duration;

use super::backfill::tail_may_fall;
use super::exchange::{AnswerUse, Missing, OpenRequest};
use super::{BlockQuery, Ctx, FetchOutcome, Fetched, Offence, Origin, PeerId, RequestId, Syncer, blame};
use crate::block::{Hash, Height};
use crate::util::saturate;
use crate::verify::{AuthenticBlock, Fault};

/// The next block is ahead of our clock by no more than a moment: what is above it is no use before.
const BELIEVABLE_SOON: Duration = Duration::from_secs(5);

// ---- Answers -------------------------------------------------------------------------------------------------------

impl Syncer {
    pub(super) fn peer_up(&mut self, ctx: Ctx<'_>, peer: PeerId) {
        self.hearing.peer_up();
        self.exchange.peer_up(peer, ctx.now.elapsed);
    }

    pub(super) fn peer_down(&mut self, peer: &PeerId) {
        self.hearing.peer_down(peer);
        let missing = self.missing();
        self.exchange.peer_down(peer, missing);
    }

    pub(super) fn fetched(&mut self, ctx: Ctx<'_>, request: RequestId, fetched: &Fetched) {
        // A late answer to a request that was given up is no longer ours to judge.
        let Some(open) = self.exchange.take(request) else { return };
        let used = self.use_answer(ctx, &open, fetched);
        // An empty peer says that it has no head.
        let has_told = match &fetched.outcome {
            // Of one whose head our schedule does not know it is not known yet what it has below.
            FetchOutcome::NotFound | FetchOutcome::Invalid(Some(Fault::TooLargeHere(_))) => true,
            FetchOutcome::Invalid(_) => false,
            _ => !fetched.blocks.is_empty(),
        };
        if open.query == BlockQuery::Head && has_told {
            self.hearing.answered(&open.peer, request);
        }
        let missing = self.missing();
        self.exchange.settle(ctx.now, open, used, missing, &mut self.decision);
    }

    /// Takes from an answer what is of use.
    fn use_answer(&mut self, ctx: Ctx<'_>, open: &OpenRequest, fetched: &Fetched) -> AnswerUse {
        if let FetchOutcome::Invalid(Some(fault)) = &fetched.outcome {
            self.strangers.note(fault);
            self.notice_fault(ctx, fault);
        }
        match open.query {
            BlockQuery::Head => self.use_head(ctx, &open.peer, fetched),
            BlockQuery::Hash(hash) => self.use_by_hash(ctx, hash, fetched),
            BlockQuery::Range { from, amount } if open.below_tail => {
                self.use_below_tail(ctx, &open.peer, (from, amount), fetched)
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
            (None, FetchOutcome::Invalid(Some(Fault::NotScheduled { height, .. }))) => {
                self.exchange.record_claimed_head(peer, *height);
                AnswerUse::OneBlock
            }
            (None, FetchOutcome::NotSent) => AnswerUse::NotSent,
            // It is asked for it again when that is due, and may serve all the same.
            (None, outcome) => wrong(0, offence_of(outcome)).unwrap_or(AnswerUse::Neutral),
        }
    }

    fn use_by_hash(&mut self, ctx: Ctx<'_>, hash: Hash, fetched: &Fetched) -> AnswerUse {
        match fetched.blocks.first() {
            Some(block) if block.hash() == hash => {
                self.incoming(ctx, block, Origin::Range, None);
                self.step_reverse_sync(ctx, block);
                self.step_down(ctx, block.id(), block.parent_hash());
                // Whoever is to blame for it if we could not use it, to ask for it again at once would be a loop.
                if self.wanted_hashes().contains(&hash) { AnswerUse::InVain } else { AnswerUse::OneBlock }
            }
            Some(_) => AnswerUse::Wrong { given: 0, offence: Offence::BadRange },
            None => wrong(0, offence_of(&fetched.outcome)).unwrap_or(AnswerUse::InVain),
        }
    }

    fn use_range(&mut self, ctx: Ctx<'_>, peer: &PeerId, from: Height, amount: u64, fetched: &Fetched) -> AnswerUse {
        let Fetched { blocks, outcome } = fetched;
        let run = run_of(from, amount, blocks);
        let offence = if run.len() < blocks.len() { Some(Offence::BadRange) } else { offence_of(outcome) };
        self.exchange.record_answered_range(peer, from, amount, saturate::to_u64(run.len()), outcome);
        let used = match run {
            [] => self.use_empty(peer, from, outcome),
            [first, ..] => self.use_run(ctx, peer, first, run, outcome),
        };
        let given = if matches!(used, AnswerUse::Served { .. } | AnswerUse::ServedInPart) { run.len() } else { 0 };
        wrong(saturate::to_u64(given), offence).unwrap_or(used)
    }

    /// Takes what is of use from a run of blocks, whatever came after it.
    fn use_run(
        &mut self,
        ctx: Ctx<'_>,
        peer: &PeerId,
        first: &AuthenticBlock,
        run: &[AuthenticBlock],
        outcome: &FetchOutcome,
    ) -> AnswerUse {
        for block in run {
            self.incoming(ctx, block, Origin::Range, Some(peer));
            if self.is_on_other_branch(ctx, block) {
                // What it gave beyond belongs to the same branch.
                self.pending.forget_peer(peer);
                self.exchange.mark_elsewhere(peer);
                return nothing_of_use(outcome);
            }
        }
        let (from, given) = (first.height(), saturate::to_u64(run.len()));
        self.note_unknown(peer, from.plus(given), outcome);
        if self.chain.heads().stores(from) || self.pending.has(from) {
            let is_cut = matches!(outcome, FetchOutcome::Cut | FetchOutcome::NotSent);
            return if is_cut { AnswerUse::ServedInPart } else { AnswerUse::Served { given } };
        }
        // What could not be used, whoever is to blame, is not asked of the same peer again at once.
        if !self.may_grow() {
            AnswerUse::Neutral
        } else if self.is_for_later(ctx, first) {
            AnswerUse::NotTaken
        } else {
            nothing_of_use(outcome)
        }
    }

    /// What an answer says in which no block is of use.
    fn use_empty(&mut self, peer: &PeerId, from: Height, outcome: &FetchOutcome) -> AnswerUse {
        self.note_unknown(peer, from, outcome);
        match outcome {
            FetchOutcome::NotFound if self.exchange.must_store(peer, from) => AnswerUse::BelowItsTail(from),
            // A peer that has served nothing yet is not believed: it could put off height after height.
            FetchOutcome::Cut if self.exchange.serves(peer) => AnswerUse::TooHeavy(from),
            FetchOutcome::Cut => AnswerUse::Useless,
            FetchOutcome::Invalid(Some(Fault::NotScheduled { .. })) => AnswerUse::Neutral,
            _ => nothing_of_use(outcome),
        }
    }

    /// What the peer has at this height may be of a proposer whom our schedule does not know.
    fn note_unknown(&mut self, peer: &PeerId, from: Height, outcome: &FetchOutcome) {
        if matches!(outcome, FetchOutcome::Invalid(Some(Fault::NotScheduled { .. }))) {
            self.exchange.record_unknown(peer, from);
        }
    }

    /// Whether our clock, or our schedule, keeps us from taking this block now.
    fn is_for_later(&self, ctx: Ctx<'_>, block: &AuthenticBlock) -> bool {
        self.rules.check_time(block, ctx.now).is_err() || !self.is_scheduled(block)
    }

    fn use_below_tail(
        &mut self,
        ctx: Ctx<'_>,
        peer: &PeerId,
        (from, amount): (Height, u64),
        Fetched { blocks, outcome }: &Fetched,
    ) -> AnswerUse {
        let count = saturate::to_u64(blocks.len());
        let is_run = run_of(from, amount, blocks).len() == blocks.len();
        let offence = if is_run { offence_of(outcome) } else { Some(Offence::BadRange) };
        // Only what reaches up to the tail is of use.
        if let Some(wrong) = wrong(0, offence) {
            return wrong;
        }
        if count > 0 {
            self.exchange.record_gave(peer, from);
        }
        if count < amount {
            return self.use_part_below_tail(peer, from, amount, count, outcome);
        }
        // That may have changed since it was asked for.
        if !tail_may_fall(&self.chain, &self.da) {
            return AnswerUse::Neutral;
        }
        for block in blocks.iter().rev() {
            if self.reverse_sync.pinned(block.height()).is_some_and(|pinned| pinned != block.id()) {
                // Our chain is not the one that the operator trusts: it ends here.
                return AnswerUse::Neutral;
            }
            if self.chain.prepend(block, Origin::Range, &mut self.decision).is_err() {
                // The sequencer signed it, and it is not what our chain stands on.
                self.exchange.mark_elsewhere_at(peer, block.height());
                return AnswerUse::Useless;
            }
            self.own(ctx, block.id());
        }
        self.backfill.answered_in_full(amount);
        AnswerUse::Served { given: count }
    }

    /// What to think of an answer that does not reach up to the tail.
    fn use_part_below_tail(
        &mut self,
        peer: &PeerId,
        from: Height,
        amount: u64,
        count: u64,
        outcome: &FetchOutcome,
    ) -> AnswerUse {
        self.backfill.answered_in_part(count);
        match outcome {
            FetchOutcome::NotFound if self.exchange.must_store(peer, from) => AnswerUse::BelowItsTail(from),
            _ if count > 0 => AnswerUse::Neutral,
            FetchOutcome::NotSent => AnswerUse::NotSent,
            // It says that a block is too heavy for the answer: of one alone that cannot be.
            FetchOutcome::Cut if amount > 1 => AnswerUse::Neutral,
            _ => AnswerUse::Useless,
        }
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

/// What to hold against whoever gave an answer that ended like this, whatever came before.
fn offence_of(outcome: &FetchOutcome) -> Option<Offence> {
    match outcome {
        // A frame that broke the exchange protocol has no fault to name, and is as wrong.
        FetchOutcome::Invalid(fault) => fault.as_ref().map_or(Some(Offence::BadRange), blame::of_answer),
        _ => None,
    }
}

fn wrong(given: u64, offence: Option<Offence>) -> Option<AnswerUse> {
    offence.map(|offence| AnswerUse::Wrong { given, offence })
}

/// As many of the first blocks as are a run of linked heights from `from` on, `amount` of them at most.
fn run_of(from: Height, amount: u64, blocks: &[AuthenticBlock]) -> &[AuthenticBlock] {
    let below = std::iter::once(None).chain(blocks.iter().map(Some));
    let follows = |(index, (block, below)): &(u64, (&AuthenticBlock, Option<&AuthenticBlock>))| {
        let links = below.is_none_or(|below| block.parent_hash() == Some(below.hash()));
        *index < amount && block.height() == from.plus(*index) && links
    };
    let length = (0..).zip(blocks.iter().zip(below)).take_while(follows).count();
    &blocks[..length]
}

// ---- Asking for what is missing ------------------------------------------------------------------------------------

impl Syncer {
    /// Gives up what took too long.
    pub(super) fn give_up_overdue(&mut self, ctx: Ctx<'_>) {
        for (request, outcome) in self.exchange.overdue(ctx.now.elapsed) {
            self.decision.cancel(request);
            self.fetched(ctx, request, &Fetched { blocks: Vec::new(), outcome });
        }
    }

    /// Asks for what is missing.
    pub(super) fn ask_peers(&mut self, ctx: Ctx<'_>) {
        let now = ctx.now.elapsed;
        self.exchange.begin_round();
        self.end_reverse_sync();
        self.exchange.probe_heads(now, &mut self.decision);
        self.ask_for_ranges(now);
        let takes_blocks = !self.retention.disk_is_full() && !self.draining;
        let wanted = if takes_blocks { self.wanted_hashes() } else { Vec::new() };
        self.exchange.ask_for_hashes(now, &wanted, &mut self.decision);
    }

    fn ask_for_ranges(&mut self, now: Duration) {
        let target = self.chain.heads().target.filter(|_| self.is_catching_up());
        if target.is_some() && now >= self.exchange.patience_ends() {
            self.chain.give_up_target();
            return self.exchange.restart_patience(now);
        }
        self.ask_below_tail(now);
        if let Some(target) = target {
            return self.ask_above(now, target.height);
        }
        let next = self.chain.heads().next_height();
        match self.exchange.reach_beyond(next, now).filter(|_| self.may_grow()) {
            // As much of it as our schedule knows, or nobody led to before. That there is no progress says nothing of a target then.
            Some(reach) => {
                self.exchange.wait_for_no_target(now);
                self.ask_above(now, reach);
            }
            None => self.exchange.forget_ranges(now),
        }
    }

    fn ask_above(&mut self, now: Duration, through: Height) {
        // The next block is on DA, and ahead of our clock for a moment; what is above it is so for longer, and would be fetched once more
        // for each block that becomes believable.
        if self.believable_at.is_some_and(|at| at <= now + BELIEVABLE_SOON) {
            return;
        }
        self.exchange.ask_above(now, through, &self.chain, &self.pending, &mut self.decision);
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
        let idle = !self.is_led_on() && !self.is_full() && !self.draining;
        self.backfill.next(&self.chain, &self.da, &self.reverse_sync).filter(|_| idle)
    }

    /// Whether blocks below the tail are wanted, and no peer that could have them does.
    pub(super) fn lacks_below_tail(&self) -> bool {
        self.next_below_tail().is_some_and(|next| self.exchange.lack_below_tail(next))
    }

    /// Whether the missing blocks are being asked for.
    pub(super) fn is_catching_up(&self) -> bool {
        self.chain.is_behind() && self.may_grow()
    }

    fn may_grow(&self) -> bool {
        let ends_here = self.standing.vetoed().is_some() && self.da.named().is_none();
        !ends_here && !self.is_full() && !self.draining
    }

    /// The blocks that are asked for by their hashes, what matters most first: one that DA names and that is not here, the
    /// next one down to where our branch is another than that of a pinned block, and the next one down from what is awaited. The
    /// first needs a host's word for it, on a chain whose DA is told by names alone; it only directs the search: what comes is held
    /// against the rules and linked like any other block, the name decides nothing before the block is stored, and a name that
    /// nobody has costs a few slots of their own (`exchange/by_hash.rs`).
    fn wanted_hashes(&self) -> Vec<Hash> {
        let steps = self.reverse_sync_child().into_iter().chain(self.next_step_down());
        self.named_blocks().into_iter().chain(steps).map(|wanted| wanted.hash).collect()
    }

    fn missing(&self) -> Missing {
        Missing { next: self.chain.heads().next_height() }
    }
}
