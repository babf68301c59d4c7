//! The node: where the core, the store, the network and the API meet. Inputs go in, effects come out, in order; nothing is
//! decided here.
//!
//! ```text
//!   p2p events --.                                     .--> p2p commands   (immediate)
//!   API requests -+--> verify pool --.                 +--> signer         (immediate)
//!   signer -------'                   +--> Syncer --> effects
//!   writer (durable) ----------------+                 +--> writer         (Commit)
//!   timer, disk, shutdown -----------'                 '--> replies, announcements, broadcasts (after it is durable)
//! ```
//!
//! Every queue, its bound, and what happens when it is full:
//!
//! | queue | bound | when full |
//! |---|---|---|
//! | p2p events | p2p's share / `max_block_bytes` | gossip is ignored and the peer probed; the rest waits in p2p |
//! | API requests | the sessions' calls in flight | the API answers `overloaded` |
//! | verify pool, gossip | verify's share in bytes, half of it per peer | the message is ignored and the peer probed |
//! | verify pool, asked for | the core's open requests; the hosts' calls | cannot be: each was asked for once |
//! | commits | one in flight, the rest merged into one, but for what takes something back; `limits.commit_bytes` | the core takes nothing more in |
//! | effects that wait for a commit | the answers and broadcasts of these commits, an announcement between two of them | bounded by the calls in flight, and by the commits |
//! | p2p commands | verdicts and fetches asked for; 64 broadcasts | the oldest broadcast is dropped: peers ask for heads |
//!
//! Invariants:
//! 1. Effects run in the order in which the core gave them; those that wait for durability run in that order too.
//! 2. The core takes one input at a time, and its effects are begun before the next one.
//! 3. The loop waits for its inputs, and for no other task. It reads the disk itself: what the core looks up, the free space,
//!    and each block that is broadcast, which is read back whole. Otherwise it does no work on bytes that is longer than
//!    handing it over.
//! 4. A store that fails ends the process, and nothing that was decided on a failed read is done.

mod conditions;
mod host;
mod network;
mod parked;
mod pool;
mod signing;
mod turns;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{self, Announced, Request};
use crate::block::BlockId;
use crate::clock::Clock;
use crate::p2p;
use crate::store::{self, Reader, Store, StoreError};
use crate::sync::hearing::Round;
use crate::sync::{self, Effect, Floor, Heads, History, Input, Syncer, Ticket, UnheardRound};
use crate::util::printable::{Escape, Limit, printable};

use conditions::Conditions;
use host::{FIRST_TICKET, HostReply};
use parked::ParkedEffects;
use pool::{CheckJob, CheckSource, Load, Pool};
use signing::{KeyHolder, Unsigned};
use turns::{Overdue, Turn, Turns};
use writer::{CommitWriter, WriteId, Written};

/// How often the free disk space is looked at.
const DISK_INTERVAL: Duration = Duration::from_secs(2);

/// Everything that the parts need.
#[expect(missing_debug_implementations, reason = "it holds the proposer's key")]
pub struct Config {
    pub sync: sync::Config,
    pub store: store::Options,
    pub p2p: p2p::Config,
    pub api: api::Config,
    /// The seed of the proposer key, when this node signs by itself.
    pub proposer_key: Option<zeroize::Zeroizing<[u8; 32]>>,
    /// Gossip that waits for its checks.
    pub verify_bytes: usize,
    /// Free disk space below which nothing more is taken in.
    pub reserve_bytes: u64,
}

/// What the process tells the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Go on.
    No,
    /// Finish what was begun, for this long at most.
    Drain(Duration),
    /// At once.
    Abrupt,
}

/// Changes the log filter; `Err` says why not.
pub type SetLogFilter = Box<dyn Fn(&str) -> Result<(), String> + Send>;

/// The node's strings to the process around it.
#[expect(missing_debug_implementations, reason = "nothing in it has anything to show")]
pub struct Control {
    pub shutdown: watch::Receiver<Shutdown>,
    /// An operator asked for it over the API; the process decides, and tells `shutdown`.
    pub shutdown_requested: mpsc::Sender<api::ShutdownMode>,
    pub ready: oneshot::Sender<Ready>,
    pub set_log_filter: SetLogFilter,
}

/// The node serves now.
#[derive(Clone, Debug)]
pub struct Ready {
    pub peer_id: String,
    /// The actual addresses, each with `/p2p/<peer id>`.
    pub listen: Vec<String>,
}

/// Why the process must end. Each says what the operator should do.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    P2p(#[from] p2p::StartError),
    #[error(transparent)]
    Api(#[from] api::StartError),
    #[error("the store has the block {stored}, and sync.from says to trust {trusted} there")]
    OtherThanTrusted { trusted: BlockId, stored: BlockId },
    #[error("the system gives no threads: {0}")]
    Threads(std::io::Error),
    #[error("{0} ended unexpectedly: this is a bug; restart, and report it with the log")]
    Ended(&'static str),
}

/// Runs the node until it is told to stop.
///
/// # Errors
/// [`Fatal`] when it cannot start or go on.
pub async fn run(config: Config, control: Control) -> Result<(), Fatal> {
    let rules = config.sync.rules.clone();
    let options = config.store;
    let has_guard = options.guard.is_some();
    let opening = tokio::task::spawn_blocking(move || Store::open(&options, &rules));
    let (store, reader, recovered) = opening.await.map_err(|_| Fatal::Ended("opening the store"))??;
    check_trusted(&reader, config.sync.history.trusted.map(|trusted| trusted.id))?;
    let max_block_bytes = config.sync.limits.max_block_bytes;
    let clock = Clock::start();
    let limits = p2p::Limits::derive(config.p2p.memory_bytes, config.p2p.max_block_bytes);
    let event_room = limits.map_or(16, |limits| limits.gossip_unjudged);
    let (events_in, events) = mpsc::channel(event_room);
    let p2p = p2p::start(config.p2p, reader.clone(), events_in).await?;
    let sync = sync::Config { known_peers: p2p.known_peers, ..config.sync };
    let history = sync.history;
    let syncer = Syncer::recover(sync, recovered, fastrand::u64(..));
    warn_of_unused_beginning(&syncer.heads(), history);

    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (pool, checked) =
        Pool::start(Arc::clone(syncer.rules()), max_block_bytes, cores, config.verify_bytes).map_err(Fatal::Threads)?;
    let (writer, written) = CommitWriter::start(store).map_err(Fatal::Threads)?;
    let (requests_in, requests) = mpsc::channel(256);
    let announced = Announced { heads: syncer.heads(), phase: syncer.phase() };
    let (announce, announcements) = watch::channel(announced);
    let api = api::start(config.api, reader.clone(), announcements, requests_in)?;

    let signer =
        config.proposer_key.map(|seed| KeyHolder::Local(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed))));
    let node = Node {
        syncer,
        clock,
        reader,
        pool,
        writer,
        durable: WriteId::default(),
        last_write: WriteId::default(),
        parked: ParkedEffects::default(),
        inputs: VecDeque::new(),
        outbox: VecDeque::new(),
        replies: HashMap::new(),
        next_ticket: FIRST_TICKET,
        signer,
        signing: HashMap::new(),
        signatures: FuturesUnordered::new(),
        has_guard,
        announce,
        listen: Vec::new(),
        ready: Some(control.ready),
        conditions: Conditions::default(),
        reserve_bytes: config.reserve_bytes,
        storage_full: false,
        set_log_filter: control.set_log_filter,
        shutdown_requested: control.shutdown_requested,
        peer_id: p2p.local_peer_id.clone(),
    };
    let work = Work { outside: Turns::new(requests, events), checked, written };
    let inputs = Inputs { shutdown: control.shutdown, work };
    Box::pin(node.run(inputs, p2p, api)).await
}

/// Where the loop's inputs come from.
struct Inputs {
    shutdown: watch::Receiver<Shutdown>,
    work: Work,
}

/// Everything but the word to stop.
struct Work {
    outside: Turns<Request, p2p::Event>,
    checked: mpsc::Receiver<Input>,
    written: mpsc::Receiver<Written>,
}

impl Work {
    /// How many wait to be read.
    fn waiting(&self) -> usize {
        self.outside.waiting() + self.checked.len() + self.written.len()
    }
}

struct Node {
    syncer: Syncer,
    clock: Clock,
    reader: Reader,
    pool: Pool,
    writer: CommitWriter,
    /// Everything up to this write is on disk.
    durable: WriteId,
    /// The write of the newest commit that the core asked for.
    last_write: WriteId,
    /// Effects that wait for a write.
    parked: ParkedEffects,
    /// In line for the core.
    inputs: VecDeque<Input>,
    /// Commands that the network has not taken yet.
    outbox: VecDeque<p2p::Command>,
    replies: HashMap<Ticket, HostReply>,
    next_ticket: Ticket,
    signer: Option<KeyHolder>,
    /// At most one, since the core asks for one signature at a time.
    signing: HashMap<Ticket, Unsigned>,
    /// Answers of the host's signer that are awaited, at most one.
    signatures: FuturesUnordered<BoxFuture<'static, (Ticket, Option<[u8; 64]>)>>,
    /// Whether this node may sign, or take signed blocks from its host.
    has_guard: bool,
    announce: watch::Sender<Announced>,
    listen: Vec<String>,
    /// Told once.
    ready: Option<oneshot::Sender<Ready>>,
    /// What the log has told of what is wrong.
    conditions: Conditions,
    reserve_bytes: u64,
    storage_full: bool,
    set_log_filter: SetLogFilter,
    shutdown_requested: mpsc::Sender<api::ShutdownMode>,
    peer_id: String,
}

impl Node {
    async fn run(mut self, mut inputs: Inputs, p2p: p2p::Handle, api: api::Handle) -> Result<(), Fatal> {
        let mut disk = tokio::time::interval(DISK_INTERVAL);
        disk.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut overdue = Overdue::default();
        self.input(Input::Wakeup);
        loop {
            self.decide()?;
            let wakeup = self.syncer.next_wakeup().map(|at| self.clock.instant(at));
            if let Some(late) = overdue.turn(wakeup, std::time::Instant::now(), inputs.work.waiting()) {
                self.input(late);
                continue;
            }
            tokio::select! {
                biased;
                _ = inputs.shutdown.changed() => {
                    let shutdown = *inputs.shutdown.borrow_and_update();
                    match shutdown {
                        Shutdown::No => {}
                        Shutdown::Abrupt => return Ok(()),
                        Shutdown::Drain(grace) => return self.drain(inputs, &p2p, api, grace).await,
                    }
                }
                _ = disk.tick() => {
                    self.look_at_disk()?;
                    self.look_at_signer();
                    self.tell_conditions();
                }
                done = self.take_input(&mut inputs.work, &p2p) => done?,
                () = sleep_until(wakeup) => self.input(Input::Wakeup),
            }
        }
    }

    /// The next thing that waits to be read. Nobody waits for ever: what stands above `outside` comes only of what `outside` gave;
    /// the disk is looked at rarely, and a deadline waits for what waited when it passed, and not for what came later.
    async fn take_input(&mut self, work: &mut Work, p2p: &p2p::Handle) -> Result<(), Fatal> {
        tokio::select! {
            biased;
            written = work.written.recv() => self.written(written.ok_or(Fatal::Ended("the writer"))?)?,
            input = work.checked.recv() => self.input(input.ok_or(Fatal::Ended("the verify pool"))?),
            permit = p2p.commands.reserve(), if !self.outbox.is_empty() => {
                let permit = permit.map_err(|_| Fatal::Ended("the network"))?;
                if let Some(command) = self.outbox.pop_front() {
                    permit.send(command);
                }
            }
            Some((ticket, signature)) = self.signatures.next(), if !self.signatures.is_empty() => {
                self.signature(ticket, signature);
            }
            turn = work.outside.next() => match turn {
                Turn::First(request) => self.request(request.ok_or(Fatal::Ended("the API"))?),
                Turn::Second(event) => self.event(event.ok_or(Fatal::Ended("the network"))?),
            },
        }
        Ok(())
    }

    /// Finishes what was begun: no more work is taken, what was decided is written and answered, the hosts are told.
    async fn drain(
        mut self,
        mut inputs: Inputs,
        p2p: &p2p::Handle,
        api: api::Handle,
        grace: Duration,
    ) -> Result<(), Fatal> {
        let until = tokio::time::Instant::now() + grace;
        self.input(Input::Drain);
        self.decide()?;
        let shutdown = inputs.shutdown.clone();
        tokio::select! {
            finished = tokio::time::timeout_at(until, self.finish(&mut inputs.work, p2p)) => {
                if let Ok(outcome) = finished {
                    outcome?;
                } else {
                    tracing::warn!(?grace, "the grace is over: stopping with work unfinished; nothing acknowledged is lost");
                }
            }
            () = abrupt(shutdown) => return Ok(()),
        }
        // Whoever still waits will hear no more from here, and must not hold up the end.
        drop(inputs);
        self.replies.clear();
        api.drain(until.saturating_duration_since(tokio::time::Instant::now())).await;
        Ok(())
    }

    /// Until all that was decided is written, and answered. What is asked from now on is answered `draining`, and so no longer
    /// than what was asked before.
    async fn finish(&mut self, work: &mut Work, p2p: &p2p::Handle) -> Result<(), Fatal> {
        while !self.writer.is_idle() || !self.replies.is_empty() || !self.outbox.is_empty() {
            tokio::select! {
                biased;
                written = work.written.recv() => self.written(written.ok_or(Fatal::Ended("the writer"))?)?,
                input = work.checked.recv() => self.input(input.ok_or(Fatal::Ended("the verify pool"))?),
                Some((ticket, signature)) = self.signatures.next(), if !self.signatures.is_empty() => {
                    self.signature(ticket, signature);
                }
                permit = p2p.commands.reserve(), if !self.outbox.is_empty() => {
                    let permit = permit.map_err(|_| Fatal::Ended("the network"))?;
                    if let Some(command) = self.outbox.pop_front() {
                        permit.send(command);
                    }
                }
                request = work.outside.first.recv() => self.request(request.ok_or(Fatal::Ended("the API"))?),
            }
            self.decide()?;
        }
        Ok(())
    }

    /// Puts an input into the line for the core. The loop calls [`Self::decide`] next.
    fn input(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    /// Has the checks of an input done: elsewhere, or here when that is quicker.
    fn check(&mut self, source: CheckSource, load: Load, job: CheckJob) {
        if let Some(input) = self.pool.submit(source, load, job) {
            self.input(input);
        }
    }

    /// Gives the core the inputs in line, and what follows from them, until nothing follows.
    fn decide(&mut self) -> Result<(), Fatal> {
        while let Some(input) = self.inputs.pop_front() {
            let rules = Arc::clone(self.syncer.rules());
            let stored = self.reader.for_core();
            let effects = self.syncer.handle(self.clock.now(), input, &stored);
            if let Some(error) = stored.failure() {
                return Err(error.into());
            }
            for effect in effects {
                self.carry_out(effect);
            }
            if !Arc::ptr_eq(&rules, self.syncer.rules()) {
                self.pool.set_rules(Arc::clone(self.syncer.rules()));
            }
        }
        self.run_durable();
        let phase = self.syncer.phase();
        self.announce.send_if_modified(|announced| std::mem::replace(&mut announced.phase, phase) != phase);
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Judge { ticket, verdict } => self.command(p2p::Command::Judge { ticket, verdict }),
            Effect::Fetch(fetch) => self.command(p2p::Command::Fetch(fetch)),
            Effect::Cancel(request) => self.command(p2p::Command::Cancel(request)),
            Effect::Penalize { peer, offence, ban } => {
                tracing::info!(?peer, reason = offence.reason(), ?ban, "a peer did something wrong");
                if let Some(duration) = ban {
                    self.command(p2p::Command::Ban { peer, offence, duration });
                }
            }
            Effect::TryKnownPeers { round } => self.command(p2p::Command::TryKnownPeers { round }),
            Effect::Sign { ticket, header_bytes, payload, guard } => {
                self.sign(ticket, Unsigned { header_bytes, payload, guard });
            }
            Effect::Commit(batch) => self.last_write = self.writer.commit(batch),
            Effect::Reply { .. } | Effect::Announce(_) | Effect::Broadcast(_) => {
                self.parked.park(self.last_write, effect);
            }
        }
    }

    /// Runs the effects whose writes are on disk.
    fn run_durable(&mut self) {
        while let Some(effect) = self.parked.release(self.durable) {
            match effect {
                Effect::Reply { ticket, answer } => self.reply(ticket, answer),
                Effect::Announce(heads) => {
                    self.announce.send_if_modified(|announced| std::mem::replace(&mut announced.heads, heads) != heads);
                }
                Effect::Broadcast(id) => self.broadcast(id),
                _ => {}
            }
        }
    }

    fn written(&mut self, written: Written) -> Result<(), Fatal> {
        match written {
            Written::Durable { commit, stored_bytes } => {
                self.durable = self.writer.written();
                self.input(Input::Durable { commit, stored_bytes });
            }
            Written::Guarded(ticket) => self.ask_signer(ticket),
            Written::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Whoever reads the log only is told what is wrong, too.
    fn tell_conditions(&mut self) {
        let status = self.syncer.status();
        for (condition, text) in self.conditions.news(&status, self.clock.now().elapsed) {
            if let Some(why) = text {
                tracing::warn!(condition, "{}", printable(&why, Escape::DebugButQuotes, Limit::TextChars(512)));
            } else {
                tracing::info!(condition, "it is over");
            }
        }
        if let Some(UnheardRound { round, .. }) = self.conditions.unheard(status.unheard) {
            let Round { connected, heard, .. } = round;
            tracing::warn!(
                connected,
                heard,
                "signing goes on, though not every known peer was heard: what this key has signed, and only they have, would be \
                 contradicted"
            );
        }
    }

    fn look_at_disk(&mut self) -> Result<(), Fatal> {
        let free = self.reader.free_bytes()?;
        // Twice the reserve's tenth apart, or it would flutter at the edge.
        let full =
            free < self.reserve_bytes.saturating_add(if self.storage_full { self.reserve_bytes / 10 } else { 0 });
        if full != self.storage_full {
            tracing::warn!(free, reserve = self.reserve_bytes, full, "free disk space");
            self.storage_full = full;
            self.input(Input::StorageFull(full));
        }
        Ok(())
    }
}

/// A store that has another block than the trusted one follows another chain.
fn check_trusted(reader: &Reader, trusted: Option<BlockId>) -> Result<(), Fatal> {
    let Some(trusted) = trusted else { return Ok(()) };
    match reader.snapshot().hash(trusted.height)? {
        Some(hash) if hash != trusted.hash => {
            Err(Fatal::OtherThanTrusted { trusted, stored: BlockId { height: trusted.height, hash } })
        }
        _ => Ok(()),
    }
}

/// `sync.from` is for an empty store.
fn warn_of_unused_beginning(heads: &Heads, history: History) {
    let Some(trusted) = history.trusted else { return };
    let named = trusted.da.map(|da| Floor { id: trusted.id, da });
    if heads.floor != named {
        let began = heads
            .floor
            .map_or_else(|| "without a floor on DA".to_owned(), |floor| format!("with {}@{}", floor.id, floor.da));
        tracing::warn!(
            trusted = %trusted.id,
            "sync.from is not used: it is for an empty store, and this one began {began}; to begin with it, set the store aside (README)"
        );
    }
}

/// Waits until the process is told to end at once.
async fn abrupt(mut shutdown: watch::Receiver<Shutdown>) {
    while *shutdown.borrow_and_update() != Shutdown::Abrupt {
        if shutdown.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn sleep_until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
