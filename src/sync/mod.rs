//! The core: the only module that decides anything about blocks. Plain data and plain functions, no I/O, no clock.
//!
//! `node` gives it one [`Input`] after the other and carries out the [`Effect`]s in order. Effects are of two kinds:
//!
//! - *immediate* (`Judge`, `Fetch`, `Cancel`, `Penalize`, `TryKnownPeers`, `Sign`, `Commit`): run at once;
//! - *after-durable* (`Reply`, `Announce`, `Broadcast`): run, in order, once every `Commit` before them is on disk.
//!
//! Invariants, asserted in release too:
//! 1. `tail <= hard <= soft <= target`, as far as each is there.
//! 2. `hard` never decreases and never changes its hash.
//! 3. `soft` decreases only together with a rising epoch, and never below `hard`.
//! 4. `target` rises only on a sequencer's signature.
//! 5. Nothing is told about a block of our own before it is durable.
//! 6. The same seed and the same inputs give the same effects.

mod awaited;
mod backfill;
pub mod blame;
mod branches;
mod chain;
mod clock_watch;
mod confirm;
pub mod cursor;
mod da;
mod decision;
pub mod descent;
mod exchange;
mod fetching;
mod given_up;
pub mod hearing;
mod intake;
mod lost_words;
mod operator;
mod pending;
mod proved;
mod publish;
mod retention;
mod reverse_sync;
pub mod serve;
mod settings;
mod standing;
mod start;
mod strangers;
mod types;
mod waiting;
mod walked;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use hearing::UnheardRound;
pub use settings::{Acquaintance, Config, DaEvidence, History, Limits, Policy, Timing, Trusted};
pub use types::*;

use crate::block::{BlockId, Hash, Header, Height, PublicKey};
use crate::clock::Now;
use crate::verify::{AuthenticBlock, Fault, Rules};

use awaited::Awaited;
use backfill::Backfill;
use chain::Chain;
use clock_watch::ClockWatch;
use da::Da;
use decision::Decision;
use exchange::Exchange;
use given_up::GivenUp;
use hearing::Hearing;
use lost_words::LostWords;
use pending::Pending;
use proved::Proved;
use publish::Publishing;
use retention::{DiskSpace, Retention};
use reverse_sync::ReverseSync;
use standing::Standing;
use start::Beginning;
use strangers::Strangers;

/// Everything that can happen to the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// The host asks for a block to be made and signed here.
    Publish {
        ticket: Ticket,
        proposal: Proposal,
    },
    /// The host hands over a block that it signed itself.
    PublishSigned {
        ticket: Ticket,
        outcome: Result<AuthenticBlock, Fault>,
    },
    /// The answer to [`Effect::Sign`]; `Err` says why there is no signature.
    Signed {
        ticket: Ticket,
        outcome: Result<AuthenticBlock, String>,
    },
    /// A host signs from now on, with this key, or does so no longer.
    Signer(Option<PublicKey>),
    /// A message was gossiped to us; its verdict is awaited.
    Gossip {
        peer: PeerId,
        ticket: Ticket,
        outcome: Result<AuthenticBlock, Fault>,
    },
    /// A gossip message was dropped unread, because we are too busy; gossipsub will not bring it again.
    GossipMissed {
        peer: PeerId,
    },
    PeerUp {
        peer: PeerId,
    },
    PeerDown {
        peer: PeerId,
    },
    /// The answer to [`Effect::Fetch`] is here, and is being checked: it is late no more, whatever that takes.
    Arrived {
        request: RequestId,
    },
    /// The answer to [`Effect::Fetch`].
    Fetched {
        request: RequestId,
        fetched: Fetched,
    },
    /// The host, or a follower of our own, reports what DA has.
    Da {
        ticket: Ticket,
        report: DaReport,
    },
    /// The host's execution refuses this block.
    HostRejected {
        ticket: Ticket,
        block: BlockId,
    },
    /// A named consumer has processed everything up to this block.
    Acked {
        ticket: Ticket,
        consumer: String,
        up_to: BlockId,
    },
    Operator {
        ticket: Ticket,
        command: Command,
    },
    /// Every commit up to this one is on disk, and the blocks that are stored then have so many bytes.
    Durable {
        commit: CommitId,
        stored_bytes: u64,
    },
    /// The answer to [`Effect::TryKnownPeers`].
    KnownPeersTried {
        round: u64,
    },
    /// Free disk space fell below the reserve, or rose above it again.
    StorageFull(bool),
    /// Stop accepting work from the host.
    Drain,
    /// The deadline of [`Syncer::next_wakeup`] has passed, and no input waits that was there when it did.
    Wakeup,
}

/// Everything that the core can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Immediate: tells gossipsub what to do with the message.
    Judge { ticket: Ticket, verdict: Verdict },
    /// Immediate.
    Fetch(Fetch),
    /// Immediate: nobody waits for this answer any more.
    Cancel(RequestId),
    /// Immediate: lowers the peer's standing, and with `ban` keeps it away for that long.
    Penalize { peer: PeerId, offence: Offence, ban: Option<Duration> },
    /// Immediate: tries to connect everybody in the address book who is not connected, once.
    TryKnownPeers { round: u64 },
    /// Immediate: asks whoever holds the key to sign these header bytes. A signer outside of the process is asked only
    /// after `guard` is durable.
    Sign { ticket: Ticket, header_bytes: Bytes, payload: Bytes, guard: GuardEntry },
    /// Immediate, and everything after it that waits for durability waits for this.
    Commit(Batch),
    /// After durable.
    Reply { ticket: Ticket, answer: Answer },
    /// After durable.
    Announce(Heads),
    /// After durable: gossip this stored block.
    Broadcast(BlockId),
}

/// What the core may look up of what is already on disk. Reads are of committed state only, and of heights that the core
/// has no newer decision about.
pub trait Stored {
    /// The hash of the stored block at `height`.
    fn hash(&self, height: Height) -> Option<Hash>;
    /// The stored block's header: its time, and the ids by which hosts report it.
    fn header(&self, height: Height) -> Option<Header>;
    /// The SHA-256 of the whole stored block, and its size. That is work on all of its bytes.
    fn digest(&self, height: Height) -> Option<(Hash, usize)>;
    /// Where on DA the stored block at this height was confirmed.
    fn confirmation(&self, height: Height) -> Option<DaPosition>;
}

/// The core: its parts, each with its own state and invariants, and the little that belongs to none of them.
///
/// A part touches no fields but its own, and changes no other part but `Chain` and `Decision`, by their methods. What concerns
/// several of them is conducted here, and in the files of this module that are called after what happens: `intake`, `confirm`,
/// `branches`, `publish`, `operator`.
#[derive(Debug)]
pub struct Syncer {
    rules: Arc<Rules>,
    config: Config,

    /// What is stored, decided or durable.
    chain: Chain,
    /// Blocks that wait for those before them.
    pending: Pending,
    /// What is asked of which peer.
    exchange: Exchange,
    /// What DA has, above hard.
    da: Da,
    /// Whom our schedule does not know.
    strangers: Strangers,
    /// The veto, the halt, the evidence.
    standing: Standing,
    /// Pinned blocks, and the branch that they are on.
    reverse_sync: ReverseSync,
    /// How much is kept.
    retention: Retention,
    /// What is fetched below the tail.
    backfill: Backfill,
    /// The key, its guard, and what waits to be signed.
    publishing: Publishing,
    /// What a node that may sign waits for.
    awaited: Awaited,
    /// What of it DA has shown, where no sighting tells of it.
    proved: Proved,
    /// Whether it has heard enough of its peers.
    hearing: Hearing,
    /// Blocks that are no part of the chain any more.
    given_up: GivenUp,
    /// What was said to this node and is to be said again.
    lost_words: LostWords,
    /// What the present input leads to.
    decision: Decision,

    /// No more work is taken from the host.
    draining: bool,
    /// When a block whose time is ahead of our clock may be believed.
    believable_at: Option<Duration>,
    clock_watch: ClockWatch,
    /// When more is looked up of what is stored, since there was more than one decision may.
    look_up_at: Option<Duration>,
}

/// What every decision may look at.
#[derive(Clone, Copy)]
struct Ctx<'a> {
    now: Now,
    stored: &'a dyn Stored,
}

impl Syncer {
    /// Goes on from what was on disk.
    #[must_use]
    pub fn recover(mut config: Config, mut at: Recovered, seed: u64) -> Self {
        let schedule = config.rules.schedule.extended(std::mem::take(&mut at.schedule));
        let rules = Rules { schedule, ..Rules::clone(&config.rules) };
        config.limits.max_block_bytes = config.limits.max_block_bytes.min(rules.max_block_bytes);
        let (limits, history) = (config.limits, config.history);
        let committed = at.heads;
        let Beginning { heads, da, changes } = Beginning::of(&mut at, history, &rules);
        let mut decision = Decision::new(committed, changes);
        let trusted = history.trusted.map(|trusted| trusted.id);
        let mut chain = Chain::new(heads);
        let mut da = Da::recover(&config, da, &heads, &rules.schedule, &mut decision);
        // A host may ask where DA stands before there is any input.
        da.settle(&mut chain, &mut decision);
        let mut syncer = Self {
            chain,
            pending: Pending::new(limits.pending_blocks, limits.pending_bytes),
            exchange: Exchange::new(limits, config.timing, limits.max_block_bytes, seed),
            awaited: Awaited::new(limits.awaited),
            proved: Proved::new(at.proved, limits.awaited),
            da,
            hearing: Hearing::new(config.known_peers),
            given_up: GivenUp::new(at.disowned, limits.disowned),
            strangers: Strangers::default(),
            lost_words: LostWords::new(at.lost_words),
            standing: Standing::new(at.vetoed, at.halted, at.evidence, limits.evidence),
            reverse_sync: ReverseSync::new(at.anchor, trusted, limits.pending_blocks),
            retention: Retention::new(history, at.consumers, limits.consumers, at.stored_bytes),
            backfill: Backfill::new(history, rules.initial_height),
            publishing: Publishing::new(config.signs, at.guard, limits.publish_queue),
            decision,
            draining: false,
            believable_at: None,
            clock_watch: ClockWatch::default(),
            look_up_at: None,
            rules: Arc::new(rules),
            config,
        };
        syncer.recall_awaited();
        syncer
    }

    /// Takes one input and says what is to be done, in order. Never fails, never blocks, never reads a clock.
    #[must_use]
    pub fn handle(&mut self, now: Now, input: Input, stored: &dyn Stored) -> Vec<Effect> {
        let ctx = Ctx { now, stored };
        self.da.begin();
        self.begin(ctx);
        match input {
            Input::Publish { ticket, proposal } => self.publish(ctx, ticket, proposal),
            Input::PublishSigned { ticket, outcome } => self.publish_signed(ctx, ticket, outcome),
            Input::Signed { ticket, outcome } => self.signed(ctx, ticket, outcome),
            Input::Signer(key) => self.set_signer(ctx, key),
            Input::Gossip { peer, ticket, outcome } => self.gossip(ctx, &peer, ticket, outcome),
            Input::GossipMissed { peer } => self.exchange.probe_soon(now.elapsed, &peer),
            Input::PeerUp { peer } => self.peer_up(ctx, peer),
            Input::PeerDown { peer } => self.peer_down(&peer),
            Input::Arrived { request } => self.exchange.arrived(now.elapsed, request),
            Input::Fetched { request, fetched } => self.fetched(ctx, request, &fetched),
            Input::Da { ticket, report } => self.da_reported(ctx, ticket, report),
            Input::HostRejected { ticket, block } => self.host_rejected(ctx, ticket, block),
            Input::Acked { ticket, consumer, up_to } => self.acked(ctx, ticket, consumer, up_to),
            Input::Operator { ticket, command } => self.operate(ctx, ticket, &command),
            Input::Durable { commit, stored_bytes } => {
                self.chain.durable(commit);
                self.retention.durable(commit, stored_bytes);
            }
            Input::KnownPeersTried { round } => self.hearing.tried(round),
            Input::StorageFull(true) => self.retention.set_disk_space(DiskSpace::BelowReserve),
            Input::StorageFull(false) => self.retention.set_disk_space(DiskSpace::Enough),
            Input::Drain => self.drain(),
            Input::Wakeup => self.give_up_overdue(ctx),
        }
        self.advance(ctx);
        self.clock_watch.settle(&self.rules, self.chain.heads().soft_height(), now);
        self.prune(ctx);
        self.da.settle(&mut self.chain, &mut self.decision);
        self.keep_proved(ctx);
        self.look_up_at = self.da.goes_on_at_once().then_some(now.elapsed);
        self.ask_peers(ctx);
        self.hearing.look(now.elapsed, self.exchange.connected_peers());
        self.decision.take_effects(self.heads())
    }

    /// The moment, on the clock of [`Now::elapsed`], at which [`Input::Wakeup`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Duration> {
        let patience = self.is_catching_up().then(|| self.exchange.patience_ends());
        let walk = self.awaited.stall_ends().filter(|_| self.publishing.may_publish());
        let own = [patience, self.believable_at, self.look_up_at, walk, self.hearing.ends()];
        own.into_iter().chain([self.exchange.next_wakeup()]).flatten().min()
    }

    #[must_use]
    pub fn heads(&self) -> Heads {
        let heads = *self.chain.heads();
        if self.is_led_on() { heads } else { Heads { target: self.standing.vetoed().or(heads.soft_id()), ..heads } }
    }

    /// Whether blocks are missing above soft that somebody may have who is on our branch.
    pub(super) fn is_led_on(&self) -> bool {
        self.chain.is_behind() && !self.exchange.are_all_elsewhere(self.chain.heads().next_height())
    }

    /// The rules as they are now; a new `Arc` whenever the schedule has grown.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.draining {
            Phase::Draining
        } else if self.standing.halted().is_some() {
            Phase::Halted
        } else if self.is_led_on()
            // A block that the execution refuses is there all the same, and this node does not go beyond it.
            || self.standing.vetoed().is_some()
            || (self.has_yet_to_begin() && self.exchange.connected_peers() > 0)
        {
            Phase::Syncing
        } else if self.exchange.connected_peers() == 0 && !self.publishing.has_signer() {
            Phase::WaitingForPeers
        } else {
            Phase::Following
        }
    }

    /// Of whom peers have blocks, and whom our schedule does not name.
    #[must_use]
    pub fn unknown_proposer(&self) -> Option<UnknownProposer> {
        self.strangers.foremost()
    }

    #[must_use]
    pub fn peer_standings(&self, now: Now) -> BTreeMap<PeerId, PeerStanding> {
        self.exchange.standings(now.elapsed)
    }

    #[must_use]
    pub fn status(&self) -> Status {
        let heads = self.heads();
        Status {
            heads,
            phase: self.phase(),
            forked: self.standing.is_contradicted() || self.exchange.any_elsewhere(),
            history_unavailable: self.exchange.lack_history(heads.next_height()) || self.lacks_below_tail(),
            unknown_proposer: self.unknown_proposer(),
            ahead_of_clock: self.clock_watch.told(),
            halted: self.standing.halted(),
            vetoed: self.standing.vetoed(),
            not_ready: self.not_ready(),
            unheard: self.hearing.unheard(),
            wanted: self.da.wanted(),
            hard_waits: self.hard_waits(),
            passed_over: self.da.passed_over(),
            lowest_passed_over: self.da.lowest_passed_over(),
            below_trusted: self.da.below_trusted(),
            checkpoint: self.da.checkpoint(&heads),
            received: self.chain.received(),
            stored_bytes: self.retention.durable_bytes(),
            history: self.config.history,
            pruning_waits_for: self.retention.waits_for(&self.chain),
            held_blocks: self.pending.len(),
            open_requests: self.exchange.open_requests(),
            pending_sightings: self.da.len(),
            peers: self.exchange.connected_peers(),
            storage_full: self.is_full(),
            lost_words: self.lost_words.told(),
        }
    }

    /// Whether the block is not here that the operator trusts the chain to begin with.
    fn has_yet_to_begin(&self) -> bool {
        self.chain.heads().soft.is_none() && self.config.history.trusted.is_some()
    }

    /// Why hard does not rise.
    fn hard_waits(&self) -> Option<HardWait> {
        let heads = self.chain.heads();
        let trusted = self.config.history.trusted.map(|trusted| trusted.id);
        let beginning = trusted.filter(|_| self.has_yet_to_begin());
        let shown_by_da = heads.hard.is_none() && heads.floor.is_none();
        let unseen = trusted.filter(|trusted| shown_by_da && trusted.height == heads.tail);
        let (named, of_da) = match self.da.waits_for() {
            // While somebody leads to it, what is named is on its way.
            wait @ Some(HardWait::Named { .. }) => (wait.filter(|_| !self.is_led_on()), None),
            wait => (None, wait),
        };
        of_da.or(beginning.map(HardWait::Beginning)).or(unseen.map(HardWait::Trusted)).or(named)
    }

    /// At the first input, before it: what was on disk is looked at.
    fn begin(&mut self, ctx: Ctx<'_>) {
        if self.hearing.round() == 0 {
            self.raise_guard(ctx);
            self.hear_again(ctx);
            self.settle_awaited(ctx);
        }
    }

    /// Goes as far as what is here allows.
    fn advance(&mut self, ctx: Ctx<'_>) {
        self.believable_at = None;
        if self.retention.disk_is_full() {
            // They get their answer.
            self.settle_awaited(ctx);
            self.publish_waiting(ctx);
            return;
        }
        loop {
            let before = *self.chain.heads();
            self.append_pending(ctx);
            self.judge_da(ctx);
            self.settle_awaited(ctx);
            self.publish_waiting(ctx);
            if *self.chain.heads() == before {
                break;
            }
            self.exchange.progressed();
        }
    }

    /// Forgets what need not be kept any more; not while an operator has to look.
    fn prune(&mut self, ctx: Ctx<'_>) {
        if self.draining || self.standing.halted().is_some() {
            return;
        }
        if let Some(through) = self.retention.prune(&mut self.chain, ctx.stored, &mut self.decision) {
            self.da.forget_through(through, &mut self.decision);
        }
    }

    /// Nothing more can be taken in.
    fn is_full(&self) -> bool {
        self.retention.is_full(&self.chain)
    }
}
