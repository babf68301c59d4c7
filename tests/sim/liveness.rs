//! What must happen, and by when: silence is a fault, too.
//!
//! 1. [`HEAL_BOUND`] after everything has healed, or as soon as nobody has anything new after that, all agree, and go on to agree as long
//!    as the plan says.
//! 2. While everything goes wrong: who may publish, is not answered for [`ACCEPT_BOUND`] with anything but an accepted block.
//! 3. While everything goes wrong: a node that is connected to an honest one which is ahead of it on its own branch, and which has
//!    what comes next, has something new within [`PROGRESS_BOUND`].
//!
//! What excuses a node is what it says of itself (it is halted, a block is refused, the disk is full, it is to end), and what the
//! world does to it: a clock begins anew with each process, and whenever a link is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blocksyncd::block::{BlockId, Height};
use blocksyncd::sync::{DaEvidence, Heads, Status};
use blocksyncd::verify::VerifiedBlock;

use super::faults::Signing;
use super::node::Node;
use super::world::World;

/// How long after healing everybody has to agree. Publishing ends 15 s after healing; who is last to know of the end has asked its
/// peers for their heads within 5 s; a request that is given up costs 4 s, a peer that failed rests for at most 5 s, and what only DA
/// has comes at the pace of the reporter, 8 heights in 0.4 s. The rest is for three rounds of bad luck of these.
pub const HEAL_BOUND: Duration = Duration::from_secs(75);

/// Who has much to fetch, a few blocks with each answer, is given more, while anybody has something new within this: a request that is
/// given up, six times, and rests. Where a third of all answers is lost, four in a row are 1 of 81, and there are many in such a world.
const STILL: Duration = Duration::from_secs(30);
/// And this at most.
const LONGEST: Duration = Duration::from_mins(10);

/// How long a block whose author may publish can be without an answer that it was accepted: the publisher gives up an answer that was
/// lost after 6 s.
const ACCEPT_BOUND: Duration = Duration::from_secs(10);

/// How long a node goes without anything new while an honest neighbour has it: a request is given up after 4 s, a peer that failed
/// rests for at most 5 s, and a third of all answers may be lost.
const PROGRESS_BOUND: Duration = Duration::from_secs(40);

/// How often is looked.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A clock that is off by more may refuse what is sound.
const BELIEVED_NANOS: i128 = 5_000_000_000;

/// The lowest tail, and the highest hard and soft that each node has had.
pub type Heights = BTreeMap<usize, (Height, Option<Height>, Option<Height>)>;

/// Since when something is owed, by node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owed {
    accept_since: Option<(u64, Duration)>,
    progress_since: Option<(u64, Height, Duration)>,
}

/// Whether a node may neither publish nor follow, and says so.
fn is_excused(node: &Node, status: &Status) -> bool {
    let has_no_room = status.storage_full || status.pruning_waits_for.is_some() || status.history.max_bytes.is_some();
    let is_stopped = status.halted.is_some() || status.vetoed.is_some() || node.draining;
    is_stopped || node.storage_full || has_no_room || node.wall_offset.abs() > BELIEVED_NANOS
}

impl World {
    pub fn look_for_progress(&mut self) {
        self.look_at_publisher();
        self.count_unavailable();
        for n in 0..self.nodes.len() {
            self.look_at_follower(n);
        }
    }

    /// A block was accepted, or the signer was away: the wait begins anew.
    pub fn publishing_goes_on(&mut self) {
        self.owed[self.publisher].accept_since = None;
    }

    fn look_at_publisher(&mut self) {
        let (node, host) = (&self.nodes[self.publisher], &self.hosts[self.publisher]);
        let may_publish = node.syncer.as_ref().is_some_and(|syncer| {
            let status = syncer.status();
            let follows = host.state.tip() == status.heads.soft_id() && host.stream.is_some();
            let has_signer = node.signs.is_some() || self.plan.signing == Signing::ByHost;
            status.not_ready.is_none() && has_signer && !is_excused(node, &status) && follows && host.up
        });
        let (Some(life), true, None) = (node.life(), may_publish, self.last_to_publish) else {
            self.owed[self.publisher].accept_since = None;
            return;
        };
        let (of, since) = *self.owed[self.publisher].accept_since.get_or_insert((life, self.now));
        if of != life {
            self.owed[self.publisher].accept_since = None;
        } else if self.now > since + ACCEPT_BOUND {
            self.fail(format!("n{} may publish since {since:?}, and nothing was accepted", self.publisher));
        }
    }

    fn look_at_follower(&mut self, n: usize) {
        let owes = self.could_go_on(n).and_then(|next| Some((self.nodes[n].life()?, next)));
        let Some((life, next)) = owes else {
            self.owed[n].progress_since = None;
            return;
        };
        match self.owed[n].progress_since {
            Some((of, stood, since)) if (of, stood) == (life, next) => {
                if self.now > since + PROGRESS_BOUND {
                    let status = self.nodes[n].syncer.as_ref().map(blocksyncd::sync::Syncer::status);
                    self.fail(format!("n{n} needs {next}, a neighbour has it since {since:?}: {status:?}"));
                }
            }
            _ => self.owed[n].progress_since = Some((life, next, self.now)),
        }
    }

    /// The height that an honest neighbour would give to this node, if nothing keeps it from taking it.
    fn could_go_on(&self, n: usize) -> Option<Height> {
        let node = &self.nodes[n];
        let status = node.syncer.as_ref()?.status();
        if is_excused(node, &status) {
            return None;
        }
        let (top, next) = (status.heads.top().map(|top| top.id), status.heads.next_height());
        let is_given_up = |id: &&BlockId| id.height == next && node.disk.image.disowned.contains_key(id);
        if node.disk.image.disowned.keys().any(|id| is_given_up(&id)) {
            return None;
        }
        if node.syncer.as_ref()?.rules().schedule.proposer_at(next) != self.chain.proposer_at(next) {
            return None;
        }
        let has_it = |peer: usize| {
            let Some(other) = self.nodes.get(peer).filter(|other| other.life().is_some()) else { return false };
            let image = &other.disk.image;
            let below = next.prev().filter(|below| *below >= image.heads.tail).and_then(|below| image.id(below));
            let fits = below.or(image.heads.base.map(|base| base.id)) == top;
            let is_taken = |block: &VerifiedBlock| block.block().bytes().len() <= node.limits.max_block_bytes;
            image.block(next).is_some_and(is_taken) && fits && self.net.is_open(n, peer)
        };
        self.net.neighbours(n).into_iter().any(has_it).then_some(next)
    }

    /// Whether nobody brings what this node needs next, and DA has only a name of it: what its author lost with its disk, and everybody
    /// else had pruned. Its author has time to bring it again first.
    pub fn is_lost(&self, n: usize) -> bool {
        let next = self.nodes[n].disk.image.heads.next_height();
        self.is_late_and_named() && self.da.winner(next).is_some() && self.stuck().contains(&n)
    }

    /// Whether what the publisher needs to go on is gone, in either way.
    pub fn is_publishers_chain_gone(&self) -> bool {
        self.is_lost(self.publisher) || self.is_named_and_gone()
    }

    /// Everybody has had the time to bring a block, and a name on DA does not bring it.
    fn is_late_and_named(&self) -> bool {
        self.is_late() && self.plan.report_by.evidence() == DaEvidence::Named
    }

    /// Whether DA names, above what is hard for the publisher, a block that nobody has any more: what is published there in its place is
    /// another one, and taken back.
    pub fn is_named_and_gone(&self) -> bool {
        let heads = self.nodes[self.publisher].disk.image.heads;
        let named = self.da.winner(heads.hard_height().map_or(heads.tail, Height::next)).map(|(tip, _)| tip.id);
        let is_here = |id: BlockId| self.nodes.iter().any(|node| node.disk.image.id(id.height) == Some(id));
        self.is_late_and_named() && named.is_some_and(|id| !is_here(id))
    }

    /// Whether whoever could bring something has had the time for it.
    pub fn is_late(&self) -> bool {
        self.now + Duration::from_secs(5) > self.plan.faults_last + HEAL_BOUND
    }

    /// The nodes that lack something, and whose neighbours neither have what comes next nor will come by it.
    fn stuck(&self) -> BTreeSet<usize> {
        let image = |n: usize| &self.nodes[n].disk.image;
        let next = |n: usize| image(n).heads.next_height();
        let mut stuck: BTreeSet<_> = (0..self.nodes.len()).filter(|n| self.da.winner(next(*n)).is_some()).collect();
        loop {
            let leads = |n: usize, other: usize| {
                image(other).id(next(n)).is_some() || (!stuck.contains(&other) && next(other) <= next(n))
            };
            let honest = |n: usize| self.net.acquainted(n).into_iter().filter(|other| *other < self.nodes.len());
            let Some(led) = stuck.iter().copied().find(|n| honest(*n).any(|other| leads(*n, other))) else {
                return stuck;
            };
            stuck.remove(&led);
        }
    }

    /// Everybody agreed, and since then somebody looks for what is no part of the chain: a liar has it, others relay it, or DA, which is
    /// read again, shows what lost.
    pub fn note_who_is_astray(&mut self, expected: Option<BlockId>) {
        for (n, node) in self.nodes.iter().enumerate() {
            let target = node.syncer.as_ref().and_then(|syncer| syncer.heads().target);
            // Where liars persist, each block of theirs is one more reason, for a while.
            let may_be = self.agreed.is_some() || self.plan.adversaries_persist;
            if may_be && target > expected {
                let since = self.astray.entry(n).or_insert((target, self.now));
                if since.0 != target {
                    *since = (target, self.now);
                }
            } else {
                self.astray.remove(&n);
            }
        }
    }

    /// Whoever is new to a node has to be asked before it knows that nothing leads there.
    pub fn is_led_astray(&self, n: usize, node: &Node) -> bool {
        self.astray.get(&n).is_some_and(|(_, since)| self.now <= *since + node.timing.target_patience + LOOK_EVERY)
    }

    /// Whether too much time has passed since everything healed.
    pub fn is_out_of_time(&mut self) -> bool {
        if !self.healed {
            return false;
        }
        for (n, node) in self.nodes.iter().enumerate() {
            let Heads { tail, ref hard, ref soft, .. } = node.disk.image.heads;
            let [hard, soft] = [hard.map(|hard| hard.height), soft.map(|soft| soft.id.height)];
            let best = self.moved.0.entry(n).or_insert((tail, None, None));
            // What falls and rises again is not new.
            let better = (best.0.min(tail), best.1.max(hard), best.2.max(soft));
            if std::mem::replace(best, better) != better {
                self.moved.1 = self.now;
            }
        }
        let since = self.now.saturating_sub(self.plan.faults_last);
        since > LONGEST || (since > HEAL_BOUND && self.now > self.moved.1 + STILL)
    }
}
