//! How much is kept: what is forgotten at the lower end of the chain, and when there is no room for more.
//!
//! Blocks are kept up to the *floor*: the lower of hard and what every consumer has acknowledged. Of those at and below it,
//! `retain_blocks` are kept, and fewer when the store would pass `max_bytes`, but always one: what comes next links to it.
//! Without a hard block nothing is forgotten, unless the operator says that soft is enough.
//!
//! Invariants:
//! 1. `tail` never passes the floor.
//! 2. No decision forgets more than [`STEP`] blocks, and no more than [`IN_FLIGHT`] are forgotten that are still on disk: a
//!    publish never waits for the removal of a long history.
//! 3. At most `limits.consumers` consumers are known.

use std::collections::BTreeMap;

use super::chain::{Chain, FreshGone};
use super::decision::Decision;
use super::{Change, CommitId, History, Stored};
use crate::block::{BlockId, Height};
use crate::util::saturate;

/// The most blocks that one decision forgets: more than one range answer brings, so that pruning keeps pace with any catch-up.
const STEP: u64 = 256;
/// The most blocks that are forgotten by commits which are not durable yet.
const IN_FLIGHT: u64 = 4096;

#[derive(Debug)]
pub(super) struct Retention {
    history: History,
    /// What hosts have acknowledged, by the names under which they do.
    consumers: BTreeMap<String, Height>,
    max_consumers: usize,
    /// The last durable commit, and the bytes of the blocks that are stored with it.
    durable: CommitId,
    durable_bytes: u64,
    /// What commits that are not durable yet forget.
    in_flight: Vec<Leaving>,
    disk: DiskSpace,
}

/// What a commit that is not durable yet forgets.
#[derive(Debug)]
struct Leaving {
    /// It is on disk once this is.
    came: CommitId,
    commit: CommitId,
    /// Of those that are pruned.
    blocks: u64,
    /// About so many.
    bytes: u64,
}

/// The free space of the disk, as the node reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskSpace {
    Enough,
    /// Nothing more is taken in.
    BelowReserve,
}

impl Retention {
    /// Goes on from what was on disk.
    pub fn new(history: History, consumers: Vec<(String, BlockId)>, max_consumers: usize, stored_bytes: u64) -> Self {
        Self {
            history,
            consumers: consumers.into_iter().map(|(name, acked)| (name, acked.height)).collect(),
            max_consumers,
            durable: CommitId::default(),
            durable_bytes: stored_bytes,
            in_flight: Vec::new(),
            disk: DiskSpace::Enough,
        }
    }

    /// Everything up to this commit is on disk, and the blocks that are stored then have so many bytes.
    pub fn durable(&mut self, commit: CommitId, stored_bytes: u64) {
        (self.durable, self.durable_bytes) = (commit, stored_bytes);
        self.in_flight.retain(|leaving| leaving.commit > commit);
    }

    /// Bytes of the stored blocks as of the last durable commit.
    pub fn durable_bytes(&self) -> u64 {
        self.durable_bytes
    }

    pub fn disk_is_full(&self) -> bool {
        self.disk == DiskSpace::BelowReserve
    }

    pub fn set_disk_space(&mut self, disk: DiskSpace) {
        self.disk = disk;
    }

    /// Nothing more can be taken in: the disk is full, or more is stored than may be and too little of it may go.
    pub fn is_full(&self, chain: &Chain) -> bool {
        let too_little = |goal: Height| self.floor(chain).is_none_or(|floor| goal > floor);
        self.disk_is_full() || self.goal_by_bytes(chain).is_some_and(too_little)
    }

    /// Forgets what need not be kept any more, or may not be. Gives the height of the highest block that is gone now.
    pub fn prune(&mut self, chain: &mut Chain, stored: &dyn Stored, decision: &mut Decision) -> Option<Height> {
        let tail = chain.heads().tail;
        let goal = self.goal(chain)?;
        let room = IN_FLIGHT.saturating_sub(self.blocks_in_flight()).min(STEP);
        let below = goal.min(tail.plus(room));
        if below <= tail {
            return None;
        }
        let base = chain.parent_tip(below, stored).ok()??;
        let blocks = below.above(tail);
        let left = self.bytes_without(blocks, chain);
        let gone = chain.prune(below, base, decision);
        self.goes(left, blocks, &gone, chain, decision);
        Some(base.id.height)
    }

    /// The present decision, which prunes so many blocks, leaves about so many bytes. What is on disk goes with it; and what was not
    /// yet, `gone`, once that is there.
    fn goes(&mut self, left: u64, blocks: u64, gone: &FreshGone, chain: &Chain, decision: &Decision) {
        let commit = decision.next_commit();
        let bytes = self.stored_bytes(chain).saturating_sub(left);
        self.in_flight.push(Leaving { came: self.durable, commit, blocks, bytes });
        for (came, bytes) in gone.iter().filter(|(came, _)| *came < commit) {
            self.in_flight.push(Leaving { came: *came, commit, blocks: 0, bytes: saturate::to_u64(*bytes) });
        }
    }

    /// Whether what this consumer acknowledges can be kept.
    pub fn has_room_for(&self, consumer: &str) -> bool {
        self.consumers.contains_key(consumer) || self.consumers.len() < self.max_consumers
    }

    /// A consumer, for which there is room, has processed everything up to this block, which is on our chain.
    pub fn acked(&mut self, consumer: String, up_to: BlockId, decision: &mut Decision) {
        self.consumers.insert(consumer.clone(), up_to.height);
        decision.change(Change::Ack { consumer, up_to });
    }

    /// About how many bytes are stored below this height.
    pub fn bytes_below(&self, height: Height, chain: &Chain) -> u64 {
        let above = chain.heads().soft_height().map_or(0, |soft| soft.next().above(height));
        self.bytes_without(above, chain)
    }

    /// About how many bytes are stored but for so many blocks.
    fn bytes_without(&self, blocks: u64, chain: &Chain) -> u64 {
        self.stored_bytes(chain).saturating_sub(blocks.saturating_mul(self.mean_block_bytes(chain)))
    }

    /// `first` and what was above it were retracted, and about so many bytes are left: nobody has processed them in any sense that
    /// counts. Where nothing is below it, it is the lowest block that anybody can have processed, and still holds pruning back.
    pub fn retracted(&mut self, first: BlockId, left: u64, gone: &FreshGone, chain: &Chain, decision: &mut Decision) {
        self.goes(left, 0, gone, chain, decision);
        let up_to = chain.heads().top().map_or(first, |top| top.id);
        for (consumer, acked) in &mut self.consumers {
            if *acked >= first.height {
                *acked = up_to.height;
                decision.change(Change::Ack { consumer: consumer.clone(), up_to });
            }
        }
    }

    /// # Errors
    /// For the operator to read: there is no consumer of this name.
    pub fn forget_consumer(&mut self, name: &str, decision: &mut Decision) -> Result<(), String> {
        if self.consumers.remove(name).is_none() {
            let known: Vec<_> = self.consumers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!("no consumer of this name has acknowledged anything; those that have: {known}"));
        }
        decision.change(Change::ForgetConsumer(name.to_owned()));
        Ok(())
    }

    /// The consumer that is waited for, when more would be forgotten without it.
    pub fn waits_for(&self, chain: &Chain) -> Option<String> {
        let (name, acked) = self.slowest_consumer()?;
        let decided = self.decided_height(chain).filter(|decided| acked < *decided)?;
        let retain_blocks = self.history.retain_blocks;
        let by_count = retain_blocks.is_some_and(|retain| decided.above(chain.heads().tail) >= retain.get());
        let wanted = by_count || self.goal_by_bytes(chain).is_some();
        (wanted && self.goal(chain).is_none()).then(|| name.to_owned())
    }

    /// Where the tail is to be, when that is above where it is.
    fn goal(&self, chain: &Chain) -> Option<Height> {
        let retain_blocks = self.history.retain_blocks;
        let tail = chain.heads().tail;
        let floor = self.floor(chain)?;
        let by_count = retain_blocks.and_then(|retain| Height::new((floor.get() + 1).saturating_sub(retain.get())));
        Some(by_count.max(self.goal_by_bytes(chain))?.min(floor)).filter(|goal| *goal > tail)
    }

    /// Where the tail would have to be for the store to weigh what it may, when it weighs more.
    fn goal_by_bytes(&self, chain: &Chain) -> Option<Height> {
        let excess = self.stored_bytes(chain).saturating_sub(self.history.max_bytes?.get());
        let blocks = excess.div_ceil(self.mean_block_bytes(chain));
        (blocks > 0).then(|| chain.heads().tail.plus(blocks))
    }

    /// The highest block that must stay whatever else is forgotten.
    fn floor(&self, chain: &Chain) -> Option<Height> {
        let decided = self.decided_height(chain)?;
        Some(self.slowest_consumer().map_or(decided, |(_, acked)| acked.min(decided)))
    }

    /// Up to where nothing will be retracted.
    fn decided_height(&self, chain: &Chain) -> Option<Height> {
        let heads = chain.heads();
        heads.hard_height().or_else(|| heads.soft_height().filter(|_| self.history.prune_unconfirmed))
    }

    /// The consumer that is farthest behind, and what it has acknowledged.
    fn slowest_consumer(&self) -> Option<(&str, Height)> {
        let slowest = self.consumers.iter().min_by_key(|(_, acked)| **acked)?;
        Some((slowest.0, *slowest.1))
    }

    /// Bytes of the stored blocks, with what is decided and not durable yet.
    fn stored_bytes(&self, chain: &Chain) -> u64 {
        let fresh = saturate::to_u64(chain.fresh_bytes());
        let goes = self.in_flight.iter().filter(|goes| goes.came <= self.durable);
        let pruned = goes.map(|goes| goes.bytes).sum();
        self.durable_bytes.saturating_add(fresh).saturating_sub(pruned)
    }

    fn blocks_in_flight(&self) -> u64 {
        self.in_flight.iter().map(|prune| prune.blocks).sum()
    }

    /// At least 1.
    fn mean_block_bytes(&self, chain: &Chain) -> u64 {
        let heads = chain.heads();
        let blocks = heads.soft_height().map_or(0, |soft| soft.above(heads.tail) + 1);
        (self.stored_bytes(chain) / blocks.max(1)).max(1)
    }
}
