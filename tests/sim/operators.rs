//! Operators: what they do as the documentation says, what they do too late, and what they do wrongly and take back.

use std::time::Duration;

use blocksyncd::block::{BlockId, Hash, Height, PublicKey};
use blocksyncd::sync::{Command, Halt, HardWait, Input, LOST_BY_DAMAGE, LostWord, Status};
use blocksyncd::verify::ScheduleEntry;

use super::dice::Purpose;
use super::disk::Damage;
use super::fault_injection::OPERATOR_PATIENCE;
use super::tally::State;
use super::world::{Event, World};

/// Each key costs checks.
const MOST_ROTATIONS: usize = 6;
/// A key that never signs.
pub const NOBODY: PublicKey = PublicKey([
    0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e, 0xbc, 0x9c, 0x98, 0x2c,
    0xcf, 0x2e, 0xc4, 0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c,
]);

/// The block that the status advises to give up.
fn advised_to_disown(status: &Status) -> Option<BlockId> {
    let (_, rest) = status.not_ready.as_ref()?.split_once("ctl disown ")?;
    let (height, hash) = rest.split_once('/')?;
    let hash: String = hash.chars().take_while(char::is_ascii_hexdigit).collect();
    Some(BlockId { height: Height::new(height.parse().ok()?)?, hash: Hash::from_hex(&hash)? })
}

impl World {
    // ---- The schedule ----------------------------------------------------------------------------------------------

    /// An operator adds an epoch of the same proposer: every block is as valid as before, but what waits is looked at anew.
    pub fn extend_schedule(&mut self, n: usize) {
        let Some(syncer) = &self.nodes[n].syncer else { return };
        let from = syncer.heads().next_height().plus(self.dice.of(Purpose::Operator, n).u64(0..12));
        let entry = ScheduleEntry { from, proposer: self.chain.public_key() };
        self.operate(n, Command::ExtendSchedule(entry));
    }

    /// Another key is to sign, from a little above everything that was signed. The sequencer's operator knows at once.
    pub fn rotate(&mut self) {
        if self.chain.entries().len() >= MOST_ROTATIONS {
            return;
        }
        let lowest = self.chain.entries().last().map_or(Height::MIN, |entry| entry.from.next());
        let from = self.chain.above_all().max(lowest).plus(self.dice.common(Purpose::Rotation).u64(1..10));
        let entry = self.chain.rotate(from);
        self.trace.note(self.now, format_args!("from {from} on another key signs: {:?}", entry.proposer));
        self.tally.count(State::Rotation);
        self.tell_schedule(0);
    }

    /// Operators hear of a new key, sooner or later.
    pub fn schedules_turn(&mut self) {
        self.withdraw_wrong_entries();
        if self.chain.entries().is_empty() || self.plan.rotation_rate == 0.0 {
            return;
        }
        for n in 0..self.nodes.len() {
            let lags = !self.healed && n > 0 && self.dice.of(Purpose::Rotation, n).f64() < 0.85;
            if lags {
                self.tally.add(State::ScheduleLags, u64::from(self.lacks_schedule(n)));
            } else {
                self.tell_schedule(n);
            }
        }
        self.switch_signer();
    }

    /// Whether it does not know of a key that has signed already.
    fn lacks_schedule(&self, n: usize) -> bool {
        let top = self.chain.above_all().prev();
        let Some((syncer, top)) = self.nodes[n].syncer.as_ref().zip(top) else { return false };
        syncer.rules().schedule.proposer_at(top) != self.chain.proposer_at(top)
    }

    pub fn tell_schedule(&mut self, n: usize) {
        for entry in self.chain.entries().to_vec() {
            if self.nodes[n].disk.image.lost_words.contains(&LostWord::Schedule(entry.from)) {
                self.operate(n, Command::ExtendSchedule(entry));
            }
            let Some(syncer) = &self.nodes[n].syncer else { return };
            // What damage took below soft, and what is not stored any more, can be made good above it.
            let is_empty = syncer.heads().soft.is_none();
            let from = if is_empty { entry.from } else { entry.from.max(syncer.heads().next_height()) };
            let Some(proposer) = self.chain.proposer_at(from).filter(|proposer| *proposer == entry.proposer) else {
                continue;
            };
            let schedule = &syncer.rules().schedule;
            if schedule.proposer_at(from) != Some(proposer) {
                // Entries are in order: what is above it has to go first, and comes again.
                let above: Vec<Height> = schedule.entries().map(|known| known.from).filter(|at| *at >= from).collect();
                above.into_iter().rev().for_each(|at| self.operate(n, Command::WithdrawSchedule(at)));
                self.operate(n, Command::ExtendSchedule(ScheduleEntry { from, proposer }));
            }
        }
    }

    /// The sequencer's operator gives it the key that is to sign next.
    pub fn switch_signer(&mut self) {
        let next = self.nodes[0].syncer.as_ref().map(|syncer| syncer.heads().next_height());
        let Some(due) = next.and_then(|next| self.chain.proposer_at(next)) else { return };
        if self.nodes[0].signs.is_some_and(|signs| signs != due) {
            self.nodes[0].signs = Some(due);
            self.handle(0, Input::Signer(Some(due)));
        }
    }

    /// An operator adds a key that never signs, and takes it back when it is noticed.
    pub fn add_wrong_entry(&mut self, n: usize) {
        let is_wrong_already = self.wrong_entries.iter().any(|(of, ..)| *of == n);
        let Some(syncer) = self.nodes[n].syncer.as_ref().filter(|_| !self.may_publish(n) && !is_wrong_already) else {
            return;
        };
        let next = syncer.heads().next_height();
        let rng = self.dice.of(Purpose::Slips, n);
        let (from, noticed) = (next.plus(rng.u64(0..20)), Duration::from_millis(rng.u64(500..8_000)));
        self.wrong_entries.push((n, from, self.now + noticed));
        self.tally.count(State::WrongEntry);
        self.operate(n, Command::ExtendSchedule(ScheduleEntry { from, proposer: NOBODY }));
    }

    /// Wrong entries that were noticed are taken back, again and again until it is so.
    pub fn withdraw_wrong_entries(&mut self) {
        if self.healed && self.plan.wrong_entry_rate > 0.0 {
            // An older store that was put back may have one again.
            for (n, node) in self.nodes.iter().enumerate() {
                let entries = node.syncer.iter().flat_map(|syncer| syncer.rules().schedule.entries());
                let wrong = entries.filter(|entry| entry.proposer == NOBODY);
                self.wrong_entries.extend(wrong.map(|entry| (n, entry.from, self.now)));
            }
            self.wrong_entries.sort_unstable();
            self.wrong_entries.dedup_by_key(|(n, from, _)| (*n, *from));
        }
        for (n, from, at) in std::mem::take(&mut self.wrong_entries) {
            let schedule = self.nodes[n].syncer.as_ref().map(|syncer| &syncer.rules().schedule);
            match schedule {
                Some(schedule) if !schedule.entries().any(|entry| entry.from == from && entry.proposer == NOBODY) => {}
                Some(_) if self.healed || self.now >= at => {
                    self.operate(n, Command::WithdrawSchedule(from));
                    self.wrong_entries.push((n, from, at));
                }
                _ => self.wrong_entries.push((n, from, at)),
            }
        }
    }

    // ---- What they order -------------------------------------------------------------------------------------------

    /// A block that nobody asked about.
    pub fn disown_for_nothing(&mut self, n: usize) {
        let is_risky = self.plan.guard_restored || self.plan.second_signer;
        if self.nodes[n].life().is_none() || (self.may_publish(n) && is_risky) {
            return;
        }
        let Some(block) = self.chain.any_public(self.dice.of(Purpose::Slips, n)) else { return };
        let id = block.id();
        self.operate(n, Command::Disown(id));
    }

    /// An operator looks at the nodes, and does what the documentation says.
    pub fn operator_turn(&mut self) {
        for n in 0..self.nodes.len() {
            let Some(syncer) = &self.nodes[n].syncer else { continue };
            let status = syncer.status();
            if let Some(halt) = status.halted {
                self.settle_halt(n, halt);
            }
            if let Some(HardWait::Named { position, .. }) = status.hard_waits
                && self.healed
                && self.plan.name_wrong > 0.0
                && self.looked_again.insert((n, position))
            {
                // Nobody has what is named there: the host may have named it wrongly.
                self.operate(n, Command::RescanDa(position.height));
            }
            if status.vetoed.is_some() {
                self.operate(n, Command::LiftVeto);
            }
            if let Some(consumer) = status.pruning_waits_for.clone() {
                // What this one held back is pruned step by step: it takes a moment until all agree again.
                self.agreed = None;
                self.operate(n, Command::ForgetConsumer(consumer));
            }
            if !status.lost_words.is_empty() {
                self.say_again(n);
            }
            let is_contradicted = matches!(status.halted, Some(Halt::HardContradicted { .. }));
            if self.healed && (self.misled == Some(n) || (self.was_misled(n) && is_contradicted)) {
                self.mend_misled(n);
            }
            self.read_replaced_da(n);
            self.settle_guard(n, &status);
        }
        if self.healed {
            // It turns out that the host was wrong.
            for (n, from) in std::mem::take(&mut self.to_rescan) {
                self.operate(n, Command::RescanDa(from));
            }
        }
    }

    fn settle_halt(&mut self, n: usize, halt: Halt) {
        if self.has_old_da(n) {
            return;
        }
        match halt {
            // What was hard stands behind another block now, or is not on DA at all.
            Halt::HardContradicted { .. } if self.replaced_from.is_some() => self.make_anew(n),
            // The host may have named it wrongly: it is to look again. Or it is thought that the host was right.
            Halt::Contradicted { ours, position } => {
                // A publisher's may be the only copy: its host looks again first.
                let is_cautious = !self.plan.operator_abandons || self.may_publish(n);
                let looks_again = self.dice.of(Purpose::Slips, n).bool() || is_cautious;
                // What is named like this once more, when all hosts are right, is so.
                let is_new = self.healed && self.looked_again.insert((n, position));
                if self.plan.name_wrong > 0.0 && (if self.healed { is_new } else { looks_again }) {
                    self.operate(n, Command::RescanDa(position.height));
                } else if self.plan.operator_abandons {
                    self.oracle.released(n, ours.height);
                    self.to_rescan.push((n, position.height));
                    self.operate(n, Command::AbandonBranch(ours));
                }
            }
            Halt::Diverged { ours, .. } if self.plan.operator_abandons => {
                if self.may_publish(n) {
                    self.oracle.abandoned(n, ours.height);
                }
                self.operate(n, Command::AbandonBranch(ours));
            }
            Halt::Diverged { .. } | Halt::HardContradicted { .. } => {}
        }
    }

    /// What damage took of what was said.
    fn say_again(&mut self, n: usize) {
        for word in self.nodes[n].disk.image.lost_words.clone() {
            let entry = self.chain.entries().iter().find(|entry| word == LostWord::Schedule(entry.from)).copied();
            if let Some(entry) = entry {
                self.operate(n, Command::ExtendSchedule(entry));
                continue;
            }
            self.operate(
                n,
                match word {
                    LostWord::Veto => Command::LiftVeto,
                    LostWord::Schedule(from) => Command::WithdrawSchedule(from),
                    LostWord::Unknown => Command::ForgetConsumer(LOST_BY_DAMAGE.to_owned()),
                },
            );
        }
    }

    /// Whether the key may not sign, as its node says, or its host was answered.
    pub fn is_stuck(&self, n: usize) -> bool {
        let is_not_ready = self.nodes[n].syncer.as_ref().is_some_and(|syncer| syncer.status().not_ready.is_some());
        is_not_ready || self.hosts[n].refused_since.is_some()
    }

    /// What was signed, and lost before it reached anybody, is gone: the operator says so. What the status advises is given up before
    /// that.
    fn settle_guard(&mut self, n: usize, status: &Status) {
        let patience = self.plan.faults_last + OPERATOR_PATIENCE;
        if n != self.publisher || !self.is_stuck(n) || status.halted.is_some() || self.now <= patience {
            return;
        }
        if let Some(advised) = advised_to_disown(status) {
            self.tally.count(State::DisownAdvised);
            self.operate(n, Command::Disown(advised));
        }
        self.hosts[n].refused_since = None;
        let last = status.heads.soft_id();
        self.oracle.abandoned(n, last.map_or(self.chain.initial_height(), |last| last.height.next()));
        self.operate(n, Command::AssertSigned(last));
    }

    /// Whoever was shown another DA reads it again; where it took that for the truth, its store and its host's are made anew.
    fn mend_misled(&mut self, n: usize) {
        let Some(syncer) = &self.nodes[n].syncer else { return };
        let (heads, halted) = (syncer.heads(), syncer.status().halted);
        let of_winner = |hard: BlockId| self.da.winner(hard.height).is_some_and(|(tip, _)| tip.id == hard);
        let is_right = heads.hard.is_none_or(of_winner);
        if is_right && !matches!(halted, Some(Halt::HardContradicted { .. })) {
            self.misled = None;
            return self.operate(n, Command::RescanDa(heads.da_floor() + 1));
        }
        self.misled = None;
        self.make_anew(n);
    }

    /// The store, and what hosts have made of it.
    pub fn make_anew(&mut self, n: usize) {
        self.crash_node(n);
        self.nodes[n].disk.damage(Damage::Wiped, self.dice.of(Purpose::Crashes, n));
        self.nodes[n].damaged = true;
        self.oracle.damaged(n);
        self.tally.count(State::MadeAnew);
        let initial = self.chain.initial_height();
        self.hosts[n].make_anew(initial);
        self.forget_watchers(n);
        self.later(Duration::from_millis(100), Event::StartNode { node: n });
    }
}
