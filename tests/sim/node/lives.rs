//! The lives of a node: how its process starts, with what its operator has configured, and how it ends.

use std::time::Duration;

use blocksyncd::sync::{Acquaintance, CommitId, Config, History, Input, Policy, Syncer, Trusted};

use super::Waits;
use crate::dice::Purpose;
use crate::faults::{Keeps, Plan};
use crate::mutations::Bug;
use crate::signer::Heard;
use crate::tally::State;
use crate::world::{Event, World};

impl World {
    pub fn start_node(&mut self, n: usize) {
        let bug = self.bug;
        if self.nodes[n].syncer.is_some() {
            return;
        }
        if self.healed && self.was_misled(n) {
            // Its operator may have it read DA anew once more, whatever it had written of that.
            self.misled = Some(n);
        }
        self.reconfigure(n);
        self.relimit(n);
        let Some(history) = self.history_of(n) else {
            // Its operator waits until there is something to trust.
            return self.later(Duration::from_secs(1), Event::StartNode { node: n });
        };
        let told = self.mutate_history(history);
        let node = &mut self.nodes[n];
        let limits = node.limits;
        node.disk.history = history;
        node.disk.keeps_evidence(limits.evidence);
        let mut recovered = node.disk.recover(&self.chain.rules().schedule);
        self.tally.add(State::AnchorAtStart, u64::from(recovered.anchor.is_some()));
        if bug == Some(Bug::GuardForgotten) {
            recovered.guard = blocksyncd::sync::GuardState::Unused;
        }
        if bug == Some(Bug::ConsumersForgotten) {
            recovered.consumers.clear();
        }
        let mut limits = limits;
        if bug == Some(Bug::HeldUnbounded) {
            limits.pending_blocks = usize::MAX;
            limits.pending_bytes = usize::MAX;
        }
        let signs = (n == 0 || (n == 1 && self.plan.second_signer)).then(|| self.chain.public_key());
        node.signs = signs;
        let config = Config {
            rules: self.chain.rules().clone(),
            signs,
            on_divergence: node.policy,
            da_evidence: self.plan.report_by.evidence(),
            known_peers: Acquaintance::Nobody,
            history: told,
            limits,
            timing: node.timing,
        };
        self.trace.note(self.now, format_args!("n{n} starts with {:?}", recovered.heads));
        node.lives += 1;
        node.heard = Heard::from(self.now, &recovered);
        node.started = self.now;
        node.elapsed = Duration::ZERO;
        node.announced = None;
        node.last = None;
        // Whoever asked while it was down was told so.
        node.waits.clear();
        node.ranges.clear();
        node.syncer = Some(Syncer::recover(config, recovered, self.plan.seed ^ node.lives));
        if node.storage_full {
            self.handle(n, Input::StorageFull(true));
        }
        if n == 0 && self.plan.rotation_rate > 0.0 {
            self.tell_schedule(0);
            self.switch_signer();
        }
        self.check_node(n);
        self.rearm(n);
        self.later(Duration::from_millis(5), Event::HostTurn { host: n });
    }

    /// Its operator has thought again. A sequencer's that keeps everything goes on to do so: it may be the only one.
    fn reconfigure(&mut self, n: usize) {
        let rng = self.dice.of(Purpose::Settings, n);
        if self.plan.reconfigure == 0.0 || rng.f64() >= self.plan.reconfigure {
            return;
        }
        let (mut keeps, timing) = (Keeps::draw(rng), Plan::timing(rng));
        if self.plan.odd_sizes + self.plan.exact_sizes > 0.0 {
            // One block might be more than all that it would keep.
            keeps.max_bytes = None;
        }
        let node = &mut self.nodes[n];
        node.timing = timing;
        if n > 0 || node.keeps.retain_blocks.or(node.keeps.max_bytes).is_some() {
            node.keeps = Keeps { trusts_one_of: node.keeps.trusts_one_of, ..keeps };
        }
        self.trust_anew(n);
    }

    /// Other limits, and another policy. In the end each takes what the chain allows.
    fn relimit(&mut self, n: usize) {
        if self.plan.relimit == 0.0 {
            return;
        }
        if self.healed {
            self.nodes[n].limits.max_block_bytes = self.plan.limits.max_block_bytes;
        }
        let rng = self.dice.of(Purpose::Limits, n);
        if rng.f64() >= self.plan.relimit {
            return;
        }
        let mut limits = Plan::limits(rng);
        let (is_small, small) = (rng.f64() < 0.3, rng.usize(700..=4_000));
        let policy = if rng.bool() { Policy::FollowDa } else { Policy::Halt };
        let plan = &self.plan;
        limits.max_block_bytes = plan.limits.max_block_bytes;
        if plan.odd_sizes + plan.exact_sizes > 0.0 {
            // The largest block has room, as the plan would have it.
            limits.pending_bytes = limits.pending_bytes.max(plan.limits.pending_bytes);
            limits.commit_bytes = limits.commit_bytes.max(plan.limits.commit_bytes);
            limits.sighting_bytes = limits.sighting_bytes.max(plan.limits.sighting_bytes);
        }
        let may_sign = self.may_publish(n) || (n == 1 && plan.second_signer);
        if is_small && !self.healed && !may_sign {
            limits.max_block_bytes = small;
            self.tally.count(State::TakesOnlySmall);
        }
        let node = &mut self.nodes[n];
        self.tally.count(State::OtherLimits);
        self.tally.add(State::OtherPolicy, u64::from(node.policy != policy));
        node.most_consumers = node.most_consumers.max(limits.consumers);
        (node.limits, node.policy) = (limits, policy);
    }

    /// Whoever takes small blocks only begins anew, to take all that the chain allows.
    pub fn take_all_sizes(&mut self) {
        for n in 0..self.nodes.len() {
            if self.nodes[n].limits.max_block_bytes < self.plan.limits.max_block_bytes {
                self.crash_node(n);
            }
        }
    }

    /// Another block is to be trusted: where the store is there already, that changes nothing.
    fn trust_anew(&mut self, n: usize) {
        let rng = self.dice.of(Purpose::Records, n);
        if self.plan.resync == 0.0 || rng.f64() >= self.plan.resync || n == 0 || n == self.publisher {
            return;
        }
        let node = &mut self.nodes[n];
        node.disk.history.trusted = None;
        node.keeps.trusts_one_of = rng.bool().then(|| rng.u64(1..=25));
        self.tally.count(State::TrustedAnew);
    }

    /// What its operator has configured; `None` while there is no block to be trusted.
    fn history_of(&mut self, n: usize) -> Option<History> {
        let keeps = self.nodes[n].keeps;
        let mut trusted = self.nodes[n].disk.history.trusted;
        if let (Some(count), None) = (keeps.trusts_one_of, trusted) {
            let initial = self.chain.initial_height();
            let mut pick = initial.plus(self.dice.of(Purpose::Operator, n).u64(0..count));
            if self.healed {
                // There may never be more.
                pick = self.da.last_winner().map_or(pick, |last| pick.min(last.height));
            }
            trusted = if self.plan.without_da {
                self.nodes[self.publisher].disk.image.id(pick)
            } else {
                self.da.winner(pick).map(|(tip, _)| tip.id)
            }
            .map(|id| Trusted { id, da: None });
            trusted?;
        }
        Some(History {
            retain_blocks: keeps.retain_blocks,
            max_bytes: keeps.max_bytes,
            prune_unconfirmed: self.plan.without_da,
            trusted,
            backfill: keeps.backfill,
        })
    }

    /// The process dies here and now.
    pub fn crash_node(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.syncer.take().is_none() {
            return;
        }
        self.trace.note(self.now, format_args!("n{n} crashes"));
        node.waiting.clear();
        (node.untold, node.told_at) = (0, Duration::ZERO);
        node.waits.clear();
        node.unsigned.clear();
        node.signing = None;
        node.gossip.clear();
        node.seen.clear();
        node.fetches.clear();
        node.checking = 0;
        node.draining = false;
        node.wake_at = None;
        (node.asked, node.durable) = (CommitId::default(), CommitId::default());
        let crashed = node.disk.crash(self.dice.of(Purpose::Crashes, n));
        if let Err(why) = crashed {
            self.fail(format!("n{n}: {why}"));
        }
        self.check_disk(n);
        for peer in self.net.neighbours(n) {
            self.disconnect(n, peer);
        }
        self.hosts[n].lose_node();
    }

    /// It is to finish what it has begun, and to begin nothing.
    pub fn drain_node(&mut self, n: usize) {
        if self.bug != Some(Bug::DrainIgnored) {
            self.handle(n, Input::Drain);
        }
        if self.nodes[n].life().is_some() {
            self.nodes[n].draining = true;
        }
    }

    /// It has had its time: it ends with everything that was decided on disk, or else as in a crash.
    pub fn end_drained(&mut self, n: usize) {
        if self.nodes[n].disk.is_idle() && self.nodes[n].untold == 0 {
            self.check_drained(n);
        }
        self.crash_node(n);
    }

    fn check_drained(&mut self, n: usize) {
        let node = &self.nodes[n];
        let unanswered = node.waits.values().filter(|(waits, ..)| *waits == Waits::Publish).count();
        let signing = node.unsigned.len();
        // One may be on its way to the signer, or back.
        if unanswered > signing + 1 {
            self.fail(format!("n{n} drained, and leaves {unanswered} publishes without an answer"));
        }
    }
}
