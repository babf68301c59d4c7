//! One core, driven by hand: a clock that moves when it is told to, a disk on which every commit is durable at once unless a
//! test holds it back, and nobody else.
//!
//! Kept at every step, whatever a test does:
//! 1. Commits are numbered from 1 on, and their changes lead from what is stored to the heads that they announce.
//! 2. `Reply`, `Announce` and `Broadcast` come after the commit of their decision, and no `Sign` comes before it.

use std::collections::BTreeMap;
use std::time::Duration;

use blocksyncd::block::{BlockId, Hash, Header, Height};
use blocksyncd::clock::Now;
use blocksyncd::sync::{
    Acquaintance, Answer, Batch, BlockQuery, Change, Command, CommitId, Config, Content, DaEvidence, DaNotes,
    DaPosition, DaReport, Effect, Evidence, EvidenceSide, Fetch, FetchOutcome, Fetched, Finding, Found, GuardState,
    Heads, History, Input, Limits, Name, Offence, PeerId, PeerStanding, Policy, Proposal, PublishAnswer, Recovered,
    RejectAnswer, ReportAnswer, ReportRefusal, ReportTaken, RequestId, Seen, SeenBlock, Sighting, Status, Stored,
    Syncer, Ticket, Timing, Trusted, Verdict, Wanted,
};
use blocksyncd::verify::{AuthenticBlock, Fault, Tip, VerifiedBlock};

use super::blocks::{DRIFT, START_UNIX_SECONDS, h, public_key, rules, sign};

/// What lies between just before and now.
pub const INSTANT: Duration = Duration::from_nanos(1);

/// What was committed, as the core may look it up: the blocks, and where they were confirmed.
#[derive(Debug, Default)]
struct Disk(BTreeMap<Height, VerifiedBlock>, BTreeMap<Height, DaPosition>);

impl Stored for Disk {
    fn hash(&self, height: Height) -> Option<Hash> {
        self.0.get(&height).map(|block| block.id().hash)
    }

    fn header(&self, height: Height) -> Option<Header> {
        self.0.get(&height).map(|block| block.block().header().clone())
    }

    fn digest(&self, height: Height) -> Option<(Hash, usize)> {
        let block = self.0.get(&height)?.block().bytes();
        Some((Hash::of(block), block.len()))
    }

    fn confirmation(&self, height: Height) -> Option<DaPosition> {
        self.1.get(&height).copied()
    }
}

impl Disk {
    fn apply(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::Append { block, .. } => {
                    self.0.insert(block.id().height, block.clone());
                }
                Change::Prepend { block, .. } => {
                    let lowest = self.0.first_key_value().expect("something is below which to store").1;
                    assert_eq!(lowest.block().header().parent_hash, Some(block.id().hash), "the tail links to it");
                    self.0.insert(block.id().height, block.clone());
                }
                Change::Truncate { from, .. } => drop(self.0.split_off(from)),
                Change::Prune { below } => self.0 = self.0.split_off(below),
                Change::Confirm { height, position, .. } => drop(self.1.insert(*height, *position)),
                _ => {}
            }
        }
        assert_eq!(
            self.0.last_key_value().map(|(_, top)| top.tip()),
            batch.heads.soft,
            "the changes lead to the heads"
        );
        if let Some(lowest) = self.0.keys().next() {
            assert_eq!(*lowest, batch.heads.tail, "the changes lead to the tail");
        }
    }

    /// Bytes of what is stored.
    fn bytes(&self) -> u64 {
        self.0.values().map(|block| block.block().bytes().len() as u64).sum()
    }
}

/// How a core starts.
#[derive(Clone, Debug)]
pub struct Setup {
    pub config: Config,
    pub at: Recovered,
    stored: Vec<AuthenticBlock>,
}

impl Setup {
    /// A node that holds no key, with nothing stored.
    pub fn follower() -> Self {
        let config = Config {
            rules: rules(),
            signs: None,
            on_divergence: Policy::FollowDa,
            known_peers: Acquaintance::Nobody,
            da_evidence: DaEvidence::Block,
            history: History::default(),
            limits: Limits::default(),
            timing: Timing::default(),
        };
        let at = Recovered {
            heads: Heads::empty(Height::MIN),
            sightings: Vec::new(),
            refused_sightings: Vec::new(),
            da_notes: DaNotes::default(),
            proved: Vec::new(),
            evidence: Vec::new(),
            schedule: Vec::new(),
            vetoed: None,
            halted: None,
            anchor: None,
            guard: GuardState::Missing,
            consumers: Vec::new(),
            disowned: Vec::new(),
            lost_words: Vec::new(),
            stored_bytes: 0,
        };
        Self { config, at, stored: Vec::new() }
    }

    /// A node whose key has never signed.
    pub fn signer() -> Self {
        let mut setup = Self::follower();
        setup.config.signs = Some(public_key(1));
        setup.at.guard = GuardState::Unused;
        setup
    }

    /// With these blocks on disk, the first `hard` of them seen on DA.
    pub fn storing(mut self, blocks: &[AuthenticBlock], hard: usize) -> Self {
        self.stored = blocks.to_vec();
        self.at.heads.soft = self.verified().last().map(VerifiedBlock::tip);
        self.at.heads.hard = hard.checked_sub(1).map(|last| blocks[last].id());
        if self.at.guard == GuardState::Unused {
            self.at.guard = GuardState::after(blocks.last().map(AuthenticBlock::id));
        }
        self
    }

    /// Of the blocks on disk only those from this one on.
    pub fn pruned_below(mut self, lowest: &AuthenticBlock) -> Self {
        self.at.heads.tail = lowest.height();
        self.at.heads.base = Tip::below(lowest.block());
        self
    }

    pub fn history(mut self, history: History) -> Self {
        self.config.history = history;
        self
    }

    /// Of a chain whose DA is told by names.
    pub fn named(mut self) -> Self {
        self.config.da_evidence = DaEvidence::Named;
        self
    }

    /// Trusting this block, and with it that DA need not be read up to there.
    pub fn trusting(mut self, block: &AuthenticBlock, da: Option<u64>) -> Self {
        self.config.history.trusted = Some(Trusted { id: block.id(), da });
        self
    }

    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.config.limits);
        self
    }

    pub fn guard(mut self, guard: GuardState) -> Self {
        self.at.guard = guard;
        self
    }

    /// What was committed beside blocks is on disk, too: as a process finds it that starts after the one that decided this.
    pub fn after(mut self, effects: &[Effect]) -> Self {
        for batch in commits(effects) {
            self.at.heads.scanned_through = batch.heads.scanned_through;
            for change in batch.changes {
                self.keep(change);
            }
        }
        self
    }

    fn keep(&mut self, change: Change) {
        match change {
            Change::KeepSighting(sighting) => self.at.sightings.push(sighting),
            Change::DropSighting(position) => self.at.sightings.retain(|seen| seen.position != position),
            Change::DaNotes(notes) => self.at.da_notes = notes,
            Change::KeepProved(proved) => self.at.proved.push(proved),
            Change::ForgetProved(id) => self.at.proved.retain(|proved| proved.id != id),
            Change::Evidence(evidence) => self.at.evidence.push(self.carried(evidence)),
            Change::Veto(vetoed) => self.at.vetoed = vetoed,
            Change::Halt(halted) => self.at.halted = halted,
            Change::Disown(disowned) => self.at.disowned.push(disowned),
            Change::Own(id) => self.at.disowned.retain(|disowned| disowned.id != id),
            Change::Schedule(entry) => self.at.schedule.push(entry),
            Change::WithdrawSchedule(from) => self.at.schedule.retain(|entry| entry.from != from),
            other => panic!("a test that starts anew has to say what is stored then: {other:?}"),
        }
    }

    /// As the store keeps it.
    fn carried(&self, mut evidence: Evidence) -> Evidence {
        if let EvidenceSide::Stored(id) = evidence.first {
            let stored = self.stored.iter().find(|block| block.id() == id).expect("it is stored");
            evidence.first = EvidenceSide::Carried(stored.block().signed_header());
        }
        evidence
    }

    pub fn start(self) -> Core {
        let tail = self.at.heads.tail;
        let stored = self.verified().into_iter().filter(|block| block.id().height >= tail);
        let disk = Disk(stored.map(|block| (block.id().height, block)).collect(), BTreeMap::new());
        let at = Recovered { stored_bytes: disk.bytes(), ..self.at };
        let unix_nanos = START_UNIX_SECONDS * 1_000_000_000;
        Core {
            syncer: Syncer::recover(self.config, at, 7),
            disk,
            now: Now { elapsed: Duration::ZERO, unix_nanos },
            tickets: 0,
            commits: 0,
            unwritten: Vec::new(),
            holds_writes: false,
        }
    }

    fn verified(&self) -> Vec<VerifiedBlock> {
        let mut verified: Vec<VerifiedBlock> = Vec::new();
        for block in &self.stored {
            let parent = verified.last().map(VerifiedBlock::tip);
            verified.push(block.link(parent).expect("stored blocks link"));
        }
        verified
    }
}

/// As every node of these tests has them.
pub fn timing() -> Timing {
    Setup::follower().config.timing
}

pub fn sorted(mut peers: Vec<PeerId>) -> Vec<PeerId> {
    peers.sort_unstable();
    peers
}

pub fn peer(name: u8) -> PeerId {
    PeerId::new(&[name])
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Core {
    syncer: Syncer,
    disk: Disk,
    now: Now,
    tickets: u64,
    commits: u64,
    /// Commits that a test holds back.
    unwritten: Vec<Batch>,
    holds_writes: bool,
}

impl Core {
    /// One input; unless writes are held back, everything is durable when it returns.
    pub fn give(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = self.syncer.handle(self.now, input, &self.disk);
        self.check(&effects);
        for effect in &effects {
            if let Effect::Commit(batch) = effect {
                self.unwritten.push(batch.clone());
            }
        }
        if !self.holds_writes {
            effects.extend(self.write());
        }
        effects
    }

    fn check(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Commit(batch) = effect {
                self.commits += 1;
                assert_eq!(batch.id, CommitId(self.commits), "commits are numbered one after the other");
            }
        }
        let waits =
            |effect: &Effect| matches!(effect, Effect::Reply { .. } | Effect::Announce(_) | Effect::Broadcast(_));
        let commit = effects.iter().position(|effect| matches!(effect, Effect::Commit(_)));
        let sign = effects.iter().position(|effect| matches!(effect, Effect::Sign { .. }));
        let told = effects.iter().position(waits);
        assert!(commit.is_none_or(|commit| sign.is_none_or(|sign| commit < sign)), "{effects:#?}");
        assert!(commit.is_none_or(|commit| told.is_none_or(|told| commit < told)), "{effects:#?}");
        assert!(told.is_none_or(|told| effects[told..].iter().all(waits)), "{effects:#?}");
    }

    /// From now on commits stay undone until [`Core::write`].
    pub fn hold_writes(&mut self) {
        self.holds_writes = true;
    }

    /// Makes durable what was held back, and what follows from it.
    pub fn write(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        while !self.unwritten.is_empty() {
            all.extend(self.write_one());
        }
        all
    }

    /// Makes the oldest commit durable that was held back, and no other.
    pub fn write_one(&mut self) -> Vec<Effect> {
        let batch = self.unwritten.remove(0);
        self.disk.apply(&batch);
        let stored_bytes = self.disk.bytes();
        let effects = self.syncer.handle(self.now, Input::Durable { commit: batch.id, stored_bytes }, &self.disk);
        self.check(&effects);
        self.unwritten.extend(commits(&effects));
        effects
    }

    /// Makes durable what was held back, in as few writes as may be; `each` sees the core after each of them, and the newest
    /// commit that is on disk.
    pub fn write_in_groups(&mut self, mut each: impl FnMut(&Self, CommitId)) {
        let mut groups: Vec<Batch> = Vec::new();
        for batch in self.unwritten.drain(..) {
            match groups.last_mut() {
                Some(group) if group.may_absorb(&batch) => group.absorb(batch),
                _ => groups.push(batch),
            }
        }
        for group in groups {
            let commit = group.id;
            self.unwritten.insert(0, group);
            let _ = self.write_one();
            each(self, commit);
        }
    }

    /// Whether this very block is on disk.
    pub fn has_on_disk(&self, id: BlockId) -> bool {
        self.disk.hash(id.height) == Some(id.hash)
    }

    /// From now on nothing of what was stored can be read; nothing may be written any more, either.
    pub fn lose_disk(&mut self) {
        self.disk = Disk::default();
        self.hold_writes();
    }

    pub fn heads(&self) -> Heads {
        self.syncer.heads()
    }

    pub fn soft(&self) -> Option<BlockId> {
        self.heads().soft_id()
    }

    pub fn hard(&self) -> Option<BlockId> {
        self.heads().hard
    }

    pub fn target(&self) -> Option<BlockId> {
        self.heads().target
    }

    pub fn status(&self) -> Status {
        self.syncer.status()
    }

    /// What the core thinks of this peer.
    pub fn standing(&self, name: u8) -> PeerStanding {
        self.syncer.peer_standings(self.now).remove(&peer(name)).unwrap_or_default()
    }

    /// Whether this block is what a node that may sign waits for first.
    pub fn awaits(&self, block: &AuthenticBlock) -> bool {
        self.status().not_ready.is_some_and(|why| why.contains(&format!("({})", block.id())))
    }

    pub fn syncer(&self) -> &Syncer {
        &self.syncer
    }

    pub fn next_wakeup(&self) -> Option<Duration> {
        self.syncer.next_wakeup()
    }

    pub fn elapsed(&self) -> Duration {
        self.now.elapsed
    }

    pub fn unix_nanos(&self) -> u64 {
        self.now.unix_nanos
    }

    /// Time passes, and the core is woken once.
    pub fn pass(&mut self, time: Duration) -> Vec<Effect> {
        self.sleep(time);
        self.give(Input::Wakeup)
    }

    /// All but an [`INSTANT`] of the time passes.
    pub fn almost_pass(&mut self, time: Duration) -> Vec<Effect> {
        self.pass(time.saturating_sub(INSTANT))
    }

    /// Time passes, and nobody wakes the core.
    pub fn sleep(&mut self, time: Duration) {
        self.now.elapsed += time;
        self.now.unix_nanos += u64::try_from(time.as_nanos()).expect("short");
    }

    /// Somebody sets the wall clock.
    pub fn wall_goes_back(&mut self, by: Duration) {
        self.now.unix_nanos -= u64::try_from(by.as_nanos()).expect("short");
    }

    // ------------------------------------------------------------------------------------------- peers

    pub fn connect(&mut self, name: u8) -> RequestId {
        let effects = self.give(Input::PeerUp { peer: peer(name) });
        let probes: Vec<_> = fetches(&effects).into_iter().filter(|fetch| fetch.query == BlockQuery::Head).collect();
        assert_eq!(probes.len(), 1, "a new peer is asked for its head: {effects:#?}");
        assert_eq!(probes[0].peer, peer(name));
        probes[0].request
    }

    /// A new peer whose head is this one.
    pub fn connect_at(&mut self, name: u8, head: &AuthenticBlock) -> Vec<Effect> {
        let probe = self.connect(name);
        self.answer(probe, std::slice::from_ref(head), FetchOutcome::Complete)
    }

    pub fn answer(&mut self, request: RequestId, blocks: &[AuthenticBlock], outcome: FetchOutcome) -> Vec<Effect> {
        self.give(Input::Fetched { request, fetched: Fetched { blocks: blocks.to_vec(), outcome } })
    }

    pub fn gossip_effects(&mut self, name: u8, outcome: Result<AuthenticBlock, Fault>) -> Vec<Effect> {
        let ticket = self.ticket();
        self.give(Input::Gossip { peer: peer(name), ticket, outcome })
    }

    /// The verdict on a gossiped block.
    pub fn gossip(&mut self, block: &AuthenticBlock) -> Verdict {
        let effects = self.gossip_effects(200, Ok(block.clone()));
        verdict(&effects)
    }

    // -------------------------------------------------------------------------------------------- hosts

    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    pub fn propose(&mut self, proposal: Proposal) -> Vec<Effect> {
        let ticket = self.ticket();
        self.give(Input::Publish { ticket, proposal })
    }

    /// The refusal of a proposal; one that is to be signed has none.
    pub fn refusal(&mut self, proposal: Proposal) -> PublishAnswer {
        published(&self.propose(proposal))
    }

    /// The signer answers the question among these effects.
    pub fn sign(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let (ticket, block) = signed(effects);
        self.give(Input::Signed { ticket, outcome: Ok(block) })
    }

    /// Proposes, signs, and gives what follows from it.
    pub fn publish(&mut self, proposal: Proposal) -> Vec<Effect> {
        let effects = self.propose(proposal);
        self.sign(&effects)
    }

    pub fn publish_signed(&mut self, block: &AuthenticBlock) -> PublishAnswer {
        let ticket = self.ticket();
        published(&self.give(Input::PublishSigned { ticket, outcome: Ok(block.clone()) }))
    }

    pub fn reject(&mut self, block: BlockId) -> RejectAnswer {
        let ticket = self.ticket();
        let effects = self.give(Input::HostRejected { ticket, block });
        match only_answer(&effects) {
            Answer::Reject(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn ack(&mut self, consumer: &str, up_to: BlockId) -> (bool, Vec<Effect>) {
        let ticket = self.ticket();
        let effects = self.give(Input::Acked { ticket, consumer: consumer.to_owned(), up_to });
        match only_answer(&effects) {
            Answer::Ack(known) => (known, effects),
            other => panic!("{other:?}"),
        }
    }

    pub fn operate(&mut self, command: Command) -> (Result<(), String>, Vec<Effect>) {
        let ticket = self.ticket();
        let effects = self.give(Input::Operator { ticket, command });
        match only_answer(&effects) {
            Answer::Operator(outcome) => (outcome, effects),
            other => panic!("{other:?}"),
        }
    }

    /// What the operator is refused.
    pub fn operator_is_refused(&mut self, command: Command) -> String {
        let (outcome, effects) = self.operate(command);
        assert_eq!(changes(&effects), [], "a refused command changes nothing");
        outcome.expect_err("it is refused")
    }

    pub fn operator_may(&mut self, command: Command) -> Vec<Effect> {
        let (outcome, effects) = self.operate(command);
        assert_eq!(outcome, Ok(()));
        effects
    }

    // ----------------------------------------------------------------------------------------------- DA

    /// A report of the DA heights above `after`, through `through`, which is taken.
    pub fn report(&mut self, after: u64, through: u64, findings: Vec<Finding>) -> (ReportTaken, Vec<Effect>) {
        let (answer, effects) = self.report_answer(after, through, findings);
        let ReportAnswer::Taken(taken) = answer else { panic!("{answer:?}") };
        (taken, effects)
    }

    /// The same, whatever becomes of it.
    pub fn report_answer(&mut self, after: u64, through: u64, findings: Vec<Finding>) -> (ReportAnswer, Vec<Effect>) {
        let ticket = self.ticket();
        let report = DaReport { after, scanned_through: through, findings };
        let effects = self.give(Input::Da { ticket, report });
        match only_answer(&effects) {
            Answer::Report(answer) => (answer, effects),
            other => panic!("{other:?}"),
        }
    }

    /// Why a report is refused, which has changed nothing.
    pub fn refused_report(&mut self, after: u64, through: u64, findings: Vec<Finding>) -> ReportRefusal {
        let (answer, effects) = self.report_answer(after, through, findings);
        assert_eq!(commits(&effects), []);
        let ReportAnswer::Refused(refusal) = answer else { panic!("{answer:?}") };
        refusal
    }

    /// The next DA height has just these blocks.
    pub fn da_has(&mut self, blocks: &[AuthenticBlock]) -> Vec<Effect> {
        let height = self.heads().scanned_through + 1;
        let sightings = (0..).zip(blocks).map(|(index, block)| seen_block(height, index, block)).collect();
        self.report(height - 1, height, sightings).1
    }
}

pub fn at(height: u64, index: u32) -> DaPosition {
    DaPosition { height, index }
}

/// The digest of a block as it stands on DA.
pub fn digest(block: &AuthenticBlock) -> Hash {
    Hash::of(block.block().bytes())
}

pub fn seen_block(height: u64, index: u32, block: &AuthenticBlock) -> Finding {
    let what = Found::Bytes { digest: digest(block), content: Content::Block(block.clone()) };
    Finding { position: at(height, index), height: block.height(), what }
}

pub fn seen_digest(height: u64, index: u32, block: &AuthenticBlock) -> Finding {
    Finding { position: at(height, index), height: block.height(), what: Found::Digest(digest(block)) }
}

pub fn seen_name(height: u64, index: u32, rollup: u64, name: Name) -> Finding {
    Finding { position: at(height, index), height: h(rollup), what: Found::Named(name) }
}

/// The bytes there, which are junk, have this digest.
pub fn junk_of(height: u64, index: u32, digest: Hash) -> Finding {
    let what = Found::Bytes { digest, content: Content::Junk };
    Finding { position: at(height, index), height: h(1), what }
}

pub fn junk(height: u64, index: u32) -> Finding {
    junk_of(height, index, Hash::of(format!("{height}/{index}").as_bytes()))
}

/// What is kept of such a finding.
pub fn kept_block(height: u64, index: u32, block: &AuthenticBlock) -> Sighting {
    let what = Seen::Block(SeenBlock { block: block.clone(), digest: digest(block) });
    Sighting { position: at(height, index), height: block.height(), what }
}

pub fn kept_digest(height: u64, index: u32, block: &AuthenticBlock) -> Sighting {
    Sighting { position: at(height, index), height: block.height(), what: Seen::Digest(digest(block)) }
}

/// The position of such a finding is open.
pub fn open(height: u64, index: u32, block: &AuthenticBlock) -> Wanted {
    Wanted { position: at(height, index), height: block.height(), digest: digest(block) }
}

// ------------------------------------------------------------------------------------- reading effects

pub fn commits(effects: &[Effect]) -> Vec<Batch> {
    let commit = |effect: &Effect| if let Effect::Commit(batch) = effect { Some(batch.clone()) } else { None };
    effects.iter().filter_map(commit).collect()
}

pub fn changes(effects: &[Effect]) -> Vec<Change> {
    commits(effects).into_iter().flat_map(|batch| batch.changes).collect()
}

/// The blocks that were appended, with nothing else changed.
pub fn appended(effects: &[Effect]) -> Vec<BlockId> {
    let append = |change: &Change| if let Change::Append { block, .. } = change { Some(block.id()) } else { None };
    changes(effects).iter().filter_map(append).collect()
}

pub fn fetches(effects: &[Effect]) -> Vec<Fetch> {
    let fetch = |effect: &Effect| if let Effect::Fetch(fetch) = effect { Some(fetch.clone()) } else { None };
    effects.iter().filter_map(fetch).collect()
}

/// What is asked for, beside heads: from whom, from which height, how many.
pub fn ranges(effects: &[Effect]) -> Vec<(PeerId, u64, u64)> {
    let range = |fetch: Fetch| match fetch.query {
        BlockQuery::Range { from, amount } => Some((fetch.peer, from.get(), amount)),
        BlockQuery::Head | BlockQuery::Hash(_) => None,
    };
    fetches(effects).into_iter().filter_map(range).collect()
}

/// The one range request among these effects.
pub fn range_request(effects: &[Effect]) -> Fetch {
    let is_range = |fetch: &Fetch| matches!(fetch.query, BlockQuery::Range { .. });
    let requests: Vec<_> = fetches(effects).into_iter().filter(is_range).collect();
    assert_eq!(requests.len(), 1, "{effects:#?}");
    requests[0].clone()
}

pub fn asked_by_hash(effects: &[Effect]) -> Vec<(PeerId, Hash)> {
    let hash = |fetch: Fetch| match fetch.query {
        BlockQuery::Hash(hash) => Some((fetch.peer, hash)),
        BlockQuery::Head | BlockQuery::Range { .. } => None,
    };
    fetches(effects).into_iter().filter_map(hash).collect()
}

pub fn cancelled(effects: &[Effect]) -> Vec<RequestId> {
    let cancel = |effect: &Effect| if let Effect::Cancel(request) = effect { Some(*request) } else { None };
    effects.iter().filter_map(cancel).collect()
}

pub fn penalties(effects: &[Effect]) -> Vec<(PeerId, Offence, Option<Duration>)> {
    let penalty = |effect: &Effect| match effect {
        Effect::Penalize { peer, offence, ban } => Some((peer.clone(), *offence, *ban)),
        _ => None,
    };
    effects.iter().filter_map(penalty).collect()
}

pub fn verdict(effects: &[Effect]) -> Verdict {
    let verdict = |effect: &Effect| if let Effect::Judge { verdict, .. } = effect { Some(*verdict) } else { None };
    let verdicts: Vec<_> = effects.iter().filter_map(verdict).collect();
    assert_eq!(verdicts.len(), 1, "every message is judged once: {effects:#?}");
    verdicts[0]
}

pub fn answers(effects: &[Effect]) -> Vec<(Ticket, Answer)> {
    let reply = |effect: &Effect| match effect {
        Effect::Reply { ticket, answer } => Some((*ticket, answer.clone())),
        _ => None,
    };
    effects.iter().filter_map(reply).collect()
}

fn only_answer(effects: &[Effect]) -> Answer {
    let mut answers = answers(effects);
    assert_eq!(answers.len(), 1, "{effects:#?}");
    answers.remove(0).1
}

pub fn published(effects: &[Effect]) -> PublishAnswer {
    match only_answer(effects) {
        Answer::Publish(answer) => answer,
        other => panic!("{other:?}"),
    }
}

pub fn broadcasts(effects: &[Effect]) -> Vec<BlockId> {
    let broadcast = |effect: &Effect| if let Effect::Broadcast(id) = effect { Some(*id) } else { None };
    effects.iter().filter_map(broadcast).collect()
}

pub fn announced(effects: &[Effect]) -> Vec<Heads> {
    let announce = |effect: &Effect| if let Effect::Announce(heads) = effect { Some(*heads) } else { None };
    effects.iter().filter_map(announce).collect()
}

/// What an honest signer makes of the question among these effects.
pub fn signed(effects: &[Effect]) -> (Ticket, AuthenticBlock) {
    let question = |effect: &Effect| match effect {
        Effect::Sign { ticket, header_bytes, payload, guard } => {
            let block = sign(1, header_bytes, payload);
            assert_eq!(guard.last, block.id(), "the guard is of what is signed");
            Some((*ticket, block))
        }
        _ => None,
    };
    let questions: Vec<_> = effects.iter().filter_map(question).collect();
    assert_eq!(questions.len(), 1, "{effects:#?}");
    questions[0].clone()
}

pub fn asks_for_signature(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Sign { .. }))
}

/// A time ahead of the clock by the drift and so many nanoseconds more.
pub fn ahead(core: &Core, nanos: i64) -> u64 {
    let drift = u64::try_from(DRIFT.as_nanos()).expect("short");
    (core.unix_nanos() + drift).saturating_add_signed(nanos)
}
