//! The hosts: each follows its own sidecar through the real cursor, keeps a chain of its own, crashes, restores backups, and
//! resumes from its own state. The first one also makes the blocks.
//!
//! The contract, checked at every event:
//! 1. `soft` is of the next height and stands on the host's newest block, unless a `gap` came between.
//! 2. `hard` is of the next block above the host's hard one that it was given, above any gap, and that is not pruned, names the
//!    host's own block there, and is what DA decided.
//! 3. `retract` names a block that the host has, or the upper end of a gap, at or above its hard block.
//! 4. It is asked to name only what it has, and once for each height, as long as it waits.
//! 5. A `gap` begins at the next height, and ends right below the tail; `dataLoss` is said only where there was damage.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use blocksyncd::block::{BlockId, Hash, Height};
use blocksyncd::sync::cursor::{self, Cursor, EventFilter, LinkCheck, Locator, Resumed, Start, Step, WaitsFor};
use blocksyncd::sync::{Answer, Command, Epoch, Input, Proposal, PublishAnswer, Ticket};
use blocksyncd::verify::VerifiedBlock;

use super::da::Reporter;
use super::dice::Purpose;
use super::disk::Image;
use super::faults::Signing;
use super::mutations::Bug;
use super::node::Waits;
use super::tally::State;
use super::telling::Told;
use super::world::{Event, World};

impl cursor::ChainView for Image {
    type Error = Infallible;

    fn hash(&self, height: Height) -> Result<Option<Hash>, Infallible> {
        Ok(self.id(height).map(|id| id.hash))
    }

    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, Infallible> {
        Ok(self.retracted_since(epoch))
    }

    fn is_given_up(&self, hash: Hash) -> Result<bool, Infallible> {
        Ok(self.disowned.keys().any(|id| id.hash == hash))
    }

    fn vetoed(&self) -> Result<Option<BlockId>, Infallible> {
        Ok(self.vetoed)
    }
}

/// What a host has on its own disk.
#[derive(Clone, Debug)]
pub struct HostState {
    /// Ascending; between two that do not follow each other the host was told of a gap.
    pub chain: Vec<BlockId>,
    /// It was told of a gap above its newest block, up to here.
    pub gap_to: Option<Height>,
    /// From here on it was given each block: above the last gap that it was told of, or lower after a retract.
    pub given_from: Height,
    pub hard: Option<BlockId>,
    /// What it made: to be published again when the answer was lost, or the sidecar's disk was.
    pub made: BTreeMap<Height, Proposal>,
    /// The newest height that it posted to DA.
    pub posted: Option<Height>,
    /// What it is to name when it resumes.
    pub asked_for: Option<Height>,
}

impl HostState {
    pub fn new(initial: Height) -> Self {
        let (chain, made) = (Vec::new(), BTreeMap::new());
        Self { chain, gap_to: None, given_from: initial, hard: None, made, posted: None, asked_for: None }
    }

    pub fn tip(&self) -> Option<BlockId> {
        self.chain.last().copied()
    }

    /// Where the first block above `height` is.
    fn above(&self, height: Height) -> usize {
        self.chain.partition_point(|id| id.height <= height)
    }

    fn at(&self, height: Height) -> Option<BlockId> {
        self.chain.get(self.above(height).checked_sub(1)?).copied().filter(|id| id.height == height)
    }

    /// The height of the next soft event.
    fn next(&self, initial: Height) -> Height {
        self.gap_to.or(self.tip().map(|tip| tip.height)).map_or(initial, Height::next)
    }

    /// Newest first, and ever sparser.
    pub fn locator(&self) -> Locator {
        let mut blocks = Vec::new();
        let (mut index, mut step) = (self.chain.len(), 1);
        while let Some(next) = index.checked_sub(step).filter(|_| blocks.len() < 30) {
            blocks.push(self.chain[next]);
            index = next;
            if blocks.len() > 4 {
                step *= 2;
            }
        }
        self.locator_of(blocks)
    }

    /// Of these, newest first, and of the one that the sidecar has asked for.
    pub fn locator_of(&self, mut blocks: Vec<BlockId>) -> Locator {
        if let Some(asked_for) = self.asked_for.and_then(|height| self.at(height)) {
            let index = blocks.partition_point(|id| id.height > asked_for.height);
            if blocks.get(index) != Some(&asked_for) {
                blocks.insert(index, asked_for);
            }
        }
        Locator::new(blocks, self.hard, Some(self.given_from)).expect("the host's own chain is in order")
    }

    /// There is no stream for it yet. What it has at the height that it is asked for, it can name.
    pub fn told_to_wait(&mut self, waits_for: WaitsFor) -> Result<(), String> {
        let WaitsFor::Name(height) = waits_for else { return Ok(()) };
        if self.asked_for.replace(height) == Some(height) {
            return Err(format!("asked again for what it has at {height}: {:?}", self.at(height)));
        }
        self.at(height).map(|_| ()).ok_or_else(|| format!("asked for {height}, and has nothing there"))
    }

    /// It has a stream again: that goes on above the newest block that it has.
    pub fn resumed(&mut self, initial: Height) {
        (self.gap_to, self.asked_for) = (None, None);
        // A gap after which nothing was given is told again, if it is still there.
        self.given_from = self.given_from.min(self.next(initial));
    }

    /// It is given the next block.
    pub fn soft(&mut self, initial: Height, id: BlockId, parent: Option<Hash>) -> Result<(), String> {
        let next = self.next(initial);
        if id.height != next {
            return Err(format!("soft({id:?}) where {next} comes next"));
        }
        if self.gap_to.take().is_none() && parent != self.tip().map(|tip| tip.hash) {
            return Err(format!("soft({id:?}) on parent {parent:?}, the host's newest is {:?}", self.tip()));
        }
        self.chain.push(id);
        Ok(())
    }

    /// It is told that it is not given these.
    pub fn gap(&mut self, initial: Height, tail: Height, from: Height, to: Height) -> Result<(), String> {
        let next = self.next(initial);
        if from != next || to.next() != tail || from > to {
            return Err(format!("a gap {from}..={to} where {next} comes next, and the tail is {tail}"));
        }
        (self.gap_to, self.given_from) = (Some(to), to.next());
        Ok(())
    }

    pub fn hard(&mut self, initial: Height, tail: Height, id: BlockId) -> Result<(), String> {
        if self.at(id.height) != Some(id) {
            return Err(format!("hard({id:?}) where the host has {:?}", self.at(id.height)));
        }
        let next = self.hard.map_or(initial, |hard| hard.height.next()).max(self.given_from);
        let due = self.chain.iter().find(|id| id.height >= next.max(tail)).map(|id| id.height);
        if id.height < next || due.is_some_and(|due| due < id.height) {
            return Err(format!("hard({id:?}) where {due:?} comes next, not below {next}"));
        }
        self.hard = Some(id);
        Ok(())
    }

    /// It is to go back.
    pub fn retract(&mut self, initial: Height, to: Option<BlockId>) -> Result<(), String> {
        let keep = to.map_or(0, |to| self.above(to.height));
        let newest = keep.checked_sub(1).and_then(|index| self.chain.get(index)).copied();
        // Into the gap below the lowest block that it was told: it has what it was told to pass over.
        let gap_to =
            to.map(|to| to.height).filter(|to| newest.map(|newest| newest.height) < Some(*to) && *to < self.given_from);
        if newest != to && gap_to.is_none() {
            let tip = self.tip();
            return Err(format!("told to go back to {to:?}, the host has {newest:?} there, its tip is {tip:?}"));
        }
        if self.hard.is_some_and(|hard| to.is_none_or(|to| to.height < hard.height)) {
            return Err(format!("told to go back to {to:?}, below its hard block {:?}", self.hard));
        }
        self.chain.truncate(keep);
        self.gap_to = gap_to;
        self.given_from = self.given_from.min(to.map_or(initial, |to| to.height.next()));
        Ok(())
    }
}

#[derive(Debug)]
pub struct Host {
    pub up: bool,
    pub life: u64,
    pub state: HostState,
    backups: Vec<HostState>,
    /// The open stream, and the life of the node that it is of.
    pub stream: Option<(u64, Cursor)>,
    /// What was said on it.
    told: Told,
    pub reporter: Reporter,
    /// What its node has of the chain it posts to DA, as it made it, or may have.
    pub posts: bool,
    /// Which reports in turn with it.
    pub other_reporter: Reporter,
    /// Waiting for answers, lowest first; only the publisher's.
    pub pending: VecDeque<(Ticket, Height)>,
    pub pending_since: Duration,
    /// Since when the guard says that another block was signed, which is not stored.
    pub refused_since: Option<Duration>,
    /// It was ever told of a gap; it was ever told to go back.
    was_told: [bool; 2],
}

impl Host {
    pub fn new(initial: Height, posts: bool) -> Self {
        Self {
            up: true,
            life: 1,
            state: HostState::new(initial),
            backups: Vec::new(),
            stream: None,
            told: Told::default(),
            reporter: Reporter::default(),
            posts,
            other_reporter: Reporter::second(),
            pending: VecDeque::new(),
            pending_since: Duration::ZERO,
            refused_since: None,
            was_told: [false; 2],
        }
    }

    /// The sidecar is gone, and every call with it.
    pub fn lose_node(&mut self) {
        self.stream = None;
        self.pending.clear();
        self.reporter.forget();
        self.other_reporter.forget();
    }

    /// Its home is made anew, and what was copied of it is of no use any more.
    pub fn make_anew(&mut self, initial: Height) {
        self.state = HostState::new(initial);
        self.backups.clear();
    }

    pub fn back_up(&mut self) {
        self.backups.push(self.state.clone());
    }

    /// With `forgets`, what it made last was not on its own disk yet.
    pub fn crash(&mut self, forgets: bool) {
        self.up = false;
        self.life += 1;
        self.lose_node();
        if forgets {
            let tip = self.state.tip().map(|tip| tip.height);
            self.state.made.retain(|height, _| Some(*height) <= tip);
        }
    }

    pub fn restart(&mut self, from_backup: Option<usize>) {
        if std::mem::replace(&mut self.up, true) {
            return;
        }
        if let Some(backup) = from_backup.and_then(|pick| self.backups.get(pick % self.backups.len().max(1))) {
            self.state = backup.clone();
        }
    }
}

/// What makes this block again.
fn proposal_of(block: &VerifiedBlock) -> Proposal {
    let (header, payload) = (block.block().header(), block.block().payload().clone());
    Proposal {
        height: header.height,
        parent: header.parent_hash,
        time_unix_nanos: header.time_unix_nanos,
        host_id: header.host_id.clone(),
        payload_hash: header.payload_hash,
        payload,
    }
}

pub fn consumer_name(consumer: u8) -> String {
    format!("consumer {consumer}")
}

/// How many events one call of `next` gives.
const EVENTS: usize = 24;
/// How far a reader may lag in a world whose planted bug drops what lagging readers miss.
const LAG: u64 = 6;

impl World {
    /// The host reads its stream, and the publisher sees what there is to post.
    pub fn host_turn(&mut self, n: usize) {
        if !self.hosts[n].up || self.nodes[n].life().is_none() {
            return;
        }
        self.open_stream(n);
        self.read_stream(n);
        if self.hosts[n].posts {
            self.post_blocks(n);
        }
        if !self.healed && self.dice.of(Purpose::Host, n).f64() < self.plan.ack {
            self.acknowledge(n);
        }
    }

    fn open_stream(&mut self, n: usize) {
        let node = &self.nodes[n];
        let (Some(life), Some(announced)) = (node.life(), node.announced) else { return };
        if self.hosts[n].stream.is_some() {
            return;
        }
        let image = &node.disk.image;
        let Some(heads) = cursor::visible(&announced, &image.heads) else { return };
        let start = Start::Resume(self.hosts[n].state.locator());
        let initial = self.chain.initial_height();
        let resumed = match cursor::resume(&start, EventFilter::Soft, initial, &heads, image) {
            Ok(resumed) => resumed,
            Err(never) => match never {},
        };
        match resumed {
            Resumed::Started(cursor) => {
                self.trace.note(self.now, format_args!("h{n} resumes at {cursor:?}"));
                self.hosts[n].state.resumed(initial);
                self.hosts[n].stream = Some((life, cursor));
                self.hosts[n].told = Told::on_a_new_stream(&heads);
            }
            Resumed::Waiting(waits_for) => {
                if let Err(why) = self.hosts[n].state.told_to_wait(waits_for) {
                    self.fail(format!("h{n}: {why}"));
                }
            }
            // What its host took for hard was another DA's, and the store that had told it so is gone.
            Resumed::ForkedBelowHard { .. } if self.was_misled(n) => {
                self.hosts[n].state = HostState::new(initial);
            }
            // It is made anew when its operator looks.
            Resumed::ForkedBelowHard { .. } if self.has_old_da(n) => {}
            Resumed::ForkedBelowHard { theirs, ours } => {
                self.fail(format!(
                    "h{n} was told that its hard block {theirs:?} is not on the chain, which has {ours:?}"
                ));
            }
        }
    }

    fn read_stream(&mut self, n: usize) {
        for _ in 0..EVENTS {
            if self.is_over() {
                return;
            }
            let node = &self.nodes[n];
            let (Some(life), Some(announced)) = (node.life(), node.announced) else { return };
            let image = &node.disk.image;
            let Some(heads) = cursor::visible(&announced, &image.heads) else { return };
            let Some((opened, mut cursor)) = self.hosts[n].stream else { return };
            if opened != life {
                self.hosts[n].stream = None;
                return;
            }
            let step = match cursor.step(&heads, image) {
                Ok(step) => step,
                Err(never) => match never {},
            };
            if step == Step::Idle {
                self.hosts[n].stream = Some((opened, cursor));
                return;
            }
            self.trace.note(self.now, format_args!("h{n} is told {step:?}"));
            let host = &mut self.hosts[n];
            if let Err(why) = host.told.check(step, &announced, &self.nodes[n].disk.image, &host.state) {
                return self.fail(format!("h{n}: {why}"));
            }
            self.count_told(n, &step);
            let told = match step {
                Step::Soft(height) => self.told_soft(n, height, &mut cursor),
                Step::Hard(height) => self.told_hard(n, height),
                Step::Retract { to, .. } => self.told_retract(n, to),
                Step::Gap { from, to } => self.told_gap(n, from, to),
                Step::DataLoss(lost) if !self.nodes[n].damaged => Err(format!("{lost:?} without damage")),
                Step::DataLoss(_) | Step::Equivocation { .. } => Ok(true),
                Step::Lost(_) => Ok(false),
                Step::Idle => unreachable!("returned above"),
            };
            match told {
                Ok(true) => self.hosts[n].stream = Some((opened, cursor)),
                Ok(false) => self.hosts[n].stream = None,
                Err(why) => return self.fail(format!("h{n}: {why}")),
            }
        }
        // A full batch: there is more.
        self.later(Duration::from_millis(2), Event::HostTurn { host: n });
    }

    fn count_told(&mut self, n: usize, step: &Step) {
        let state = match step {
            Step::Retract { .. } => State::RetractTold,
            Step::Gap { .. } => State::GapTold,
            Step::DataLoss(_) => State::DataLossTold,
            Step::Equivocation { .. } => State::EquivocationTold,
            Step::Lost(_) => State::StreamLost,
            Step::Soft(_) | Step::Hard(_) | Step::Idle => return,
        };
        self.tally.count(state);
        let was_told = &mut self.hosts[n].was_told;
        was_told[0] |= state == State::GapTold;
        was_told[1] |= state == State::RetractTold;
        if *was_told == [true, true] {
            self.tally.count(State::GapAndRetractTold);
        }
    }

    fn told_soft(&mut self, n: usize, height: Height, cursor: &mut Cursor) -> Result<bool, String> {
        let image = &self.nodes[n].disk.image;
        let Some(block) = image.block(height) else { return Err(format!("soft({height}) is not stored")) };
        let (id, parent) = (block.id(), block.block().header().parent_hash);
        let given = proposal_of(block);
        if cursor.link(id, parent) == LinkCheck::Broken {
            return Ok(false);
        }
        if self.bug == Some(Bug::DropWhenLagging) && image.heads.soft_height().is_some_and(|s| s.above(height) > LAG) {
            return Ok(true);
        }
        self.check_told_soft(n, id)?;
        let initial = self.chain.initial_height();
        let may_publish = self.may_publish(n);
        let state = &mut self.hosts[n].state;
        state.soft(initial, id, parent)?;
        if may_publish {
            // It has what it was given, and can publish it again.
            state.made.insert(id.height, given);
        }
        Ok(true)
    }

    fn told_gap(&mut self, n: usize, from: Height, to: Height) -> Result<bool, String> {
        let (tail, initial) = (self.nodes[n].disk.image.heads.tail, self.chain.initial_height());
        self.hosts[n].state.gap(initial, tail, from, to)?;
        Ok(true)
    }

    fn told_hard(&mut self, n: usize, height: Height) -> Result<bool, String> {
        let Some(id) = self.nodes[n].disk.image.id(height) else { return Err(format!("hard({height}) is not stored")) };
        self.check_hard(n, id)?;
        let (tail, initial) = (self.nodes[n].disk.image.heads.tail, self.chain.initial_height());
        self.hosts[n].state.hard(initial, tail, id)?;
        Ok(true)
    }

    fn told_retract(&mut self, n: usize, to: Option<BlockId>) -> Result<bool, String> {
        let initial = self.chain.initial_height();
        let host = &mut self.hosts[n];
        let state = &mut host.state;
        state.retract(initial, to)?;
        let tip = state.tip().map(|tip| tip.height);
        state.made.retain(|height, _| Some(*height) <= tip);
        state.posted = state.posted.min(tip);
        host.pending.clear();
        if n == 0 && self.plan.signing == Signing::ByHost {
            // The host's own word: what it signs from here on replaces what it was told to undo.
            self.oracle.abandoned(n, to.map_or(initial, |to| to.height.next()));
        }
        Ok(true)
    }

    pub fn on_answered(&mut self, n: usize, life: u64, waits: Waits, ticket: Ticket, answer: &Answer) {
        let stored = self.nodes[n].disk.image.heads.soft_height();
        let host = &mut self.hosts[n];
        if !host.up || host.life != life {
            return;
        }
        if let Answer::Publish(answer) = answer {
            match answer {
                PublishAnswer::Conflict(id) if Some(id.height) > stored => {
                    host.refused_since.get_or_insert(self.now);
                }
                PublishAnswer::Accepted(_) => host.refused_since = None,
                _ => {}
            }
        }
        match (waits, answer) {
            (Waits::Report { by }, Answer::Report(answer)) => {
                let reporters = [&mut host.reporter, &mut host.other_reporter];
                reporters.into_iter().filter(|reporter| reporter.number == by).for_each(|r| r.answered(answer));
            }
            (Waits::Publish, Answer::Publish(answer)) => {
                let position = host.pending.iter().position(|(pending, _)| *pending == ticket);
                let Some(position) = position else { return };
                let (_, height) = host.pending.remove(position).expect("it was found there");
                match answer {
                    PublishAnswer::Accepted(_) | PublishAnswer::Duplicate(_) => {}
                    // Another block is there, or was signed: what was made is given up. But what a host has signed by itself, it
                    // has signed: it makes no other one, and waits to be told which block is there.
                    PublishAnswer::Conflict(_) | PublishAnswer::Invalid(_) | PublishAnswer::TooLarge { .. } => {
                        if self.plan.signing != Signing::ByHost {
                            host.state.made.split_off(&height);
                        }
                        host.pending.truncate(position);
                    }
                    // What was to stand on it is made anew; what is below it has an answer of its own, which may be yet to come.
                    _ => host.pending.truncate(position),
                }
            }
            _ => {}
        }
    }

    /// Whether this host is the one that makes the blocks, or will be.
    pub fn may_publish(&self, n: usize) -> bool {
        n == 0 || n == self.publisher || (n == 1 && self.plan.failover_rate > 0.0)
    }

    /// A host says how far it has come; or names what is not on the chain.
    fn acknowledge(&mut self, n: usize) {
        let (Some(mut up_to), true) = (self.hosts[n].state.tip(), self.nodes[n].life().is_some()) else { return };
        if self.plan.ack_elsewhere > 0.0 {
            let rng = self.dice.of(Purpose::Elsewhere, n);
            if rng.f64() < self.plan.ack_elsewhere
                && let Some(elsewhere) = self.chain.any_public(rng)
            {
                up_to = elsewhere.id();
                self.tally.count(State::AckElsewhere);
            }
        }
        let host = &self.hosts[n];
        let life = host.life;
        let consumer = self.dice.of(Purpose::Host, n).u8(0..12);
        let ticket = self.nodes[n].wait(Waits::Ack { consumer }, n, life);
        self.handle(n, Input::Acked { ticket, consumer: consumer_name(consumer), up_to });
    }

    /// A host's execution refuses a block.
    pub fn veto(&mut self, n: usize) {
        let host = &self.hosts[n];
        let any = self.plan.vetoes_any;
        if (n == self.publisher && !any) || !host.up || self.nodes[n].life().is_none() {
            return;
        }
        let hard = host.state.hard.map(|hard| hard.height);
        let soft = &host.state.chain[hard.map_or(0, |hard| host.state.above(hard))..];
        let block = if any { self.dice.of(Purpose::Veto, n).choice(soft) } else { soft.last() };
        let Some(block) = block.copied() else { return };
        let life = host.life;
        if self.may_publish(n) {
            self.oracle.released(n, block.height);
        }
        let ticket = self.nodes[n].wait(Waits::Other, n, life);
        self.handle(n, Input::HostRejected { ticket, block });
    }

    pub fn operate(&mut self, n: usize, command: Command) {
        match command {
            Command::AbandonBranch(_) => self.tally.count(State::AbandonBranch),
            Command::AssertSigned(_) => self.tally.count(State::AssertSigned),
            Command::LiftVeto => self.tally.count(State::LiftVeto),
            Command::ForgetConsumer(_) => self.tally.count(State::ForgetConsumer),
            Command::RescanDa(_) => self.tally.count(State::RescanDa),
            Command::WithdrawSchedule(_) => self.tally.count(State::WithdrawSchedule),
            Command::Disown(_) => self.tally.count(State::Disown),
            Command::ExtendSchedule(_) => {}
        }
        if let Command::AssertSigned(_) = command {
            self.nodes[n].disk.guard_is_asserted();
        }
        let life = self.hosts[n].life;
        let waits = match command {
            Command::ExtendSchedule(entry) => Waits::Schedule(entry),
            _ => Waits::Other,
        };
        let ticket = self.nodes[n].wait(waits, n, life);
        self.handle(n, Input::Operator { ticket, command });
    }

    pub fn host_regular_turn(&mut self, n: usize) {
        self.host_turn(n);
        if self.hosts[n].up && self.nodes[n].life().is_some() {
            self.reporter_turn(n);
        }
    }
}
