//! Hosts that only watch: further streams of a node, of every kind that there is, beside its own host's.
//!
//! They are held to the same contract ([`super::host::HostState`]), read slowly or fast, lose their streams now and then, and resume
//! from everything that they have, from their newest block alone, from the tip, or from the beginning.

use std::convert::Infallible;
use std::time::Duration;

use blocksyncd::block::BlockId;
use blocksyncd::sync::cursor::{self, Cursor, EventFilter, LinkCheck, Resumed, Start, Step};
use blocksyncd::sync::{Epoch, Input};

use super::dice::Purpose;
use super::host::HostState;
use super::node::{Node, Waits};
use super::tally::State;
use super::telling::Told;
use super::world::World;

/// From where it goes on when it has lost its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// It keeps nothing, and begins anew.
    Genesis,
    Tip,
    /// It names one block.
    Newest,
    Everything,
    /// As the one before; and it looks again only when two rewinds have come, to be told of both.
    Missed,
}

#[derive(Debug)]
pub struct Watcher {
    node: usize,
    from: From,
    filter: EventFilter,
    /// Events in one turn, while things go wrong.
    pace: usize,
    state: HostState,
    /// What comes next may have any height.
    is_at_tip: bool,
    stream: Option<(u64, Cursor)>,
    /// What was said on it.
    told: Told,
    sleeps_until: Duration,
    /// Up to which rewind it has looked.
    epoch: Epoch,
}

/// Events in one turn, once everything has healed.
const PACE: usize = 480;

fn sure<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

impl World {
    pub fn add_watchers(&mut self) {
        let initial = self.chain.initial_height();
        for node in 0..self.nodes.len() {
            let lags = Watcher { node, from: From::Missed, pace: PACE, ..Watcher::nobody(initial) };
            self.laggards.push(lags);
            for _ in 0..self.plan.watchers {
                let rng = self.dice.of(Purpose::Watch, node);
                let from = [From::Genesis, From::Tip, From::Newest, From::Everything][rng.usize(0..4)];
                let filter = if rng.bool() { EventFilter::Soft } else { EventFilter::Hard };
                let pace = if rng.bool() { 1 } else { PACE };
                self.watchers.push(Watcher { node, from, filter, pace, ..Watcher::nobody(initial) });
            }
        }
    }

    pub fn watchers_turn(&mut self) {
        for index in 0..self.watchers.len() {
            let node = self.watchers[index].node;
            if self.sleeps(index, node) {
                continue;
            }
            if !self.healed && self.dice.of(Purpose::Watch, node).f64() < 0.02 {
                self.watchers[index].stream = None;
            }
            if let Err(why) = self.watch(index) {
                self.fail(format!("n{node}'s watcher {:?}: {why}", self.watchers[index]));
            }
        }
    }

    /// One beside each node, who looks only when nothing was taken back since, or twice. It draws nothing.
    pub fn laggards_turn(&mut self) {
        for index in 0..self.laggards.len() {
            let watcher = &self.laggards[index];
            let (node, reads) = (watcher.node, watcher.stream.map(|(life, _)| life));
            let Some(epoch) = self.nodes[node].announced.map(|heads| heads.epoch) else { continue };
            if reads.is_some() && reads == self.nodes[node].life() && epoch.0 == watcher.epoch.0 + 1 {
                continue;
            }
            let nobody = Watcher::nobody(self.chain.initial_height());
            let mut watcher = std::mem::replace(&mut self.laggards[index], nobody);
            watcher.epoch = epoch;
            let told = self.open(&mut watcher).and_then(|()| self.read(&mut watcher));
            self.laggards[index] = watcher;
            if let Err(why) = told {
                self.fail(format!("n{node}'s laggard {:?}: {why}", self.laggards[index]));
            }
        }
    }

    /// Whether it does not look for a while.
    fn sleeps(&mut self, index: usize, node: usize) -> bool {
        let watcher = &mut self.watchers[index];
        if self.healed || self.now < watcher.sleeps_until {
            return !self.healed;
        }
        let rng = self.dice.of(Purpose::Elsewhere, node);
        if self.plan.sleepy > 0.0 && rng.f64() < self.plan.sleepy {
            watcher.sleeps_until = self.now + Duration::from_millis(rng.u64(1_000..=20_000));
            self.tally.count(State::WatcherSleeps);
        }
        false
    }

    /// Those who watch this node begin anew.
    pub fn forget_watchers(&mut self, node: usize) {
        let initial = self.chain.initial_height();
        for watcher in self.watchers.iter_mut().chain(&mut self.laggards).filter(|watcher| watcher.node == node) {
            (watcher.state, watcher.is_at_tip, watcher.stream) = (HostState::new(initial), false, None);
        }
    }

    /// Another host of the same node refuses a block that this one calls hard, and that the node, whose store is an older one, does not.
    pub fn refuse_hard(&mut self, n: usize) {
        let (node, host) = (&self.nodes[n], &self.hosts[n]);
        let Some(syncer) = node.syncer.as_ref().filter(|_| host.up && host.stream.is_some()) else { return };
        let (theirs, ours) = (host.state.hard.map(|hard| hard.height), syncer.heads().hard_height());
        let is_hard_there = |id: &&BlockId| Some(id.height) > ours && Some(id.height) <= theirs;
        let stored = |id: &&BlockId| node.disk.image.id(id.height) == Some(**id);
        let known: Vec<BlockId> = host.state.chain.iter().filter(is_hard_there).filter(stored).copied().collect();
        let (life, Some(block)) = (host.life, self.dice.of(Purpose::Refuses, n).choice(known)) else { return };
        self.tally.count(State::HardRefused);
        if self.may_publish(n) {
            self.oracle.released(n, block.height);
        }
        let ticket = self.nodes[n].wait(Waits::Other, n, life);
        self.handle(n, Input::HostRejected { ticket, block });
    }

    /// What those who watch this node have.
    pub fn states_of_watchers(&self, node: usize) -> impl Iterator<Item = &HostState> {
        self.watchers
            .iter()
            .chain(&self.laggards)
            .filter(move |watcher| watcher.node == node)
            .map(|watcher| &watcher.state)
    }

    fn watch(&mut self, index: usize) -> Result<(), String> {
        let mut watcher = std::mem::replace(&mut self.watchers[index], Watcher::nobody(self.chain.initial_height()));
        let told = self.open(&mut watcher).and_then(|()| self.read(&mut watcher));
        self.watchers[index] = watcher;
        told
    }

    fn open(&mut self, watcher: &mut Watcher) -> Result<(), String> {
        let node = &self.nodes[watcher.node];
        let (Some(life), Some(announced)) = (node.life(), node.announced) else {
            watcher.stream = None;
            return Ok(());
        };
        let Some(heads) = cursor::visible(&announced, &node.disk.image.heads) else { return Ok(()) };
        if watcher.stream.is_some_and(|(opened, _)| opened == life) {
            return Ok(());
        }
        // It was of a process that is gone.
        watcher.stream = None;
        let start = watcher.start();
        let initial = self.chain.initial_height();
        match sure(cursor::resume(&start, watcher.filter, initial, &heads, &node.disk.image)) {
            Resumed::Started(cursor) => {
                if matches!(start, Start::Genesis | Start::Tip) {
                    watcher.state = HostState::new(initial);
                }
                watcher.is_at_tip = start == Start::Tip;
                watcher.state.resumed(initial);
                watcher.stream = Some((life, cursor));
                watcher.told = Told::on_a_new_stream(&heads);
                if start == Start::Tip {
                    watcher.told.knows_of_losses(&heads);
                }
                self.tally.count(match watcher.from {
                    From::Genesis => State::WatchedFromGenesis,
                    From::Tip => State::WatchedFromTip,
                    From::Newest => State::WatchedFromOne,
                    From::Everything => State::WatchedFromAll,
                    From::Missed => return Ok(()),
                });
                Ok(())
            }
            Resumed::Waiting(waits_for) => watcher.state.told_to_wait(waits_for),
            Resumed::ForkedBelowHard { .. } if self.has_old_da(watcher.node) || self.was_misled(watcher.node) => Ok(()),
            Resumed::ForkedBelowHard { theirs, ours } => Err(format!("its hard {theirs:?} is not ours, {ours:?}")),
        }
    }

    fn read(&mut self, watcher: &mut Watcher) -> Result<(), String> {
        let node = &self.nodes[watcher.node];
        let pace = if self.healed { PACE } else { watcher.pace };
        let Some(announced) = node.announced else { return Ok(()) };
        let image = &node.disk.image;
        let Some(heads) = cursor::visible(&announced, &image.heads) else { return Ok(()) };
        for _ in 0..pace {
            let Some((life, mut cursor)) = watcher.stream else { return Ok(()) };
            let step = sure(cursor.step(&heads, image));
            if step == Step::Idle {
                watcher.stream = Some((life, cursor));
                return Ok(());
            }
            let is_lost = watcher.from != From::Missed && matches!(step, Step::Lost(_));
            self.tally.add(State::StreamLost, u64::from(is_lost));
            watcher.told.check(step, &announced, image, &watcher.state)?;
            let goes_on = watcher.told(step, node, &mut cursor)?;
            if let Step::Hard(height) = step {
                let id = image.id(height).ok_or("hard, and not stored")?;
                self.check_hard(watcher.node, id)?;
            }
            watcher.stream = goes_on.then_some((life, cursor));
        }
        Ok(())
    }

    /// Whether all that watch this node have what it has.
    pub fn watchers_converged(&self, n: usize, soft: BlockId, hard: Option<BlockId>) -> Result<(), String> {
        for watcher in self.watchers.iter().filter(|watcher| watcher.node == n) {
            let expected = if watcher.filter == EventFilter::Hard { hard } else { Some(soft) };
            let tip = watcher.state.tip();
            let has_nothing_new = watcher.is_at_tip && tip.is_none() && watcher.stream.is_some();
            if !has_nothing_new && (tip != expected || watcher.state.hard != hard) {
                return Err(format!("'s watcher has {tip:?}, hard {:?}: {watcher:?}", watcher.state.hard));
            }
        }
        Ok(())
    }
}

impl Watcher {
    fn nobody(initial: blocksyncd::block::Height) -> Self {
        let (from, filter, state) = (From::Tip, EventFilter::Soft, HostState::new(initial));
        Self {
            node: 0,
            from,
            filter,
            pace: 0,
            state,
            is_at_tip: false,
            stream: None,
            told: Told::default(),
            sleeps_until: Duration::ZERO,
            epoch: Epoch(0),
        }
    }

    fn start(&self) -> Start {
        let state = &self.state;
        match (self.from, state.tip()) {
            (From::Genesis, _) => Start::Genesis,
            (From::Tip, _) => Start::Tip,
            (From::Newest, Some(tip)) => Start::Resume(state.locator_of(vec![tip])),
            (From::Newest | From::Everything | From::Missed, _) => Start::Resume(state.locator()),
        }
    }

    /// It began at the tip, and nothing that it was given is at or below this.
    fn knows_nothing_at(&self, to: Option<BlockId>) -> bool {
        let lowest = self.state.chain.first().map(|lowest| lowest.height);
        let to = to.map(|to| to.height);
        self.from == From::Tip
            && self.state.gap_to.is_none_or(|gap| Some(gap) != to)
            && lowest.is_none_or(|lowest| to < Some(lowest))
    }

    /// Takes one event; false: the stream has ended.
    fn told(&mut self, step: Step, node: &Node, cursor: &mut Cursor) -> Result<bool, String> {
        let image = &node.disk.image;
        match step {
            Step::Soft(height) => {
                let block = image.block(height).ok_or("soft, and not stored")?;
                let (id, parent) = (block.id(), block.block().header().parent_hash);
                if cursor.link(id, parent) == LinkCheck::Broken {
                    return Ok(false);
                }
                if std::mem::take(&mut self.is_at_tip) {
                    (self.state.gap_to, self.state.given_from) = (height.prev(), height);
                }
                self.state.soft(image.initial_height(), id, parent)?;
            }
            Step::Hard(height) => {
                let id = image.id(height).ok_or("hard, and not stored")?;
                self.state.hard(image.initial_height(), image.heads.tail, id)?;
            }
            Step::Retract { to, .. } if self.knows_nothing_at(to) => {
                if self.state.hard.is_some() {
                    return Err(format!("told to go back to {to:?}, below {:?}", self.state));
                }
                self.state.chain.clear();
                (self.state.gap_to, self.is_at_tip) = (None, true);
            }
            Step::Gap { to, .. } if self.is_at_tip => {
                (self.state.gap_to, self.state.given_from, self.is_at_tip) = (Some(to), to.next(), false);
            }
            Step::Retract { to, .. } => {
                self.state.retract(image.initial_height(), to)?;
                // A store that is gone does not know what was hard, and whether one of the two events was given is not known to it.
                if self.filter == EventFilter::Hard && !node.damaged {
                    return Err(format!("hard blocks are taken back to {to:?}"));
                }
            }
            Step::Gap { from, to } => self.state.gap(image.initial_height(), image.heads.tail, from, to)?,
            Step::DataLoss(lost) if !node.damaged => return Err(format!("{lost:?} without damage")),
            Step::DataLoss(_) | Step::Equivocation { .. } => {}
            Step::Lost(_) => return Ok(false),
            Step::Idle => unreachable!("the caller stops"),
        }
        Ok(true)
    }
}
