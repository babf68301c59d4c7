//! Confirming: DA's reports are taken in, and block after block above hard is confirmed, replaced, or waited for, as DA says.
//!
//! Invariants:
//! 1. A report that leaves something out is not taken: what it left out may decide.
//! 2. Only hard + 1 is judged; while publishing is halted, nothing is.
//! 3. A veto does not stand against DA.

use super::da::Judgement;
use super::{Answer, Ctx, DaPosition, DaReport, Halt, Origin, ReportAnswer, Seen, Sighting, Syncer, Ticket};
use crate::block::{BlockId, Hash};
use crate::util::saturate;
use crate::verify::{AuthenticBlock, Fault};

/// Whether there is more to judge after a judgement was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judging {
    GoesOn,
    /// Nothing can be judged before something else happens.
    Ends,
}

impl Syncer {
    pub(super) fn da_reported(&mut self, ctx: Ctx<'_>, ticket: Ticket, report: DaReport) {
        let junk = report.sightings.iter().filter(|sighting| sighting.what == Seen::Junk).count();
        let junk = saturate::to_u32(junk);
        if !self.retention.disk_is_full() && report.after <= self.chain.heads().scanned_through {
            for sighting in report.sightings {
                self.sight(ctx, sighting);
            }
            self.da.end_report(report.scanned_through, &mut self.chain, &mut self.decision);
            // The answer is to tell what became of the report.
            self.advance(ctx);
        }
        let wanted = self.da.wanted().into_iter().collect();
        let scanned_through = self.chain.heads().scanned_through;
        self.decision.reply(ticket, Answer::Report(ReportAnswer { scanned_through, wanted, junk }));
    }

    fn sight(&mut self, ctx: Ctx<'_>, sighting: Sighting) {
        if sighting.height < self.chain.next_unconfirmed() {
            return;
        }
        if let Seen::Block(block) = &sighting.what {
            self.incoming(ctx, block, Origin::Da, None);
        }
        self.da.sight(sighting, &mut self.decision);
    }

    /// Confirms block after block, until DA has nothing more to say, or says something else than we do.
    pub(super) fn judge_da(&mut self, ctx: Ctx<'_>) {
        self.da.forget_wanted();
        while self.standing.halted().is_none() && self.judge_next(ctx) == Judging::GoesOn {}
    }

    fn judge_next(&mut self, ctx: Ctx<'_>) -> Judging {
        let height = self.chain.next_unconfirmed();
        let ours = self.chain.hash(height, ctx.stored);
        match (self.da.judge_next(ours, &self.chain, ctx.stored), ours) {
            (Judgement::Open, _) => Judging::Ends,
            (Judgement::Confirmed(position), Some(hash)) => {
                self.confirm(BlockId { height, hash }, position);
                Judging::GoesOn
            }
            (Judgement::Winner(block, position), ours) => self.follow_winner(ctx, &block, position, ours),
            (Judgement::Wanted(id), _) => self.find_wanted(id),
            (Judgement::Contradicted(position), Some(hash)) => {
                self.standing.halt(Halt::Contradicted { ours: BlockId { height, hash }, position }, &mut self.decision);
                Judging::Ends
            }
            (Judgement::Confirmed(_) | Judgement::Contradicted(_), None) => {
                unreachable!("only a stored block is confirmed or contradicted")
            }
        }
    }

    fn confirm(&mut self, id: BlockId, position: DaPosition) {
        self.chain.confirm(id, position, &mut self.decision);
        self.da.forget_through(id.height, &mut self.decision);
        self.standing.forget_evidence(id.height);
    }

    /// DA's winner is not what is stored.
    fn follow_winner(
        &mut self,
        ctx: Ctx<'_>,
        block: &AuthenticBlock,
        position: DaPosition,
        ours: Option<Hash>,
    ) -> Judging {
        if let Err(Fault::FromTheFuture { ahead }) = self.rules.check_time(block, ctx.now) {
            self.believe_after(ctx.now, ahead);
            return Judging::Ends;
        }
        if let Some(hash) = ours {
            match self.could_replace(ctx, block) {
                Some(true) => {}
                Some(false) => {
                    self.da.discard_loser(position, &mut self.decision);
                    return Judging::GoesOn;
                }
                None => return Judging::Ends,
            }
            self.diverge(ctx, BlockId { height: block.height(), hash }, block, position);
            // Once ours is retracted, the heads have changed, and everything is judged again.
            return Judging::Ends;
        }
        if self.standing.vetoed().is_some_and(|vetoed| vetoed.height == block.height()) {
            self.standing.lift_veto(&mut self.decision);
        }
        if self.append(ctx, block, Origin::Da).is_err() {
            self.da.discard_loser(position, &mut self.decision);
        }
        Judging::GoesOn
    }

    /// DA names a block by its hash: it may be pending.
    fn find_wanted(&mut self, id: BlockId) -> Judging {
        self.da.want(id);
        if self.standing.vetoed() == Some(id) {
            // A peer that has the block may give it to us again.
            self.standing.lift_veto(&mut self.decision);
        }
        let pending = self.pending.at(id.height).find(|pending| pending.block.hash() == id.hash);
        let Some(block) = pending.map(|pending| pending.block.clone()) else { return Judging::Ends };
        self.da.offer(&block, &mut self.decision);
        Judging::GoesOn
    }
}
