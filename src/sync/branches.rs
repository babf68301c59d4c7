//! Which blocks become part of the chain, and what happens when there are two of them.
//!
//! Nobody but DA may decide between two blocks that the sequencer signed. Without DA we stay on the one that we stored
//! first, keep the evidence, say `forked`, and go on serving.
//!
//! Invariants:
//! 1. Stored blocks are taken back for three reasons only: DA has another one, the host refuses one, an operator says so.
//! 2. A node that may publish never takes back its own blocks by itself: it halts.
//! 3. While a veto stands, the chain grows only by what DA decides.
//! 4. At most one piece of evidence per height, none for heights at or below hard.

use std::sync::Arc;
use std::time::Duration;

use super::pending::{Admission, PendingBlock};
use super::{
    Answer, Change, Command, Ctx, DaPosition, Evidence, EvidenceSide, Halt, Origin, PeerId, Policy, RejectAnswer,
    Syncer, Ticket, Verdict,
};
use crate::block::{BlockId, Height};
use crate::clock::Now;
use crate::verify::{AuthenticBlock, Fault, Rules, ScheduleEntry, Tip};

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
        let heads = self.chain.heads;
        if id.height < heads.tail || !self.is_scheduled(block) || self.rules.check_time(block, ctx.now).is_err() {
            return Verdict::Ignore;
        }
        if self.block_bytes.is_none() {
            self.learn_size(block.size());
        }
        if let Some(peer) = peer {
            self.peers.has(peer, id);
        }
        if heads.hard_height().is_some_and(|hard| id.height <= hard) {
            return Verdict::Ignore;
        }
        self.offer_wanted(block);
        if heads.stores(id.height) {
            return match self.chain.hash(id.height, ctx.stored) {
                Some(ours) if ours != id.hash => {
                    self.conflict(block, EvidenceSide::Stored(BlockId { height: id.height, hash: ours }))
                }
                _ => Verdict::Ignore,
            };
        }
        // Where another one is pinned it can never be stored, which proves nothing against whoever signed it.
        if self.vetoed == Some(id) || self.is_full() || self.may_stand(block).is_err() {
            return Verdict::Ignore;
        }
        if heads.target.is_none_or(|target| target.height < id.height) {
            self.progress_at = ctx.now.elapsed;
        }
        self.chain.raise_target(id);
        if id.height == heads.next_height() && self.may_append() {
            return match self.append(ctx, block, origin) {
                Ok(()) => Verdict::Accept,
                Err(_) => match heads.soft_id() {
                    Some(soft) => self.conflict(block, EvidenceSide::Stored(soft)),
                    None => Verdict::Ignore,
                },
            };
        }
        self.hold(PendingBlock { block: block.clone(), origin, peer: peer.cloned() })
    }

    fn hold(&mut self, waiting: PendingBlock) -> Verdict {
        let block = waiting.block.clone();
        let rival = self.pending.at(block.height()).find(|pending| pending.block.hash() != block.hash());
        let rival = rival.map(|pending| pending.block.block().signed_header());
        match (self.pending.add(waiting), rival) {
            (Admission::Pending | Admission::NoRoom, Some(rival)) => {
                self.conflict(&block, EvidenceSide::Carried(rival))
            }
            (Admission::Pending, None) => Verdict::Accept,
            (Admission::Known | Admission::NoRoom, _) => Verdict::Ignore,
        }
    }

    /// Whether gossip and range answers may extend the chain now.
    fn may_append(&self) -> bool {
        self.vetoed.is_none() && !self.is_full() && self.chain.fresh_bytes() <= self.config.limits.commit_bytes
    }

    /// Appends pending blocks, as far as it links.
    pub(super) fn append_pending(&mut self, ctx: Ctx<'_>) {
        while self.may_append() {
            let next = self.chain.heads.next_height();
            let top = self.chain.heads.top();
            let is_next = |block: &AuthenticBlock| links(block, top, self.config.history.trusted);
            let Some(waiting) = self.pending.take_next(next, is_next) else { break };
            if let Err(Fault::FromTheFuture { ahead }) = self.rules.check_time(&waiting.block, ctx.now) {
                self.believe_after(ctx.now, ahead);
                self.pending.add(waiting);
                break;
            }
            if self.append(ctx, &waiting.block, waiting.origin).is_err() {
                self.lost_branch(ctx, waiting);
            }
        }
        // Whatever waits at the next height now does not link to us, and what waits below it lost.
        let through = if self.may_append() && self.believable_at.is_none() {
            Some(self.chain.heads.next_height())
        } else {
            self.chain.heads.soft_height()
        };
        if let Some(through) = through {
            for waiting in self.pending.take_through(through) {
                self.lost_branch(ctx, waiting);
            }
        }
    }

    /// A pending block turned out not to be on our branch: who gave it follows another one.
    fn lost_branch(&mut self, ctx: Ctx<'_>, waiting: PendingBlock) {
        let height = waiting.block.height();
        let ours = match self.chain.hash(height, ctx.stored) {
            Some(hash) if hash == waiting.block.hash() => return,
            Some(hash) => Some(BlockId { height, hash }),
            None => self.chain.heads.soft_id(),
        };
        if let Some(ours) = ours {
            self.conflict(&waiting.block, EvidenceSide::Stored(ours));
        }
        if let Some(peer) = waiting.peer
            && waiting.origin == Origin::Range
        {
            self.pending.forget_peer(&peer);
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.other_branch = true;
            }
        }
    }

    /// Puts the block on top of the chain.
    pub(super) fn append(&mut self, ctx: Ctx<'_>, block: &AuthenticBlock, origin: Origin) -> Result<(), Fault> {
        self.may_stand(block)?;
        self.chain.append(block, origin)?;
        self.learn_size(block.size());
        self.judge_put_off(ctx.now.elapsed, block);
        self.progress_at = ctx.now.elapsed;
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
        match self.pinned(height) {
            Some(pinned) if pinned != block.id() => Err(Fault::OtherParent(block.parent_hash())),
            _ => Ok(()),
        }
    }

    /// The only block that may be stored at this height: what was hard there once, what the operator trusts, or what one of
    /// these stands on.
    pub(super) fn pinned(&self, height: Height) -> Option<BlockId> {
        let pinned = [self.anchor.map(|anchor| anchor.id), self.config.history.trusted, self.reverse_sync.at(height)];
        pinned.into_iter().flatten().find(|pinned| pinned.height == height)
    }

    /// Whether the block, which has the next height, is the next one on our branch.
    pub(super) fn is_next(&self, block: &AuthenticBlock) -> bool {
        links(block, self.chain.heads.top(), self.config.history.trusted)
    }

    /// Whether the block could stand where another one is stored; `None` when the store cannot say.
    pub(super) fn could_replace(&self, ctx: Ctx<'_>, block: &AuthenticBlock) -> Option<bool> {
        let parent = self.parent_tip(ctx, block.height()).ok()?;
        Some(self.may_stand(block).is_ok() && block.link(parent).is_ok())
    }

    /// The sequencer contradicted itself: the first time at a height, others need to see it too, and it is kept.
    pub(super) fn conflict(&mut self, block: &AuthenticBlock, first: EvidenceSide) -> Verdict {
        let height = block.height();
        if self.chain.heads.hard_height().is_some_and(|hard| height <= hard) || !self.evidence.insert(height) {
            return Verdict::Ignore;
        }
        if self.evidence.len() > self.config.limits.evidence {
            self.evidence.pop_first();
        }
        let id = self.chain.heads.evidence.next();
        self.chain.heads.evidence = id;
        let second = block.block().signed_header();
        self.chain.change(Change::Evidence(Evidence { id, height, first, second }));
        Verdict::Accept
    }

    /// DA has `winner` where we stored another block.
    pub(super) fn diverge(&mut self, ctx: Ctx<'_>, ours: BlockId, winner: &AuthenticBlock, position: DaPosition) {
        self.conflict(winner, EvidenceSide::Stored(ours));
        if self.publishing.may_publish() || self.config.on_divergence == Policy::Halt {
            self.halt(Halt::Diverged { ours, da: winner.id(), position });
        } else {
            self.retract(ctx, ours.height);
        }
    }

    pub(super) fn halt(&mut self, halt: Halt) {
        self.halted = Some(halt);
        self.chain.change(Change::Halt(Some(halt)));
    }

    /// Takes back every stored block from `from` on, and forgets what was built on them.
    pub(super) fn retract(&mut self, ctx: Ctx<'_>, from: Height) -> bool {
        let Ok(parent) = self.parent_tip(ctx, from) else { return false };
        let Some(hash) = self.chain.hash(from, ctx.stored) else { return false };
        self.chain.truncate(from, parent.filter(|_| from > self.chain.heads.tail));
        self.consumers_taken_back(BlockId { height: from, hash });
        self.pending.clear();
        self.peers.branch_changed();
        if self.vetoed.is_some_and(|vetoed| vetoed.height >= from) {
            self.lift_veto();
        }
        true
    }

    /// The tip below `height`; `Ok(None)` at the initial height, `Err` when the store cannot say.
    pub(super) fn parent_tip(&self, ctx: Ctx<'_>, height: Height) -> Result<Option<Tip>, ()> {
        if height == self.chain.heads.tail {
            return Ok(self.chain.heads.base);
        }
        let below = height.prev().ok_or(())?;
        let hash = self.chain.hash(below, ctx.stored).ok_or(())?;
        let header = self.chain.header(below, ctx.stored).ok_or(())?;
        Ok(Some(Tip { id: BlockId { height: below, hash }, time_unix_nanos: header.time_unix_nanos }))
    }

    pub(super) fn lift_veto(&mut self) {
        self.vetoed = None;
        self.chain.change(Change::Veto(None));
    }

    /// The host's execution refuses a block.
    pub(super) fn host_rejected(&mut self, ctx: Ctx<'_>, ticket: Ticket, block: BlockId) {
        let answer = if self.chain.heads.hard_height().is_some_and(|hard| block.height <= hard) {
            RejectAnswer::Hard
        } else if self.vetoed == Some(block) {
            RejectAnswer::Stopped
        } else if self.chain.contains(block, ctx.stored) && self.retract(ctx, block.height) {
            self.vetoed = Some(block);
            self.chain.change(Change::Veto(Some(block)));
            RejectAnswer::Stopped
        } else {
            RejectAnswer::NotFound
        };
        self.reply(ticket, Answer::Reject(answer));
    }

    pub(super) fn acked(&mut self, ctx: Ctx<'_>, ticket: Ticket, consumer: String, up_to: BlockId) {
        let room = self.consumers.contains_key(&consumer) || self.consumers.len() < self.config.limits.consumers;
        let known = room && self.chain.contains(up_to, ctx.stored);
        if known {
            self.consumers.insert(consumer.clone(), up_to.height);
            self.chain.change(Change::Ack { consumer, up_to });
        }
        self.reply(ticket, Answer::Ack(known));
    }

    pub(super) fn operate(&mut self, ctx: Ctx<'_>, ticket: Ticket, command: &Command) {
        let outcome = match *command {
            Command::AbandonBranch(_) | Command::AssertSigned(_) if self.publishing.is_signing() => {
                Err("a signature is awaited right now: ask again when it has come, or was given up".to_owned())
            }
            Command::ExtendSchedule(entry) => self.extend_schedule(entry),
            Command::AbandonBranch(from) => self.abandon_branch(ctx, from),
            Command::AssertSigned(last) => self.assert_signed(ctx, last),
            Command::LiftVeto => {
                if self.vetoed.is_some() {
                    self.lift_veto();
                    self.probe_all_soon(ctx.now);
                }
                Ok(())
            }
            Command::ForgetConsumer(ref name) => self.forget_consumer(name),
        };
        self.reply(ticket, Answer::Operator(outcome));
    }

    /// The operator's word replaces a guard that is missing, or that names a block which is not here; never a sound one.
    fn assert_signed(&mut self, ctx: Ctx<'_>, last: Option<BlockId>) -> Result<(), String> {
        match self.publishing.signed_last() {
            Some(known)
                if Some(known) != last
                    && (known.height < self.chain.heads.tail || self.chain.contains(known, ctx.stored)) =>
            {
                Err(format!("the guard is sound: this key signed {known} last, and that block is, or was, stored"))
            }
            _ => {
                self.publishing.reset_guard(last);
                self.chain.change(Change::ResetGuard(last));
                Ok(())
            }
        }
    }

    fn extend_schedule(&mut self, entry: ScheduleEntry) -> Result<(), String> {
        let soft = self.chain.heads.soft_height();
        if soft.is_some_and(|soft| entry.from <= soft) {
            return Err(format!("height {} is not above the soft head {:?}", entry.from, soft));
        }
        let mut rules = Rules::clone(&self.rules);
        rules.schedule.append(entry).map_err(|refused| refused.to_string())?;
        self.rules = Arc::new(rules);
        self.chain.change(Change::Schedule(entry));
        // What waits was checked against the old schedule: it may come again.
        self.pending.clear();
        if self.chain.heads.target.is_some_and(|target| target.height >= entry.from) {
            self.chain.drop_target();
        }
        for position in self.sightings.not_by(entry) {
            self.sightings.remove(position);
            self.chain.change(Change::DropSighting(position));
        }
        Ok(())
    }

    /// The operator takes back our own branch after a halt.
    fn abandon_branch(&mut self, ctx: Ctx<'_>, from: BlockId) -> Result<(), String> {
        let Some(Halt::Diverged { ours, .. } | Halt::Contradicted { ours, .. }) = self.halted else {
            return Err("nothing to abandon: DA agrees with what is stored".to_owned());
        };
        if ours != from {
            return Err(format!("the branch that DA contradicts begins at {ours}"));
        }
        if self.chain.contains(from, ctx.stored) && !self.retract(ctx, from.height) {
            return Err("the block below could not be read from the store".to_owned());
        }
        self.halted = None;
        self.chain.change(Change::Halt(None));
        if self.publishing.has_guard() {
            let last = self.chain.heads.soft_id();
            self.publishing.reset_guard(last);
            self.chain.change(Change::ResetGuard(last));
        }
        Ok(())
    }

    /// A block's time is ahead of our clock by `ahead`: look again when it no longer is too much.
    pub(super) fn believe_after(&mut self, now: Now, ahead: Duration) {
        let wait = ahead.saturating_sub(self.rules.max_clock_drift).max(Duration::from_millis(1));
        self.believable_at = Some(now.elapsed + wait);
    }
}

/// Whether the block, which has the next height, links to `top`. When nothing is known of what is below it, it is the trusted
/// one: nothing else may begin a chain above the initial height.
fn links(block: &AuthenticBlock, top: Option<Tip>, trusted: Option<BlockId>) -> bool {
    match top {
        Some(top) => block.parent_hash() == Some(top.id.hash),
        None => block.parent_hash().is_none() || trusted == Some(block.id()),
    }
}
