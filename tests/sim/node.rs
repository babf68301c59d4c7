//! A node: the core, its disk, and the loop around them, as the sidecar's own loop is: immediate effects at once, all others
//! in order behind the commit that they follow, commits merged into one write in flight.

mod lives;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use blocksyncd::block::{BlockId, Hash, Height, PublicKey};
use blocksyncd::clock::Now;
use blocksyncd::sync::serve::{self, RangeRequest, Span};
use blocksyncd::sync::{
    Answer, Batch, BlockQuery, Change, CommitId, Effect, GuardEntry, Heads, Input, Limits, Policy, PublishAnswer,
    ReportAnswer, RequestId, Syncer, Ticket, Timing,
};
use blocksyncd::verify::ScheduleEntry;
use bytes::Bytes;

use super::chain::EPOCH_UNIX_NANOS;
use super::dice::Purpose;
use super::disk::{Disk, Unreadable, Write};
use super::faults::{Keeps, Plan, Signing};
use super::messages::{OpenFetch, UnjudgedMessage};
use super::mutations::Bug;
use super::network::{Answered, Message, MessageId, StreamEnd};
use super::signer::Heard;
use super::tally::State;
use super::world::{Event, World, index_of};

/// Who waits for the answer to a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    Publish,
    Report {
        by: u8,
    },
    /// Whether what this consumer has processed is known here.
    Ack {
        consumer: u8,
    },
    /// Whether the schedule has this entry.
    Schedule(ScheduleEntry),
    /// Whether DA, which was replaced so many times, is read again.
    ReadsReplaced {
        of: u64,
    },
    Other,
}

#[derive(Debug)]
struct Unsigned {
    header_bytes: Bytes,
    payload: Bytes,
}

#[derive(Debug)]
pub struct Node {
    pub disk: Disk,
    /// What its operator has configured.
    pub keeps: Keeps,
    pub timing: Timing,
    pub limits: Limits,
    pub policy: Policy,
    /// As many consumers as it has ever been allowed to keep.
    pub most_consumers: usize,
    /// `None`: the process is down.
    pub syncer: Option<Syncer>,
    pub announced: Option<Heads>,
    /// The key that it was given.
    pub signs: Option<PublicKey>,
    pub storage_full: bool,
    /// The wall clock is off by so many nanoseconds.
    pub wall_offset: i128,
    /// Had the process ever to hear of damage?
    pub damaged: bool,
    /// It was asked to end in order.
    pub draining: bool,
    lives: u64,
    started: Duration,
    /// `Now::elapsed` of the last input.
    elapsed: Duration,
    wake_at: Option<Duration>,
    idle_wakeups: u32,
    /// The newest commit that was asked for, and the newest that is durable.
    asked: CommitId,
    durable: CommitId,
    waiting: VecDeque<(CommitId, Effect)>,
    /// When the newest write is told, at the earliest; and how many are on disk and not told yet.
    told_at: Duration,
    untold: usize,
    next_ticket: Ticket,
    waits: BTreeMap<Ticket, (Waits, usize, u64)>,
    /// What a signer outside is to sign, once the guard of it is on disk.
    unsigned: BTreeMap<Ticket, Unsigned>,
    /// Whoever holds the key was asked, and has not answered.
    pub signing: Option<Ticket>,
    pub gossip: BTreeMap<Ticket, UnjudgedMessage>,
    pub seen: BTreeSet<MessageId>,
    pub checking: usize,
    pub checked_until: Duration,
    pub fetches: BTreeMap<RequestId, OpenFetch>,
    /// How often this process has asked a peer for a range from here on, and since when.
    pub ranges: BTreeMap<(usize, Height), (Duration, u32)>,
    /// Never starts again, so that no two messages have one id.
    messages: u64,
    /// What the last step left, to compare the next one with.
    pub last: Option<Heads>,
    /// What this process was told.
    pub heard: Heard,
}

impl Node {
    pub fn new(initial_height: Height, keeps: Keeps, plan: &Plan) -> Self {
        Self {
            disk: Disk::new(initial_height),
            keeps,
            timing: plan.timing,
            limits: plan.limits,
            policy: plan.policy,
            most_consumers: plan.limits.consumers,
            syncer: None,
            announced: None,
            signs: None,
            storage_full: false,
            wall_offset: 0,
            damaged: false,
            draining: false,
            lives: 0,
            started: Duration::ZERO,
            elapsed: Duration::ZERO,
            wake_at: None,
            idle_wakeups: 0,
            asked: CommitId::default(),
            durable: CommitId::default(),
            waiting: VecDeque::new(),
            told_at: Duration::ZERO,
            untold: 0,
            next_ticket: Ticket::default(),
            waits: BTreeMap::new(),
            unsigned: BTreeMap::new(),
            signing: None,
            gossip: BTreeMap::new(),
            seen: BTreeSet::new(),
            checking: 0,
            checked_until: Duration::ZERO,
            fetches: BTreeMap::new(),
            ranges: BTreeMap::new(),
            messages: 0,
            last: None,
            heard: Heard::default(),
        }
    }

    /// Which process this is, while there is one.
    pub fn life(&self) -> Option<u64> {
        self.syncer.as_ref().map(|_| self.lives)
    }

    /// Whether more is on disk than is told.
    pub fn has_untold(&self) -> bool {
        self.untold > 0
    }

    /// Whether this process has run since before this moment.
    pub fn is_older_than(&self, since: Duration) -> bool {
        self.started <= since
    }

    pub fn fetches_at(&self, peer: usize) -> Vec<RequestId> {
        let at_peer = |(_, open): &(&RequestId, &OpenFetch)| index_of(&open.fetch.peer) == peer;
        self.fetches.iter().filter(at_peer).map(|(request, _)| *request).collect()
    }

    pub fn now(&self, world: Duration, wall_for_all: bool) -> Now {
        let world_nanos = i128::try_from(world.as_nanos()).unwrap_or(i128::MAX);
        let unix = i128::from(EPOCH_UNIX_NANOS) + world_nanos + self.wall_offset;
        let unix_nanos = u64::try_from(unix).unwrap_or(0);
        if wall_for_all {
            let elapsed = u64::try_from(world_nanos + self.wall_offset).unwrap_or(0);
            return Now { elapsed: Duration::from_nanos(elapsed), unix_nanos };
        }
        Now { elapsed: world.saturating_sub(self.started), unix_nanos }
    }

    /// What the disk has for a peer that asks.
    pub fn serve(&self, query: BlockQuery, unclamped: bool) -> Answered {
        let image = &self.disk.image;
        let span = image.heads.soft_height().map(|soft| Span { tail: image.heads.tail, soft });
        let hash: Hash;
        let wanted = match query {
            BlockQuery::Head => RangeRequest::Origin { origin: 0, amount: 1 },
            BlockQuery::Range { from, amount } => RangeRequest::Origin { origin: from.get(), amount },
            BlockQuery::Hash(asked) => {
                hash = asked;
                RangeRequest::Hash(&hash.0)
            }
        };
        let body = |height: Height| image.block(height).map(|block| block.block().bytes().clone());
        match serve::plan(wanted, span) {
            serve::Plan::Reset => Answered { bodies: Vec::new(), end: StreamEnd::Reset },
            serve::Plan::NotFound => Answered { bodies: Vec::new(), end: StreamEnd::NotFound },
            serve::Plan::Head(height) => Answered::of(body(height).into_iter().collect()),
            serve::Plan::ByHash(hash) => {
                Answered::of(image.heights.get(&hash).and_then(|h| body(*h)).into_iter().collect())
            }
            serve::Plan::Range { from, to } => {
                let to = if unclamped { Height::MAX } else { to };
                Answered::of(image.blocks.range(from..=to).map(|(_, (b, _))| b.block().bytes().clone()).collect())
            }
        }
    }

    /// Whether somebody was asked to sign, and has not answered.
    pub fn is_signing(&self) -> bool {
        self.signing.is_some()
    }

    pub fn ticket(&mut self) -> Ticket {
        self.next_ticket = self.next_ticket.next();
        self.next_ticket
    }

    /// Who asks, and in which of its lives.
    pub fn wait(&mut self, waits: Waits, host: usize, host_life: u64) -> Ticket {
        let ticket = self.ticket();
        self.waits.insert(ticket, (waits, host, host_life));
        ticket
    }
}

/// The block whose signature comes.
fn signed_in(input: &Input) -> Option<BlockId> {
    match input {
        Input::Signed { outcome: Ok(block), .. } => Some(block.id()),
        _ => None,
    }
}

/// Whether that signature is not used: nobody will ever see it.
fn puts_back_the_guard(effects: &[Effect], signed: BlockId) -> bool {
    effects.iter().any(|effect| {
        let Effect::Commit(batch) = effect else { return false };
        let is_lower = |last: &Option<BlockId>| last.is_none_or(|last| last.height < signed.height);
        batch.changes.iter().any(|change| matches!(change, Change::ResetGuard(last) if is_lower(last)))
    })
}

/// Whether a process that is about to end should not ask for this any more.
fn begins_work(effect: &Effect) -> bool {
    match effect {
        Effect::Sign { .. } => true,
        Effect::Fetch(fetch) => fetch.query != BlockQuery::Head,
        _ => false,
    }
}

impl World {
    /// One input, and all that follows from it.
    pub fn handle(&mut self, n: usize, input: Input) {
        if self.is_over() {
            return;
        }
        let now = self.nodes[n].now(self.now, self.bug == Some(Bug::WallClockInTimeouts));
        let node = &mut self.nodes[n];
        let Some(syncer) = &mut node.syncer else { return };
        let life = node.lives;
        if now.elapsed < node.elapsed {
            let why = format!("n{n}'s clock went back from {:?} to {:?}", node.elapsed, now.elapsed);
            return self.fail(why);
        }
        node.elapsed = now.elapsed;
        self.trace.note(self.now, format_args!("n{n} < {input:?}"));
        node.heard.input(&input);
        let (before, signed) = (syncer.heads(), signed_in(&input));
        let fails = self.plan.failing_reads > 0.0 && !self.healed;
        let fails = fails && self.dice.of(Purpose::Records, n).f64() < self.plan.failing_reads;
        let node = &mut self.nodes[n];
        let Some(syncer) = &mut node.syncer else { return };
        let effects = if fails {
            let store = Unreadable::after(self.dice.of(Purpose::Records, n).u32(0..4), &node.disk.image);
            let effects = syncer.handle(now, input, &store);
            if store.has_failed() {
                // Nothing of what it decided is carried out: the process ends.
                self.tally.count(State::ReadFailed);
                return self.crash_for_a_while(n);
            }
            effects
        } else {
            syncer.handle(now, input, &node.disk.image)
        };
        let after = syncer.heads();
        let target = |heads: &Heads| heads.target.map(|target| target.height);
        if target(&after) < target(&before) && after.epoch == before.epoch {
            self.tally.count(State::TargetDropped);
        }
        if after.epoch != before.epoch {
            self.nodes[n].heard.asks_anew(self.now);
        }
        self.check_node(n);
        if let Some(id) = signed.filter(|id| puts_back_the_guard(&effects, *id)) {
            self.oracle.unused(id);
        }
        for effect in effects {
            if self.nodes[n].life() != Some(life) {
                return;
            }
            // A crash between any two effects.
            if !self.healed
                && self.plan.crash_rate > 0.0
                && self.dice.of(Purpose::Crashes, n).f64() < self.plan.crash_rate * 0.001
            {
                self.crash_for_a_while(n);
                return;
            }
            self.trace.note(self.now, format_args!("n{n} > {effect:?}"));
            self.check_effect(n, &effect);
            self.carry_out(n, effect);
        }
        self.rearm(n);
    }

    fn carry_out(&mut self, n: usize, effect: Effect) {
        if self.nodes[n].draining && begins_work(&effect) {
            return self.fail(format!("n{n} drains, and begins {effect:?}"));
        }
        match effect {
            Effect::Judge { ticket, verdict } => self.judge(n, ticket, verdict),
            Effect::Fetch(fetch) => self.start_fetch(n, fetch),
            Effect::Cancel(request) => {
                self.nodes[n].fetches.remove(&request);
            }
            Effect::Penalize { peer, offence, ban } => self.penalize(n, index_of(&peer), offence, ban),
            Effect::TryKnownPeers { round } => {
                if let Some(life) = self.nodes[n].life() {
                    self.later(Duration::from_millis(500), Event::KnownPeersTried { node: n, life, round });
                }
            }
            Effect::Sign { ticket, header_bytes, payload, guard } => {
                self.sign(n, ticket, &header_bytes, &payload, guard);
            }
            Effect::Commit(batch) => self.commit(n, batch),
            Effect::Reply { .. } | Effect::Announce(_) | Effect::Broadcast(_) => {
                let early = matches!(
                    (&effect, self.bug),
                    (Effect::Reply { .. }, Some(Bug::AckBeforeDurable))
                        | (Effect::Broadcast(_), Some(Bug::GossipBeforeDurable))
                );
                let node = &mut self.nodes[n];
                if node.asked > node.durable && !early {
                    node.waiting.push_back((node.asked, effect));
                } else {
                    self.tell(n, effect);
                }
            }
        }
    }

    fn commit(&mut self, n: usize, mut batch: Batch) {
        self.count_changes(n, &batch);
        self.mutate_batch(&mut batch);
        let node = &mut self.nodes[n];
        if batch.id <= node.asked {
            let why = format!("n{n}: commit {} after {}", batch.id, node.asked);
            return self.fail(why);
        }
        node.asked = batch.id;
        if node.disk.commit(batch) {
            self.start_write(n);
        }
    }

    fn count_changes(&mut self, n: usize, batch: &Batch) {
        for change in &batch.changes {
            let state = match change {
                Change::Truncate { .. } => State::Truncation,
                Change::Evidence(_) => State::Evidence,
                Change::Halt(Some(_)) => State::Halt,
                Change::Veto(Some(_)) => State::Veto,
                Change::Schedule(_) => State::ScheduleEntry,
                Change::Prune { .. } => State::Prune,
                Change::Prepend { .. } => State::BackfilledBlock,
                Change::DaNotes(notes) => {
                    self.tally.add(State::PassedOver, u64::from(!notes.passed_over.is_empty()));
                    self.tally.add(State::Shed, u64::from(notes.left_out.is_some()));
                    continue;
                }
                _ => continue,
            };
            self.tally.count(state);
            self.tally.add(State::TruncationAtSequencer, u64::from(n == self.publisher && state == State::Truncation));
        }
    }

    fn start_write(&mut self, n: usize) {
        let Some(life) = self.nodes[n].life() else { return };
        let (min, max) = self.plan.write;
        let rng = self.dice.of(Purpose::Writes, n);
        let mut took = min + max.saturating_sub(min).mul_f64(rng.f64());
        if !self.healed && rng.f64() < self.plan.write_stall {
            took += Duration::from_millis(rng.u64(500..=4_000));
        }
        self.later(took, Event::Written { node: n, life });
    }

    pub fn on_written(&mut self, n: usize) {
        let (write, more) = match self.nodes[n].disk.written() {
            Ok(done) => done,
            Err(why) => return self.fail(format!("n{n}: {why}")),
        };
        if more {
            self.start_write(n);
        }
        match write {
            Write::Commit(batch) => {
                self.check_committed(n, &batch);
                self.tell_soon(n, batch.id);
            }
            Write::Guard(ticket, _) => self.ask_signer(n, ticket),
        }
    }

    /// What is on disk can be read at once; that it is there is told a little later.
    fn tell_soon(&mut self, n: usize, commit: CommitId) {
        let Some(life) = self.nodes[n].life() else { return };
        let stored_bytes = self.nodes[n].disk.image.bytes();
        if self.plan.untold == Duration::ZERO {
            return self.on_durable(n, commit, stored_bytes);
        }
        let span = u64::try_from(self.plan.untold.as_micros()).unwrap_or(0);
        let wait = Duration::from_micros(self.dice.of(Purpose::Telling, n).u64(0..=span));
        let node = &mut self.nodes[n];
        // In order.
        node.told_at = node.told_at.max(self.now + wait);
        node.untold += 1;
        self.later(
            self.nodes[n].told_at.saturating_sub(self.now),
            Event::Durable { node: n, life, commit, stored_bytes },
        );
    }

    pub fn on_told(&mut self, n: usize, commit: CommitId, stored_bytes: u64) {
        self.nodes[n].untold -= 1;
        self.on_durable(n, commit, stored_bytes);
    }

    fn on_durable(&mut self, n: usize, commit: CommitId, stored_bytes: u64) {
        self.nodes[n].durable = commit;
        while let Some((after, _)) = self.nodes[n].waiting.front()
            && *after <= commit
        {
            let (_, effect) = self.nodes[n].waiting.pop_front().expect("looked at it");
            self.tell(n, effect);
        }
        self.handle(n, Input::Durable { commit, stored_bytes });
    }

    /// An effect whose commits are durable.
    fn tell(&mut self, n: usize, effect: Effect) {
        match effect {
            Effect::Reply { ticket, answer } => self.reply(n, ticket, answer),
            Effect::Announce(heads) => {
                self.check_announced(n, &heads);
                self.nodes[n].announced = Some(heads);
                self.later(Duration::from_millis(1), Event::HostTurn { host: n });
            }
            Effect::Broadcast(id) => self.broadcast(n, id),
            _ => unreachable!("only effects that wait for durability come here"),
        }
    }

    fn reply(&mut self, n: usize, ticket: Ticket, answer: Answer) {
        let Some((waits, host, host_life)) = self.nodes[n].waits.remove(&ticket) else {
            return self.fail(format!("n{n}: {ticket} answered, but nobody waits: {answer:?}"));
        };
        match &answer {
            Answer::Publish(PublishAnswer::Accepted(_)) => self.publishing_goes_on(),
            Answer::Publish(PublishAnswer::Conflict(_)) => self.tally.count(State::PublishConflict),
            Answer::Publish(PublishAnswer::NotReady(_)) => self.tally.count(State::PublishNotReady),
            Answer::Publish(PublishAnswer::Halted(_)) => self.tally.count(State::PublishHalted),
            Answer::Report(ReportAnswer::Refused(_)) => self.tally.count(State::ReportRefused),
            Answer::Report(ReportAnswer::Taken(taken)) if !taken.wanted.is_empty() => {
                self.tally.count(State::WantedNamed);
            }
            _ => {}
        }
        if let Answer::Publish(PublishAnswer::Accepted(id) | PublishAnswer::Duplicate(id)) = answer {
            self.check_acknowledged(n, id);
        }
        if let (Waits::Ack { consumer }, Answer::Ack(true)) = (waits, &answer) {
            self.check_acked(n, consumer);
        }
        if let (Waits::Schedule(entry), Answer::Operator(Ok(()))) = (waits, &answer) {
            self.check_scheduled(n, entry);
        }
        if let (Waits::ReadsReplaced { of }, Answer::Operator(Ok(()))) = (waits, &answer) {
            self.reads_replaced_da(n, of);
        }
        let delay = Duration::from_micros(self.dice.of(Purpose::Host, host).u64(50..2_000));
        self.later(delay, Event::Answered { host, host_life, waits, ticket, answer });
    }

    fn broadcast(&mut self, n: usize, id: BlockId) {
        self.check_broadcast(n, id);
        let Some(block) = self.chain.signed(id.hash) else {
            return self.fail(format!("n{n} broadcasts {id:?}, which nobody signed"));
        };
        let bytes = block.block().bytes().clone();
        self.chain.publish(id.hash);
        let node = &mut self.nodes[n];
        node.messages += 1;
        let message = Message { id: (n, node.messages), bytes };
        node.seen.insert(message.id);
        self.spread(n, None, &message);
    }

    fn sign(&mut self, n: usize, ticket: Ticket, header_bytes: &Bytes, payload: &Bytes, guard: GuardEntry) {
        let Some(life) = self.nodes[n].life() else { return };
        self.nodes[n].signing = Some(ticket);
        if self.plan.signing == Signing::Outside {
            // The guard's own write comes before the question leaves the process.
            let unsigned = Unsigned { header_bytes: header_bytes.clone(), payload: payload.clone() };
            self.nodes[n].unsigned.insert(ticket, unsigned);
            if self.bug == Some(Bug::GuardOvertaken) {
                self.nodes[n].disk.write_guard_early(guard);
                return self.ask_signer(n, ticket);
            }
            if self.nodes[n].disk.write_guard(ticket, guard) {
                self.start_write(n);
            }
            return;
        }
        let outcome = self.chain.sign(header_bytes, payload).map_err(|fault| fault.to_string());
        self.later(Duration::from_micros(80), Event::Signed { node: n, life, ticket, outcome });
    }

    /// The guard is durable: the signer outside may be asked.
    fn ask_signer(&mut self, n: usize, ticket: Ticket) {
        let Some(life) = self.nodes[n].life() else { return };
        let Some(Unsigned { header_bytes, payload }) = self.nodes[n].unsigned.remove(&ticket) else {
            return self.fail(format!("n{n}: the guard of {ticket} was written, and nobody waits for it"));
        };
        let outcome = if !self.healed && self.dice.of(Purpose::Signer, n).f64() < self.plan.signer_fails {
            self.tally.count(State::SignerAway);
            self.publishing_goes_on();
            Err("the signer is away".to_owned())
        } else {
            self.chain.sign(&header_bytes, &payload).map_err(|fault| fault.to_string())
        };
        if let Ok(block) = &outcome {
            let id = block.id();
            self.check_originated(n, id);
        }
        let took = Duration::from_millis(self.dice.of(Purpose::Signer, n).u64(1..=80));
        self.later(took, Event::Signed { node: n, life, ticket, outcome });
    }

    /// One deadline: the core's next wakeup.
    fn rearm(&mut self, n: usize) {
        let wall_for_all = self.bug == Some(Bug::WallClockInTimeouts);
        let node = &mut self.nodes[n];
        let Some(syncer) = &node.syncer else { return };
        let Some(at) = syncer.next_wakeup() else {
            node.wake_at = None;
            return;
        };
        if node.wake_at == Some(at) {
            return;
        }
        node.wake_at = Some(at);
        let life = node.lives;
        let wait = at.saturating_sub(node.now(self.now, wall_for_all).elapsed);
        self.later(wait, Event::Wakeup { node: n, life, at });
    }

    pub fn on_wakeup(&mut self, n: usize, at: Duration) {
        let node = &mut self.nodes[n];
        if node.wake_at != Some(at) {
            return;
        }
        node.wake_at = None;
        self.handle(n, Input::Wakeup);
        let node = &mut self.nodes[n];
        let elapsed = self.now.saturating_sub(node.started);
        node.idle_wakeups = match node.wake_at {
            Some(next) if next <= elapsed => node.idle_wakeups + 1,
            _ => 0,
        };
        if node.idle_wakeups > 1_000 {
            self.fail(format!("n{n} wakes up again and again without time passing"));
        }
    }
}
