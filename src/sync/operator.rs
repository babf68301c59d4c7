//! What an operator orders, and what named consumers acknowledge.
//!
//! Invariants:
//! 1. An order that is refused has changed nothing; the refusal says why, for a person to read.
//! 2. A sound guard is never replaced: only one that is missing, or that names a block which is not here; and never by a word
//!    that what is stored contradicts.
//! 3. To abandon a branch lowers the guard only where DA has decided against the block that it names.
//! 4. The schedule changes only above soft, where nothing was decided under the old one; what genesis says stays. Only an entry that
//!    damage took is put back where it was, unless a stored block shows that it was another one.
//! 5. When it changes, a block that is awaited stays so exactly if its proposer is the one that the new schedule has at its height:
//!    what that key signed stays signed, whatever the operator adds above or below, and what another key signed will never be
//!    stored. The same goes for the target.

use std::sync::Arc;

use super::branches::Retraction;
use super::waiting::Afterwards;
use super::{Answer, Change, Command, Ctx, DisownedBy, Halt, LOST_BY_DAMAGE, LostWord, Syncer, Ticket};
use crate::block::{BlockId, Header, Height};
use crate::verify::{Rules, ScheduleEntry, ScheduleError};

/// Why the schedule stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ScheduleRefusal {
    #[error("height {from} is not above the soft head, {soft}")]
    NotAboveSoft { from: Height, soft: Height },
    #[error("the entry at height {0} is the genesis file's: it stays")]
    OfGenesis(Height),
    #[error(transparent)]
    Unfit(#[from] ScheduleError),
}

/// Why DA is not read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum RescanRefusal {
    #[error("DA is read from its height {first} on here, and not before")]
    BelowFloor { first: u64 },
    #[error("DA was reported up to its height {scanned_through} only")]
    AboveScanned { scanned_through: u64 },
}

impl Syncer {
    pub(super) fn operate(&mut self, ctx: Ctx<'_>, ticket: Ticket, command: &Command) {
        let outcome = match *command {
            Command::AbandonBranch(_) | Command::AssertSigned(_) if self.publishing.is_signing() => {
                Err("a signature is awaited right now: ask again when it has come, or was given up".to_owned())
            }
            Command::ExtendSchedule(entry) => self.extend_schedule(ctx, entry).map_err(|refused| refused.to_string()),
            Command::WithdrawSchedule(from) => self.withdraw_schedule(ctx, from).map_err(|refused| refused.to_string()),
            Command::AbandonBranch(from) => self.abandon_branch(ctx, from),
            Command::AssertSigned(last) => self.assert_signed(ctx, last),
            Command::Disown(id) => {
                if let Some(why) = self.why_not_disown(ctx, id) {
                    Err(why)
                } else {
                    self.disown(ctx, id);
                    Ok(())
                }
            }
            Command::LiftVeto => {
                self.lift_veto(ctx);
                Ok(())
            }
            Command::RescanDa(from) => self.rescan_da(from).map_err(|refusal| refusal.to_string()),
            Command::ForgetConsumer(ref name) => self.forget_consumer(name),
        };
        self.decision.reply(ticket, Answer::Operator(outcome));
    }

    fn lift_veto(&mut self, ctx: Ctx<'_>) {
        self.lost_words.said(LostWord::Veto, &mut self.decision);
        if self.standing.vetoed().is_some() {
            self.standing.lift_veto(&mut self.decision);
            self.exchange.probe_all_soon(ctx.now.elapsed);
        }
    }

    /// What stands for lost consumers has the name by which the other losses of nobody knows what are settled, too.
    fn forget_consumer(&mut self, name: &str) -> Result<(), String> {
        let settles = name == LOST_BY_DAMAGE && self.lost_words.has(LostWord::Unknown);
        if settles {
            self.lost_words.said(LostWord::Unknown, &mut self.decision);
        }
        let forgotten = self.retention.forget_consumer(name, &mut self.decision);
        if settles { Ok(()) } else { forgotten }
    }

    pub(super) fn acked(&mut self, ctx: Ctx<'_>, ticket: Ticket, consumer: String, up_to: BlockId) {
        let is_known = self.retention.has_room_for(&consumer) && self.chain.contains(up_to, ctx.stored);
        if is_known {
            self.retention.acked(consumer, up_to, &mut self.decision);
        }
        self.decision.reply(ticket, Answer::Ack(is_known));
    }

    /// The operator's word replaces a guard that is missing, or that names a block which is not here; never a sound one. A key that
    /// has not signed, as far as its guard knows, may have.
    fn assert_signed(&mut self, ctx: Ctx<'_>, last: Option<BlockId>) -> Result<(), String> {
        let known = self.publishing.signed_last();
        if let Some(known) = known.filter(|known| Some(*known) != last)
            && (known.height < self.chain.heads().tail || self.chain.contains(known, ctx.stored))
        {
            return Err(format!("the guard is sound: this key signed {known} last, and that block is, or was, stored"));
        }
        if let Some(why) = self.contradiction(ctx, last).filter(|_| known.is_none() || known != last) {
            return Err(why);
        }
        let falls = !self.publishing.has_guard() || known.map(|known| known.height) > last.map(|last| last.height);
        self.publishing.reset_guard(last, &mut self.decision);
        if falls {
            self.hear_again(ctx);
        }
        Ok(())
    }

    /// What is stored, or kept as evidence, shows what the key signed at least: why it cannot have signed `last` last.
    fn contradiction(&self, ctx: Ctx<'_>, last: Option<BlockId>) -> Option<String> {
        let height = last.map(|last| last.height);
        if let Some(stored) = self.stored_of_key(ctx).filter(|stored| Some(stored.height) > height) {
            return Some(format!(
                "this key signed {stored}, which is stored here: say that block, or what it signed after it"
            ));
        }
        if let Some(last) = last
            && let Some(hash) = self.chain.hash(last.height, ctx.stored)
            && hash != last.hash
        {
            return Some(format!("another block of this height is stored here: {}/{hash}", last.height));
        }
        // A guard that named what has lost on DA would fall by itself.
        let evidence = self.standing.highest_evidence_but(|id| self.has_lost(ctx, id));
        let evidence = evidence.filter(|evidence| Some(*evidence) > height)?;
        Some(format!(
            "this key signed a block {evidence} that is not the one that is stored (ctl evidence shows it): say that one, or what it \
             signed after it"
        ))
    }

    /// The highest stored block that the key of this node signed; that of any proposer while nobody knows which key that is.
    pub(super) fn stored_of_key(&self, ctx: Ctx<'_>) -> Option<BlockId> {
        let heads = self.chain.heads();
        let soft = heads.soft_height()?;
        let key = self.publishing.signer();
        let mut above = None;
        let entries: Vec<_> = self.rules.schedule.entries().collect();
        let height = entries.into_iter().rev().find_map(|entry| {
            let last = above.and_then(Height::prev).map_or(soft, |last: Height| last.min(soft));
            above = Some(entry.from);
            let is_its = key.is_none_or(|key| key == entry.proposer);
            (is_its && entry.from <= last && last >= heads.tail).then_some(last)
        })?;
        self.chain.hash(height, ctx.stored).map(|hash| BlockId { height, hash })
    }

    fn extend_schedule(&mut self, ctx: Ctx<'_>, entry: ScheduleEntry) -> Result<(), ScheduleRefusal> {
        let mut rules = Rules::clone(&self.rules);
        if self.was_lost(ctx, entry) {
            rules.schedule.insert(entry)?;
        } else {
            self.check_above_soft(entry.from)?;
            rules.schedule.append(entry)?;
        }
        self.decision.change(Change::Schedule(entry));
        self.lost_words.said(LostWord::Schedule(entry.from), &mut self.decision);
        self.change_schedule(ctx, rules);
        Ok(())
    }

    /// Whether damage took an entry that begins here, and this may be that one: unless the lowest stored block that it would govern is
    /// another proposer's. Then it is put back where it was, also below entries that were added since.
    fn was_lost(&self, ctx: Ctx<'_>, entry: ScheduleEntry) -> bool {
        let heads = self.chain.heads();
        let lowest = entry.from.max(heads.tail);
        let is_shown = heads.stores(lowest) && self.rules.schedule.leaves_to(entry.from, lowest);
        let is_its = |header: Header| header.proposer == entry.proposer;
        self.lost_words.has(LostWord::Schedule(entry.from))
            && (!is_shown || self.chain.header(lowest, ctx.stored).is_some_and(is_its))
    }

    fn withdraw_schedule(&mut self, ctx: Ctx<'_>, from: Height) -> Result<(), ScheduleRefusal> {
        if self.lost_words.has(LostWord::Schedule(from)) {
            self.lost_words.said(LostWord::Schedule(from), &mut self.decision);
            return Ok(());
        }
        self.check_above_soft(from)?;
        if self.config.rules.schedule.entries().any(|entry| entry.from == from) {
            return Err(ScheduleRefusal::OfGenesis(from));
        }
        let mut rules = Rules::clone(&self.rules);
        rules.schedule.withdraw(from)?;
        self.decision.change(Change::WithdrawSchedule(from));
        self.change_schedule(ctx, rules);
        Ok(())
    }

    fn check_above_soft(&self, from: Height) -> Result<(), ScheduleRefusal> {
        match self.chain.heads().soft_height() {
            Some(soft) if from <= soft => Err(ScheduleRefusal::NotAboveSoft { from, soft }),
            _ => Ok(()),
        }
    }

    /// Other rules hold above soft.
    fn change_schedule(&mut self, ctx: Ctx<'_>, rules: Rules) {
        let before = std::mem::replace(&mut self.rules, Arc::new(rules));
        // What is awaited was signed by whom the old schedule has there, or it would not be.
        let proposes_still = |height| before.schedule.proposer_at(height) == self.rules.schedule.proposer_at(height);
        // What is pending was checked against the old schedule: it may come again.
        self.pending.clear();
        if self.chain.heads().target.is_some_and(|target| !proposes_still(target.height)) {
            self.chain.drop_target();
        }
        self.awaited.retain(|id| proposes_still(id.height));
        // Who was ignored may be the proposer now.
        self.hear_again(ctx);
        self.da.schedule_changed(&self.rules.schedule, &mut self.decision);
        // What is on record of a proposer who is back is awaited again.
        self.notice_what_is_on_record(ctx);
        self.strangers.forget();
        self.exchange.schedule_changed(ctx.now.elapsed);
    }

    /// DA is to be reported anew from this DA height on. What is hard stays, and so does the guard.
    fn rescan_da(&mut self, from: u64) -> Result<(), RescanRefusal> {
        let heads = self.chain.heads();
        if from <= heads.da_floor() {
            return Err(RescanRefusal::BelowFloor { first: heads.da_floor() + 1 });
        }
        if from > heads.scanned_through + 1 {
            return Err(RescanRefusal::AboveScanned { scanned_through: heads.scanned_through });
        }
        self.da.rescan(from, &mut self.decision);
        let is_forgotten = match self.standing.halted() {
            Some(Halt::Contradicted { .. } | Halt::HardContradicted { .. }) => true,
            // Where DA has that block indeed, the next report halts again.
            Some(Halt::Diverged { position, .. }) => position.height >= from,
            None => false,
        };
        if is_forgotten {
            self.standing.end_halt(&mut self.decision);
        }
        Ok(())
    }

    /// The operator retracts our own branch after a halt. Where DA has decided against the block that the guard names, the guard
    /// falls with it; a name on DA proves nothing, and what the key signed stays signed.
    fn abandon_branch(&mut self, ctx: Ctx<'_>, from: BlockId) -> Result<(), String> {
        let (ours, by) = match self.standing.halted() {
            Some(Halt::Diverged { ours, .. }) => (ours, DisownedBy::Da),
            Some(Halt::Contradicted { ours, .. }) => (ours, DisownedBy::Name),
            Some(Halt::HardContradicted { .. }) | None => {
                return Err(
                    "nothing to abandon: DA has not decided against anything that is stored above hard".to_owned()
                );
            }
        };
        if ours != from {
            return Err(format!("the branch that DA contradicts begins at {ours}"));
        }
        let signed = self.publishing.signed_last();
        let takes_back_signed =
            signed.is_some_and(|signed| signed.height >= from.height && self.chain.contains(signed, ctx.stored));
        if self.chain.contains(from, ctx.stored)
            && self.retract(ctx, from.height, Afterwards::GivenUp(by)) == Retraction::Unreadable
        {
            return Err("the block below could not be read from the store".to_owned());
        }
        self.standing.end_halt(&mut self.decision);
        if takes_back_signed && by == DisownedBy::Da {
            self.publishing.reset_guard(self.chain.heads().soft_id(), &mut self.decision);
        }
        Ok(())
    }
}
