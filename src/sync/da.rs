//! DA's part in the decisions: taking reports in, and judging the height above hard as long as there is something to judge.

use super::confirm::{Judgement, Placed, judge};
use super::{Answer, Change, Ctx, DaPosition, DaReport, Halt, Origin, ReportAnswer, Seen, Sighting, Syncer, Ticket};
use crate::block::{BlockId, Hash, Height};
use crate::verify::{AuthenticBlock, Fault};

impl Syncer {
    pub(super) fn report(&mut self, ctx: Ctx<'_>, ticket: Ticket, report: DaReport) {
        let junk = report.sightings.iter().filter(|sighting| sighting.what == Seen::Junk).count();
        let junk = u32::try_from(junk).unwrap_or(u32::MAX);
        // A report that leaves something out is not taken: what it left out may decide.
        if !self.storage_full && report.after <= self.chain.heads.scanned_through {
            for sighting in report.sightings {
                self.sight(ctx, sighting);
            }
            self.known_before = self.known_before.max(DaPosition::after_height(report.scanned_through));
            self.shed_sightings();
            self.advance(ctx);
        }
        let wanted = self.wanted.into_iter().collect();
        let scanned_through = self.chain.heads.scanned_through;
        self.reply(ticket, Answer::Report(ReportAnswer { scanned_through, wanted, junk }));
    }

    fn sight(&mut self, ctx: Ctx<'_>, sighting: Sighting) {
        if sighting.height < self.chain.next_unconfirmed() {
            return;
        }
        if let Seen::Block(block) = &sighting.what {
            self.incoming(ctx, block, Origin::Da, None);
        }
        if sighting.what == Seen::Junk {
            // A copy of what was taken for a block here may have been left out as one: let it be reported again.
            self.known_before = self.known_before.min(sighting.position);
        }
        self.keep_sighting(sighting);
    }

    fn keep_sighting(&mut self, sighting: Sighting) {
        let Placed { drop, keep } = self.sightings.place(sighting);
        if let Some(position) = drop {
            self.chain.change(Change::DropSighting(position));
        }
        if let Some(sighting) = keep {
            self.chain.change(Change::KeepSighting(sighting));
        }
    }

    /// What there is no room for is to be reported again: the cursor goes back to before its DA height. What lies before it
    /// can be judged all the same, or a DA height with more blocks than there is room for would never be passed.
    fn shed_sightings(&mut self) {
        while let Some(shed) = self.sightings.shed() {
            self.chain.change(Change::DropSighting(shed.position));
            self.known_before = self.known_before.min(shed.position);
        }
        self.chain.heads.scanned_through = self.known_before.height.saturating_sub(1);
    }

    /// A block that DA names, and that somebody gave us now. It may take the sightings above their bound, by this one block,
    /// until the next report: to shed any in the middle of a report would count what was shed as reported.
    pub(super) fn offer_wanted(&mut self, block: &AuthenticBlock) {
        if self.wanted != Some(block.id()) {
            return;
        }
        for position in self.sightings.by_hash(block.id()) {
            let sighting = Sighting { position, height: block.height(), what: Seen::Block(block.clone()) };
            self.keep_sighting(sighting);
        }
        self.wanted = None;
    }

    /// Hardens block after block, until DA has nothing more to say, or says something else than we do.
    pub(super) fn judge_da(&mut self, ctx: Ctx<'_>) {
        self.wanted = None;
        while self.halted.is_none() {
            let height = self.chain.next_unconfirmed();
            let ours = self.chain.hash(height, ctx.stored);
            let heads = self.chain.heads;
            let seen: Vec<_> = self.sightings.at(height).collect();
            let parent = heads.hard.or(heads.base.map(|base| base.id)).map(|below| below.hash);
            let judgement = judge(&seen, self.known_before, parent, ours, || self.chain.header(height, ctx.stored));
            match (judgement, ours) {
                (Judgement::Open, _) => break,
                (Judgement::Confirmed(position), Some(hash)) => self.confirm(BlockId { height, hash }, position),
                (Judgement::Confirmed(_), None) => unreachable!("only a stored block is confirmed"),
                (Judgement::Winner(block, position), ours) => {
                    if !self.follow_winner(ctx, &block, position, ours) {
                        break;
                    }
                }
                (Judgement::Wanted(id), _) => {
                    if !self.find_wanted(id) {
                        break;
                    }
                }
                (Judgement::Contradicted(position), Some(hash)) => {
                    self.halt(Halt::Contradicted { ours: BlockId { height, hash }, position });
                }
                (Judgement::Contradicted(_), None) => unreachable!("only a stored block is contradicted"),
            }
        }
    }

    fn confirm(&mut self, id: BlockId, position: DaPosition) {
        self.chain.confirm(id, position);
        self.forget_sightings(id.height);
        self.evidence = self.evidence.split_off(&id.height.next());
    }

    /// What was seen up to this height decides nothing any more.
    pub(super) fn forget_sightings(&mut self, through: Height) {
        for judged in self.sightings.take_through(through) {
            self.chain.change(Change::DropSighting(judged.position));
        }
    }

    /// DA's winner is not what is stored. Says whether there is more to judge.
    fn follow_winner(
        &mut self,
        ctx: Ctx<'_>,
        block: &AuthenticBlock,
        position: DaPosition,
        ours: Option<Hash>,
    ) -> bool {
        if let Err(Fault::FromTheFuture { ahead }) = self.rules.check_time(block, ctx.now) {
            self.believe_after(ctx.now, ahead);
            return false;
        }
        if let Some(hash) = ours {
            match self.could_replace(ctx, block) {
                Some(true) => {}
                Some(false) => return self.is_no_winner(position),
                None => return false,
            }
            self.diverge(ctx, BlockId { height: block.height(), hash }, block, position);
            // Once ours is taken back, the heads have changed, and everything is judged again.
            return false;
        }
        if self.vetoed.is_some_and(|vetoed| vetoed.height == block.height()) {
            // DA has decided.
            self.lift_veto();
        }
        if self.append(ctx, block, Origin::Da).is_err() {
            return self.is_no_winner(position);
        }
        true
    }

    /// It can never be part of this chain: what comes after it on DA is judged next.
    fn is_no_winner(&mut self, position: DaPosition) -> bool {
        self.sightings.remove(position);
        self.chain.change(Change::DropSighting(position));
        true
    }

    /// DA names a block by its hash. Says whether it was among those that wait.
    fn find_wanted(&mut self, id: BlockId) -> bool {
        self.wanted = Some(id);
        if self.vetoed == Some(id) {
            // DA has decided; whoever has the block may give it to us again.
            self.lift_veto();
        }
        let Some(block) = self
            .pending
            .at(id.height)
            .find(|pending| pending.block.hash() == id.hash)
            .map(|pending| pending.block.clone())
        else {
            return false;
        };
        self.offer_wanted(&block);
        true
    }
}
