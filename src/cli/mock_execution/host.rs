//! The state that the workers of one mock execution share, and everything that changes it.
//!
//! Invariants:
//! 1. What the sidecar tells is judged before it is applied, and journaled as it is applied.
//! 2. No worker holds a borrow of it across an await: there is one thread.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;

use super::HostRole;
use super::checker::{ContractChecker, Observation, Rule, SeenBlock, Violation};
use super::da_places::Named;
use super::journal::{Intent, Journal, JournalStep};
use super::latency::Latencies;
use super::tell::{Progress, ReceivedCounts, ReportLine, Teller};
use crate::api::client::{self, ClientError, Payload};
use crate::block::{BlockId, ChainId, Hash, Height};
use crate::cli::basis_name;
use crate::clock::Clock;
use crate::sync::Basis;

/// Violations that are remembered; a sidecar that breaks more rules than this has made its point.
const MAX_VIOLATIONS: usize = 100;
/// Signed blocks that wait to be posted; more are read from the sidecar again when their turn comes.
const MAX_UNPOSTED_BYTES: usize = 16 << 20;

/// Why a session ended. All but `Fatal` and the first two lead to another one.
#[derive(Debug)]
pub enum SessionEnd {
    /// Told to, or everything is done.
    Done,
    /// There is no going on; for an operator to read.
    Fatal(String),
    Sidecar(ClientError),
    Draining,
    /// It broke the contract: whatever else it says on this stream follows from that.
    Violated,
}

impl From<ClientError> for SessionEnd {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::WrongChain(_)
            | ClientError::ForkedBelowHard { .. }
            | ClientError::ClientTooOld { .. }
            | ClientError::ServerTooOld { .. }
            | ClientError::Untrusted { .. }
            | ClientError::Stranger { .. } => Self::Fatal(error.to_string()),
            _ => Self::Sidecar(error),
        }
    }
}

impl From<std::io::Error> for SessionEnd {
    fn from(error: std::io::Error) -> Self {
        Self::Fatal(format!("the state file cannot be written: {error}"))
    }
}

/// The shared state.
#[derive(Debug)]
pub struct MockHost {
    teller: Rc<Teller>,
    journal: Journal,
    chain_id: ChainId,
    clock: Clock,
    soft_latency: Latencies,
    hard_latency: Latencies,
    hard_basis: Option<Basis>,
    broken: BTreeSet<(Rule, u64)>,
    /// Signed blocks that were published and not posted yet.
    unposted: BTreeMap<Height, Bytes>,
    unposted_bytes: usize,
    role: HostRole,
    /// The rest of what is told, as the workers learn it.
    pub attached: bool,
    pub da_height: u64,
    pub peers: u32,
    pub received: ReceivedCounts,
    waiting_for: Option<String>,
}

impl MockHost {
    pub fn new(teller: Rc<Teller>, journal: Journal, chain_id: ChainId, role: HostRole) -> Self {
        Self {
            teller,
            journal,
            chain_id,
            clock: Clock::start(),
            soft_latency: Latencies::default(),
            hard_latency: Latencies::default(),
            hard_basis: None,
            broken: BTreeSet::new(),
            unposted: BTreeMap::new(),
            unposted_bytes: 0,
            role,
            attached: false,
            da_height: 0,
            peers: 0,
            received: ReceivedCounts::default(),
            waiting_for: None,
        }
    }

    pub fn chain_id(&self) -> &ChainId {
        &self.chain_id
    }

    pub fn tell_progress(&self) {
        self.teller.tell(&ReportLine::Progress(self.progress()));
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Keeps the name of this place on disk, before it is reported.
    pub fn name(&mut self, named: Named) -> std::io::Result<()> {
        if self.journal.memory().names.has(named) {
            return Ok(());
        }
        self.journal.record(JournalStep::Named(named))
    }

    pub fn now(&self) -> u64 {
        self.clock.now().unix_nanos
    }

    pub fn hard(&self) -> u64 {
        self.journal.ledger().hard().map_or(0, |hard| hard.height.get())
    }

    /// Executed blocks that DA has not confirmed yet.
    pub fn unconfirmed(&self) -> u64 {
        self.journal.ledger().next_height().get().saturating_sub(self.hard() + 1)
    }

    pub fn violations(&self) -> usize {
        self.broken.len()
    }

    /// Tells a broken rule, the first time that it is broken at this height.
    pub fn violated(&mut self, violation: Violation) {
        eprintln!("mock-execution: violation: {violation}");
        if self.broken.len() < MAX_VIOLATIONS && self.broken.insert((violation.rule, violation.height)) {
            self.teller.tell(&ReportLine::Violation(violation));
        }
    }

    /// Judges and applies one event.
    pub fn hear(&mut self, checker: &mut ContractChecker<'_>, event: client::Event) -> Result<(), SessionEnd> {
        let basis = match &event {
            client::Event::Hard { confirmed, .. } => Some(confirmed.basis),
            _ => None,
        };
        let Some(event) = judgeable(event) else { return Ok(()) };
        if let Err(violation) = checker.check(self.journal.ledger(), &event) {
            self.violated(violation);
            return Err(SessionEnd::Violated);
        }
        match event {
            Observation::Soft(block) => {
                self.soft_latency.record(self.now().saturating_sub(block.time_unix_nanos));
                self.journal.execute(block.id, block.time_unix_nanos, &block.payload)?;
            }
            Observation::Hard(id) => {
                if let Some(executed) = self.journal.ledger().get(id.height) {
                    self.hard_latency.record(self.now().saturating_sub(executed.time_unix_nanos));
                }
                self.journal.record(JournalStep::Hard(id.height))?;
                self.hard_basis = basis;
            }
            Observation::Retract { to, .. } => {
                let to = to.map_or(0, |to| to.height.get());
                eprintln!("mock-execution: retract to {to}");
                self.journal.record(JournalStep::Retract(to))?;
                self.unposted.retain(|height, _| height.get() <= to);
                self.count_unposted();
            }
            Observation::Gap { .. } => {}
        }
        Ok(())
    }

    /// The block to publish at `height`: made again exactly as before, if it was made before.
    pub fn intend(&mut self, height: Height, parent: Option<Hash>) -> Result<u64, SessionEnd> {
        let executed = self.journal.ledger().get(height).map(|executed| executed.time_unix_nanos);
        let intent = self.journal.memory().intent.filter(|intent| intent.height == height);
        if let Some(time) = executed.or(intent.map(|intent| intent.time_unix_nanos)) {
            return Ok(time);
        }
        let parent = height
            .prev()
            .and_then(|below| self.journal.ledger().get(below))
            .filter(|below| Some(below.id.hash) == parent);
        let time_unix_nanos = self.now().max(parent.map_or(0, |parent| parent.time_unix_nanos));
        self.journal.record(JournalStep::Intent(Intent { height, time_unix_nanos }))?;
        Ok(time_unix_nanos)
    }

    /// Something is, or no longer is, in the way of the next block.
    pub fn wait_for(&mut self, height: Height, why: Option<String>) {
        if let Some(why) = &why
            && self.waiting_for.as_ref() != Some(why)
        {
            eprintln!("mock-execution: block {height} waits: {why}");
        }
        self.waiting_for = why;
    }

    /// A published block waits to be posted.
    pub fn published(&mut self, id: BlockId, signed_block: Bytes) {
        if id.height.get() > self.journal.memory().posted && self.unposted_bytes < MAX_UNPOSTED_BYTES {
            self.unposted.insert(id.height, signed_block);
            self.count_unposted();
        }
    }

    /// The signed block that was published at this height, if it is still here.
    pub fn unposted(&self, height: Height) -> Option<Bytes> {
        self.unposted.get(&height).cloned()
    }

    /// Everything up to this height is on DA.
    pub fn posted(&mut self, height: Height) -> Result<(), SessionEnd> {
        self.journal.record(JournalStep::Posted(height.get()))?;
        self.unposted = self.unposted.split_off(&height.next());
        self.count_unposted();
        Ok(())
    }

    fn count_unposted(&mut self) {
        self.unposted_bytes = self.unposted.values().map(Bytes::len).sum();
    }

    pub fn progress(&self) -> Progress {
        let ledger = self.journal.ledger();
        Progress {
            attached: self.attached,
            soft: ledger.top().map_or(0, |top| top.id.height.get()),
            hard: self.hard(),
            hard_basis: self.hard_basis.map(|basis| basis_name(basis).to_owned()),
            state_hash: ledger.state().to_string(),
            da_height: self.da_height,
            posted: self.journal.memory().posted,
            peers: self.peers,
            received: self.received,
            soft_latency_ms: match self.role {
                HostRole::Sequencer => None,
                HostRole::Full => self.soft_latency.percentiles(),
            },
            hard_latency_ms: self.hard_latency.percentiles(),
            waiting_for: self.waiting_for.clone(),
            violations: self.violations(),
        }
    }
}

/// What of an event can be right or wrong; `None` for those that undo nothing and promise nothing.
fn judgeable(event: client::Event) -> Option<Observation> {
    Some(match event {
        client::Event::Soft(block) => Observation::Soft(SeenBlock {
            id: block.id,
            parent_hash: block.parent,
            time_unix_nanos: block.time_unix_nanos,
            header: block.header,
            signature: block.signature,
            payload: match block.payload {
                Payload::Bytes(bytes) => bytes,
                // Bodies were asked for: a missing one will not have the payload's hash.
                Payload::Omitted(_) => Bytes::new(),
            },
        }),
        client::Event::Hard { id, .. } => Observation::Hard(id),
        client::Event::Retract { to, epoch } => Observation::Retract { to, epoch },
        client::Event::Gap { from, to } => Observation::Gap { from: from.get(), to: to.get() },
        client::Event::DataLoss { from, to } => {
            eprintln!("mock-execution: the sidecar lost {from} to {to}, and fetches them again");
            return None;
        }
        client::Event::Equivocation { height, first, second } => {
            eprintln!("mock-execution: the sequencer signed {first:?} and {second:?} for height {height}");
            return None;
        }
        client::Event::Progress => return None,
    })
}
