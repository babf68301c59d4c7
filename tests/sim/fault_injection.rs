//! Faults that the plan injects into honest nodes: crashes, damage, partitions, full disks, clocks that jump; and the moment at
//! which all of it ends.

use std::time::Duration;

use blocksyncd::sync::{Command, Input};

use super::dice::Purpose;
use super::disk::{Damage, Record};
use super::faults::Signing;
use super::tally::State;
use super::world::{Event, FAULTS_EVERY, World};

/// After healing, so long an operator waits before it says that what was signed is gone.
pub const OPERATOR_PATIENCE: Duration = Duration::from_secs(15);

/// So long before everything heals a block on nothing is signed: whoever signs waits for it until an operator acts.
const ORPHANS_COME_LATE: Duration = Duration::from_secs(5);

/// Of the looks at a fork that DA has decided just now: it may decide otherwise.
const REVERSED: f64 = 0.5;

impl World {
    fn draw(&mut self, rate: f64) -> bool {
        self.dice.common(Purpose::Faults).f64() < rate * FAULTS_EVERY.as_secs_f64()
    }

    pub fn inject_faults(&mut self) {
        if self.healed {
            return;
        }
        let honest = self.nodes.len();
        let n = self.dice.common(Purpose::Faults).usize(0..honest);
        let rng = self.dice.common(Purpose::Faults);
        if self.plan.backup + self.plan.loss_of_tail > 0.0 && rng.f64() < 0.03 {
            self.nodes[n].disk.snapshot();
        }
        if rng.f64() < 0.03 {
            self.hosts[n].back_up();
        }
        if self.draw(self.plan.crash_rate) {
            self.crash_for_a_while(n);
        }
        if self.draw(self.plan.partition_rate) {
            let rng = self.dice.common(Purpose::Faults);
            let side: Vec<usize> = (0..honest + self.adversaries.len()).filter(|_| rng.bool()).collect();
            let asymmetric = self.plan.asymmetric && rng.bool();
            self.net.partition(&side, asymmetric, self.now);
            self.tally.count(State::Partition);
            let lasts = Duration::from_millis(rng.u64(300..9_000));
            self.later(lasts, Event::Unblock);
        }
        if self.draw(self.plan.storage_full_rate) && !self.nodes[n].storage_full {
            self.set_storage_full(n, true);
            let lasts = Duration::from_millis(self.dice.common(Purpose::Faults).u64(300..6_000));
            self.later(lasts, Event::StorageFree { node: n });
        }
        if self.draw(self.plan.clock_jump_rate) {
            let second = 1_000_000_000;
            let rng = self.dice.common(Purpose::Faults);
            let span = if rng.bool() { 60 * second } else { 86_400 * second };
            self.nodes[n].wall_offset = rng.i128(-span..=span);
            self.tally.count(State::ClockJump);
        }
        if self.draw(self.plan.host_crash_rate) && self.hosts[n].up {
            let from_backup = self.dice.common(Purpose::Faults).f64() < self.plan.host_backup;
            self.crash_host(n, from_backup);
        }
        if self.draw(self.plan.veto_rate) {
            self.veto(n);
        }
        if self.draw(self.plan.drain_rate) {
            self.drain_for_a_while(n);
        }
        // Where the key changes, an entry of the first key would be wrong.
        if self.plan.rotation_rate == 0.0 && self.draw(self.plan.extend_rate) {
            self.extend_schedule(n);
        }
        if self.plan.rotation_rate > 0.0 && self.draw(self.plan.rotation_rate) {
            self.rotate();
        }
        if self.plan.signer_leaves_rate > 0.0 && self.draw(self.plan.signer_leaves_rate) {
            self.signer_leaves();
        }
        if self.plan.rescan_rate > 0.0 && self.draw(self.plan.rescan_rate) {
            self.rescan_da(n);
        }
        if self.plan.failover_rate > 0.0 && self.slips(Purpose::Failover, 0, self.plan.failover_rate) {
            self.fail_over();
        }
        if self.plan.disown_rate > 0.0 && self.slips(Purpose::Slips, n, self.plan.disown_rate) {
            self.disown_for_nothing(n);
        }
        self.inject_newest(n);
        if self.plan.wrong_entry_rate > 0.0 && self.slips(Purpose::Slips, n, self.plan.wrong_entry_rate) {
            self.add_wrong_entry(n);
        }
    }

    /// What drawing 5 adds.
    fn inject_newest(&mut self, n: usize) {
        let is_late = self.now + ORPHANS_COME_LATE > self.plan.faults_last;
        if is_late && self.plan.orphan_rate > 0.0 && self.slips(Purpose::Orphans, 0, self.plan.orphan_rate) {
            self.orphan_is_signed();
        }
        if self.plan.da_reorganises > 0.0 && self.slips(Purpose::Reorganises, 0, self.plan.da_reorganises) {
            self.da_reorganises();
        }
        if self.plan.da_reorganises > 0.0
            && let Some(from) = self.da_may_be_reversed()
            && self.dice.common(Purpose::Reorganises).f64() < REVERSED
        {
            self.da_is_replaced(from);
        }
        if self.plan.refuses_hard > 0.0 && self.slips(Purpose::Refuses, n, self.plan.refuses_hard) {
            self.refuse_hard(n);
        }
    }

    fn slips(&mut self, purpose: Purpose, n: usize, rate: f64) -> bool {
        self.dice.of(purpose, n).f64() < rate * FAULTS_EVERY.as_secs_f64()
    }

    /// The host at the other node that has the key makes the blocks from now on, and posts what is not hard yet.
    fn fail_over(&mut self) {
        let other = 1 - self.publisher;
        if self.nodes[other].life().is_none() || !self.hosts[other].up {
            return;
        }
        self.trace.note(self.now, format_args!("h{other} publishes from now on"));
        self.tally.count(State::Failover);
        self.publishing_goes_on();
        self.hosts[self.publisher].pending.clear();
        self.publisher = other;
        self.publishing_goes_on();
        let host = &mut self.hosts[other];
        if !std::mem::replace(&mut host.posts, true) {
            host.state.posted = host.state.hard.map(|hard| hard.height);
        }
    }

    /// A process ends in order, and starts again.
    fn drain_for_a_while(&mut self, n: usize) {
        let Some(life) = self.nodes[n].life() else { return };
        self.drain_node(n);
        self.tally.count(State::Drain);
        let grace = Duration::from_millis(self.dice.common(Purpose::Faults).u64(100..2_000));
        self.later(grace, Event::EndDrained { node: n, life });
        let down = Duration::from_millis(self.dice.common(Purpose::Faults).u64(50..2_000));
        self.later(grace + down, Event::StartNode { node: n });
    }

    fn signer_leaves(&mut self) {
        if self.nodes[0].life().is_none() || self.nodes[0].signs.is_none() {
            return;
        }
        self.nodes[0].signs = None;
        self.tally.count(State::SignerLeft);
        self.handle(0, Input::Signer(None));
        let away = Duration::from_millis(self.dice.common(Purpose::Faults).u64(200..5_000));
        self.later(away, Event::SignerBack);
    }

    pub fn signer_is_back(&mut self) {
        let next = self.nodes[0].syncer.as_ref().map(|syncer| syncer.heads().next_height());
        let (Some(due), None) = (next.and_then(|next| self.chain.proposer_at(next)), self.nodes[0].signs) else {
            return;
        };
        self.nodes[0].signs = Some(due);
        self.handle(0, Input::Signer(Some(due)));
    }

    fn rescan_da(&mut self, n: usize) {
        if self.nodes[n].life().is_none() {
            return;
        }
        let height = self.da.height();
        let from = self.dice.of(Purpose::Operator, n).u64(0..=height);
        self.operate(n, Command::RescanDa(from));
    }

    pub fn crash_for_a_while(&mut self, n: usize) {
        if self.nodes[n].life().is_none() {
            return;
        }
        self.crash_node(n);
        self.tally.count(State::Crash);
        let luck = self.dice.of(Purpose::Crashes, n).f64();
        let plan = &self.plan;
        let damage = if luck < plan.wipe {
            Some(Damage::Wiped)
        } else if luck < plan.wipe + plan.backup {
            Some(Damage::Restored)
        } else {
            (luck < plan.wipe + plan.backup + plan.loss_of_tail).then_some(Damage::TailLost)
        };
        let rest = luck - plan.wipe - plan.backup - plan.loss_of_tail;
        let damage = damage.or((0.0..plan.store_lost).contains(&rest).then_some(Damage::StoreLost));
        let damage = damage.or_else(|| self.draw_record(n));
        if let Some(damage) = damage {
            self.trace.note(self.now, format_args!("n{n}'s disk: {damage:?}"));
            self.tally.count(State::DiskDamage);
            self.tally.add(State::RecordDamage, u64::from(matches!(damage, Damage::Record(_))));
            self.nodes[n].disk.damage(damage, self.dice.of(Purpose::Crashes, n));
            self.nodes[n].damaged = true;
            self.oracle.damaged(n);
            self.old_store_is_back(n);
        }
        if n == 0 && self.dice.of(Purpose::Crashes, n).f64() < self.plan.guard_loss {
            self.nodes[n].disk.lose_guard();
            self.tally.count(State::GuardLost);
        }
        // The whole machine went down, and was perhaps restored.
        if self.hosts[n].up && self.dice.of(Purpose::Crashes, n).f64() < 0.4 {
            let from_backup = damage.is_some() && self.dice.of(Purpose::Crashes, n).f64() < self.plan.host_backup;
            self.crash_host(n, from_backup);
        }
        let down = Duration::from_millis(self.dice.of(Purpose::Crashes, n).u64(50..5_000));
        self.later(down, Event::StartNode { node: n });
    }

    /// Which part of its store is damaged, if any.
    fn draw_record(&mut self, n: usize) -> Option<Damage> {
        if self.plan.record_damage == 0.0 {
            return None;
        }
        let rng = self.dice.of(Purpose::Records, n);
        (rng.f64() < self.plan.record_damage).then(|| Damage::Record(rng.choice(Record::ALL).expect("some")))
    }

    fn crash_host(&mut self, n: usize, from_backup: bool) {
        // A host that signs by itself keeps what it signed.
        let forgets = self.plan.signing != Signing::ByHost && self.dice.of(Purpose::Host, n).bool();
        self.hosts[n].crash(forgets);
        self.tally.count(State::HostCrash);
        self.tally.add(State::HostRestored, u64::from(from_backup));
        let backup = from_backup.then(|| self.dice.of(Purpose::Host, n).usize(0..1_000));
        let down = Duration::from_millis(self.dice.of(Purpose::Host, n).u64(50..3_000));
        self.later(down, Event::RestartHost { host: n, backup });
    }

    pub fn set_storage_full(&mut self, n: usize, full: bool) {
        self.nodes[n].storage_full = full;
        self.tally.add(State::StorageFull, u64::from(full));
        self.handle(n, Input::StorageFull(full));
    }

    pub fn heal(&mut self) {
        self.trace.note(self.now, format_args!("everything heals"));
        self.healed = true;
        self.net.unblock();
        self.take_all_sizes();
        for n in 0..self.nodes.len() {
            self.nodes[n].wall_offset = 0;
            if n > 0 && n + 1 == self.nodes.len() && self.plan.clock_stays != 0 {
                self.nodes[n].wall_offset = i128::from(self.plan.clock_stays) * 1_000_000_000;
                self.tally.count(State::ClockStaysWrong);
            }
            self.later(Duration::from_millis(300), Event::StorageFree { node: n });
            self.later(Duration::from_millis(400), Event::StartNode { node: n });
            self.later(Duration::from_millis(500), Event::RestartHost { host: n, backup: None });
        }
        self.release_all();
        if !self.plan.operator_always_acts {
            self.later(Duration::from_secs(2), Event::OperatorTurn);
        }
        self.later(OPERATOR_PATIENCE, Event::NoMoreBlocks);
        self.later(Duration::from_secs(16), Event::Judge);
    }

    /// The last blocks are told to all, so that hosts with other ones learn of it. Where the key may not sign before its operator has
    /// acted, these come after that.
    pub fn stop_publishing(&mut self) {
        let is_early = self.now < self.plan.faults_last + OPERATOR_PATIENCE + Duration::from_secs(1);
        if is_early && self.is_stuck(self.publisher) {
            return self.later(Duration::from_secs(5), Event::NoMoreBlocks);
        }
        let host = &self.hosts[self.publisher];
        let tip = host.state.tip().map(|tip| tip.height);
        // What is on its way may be accepted still.
        let proposed = host.pending.back().map(|(_, height)| *height);
        let stored = self.nodes[self.publisher].disk.image.heads.soft_height();
        self.last_to_publish = tip.max(stored).max(proposed).or(Some(self.chain.initial_height()));
    }
}
