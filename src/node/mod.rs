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
//! | commits | one in flight, the rest merged into one; `limits.commit_bytes` | the core takes nothing more in |
//! | effects that wait for a commit | one per input of the same commits | bounded by the inputs above |
//! | p2p commands | verdicts and fetches asked for; 64 broadcasts | the oldest broadcast is dropped: peers ask for heads |
//!
//! Invariants:
//! 1. Effects run in the order in which the core gave them; those that wait for durability run in that order too.
//! 2. The loop never waits for anything but its inputs.
//! 3. A store that fails ends the process.

mod pool;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::Signer as _;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{self, Announced, NodeStatus, ReportedAs, ReportedSighting, Request, SignRequest};
use crate::block::{Hash, Lane, PublicKey, native};
use crate::clock::Clock;
use crate::p2p;
use crate::store::{self, Reader, Store, StoreError};
use crate::sync::{
    self, Answer, Command, CommitId, DaReport, Effect, Ended, Fetched, GuardEntry, Input, PeerId, PublishAnswer, Seen,
    Sighting, Syncer, Ticket, Verdict,
};

use pool::{Checker, Pool, Source};
use writer::{Writer, Written};

/// Broadcasts that wait for the network to take them.
const MAX_BROADCASTS: usize = 64;

/// How often the free disk space is looked at.
const DISK_INTERVAL: Duration = Duration::from_secs(2);

/// How long a host's signer may think about one block.
const SIGNER_TIMEOUT: Duration = Duration::from_secs(10);

/// Tickets of our own are numbered from here, so that in a log they cannot be taken for the network's.
const FIRST_TICKET: Ticket = Ticket(1 << 63);

/// Everything that the parts need.
#[expect(missing_debug_implementations, reason = "it holds the proposer's key")]
pub struct Config {
    pub sync: sync::Config,
    pub store: store::Options,
    pub p2p: p2p::Config,
    pub api: api::Config,
    /// The seed of the proposer key, when this node signs by itself.
    pub proposer_key: Option<zeroize::Zeroizing<[u8; 32]>>,
    /// Gossip that waits for its checks, and the cache of what passed.
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
    pub shutdown_requested: mpsc::Sender<bool>,
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
    let clock = Clock::start();
    let syncer = Syncer::recover(config.sync, recovered, fastrand::u64(..));

    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (pool, checked) =
        Pool::start(Arc::clone(syncer.rules()), cores, config.verify_bytes).map_err(Fatal::Threads)?;
    let (writer, written) = Writer::start(store).map_err(Fatal::Threads)?;
    let limits = p2p::Limits::derive(config.p2p.memory_bytes, config.p2p.max_block_bytes);
    let event_room = limits.map_or(16, |limits| limits.gossip_unjudged);
    let (events_in, events) = mpsc::channel(event_room);
    let p2p = p2p::start(config.p2p, reader.clone(), events_in).await?;
    let (requests_in, requests) = mpsc::channel(256);
    let announced = Announced { heads: syncer.heads(), phase: syncer.phase() };
    let (announce, announcements) = watch::channel(announced);
    let api = api::start(config.api, reader.clone(), announcements, requests_in)?;

    let signer = config.proposer_key.map(|seed| Signer::Local(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed))));
    let node = Node {
        syncer,
        clock,
        reader,
        pool,
        writer,
        durable: CommitId(0),
        last_commit: CommitId(0),
        after_durable: VecDeque::new(),
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
        reserve_bytes: config.reserve_bytes,
        storage_full: false,
        set_log_filter: control.set_log_filter,
        shutdown_requested: control.shutdown_requested,
        peer_id: p2p.local_peer_id.clone(),
    };
    let inputs = Inputs { events, requests, checked, written, shutdown: control.shutdown };
    node.run(inputs, p2p, api).await
}

/// Where the loop's inputs come from.
struct Inputs {
    events: mpsc::Receiver<p2p::Event>,
    requests: mpsc::Receiver<Request>,
    checked: mpsc::Receiver<Input>,
    written: mpsc::Receiver<Written>,
    shutdown: watch::Receiver<Shutdown>,
}

/// Who holds the proposer's key.
enum Signer {
    Local(Box<ed25519_dalek::SigningKey>),
    Host(mpsc::Sender<SignRequest>),
}

/// Who waits for an answer of the core.
enum Reply {
    Publish(oneshot::Sender<PublishAnswer>),
    Report(oneshot::Sender<api::Reported>),
    Reject(oneshot::Sender<sync::RejectAnswer>),
    Ack(oneshot::Sender<bool>),
    Operate(oneshot::Sender<Result<(), String>>),
}

/// A block that waits for a signature from outside.
struct Unsigned {
    header_bytes: Bytes,
    payload: Bytes,
    guard: GuardEntry,
}

struct Node {
    syncer: Syncer,
    clock: Clock,
    reader: Reader,
    pool: Pool,
    writer: Writer,
    /// Everything up to this commit is on disk.
    durable: CommitId,
    /// The newest commit that the core asked for.
    last_commit: CommitId,
    /// Effects, each with the commit that it waits for.
    after_durable: VecDeque<(CommitId, Effect)>,
    /// Inputs that the node itself has for the core.
    inputs: VecDeque<Input>,
    /// Commands that the network has not taken yet.
    outbox: VecDeque<p2p::Command>,
    replies: HashMap<Ticket, Reply>,
    next_ticket: Ticket,
    signer: Option<Signer>,
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
    reserve_bytes: u64,
    storage_full: bool,
    set_log_filter: SetLogFilter,
    shutdown_requested: mpsc::Sender<bool>,
    peer_id: String,
}

impl Node {
    async fn run(mut self, mut inputs: Inputs, p2p: p2p::Handle, api: api::Handle) -> Result<(), Fatal> {
        let mut disk = tokio::time::interval(DISK_INTERVAL);
        disk.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.decide(Input::Wakeup);
        loop {
            let wakeup = self.syncer.next_wakeup().map(|at| self.clock.instant(at));
            // In this order: what waits to be read is read before a deadline is judged.
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
                written = inputs.written.recv() => self.written(written.ok_or(Fatal::Ended("the writer"))?)?,
                input = inputs.checked.recv() => self.decide(input.ok_or(Fatal::Ended("the verify pool"))?),
                permit = p2p.commands.reserve(), if !self.outbox.is_empty() => {
                    let permit = permit.map_err(|_| Fatal::Ended("the network"))?;
                    if let Some(command) = self.outbox.pop_front() {
                        permit.send(command);
                    }
                }
                Some((ticket, signature)) = self.signatures.next(), if !self.signatures.is_empty() => {
                    self.signature(ticket, signature);
                }
                request = inputs.requests.recv() => self.request(request.ok_or(Fatal::Ended("the API"))?),
                event = inputs.events.recv() => self.event(event.ok_or(Fatal::Ended("the network"))?),
                _ = disk.tick() => {
                    self.look_at_disk()?;
                    self.look_at_signer();
                }
                () = sleep_until(wakeup) => self.decide(Input::Wakeup),
            }
        }
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
        self.decide(Input::Drain);
        // What is asked from now on is answered `draining`, and so no longer than what was asked before.
        let finish = async {
            while !self.writer.is_idle() || !self.replies.is_empty() || !self.outbox.is_empty() {
                tokio::select! {
                    biased;
                    written = inputs.written.recv() => self.written(written.ok_or(Fatal::Ended("the writer"))?)?,
                    input = inputs.checked.recv() => self.decide(input.ok_or(Fatal::Ended("the verify pool"))?),
                    Some((ticket, signature)) = self.signatures.next(), if !self.signatures.is_empty() => {
                        self.signature(ticket, signature);
                    }
                    permit = p2p.commands.reserve(), if !self.outbox.is_empty() => {
                        let permit = permit.map_err(|_| Fatal::Ended("the network"))?;
                        if let Some(command) = self.outbox.pop_front() {
                            permit.send(command);
                        }
                    }
                    request = inputs.requests.recv() => self.request(request.ok_or(Fatal::Ended("the API"))?),
                }
            }
            Ok::<(), Fatal>(())
        };
        let abrupt = async {
            while *inputs.shutdown.borrow_and_update() != Shutdown::Abrupt {
                if inputs.shutdown.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            finished = tokio::time::timeout_at(until, finish) => {
                if let Ok(outcome) = finished {
                    outcome?;
                } else {
                    tracing::warn!(?grace, "the grace is over: stopping with work unfinished; nothing acknowledged is lost");
                }
            }
            () = abrupt => return Ok(()),
        }
        // Whoever still waits will hear no more from here, and must not hold up the end.
        drop(inputs);
        self.replies.clear();
        api.drain(until.saturating_duration_since(tokio::time::Instant::now())).await;
        Ok(())
    }

    /// Gives the core one input, then what followed from it, until nothing follows.
    fn decide(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            let rules = Arc::clone(self.syncer.rules());
            for effect in self.syncer.handle(self.clock.now(), input, &self.reader) {
                self.carry_out(effect);
            }
            if !Arc::ptr_eq(&rules, self.syncer.rules()) {
                self.pool.set_rules(Arc::clone(self.syncer.rules()));
            }
        }
        self.run_durable();
        let phase = self.syncer.phase();
        self.announce.send_if_modified(|announced| std::mem::replace(&mut announced.phase, phase) != phase);
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
            Effect::Sign { ticket, header_bytes, payload, guard } => {
                self.sign(ticket, Unsigned { header_bytes, payload, guard });
            }
            Effect::Commit(batch) => {
                self.last_commit = batch.id;
                self.writer.commit(batch);
            }
            Effect::Reply { .. } | Effect::Announce(_) | Effect::Broadcast(_) => {
                self.after_durable.push_back((self.last_commit, effect));
            }
        }
    }

    /// Runs the effects whose commits are on disk.
    fn run_durable(&mut self) {
        while let Some((_, effect)) = self.after_durable.pop_front_if(|(commit, _)| *commit <= self.durable) {
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
            Written::Durable(commit) => {
                self.durable = commit;
                self.writer.written();
                self.decide(Input::Durable(commit));
            }
            Written::Guarded(ticket) => self.ask_signer(ticket),
            Written::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    // -----------------------------------------------------------------------------------------------------------------
    // The network

    fn command(&mut self, command: p2p::Command) {
        if let p2p::Command::Broadcast { .. } = command {
            let is_broadcast = |command: &p2p::Command| matches!(command, p2p::Command::Broadcast { .. });
            if self.outbox.iter().filter(|command| is_broadcast(command)).count() >= MAX_BROADCASTS
                && let Some(oldest) = self.outbox.iter().position(is_broadcast)
            {
                self.outbox.remove(oldest);
            }
        }
        self.outbox.push_back(command);
    }

    fn broadcast(&mut self, id: crate::block::BlockId) {
        match self.reader.snapshot().block(id.height) {
            Ok(Some((block, _))) if block.hash() == id.hash => {
                self.command(p2p::Command::Broadcast { lane: Lane::BLOCK, bytes: block.bytes().clone() });
            }
            Ok(_) => tracing::debug!(%id, "a block was taken back before it was broadcast"),
            Err(error) => tracing::error!(%id, %error, "a block cannot be read to be broadcast"),
        }
    }

    fn event(&mut self, event: p2p::Event) {
        match event {
            p2p::Event::Listening(address) => {
                tracing::info!(%address, "listening");
                self.listen.push(address);
            }
            p2p::Event::Started => self.say_ready(),
            p2p::Event::PeerUp(peer) => self.decide(Input::PeerUp { peer }),
            p2p::Event::PeerDown(peer) => self.decide(Input::PeerDown { peer }),
            p2p::Event::GossipMissed(peer) => self.decide(Input::GossipMissed { peer }),
            p2p::Event::Gossip { peer, ticket, lane, bytes } => self.check_gossip(peer, ticket, lane, bytes),
            p2p::Event::Fetched { request, lane, bodies, ended } => {
                let check = move |checker: &Checker| Input::Fetched {
                    request,
                    fetched: check_answer(checker, lane, &bodies, ended),
                };
                self.pool.submit(Source::Answer(request), Box::new(check));
            }
        }
    }

    fn say_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            // Whoever asked may have gone away.
            let _ = ready.send(Ready { peer_id: self.peer_id.clone(), listen: self.listen.clone() });
        }
    }

    fn check_gossip(&mut self, peer: PeerId, ticket: Ticket, lane: Lane, bytes: Bytes) {
        let (source, size) = (Source::Peer(peer.clone()), bytes.len());
        let from = peer.clone();
        let check = move |checker: &Checker| {
            let outcome = checker.check(lane, &bytes);
            Input::Gossip { peer: from, ticket, outcome }
        };
        if self.pool.try_submit(source, size, Box::new(check)).is_err() {
            self.command(p2p::Command::Judge { ticket, verdict: Verdict::Ignore });
            self.decide(Input::GossipMissed { peer });
        }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // The host

    fn ticket(&mut self, reply: Reply) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.next();
        self.replies.insert(ticket, reply);
        ticket
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Publish { mut proposal, reply } => {
                let ticket = self.ticket(Reply::Publish(reply));
                let hash = move |_: &Checker| {
                    proposal.payload_hash = Hash::of(&proposal.payload);
                    Input::Publish { ticket, proposal }
                };
                self.pool.submit(Source::Host, Box::new(hash));
            }
            Request::PublishSigned { bytes, reply } => {
                let ticket = self.ticket(Reply::Publish(reply));
                let check = move |checker: &Checker| Input::PublishSigned {
                    ticket,
                    outcome: checker.check(Lane::BLOCK, &bytes),
                };
                self.pool.submit(Source::Host, Box::new(check));
            }
            Request::Report { after, scanned_through, sightings, reply } => {
                let ticket = self.ticket(Reply::Report(reply));
                let check = move |checker: &Checker| {
                    let sightings = sightings.into_iter().map(|sighting| check_sighting(checker, sighting)).collect();
                    Input::Da { ticket, report: DaReport { after, scanned_through, sightings } }
                };
                self.pool.submit(Source::Host, Box::new(check));
            }
            Request::Reject { block, reply } => {
                let ticket = self.ticket(Reply::Reject(reply));
                self.decide(Input::HostRejected { ticket, block });
            }
            Request::Ack { consumer, up_to, reply } => {
                let ticket = self.ticket(Reply::Ack(reply));
                self.decide(Input::Acked { ticket, consumer, up_to });
            }
            Request::Operate { command, reply } => self.operate(command, reply),
            Request::Status { reply } => {
                let status = NodeStatus {
                    core: self.syncer.status(),
                    uptime: self.clock.now().elapsed,
                    listen: self.listen.clone(),
                };
                let _ = reply.send(status);
            }
            Request::Peers { reply } => self.command(p2p::Command::Peers(reply)),
            Request::Schedule { reply } => {
                let _ = reply.send(self.syncer.rules().schedule.entries().collect());
            }
            Request::SetSigner { key, signatures, reply } => {
                let _ = reply.send(self.set_signer(key, signatures));
            }
            Request::SetLogFilter { filter, reply } => {
                let _ = reply.send((self.set_log_filter)(&filter));
            }
            Request::Shutdown { abrupt } => {
                // The process hears it once; more of the same say nothing new.
                let _ = self.shutdown_requested.try_send(abrupt);
            }
        }
    }

    /// Hands the core's answer to who waits for it. Somebody who went away waits no longer.
    fn reply(&mut self, ticket: Ticket, answer: Answer) {
        match (self.replies.remove(&ticket), answer) {
            (Some(Reply::Publish(reply)), Answer::Publish(answer)) => drop(reply.send(answer)),
            (Some(Reply::Report(reply)), Answer::Report(answer)) => {
                let sync::ReportAnswer { scanned_through, wanted, junk } = answer;
                drop(reply.send(api::Reported { scanned_through, wanted, junk }));
            }
            (Some(Reply::Reject(reply)), Answer::Reject(answer)) => drop(reply.send(answer)),
            (Some(Reply::Ack(reply)), Answer::Ack(known)) => drop(reply.send(known)),
            (Some(Reply::Operate(reply)), Answer::Operator(outcome)) => drop(reply.send(outcome)),
            (_, answer) => tracing::error!(%ticket, ?answer, "an answer that nobody asked for: this is a bug"),
        }
    }

    fn operate(&mut self, command: Command, reply: oneshot::Sender<Result<(), String>>) {
        if let Command::AssertSigned(_) = command
            && !self.has_guard
        {
            let _ = reply.send(Err("this node has no guard file, so it never signs".to_owned()));
            return;
        }
        let ticket = self.ticket(Reply::Operate(reply));
        self.decide(Input::Operator { ticket, command });
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Signing

    /// A host offers to sign. A key file has precedence, and the key must be one that may propose.
    fn set_signer(&mut self, key: PublicKey, signatures: mpsc::Sender<SignRequest>) -> Result<(), String> {
        if let Some(Signer::Local(_)) = self.signer {
            return Err("this node signs with a key file of its own".to_owned());
        }
        if !self.has_guard {
            return Err("this node has no guard file (signer.guard), without which nothing is signed".to_owned());
        }
        if !self.syncer.rules().schedule.entries().any(|entry| entry.proposer == key) {
            return Err(format!("{key} proposes at no height of this chain"));
        }
        self.signer = Some(Signer::Host(signatures));
        self.decide(Input::Signer(Some(key)));
        Ok(())
    }

    fn sign(&mut self, ticket: Ticket, unsigned: Unsigned) {
        match &self.signer {
            Some(Signer::Local(key)) => {
                let signature = key.sign(&native::signing_message(&unsigned.header_bytes)).to_bytes();
                self.check_signed(ticket, unsigned, signature);
            }
            Some(Signer::Host(_)) => {
                self.writer.guard(ticket, unsigned.guard);
                self.signing.insert(ticket, unsigned);
            }
            None => self.inputs.push_back(Input::Signed { ticket, outcome: Err("the signer is gone".to_owned()) }),
        }
    }

    /// The guard is durable: the signer outside may be asked.
    fn ask_signer(&mut self, ticket: Ticket) {
        let Some(unsigned) = self.signing.get(&ticket) else { return };
        let (reply, signature) = oneshot::channel();
        let message = native::signing_message(&unsigned.header_bytes).into();
        let asked = match &self.signer {
            Some(Signer::Host(signatures)) => {
                signatures.try_send(SignRequest { message, id: unsigned.guard.last, reply }).is_ok()
            }
            _ => false,
        };
        if asked {
            self.signatures.push(Box::pin(async move {
                let outcome = tokio::time::timeout(SIGNER_TIMEOUT, signature).await;
                (ticket, outcome.ok().and_then(Result::ok))
            }));
        } else {
            self.signature(ticket, None);
        }
    }

    /// A signature has come from outside, or will not.
    fn signature(&mut self, ticket: Ticket, signature: Option<[u8; 64]>) {
        let Some(unsigned) = self.signing.remove(&ticket) else { return };
        if let Some(signature) = signature {
            self.check_signed(ticket, unsigned, signature);
        } else {
            let outcome = Err("the host's signer did not sign: publish the same block again".to_owned());
            self.decide(Input::Signed { ticket, outcome });
        }
    }

    /// Every signature is checked, our own too: a broken key must not become a broken chain.
    fn check_signed(&mut self, ticket: Ticket, unsigned: Unsigned, signature: [u8; 64]) {
        let check = move |checker: &Checker| {
            let bytes = native::encode(&unsigned.header_bytes, &signature, &unsigned.payload);
            let outcome = checker.check(Lane::BLOCK, &bytes);
            Input::Signed { ticket, outcome: outcome.map_err(|fault| format!("the signed block is refused: {fault}")) }
        };
        self.pool.submit(Source::Signer, Box::new(check));
    }

    /// A host that took its signer away signs no longer.
    fn look_at_signer(&mut self) {
        if let Some(Signer::Host(signatures)) = &self.signer
            && signatures.is_closed()
        {
            self.signer = None;
            self.decide(Input::Signer(None));
        }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // The disk

    fn look_at_disk(&mut self) -> Result<(), Fatal> {
        let free = self.reader.free_bytes()?;
        // Twice the reserve's tenth apart, or it would flutter at the edge.
        let full =
            free < self.reserve_bytes.saturating_add(if self.storage_full { self.reserve_bytes / 10 } else { 0 });
        if full != self.storage_full {
            tracing::warn!(free, reserve = self.reserve_bytes, full, "free disk space");
            self.storage_full = full;
            self.decide(Input::StorageFull(full));
        }
        Ok(())
    }
}

/// An answer from the network, each block checked. What comes after a bad one is not looked at.
fn check_answer(checker: &Checker, lane: Lane, bodies: &[Bytes], ended: p2p::StreamEnded) -> Fetched {
    let mut blocks = Vec::with_capacity(bodies.len());
    for body in bodies {
        match checker.check(lane, body) {
            Ok(block) => blocks.push(block),
            Err(fault) => return Fetched { blocks, ended: Ended::Invalid(Some(fault)) },
        }
    }
    let ended = match ended {
        p2p::StreamEnded::Complete => Ended::Complete,
        p2p::StreamEnded::Cut => Ended::Cut,
        p2p::StreamEnded::NotFound => Ended::NotFound,
        p2p::StreamEnded::Reset => Ended::Reset,
        p2p::StreamEnded::Timeout => Ended::Timeout,
        p2p::StreamEnded::Disconnected => Ended::Disconnected,
        p2p::StreamEnded::Unsupported => Ended::Unsupported,
        p2p::StreamEnded::Broken => Ended::Invalid(None),
        p2p::StreamEnded::NotSent => Ended::NotSent,
    };
    Fetched { blocks, ended }
}

/// What a host reports, its blocks checked. A block that fails is junk: anybody can post to DA.
fn check_sighting(checker: &Checker, reported: ReportedSighting) -> Sighting {
    let ReportedSighting { position, height, what } = reported;
    let what = match what {
        ReportedAs::Hash(hash) => Seen::Hash(hash),
        ReportedAs::HostId(id) => Seen::HostId(id),
        ReportedAs::PayloadHash(hash) => Seen::PayloadHash(hash),
        ReportedAs::SignedBlock(bytes) => match checker.check(Lane::BLOCK, &bytes) {
            Ok(block) if block.height() == height => Seen::Block(block),
            Ok(_) => Seen::Junk,
            Err(fault) => {
                tracing::info!(da_height = position.height, index = position.index, %fault, "junk on DA");
                Seen::Junk
            }
        },
    };
    Sighting { position, height, what }
}

async fn sleep_until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
