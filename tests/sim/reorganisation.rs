//! A DA layer that reorganises: from some height on it has other content than was reported.
//!
//! What is held against the core, and no more: what was hard stays hard, whatever DA says now. Once its operator has had DA read again
//! from there (`rescan-da`), a node decides by what DA has now, as all others do. Where that is another block than the node calls
//! hard, or one below stands before it, no order helps: it halts or stands still, and its home is made anew.

use std::time::Duration;

use blocksyncd::block::BlockId;
use blocksyncd::sync::{Command, Input, Syncer};
use blocksyncd::verify::AuthenticBlock;

use super::dice::Purpose;
use super::node::Waits;
use super::tally::State;
use super::world::{Event, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    For,
    Against,
}

/// So many heights at most.
const DEEPEST: u64 = 6;
/// A fork that is within so many of them may be decided otherwise.
const NEW: u64 = 12;

impl World {
    /// The newest heights have the same blobs in another order, but for some that come later.
    pub fn da_reorganises(&mut self) {
        let height = self.da.height();
        let depth = self.dice.common(Purpose::Reorganises).u64(1..=DEEPEST).min(height);
        if depth > 0 {
            self.da_is_replaced(height - depth + 1);
        }
    }

    /// A fork that DA has decided just now: from where on DA would be replaced so that it may decide otherwise.
    pub fn da_may_be_reversed(&self) -> Option<u64> {
        let (lowest, highest) = self.da.decided_between(self.fork_height()?)?;
        let is_new = highest + NEW > self.da.height() && lowest + NEW > highest;
        (is_new && self.tally.of(State::DaReversed) == 0).then_some(lowest)
    }

    pub fn da_is_replaced(&mut self, from: u64) {
        let depth = (self.da.height() + 1).saturating_sub(from);
        self.what_died_is_released();
        let fork = self.fork_height();
        let at_fork = |world: &Self| fork.and_then(|fork| world.da.winner(fork)).map(|(tip, _)| tip.id);
        let before = at_fork(self);
        let mut blobs = self.da.take_from(from, &mut self.chain);
        let rng = self.dice.common(Purpose::Reorganises);
        rng.shuffle(&mut blobs);
        let mut heights = vec![Vec::new(); usize::try_from(depth).unwrap_or(0)];
        for blob in blobs {
            if rng.f64() < 0.2 {
                self.da.post(self.now + Duration::from_millis(rng.u64(0..=3_000)), blob);
            } else {
                let at = rng.usize(0..heights.len());
                heights[at].push(blob);
            }
        }
        for blobs in heights {
            self.da.include(blobs, &mut self.chain);
        }
        self.trace.note(self.now, format_args!("DA is another one from {from} on"));
        self.tally.count(State::DaReorganised);
        let is_reversed = before.is_some() && at_fork(self).is_some_and(|now| Some(now) != before);
        self.tally.add(State::DaReversed, u64::from(is_reversed));
        self.replaced_from = self.replaced_from.into_iter().chain([from]).min();
        for n in 0..self.nodes.len() {
            let lowest = self.old_da.entry(n).or_insert(from);
            *lowest = from.min(*lowest);
            let hears_after = Duration::from_millis(self.dice.common(Purpose::Reorganises).u64(0..=20_000));
            self.later(hears_after, Event::HearsOfReorganisation { node: n });
        }
    }

    /// What it was told of DA may not be so any more, and its operator has not acted.
    pub fn has_old_da(&self, n: usize) -> bool {
        self.old_da.contains_key(&n)
    }

    /// An older store may have been put back, which knows of DA what was so once.
    pub fn old_store_is_back(&mut self, n: usize) {
        if let Some(from) = self.replaced_from {
            self.old_da.insert(n, from);
            self.later(Duration::from_secs(6), Event::HearsOfReorganisation { node: n });
        }
    }

    /// The operator does what the documentation says. What DA decides now may be on its way there still: then he looks again later.
    pub fn read_replaced_da(&mut self, n: usize) {
        let Some(from) = self.old_da.get(&n).copied() else { return };
        let Some(heads) = self.nodes[n].syncer.as_ref().map(Syncer::heads) else { return };
        let called_hard = self.called_hard(n);
        if called_hard.iter().any(|id| self.decided(*id) == Some(Decided::Against)) {
            self.old_da.remove(&n);
            self.make_anew(n);
            // What was in flight when it died was of its former settings.
            self.nodes[n].disk.history.trusted = None;
            return;
        }
        if called_hard.iter().any(|id| self.decided(*id).is_none()) || !self.nodes[n].disk.is_idle() {
            return self.later(Duration::from_secs(2), Event::HearsOfReorganisation { node: n });
        }
        // Hosts may have said something of what is above the cursor.
        let from = from.max(heads.da_floor() + 1).min(heads.scanned_through + 1);
        self.tally.add(State::ReadReorganised, u64::from(from <= heads.scanned_through));
        let (life, of) = (self.hosts[n].life, self.tally.of(State::DaReorganised));
        let ticket = self.nodes[n].wait(Waits::ReadsReplaced { of }, n, life);
        self.handle(n, Input::Operator { ticket, command: Command::RescanDa(from) });
    }

    /// It is on disk that DA is to be read again, as it was replaced so many times.
    pub fn reads_replaced_da(&mut self, n: usize, of: u64) {
        if self.tally.of(State::DaReorganised) == of {
            self.old_da.remove(&n);
            // Where DA had it when it became hard, it has it no more.
            self.oracle.is_hard(n, self.nodes[n].disk.image.heads.hard);
        }
    }

    /// What DA says now of a block, or of what that stands on.
    fn decided(&self, id: BlockId) -> Option<Decided> {
        let down = |block: &&AuthenticBlock| self.chain.signed(block.parent_hash()?);
        let mut branch = std::iter::successors(self.chain.signed(id.hash), down).map(AuthenticBlock::id);
        let (ours, winner) = branch.find_map(|ours| Some((ours, self.da.winner(ours.height)?.0.id)))?;
        if winner != ours {
            return Some(Decided::Against);
        }
        (ours == id).then_some(Decided::For)
    }

    /// What the node, its operator, its host and those who watch it take to be decided.
    fn called_hard(&self, n: usize) -> Vec<BlockId> {
        let node = &self.nodes[n];
        let hosts = self.states_of_watchers(n).chain([&self.hosts[n].state]);
        let trusted = node.disk.history.trusted.map(|trusted| trusted.id);
        let hard = node.syncer.as_ref().and_then(|syncer| syncer.heads().hard);
        hosts.filter_map(|host| host.hard).chain(hard).chain(trusted).collect()
    }
}
