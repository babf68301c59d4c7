//! Confirming: DA's reports are taken in, and block after block above hard is confirmed, replaced, or waited for, as DA says.
//!
//! Invariants:
//! 1. A report that leaves something out is not taken: what it left out may decide. One that cannot be true, or that says what
//!    counts for nothing on this chain, is refused whole.
//! 2. Only hard + 1 is judged; while publishing is halted, nothing is.
//! 3. A veto does not stand against DA.
//! 4. At or below hard nothing is judged again. A block there that would have won stops everything until an operator looks, and
//!    a digest that may be that of such a block is asked for; but not at or below the block that the operator trusts, which DA
//!    never decided.

use super::da::{Holdings, Judgement, Taken};
use super::{
    Answer, Confirmation, Content, Ctx, DaEvidence, DaPosition, DaReport, Finding, Found, Halt, HardWait,
    MAX_DA_HEIGHT, MAX_REPORT_SPAN, Name, Origin, ReportAnswer, ReportRefusal, ReportTaken, Syncer, Ticket, Wanted,
};
use crate::block::{BlockId, Hash, Height, native};
use crate::util::saturate;
use crate::verify::{AuthenticBlock, Fault};

/// Whether there is more to judge after a judgement was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judging {
    GoesOn,
    /// Nothing can be judged before something else happens.
    Ends,
}

// ---- Reports -------------------------------------------------------------------------------------------------------

impl Syncer {
    pub(super) fn da_reported(&mut self, ctx: Ctx<'_>, ticket: Ticket, report: DaReport) {
        let scanned_through = self.chain.heads().scanned_through;
        self.notice_shown(ctx, &report);
        let answer = match self.check_report(&report) {
            Err(refusal) => ReportAnswer::Refused(refusal),
            Ok(()) if report.after > scanned_through => ReportAnswer::OutOfOrder { scanned_through },
            Ok(()) => ReportAnswer::Taken(self.take_report(ctx, report)),
        };
        self.decision.reply(ticket, Answer::Report(answer));
    }

    /// Whatever becomes of the report: the blocks in it were signed.
    fn notice_shown(&mut self, ctx: Ctx<'_>, report: &DaReport) {
        for finding in &report.findings {
            if let Found::Bytes { content: Content::Block(block), .. } = &finding.what
                && self.is_scheduled(block)
            {
                self.notice(ctx, block.id(), block.parent_hash());
            }
        }
    }

    fn check_report(&self, report: &DaReport) -> Result<(), ReportRefusal> {
        let DaReport { after, scanned_through, ref findings } = *report;
        if self.retention.disk_is_full() {
            return Err(ReportRefusal::StorageFull);
        }
        if scanned_through < after {
            return Err(ReportRefusal::Backwards { after, scanned_through });
        }
        self.check_distance(scanned_through)?;
        findings.iter().try_for_each(|finding| self.check_finding(finding))
    }

    /// Whether a report may speak of this DA height: a wrong one would put off everything up to it for ever.
    fn check_distance(&self, height: u64) -> Result<(), ReportRefusal> {
        let scanned_through = self.chain.heads().scanned_through;
        if height >= MAX_DA_HEIGHT || height > scanned_through.saturating_add(MAX_REPORT_SPAN) {
            return Err(ReportRefusal::TooFar { height, scanned_through });
        }
        Ok(())
    }

    fn check_finding(&self, finding: &Finding) -> Result<(), ReportRefusal> {
        let position = finding.position;
        if position.height == 0 || position.height >= MAX_DA_HEIGHT {
            return Err(ReportRefusal::NoSuchPosition(position));
        }
        self.check_distance(position.height)?;
        match (&finding.what, self.config.da_evidence) {
            (Found::Named(_), DaEvidence::Block) => Err(ReportRefusal::NotByName(position)),
            (Found::Bytes { .. } | Found::Digest(_), DaEvidence::Named) => Err(ReportRefusal::OnlyByName(position)),
            (Found::Named(Name::HostId(id)), _) if id.len() > native::MAX_HOST_ID_BYTES => {
                Err(ReportRefusal::NameTooLong(position))
            }
            (Found::Bytes { content, .. }, _) => match content.height() {
                Some(found) if found != finding.height => {
                    Err(ReportRefusal::OtherHeight { position, said: finding.height, found })
                }
                _ => Ok(()),
            },
            (Found::Named(_) | Found::Digest(_), _) => Ok(()),
        }
    }

    fn take_report(&mut self, ctx: Ctx<'_>, mut report: DaReport) -> ReportTaken {
        let count = |is: &dyn Fn(&Content) -> bool| {
            let of = |finding: &&Finding| matches!(&finding.what, Found::Bytes { content, .. } if is(content));
            saturate::to_u32(report.findings.iter().filter(of).count())
        };
        let junk = count(&|content| *content == Content::Junk);
        let passed_over = count(&|content| matches!(content, Content::Unscheduled { .. }));
        // As DA orders them: what is said of one position may decide whether what is said of a later one is new.
        report.findings.sort_by_key(|finding| finding.position);
        self.da.begin_report();
        for finding in report.findings {
            self.take_finding(ctx, finding);
        }
        self.da.cover(report.after, report.scanned_through);
        // The answer is to tell what became of the report.
        self.advance(ctx);
        self.da.settle(&mut self.chain, &mut self.decision);
        let holdings = Holdings { chain: &self.chain, pending: &self.pending, stored: ctx.stored };
        let wanted = self.da.ask_for_bytes(holdings);
        ReportTaken { scanned_through: self.chain.heads().scanned_through, wanted, junk, passed_over }
    }

    fn take_finding(&mut self, ctx: Ctx<'_>, finding: Finding) {
        let position = finding.position;
        let doubtful = self.doubtful(ctx, &finding);
        match self.da.take(finding, &self.chain, &self.rules.schedule, &mut self.decision) {
            Taken::Block(block) => {
                self.incoming(ctx, &block, Origin::Da, None);
            }
            Taken::Decided(block) => self.check_decided(ctx, &block, position),
            Taken::Nothing => {}
        }
        if let Some(wanted) = doubtful {
            self.da.doubt(wanted);
        }
    }

    /// Whether DA shows a block of a height that is hard, a digest does not tell.
    fn doubtful(&self, ctx: Ctx<'_>, &Finding { position, height, ref what }: &Finding) -> Option<Wanted> {
        let Found::Digest(digest) = *what else { return None };
        let heads = self.chain.heads();
        let was_decided =
            Some(height) <= heads.hard_height() && heads.floor.is_none_or(|floor| height > floor.id.height);
        let is_before = was_decided && ctx.stored.confirmation(height).is_some_and(|confirmed| position < confirmed);
        is_before.then_some(Wanted { position, height, digest })
    }

    /// DA shows a block of a height that is hard.
    fn check_decided(&mut self, ctx: Ctx<'_>, block: &AuthenticBlock, position: DaPosition) {
        let height = block.height();
        let heads = self.chain.heads();
        if heads.floor.is_some_and(|floor| height <= floor.id.height) {
            self.da.count_below_trusted();
            // It may be the trusted one itself, which is not here yet.
            self.incoming(ctx, block, Origin::Da, None);
            return;
        }
        let Some(hash) = self.chain.hash(height, ctx.stored).filter(|hash| *hash != block.hash()) else { return };
        let is_before = ctx.stored.confirmation(height).is_some_and(|confirmed| position < confirmed);
        if is_before && self.standing.halted().is_none() && self.could_replace(ctx, block) == Some(true) {
            let hard = BlockId { height, hash };
            self.standing.halt(Halt::HardContradicted { hard, da: block.id(), position }, &mut self.decision);
        }
    }
}

impl Content {
    /// The height that stands in the bytes of a block.
    fn height(&self) -> Option<Height> {
        match self {
            Self::Block(block) => Some(block.height()),
            Self::Unscheduled { height, .. } => Some(*height),
            Self::Junk => None,
        }
    }
}

// ---- Judging -------------------------------------------------------------------------------------------------------

impl Syncer {
    /// Confirms block after block, until DA has nothing more to say, or says something else than we do.
    pub(super) fn judge_da(&mut self, ctx: Ctx<'_>) {
        self.confirm_trusted(ctx);
        while self.standing.halted().is_none() && self.judge_next(ctx) == Judging::GoesOn {}
    }

    /// The block with which this store's reading of DA begins is hard as soon as it is stored.
    fn confirm_trusted(&mut self, ctx: Ctx<'_>) {
        let Some(floor) = self.chain.heads().floor.filter(|_| self.chain.heads().hard.is_none()) else { return };
        if self.chain.contains(floor.id, ctx.stored) {
            self.chain.trust(floor.id, &mut self.decision);
            self.decided_through(floor.id);
        }
    }

    fn judge_next(&mut self, ctx: Ctx<'_>) -> Judging {
        let height = self.chain.next_unconfirmed();
        if let Some(from) = self.lost_words.entry_missing_at(height, &self.rules.schedule) {
            self.da.wait_for(HardWait::Schedule(from));
            return Judging::Ends;
        }
        let ours = self.chain.hash(height, ctx.stored);
        let trusted = self.config.history.trusted.map(|trusted| trusted.id);
        let holdings = Holdings { chain: &self.chain, pending: &self.pending, stored: ctx.stored };
        match (self.da.judge_next(ours, trusted, holdings, &mut self.decision), ours) {
            (Judgement::Open | Judgement::Wanted(_) | Judgement::Named(..) | Judgement::Unread, _) => Judging::Ends,
            (Judgement::Confirmed(position, basis), Some(hash)) => {
                self.confirm(BlockId { height, hash }, Confirmation { position, basis });
                Judging::GoesOn
            }
            (Judgement::Winner(block, position), ours) => self.follow_winner(ctx, &block, position, ours),
            (Judgement::TooLarge(block, position), _) => match self.chain.parent_tip(height, ctx.stored) {
                // It does not link, so it is none of this chain whatever its size.
                Ok(Some(parent)) if block.header.time_unix_nanos < parent.time_unix_nanos => {
                    self.da.forget(position, &mut self.decision);
                    Judging::GoesOn
                }
                _ => Judging::Ends,
            },
            (Judgement::Contradicted(position), Some(hash)) => {
                self.standing.halt(Halt::Contradicted { ours: BlockId { height, hash }, position }, &mut self.decision);
                Judging::Ends
            }
            (Judgement::Confirmed(..) | Judgement::Contradicted(_), None) => {
                unreachable!("only a stored block is confirmed or contradicted")
            }
        }
    }

    fn confirm(&mut self, id: BlockId, confirmation: Confirmation) {
        self.chain.confirm(id, confirmation, &mut self.decision);
        self.decided_through(id);
    }

    /// Nothing at or below this block is open any more.
    fn decided_through(&mut self, id: BlockId) {
        self.da.forget_through(id.height, &mut self.decision);
        self.standing.forget_evidence(id.height);
        self.proved.forget_through(id.height, &mut self.decision);
    }

    /// The block of ours that was hard before damage, and is stored again: the anchor, or what it stands on.
    pub(super) fn stored_as_once_hard(&self, ctx: Ctx<'_>, height: Height) -> Option<BlockId> {
        let anchor = self.reverse_sync.anchor()?.id;
        let is_back = height <= anchor.height && self.chain.contains(anchor, ctx.stored);
        let hash = self.chain.hash(height, ctx.stored).filter(|_| is_back)?;
        Some(BlockId { height, hash })
    }

    /// What was hard at this height before damage, where DA has another block on the same parent now: the anchor, or what it stands
    /// on. Everything before that block is reported, so that one of the reports is wrong.
    fn was_hard_instead(&self, ctx: Ctx<'_>, block: &AuthenticBlock) -> Option<BlockId> {
        let height = block.height();
        let was_hard = self.stored_as_once_hard(ctx, height).or(self.reverse_sync.was_hard(height))?;
        let parent = self.chain.parent_tip(height, ctx.stored).ok()?;
        let is_sound = self.is_scheduled(block) && block.link(parent).is_ok();
        (is_sound && was_hard != block.id()).then_some(was_hard)
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
            self.da.wait_for(HardWait::FromTheFuture { position, id: block.id() });
            return Judging::Ends;
        }
        if let Some(hard) = self.was_hard_instead(ctx, block) {
            self.standing.halt(Halt::HardContradicted { hard, da: block.id(), position }, &mut self.decision);
            return Judging::Ends;
        }
        if let Some(hash) = ours {
            match self.could_replace(ctx, block) {
                Some(true) => {}
                Some(false) => {
                    self.da.forget(position, &mut self.decision);
                    return Judging::GoesOn;
                }
                None => return Judging::Ends,
            }
            self.diverge(ctx, BlockId { height: block.height(), hash }, block, position);
            // Once ours is retracted, the heads have changed, and everything is judged again.
            return Judging::Ends;
        }
        if self.append(ctx, block, Origin::Da).is_err() {
            self.da.forget(position, &mut self.decision);
        }
        Judging::GoesOn
    }
}
