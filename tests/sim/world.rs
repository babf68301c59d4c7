//! The world: one queue of events on one simulated clock, and everything that happens in it.
//!
//! ```text
//!   faults ............................. heal ......................................... converged, or out of time
//!   |  everything in the plan goes wrong  |  links, disks, clocks and hosts are well;  |
//!   |  blocks are made all the while      |  a few more blocks, then no more           |
//! ```

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use blocksyncd::block::{Hash, Height};
use blocksyncd::sync::{Answer, Command, Ended, GuardState, Halt, Input, PeerId, RequestId, Ticket};
use blocksyncd::verify::{AuthenticBlock, Fault, ScheduleEntry};
use bytes::Bytes;
use fastrand::Rng;

use super::chain::Chain;
use super::da::Da;
use super::disk::{Damage, DiskFault};
use super::faults::{Plan, Signing};
use super::host::Host;
use super::invariants::Oracle;
use super::liars::{self, Lie};
use super::mutations::Bug;
use super::network::{Message, MessageId, Network, Packet};
use super::node::{Node, Waits};
use super::trace::Trace;

/// Everything that is going to happen.
#[derive(Debug)]
pub enum Event {
    Packet {
        from: usize,
        to: usize,
        generation: u64,
        packet: Packet,
    },
    PeerDown {
        node: usize,
        life: u64,
        peer: usize,
    },
    Checked {
        node: usize,
        life: u64,
        ticket: Ticket,
    },
    Written {
        node: usize,
        life: u64,
    },
    Signed {
        node: usize,
        life: u64,
        ticket: Ticket,
        outcome: Result<AuthenticBlock, String>,
    },
    FetchLate {
        node: usize,
        life: u64,
        request: RequestId,
        ended: Ended,
    },
    Wakeup {
        node: usize,
        life: u64,
        at: Duration,
    },
    Answered {
        host: usize,
        host_life: u64,
        waits: Waits,
        ticket: Ticket,
        answer: Answer,
    },
    HostTurn {
        host: usize,
    },
    /// Regular ones.
    HostsTurn,
    Produce,
    DaTurn,
    LiarsTurn,
    TwinTurn,
    LinksTurn,
    FaultsTurn,
    OperatorTurn,
    /// The end of a fault.
    StartNode {
        node: usize,
    },
    RestartHost {
        host: usize,
        backup: Option<usize>,
    },
    Unblock,
    StorageFree {
        node: usize,
    },
    EndDrained {
        node: usize,
        life: u64,
    },
    Heal,
    NoMoreBlocks,
    Judge,
}

#[derive(Debug)]
struct Scheduled {
    at: Duration,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The earliest is the greatest, for the heap.
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

#[derive(Debug)]
pub struct Liar {
    lie: Lie,
    seen: BTreeSet<MessageId>,
    messages: u64,
}

/// What a world that went well amounts to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub steps: u64,
    pub simulated: Duration,
    pub blocks: u64,
    pub crashes: u64,
    pub bans: u64,
    pub retractions: u64,
    pub hash: Option<u64>,
}

#[derive(Debug)]
pub struct World {
    pub plan: Plan,
    pub bug: Option<Bug>,
    pub rng: Rng,
    pub now: Duration,
    queue: BinaryHeap<Scheduled>,
    scheduled: u64,
    pub chain: Chain,
    pub net: Network,
    pub nodes: Vec<Node>,
    pub liars: Vec<Liar>,
    pub hosts: Vec<Host>,
    pub da: Da,
    /// The blocks of the second branch.
    pub twins: BTreeSet<Hash>,
    twin_branch: Vec<AuthenticBlock>,
    /// What both branches have below the fork.
    twin_base: Vec<AuthenticBlock>,
    pub oracle: Oracle,
    pub trace: Trace,
    pub healed: bool,
    pub last_to_publish: Option<Height>,
    pub bans: u64,
    crashes: u64,
    retractions: u64,
    violation: Option<String>,
    why_not_converged: Option<String>,
}

/// How long after healing everything has to agree.
const HEAL_BOUND: Duration = Duration::from_secs(150);
const LINKS_EVERY: Duration = Duration::from_millis(250);
const FAULTS_EVERY: Duration = Duration::from_millis(200);
const HOSTS_EVERY: Duration = Duration::from_millis(400);

pub fn peer_id(index: usize) -> PeerId {
    PeerId::new(&[0, 0, 0, u8::try_from(index).expect("few peers")])
}

pub fn index_of(peer: &PeerId) -> usize {
    peer.as_bytes().last().copied().map_or(usize::MAX, usize::from)
}

impl World {
    pub fn new(plan: Plan, bug: Option<Bug>, trace: Trace) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let initial_height = Height::new(plan.initial_height).expect("at least 1");
        let mut lies = plan.liars.clone();
        if plan.twin.is_some() {
            lies.insert(0, Lie::Twin);
        }
        let mut nodes: Vec<Node> = (0..plan.honest).map(|_| Node::new(initial_height)).collect();
        for node in &mut nodes[1..] {
            // Followers hold no key.
            node.disk.guard = GuardState::Missing;
        }
        let disk_fault = match bug {
            Some(Bug::MarkAhead) => Some(DiskFault::MarkAhead),
            Some(Bug::FsyncLies) => Some(DiskFault::FsyncLies),
            _ => None,
        };
        for node in &mut nodes {
            if let Some(fault) = disk_fault {
                node.disk.go_wrong(fault);
            }
        }
        Self {
            bug,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            chain: Chain::new(initial_height, 4_096),
            net: Network::new(plan.honest, lies.len(), &mut rng),
            hosts: nodes.iter().map(|_| Host::new()).collect(),
            nodes,
            liars: lies.into_iter().map(|lie| Liar { lie, seen: BTreeSet::new(), messages: 0 }).collect(),
            da: Da::default(),
            twins: BTreeSet::new(),
            twin_branch: Vec::new(),
            twin_base: Vec::new(),
            oracle: Oracle::default(),
            trace,
            healed: false,
            last_to_publish: None,
            bans: 0,
            crashes: 0,
            retractions: 0,
            violation: None,
            why_not_converged: None,
            rng,
            plan,
        }
    }

    pub fn later(&mut self, wait: Duration, event: Event) {
        self.scheduled += 1;
        self.queue.push(Scheduled { at: self.now.saturating_add(wait), order: self.scheduled, event });
    }

    /// Only the first violation counts: what follows it may be its consequence.
    pub fn fail(&mut self, why: String) {
        self.trace.note(self.now, format_args!("VIOLATION {why}"));
        self.violation.get_or_insert(why);
    }

    pub fn is_over(&self) -> bool {
        self.violation.is_some()
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Outcome, String> {
        for n in 0..self.nodes.len() {
            let skew = i128::try_from(self.plan.skew.as_nanos()).unwrap_or(0);
            self.nodes[n].wall_offset = self.rng.i128(-skew..=skew);
            let late = if n > 0 && self.rng.f64() < 0.2 { self.rng.u64(1_000..15_000) } else { self.rng.u64(0..100) };
            self.later(Duration::from_millis(late), Event::StartNode { node: n });
        }
        for event in [Event::LinksTurn, Event::FaultsTurn, Event::HostsTurn, Event::LiarsTurn, Event::TwinTurn] {
            self.later(Duration::from_millis(20), event);
        }
        self.later(self.plan.block_time, Event::Produce);
        self.schedule_da();
        self.later(self.plan.faults_last, Event::Heal);
        while let Some(Scheduled { at, event, .. }) = self.queue.pop() {
            self.now = at;
            if matches!(event, Event::Judge) && self.has_converged() {
                return Ok(self.outcome());
            }
            self.step(event);
            if let Some(why) = self.violation.take() {
                return Err(format!("at {:.3} s: {why}", self.now.as_secs_f64()));
            }
            if self.now > self.plan.faults_last + HEAL_BOUND {
                let why = self.why_not_converged.take().unwrap_or_default();
                return Err(format!("not converged {HEAL_BOUND:?} after healing: {why}"));
            }
        }
        Err("nothing is left to happen".to_owned())
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            steps: self.trace.steps(),
            simulated: self.now,
            blocks: self.da.last_winner().map_or(0, |id| id.height.above(self.chain.initial_height()) + 1),
            crashes: self.crashes,
            bans: self.bans,
            retractions: self.retractions
                + self.nodes.iter().map(|n| n.disk.image.retractions.len() as u64).sum::<u64>(),
            hash: self.trace.hash(),
        }
    }

    fn has_converged(&mut self) -> bool {
        match self.converged() {
            Ok(()) => true,
            Err(why) => {
                self.why_not_converged = Some(why);
                false
            }
        }
    }

    fn step(&mut self, event: Event) {
        let life_of = |world: &Self, n: usize| world.nodes[n].life();
        match event {
            Event::Packet { from, to, generation, packet } => self.on_packet(from, to, generation, packet),
            Event::PeerDown { node, life, peer } if life_of(self, node) == Some(life) => self.on_peer_down(node, peer),
            Event::Checked { node, life, ticket } if life_of(self, node) == Some(life) => self.on_checked(node, ticket),
            Event::Written { node, life } if life_of(self, node) == Some(life) => self.on_written(node),
            Event::Signed { node, life, ticket, outcome } if life_of(self, node) == Some(life) => {
                self.handle(node, Input::Signed { ticket, outcome });
            }
            Event::FetchLate { node, life, request, ended } if life_of(self, node) == Some(life) => {
                self.end_fetch(node, request, ended);
            }
            Event::Wakeup { node, life, at } if life_of(self, node) == Some(life) => self.on_wakeup(node, at),
            Event::EndDrained { node, life } if life_of(self, node) == Some(life) => self.end_drained(node),
            // All of these were for a process that is gone.
            Event::PeerDown { .. }
            | Event::Checked { .. }
            | Event::Written { .. }
            | Event::Signed { .. }
            | Event::FetchLate { .. }
            | Event::EndDrained { .. }
            | Event::Wakeup { .. } => {}
            Event::Answered { host, host_life, waits, ticket, answer } => {
                self.on_answered(host, host_life, waits, ticket, &answer);
            }
            Event::HostTurn { host } => self.host_turn(host),
            Event::StartNode { node } => self.start_node(node),
            Event::RestartHost { host, backup } => self.hosts[host].restart(backup),
            Event::Unblock => self.net.unblock(),
            Event::StorageFree { node } => self.set_storage_full(node, false),
            Event::Heal => self.heal(),
            Event::NoMoreBlocks => self.stop_publishing(),
            Event::Judge => self.later(Duration::from_millis(500), Event::Judge),
            regular => self.regular(regular),
        }
    }

    /// What comes again and again.
    fn regular(&mut self, event: Event) {
        let every = match event {
            Event::HostsTurn => {
                (0..self.hosts.len()).for_each(|n| self.host_regular_turn(n));
                HOSTS_EVERY
            }
            Event::Produce => {
                self.produce();
                self.plan.block_time
            }
            Event::DaTurn => {
                self.da_turn();
                self.plan.da_block_time
            }
            Event::LiarsTurn => {
                self.liars_turn();
                Duration::from_millis(self.rng.u64(200..900))
            }
            Event::TwinTurn => {
                self.twin_turn();
                self.plan.block_time
            }
            Event::LinksTurn => {
                self.tend_links();
                LINKS_EVERY
            }
            Event::FaultsTurn => {
                self.faults_turn();
                FAULTS_EVERY
            }
            Event::OperatorTurn => {
                self.operator_turn();
                Duration::from_secs(2)
            }
            _ => return,
        };
        self.later(every, event);
    }

    // -------------------------------------------------------------------------------------------- faults

    fn happens(&mut self, rate: f64) -> bool {
        self.rng.f64() < rate * FAULTS_EVERY.as_secs_f64()
    }

    fn faults_turn(&mut self) {
        if self.healed {
            return;
        }
        let honest = self.nodes.len();
        let n = self.rng.usize(0..honest);
        if self.plan.backup + self.plan.loss_of_tail > 0.0 && self.rng.f64() < 0.03 {
            self.nodes[n].disk.snapshot();
        }
        if self.rng.f64() < 0.03 {
            self.hosts[n].back_up();
        }
        if self.happens(self.plan.crash_rate) {
            self.crash_for_a_while(n);
        }
        if self.happens(self.plan.partition_rate) {
            let side: Vec<usize> = (0..honest + self.liars.len()).filter(|_| self.rng.bool()).collect();
            let asymmetric = self.plan.asymmetric && self.rng.bool();
            self.net.partition(&side, asymmetric, self.now);
            let lasts = Duration::from_millis(self.rng.u64(300..9_000));
            self.later(lasts, Event::Unblock);
        }
        if self.happens(self.plan.storage_full_rate) && !self.nodes[n].storage_full {
            self.set_storage_full(n, true);
            let lasts = Duration::from_millis(self.rng.u64(300..6_000));
            self.later(lasts, Event::StorageFree { node: n });
        }
        if self.happens(self.plan.clock_jump_rate) {
            let second = 1_000_000_000;
            let span = if self.rng.bool() { 60 * second } else { 86_400 * second };
            self.nodes[n].wall_offset = self.rng.i128(-span..=span);
        }
        if self.happens(self.plan.host_crash_rate) && self.hosts[n].up {
            let from_backup = self.rng.f64() < self.plan.host_backup;
            self.crash_host(n, from_backup);
        }
        if self.happens(self.plan.veto_rate) {
            self.veto(n);
        }
        if self.happens(self.plan.drain_rate) {
            self.drain_for_a_while(n);
        }
        if self.happens(self.plan.extend_rate) {
            self.extend_schedule(n);
        }
    }

    /// A process ends in order, and starts again.
    fn drain_for_a_while(&mut self, n: usize) {
        let Some(life) = self.nodes[n].life() else { return };
        self.drain_node(n);
        let grace = Duration::from_millis(self.rng.u64(100..2_000));
        self.later(grace, Event::EndDrained { node: n, life });
        let down = Duration::from_millis(self.rng.u64(50..2_000));
        self.later(grace + down, Event::StartNode { node: n });
    }

    /// An operator adds an epoch of the same proposer: every block is as valid as before, but what waits is looked at anew.
    fn extend_schedule(&mut self, n: usize) {
        let Some(syncer) = &self.nodes[n].syncer else { return };
        let from = syncer.heads().next_height().plus(self.rng.u64(0..12));
        let entry = ScheduleEntry { from, proposer: self.chain.public_key() };
        self.operate(n, Command::ExtendSchedule(entry));
    }

    pub fn crash_for_a_while(&mut self, n: usize) {
        if self.nodes[n].life().is_none() {
            return;
        }
        self.crash_node(n);
        self.crashes += 1;
        let luck = self.rng.f64();
        let plan = &self.plan;
        let damage = if luck < plan.wipe {
            Some(Damage::Wiped)
        } else if luck < plan.wipe + plan.backup {
            Some(Damage::Restored)
        } else {
            (luck < plan.wipe + plan.backup + plan.loss_of_tail).then_some(Damage::TailLost)
        };
        if let Some(damage) = damage {
            self.trace.note(self.now, format_args!("n{n}'s disk: {damage:?}"));
            self.retractions += self.nodes[n].disk.image.retractions.len() as u64;
            self.nodes[n].disk.damage(damage, &mut self.rng);
            self.nodes[n].damaged = true;
            self.oracle.damaged(n);
        }
        if n == 0 && self.rng.f64() < self.plan.guard_loss {
            self.nodes[n].disk.lose_guard();
        }
        // The whole machine went down, and was perhaps restored.
        if self.hosts[n].up && self.rng.f64() < 0.4 {
            let from_backup = damage.is_some() && self.rng.f64() < self.plan.host_backup;
            self.crash_host(n, from_backup);
        }
        let down = Duration::from_millis(self.rng.u64(50..5_000));
        self.later(down, Event::StartNode { node: n });
    }

    fn crash_host(&mut self, n: usize, from_backup: bool) {
        // A host that signs by itself keeps what it signed.
        let forgets = self.plan.signing != Signing::ByHost && self.rng.bool();
        self.hosts[n].crash(forgets);
        let backup = from_backup.then(|| self.rng.usize(0..1_000));
        let down = Duration::from_millis(self.rng.u64(50..3_000));
        self.later(down, Event::RestartHost { host: n, backup });
    }

    fn set_storage_full(&mut self, n: usize, full: bool) {
        self.nodes[n].storage_full = full;
        self.handle(n, Input::StorageFull(full));
    }

    fn heal(&mut self) {
        self.trace.note(self.now, format_args!("everything heals"));
        self.healed = true;
        self.net.unblock();
        for n in 0..self.nodes.len() {
            self.nodes[n].wall_offset = 0;
            self.later(Duration::from_millis(300), Event::StorageFree { node: n });
            self.later(Duration::from_millis(400), Event::StartNode { node: n });
            self.later(Duration::from_millis(500), Event::RestartHost { host: n, backup: None });
        }
        self.release_all();
        self.later(Duration::from_secs(2), Event::OperatorTurn);
        self.later(Duration::from_secs(15), Event::NoMoreBlocks);
        self.later(Duration::from_secs(16), Event::Judge);
    }

    fn stop_publishing(&mut self) {
        let tip = self.hosts[0].state.tip().map(|tip| tip.height);
        let stored = self.nodes[0].disk.image.heads.soft_height();
        self.last_to_publish = tip.max(stored).or(Some(self.chain.initial_height()));
    }

    /// An operator looks at the nodes, and does what the documentation says.
    fn operator_turn(&mut self) {
        for n in 0..self.nodes.len() {
            let Some(syncer) = &self.nodes[n].syncer else { continue };
            let status = syncer.status();
            if let (Some(halt), true) = (status.halted, self.plan.operator_abandons) {
                let (Halt::Diverged { ours, .. } | Halt::Contradicted { ours, .. }) = halt;
                if n == 0 {
                    self.oracle.abandoned(ours.height);
                }
                self.operate(n, Command::AbandonBranch(ours));
            }
            if status.vetoed.is_some() {
                self.operate(n, Command::LiftVeto);
            }
            // What was signed, and lost before it reached anybody, is gone: the operator says so.
            let patience = self.plan.faults_last + Duration::from_secs(30);
            let stuck = status.not_ready.is_some() || self.hosts[n].refused_since.is_some();
            if n == 0 && stuck && status.halted.is_none() && self.now > patience {
                self.hosts[n].refused_since = None;
                let last = status.heads.soft_id();
                self.oracle.abandoned(last.map_or(self.chain.initial_height(), |last| last.height.next()));
                self.operate(n, Command::AssertSigned(last));
            }
        }
    }

    // -------------------------------------------------------------------------------------------- liars

    pub fn is_alive(&self, index: usize) -> bool {
        self.nodes.get(index).is_none_or(|node| node.life().is_some())
    }

    /// `None` for an honest node.
    pub fn lie_of(&self, index: usize) -> Option<Lie> {
        self.liars.get(index.checked_sub(self.nodes.len())?).map(|liar| liar.lie)
    }

    fn reformed(&self) -> bool {
        self.healed && !self.plan.liars_persist
    }

    pub fn forgeries_abound(&self) -> bool {
        self.liars.iter().any(|liar| matches!(liar.lie, Lie::Copies | Lie::Forges | Lie::FalseHead | Lie::Garbage))
    }

    /// The blocks that a liar builds its lies on.
    pub fn branch_of(&self, index: usize) -> Vec<AuthenticBlock> {
        if self.lie_of(index) == Some(Lie::Twin) && !self.twin_branch.is_empty() {
            return self.twin_base.iter().chain(&self.twin_branch).cloned().collect();
        }
        self.main_branch()
    }

    /// What the sequencer's node has.
    pub fn main_branch(&self) -> Vec<AuthenticBlock> {
        let blocks = &self.nodes[0].disk.image.blocks;
        blocks.values().filter_map(|(block, _)| self.chain.signed(block.id().hash)).cloned().collect()
    }

    pub fn lie_to_serve(&self, index: usize) -> Lie {
        let lie = self.lie_of(index).unwrap_or(Lie::WeakRelay);
        if self.reformed() && lie != Lie::Twin { Lie::WeakRelay } else { lie }
    }

    pub fn liar_hears(&mut self, index: usize, from: usize, message: &Message) {
        let lie = self.lie_to_serve(index);
        let liar = index - self.nodes.len();
        if !lie.forwards() || !self.liars[liar].seen.insert(message.id) {
            return;
        }
        let sound = self.chain.check(&message.bytes);
        match (lie, &sound) {
            // As a Go node does: what does not even decode goes nowhere.
            (Lie::WeakRelay, Err(fault)) if !matches!(fault, Fault::BadSignature) => return,
            // Whoever must not be blamed checks what it passes on.
            (_, Err(_)) if self.lie_of(index).is_some_and(|lie| lie != Lie::WeakRelay && !lie.deserves_bans()) => {
                return;
            }
            (Lie::Copies, Ok(block)) => {
                let copy = liars::copy(block, &mut self.rng);
                self.liar_gossips(liar, copy);
            }
            _ => {}
        }
        self.spread(index, Some(from), message);
    }

    fn liar_gossips(&mut self, liar: usize, bytes: Bytes) {
        let index = self.nodes.len() + liar;
        self.liars[liar].messages += 1;
        let message = Message { id: (index, self.liars[liar].messages), bytes };
        self.spread(index, None, &message);
    }

    fn liars_turn(&mut self) {
        if self.reformed() {
            return;
        }
        for liar in 0..self.liars.len() {
            let branch = self.main_branch();
            let Some(top) = branch.last() else { return };
            let bytes = match self.liars[liar].lie {
                Lie::Replays => branch[self.rng.usize(0..branch.len())].block().bytes().clone(),
                Lie::Copies => liars::copy(&branch[self.rng.usize(0..branch.len())], &mut self.rng),
                Lie::ForgesRarely if self.rng.f64() > 0.02 => continue,
                Lie::Forges | Lie::ForgesRarely => {
                    self.chain.forge(top.height().next(), top.hash(), &Bytes::from_static(b"forged"))
                }
                Lie::FalseHead => {
                    let height = Height::MIN.plus(self.rng.u64(1_000..=1 << 40));
                    self.chain.forge(height, top.hash(), &Bytes::from_static(b"far"))
                }
                Lie::Garbage => (0..self.rng.usize(0..150)).map(|_| self.rng.u8(..)).collect(),
                _ => continue,
            };
            self.liar_gossips(liar, bytes);
        }
    }

    pub fn fork_height(&self) -> Option<Height> {
        self.plan.twin.map(|twin| self.chain.initial_height().plus(twin.fork))
    }

    /// Whoever holds the stolen key signs the next block of its branch.
    fn twin_turn(&mut self) {
        let (Some(twin), Some(fork)) = (self.plan.twin, self.fork_height()) else { return };
        if self.twin_branch.len() as u64 >= twin.length {
            return;
        }
        let parent = match self.twin_branch.last() {
            Some(last) => last.clone(),
            None if self.healed => return,
            None => {
                let mut base = self.main_branch();
                base.retain(|block| block.height() < fork);
                let Some(below) = base.last().filter(|below| below.height().next() == fork).cloned() else { return };
                self.twin_base = base;
                below
            }
        };
        let payload = Bytes::copy_from_slice(&parent.hash().0[..self.plan.payload_bytes.min(32)]);
        let mut block = self.chain.make(Some(parent.id()), parent.time_unix_nanos() + 1_000_000, &payload);
        if !self.twins.insert(block.hash()) {
            block = self.chain.make(Some(parent.id()), parent.time_unix_nanos() + 1_000_001, &payload);
            self.twins.insert(block.hash());
        }
        self.trace.note(self.now, format_args!("the twin signs {:?}", block.id()));
        self.twin_branch.push(block.clone());
        self.liar_gossips(0, block.block().bytes().clone());
        self.post_to_da(&block, true);
    }
}
