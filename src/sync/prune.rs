//! What is forgotten at the lower end of the chain.
//!
//! Blocks are kept up to the *floor*: the lower of hard and what every consumer has acknowledged. Of those at and below it,
//! `retain_blocks` are kept, and fewer when the store would pass `max_bytes`, but always one: what comes next links to it.
//! Without a hard block nothing is forgotten, unless the operator says that soft is enough.
//!
//! Invariants:
//! 1. `tail` never passes the floor.
//! 2. No decision forgets more than [`STEP`] blocks, and no more than [`IN_FLIGHT`] are forgotten that are still on disk: a
//!    publish never waits for the removal of a long history.

use super::{Change, CommitId, Ctx, Syncer};
use crate::block::{BlockId, Height};

/// The most blocks that one decision forgets: more than one range answer brings, so that pruning keeps pace with any catch-up.
const STEP: u64 = 256;
/// The most blocks that are forgotten by commits which are not durable yet.
const IN_FLIGHT: u64 = 4096;

/// What the store weighs, and what is about to leave it.
#[derive(Debug)]
pub(super) struct Pruning {
    /// Bytes of the stored blocks as of the last durable commit.
    pub stored_bytes: u64,
    /// Blocks, and about how many bytes, that each commit which is not durable yet forgets.
    in_flight: Vec<(CommitId, u64, u64)>,
}

impl Pruning {
    pub fn new(stored_bytes: u64) -> Self {
        Self { stored_bytes, in_flight: Vec::new() }
    }

    pub fn durable(&mut self, commit: CommitId, stored_bytes: u64) {
        self.stored_bytes = stored_bytes;
        self.in_flight.retain(|(pruned_by, _, _)| *pruned_by > commit);
    }

    fn blocks_in_flight(&self) -> u64 {
        self.in_flight.iter().map(|(_, blocks, _)| blocks).sum()
    }

    fn bytes_in_flight(&self) -> u64 {
        self.in_flight.iter().map(|(_, _, bytes)| bytes).sum()
    }
}

impl Syncer {
    /// Forgets what need not be kept any more, or may not be.
    pub(super) fn prune(&mut self, ctx: Ctx<'_>) {
        let tail = self.chain.heads.tail;
        let Some(goal) = self.prune_goal().filter(|_| !self.draining && self.halted.is_none()) else { return };
        let room = IN_FLIGHT.saturating_sub(self.pruning.blocks_in_flight()).min(STEP);
        let below = goal.min(tail.plus(room));
        if below <= tail {
            return;
        }
        let Ok(Some(base)) = self.parent_tip(ctx, below) else { return };
        let blocks = below.above(tail);
        let bytes = blocks.saturating_mul(self.mean_block_bytes());
        self.chain.prune(below, base);
        self.forget_sightings(base.id.height);
        self.pruning.in_flight.push((self.chain.next_commit(), blocks, bytes));
    }

    /// Where the tail is to be, when that is above where it is.
    fn prune_goal(&self) -> Option<Height> {
        let retain_blocks = self.config.history.retain_blocks;
        let tail = self.chain.heads.tail;
        let floor = self.prune_floor()?;
        let by_count = retain_blocks.and_then(|retain| Height::new((floor.get() + 1).saturating_sub(retain.get())));
        Some(by_count.max(self.goal_by_bytes())?.min(floor)).filter(|goal| *goal > tail)
    }

    /// Where the tail would have to be for the store to weigh what it may, when it weighs more.
    fn goal_by_bytes(&self) -> Option<Height> {
        let excess = self.stored_bytes().saturating_sub(self.config.history.max_bytes?.get());
        let blocks = excess.div_ceil(self.mean_block_bytes());
        (blocks > 0).then(|| self.chain.heads.tail.plus(blocks))
    }

    /// The highest block that must stay whatever else is forgotten.
    fn prune_floor(&self) -> Option<Height> {
        let decided = self.decided_height()?;
        Some(self.slowest_consumer().map_or(decided, |(_, acked)| acked.min(decided)))
    }

    /// Up to where nothing will be taken back.
    fn decided_height(&self) -> Option<Height> {
        let heads = self.chain.heads;
        heads.hard_height().or_else(|| heads.soft_height().filter(|_| self.config.history.prune_unconfirmed))
    }

    /// The consumer that is farthest behind, and what it has acknowledged.
    fn slowest_consumer(&self) -> Option<(&str, Height)> {
        let slowest = self.consumers.iter().min_by_key(|(_, acked)| **acked)?;
        Some((slowest.0, *slowest.1))
    }

    /// Who is waited for, when more would be forgotten without it.
    pub(super) fn pruning_waits_for(&self) -> Option<String> {
        let (name, acked) = self.slowest_consumer()?;
        let decided = self.decided_height().filter(|decided| acked < *decided)?;
        let retain_blocks = self.config.history.retain_blocks;
        let by_count = retain_blocks.is_some_and(|retain| decided.above(self.chain.heads.tail) >= retain.get());
        let wanted = by_count || self.goal_by_bytes().is_some();
        (wanted && self.prune_goal().is_none()).then(|| name.to_owned())
    }

    /// Nothing more can be taken in: the disk is full, or more is stored than may be and too little of it may go.
    pub(super) fn is_full(&self) -> bool {
        let too_little = |goal: Height| self.prune_floor().is_none_or(|floor| goal > floor);
        self.storage_full || self.goal_by_bytes().is_some_and(too_little)
    }

    /// Bytes of the stored blocks, with what is decided and not durable yet.
    fn stored_bytes(&self) -> u64 {
        let fresh = u64::try_from(self.chain.fresh_bytes()).unwrap_or(u64::MAX);
        self.pruning.stored_bytes.saturating_add(fresh).saturating_sub(self.pruning.bytes_in_flight())
    }

    /// At least 1.
    fn mean_block_bytes(&self) -> u64 {
        let heads = self.chain.heads;
        let blocks = heads.soft_height().map_or(0, |soft| soft.above(heads.tail) + 1);
        (self.stored_bytes() / blocks.max(1)).max(1)
    }

    /// `first` and what was above it were taken back: nobody has processed them in any sense that counts. Where nothing is
    /// below it, it is the lowest block that anybody can have processed, and still holds pruning back.
    pub(super) fn consumers_taken_back(&mut self, first: BlockId) {
        let up_to = self.chain.heads.top().map_or(first, |top| top.id);
        let behind: Vec<_> =
            self.consumers.iter().filter(|(_, acked)| **acked >= first.height).map(|(name, _)| name.clone()).collect();
        for consumer in behind {
            self.consumers.insert(consumer.clone(), up_to.height);
            self.chain.change(Change::Ack { consumer, up_to });
        }
    }

    pub(super) fn forget_consumer(&mut self, name: &str) -> Result<(), String> {
        if self.consumers.remove(name).is_none() {
            let known: Vec<_> = self.consumers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!("no consumer of this name has acknowledged anything; those that have: {known}"));
        }
        self.chain.change(Change::ForgetConsumer(name.to_owned()));
        Ok(())
    }
}

/// By name, what each consumer has acknowledged.
pub(super) fn consumers(recovered: Vec<(String, BlockId)>) -> std::collections::BTreeMap<String, Height> {
    recovered.into_iter().map(|(name, acked)| (name, acked.height)).collect()
}
