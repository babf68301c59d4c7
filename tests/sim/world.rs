//! The world: one queue of events on one simulated clock, and everything that happens in it.
//!
//! ```text
//!   faults ............................. heal ......................................... converged, or out of time
//!   |  everything in the plan goes wrong  |  links, disks, clocks and hosts are well;  |
//!   |  blocks are made all the while      |  a few more blocks, then no more           |
//! ```

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use blocksyncd::block::{BlockId, Hash, Height};
use blocksyncd::sync::{Answer, CommitId, DaPosition, FetchOutcome, GuardState, Input, PeerId, RequestId, Ticket};
use blocksyncd::verify::AuthenticBlock;

use super::adversary::{Adversary, Fork};
use super::byzantine_answers::Behaviour;
use super::chain::Chain;
use super::da::Da;
use super::dice::{Dice, Purpose};
use super::disk::DiskFault;
use super::faults::Plan;
use super::host::Host;
use super::invariants::Oracle;
use super::liveness::{HEAL_BOUND, Heights, LOOK_EVERY, Owed};
use super::mutations::Bug;
use super::network::{Network, Packet};
use super::node::{Node, Waits};
use super::runner::Run;
use super::tally::{State, Tally};
use super::trace::Trace;
use super::watchers::Watcher;

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
    /// That it is on disk is told.
    Durable {
        node: usize,
        life: u64,
        commit: CommitId,
        /// Of the blocks that are stored then.
        stored_bytes: u64,
    },
    Signed {
        node: usize,
        life: u64,
        ticket: Ticket,
        outcome: Result<AuthenticBlock, String>,
    },
    KnownPeersTried {
        node: usize,
        life: u64,
        round: u64,
    },
    FetchLate {
        node: usize,
        life: u64,
        request: RequestId,
        outcome: FetchOutcome,
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
    AdversariesTurn,
    TwinTurn,
    LinksTurn,
    FaultsTurn,
    LivenessTurn,
    OperatorTurn,
    /// The end of a fault.
    StartNode {
        node: usize,
    },
    RestartHost {
        host: usize,
        backup: Option<usize>,
    },
    SignerBack,
    /// The operator hears that DA has reorganised.
    HearsOfReorganisation {
        node: usize,
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

/// What a world that went well amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub steps: u64,
    pub simulated: Duration,
    pub blocks: u64,
    pub tally: Tally,
    pub hash: Option<u64>,
}

#[derive(Debug)]
pub struct World {
    pub plan: Plan,
    pub bug: Option<Bug>,
    pub dice: Dice,
    pub now: Duration,
    queue: BinaryHeap<Scheduled>,
    scheduled: u64,
    pub chain: Chain,
    pub net: Network,
    pub nodes: Vec<Node>,
    pub adversaries: Vec<Adversary>,
    pub hosts: Vec<Host>,
    pub watchers: Vec<Watcher>,
    /// Who has missed something, beside each node.
    pub laggards: Vec<Watcher>,
    pub da: Da,
    /// The branch of the sequencer's node; see [`World::main_branch`].
    pub main_branch: Rc<Vec<AuthenticBlock>>,
    /// The blocks of the second branch.
    pub twins: BTreeSet<Hash>,
    /// The second and the third branch.
    pub forks: [Fork; 2],
    /// Whose node and host make the blocks.
    pub publisher: usize,
    /// The node whose host is shown another DA, while it may believe it.
    pub misled: Option<usize>,
    /// From where on DA was replaced, for those whose operators have not acted yet; and the lowest that ever was.
    pub old_da: BTreeMap<usize, u64>,
    pub replaced_from: Option<u64>,
    /// What operators have added to the schedule and take back: whose, from where on, and when.
    pub wrong_entries: Vec<(usize, Height, Duration)>,
    /// Which nodes have taken back what was named rightly after all, and where on DA.
    pub to_rescan: Vec<(usize, u64)>,
    /// Where hosts looked at DA again since everything healed.
    pub looked_again: BTreeSet<(usize, DaPosition)>,
    pub oracle: Oracle,
    pub trace: Trace,
    pub healed: bool,
    pub last_to_publish: Option<Height>,
    pub tally: Tally,
    violation: Option<String>,
    why_not_converged: Option<String>,
    /// Which block all agree on, and since when.
    pub agreed: Option<(Option<BlockId>, Duration)>,
    /// Since when whoever agreed with all has followed what a liar proves to exist.
    pub astray: BTreeMap<usize, (Option<BlockId>, Duration)>,
    /// How far all had come when anybody had something new last, and when that was.
    pub moved: (Heights, Duration),
    /// Somebody was let off then, since it lacked what nobody had.
    was_excused: bool,
    /// By node.
    pub owed: Vec<Owed>,
}

/// So many adversaries are many.
const MANY: usize = 12;
/// So many blocks are a long chain.
const LONG: u64 = 600;
const LINKS_EVERY: Duration = Duration::from_millis(250);
pub const FAULTS_EVERY: Duration = Duration::from_millis(200);
const HOSTS_EVERY: Duration = Duration::from_millis(400);

pub fn peer_id(index: usize) -> PeerId {
    PeerId::new(&[0, 0, 0, u8::try_from(index).expect("few peers")])
}

pub fn index_of(peer: &PeerId) -> usize {
    peer.as_bytes().last().copied().map_or(usize::MAX, usize::from)
}

impl World {
    pub fn new(run: Run) -> Self {
        let Run { plan, bug, trace, checks } = run;
        let initial_height = Height::new(plan.initial_height).expect("at least 1");
        let mut behaviours = plan.adversaries.clone();
        if plan.twin.is_some() {
            behaviours.insert(0, Behaviour::Twin);
        }
        if plan.third.is_some() {
            behaviours.insert(1, Behaviour::Twin);
        }
        let mut dice = Dice::new(plan.drawing, plan.seed, plan.honest + behaviours.len());
        let layout = dice.common(Purpose::Layout);
        let mut nodes: Vec<Node> = (0..plan.honest).map(|n| Node::new(initial_height, plan.keeps[n], &plan)).collect();
        let signers = if plan.second_signer { 2 } else { 1 };
        for node in &mut nodes[signers..] {
            // Followers hold no key.
            node.disk.guard = GuardState::Missing;
        }
        let disk_fault = match bug {
            Some(Bug::WatermarkAhead) => Some(DiskFault::WatermarkAhead),
            Some(Bug::FsyncLies) => Some(DiskFault::FsyncLies),
            _ => None,
        };
        for node in &mut nodes {
            node.disk.backs_up_guard = plan.guard_restored;
            if let Some(fault) = disk_fault {
                node.disk.go_wrong(fault);
            }
        }
        Self {
            bug,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            chain: Chain::new(initial_height, plan.max_block_bytes, checks),
            net: match plan.crowd_around {
                Some(node) => Network::crowd(plan.honest, behaviours.len(), node, layout),
                None if plan.sparse => Network::sparse(plan.honest, behaviours.len(), layout),
                None => Network::new(plan.honest, behaviours.len(), layout),
            },
            hosts: nodes.iter().enumerate().map(|(n, _)| Host::new(initial_height, n == 0)).collect(),
            watchers: Vec::new(),
            laggards: Vec::new(),
            owed: vec![Owed::default(); nodes.len()],
            nodes,
            adversaries: behaviours
                .into_iter()
                .map(|behaviour| Adversary { behaviour, seen: BTreeSet::new(), messages: 0 })
                .collect(),
            da: Da::default(),
            main_branch: Rc::default(),
            twins: BTreeSet::new(),
            forks: [Fork::default(), Fork::default()],
            publisher: 0,
            misled: (plan.misled > 0.0).then_some(plan.honest - 1),
            old_da: BTreeMap::new(),
            replaced_from: None,
            wrong_entries: Vec::new(),
            to_rescan: Vec::new(),
            looked_again: BTreeSet::new(),
            oracle: Oracle::default(),
            trace,
            healed: false,
            last_to_publish: None,
            tally: Tally::default(),
            violation: None,
            why_not_converged: None,
            agreed: None,
            astray: BTreeMap::new(),
            moved: (Heights::new(), Duration::ZERO),
            was_excused: false,
            dice,
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

    /// Everybody starts, and what comes again and again begins.
    pub fn begin(&mut self) {
        for n in 0..self.nodes.len() {
            let skew = i128::try_from(self.plan.skew.as_nanos()).unwrap_or(0);
            let rng = self.dice.common(Purpose::Layout);
            self.nodes[n].wall_offset = rng.i128(-skew..=skew);
            let late = if n > 0 && rng.f64() < 0.2 { rng.u64(1_000..15_000) } else { rng.u64(0..100) };
            self.later(Duration::from_millis(late), Event::StartNode { node: n });
        }
        for event in [
            Event::LinksTurn,
            Event::FaultsTurn,
            Event::HostsTurn,
            Event::AdversariesTurn,
            Event::TwinTurn,
            Event::LivenessTurn,
        ] {
            self.later(Duration::from_millis(20), event);
        }
        self.later(self.plan.block_time, Event::Produce);
        self.tally.add(State::ManyPeers, u64::from(self.adversaries.len() >= MANY));
        self.schedule_da();
        self.add_watchers();
        if self.plan.operator_always_acts {
            self.later(Duration::from_secs(2), Event::OperatorTurn);
        }
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Outcome, String> {
        self.begin();
        self.later(self.plan.faults_last, Event::Heal);
        while let Some(Scheduled { at, event, .. }) = self.queue.pop() {
            self.now = at;
            if matches!(event, Event::Judge) && self.judge_end() {
                return Ok(self.outcome());
            }
            self.step(event);
            if let Some(why) = self.violation.take() {
                return Err(format!("at {:.3} s: {why}", self.now.as_secs_f64()));
            }
            if self.agreed.is_none() && self.is_out_of_time() {
                let why = self.why_not_converged.take().unwrap_or_default();
                return Err(format!("not converged {HEAL_BOUND:?} after healing: {why}; {}", self.stores()));
            }
        }
        Err("nothing is left to happen".to_owned())
    }

    /// Looks whether all agree, and have agreed for long enough.
    fn judge_end(&mut self) -> bool {
        let expected = self.da.last_winner();
        // The publisher, who had to wait, goes on.
        self.agreed = self.agreed.filter(|(on, _)| *on == expected && self.da.is_quiet());
        if self.agreed.is_none() && self.is_making_a_block() && !self.is_named_and_gone() {
            self.why_not_converged = Some("a block is being signed, or written".to_owned());
            return false;
        }
        self.note_who_is_astray(expected);
        match (self.converged(), self.agreed) {
            (Ok(()), _) => {
                self.was_excused |= self.is_publishers_chain_gone();
                self.was_excused |=
                    (0..self.nodes.len()).any(|n| self.lacks_what_is_gone(n) || self.waits_for_operator(n));
                let (_, since) = *self.agreed.get_or_insert((expected, self.now));
                return self.now >= since + self.plan.stays;
            }
            // Nobody owed it anything, and it has found more after all.
            (Err(_), Some(_)) if self.was_excused => self.agreed = None,
            (Err(why), Some((_, since))) => self.fail(format!("all agreed at {since:?}, and do not any more: {why}")),
            (Err(why), None) => self.why_not_converged = Some(why),
        }
        false
    }

    fn is_making_a_block(&self) -> bool {
        let node = &self.nodes[self.publisher];
        let decided = node.syncer.as_ref().and_then(|syncer| syncer.heads().soft_id());
        node.is_signing() || decided != node.disk.image.heads.soft_id()
    }

    /// Lets things happen until `done`, or until `end`; says which. For worlds that are set up by hand.
    pub fn run_until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) -> bool {
        while !done(self) {
            match self.queue.pop() {
                Some(Scheduled { at, event, .. }) if at <= end => {
                    self.now = at;
                    self.step(event);
                }
                later => {
                    self.queue.extend(later);
                    self.now = end;
                    return false;
                }
            }
            if let Some(why) = &self.violation {
                panic!("at {:.3} s: {why}", self.now.as_secs_f64());
            }
        }
        true
    }

    fn outcome(&mut self) -> Outcome {
        let blocks = self.da.last_winner().map_or(0, |id| id.height.above(self.chain.initial_height()) + 1);
        self.tally.add(State::LongChain, u64::from(blocks >= LONG));
        Outcome {
            steps: self.trace.steps(),
            simulated: self.now,
            blocks,
            tally: self.tally.clone(),
            hash: self.trace.hash(),
        }
    }

    fn step(&mut self, event: Event) {
        let life_of = |world: &Self, n: usize| world.nodes[n].life();
        match event {
            Event::Packet { from, to, generation, packet } => self.on_packet(from, to, generation, packet),
            Event::PeerDown { node, life, peer } if life_of(self, node) == Some(life) => self.on_peer_down(node, peer),
            Event::Checked { node, life, ticket } if life_of(self, node) == Some(life) => self.on_checked(node, ticket),
            Event::Written { node, life } if life_of(self, node) == Some(life) => self.on_written(node),
            Event::Durable { node, life, commit, stored_bytes } if life_of(self, node) == Some(life) => {
                self.on_told(node, commit, stored_bytes);
            }
            Event::Signed { node, life, ticket, outcome } if life_of(self, node) == Some(life) => {
                self.nodes[node].signing = None;
                self.handle(node, Input::Signed { ticket, outcome });
            }
            Event::KnownPeersTried { node, life, round } if life_of(self, node) == Some(life) => {
                self.handle(node, Input::KnownPeersTried { round });
            }
            Event::FetchLate { node, life, request, outcome } if life_of(self, node) == Some(life) => {
                self.end_fetch(node, request, outcome);
            }
            Event::Wakeup { node, life, at } if life_of(self, node) == Some(life) => self.on_wakeup(node, at),
            Event::EndDrained { node, life } if life_of(self, node) == Some(life) => self.end_drained(node),
            // All of these were for a process that is gone.
            Event::PeerDown { .. }
            | Event::Checked { .. }
            | Event::Written { .. }
            | Event::Durable { .. }
            | Event::Signed { .. }
            | Event::KnownPeersTried { .. }
            | Event::FetchLate { .. }
            | Event::EndDrained { .. }
            | Event::Wakeup { .. } => {}
            Event::Answered { host, host_life, waits, ticket, answer } => {
                self.on_answered(host, host_life, waits, ticket, &answer);
            }
            Event::HostTurn { host } => self.host_turn(host),
            Event::StartNode { node } => self.start_node(node),
            Event::RestartHost { host, backup } => self.hosts[host].restart(backup),
            Event::SignerBack => self.signer_is_back(),
            Event::HearsOfReorganisation { node } => self.read_replaced_da(node),
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
                self.watchers_turn();
                self.laggards_turn();
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
            Event::AdversariesTurn => {
                self.adversaries_turn();
                Duration::from_millis(self.dice.common(Purpose::Lies).u64(200..900))
            }
            Event::TwinTurn => {
                self.twins_turn();
                self.plan.block_time
            }
            Event::LinksTurn => {
                self.tend_links();
                LINKS_EVERY
            }
            Event::FaultsTurn => {
                self.inject_faults();
                FAULTS_EVERY
            }
            Event::LivenessTurn => {
                self.look_for_progress();
                self.schedules_turn();
                LOOK_EVERY
            }
            Event::OperatorTurn => {
                self.operator_turn();
                Duration::from_secs(2)
            }
            _ => return,
        };
        self.later(every, event);
    }
}
