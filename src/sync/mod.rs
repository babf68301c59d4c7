//! The core: the only module that decides anything about blocks. Plain data and plain functions, no I/O, no clock.
//!
//! `node` gives it one [`Input`] after the other and carries out the [`Effect`]s in order. Effects are of two kinds:
//!
//! - *immediate* (`Judge`, `Fetch`, `Cancel`, `Penalize`, `Sign`, `Commit`): run at once;
//! - *after-durable* (`Reply`, `Announce`, `Broadcast`): run, in order, once every `Commit` before them is on disk.
//!
//! Invariants, asserted in release too:
//! 1. `tail <= hard <= soft <= target`, as far as each is there.
//! 2. `hard` never decreases and never changes its hash.
//! 3. `soft` decreases only together with a rising epoch, and never below `hard`.
//! 4. `target` rises only on a sequencer's signature.
//! 5. Nothing is told about a block of our own before it is durable.
//! 6. The same seed and the same inputs give the same effects.

mod backfill;
pub mod blame;
mod branches;
mod chain;
mod confirm;
pub mod cursor;
mod da;
mod exchange;
mod exclusions;
mod fetch;
mod peers;
mod pending;
mod prune;
mod publish;
mod reverse_sync;
pub mod serve;
mod settings;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use settings::{Config, History, Limits, Policy, Timing};
pub use words::*;

use crate::block::{BlockId, Hash, Header, Height, PublicKey};
use crate::clock::Now;
use crate::verify::{AuthenticBlock, Fault, Rules};

use backfill::Backfill;
use chain::Chain;
use confirm::Sightings;
use exclusions::Exclusions;
use fetch::Requests;
use peers::Peers;
use pending::Pending;
use prune::Pruning;
use publish::Publishing;
use reverse_sync::ReverseSync;

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
    /// Free disk space fell below the reserve, or rose above it again.
    StorageFull(bool),
    /// Stop accepting work from the host.
    Drain,
    /// The deadline of [`Syncer::next_wakeup`] has passed.
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
}

/// The core's state. See the module's documentation.
#[derive(Debug)]
pub struct Syncer {
    rules: Arc<Rules>,
    config: Config,
    rng: fastrand::Rng,

    /// What is stored, decided or durable.
    chain: Chain,
    /// What waits for the blocks before it.
    pending: Pending,
    peers: Peers,
    requests: Requests,
    exclusions: Exclusions,
    /// What DA has, above hard.
    sightings: Sightings,
    /// Everything before this position on DA has been reported, and kept until it was judged.
    known_before: DaPosition,
    publishing: Publishing,

    /// What hosts have acknowledged, by the names under which they do; bounded by `limits.consumers`.
    consumers: BTreeMap<String, Height>,
    pruning: Pruning,
    backfill: Backfill,
    /// Heights above hard of which evidence is kept; bounded by `limits.evidence`.
    evidence: BTreeSet<Height>,
    vetoed: Option<BlockId>,
    halted: Option<Halt>,
    /// Whatever is stored at its height must be this block.
    anchor: Option<Anchor>,
    reverse_sync: ReverseSync,
    /// DA names it at hard + 1, and nobody has given it to us.
    wanted: Option<BlockId>,
    storage_full: bool,
    draining: bool,

    /// Smoothed size of a block, in bytes; the first one's, which is a peer's head, to begin with.
    block_bytes: Option<usize>,
    /// Since when the height above soft is known to exist and is not here.
    gap_since: Option<Duration>,
    /// When soft last rose, or the target last changed.
    progress_at: Duration,
    /// When a peer that rests now can be asked again.
    retry_at: Option<Duration>,
    /// When peers that were behind may be asked for their heads again, out of ctx.
    behind_at: Option<Duration>,
    /// When a block whose time is ahead of our clock may be believed.
    believable_at: Option<Duration>,

    announced: Option<Heads>,
    immediate: Vec<Effect>,
    after_durable: Vec<Effect>,
    guard_change: Option<GuardEntry>,
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
    pub fn recover(config: Config, at: Recovered, seed: u64) -> Self {
        let mut rules = config.rules.clone();
        for entry in at.schedule {
            // The store has checked it; an entry that does not fit any more changes nothing.
            let _ = rules.schedule.append(entry);
        }
        let limits = config.limits;
        let mut heads = at.heads;
        if let (None, None, None) = (heads.top(), heads.lost, at.anchor) {
            let begin = config.history.trusted.map_or(rules.initial_height, |trusted| trusted.height);
            if begin < heads.tail {
                // It was to begin higher up, and what DA had below that was not kept.
                heads.scanned_through = 0;
            }
            heads.tail = begin;
        }
        Self {
            rules: Arc::new(rules),
            rng: fastrand::Rng::with_seed(seed),
            chain: Chain::new(heads),
            pending: Pending::new(limits.held_blocks, limits.held_bytes),
            peers: Peers::new(config.timing, limits.remembered_peers),
            requests: Requests::new(),
            exclusions: Exclusions::new(limits.exclusions),
            sightings: Sightings::new(at.sightings, limits.sightings, limits.sighting_bytes),
            known_before: DaPosition::after_height(heads.scanned_through),
            publishing: Publishing::new(config.signs, at.guard, limits.publish_queue),
            consumers: prune::consumers(at.consumers),
            pruning: Pruning::new(at.stored_bytes),
            backfill: Backfill::new(),
            evidence: at.evidence.into_iter().collect(),
            vetoed: at.vetoed,
            halted: at.halted,
            anchor: at.anchor,
            reverse_sync: ReverseSync::default(),
            wanted: None,
            storage_full: false,
            draining: false,
            block_bytes: None,
            gap_since: None,
            progress_at: Duration::ZERO,
            retry_at: None,
            behind_at: None,
            believable_at: None,
            announced: None,
            immediate: Vec::new(),
            after_durable: Vec::new(),
            guard_change: None,
            config,
        }
    }

    /// Takes one input and says what is to be done, in order. Never fails, never blocks, never reads a clock.
    #[must_use]
    pub fn handle(&mut self, now: Now, input: Input, stored: &dyn Stored) -> Vec<Effect> {
        let ctx = Ctx { now, stored };
        match input {
            Input::Publish { ticket, proposal } => self.publish(ctx, ticket, proposal),
            Input::PublishSigned { ticket, outcome } => self.publish_signed(ctx, ticket, outcome),
            Input::Signed { ticket, outcome } => self.signed(ctx, ticket, outcome),
            Input::Signer(key) => self.publishing.signs = key,
            Input::Gossip { peer, ticket, outcome } => self.gossip(ctx, &peer, ticket, outcome),
            Input::GossipMissed { peer } => self.probe_soon(now, &peer),
            Input::PeerUp { peer } => self.peers.up(peer, now.elapsed),
            Input::PeerDown { peer } => self.peer_down(&peer),
            Input::Fetched { request, fetched } => self.fetched(ctx, request, &fetched),
            Input::Da { ticket, report } => self.report(ctx, ticket, report),
            Input::HostRejected { ticket, block } => self.host_rejected(ctx, ticket, block),
            Input::Acked { ticket, consumer, up_to } => self.acked(ctx, ticket, consumer, up_to),
            Input::Operator { ticket, command } => self.operate(ctx, ticket, &command),
            Input::Durable { commit, stored_bytes } => {
                self.chain.durable(commit);
                self.pruning.durable(commit, stored_bytes);
            }
            Input::StorageFull(full) => self.storage_full = full,
            Input::Drain => self.drain_publishing(),
            Input::Wakeup => {}
        }
        self.advance(ctx);
        self.prune(ctx);
        self.ask_peers(ctx);
        self.flush()
    }

    /// The moment, on the clock of [`Now::elapsed`], at which [`Input::Wakeup`] is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Duration> {
        let probes = self.peers.iter().filter(|(_, peer)| peer.probe.is_none()).map(|(_, peer)| peer.probe_at).min();
        let patience = self.is_catching_up().then(|| self.progress_at + self.config.timing.target_patience);
        [self.requests.next_deadline(), probes, patience, self.retry_at, self.believable_at].into_iter().flatten().min()
    }

    #[must_use]
    pub fn heads(&self) -> Heads {
        self.chain.heads
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
        } else if self.halted.is_some() {
            Phase::Halted
        } else if self.behind() {
            Phase::Syncing
        } else if self.peers.len() == 0 && self.publishing.signs.is_none() {
            Phase::WaitingForPeers
        } else {
            Phase::Following
        }
    }

    #[must_use]
    pub fn standings(&self, now: Now) -> BTreeMap<PeerId, Standing> {
        self.peers.standings(now.elapsed)
    }

    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            heads: self.chain.heads,
            phase: self.phase(),
            forked: !self.evidence.is_empty() || self.peers.iter().any(|(_, peer)| peer.other_branch),
            history_unavailable: self.peers.lack_history(self.chain.heads.next_height()) || self.lacks_below(),
            halted: self.halted,
            vetoed: self.vetoed,
            not_ready: self.publishing.not_ready(self.chain.heads.soft_height()),
            wanted: self.wanted,
            received: self.chain.received,
            stored_bytes: self.pruning.stored_bytes,
            history: self.config.history,
            pruning_waits_for: self.pruning_waits_for(),
            held_blocks: self.pending.len(),
            open_requests: self.requests.len(),
            pending_sightings: self.sightings.len(),
            peers: self.peers.len(),
            storage_full: self.is_full(),
        }
    }

    /// Whether a block is proved to exist that we do not have.
    fn behind(&self) -> bool {
        let Heads { soft, target, .. } = self.chain.heads;
        target.map(|target| target.height) > soft.map(|soft| soft.id.height)
    }

    /// Whether the missing blocks are being asked for.
    fn is_catching_up(&self) -> bool {
        self.behind() && self.vetoed.is_none() && !self.is_full() && !self.draining
    }

    /// Goes as far as what is here allows.
    fn advance(&mut self, ctx: Ctx<'_>) {
        self.believable_at = None;
        if self.storage_full {
            // They get their answer.
            self.publish_waiting(ctx);
            return;
        }
        loop {
            let before = self.chain.heads;
            self.append_pending(ctx);
            self.judge_da(ctx);
            self.publish_waiting(ctx);
            if self.chain.heads == before {
                break;
            }
            self.progress_at = ctx.now.elapsed;
        }
    }

    /// Turns what was decided into effects: first what is immediate, then the commit, then what follows it.
    fn flush(&mut self) -> Vec<Effect> {
        // A signature is asked for after the commit that comes before it: its guard stands above that commit's.
        let (signs, mut effects): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.immediate).into_iter().partition(|effect| matches!(effect, Effect::Sign { .. }));
        let heads = self.chain.heads;
        let guard = self.guard_change.take();
        if let Some((id, changes)) = self.chain.take_changes() {
            effects.push(Effect::Commit(Batch { id, changes, heads, guard }));
        }
        effects.extend(signs);
        if self.announced != Some(heads) {
            self.announced = Some(heads);
            effects.push(Effect::Announce(heads));
        }
        effects.append(&mut self.after_durable);
        effects
    }

    fn reply(&mut self, ticket: Ticket, answer: Answer) {
        self.after_durable.push(Effect::Reply { ticket, answer });
    }

    fn penalize(&mut self, now: Now, peer: &PeerId, offence: Offence) {
        let ban = self.peers.offended(peer, offence, now.elapsed);
        self.immediate.push(Effect::Penalize { peer: peer.clone(), offence, ban });
    }
}
